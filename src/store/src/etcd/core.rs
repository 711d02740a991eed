//! Calls to etcd, each with a deadline, and what their answers mean.

use std::{future::Future, sync::Arc, time::Instant};

use etcd_client::{Client, CompareOp, GetOptions, KvClient, PutOptions, TxnOp, WatchOptions, WatchStream};
use parking_lot::Mutex;
use tokio::{sync::watch, time};

use super::{
    Options, events,
    failure::{self, Failure},
    keys::Keys,
    lease::Leases,
};
use crate::{Compare, Error, KeyValue, Op, Result, Revision, Txn, hub::Hub};

/// The longest answer of etcd that is taken, in bytes: a page of the largest values.
const LONGEST: usize = 1 << 30;

/// What the engine's calls and tasks share.
pub(super) struct Core {
    pub(super) options: Options,
    pub(super) keys: Keys,
    pub(super) client: Client,
    pub(super) leases: Leases,
    pub(super) hub: Arc<Hub>,
    /// How far the feed is; `None` while it is down.
    pub(super) fed: watch::Sender<Option<Revision>>,
    pub(super) vitals: Mutex<Vitals>,
}

/// How it fares.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    pub(super) committed: Option<Instant>,
    pub(super) trouble: Option<Error>,
}

/// By when a call is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(pub(super) time::Instant);

impl Deadline {
    pub(super) async fn call<T>(
        self,
        doing: &str,
        call: impl Future<Output = std::result::Result<T, etcd_client::Error>>,
    ) -> std::result::Result<T, Failure> {
        match time::timeout_at(self.0, call).await {
            Ok(answer) => answer.map_err(|error| failure::translate(doing, &error)),
            Err(_) => Err(Failure::Known(Error::Unavailable(format!(
                "{doing}: no answer in time"
            )))),
        }
    }
}

/// That of the answer's header.
pub(super) fn revision(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision() as u64))
}

impl Core {
    pub(super) fn deadline(&self) -> Deadline {
        Deadline(time::Instant::now() + self.options.deadline)
    }

    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(LONGEST)
    }

    /// The latest revision of etcd: of a quorum, so that nothing acknowledged before is missing.
    pub(super) async fn latest(&self) -> Result<Revision> {
        let doing = "reading etcd's revision";
        let mut kv = self.kv();
        let options = GetOptions::new().with_count_only();
        let read = self.deadline().call(doing, kv.get(self.keys.marker(), Some(options)));
        let read = read.await.map_err(|failure| failure.plain(doing))?;
        Ok(revision(read.header()))
    }

    /// Puts the marker, at the returned revision.
    pub(super) async fn mark(&self) -> Result<Revision> {
        let doing = "marking a revision in etcd";
        let mut kv = self.kv();
        let put = self.deadline().call(doing, kv.put(self.keys.marker(), "", None));
        let put = put.await.map_err(|failure| failure.plain(doing))?;
        Ok(revision(put.header()))
    }

    /// Watches everything from `start` on.
    pub(super) async fn stream(&self, start: Revision) -> Result<WatchStream> {
        let doing = "beginning a watch in etcd";
        let (first, end) = self.keys.all();
        let options = WatchOptions::new().with_range(end).with_start_revision(start.0 as i64);
        let mut client = self.client.watch_client().max_decoding_message_size(LONGEST);
        let deadline = self.deadline();
        let stream = deadline.call(doing, client.watch(first, Some(options))).await;
        stream.map_err(|failure| failure.plain(doing))
    }

    pub(super) async fn compact(&self, before: Revision) -> Result<()> {
        let doing = "compacting etcd";
        let mut kv = self.kv();
        let compacted = self.deadline().call(doing, kv.compact(before.0 as i64, None)).await;
        match compacted {
            Ok(_) => {}
            Err(Failure::Compacted) => return Ok(()),
            Err(Failure::Future) => {
                let latest = self.latest().await?;
                return Err(Error::Future { asked: before, latest });
            }
            Err(other) => return Err(other.plain(doing)),
        }
        self.hub.forget(before);
        Ok(())
    }

    /// What etcd says of a watch from its first revision: the oldest that it keeps.
    pub(super) async fn compacted(&self, asked: Revision) -> Error {
        let begun = async {
            let mut stream = self.stream(Revision(1)).await?;
            let deadline = self.deadline();
            loop {
                let doing = "asking how far etcd is compacted";
                let message = deadline.call(doing, stream.message()).await;
                let message = message.map_err(|failure| failure.plain(doing))?;
                let created = message.as_ref().is_some_and(etcd_client::WatchResponse::created);
                events::batch(&self.keys, asked, Ok(message))?;
                if !created {
                    return Ok(());
                }
            }
        };
        begun.await.err().unwrap_or(Error::Compacted { asked, oldest: asked })
    }

    pub(super) fn trouble(&self, error: &Error) {
        self.vitals.lock().trouble = Some(error.clone());
    }

    pub(super) fn kv_of(&self, kv: etcd_client::KeyValue) -> Option<KeyValue> {
        let created = Revision(kv.create_revision() as u64);
        let modified = Revision(kv.mod_revision() as u64);
        let (key, value) = kv.into_key_value();
        Some(KeyValue {
            key: self.keys.inner(key)?,
            value: value.into(),
            created,
            modified,
        })
    }

    /// One page of a range, at `at` or now.
    pub(super) async fn page(
        &self,
        start: Vec<u8>,
        end: Vec<u8>,
        limit: usize,
        at: Option<Revision>,
        deadline: Deadline,
    ) -> Result<etcd_client::GetResponse> {
        let doing = "reading from etcd";
        let mut options = GetOptions::new().with_range(end).with_limit(limit as i64);
        if let Some(at) = at {
            options = options.with_revision(at.0 as i64);
        }
        let mut kv = self.kv();
        match deadline.call(doing, kv.get(start, Some(options))).await {
            Ok(page) => Ok(page),
            Err(Failure::Compacted) => Err(self.compacted(at.unwrap_or_default()).await),
            Err(Failure::Future) => {
                let (asked, latest) = (at.unwrap_or_default(), self.latest().await?);
                Err(Error::Future { asked, latest })
            }
            Err(other) => Err(other.plain(doing)),
        }
    }

    pub(super) async fn operations(
        &self,
        ops: &[Op],
        deadline: Deadline,
    ) -> std::result::Result<(Vec<TxnOp>, Vec<i64>), Failure> {
        let mut operations = Vec::with_capacity(ops.len());
        let mut leases = Vec::new();
        for op in ops {
            operations.push(match op {
                Op::Put { key, value, ttl } => {
                    let options = match ttl {
                        Some(ttl) => {
                            let lease = self.leases.take(self.client.lease_client(), *ttl, deadline).await?;
                            leases.push(lease);
                            Some(PutOptions::new().with_lease(lease))
                        }
                        None => None,
                    };
                    TxnOp::put(self.keys.outer(key), &**value, options)
                }
                Op::Delete { key } => TxnOp::delete(self.keys.outer(key), None),
            });
        }
        Ok((operations, leases))
    }

    /// `Ok(None)`: a lease was gone, and nothing done.
    pub(super) async fn try_commit(&self, txn: &Txn, deadline: Deadline) -> Result<Option<Revision>> {
        let doing = "writing to etcd";
        let (operations, leases) = match self.operations(&txn.ops, deadline).await {
            Ok(operations) => operations,
            Err(failure) => return Err(failure.plain(doing)),
        };
        let compares: Vec<_> = txn
            .compares
            .iter()
            .map(|Compare::Modified(key, revision)| {
                etcd_client::Compare::mod_revision(self.keys.outer(key), CompareOp::Equal, revision.0 as i64)
            })
            .collect();
        let request = etcd_client::Txn::new().when(compares).and_then(operations);
        let mut kv = self.kv();
        match deadline.call(doing, kv.txn(request)).await {
            Ok(answer) if answer.succeeded() => Ok(Some(revision(answer.header()))),
            Ok(_) => Err(Error::Conflict),
            Err(Failure::LeaseGone) => {
                for lease in leases {
                    self.leases.forget(lease).await;
                }
                Ok(None)
            }
            Err(failure) => Err(failure.plain(doing)),
        }
    }
}
