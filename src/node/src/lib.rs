//! The node agent.

pub mod places;
pub mod pod;
pub mod probe;
