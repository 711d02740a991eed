//! A range of addresses that Services get theirs from. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// A range, written `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpRange {
    /// The network's own address.
    base: IpAddr,
    prefix: u8,
}

/// Why a text is no [`IpRange`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a range of addresses such as 10.96.0.0/16, with room for at least two")]
pub struct IpRangeError(String);

impl FromStr for IpRange {
    type Err = IpRangeError;

    fn from_str(text: &str) -> Result<Self, IpRangeError> {
        let wrong = || IpRangeError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > bits(address) - 2 {
            return Err(wrong());
        }
        let range = Self { base: address, prefix };
        let base = number(address) & !range.hosts();
        Ok(Self {
            base: address_of(base, address.is_ipv6()),
            prefix,
        })
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv6() { 128 } else { 32 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(number: u128, six: bool) -> IpAddr {
    if six {
        Ipv6Addr::from_bits(number).into()
    } else {
        Ipv4Addr::from_bits(number as u32).into()
    }
}

impl IpRange {
    /// Whether its addresses are of IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.base.is_ipv6()
    }

    /// `IPv4` or `IPv6`.
    pub fn family(&self) -> &'static str {
        family(self.base)
    }

    /// The bits that tell its addresses apart.
    fn hosts(&self) -> u128 {
        let bits = bits(self.base) - self.prefix;
        1u128.checked_shl(bits.into()).map_or(u128::MAX, |size| size - 1)
    }

    /// How many addresses there are to give: neither the network's own nor the broadcast address.
    fn count(&self) -> u128 {
        if self.is_ipv6() { self.hosts() } else { self.hosts() - 1 }
    }

    /// The first address: the API server's own Service has it.
    pub fn first(&self) -> IpAddr {
        self.nth(0)
    }

    /// The address this far after the first.
    fn nth(&self, offset: u128) -> IpAddr {
        address_of(number(self.base) + 1 + offset, self.is_ipv6())
    }

    /// Whether it is an address to give.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv6() == self.is_ipv6()
            && number(address)
                .checked_sub(number(self.base) + 1)
                .is_some_and(|offset| offset < self.count())
    }

    /// A free address other than the first: at random from the upper part, as long as there is one there; the lower part is
    /// for those that users choose (KEP-3070).
    pub fn choose(&self, is_taken: impl Fn(IpAddr) -> bool, mut random: impl FnMut(u128) -> u128) -> Option<IpAddr> {
        let count = self.count();
        let lower = (count / 16).clamp(16, 256);
        let lower = if count <= lower { 1 } else { lower };
        for (from, to) in [(lower, count), (1, lower)] {
            if to <= from {
                continue;
            }
            let start = random(to - from);
            let offsets = (0..to - from).map(|step| from + (start + step) % (to - from));
            // Of consecutive addresses not more can be taken than there are Services.
            if let Some(free) = offsets
                .map(|offset| self.nth(offset))
                .find(|address| !is_taken(*address))
            {
                return Some(free);
            }
        }
        None
    }
}

/// `IPv4` or `IPv6`.
pub fn family(address: IpAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn range(text: &str) -> IpRange {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_is_read_and_knows_its_own() {
        assert_eq!(range("10.96.7.9/16").to_string(), "10.96.0.0/16");
        assert_eq!(range("10.96.0.0/16").first().to_string(), "10.96.0.1");
        assert_eq!(range("fd00::/108").first().to_string(), "fd00::1");
        for text in [
            "10.0.0.0",
            "10.0.0.0/31",
            "fd00::/127",
            "x/8",
            "10.0.0.0/-1",
            "10.0.0.0/33",
        ] {
            assert!(text.parse::<IpRange>().is_err(), "{text}");
        }
        let table = [
            ("10.0.0.0", false),
            ("10.0.0.1", true),
            ("10.0.0.254", true),
            ("10.0.0.255", false),
            ("10.0.1.1", false),
            ("9.255.255.255", false),
            ("fd00::1", false),
        ];
        for (address, expected) in table {
            assert_eq!(
                range("10.0.0.0/24").contains(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
        assert!(range("::/0").contains("ffff::1".parse().unwrap()));
    }

    #[test]
    fn addresses_are_given_from_above_first_and_never_the_first_one() {
        let range = range("10.0.0.0/24");
        let mut taken = BTreeSet::new();
        while let Some(address) = range.choose(
            |one| taken.contains(&one),
            |below| u128::from(fastrand::u64(..below as u64)),
        ) {
            let upper = address >= "10.0.0.17".parse::<IpAddr>().unwrap();
            assert_eq!(upper, taken.len() < 238, "{address} after {}", taken.len());
            assert!(taken.insert(address));
        }
        assert_eq!(taken.len(), 253);
        assert!(!taken.contains(&range.first()));
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_in_the_range_and_free(prefix in 20u8..=30, seed in any::<u64>(), taken in prop::collection::btree_set(any::<u16>(), 0..40)) {
            let range: IpRange = format!("10.1.0.0/{prefix}").parse().unwrap();
            let taken: BTreeSet<IpAddr> = taken.into_iter().map(|low| Ipv4Addr::from_bits(0x0a01_0000 | u32::from(low)).into()).collect();
            let mut random = fastrand::Rng::with_seed(seed);
            if let Some(address) = range.choose(|one| taken.contains(&one), |below| u128::from(random.u64(..below as u64))) {
                prop_assert!(range.contains(address) && !taken.contains(&address) && address != range.first());
            }
        }

        #[test]
        fn any_text_is_a_range_or_not(text in ".{0,30}|[0-9a-f:.]{0,20}/[0-9]{0,3}") {
            if let Ok(range) = text.parse::<IpRange>() {
                prop_assert!(range.contains(range.first()));
            }
        }
    }
}
