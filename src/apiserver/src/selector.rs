//! Which objects a list or watch is about: by their labels, or by a few of their fields.

pub mod field;
pub mod label;

pub use field::{FieldSelector, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement};
