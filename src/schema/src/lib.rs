//! The structure of API objects, as values: what validation, pruning, patches, apply and encodings go by.
//!
//! Pure: no I/O, no clock. Built-in types come from one compact table of facts, those of custom resources from their
//! definitions; whoever works on objects sees only [`Types`].
//!
//! - [`types`]: the model of a structure.

pub mod types;

pub use types::{Field, ListKind, Merge, Shape, Type, TypeId, Types};
