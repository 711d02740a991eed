//! `bosun dev`: clusters of several nodes on this machine, made, broken, repaired and taken away.
//!
//! Every test has a cluster of its own and ends with [`bosun_testkit::Cluster::finish`]: taken down, nothing of it may
//! be left on the machine.

mod commands;
mod kills;
mod kubectl;
mod life;
mod pods;
mod top;
