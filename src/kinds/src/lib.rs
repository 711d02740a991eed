//! What is particular to each built-in kind: its defaults, what a valid object is, what an update may change, what a
//! table of them shows. Pure: `now` and all else from outside is passed in.
//!
//! - [`strategy`]: what the API server asks of a kind.

pub mod strategy;

pub use strategy::{Context, Outcome, Strategy};
