//! One pod's life: what to do is decided in pure modules, done by [`apply`], driven by [`worker`].

pub mod apply;
pub mod atomic_dir;
pub mod backoff;
pub mod container;
pub mod dns;
pub mod env;
pub mod hooks;
pub mod news;
pub mod observed;
pub mod orphan;
pub mod payload;
pub mod phase;
pub mod plan;
pub mod sandbox;
pub mod security;
pub mod service_env;
pub mod status;
pub mod sub_path;
pub mod verdicts;
pub mod volumes;
pub mod words;
pub mod worker;

#[cfg(test)]
pub(crate) mod fixture;
