//! A revisioned key-value store with watch: embedded in this process, or etcd.
//!
//! Every committed transaction gets the next [`Revision`]; a key's history is seen in their order, by everyone. What was
//! acknowledged survives the death of the process and of the machine.
//!
//! - [`store`]: the trait [`Store`] and its vocabulary.
//! - [`embedded`]: an engine over `SQLite`, for one server: threads for writing and reading, group commit, checksums.
//! - [`etcd`]: an engine over etcd v3, for several.
//! - `hub`: both engines' way from what was committed to the watchers, in order, holding none for another.

pub mod embedded;
pub mod etcd;
mod hub;
mod new_file;
pub mod store;
mod task;

use std::sync::Arc;

pub use embedded::Embedded;
pub use etcd::Etcd;
pub use store::{
    Compare, Error, Event, Health, KeyRange, KeyValue, Op, Range, Result, Revision, Store, Txn, Watch, WatchBatch,
};

/// Which engine, with its settings.
#[derive(Clone, Debug)]
pub enum Engine {
    /// For one server.
    Embedded(embedded::Options),
    /// For several.
    Etcd(etcd::Options),
}

/// Opens the store.
pub async fn open(engine: Engine) -> Result<Arc<dyn Store>> {
    Ok(match engine {
        Engine::Embedded(options) => Embedded::open(options).await?,
        Engine::Etcd(options) => Etcd::open(options).await?,
    })
}
