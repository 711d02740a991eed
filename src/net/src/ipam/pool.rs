//! The addresses of a range that pods may have. Pure.

use std::net::IpAddr;

use crate::cidr::{Cidr, Family};

/// A range for pods: without its network address, the node's own (the first) and, for IPv4, the broadcast address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    range: Cidr,
}

/// Why a range is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// There is no room for a pod.
    #[error("range {0} has no address left for a pod after the network's and the node's own")]
    TooSmall(Cidr),
    /// The text names an address within the range.
    #[error("range {given} has bits set beyond its prefix: did you mean {meant}?")]
    HostBits {
        /// As given.
        given: Cidr,
        /// With these bits zero.
        meant: Cidr,
    },
    /// No pod may have such an address.
    #[error("range {0} is not for hosts: it is loopback, link-local, multicast or unspecified")]
    NotForHosts(Cidr),
}

const RESERVED_AT_START: u128 = 2;

impl Pool {
    /// The pool of a range.
    pub fn new(range: Cidr) -> Result<Self, PoolError> {
        if range.network() != range {
            return Err(PoolError::HostBits {
                given: range,
                meant: range.network(),
            });
        }
        let special = match range.address() {
            IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_unspecified(),
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified()
            }
        };
        if special {
            return Err(PoolError::NotForHosts(range));
        }
        let pool = Self { range };
        if range.last_offset() < RESERVED_AT_START + pool.reserved_at_end() {
            return Err(PoolError::TooSmall(range));
        }
        Ok(pool)
    }

    /// The whole range.
    pub fn range(&self) -> Cidr {
        self.range
    }

    /// Its family.
    pub fn family(&self) -> Family {
        self.range.family()
    }

    /// The node's own address on its pods' wires.
    pub fn node_address(&self) -> IpAddr {
        self.range.nth(1).expect("a pool has more than two addresses")
    }

    /// How many pods it has room for.
    pub fn usable(&self) -> u128 {
        // At most 2^128 - 2: the two at the start are taken off.
        self.range.last_offset() - self.reserved_at_end() - RESERVED_AT_START + 1
    }

    /// The address of a place between 0 and [`Pool::usable`].
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        if index < self.usable() {
            self.range.nth(index + RESERVED_AT_START)
        } else {
            None
        }
    }

    /// The place of an address.
    pub fn index_of(&self, address: IpAddr) -> Option<u128> {
        let index = self.range.offset_of(address)?.checked_sub(RESERVED_AT_START)?;
        (index < self.usable()).then_some(index)
    }

    /// Whether a pod may have this address of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.index_of(address).is_some()
    }

    fn reserved_at_end(&self) -> u128 {
        match self.family() {
            Family::V4 => 1,
            Family::V6 => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool(text: &str) -> Result<Pool, PoolError> {
        Pool::new(text.parse().unwrap())
    }

    #[test]
    fn pods_get_neither_the_networks_nor_the_nodes_nor_the_broadcast_address() {
        for (range, usable, node, first, last) in [
            ("10.244.1.0/24", 253, "10.244.1.1", "10.244.1.2", "10.244.1.254"),
            ("10.244.1.4/30", 1, "10.244.1.5", "10.244.1.6", "10.244.1.6"),
            ("fd00::/126", 2, "fd00::1", "fd00::2", "fd00::3"),
            (
                "fd00::/64",
                (1u128 << 64) - 2,
                "fd00::1",
                "fd00::2",
                "fd00::ffff:ffff:ffff:ffff",
            ),
        ] {
            let pool = pool(range).unwrap();
            assert_eq!(pool.usable(), usable, "{range}");
            assert_eq!(pool.node_address(), node.parse::<IpAddr>().unwrap(), "{range}");
            assert_eq!(pool.nth(0), Some(first.parse().unwrap()), "{range}");
            assert_eq!(pool.nth(usable - 1), Some(last.parse().unwrap()), "{range}");
            assert_eq!(pool.nth(usable), None, "{range}");
            assert!(!pool.contains(node.parse().unwrap()), "{range}");
        }
    }

    #[test]
    fn ranges_of_no_use_are_refused_with_the_reason() {
        for (range, told) in [
            (
                "10.0.0.0/31",
                "range 10.0.0.0/31 has no address left for a pod after the network's and the node's own",
            ),
            (
                "10.0.0.0/32",
                "range 10.0.0.0/32 has no address left for a pod after the network's and the node's own",
            ),
            (
                "fd00::/127",
                "range fd00::/127 has no address left for a pod after the network's and the node's own",
            ),
            (
                "10.0.0.1/24",
                "range 10.0.0.1/24 has bits set beyond its prefix: did you mean 10.0.0.0/24?",
            ),
            (
                "127.0.0.0/8",
                "range 127.0.0.0/8 is not for hosts: it is loopback, link-local, multicast or unspecified",
            ),
            (
                "fe80::/64",
                "range fe80::/64 is not for hosts: it is loopback, link-local, multicast or unspecified",
            ),
            (
                "0.0.0.0/0",
                "range 0.0.0.0/0 is not for hosts: it is loopback, link-local, multicast or unspecified",
            ),
        ] {
            assert_eq!(pool(range).unwrap_err().to_string(), told);
        }
    }

    proptest! {
        #[test]
        fn places_and_addresses_are_each_others_inverse(prefix in 8u8..=30, index: u32) {
            let pool = pool(&format!("10.0.0.0/{prefix}")).unwrap();
            let index = u128::from(index) % pool.usable();
            prop_assert_eq!(pool.nth(index).and_then(|a| pool.index_of(a)), Some(index));
        }
    }
}
