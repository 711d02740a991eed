//! The engine over etcd v3, for several servers.
//!
//! ```text
//!  commit, range, get, … ──────────────▶ etcd
//!                                          │ one watch of everything under the prefix
//!  watch ◀── bounded queue ◀── hub ◀──── feed (task)
//!    ▲                                     │
//!    └───── catching up (task) ◀───────────┘ one more watch, for as long as it lags
//! ```
//!
//! Tasks, while the engine lives: the feed, which begins anew after a failure, having ended every watch; the compaction;
//! and one for each watch that begins in the past, until it has caught up.
//!
//! How far a watch is could be asked of etcd (`RequestProgress`), but releases such as 3.4.23 answer ahead of events that
//! are still to come (etcd issue 15220). Since the feed sees everything, it is known here: a reading of etcd's revision,
//! and a marker that is put if others' keys are what made that revision.

mod failure;
mod feed;
mod keys;
mod lease;

use std::{
    future::Future,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Certificate, Client, CompareOp, ConnectOptions, GetOptions, Identity, KvClient, PutOptions, TlsOptions, TxnOp,
    WatchOptions, WatchStream,
};
use parking_lot::Mutex;
use tokio::{sync::watch, time};

use self::{failure::Failure, keys::Keys, lease::Leases};
use crate::{
    Compare, Error, Health, KeyRange, KeyValue, Op, Range, Result, Revision, Store, Txn, Watch, WatchBatch,
    hub::{self, Hub},
    new_file::NewFile,
    task::{self, Task},
};

/// Keys in one answer of etcd to a range read.
const PAGE: usize = 500;
/// The longest answer of etcd that is taken, in bytes: a page of the largest values.
const LONGEST: usize = 1 << 30;
/// After a failure of the feed or the compaction.
const RETRY: Duration = Duration::from_secs(1);
/// How long a revision may be on its way to the feed before it is taken for someone else's.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

/// The settings of a store in etcd.
#[derive(Clone)]
pub struct Options {
    /// Such as `https://10.0.0.1:2379`; several of one cluster.
    pub endpoints: Vec<String>,
    /// What all keys in etcd begin with, such as `/bosun`. Servers that share a store have the same.
    pub prefix: String,
    /// For `https`.
    pub tls: Option<Tls>,
    /// Every call is answered by then, snapshots excepted.
    pub deadline: Duration,
    /// Batches that wait for a watcher before it is [`Error::Lagging`].
    pub watch_queue: usize,
    /// After how long a watch tells that nothing happened in its range while something did elsewhere.
    pub progress: Duration,
    /// How much history is kept, as far as this server says; `None`: someone else compacts.
    pub history: Option<Duration>,
}

/// How etcd is known, and how it knows us.
#[derive(Clone)]
pub struct Tls {
    /// Its certificate authorities, PEM; `None`: those of the system are not asked, so this fails unless set.
    pub ca: Option<Vec<u8>>,
    /// Our certificate and its key, PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in its certificate, if it is not that of the endpoint.
    pub name: Option<String>,
}

impl Options {
    /// A store at `endpoints` with usual settings.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: "/bosun".to_owned(),
            tls: None,
            deadline: Duration::from_secs(10),
            watch_queue: 256,
            progress: Duration::from_secs(5),
            history: Some(Duration::from_mins(5)),
        }
    }
}

// Keys are not for logs.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A store in etcd.
pub struct Etcd {
    core: Arc<Core>,
    _tasks: [Task; 2],
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Etcd").field(&self.core.options).finish()
    }
}

struct Core {
    options: Options,
    keys: Keys,
    client: Client,
    leases: Leases,
    hub: Arc<Hub>,
    /// How far the feed is; `None` while it is down.
    fed: watch::Sender<Option<Revision>>,
    vitals: Mutex<Vitals>,
}

#[derive(Debug, Default)]
struct Vitals {
    committed: Option<Instant>,
    trouble: Option<Error>,
}

/// By when a call is given up.
#[derive(Clone, Copy, Debug)]
struct Deadline(time::Instant);

impl Deadline {
    async fn call<T>(
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

impl Etcd {
    /// Connects; fails if etcd can't be reached or does not let us write.
    pub async fn open(options: Options) -> Result<Arc<Self>> {
        let keys = Keys::new(&options.prefix)?;
        let mut connect = ConnectOptions::new()
            .with_connect_timeout(options.deadline)
            // Not more often than etcd allows.
            .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
            .with_keep_alive_while_idle(true)
            // A member without a leader ends its watches rather than going silent.
            .with_require_leader(true);
        if let Some(tls) = &options.tls {
            connect = connect.with_tls(tls.options());
        }
        let deadline = Deadline(time::Instant::now() + options.deadline);
        let doing = "connecting to etcd";
        let client = deadline.call(doing, Client::connect(&options.endpoints, Some(connect)));
        let client = client.await.map_err(|failure| failure.plain(doing))?;
        let core = Arc::new(Core {
            keys,
            client,
            leases: Leases::default(),
            hub: Hub::new(Revision(0)),
            fed: watch::Sender::new(None),
            vitals: Mutex::default(),
            options,
        });
        let (start, stream) = core.feed_start().await?;
        let feed = task::spawn(Arc::clone(&core).feed(start, stream));
        let compaction = task::spawn(Arc::clone(&core).compaction());
        Ok(Arc::new(Self {
            core,
            _tasks: [feed, compaction],
        }))
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let why = Error::Unavailable("the store is closed".to_owned());
        self.core.hub.reset(self.core.hub.published(), &why);
    }
}

impl Tls {
    fn options(&self) -> TlsOptions {
        let mut options = TlsOptions::new();
        if let Some(ca) = &self.ca {
            options = options.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((certificate, key)) = &self.identity {
            options = options.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.name {
            options = options.domain_name(name);
        }
        options
    }
}

fn revision(header: Option<&etcd_client::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision() as u64))
}

impl Core {
    fn deadline(&self) -> Deadline {
        Deadline(time::Instant::now() + self.options.deadline)
    }

    fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(LONGEST)
    }

    /// The latest revision of etcd: of a quorum, so that nothing acknowledged before is missing.
    async fn latest(&self) -> Result<Revision> {
        let doing = "reading etcd's revision";
        let mut kv = self.kv();
        let options = GetOptions::new().with_count_only();
        let read = self.deadline().call(doing, kv.get(self.keys.marker(), Some(options)));
        let read = read.await.map_err(|failure| failure.plain(doing))?;
        Ok(revision(read.header()))
    }

    /// Puts the marker, at the returned revision.
    async fn mark(&self) -> Result<Revision> {
        let doing = "marking a revision in etcd";
        let mut kv = self.kv();
        let put = self.deadline().call(doing, kv.put(self.keys.marker(), "", None));
        let put = put.await.map_err(|failure| failure.plain(doing))?;
        Ok(revision(put.header()))
    }

    /// Watches everything from `start` on.
    async fn stream(&self, start: Revision) -> Result<WatchStream> {
        let doing = "beginning a watch in etcd";
        let (first, end) = self.keys.all();
        let options = WatchOptions::new().with_range(end).with_start_revision(start.0 as i64);
        let mut client = self.client.watch_client().max_decoding_message_size(LONGEST);
        let deadline = self.deadline();
        let stream = deadline.call(doing, client.watch(first, Some(options))).await;
        stream.map_err(|failure| failure.plain(doing))
    }

    /// A revision, and everything after it.
    async fn feed_start(&self) -> Result<(Revision, WatchStream)> {
        let start = self.mark().await?;
        let stream = self.stream(Revision(start.0 + 1)).await?;
        let why = Error::Unavailable("the watch of etcd began anew".to_owned());
        self.hub.reset(start, &why);
        self.fed.send_replace(Some(start));
        Ok((start, stream))
    }

    async fn feed(self: Arc<Self>, mut start: Revision, mut stream: WatchStream) {
        loop {
            let error = self.follow(start, &mut stream).await;
            tracing::warn!(%error, "the watch of etcd has ended");
            self.fed.send_replace(None);
            self.hub.reset(self.hub.published(), &error);
            self.trouble(&error);
            (start, stream) = loop {
                time::sleep(RETRY).await;
                match self.feed_start().await {
                    Ok(begun) => break begun,
                    Err(error) => self.trouble(&error),
                }
            };
            self.vitals.lock().trouble = None;
        }
    }

    /// Hands on what etcd tells until it fails.
    async fn follow(&self, start: Revision, stream: &mut WatchStream) -> Error {
        let mut progress = None;
        loop {
            let due = async {
                match progress {
                    Some(due) => time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let batch = tokio::select! {
                message = stream.message() => feed::batch(&self.keys, start, message),
                () = due => {
                    self.hub.progress();
                    progress = None;
                    Ok(None)
                }
            };
            match batch {
                Ok(Some(batch)) => {
                    self.hub.publish(batch.revision, batch.events);
                    self.fed.send_replace(Some(batch.revision));
                }
                Ok(None) => {}
                Err(error) => return error,
            }
            if progress.is_none() && self.hub.behind() {
                progress = Some(time::Instant::now() + self.options.progress);
            }
        }
    }

    /// Brings a watch that begins in the past up to where the hub goes on.
    async fn catch_up(
        self: Arc<Self>,
        range: KeyRange,
        mut after: Revision,
        mut stream: WatchStream,
        queue: hub::Sender,
    ) {
        let from = after;
        loop {
            // Two places: for this, and for the error that may end the watch. Nobody else puts anything in.
            let Ok(()) = queue.reserve_many(2).await.map(drop) else {
                return;
            };
            if self.hub.join(&range, after, &queue, true) {
                return;
            }
            let message = tokio::select! {
                message = stream.message() => message,
                () = queue.closed() => return,
            };
            match feed::batch(&self.keys, from, message) {
                Ok(None) => {}
                Ok(Some(WatchBatch { revision, mut events })) => {
                    after = after.max(revision);
                    events.retain(|event| event.revision() > from && range.contains(event.key()));
                    if !events.is_empty() {
                        let _sent = queue.try_send(Ok(WatchBatch { revision, events }));
                    }
                }
                Err(error) => {
                    let _ended = queue.try_send(Err(error));
                    return;
                }
            }
        }
    }

    /// Has etcd forget what is older than the settings say. Every server that shares it may do so: none asks for less
    /// than the others keep.
    async fn compaction(self: Arc<Self>) {
        let Some(history) = self.options.history else { return };
        let mut before = None;
        loop {
            time::sleep(history).await;
            if let Some(before) = before
                && let Err(error) = self.compact(before).await
            {
                tracing::warn!(%error, "etcd's history was not compacted");
            }
            before = self.latest().await.ok();
        }
    }

    async fn compact(&self, before: Revision) -> Result<()> {
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
    async fn compacted(&self, asked: Revision) -> Error {
        let begun = async {
            let mut stream = self.stream(Revision(1)).await?;
            let deadline = self.deadline();
            loop {
                let doing = "asking how far etcd is compacted";
                let message = deadline.call(doing, stream.message()).await;
                let message = message.map_err(|failure| failure.plain(doing))?;
                let created = message.as_ref().is_some_and(etcd_client::WatchResponse::created);
                feed::batch(&self.keys, asked, Ok(message))?;
                if !created {
                    return Ok(());
                }
            }
        };
        begun.await.err().unwrap_or(Error::Compacted { asked, oldest: asked })
    }

    fn trouble(&self, error: &Error) {
        self.vitals.lock().trouble = Some(error.clone());
    }

    fn kv_of(&self, kv: etcd_client::KeyValue) -> Option<KeyValue> {
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
    async fn page(
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

    async fn operations(&self, ops: &[Op], deadline: Deadline) -> std::result::Result<(Vec<TxnOp>, Vec<i64>), Failure> {
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
    async fn try_commit(&self, txn: &Txn, deadline: Deadline) -> Result<Option<Revision>> {
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

#[async_trait]
impl Store for Etcd {
    async fn commit(&self, txn: Txn) -> Result<Revision> {
        txn.check()?;
        for key in txn.ops.iter().map(Op::key) {
            Keys::check(key)?;
        }
        let deadline = self.core.deadline();
        let result = loop {
            match self.core.try_commit(&txn, deadline).await {
                Ok(Some(revision)) => break Ok(revision),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
        };
        let mut vitals = self.core.vitals.lock();
        match &result {
            Ok(_) => {
                vitals.committed = Some(Instant::now());
                vitals.trouble = None;
            }
            Err(error @ (Error::Full(_) | Error::Unavailable(_) | Error::Damaged(_))) => {
                vitals.trouble = Some(error.clone());
            }
            Err(_) => {}
        }
        result
    }

    async fn range(&self, range: KeyRange, limit: usize, at: Option<Revision>) -> Result<Range> {
        let core = &self.core;
        let deadline = core.deadline();
        // etcd has all keys before its first revision, and takes 0 for now.
        let at = match at {
            Some(Revision(0)) => return Err(core.compacted(Revision(0)).await),
            at => at,
        };
        let (mut start, end) = core.keys.range(&range);
        if start >= end {
            let revision = core.latest().await?;
            return Ok(Range {
                kvs: Vec::new(),
                more: false,
                count: 0,
                revision,
            });
        }
        let mut kvs = Vec::new();
        let (mut pinned, mut first) = (at, None);
        loop {
            let wanted = if limit == 0 { PAGE } else { PAGE.min(limit - kvs.len()) };
            let mut page = core.page(start, end.clone(), wanted, pinned, deadline).await?;
            let now = revision(page.header());
            let (revision, count) = *first.get_or_insert((now, page.count() as u64));
            // What follows is of the same moment.
            pinned = pinned.or(Some(revision));
            let last = page.kvs().last().map(|kv| kv.key().to_vec());
            kvs.extend(page.take_kvs().into_iter().filter_map(|kv| core.kv_of(kv)));
            let done = !page.more() || (limit > 0 && kvs.len() >= limit);
            match last {
                Some(last) if !done => {
                    start = last;
                    start.push(0);
                }
                _ => {
                    return Ok(Range {
                        more: count > kvs.len() as u64,
                        kvs,
                        count,
                        revision,
                    });
                }
            }
        }
    }

    async fn get(&self, key: Bytes) -> Result<Option<KeyValue>> {
        let doing = "reading from etcd";
        let mut kv = self.core.kv();
        let outer = self.core.keys.outer(&key);
        let read = self.core.deadline().call(doing, kv.get(outer, None)).await;
        let mut read = read.map_err(|failure| failure.plain(doing))?;
        Ok(read.take_kvs().into_iter().find_map(|kv| self.core.kv_of(kv)))
    }

    async fn revision(&self) -> Result<Revision> {
        self.core.latest().await
    }

    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Watch> {
        let core = &self.core;
        let down = || Error::Unavailable("the watch of etcd is being begun anew".to_owned());
        let Some(fed) = *core.fed.borrow() else {
            return Err(down());
        };
        if after > fed {
            let latest = core.latest().await?;
            if after > latest {
                return Err(Error::Future { asked: after, latest });
            }
        }
        let (queue, watch) = hub::queue(core.options.watch_queue);
        if core.hub.join(&range, after, &queue, false) {
            // A feed that failed meanwhile has ended those that it knew.
            return if core.fed.borrow().is_some() {
                Ok(watch)
            } else {
                Err(down())
            };
        }
        // From the revision itself on, so that etcd fails if that is compacted; it is left out afterwards.
        let stream = core.stream(after.max(Revision(1))).await?;
        task::spawn_detached(Arc::clone(core).catch_up(range, after, stream, queue));
        Ok(watch)
    }

    async fn nudge(&self) -> Result<()> {
        let core = &self.core;
        let latest = core.latest().await?;
        let mut fed = core.fed.subscribe();
        let reached = |fed: &Option<Revision>| fed.is_none_or(|fed| fed >= latest);
        if time::timeout(ON_ITS_WAY, fed.wait_for(reached)).await.is_err() {
            core.mark().await?;
            let marked = time::timeout_at(core.deadline().0, fed.wait_for(reached)).await;
            if marked.is_err() {
                return Err(Error::Unavailable("etcd does not tell how far it is".to_owned()));
            }
        }
        core.hub.nudge();
        Ok(())
    }

    async fn compact(&self, before: Revision) -> Result<()> {
        self.core.compact(before).await
    }

    async fn snapshot(&self, path: &Path) -> Result<Revision> {
        let doing = format!("writing a snapshot of etcd to {}", path.display());
        let new = NewFile::create(path, &doing)?;
        let revision = self.core.latest().await?;
        let mut client = self.core.client.maintenance_client();
        let begun = self.core.deadline().call(&doing, client.snapshot()).await;
        let mut stream = begun.map_err(|failure| failure.plain(&doing))?;
        let mut file = crate::new_file::private(new.partial()).map_err(|error| new.failed(&error))?;
        // Each piece has a deadline; how many there are is etcd's to say.
        loop {
            let piece = self.core.deadline().call(&doing, stream.message()).await;
            let Some(piece) = piece.map_err(|failure| failure.plain(&doing))? else {
                break;
            };
            let blob = piece.blob().to_vec();
            let (written, back) = tokio::task::spawn_blocking(move || (file.write_all(&blob), file))
                .await
                .map_err(|panic| Error::Unavailable(format!("{doing}: {panic}")))?;
            written.map_err(|error| new.failed(&error))?;
            file = back;
        }
        drop(file);
        tokio::task::spawn_blocking(move || new.finish())
            .await
            .map_err(|panic| Error::Unavailable(format!("{doing}: {panic}")))??;
        Ok(revision)
    }

    async fn health(&self) -> Result<Health> {
        let doing = "asking etcd for its status";
        let revision = self.core.latest().await?;
        let mut client = self.core.client.maintenance_client();
        let status = self.core.deadline().call(doing, client.status()).await;
        let status = status.map_err(|failure| failure.plain(doing))?;
        let alarms = status.errors().join("; ");
        let vitals = self.core.vitals.lock();
        let trouble = if alarms.is_empty() {
            vitals.trouble.clone()
        } else {
            Some(Error::Unavailable(alarms))
        };
        Ok(Health {
            revision,
            last_commit: vitals.committed.map(|at| at.elapsed()),
            trouble,
            bytes: status.db_size() as u64,
            max_bytes: None,
        })
    }
}
