//! Lines of a log as CRI has them, and as they are shown. Pure.
//!
//! ```text
//! 2026-11-20T17:46:31.123456789Z stdout P the first part of a long line,
//! 2026-11-20T17:46:31.123456790Z stdout F  and its end
//! ```

use bytes::{Bytes, BytesMut};

/// A line, or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was printed, as the runtime wrote it.
    pub time: &'a str,
    /// `stdout` or `stderr`.
    pub stream: &'a str,
    /// Whether it is the end of a line.
    pub ends: bool,
    /// What was printed.
    pub text: &'a [u8],
}

impl<'a> Line<'a> {
    /// Reads a line of the file, without its line break.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut words = bytes.splitn(4, |byte| *byte == b' ');
        let mut word = || std::str::from_utf8(words.next()?).ok();
        let (time, stream, tags) = (word()?, word()?, word()?);
        // Tags may be more in times to come; the first says whether the line ends.
        let ends = match tags.split(':').next()? {
            "F" => true,
            "P" => false,
            _ => return None,
        };
        if !matches!(stream, "stdout" | "stderr") || !time.starts_with(|first: char| first.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            time,
            stream,
            ends,
            text: words.next().unwrap_or_default(),
        })
    }
}

/// Puts lines together.
#[derive(Debug)]
pub struct Writer {
    text: BytesMut,
    timestamps: bool,
    /// How much may still be written.
    left: Option<u64>,
    /// Whether the next part begins a line.
    begins: bool,
}

impl Writer {
    /// With the time before each line, and no more than `limit` bytes in all.
    pub fn new(timestamps: bool, limit: Option<u64>) -> Self {
        Self {
            text: BytesMut::new(),
            timestamps,
            left: limit,
            begins: true,
        }
    }

    /// Adds a line, or a part of one.
    pub fn put(&mut self, line: &Line<'_>) {
        if self.begins && self.timestamps {
            self.bytes(line.time.as_bytes());
            self.bytes(b" ");
        }
        self.bytes(line.text);
        if line.ends {
            self.bytes(b"\n");
        }
        self.begins = line.ends;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let room = self.left.map_or(bytes.len(), |left| bytes.len().min(left as usize));
        self.text.extend_from_slice(&bytes[..room]);
        if let Some(left) = &mut self.left {
            *left -= room as u64;
        }
    }

    /// What has been put since.
    pub fn take(&mut self) -> Bytes {
        self.text.split().freeze()
    }

    /// Whether nothing more may be written.
    pub fn is_full(&self) -> bool {
        self.left == Some(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_has_a_time_a_stream_a_tag_and_text() {
        let line = Line::parse(b"2026-11-20T17:46:31.1Z stderr P:x a b ").unwrap();
        assert_eq!(
            line,
            Line {
                time: "2026-11-20T17:46:31.1Z",
                stream: "stderr",
                ends: false,
                text: b"a b "
            }
        );
        let empty = Line::parse(b"2026-11-20T17:46:31.1Z stdout F ").unwrap();
        assert!(empty.ends && empty.text.is_empty());
        for bad in [
            &b""[..],
            b"hello",
            b"2026 stdin F x",
            b"2026 stdout X x",
            b"then stdout F x",
            b"2026 stdout",
        ] {
            assert_eq!(Line::parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn parts_are_joined_under_one_time_and_cut_at_the_limit() {
        let written = |timestamps, limit| {
            let mut writer = Writer::new(timestamps, limit);
            for line in ["1 stdout P long ", "2 stdout F line", "3 stdout F next"] {
                writer.put(&Line::parse(line.as_bytes()).unwrap());
            }
            (String::from_utf8(writer.take().to_vec()).unwrap(), writer.is_full())
        };
        assert_eq!(written(false, None), ("long line\nnext\n".to_owned(), false));
        assert_eq!(written(true, None), ("1 long line\n3 next\n".to_owned(), false));
        assert_eq!(written(true, Some(7)), ("1 long ".to_owned(), true));
        assert_eq!(written(false, Some(100)), ("long line\nnext\n".to_owned(), false));
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Line::parse(&bytes);
        }

        #[test]
        fn what_was_printed_is_what_is_shown(text in "[^\n]{0,60}") {
            let line = format!("2026-11-20T17:46:31Z stdout F {text}");
            let mut writer = Writer::new(false, None);
            writer.put(&Line::parse(line.as_bytes()).unwrap());
            prop_assert_eq!(writer.take(), format!("{text}\n"));
        }
    }
}
