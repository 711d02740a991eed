//! Clusters on one machine: each node a network namespace with its own containerd and agent.
//!
//! ```text
//!  this machine's namespace        fabric (a namespace: a switch, and the router between pod ranges)
//!  ┌───────────────────────┐      ┌──────────────────────────────────────┐
//!  │ kubectl, bdev-ID .254 ┼──────┤ host   switch .1   server  node-1  … │
//!  └───────────────────────┘      └──────────────────────┼───────┼───────┘
//!                                        server .2 ──────┘       └────── node-1 .11: agent ─▶ containerd ─▶ pods
//! ```
//!
//! Nothing of ours stays to watch over a cluster: [`up`] makes what is missing and ends, [`down`] takes away what is
//! there and ends; both may be killed at any moment and run again. What was chosen stands in one file
//! ([`record`]); what is there is asked of the kernel each time. A cluster is known by its directory, from whose path its
//! [id](layout::Layout::id) is computed: by it its cgroups, its link on this machine and its mounts are found, even when
//! the record is gone. Every process of a cluster is born in one of the cluster's cgroups, so those are all its
//! processes, whoever started them.
//!
//! - Pure: [`layout`] (names and places), [`ranges`] (addresses, the choice of a free range).
//! - The machine: [`fabric`] (namespaces, links, routes), [`cgroup`], [`process`].
//! - What one asks for: [`up`], [`load`], [`exec`], [`status`], [`down`]; [`progress`] says what takes long.
//!
//! No tasks outlive a call. Whoever changes a cluster holds the lock of its directory ([`lock`]).

pub mod cgroup;
pub mod down;
pub mod exec;
pub mod fabric;
pub mod layout;
pub mod load;
pub mod lock;
pub mod process;
pub mod progress;
pub mod ranges;
pub mod record;
pub mod requirements;
pub mod status;
pub mod up;

mod api;

pub use layout::Layout;
pub use progress::Progress;
