//! What an answer of etcd means to a caller.

use etcd_client::Error as Etcd;

use crate::Error;

/// What etcd says, where the caller has to know more to make an [`Error`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The revision is compacted.
    Compacted,
    /// The revision is not reached.
    Future,
    /// The lease is gone.
    LeaseGone,
    /// All others.
    Known(Error),
}

/// gRPC's codes, as far as etcd uses them.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const DATA_LOSS: i32 = 15;
}

/// `doing` says what was being done.
pub(super) fn translate(doing: &str, error: &Etcd) -> Failure {
    match error {
        Etcd::GRpcStatus(status) => status_failure(doing, status.code() as i32, status.message()),
        Etcd::InvalidArgs(why) => Failure::Known(Error::Refused(format!("{doing}: {why}"))),
        other => Failure::Known(Error::Unavailable(format!("{doing}: {other}"))),
    }
}

/// By code first, and by etcd's words (its `rpctypes`) where the code has several meanings.
fn status_failure(doing: &str, code: i32, message: &str) -> Failure {
    let text = || format!("{doing}: {message}");
    Failure::Known(match code {
        code::OUT_OF_RANGE if message.contains("compacted") => return Failure::Compacted,
        code::OUT_OF_RANGE if message.contains("future revision") => return Failure::Future,
        code::NOT_FOUND if message.contains("lease not found") => return Failure::LeaseGone,
        code::INVALID_ARGUMENT => Error::Refused(text()),
        code::RESOURCE_EXHAUSTED if message.contains("space exceeded") => Error::Full(text()),
        code::DATA_LOSS => Error::Damaged(text()),
        _ => Error::Unavailable(text()),
    })
}

impl Failure {
    /// For calls in which nothing but the plain error can happen.
    pub(super) fn plain(self, doing: &str) -> Error {
        match self {
            Self::Known(error) => error,
            other => Error::Unavailable(format!("{doing}: etcd answers {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_answers_are_told_apart() {
        let known = |make: fn(String) -> Error, message: &str| Failure::Known(make(format!("x: {message}")));
        let table = [
            (
                11,
                "etcdserver: mvcc: required revision has been compacted",
                Failure::Compacted,
            ),
            (
                11,
                "etcdserver: mvcc: required revision is a future revision",
                Failure::Future,
            ),
            (5, "etcdserver: requested lease not found", Failure::LeaseGone),
            (
                3,
                "etcdserver: request is too large",
                known(Error::Refused, "etcdserver: request is too large"),
            ),
            (
                8,
                "etcdserver: mvcc: database space exceeded",
                known(Error::Full, "etcdserver: mvcc: database space exceeded"),
            ),
            (
                8,
                "etcdserver: too many requests",
                known(Error::Unavailable, "etcdserver: too many requests"),
            ),
            (
                14,
                "etcdserver: no leader",
                known(Error::Unavailable, "etcdserver: no leader"),
            ),
            (
                15,
                "etcdserver: corrupt cluster",
                known(Error::Damaged, "etcdserver: corrupt cluster"),
            ),
        ];
        for (code, message, expected) in table {
            assert_eq!(status_failure("x", code, message), expected, "{message}");
        }
    }
}
