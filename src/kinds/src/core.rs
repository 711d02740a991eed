//! The core group, and what is stored with it: events in their newer version.

pub(crate) mod binding;
pub(crate) mod config;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod quota;
pub(crate) mod replication;
pub(crate) mod service;
pub(crate) mod volume;
