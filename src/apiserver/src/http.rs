//! Requests and answers.
//!
//! Pure: [`target`] (what a path and a method mean), [`query`], [`negotiate`] (in which form an answer is wanted and a body
//! comes). [`body`]: what is sent, and how what comes is read without being overwhelmed.

pub mod body;
pub mod negotiate;
pub mod query;
pub mod target;
