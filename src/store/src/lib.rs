//! A revisioned key-value store with watch: embedded in this process, or etcd.
//!
//! Every committed transaction gets the next [`Revision`]; a key's history is seen in their order, by everyone. What was
//! acknowledged survives the death of the process and of the machine.
//!
//! - [`store`]: the trait [`Store`] and its vocabulary.

pub mod store;

pub use store::{
    Compare, Error, Event, KeyRange, KeyValue, Op, Range, Result, Revision, Store, Txn, Watch, WatchBatch,
};
