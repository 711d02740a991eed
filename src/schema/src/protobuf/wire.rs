//! Tags, varints and lengths (<https://protobuf.dev/programming-guides/encoding>).

use std::str;

use super::ProtobufError;

/// How a field's value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Delimited,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// Reads what isn't trusted: every length is checked against what is there, nothing is allocated.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: ProtobufError = ProtobufError::Malformed("unexpected end");
/// Groups within groups of unknown fields.
const MAX_GROUPS: usize = 32;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next field's number and layout; `None` at the end.
    pub(super) fn tag(&mut self) -> Result<Option<(u32, Wire)>, ProtobufError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Delimited,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return Err(ProtobufError::Malformed("illegal wire type")),
        };
        match u32::try_from(tag >> 3) {
            Ok(number @ 1..) => Ok(Some((number, wire))),
            _ => Err(ProtobufError::Malformed("illegal tag")),
        }
    }

    pub(super) fn varint(&mut self) -> Result<u64, ProtobufError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Malformed("integer overflow"))
    }

    pub(super) fn fixed64(&mut self) -> Result<u64, ProtobufError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub(super) fn delimited(&mut self) -> Result<&'a [u8], ProtobufError> {
        let length = usize::try_from(self.varint()?).map_err(|_| SHORT)?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(SHORT)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, ProtobufError> {
        str::from_utf8(self.delimited()?).map_err(|_| ProtobufError::Malformed("text is not UTF-8"))
    }

    /// Passes over a field that isn't known, groups included.
    pub(super) fn skip(&mut self, wire: Wire) -> Result<(), ProtobufError> {
        let mut groups = 0;
        let mut wire = wire;
        loop {
            match wire {
                Wire::Varint => drop(self.varint()?),
                Wire::Fixed64 => drop(self.fixed64()?),
                Wire::Delimited => drop(self.delimited()?),
                Wire::Fixed32 => self.rest = self.rest.get(4..).ok_or(SHORT)?,
                Wire::GroupStart if groups < MAX_GROUPS => groups += 1,
                Wire::GroupEnd if groups > 0 => groups -= 1,
                Wire::GroupStart | Wire::GroupEnd => return Err(ProtobufError::Malformed("unbalanced groups")),
            }
            if groups == 0 {
                return Ok(());
            }
            (_, wire) = self.tag()?.ok_or(SHORT)?;
        }
    }
}

/// Writes from the end to the beginning, so that a message's length is known when it is its turn.
#[derive(Default)]
pub(super) struct Writer {
    buffer: Vec<u8>,
    /// What is written stands from here to the end.
    start: usize,
}

impl Writer {
    /// How much is written.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    pub(super) fn prepend(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            self.grow(bytes.len());
        }
        self.start -= bytes.len();
        self.buffer[self.start..][..bytes.len()].copy_from_slice(bytes);
    }

    fn grow(&mut self, by: usize) {
        let written = self.len();
        let mut larger = vec![0; (2 * self.buffer.len()).max(written + by).max(512)];
        let start = larger.len() - written;
        larger[start..].copy_from_slice(&self.buffer[self.start..]);
        self.buffer = larger;
        self.start = start;
    }

    pub(super) fn varint(&mut self, mut value: u64) {
        let mut bytes = [0; 10];
        let mut length = 0;
        loop {
            bytes[length] = (value & 0x7f) as u8 | 0x80;
            length += 1;
            value >>= 7;
            if value == 0 {
                break;
            }
        }
        bytes[length - 1] &= 0x7f;
        self.prepend(&bytes[..length]);
    }

    pub(super) fn tag(&mut self, number: u32, wire: Wire) {
        self.varint(u64::from(number) << 3 | wire as u64);
    }

    /// A whole field of text or bytes.
    pub(super) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.prepend(bytes);
        self.varint(bytes.len() as u64);
        self.tag(number, Wire::Delimited);
    }

    /// A whole field that is a message, written by `write`.
    pub(super) fn message<E>(&mut self, number: u32, write: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        let after = self.len();
        write(self)?;
        let length = self.len() - after;
        self.varint(length as u64);
        self.tag(number, Wire::Delimited);
        Ok(())
    }

    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }
}
