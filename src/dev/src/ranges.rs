//! A cluster's addresses: one /16 of IPv4 that nothing else on this machine uses. Pure.
//!
//! | range of `10.200.0.0/16` | for |
//! |---|---|
//! | `10.200.0.0/17` | pods: a /24 for each node, as the control plane gives them out |
//! | `10.200.128.0/18` | Services |
//! | `10.200.255.0/24` | machines: `.1` the switch, `.2` the server, `.11` and on the nodes, `.254` this machine |

use std::net::{IpAddr, Ipv4Addr};

use bosun_net::{Cidr, Family};

/// More nodes than one machine can bear.
pub const MOST_NODES: u8 = 100;

/// The prefix length of a cluster's range.
const PREFIX: u8 = 16;

/// Nodes' addresses begin after this one.
const BEFORE_NODES: u8 = 10;

/// What a cluster's addresses are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ranges {
    whole: Cidr,
}

impl Ranges {
    /// Of this range; `None` unless it is a /16 of IPv4.
    pub fn of(whole: Cidr) -> Option<Self> {
        let fits = whole.family() == Family::V4 && whole.prefix() == PREFIX && whole.network() == whole;
        fits.then_some(Self { whole })
    }

    /// All of it.
    pub fn whole(&self) -> Cidr {
        self.whole
    }

    fn part(&self, third: u8, prefix: u8) -> Cidr {
        Cidr::new(self.address(third, 0), prefix).expect("a prefix of IPv4")
    }

    fn address(&self, third: u8, fourth: u8) -> IpAddr {
        let offset = u128::from(third) << 8 | u128::from(fourth);
        self.whole.nth(offset).expect("a /16 has as many")
    }

    /// Pods of all nodes.
    pub fn pods(&self) -> Cidr {
        self.part(0, 17)
    }

    /// Services.
    pub fn services(&self) -> Cidr {
        self.part(128, 18)
    }

    /// Machines: an address with the prefix length of all of theirs.
    pub fn on_the_switch(address: IpAddr) -> Cidr {
        Cidr::new(address, 24).expect("a prefix of IPv4")
    }

    /// The switch, which everything goes by that is not for a machine.
    pub fn switch(&self) -> IpAddr {
        self.address(255, 1)
    }

    /// The server.
    pub fn server(&self) -> IpAddr {
        self.address(255, 2)
    }

    /// A node, counted from 1.
    pub fn node(&self, number: u8) -> IpAddr {
        self.address(255, BEFORE_NODES + number)
    }

    /// This machine.
    pub fn host(&self) -> IpAddr {
        self.address(255, 254)
    }
}

/// A range for a new cluster that overlaps none of those `taken`. Clusters of different ids begin to look at different
/// places; the ranges that well-known programs use without showing them in the routing table are passed over.
pub fn choose(id: &str, taken: &[Cidr]) -> Option<Ranges> {
    let start = id.bytes().fold(0_usize, |sum, byte| sum * 31 + usize::from(byte));
    let all = [(10, 200..240_u8), (172, 20..32), (100, 64..128), (10, 140..200)];
    all.into_iter().find_map(|(first, second)| {
        let candidates: Vec<u8> = second.collect();
        let count = candidates.len();
        (0..count).find_map(|step| {
            let second = candidates[(start + step) % count];
            let address = Ipv4Addr::new(first, second, 0, 0);
            let whole = Cidr::new(address.into(), PREFIX).ok()?;
            let free = !taken.iter().any(|other| other.overlaps(&whole));
            free.then_some(Ranges { whole })
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn the_parts_of_a_range_do_not_overlap() {
        let ranges = Ranges::of(cidr("10.200.0.0/16")).unwrap();
        assert_eq!(ranges.server().to_string(), "10.200.255.2");
        assert_eq!(ranges.node(1).to_string(), "10.200.255.11");
        assert_eq!(ranges.services(), cidr("10.200.128.0/18"));
        let machines = Ranges::on_the_switch(ranges.switch()).network();
        let parts = [ranges.pods(), ranges.services(), machines];
        for (at, part) in parts.iter().enumerate() {
            assert!(ranges.whole().contains(part.address()));
            assert!(parts.iter().skip(at + 1).all(|other| !part.overlaps(other)), "{part}");
        }
        let mut addresses = vec![ranges.switch(), ranges.server(), ranges.host()];
        for number in 1..=MOST_NODES {
            addresses.push(ranges.node(number));
        }
        assert!(addresses.iter().all(|address| machines.contains(*address)));
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), usize::from(MOST_NODES) + 3);
    }

    #[test]
    fn only_a_sixteenth_of_ipv4_makes_ranges() {
        for text in ["10.0.0.0/15", "10.0.0.0/17", "10.1.2.0/16", "fd00::/16"] {
            assert_eq!(Ranges::of(cidr(text)), None, "{text}");
        }
    }

    #[test]
    fn where_everything_is_taken_there_is_none() {
        assert_eq!(choose("abcdef", &[cidr("0.0.0.0/0")]), None);
        let ten = choose("abcdef", &[cidr("10.0.0.0/8")]).unwrap();
        assert!(cidr("172.16.0.0/12").contains(ten.whole().address()), "{ten:?}");
    }

    proptest! {
        #[test]
        fn a_chosen_range_overlaps_none_that_is_taken(
            id in "[a-z2-9]{6}",
            taken in proptest::collection::vec((any::<u32>(), 4_u8..=32), 0..40),
        ) {
            let taken: Vec<Cidr> = taken
                .into_iter()
                .map(|(bits, prefix)| Cidr::new(Ipv4Addr::from_bits(bits).into(), prefix).unwrap().network())
                .collect();
            if let Some(ranges) = choose(&id, &taken) {
                prop_assert!(taken.iter().all(|other| !other.overlaps(&ranges.whole())));
                prop_assert_eq!(Ranges::of(ranges.whole()), Some(ranges));
            }
        }

        #[test]
        fn two_clusters_never_share_a_range(ids in proptest::collection::vec("[a-z2-9]{6}", 2..30)) {
            let mut taken: Vec<Cidr> = Vec::new();
            for id in ids {
                let ranges = choose(&id, &taken).expect("there are more than thirty");
                prop_assert!(taken.iter().all(|other| !other.overlaps(&ranges.whole())));
                taken.push(ranges.whole());
            }
        }
    }
}
