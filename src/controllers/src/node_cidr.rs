//! Gives each node ranges of addresses for its pods, one of each family, out of the cluster's.
//!
//! [`Pool`] is pure: which range is the first that is free. What is there is what nodes have; what was given and has
//! not been heard of yet is remembered until it has.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use async_trait::async_trait;
use bosun_client::{Change, ObjectKey, call::call, events::Type};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;

use crate::{
    config::Cidr,
    runtime::{Context, Controller, Done, SyncError, Watches},
};

/// A cluster's range, in parts of the size of a node's.
#[derive(Debug)]
struct Pool {
    /// The first address.
    first: u128,
    /// Bits of an address.
    bits: u8,
    /// Bits of a node's network.
    prefix: u8,
    /// How many parts there are.
    parts: u128,
    /// Parts that are taken.
    taken: HashSet<u128>,
    /// Where to look next: a range is not given again soon after it was returned.
    next: u128,
}

impl Pool {
    fn new(cidr: Cidr, prefix: u8) -> Option<Self> {
        let (address, bits) = number(cidr.address);
        (cidr.prefix <= prefix && prefix <= bits).then(|| {
            let first = address & !mask(bits - cidr.prefix);
            Self {
                first,
                bits,
                prefix,
                parts: 1_u128.checked_shl(u32::from(prefix - cidr.prefix)).unwrap_or(u128::MAX),
                taken: HashSet::new(),
                next: 0,
            }
        })
    }

    fn take(&mut self) -> Option<String> {
        if self.taken.len() as u128 >= self.parts {
            return None;
        }
        while self.taken.contains(&self.next) {
            self.next = (self.next + 1) % self.parts;
        }
        let part = self.next;
        self.taken.insert(part);
        self.next = (part + 1) % self.parts;
        let address = self.first + (part << (self.bits - self.prefix));
        let address = if self.bits == 32 {
            IpAddr::V4(Ipv4Addr::from_bits(address as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(address))
        };
        Some(format!("{address}/{}", self.prefix))
    }

    /// Parts that a range covers; empty if it isn't of this pool.
    fn parts_of(&self, range: &str) -> Option<std::ops::RangeInclusive<u128>> {
        let (address, prefix) = range.split_once('/')?;
        let (address, bits) = number(address.parse().ok()?);
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= bits)?;
        if bits != self.bits {
            return None;
        }
        let size = bits - self.prefix;
        let first = address & !mask(bits - prefix);
        let last = first | mask(bits - prefix);
        let end = self.first + ((self.parts - 1) << size) + mask(size);
        if last < self.first || first > end {
            return None;
        }
        Some((first.max(self.first) - self.first) >> size..=(last.min(end) - self.first) >> size)
    }

    fn mark(&mut self, range: &str, taken: bool) {
        for part in self.parts_of(range).into_iter().flatten().take(1 << 20) {
            if taken {
                self.taken.insert(part);
            } else {
                self.taken.remove(&part);
            }
        }
    }
}

fn number(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// So many bits, all set.
fn mask(bits: u8) -> u128 {
    1_u128.checked_shl(bits.into()).map_or(u128::MAX, |bit| bit - 1)
}

/// All pools, and what each node has of them.
#[derive(Debug, Default)]
struct Ranges {
    pools: Vec<Pool>,
    given: HashMap<String, Vec<String>>,
}

impl Ranges {
    fn new(cidrs: &[Cidr], prefix_v4: u8, prefix_v6: u8) -> Self {
        let pools = cidrs.iter().filter_map(|cidr| {
            let prefix = if cidr.address.is_ipv4() { prefix_v4 } else { prefix_v6 };
            Pool::new(*cidr, prefix)
        });
        Self {
            pools: pools.collect(),
            given: HashMap::new(),
        }
    }

    /// A node has these ranges.
    fn has(&mut self, node: &str, ranges: &[String]) {
        if self.given.get(node).is_some_and(|given| given == ranges) {
            return;
        }
        self.returned(node);
        for range in ranges {
            self.pools.iter_mut().for_each(|pool| pool.mark(range, true));
        }
        self.given.insert(node.to_owned(), ranges.to_vec());
    }

    /// A node is gone.
    fn returned(&mut self, node: &str) {
        for range in self.given.remove(node).unwrap_or_default() {
            self.pools.iter_mut().for_each(|pool| pool.mark(&range, false));
        }
    }

    /// Ranges for a node that has none: the same again as long as it was not heard of to have them. `None` if a pool
    /// has no more.
    fn give(&mut self, node: &str) -> Option<Vec<String>> {
        if let Some(given) = self.given.get(node) {
            return Some(given.clone());
        }
        let taken: Vec<_> = self.pools.iter_mut().map(Pool::take).collect();
        let complete = taken.iter().all(Option::is_some);
        let ranges: Vec<_> = taken.into_iter().flatten().collect();
        if complete {
            self.given.insert(node.to_owned(), ranges.clone());
            return Some(ranges);
        }
        for range in &ranges {
            self.pools.iter_mut().for_each(|pool| pool.mark(range, false));
        }
        None
    }
}

/// Gives nodes their ranges. Its keys are their names.
#[derive(Debug)]
pub struct NodeCidrs {
    context: Context,
    ranges: Arc<Mutex<Ranges>>,
}

impl NodeCidrs {
    /// Under the identity of the context's client.
    pub fn new(context: &Context) -> Self {
        let config = &context.config;
        let ranges = Ranges::new(&config.cluster_cidrs, config.node_prefix_v4, config.node_prefix_v6);
        Self {
            ranges: Arc::new(Mutex::new(ranges)),
            context: context.clone(),
        }
    }
}

#[async_trait]
impl Controller for NodeCidrs {
    type Key = String;

    fn name(&self) -> &'static str {
        "node-ipam"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<String>) {
        let ranges = self.ranges.clone();
        watches.on(&self.context.informers.nodes, move |change| {
            let node = change.object();
            let name = node.name_any();
            match change {
                Change::Deleted(_) => {
                    ranges.lock().returned(&name);
                    None
                }
                _ if node.spec.pod_cidrs.is_empty() => Some(name),
                _ => {
                    ranges.lock().has(&name, &node.spec.pod_cidrs);
                    None
                }
            }
        });
        // What every node has must be known before any is given more.
        let (ranges, nodes) = (self.ranges.clone(), self.context.informers.nodes.clone());
        watches.until(async move {
            nodes.synced().await;
            for node in nodes.list().iter().filter(|node| !node.spec.pod_cidrs.is_empty()) {
                ranges.lock().has(&node.name_any(), &node.spec.pod_cidrs);
            }
        });
    }

    async fn sync(&self, name: &String) -> Result<Done, SyncError> {
        let node = self.context.informers.nodes.get(&ObjectKey::cluster(name));
        let Some(node) = node.filter(|node| node.spec.pod_cidrs.is_empty()) else {
            return Ok(Done::Settled);
        };
        if self.context.config.cluster_cidrs.is_empty() {
            return Ok(Done::Settled);
        }
        let given = self.ranges.lock().give(name);
        let Some(ranges) = given else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.context
                .recorder
                .event(&node.object_ref(&()), Type::Normal, "CIDRNotAvailable", message);
            return Err(SyncError::Other(
                "no range of addresses is left for the node".to_owned(),
            ));
        };
        let change = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
        });
        let api: Api<core::Node> = Api::all(self.context.client.clone());
        match call(api.patch(name, &PatchParams::default(), &Patch::Merge(change))).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Done::Settled),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        let (address, prefix) = text.split_once('/').expect("a range");
        Cidr {
            address: address.parse().expect("an address"),
            prefix: prefix.parse().expect("a number"),
        }
    }

    fn ranges(cidrs: &[&str]) -> Ranges {
        let cidrs: Vec<_> = cidrs.iter().map(|text| cidr(text)).collect();
        Ranges::new(&cidrs, 24, 64)
    }

    #[test]
    fn nodes_get_ranges_of_both_families_and_keep_them() {
        let mut ranges = ranges(&["10.42.0.0/16", "fd42::/48"]);
        ranges.has("old", &["10.42.0.0/24".to_owned(), "fd42::/64".to_owned()]);
        assert_eq!(ranges.give("a").expect("free"), ["10.42.1.0/24", "fd42:0:0:1::/64"]);
        assert_eq!(ranges.give("a").expect("given"), ["10.42.1.0/24", "fd42:0:0:1::/64"]);
        assert_eq!(ranges.give("b").expect("free"), ["10.42.2.0/24", "fd42:0:0:2::/64"]);
        // A range that was returned is not given again at once.
        ranges.returned("a");
        assert_eq!(ranges.give("c").expect("free"), ["10.42.3.0/24", "fd42:0:0:3::/64"]);
    }

    #[test]
    fn a_pool_that_is_used_up_gives_nothing_until_something_is_returned() {
        let mut ranges = ranges(&["10.42.0.0/23"]);
        assert!(ranges.give("a").is_some() && ranges.give("b").is_some());
        assert_eq!(ranges.give("c"), None);
        ranges.returned("a");
        assert_eq!(ranges.give("c").expect("free"), ["10.42.0.0/24"]);
    }

    #[test]
    fn whatever_a_node_has_is_not_given_to_another() {
        let mut ranges = ranges(&["10.42.0.0/16"]);
        // Of another size, of another pool, and nonsense.
        ranges.has("large", &["10.42.0.0/22".to_owned()]);
        ranges.has(
            "other",
            &[
                "10.9.0.0/24".to_owned(),
                "fd00::/64".to_owned(),
                "x/99".to_owned(),
                String::new(),
            ],
        );
        assert_eq!(ranges.give("a").expect("free"), ["10.42.4.0/24"]);
        ranges.has("small", &["10.42.5.7/32".to_owned()]);
        assert_eq!(ranges.give("b").expect("free"), ["10.42.6.0/24"]);
    }

    #[test]
    fn a_range_for_nodes_larger_than_the_clusters_makes_no_pool() {
        assert!(Pool::new(cidr("10.42.0.0/28"), 24).is_none());
        assert!(Pool::new(cidr("10.42.0.0/16"), 33).is_none());
        assert!(Pool::new(cidr("::/0"), 128).is_some());
    }
}
