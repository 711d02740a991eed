//! The node agent.

pub mod pod;
