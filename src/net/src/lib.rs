//! Links, addresses, routes and namespaces by netlink; address allocation.
//!
//! Used by `bosun-cni` (one synchronous process per call) and by the agent. Nothing here outlives a call, except the one
//! task of a [`node::NodeNet`], which drives the agent's netlink socket and ends with it.
//!
//! - Pure: [`cidr`], [`names`], [`message`] and its vocabulary [`link`], [`addr`], [`neighbour`], [`route`] (requests as
//!   values, bytes and descriptions), [`wire::Wire`] (what a pod's wire asks of the kernel), [`wire::verify`],
//!   [`sweep::plan`] (what killed processes left), [`config::conflist`].
//! - The kernel: [`socket`] (blocking netlink), [`netns`], [`sysctl`], [`wire::connect`], [`underlay`], [`deadline`].
//! - Files: [`ipam`] (the addresses given out, one record each), [`config`] (what the runtime reads).
//! - With the feature `async`, for the agent: [`node`], through rtnetlink.

pub mod addr;
pub mod cidr;
pub mod config;
pub mod deadline;
pub mod ipam;
pub mod link;
pub mod message;
pub mod names;
pub mod neighbour;
pub mod netns;
#[cfg(feature = "async")]
pub mod node;
pub mod route;
pub mod socket;
pub mod sweep;
pub mod sysctl;
pub mod underlay;
pub mod wire;

pub use cidr::{Cidr, Family};
pub use names::Attachment;
pub use underlay::node_addresses;
