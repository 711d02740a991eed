//! Long answers are sent compressed to clients that take them so, as upstream does.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, header};

/// The pieces of a body that are at hand.
pub type Pieces = Box<dyn Iterator<Item = Bytes> + Send>;

/// From so many bytes on compressing is worth its time; upstream's number.
const WORTH: usize = 128 << 10;

/// Whether a client takes what is compressed by gzip: the bare word, as upstream reads it.
pub fn accepted(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).iter();
    let words = lines.filter_map(|line| line.to_str().ok());
    words
        .flat_map(|line| line.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case("gzip"))
}

/// The pieces compressed, as they come, and `true`, if they are long enough to be worth it; else as they are.
pub fn gzip(mut pieces: Pieces) -> (Pieces, bool) {
    let mut head = Vec::new();
    let mut length = 0;
    for piece in pieces.by_ref() {
        length += piece.len();
        head.push(piece);
        if length > WORTH {
            let mut all = head.into_iter().chain(pieces);
            let mut encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
            let next = move || {
                loop {
                    let piece = all.next();
                    let written = match (&mut encoder, piece) {
                        (None, _) => return None,
                        (Some(encoder), Some(piece)) => {
                            encoder.write_all(&piece).expect("memory takes it");
                            std::mem::take(encoder.get_mut())
                        }
                        (ended, None) => {
                            let encoder = ended.take()?;
                            encoder.finish().expect("memory takes it")
                        }
                    };
                    // The compressor keeps some for later.
                    if !written.is_empty() {
                        return Some(Bytes::from(written));
                    }
                }
            };
            return (Box::new(std::iter::from_fn(next)), true);
        }
    }
    (Box::new(head.into_iter()), false)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_is_long_is_compressed_and_what_is_short_is_not() {
        let piece = Bytes::from("{\"a\":1},".repeat(1000));
        for (count, worth) in [(0, false), (1, false), (16, false), (17, true), (200, true)] {
            let pieces: Pieces = Box::new(std::iter::repeat_n(piece.clone(), count));
            let (sent, compressed) = gzip(pieces);
            assert_eq!(compressed, worth, "{count}");
            let sent: Vec<u8> = sent.flatten().collect();
            let plain = piece.repeat(count);
            if compressed {
                assert!(sent.len() < plain.len() / 10);
                let mut read = Vec::new();
                GzDecoder::new(&*sent).read_to_end(&mut read).unwrap();
                assert!(read == plain, "{count}");
            } else {
                assert!(sent == plain, "{count}");
            }
        }
    }

    #[test]
    fn a_client_says_that_it_takes_gzip() {
        for (said, expected) in [
            ("gzip", true),
            ("deflate, GZIP", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(said));
            assert_eq!(accepted(&headers), expected, "{said}");
        }
        assert!(!accepted(&HeaderMap::new()));
    }
}
