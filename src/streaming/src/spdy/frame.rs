//! Frames on the wire. Pure; [`Decoder`] and [`Encoder`] are tokio's codecs.
//!
//! Data comes out in the pieces in which it came in: a frame may be 16 MiB long, and nothing waits for its end.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec;

use super::{
    SpdyError,
    headers::{Compressor, Decompressor, Headers, MAX_BLOCK},
};

/// A stream's number: odd if the client opened it.
pub type StreamId = u32;

/// What passes over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream is opened.
    SynStream {
        /// Its number.
        id: StreamId,
        /// What it is for.
        headers: Headers,
        /// Whether nothing more comes from who opened it.
        fin: bool,
    },
    /// It is accepted.
    SynReply {
        /// Its number.
        id: StreamId,
        /// Hardly ever any.
        headers: Headers,
        /// Whether nothing more comes from who accepted it.
        fin: bool,
    },
    /// Data on a stream, or a part of it.
    Data {
        /// The stream.
        id: StreamId,
        /// What is there of it.
        data: Bytes,
        /// Whether nothing more comes.
        fin: bool,
    },
    /// A stream is cut.
    Reset {
        /// The stream.
        id: StreamId,
        /// Why.
        code: u32,
    },
    /// To be sent back.
    Ping(u32),
    /// No stream is opened from here on.
    GoAway,
    /// What nobody needs: settings, window updates, more headers, kinds that are unknown.
    Ignored,
}

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

const FIN: u8 = 1;
const VERSION: u16 = 3;
const HEAD: usize = 8;

/// Data is sent in frames no longer than this, in bytes.
pub const MAX_DATA: usize = 32 << 10;

/// `RST_STREAM`: the stream's opener did something wrong.
pub const PROTOCOL_ERROR: u32 = 1;
/// `RST_STREAM`: there are too many.
pub const REFUSED_STREAM: u32 = 3;
/// `RST_STREAM`: nobody wants it any more.
pub const CANCEL: u32 = 5;

/// Reads frames.
pub struct Decoder {
    decompressor: Decompressor,
    within: Within,
}

/// The frame of which a part has been read.
enum Within {
    None,
    Data { id: StreamId, left: usize, fin: bool },
    Ignored { left: usize },
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            decompressor: Decompressor::new(),
            within: Within::None,
        }
    }
}

impl codec::Decoder for Decoder {
    type Item = Frame;
    type Error = SpdyError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        match self.within {
            Within::None => self.head(bytes),
            Within::Data { id, left, fin } => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let data = bytes.split_to(left.min(bytes.len())).freeze();
                Ok(Some(self.data(id, data, left, fin)))
            }
            Within::Ignored { left } => {
                let skipped = left.min(bytes.len());
                bytes.advance(skipped);
                if skipped < left {
                    self.within = Within::Ignored { left: left - skipped };
                    return Ok(None);
                }
                self.within = Within::None;
                Ok(Some(Frame::Ignored))
            }
        }
    }

    /// Bytes that are left are a frame that broke off, which is how connections end.
    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        let frame = self.decode(bytes)?;
        if frame.is_none() {
            bytes.clear();
        }
        Ok(frame)
    }
}

impl Decoder {
    /// Of `left` bytes of a frame, `data` is here.
    fn data(&mut self, id: StreamId, data: Bytes, left: usize, fin: bool) -> Frame {
        let left = left - data.len();
        self.within = match left {
            0 => Within::None,
            _ => Within::Data { id, left, fin },
        };
        Frame::Data {
            id,
            data,
            fin: fin && left == 0,
        }
    }

    fn head(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        let Some(mut head) = bytes.get(..HEAD) else {
            return Ok(None);
        };
        let (first, second) = (head.get_u32(), head.get_u32());
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        let fin = flags & FIN != 0;
        if first >> 31 == 0 {
            bytes.advance(HEAD);
            if length > 0 && bytes.is_empty() {
                self.within = Within::Data {
                    id: first,
                    left: length,
                    fin,
                };
                return Ok(None);
            }
            let data = bytes.split_to(length.min(bytes.len())).freeze();
            return Ok(Some(self.data(first, data, length, fin)));
        }
        let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        // Fixed fields, then a block of headers for the kinds that have one.
        let (fixed, most) = match kind {
            SYN_STREAM => (10, 10 + MAX_BLOCK),
            SYN_REPLY | HEADERS => (4, 4 + MAX_BLOCK),
            RST_STREAM | GOAWAY => (8, 8),
            PING => (4, 4),
            _ => {
                bytes.advance(HEAD);
                self.within = Within::Ignored { left: length };
                return codec::Decoder::decode(self, bytes);
            }
        };
        if length < fixed || length > most {
            return Err(SpdyError::Length { kind, length });
        }
        if bytes.len() < HEAD + length {
            bytes.reserve(HEAD + length - bytes.len());
            return Ok(None);
        }
        bytes.advance(HEAD);
        let mut body = bytes.split_to(length);
        let id = body.get_u32();
        Ok(Some(match kind {
            SYN_STREAM => {
                // The stream it belongs to, its priority and slot: nobody uses them.
                body.advance(6);
                let headers = self.decompressor.headers(&body)?;
                Frame::SynStream {
                    id: id & ID,
                    headers,
                    fin,
                }
            }
            SYN_REPLY => {
                let headers = self.decompressor.headers(&body)?;
                Frame::SynReply {
                    id: id & ID,
                    headers,
                    fin,
                }
            }
            HEADERS => {
                // Read all the same: the compression goes on over it.
                self.decompressor.headers(&body)?;
                Frame::Ignored
            }
            RST_STREAM => Frame::Reset {
                id: id & ID,
                code: body.get_u32(),
            },
            PING => Frame::Ping(id),
            _ => Frame::GoAway,
        }))
    }
}

const ID: u32 = 0x7fff_ffff;

/// Writes frames.
pub struct Encoder(Compressor);

impl Default for Encoder {
    fn default() -> Self {
        Self(Compressor::new())
    }
}

impl codec::Encoder<Frame> for Encoder {
    type Error = SpdyError;

    fn encode(&mut self, frame: Frame, into: &mut BytesMut) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { id, headers, fin } => {
                let block = self.0.block(&headers);
                control(into, SYN_STREAM, fin, 10 + block.len())?;
                into.put_u32(id);
                into.put_bytes(0, 6);
                into.put_slice(&block);
            }
            Frame::SynReply { id, headers, fin } => {
                let block = self.0.block(&headers);
                control(into, SYN_REPLY, fin, 4 + block.len())?;
                into.put_u32(id);
                into.put_slice(&block);
            }
            Frame::Data { id, mut data, fin } => loop {
                let part = data.split_to(data.len().min(MAX_DATA));
                let last = data.is_empty();
                into.reserve(HEAD + part.len());
                into.put_u32(id & ID);
                into.put_u32(part.len() as u32 | u32::from(fin && last) << 24);
                into.put_slice(&part);
                if last {
                    break;
                }
            },
            Frame::Reset { id, code } => {
                control(into, RST_STREAM, false, 8)?;
                into.put_u32(id);
                into.put_u32(code);
            }
            Frame::Ping(id) => {
                control(into, PING, false, 4)?;
                into.put_u32(id);
            }
            Frame::GoAway => {
                control(into, GOAWAY, false, 8)?;
                into.put_u64(0);
            }
            Frame::Ignored => {}
        }
        Ok(())
    }
}

fn control(into: &mut BytesMut, kind: u16, fin: bool, length: usize) -> Result<(), SpdyError> {
    if length > MAX_BLOCK {
        return Err(SpdyError::Length { kind, length });
    }
    into.reserve(HEAD + length);
    into.put_u16(0x8000 | VERSION);
    into.put_u16(kind);
    into.put_u32(length as u32 | u32::from(fin) << 24);
    Ok(())
}

#[cfg(test)]
mod tests {
    use codec::{Decoder as _, Encoder as _};
    use proptest::prelude::*;

    use super::*;

    fn encoded(frames: impl IntoIterator<Item = Frame>) -> BytesMut {
        let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
        for frame in frames {
            encoder.encode(frame, &mut bytes).unwrap();
        }
        bytes
    }

    /// Reads what comes in pieces, and joins the data of each stream's frames.
    fn decoded(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, SpdyError> {
        let (mut decoder, mut buffer, mut frames) = (Decoder::default(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = decoder.decode(&mut buffer)? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    fn joined(frames: Vec<Frame>) -> Vec<Frame> {
        let mut joined: Vec<Frame> = Vec::new();
        for frame in frames {
            match (joined.last_mut(), &frame) {
                (
                    Some(Frame::Data {
                        id,
                        data,
                        fin: end @ false,
                    }),
                    Frame::Data {
                        id: same,
                        data: more,
                        fin,
                    },
                ) if id == same => {
                    *data = [&data[..], more].concat().into();
                    *end = *fin;
                }
                _ => joined.push(frame),
            }
        }
        joined
    }

    #[test]
    fn frames_are_laid_out_as_the_standard_says() {
        let table: [(Frame, &[u8]); 5] = [
            (
                Frame::Data {
                    id: 3,
                    data: "ab".into(),
                    fin: true,
                },
                &[0, 0, 0, 3, 1, 0, 0, 2, b'a', b'b'],
            ),
            (
                Frame::Data {
                    id: 3,
                    data: Bytes::new(),
                    fin: true,
                },
                &[0, 0, 0, 3, 1, 0, 0, 0],
            ),
            (
                Frame::Reset { id: 5, code: CANCEL },
                &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 5],
            ),
            (Frame::Ping(7), &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]),
            (Frame::GoAway, &[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (frame, bytes) in table {
            assert_eq!(&encoded([frame.clone()])[..], bytes, "{frame:?}");
            assert_eq!(decoded(bytes, 100).unwrap(), [frame]);
        }
    }

    #[test]
    fn what_nobody_needs_is_skipped_however_long_it_is() {
        // SETTINGS with one setting, WINDOW_UPDATE, a kind that is unknown and long.
        let mut bytes = BytesMut::from(
            &[
                0x80, 3, 0, 4, 0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 7, 0, 1, 0, 0, 0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1,
                0, 1, 0, 0,
            ][..],
        );
        bytes.put_slice(&[0x80, 3, 0, 99, 0, 0xff, 0xff, 0xff]);
        bytes.put_bytes(1, 0x00ff_ffff);
        bytes.extend_from_slice(&encoded([Frame::Ping(1)]));
        assert_eq!(
            decoded(&bytes, 4096).unwrap(),
            [Frame::Ignored, Frame::Ignored, Frame::Ignored, Frame::Ping(1)]
        );
    }

    #[test]
    fn a_frame_that_can_not_be_right_ends_the_connection() {
        for (bytes, what) in [
            (&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7][..], "of version 2"),
            (&[0x80, 3, 0, 6, 0, 0, 0, 5], "with 5 bytes"),
            (&[0x80, 3, 0, 1, 0, 0, 0, 9], "with 9 bytes"),
            (&[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], "with 16777215 bytes"),
            (&[0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, 9, 9], "zlib"),
        ] {
            let error = decoded(bytes, 100).unwrap_err();
            assert!(error.to_string().contains(what), "{error}");
        }
    }

    #[test]
    fn long_data_is_handed_on_as_it_comes() {
        let mut bytes = BytesMut::from(&[0, 0, 0, 1, 1, 0xff, 0xff, 0xff][..]);
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&mut bytes).unwrap(), None);
        bytes.put_slice(b"first");
        let first = Frame::Data {
            id: 1,
            data: "first".into(),
            fin: false,
        };
        assert_eq!(decoder.decode(&mut bytes).unwrap(), Some(first));
        assert!(bytes.capacity() < 1024, "no room is made for what has not come");
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let headers = "[a-z]{1,8}".prop_map(|value| Headers::new([("streamtype", &value)]));
        let data = proptest::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from);
        let frame = prop_oneof![
            (0..=ID, headers.clone(), any::<bool>()).prop_map(|(id, headers, fin)| Frame::SynStream {
                id,
                headers,
                fin
            }),
            (0..=ID, headers, any::<bool>()).prop_map(|(id, headers, fin)| Frame::SynReply { id, headers, fin }),
            (0..4_u32, data).prop_map(|(id, data)| Frame::Data { id, data, fin: true }),
            (0..=ID, any::<u32>()).prop_map(|(id, code)| Frame::Reset { id, code }),
            any::<u32>().prop_map(Frame::Ping),
            Just(Frame::GoAway),
        ];
        proptest::collection::vec(frame, 0..12)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_is_cut(frames in frames(), piece in 1..40_usize) {
            let read = joined(decoded(&encoded(frames.clone()), piece).unwrap());
            prop_assert_eq!(read, frames);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            kind in 0..12_u8,
            piece in 1..40_usize,
        ) {
            let _ = decoded(&bytes, piece);
            if bytes.len() > 8 {
                bytes[..4].copy_from_slice(&[0x80, 3, 0, kind]);
                bytes[4..7].copy_from_slice(&[0, 0, 0]);
                let _ = decoded(&bytes, piece);
            }
        }
    }
}
