//! The batch group: work that ends.

pub(crate) mod cron;
pub(crate) mod job;

#[cfg(test)]
mod tests;
