//! The batch group: work that ends.

pub(crate) mod cron;
pub(crate) mod job;
pub mod schedule;

#[cfg(test)]
mod tests;
