//! Links, addresses, routes and namespaces by netlink; address allocation.
//!
//! Who uses it: `bosun-cni` (one synchronous process per call) and the agent. Nothing here outlives a call, except
//!
//!
//! - Pure: [`cidr`], [`names`], [`message`] and its vocabulary [`link`], [`addr`], [`neighbour`], [`route`] (requests as
//!   values, bytes and descriptions), [`wire::Wire`] (what a pod's wire asks of the kernel), [`wire::verify`],
//!   [`config`].
//! - The kernel: [`socket`] (blocking netlink), [`netns`], [`sysctl`], [`wire::connect`], [`deadline`].
//! - Files: [`ipam`], the addresses given out, one record each.

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
pub mod route;
pub mod socket;
pub mod sysctl;
pub mod wire;

pub use cidr::{Cidr, Family};
pub use names::Attachment;
