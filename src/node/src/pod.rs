//! One pod's life: what to do is decided in pure modules, done by [`apply`], driven by [`worker`].

pub mod backoff;
pub mod env;
pub mod hooks;
pub mod observed;
pub mod phase;
pub mod plan;
pub mod security;
pub mod status;

#[cfg(test)]
mod fixture;
