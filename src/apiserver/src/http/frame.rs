//! How lists and watches are written: pure pieces, from which streams are made.

use bytes::{BufMut, Bytes, BytesMut};

/// What is sent at once of a long list, in bytes: large enough that the cost per write doesn't show, small enough that a
/// slow reader holds little (no more than three of them: one being written, one waiting to be, one at hand).
pub const CHUNK: usize = 64 << 10;

/// Puts pieces together into chunks of about [`CHUNK`] bytes, separated by commas between `head` and `tail`.
pub fn chunks<I: Iterator<Item = Bytes> + Send + 'static>(
    head: &[u8],
    items: I,
    tail: &'static [u8],
) -> impl Iterator<Item = Bytes> + Send + use<I> {
    let mut items = items.peekable();
    // The first chunk grows with what is in it: most lists are short, and many may be on their way at a time.
    let mut buffer = BytesMut::from(head);
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        while let Some(item) = items.next() {
            buffer.extend_from_slice(&item);
            if items.peek().is_some() {
                buffer.put_u8(b',');
            }
            if buffer.len() >= CHUNK {
                let room = if items.peek().is_some() {
                    CHUNK + CHUNK / 4
                } else {
                    tail.len()
                };
                return Some(std::mem::replace(&mut buffer, BytesMut::with_capacity(room)).freeze());
            }
        }
        ended = true;
        buffer.extend_from_slice(tail);
        Some(std::mem::take(&mut buffer).freeze())
    })
}

/// Puts pieces together into chunks of about [`CHUNK`] bytes, as they are.
pub fn joined(
    mut pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> impl Iterator<Item = Bytes> + Send + 'static {
    std::iter::from_fn(move || {
        let mut buffer = BytesMut::new();
        for piece in pieces.by_ref() {
            buffer.extend_from_slice(&piece);
            if buffer.len() >= CHUNK {
                break;
            }
        }
        (!buffer.is_empty()).then(|| buffer.freeze())
    })
}

/// An event of a watch in JSON: one line.
pub fn json_event(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(items: Vec<Bytes>) -> Vec<u8> {
        chunks(b"{\"items\":[", items.into_iter(), b"]}").flatten().collect()
    }

    #[test]
    fn a_list_is_its_items_between_commas() {
        assert_eq!(joined(vec![]), b"{\"items\":[]}");
        assert_eq!(joined(vec!["1".into()]), b"{\"items\":[1]}");
        assert_eq!(joined(vec!["1".into(), "2".into()]), b"{\"items\":[1,2]}");
    }

    #[test]
    fn a_long_list_is_sent_in_few_pieces() {
        let item = Bytes::from(vec![b'7'; 3000]);
        let pieces: Vec<_> = chunks(b"", std::iter::repeat_n(item, 1000), b"").collect();
        assert_eq!(pieces.len(), 46);
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), 3_000_999);
    }

    #[test]
    fn an_event_is_a_line_of_json() {
        let mut out = BytesMut::new();
        json_event(&mut out, "ADDED", b"{\"kind\":\"Pod\"}");
        assert_eq!(&out[..], b"{\"type\":\"ADDED\",\"object\":{\"kind\":\"Pod\"}}\n");
    }
}
