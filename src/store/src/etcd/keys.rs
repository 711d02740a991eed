//! Where the callers' keys are in etcd: under a prefix, beside a marker of the engine's own.

use bytes::Bytes;

use crate::{Error, KeyRange, Result};

/// What lies between the prefix and the marker's name; the callers' keys don't begin so.
const OWN: u8 = 0;

/// A prefix that all keys get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keys(Vec<u8>);

impl Keys {
    pub(super) fn new(prefix: &str) -> Result<Self> {
        if prefix.is_empty() {
            return Err(Error::Refused("an empty prefix in etcd".to_owned()));
        }
        Ok(Self(prefix.as_bytes().to_vec()))
    }

    /// As etcd has it.
    pub(super) fn outer(&self, key: &[u8]) -> Vec<u8> {
        [&self.0, key].concat()
    }

    /// As the callers have it; `None` if it is not theirs.
    pub(super) fn inner(&self, outer: Vec<u8>) -> Option<Bytes> {
        let rest = outer.strip_prefix(&*self.0)?;
        let theirs = rest.first().is_some_and(|first| *first != OWN);
        theirs.then(|| Bytes::from(outer).slice(self.0.len()..))
    }

    /// Whether a caller can have it.
    pub(super) fn check(key: &[u8]) -> Result<()> {
        match key.first() {
            Some(&OWN) => Err(Error::Refused("a key that starts with a zero byte".to_owned())),
            _ => Ok(()),
        }
    }

    /// Start and end in etcd, without the engine's own.
    pub(super) fn range(&self, range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
        let start = range.start.as_ref().max(&[OWN + 1]);
        (self.outer(start), self.outer(&range.end))
    }

    /// Everything under the prefix.
    pub(super) fn all(&self) -> (Vec<u8>, Vec<u8>) {
        let range = KeyRange::prefix(self.0.clone());
        (range.start.into(), range.end.into())
    }

    /// The key that is put to learn how far watches are.
    pub(super) fn marker(&self) -> Vec<u8> {
        self.outer(b"\0marker")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_in_and_come_out_and_the_marker_stays() {
        let keys = Keys::new("/cluster").unwrap();
        assert_eq!(keys.outer(b"/pods/a"), b"/cluster/pods/a");
        assert_eq!(
            keys.inner(b"/cluster/pods/a".to_vec()),
            Some(Bytes::from_static(b"/pods/a"))
        );
        for other in [keys.marker(), b"/other/a".to_vec(), b"/cluster".to_vec()] {
            assert_eq!(keys.inner(other), None);
        }
        let (start, end) = keys.all();
        assert!(start <= keys.marker() && keys.marker() < end);
        let everything = KeyRange {
            start: Bytes::new(),
            end: Bytes::from_static(b"\xff"),
        };
        let (start, end) = keys.range(&everything);
        assert!(keys.marker() < start && start < end);
        assert!(Keys::check(b"\0x").is_err() && Keys::check(b"/").is_ok());
        assert!(Keys::new("").is_err());
    }
}
