//! An address with a prefix length: an interface's address, a route's destination or a range.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// `10.0.0.7/24`: the address is kept as given, host bits included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no [`Cidr`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// There is no `/`, or what stands before or after it is no address or number.
    #[error("`{0}` is not an address with a prefix length, such as 10.244.0.0/24")]
    Malformed(String),
    /// The prefix is longer than an address of this family.
    #[error("the prefix length of `{0}` is longer than its address")]
    PrefixTooLong(String),
}

/// The two families, as the choice of a pool, a gateway or a setting goes by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The length of an address in bits.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// `0.0.0.0/0` or `::/0`.
    pub fn everything(self) -> Cidr {
        match self {
            Self::V4 => Cidr {
                address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                prefix: 0,
            },
            Self::V6 => Cidr {
                address: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                prefix: 0,
            },
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Cidr {
    /// An address with a prefix length no longer than it.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, CidrError> {
        if prefix > Family::of(address).bits() {
            return Err(CidrError::PrefixTooLong(format!("{address}/{prefix}")));
        }
        Ok(Self { address, prefix })
    }

    /// The one address as a /32 or /128.
    pub fn host(address: IpAddr) -> Self {
        Self {
            address,
            prefix: Family::of(address).bits(),
        }
    }

    /// The address, with its host bits.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The family of the address.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// The same range with its host bits zero.
    pub fn network(&self) -> Self {
        let bits = to_bits(self.address) & !self.host_mask();
        Self {
            address: from_bits(self.family(), bits),
            prefix: self.prefix,
        }
    }

    /// Whether an address is within the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family() && (to_bits(address) ^ to_bits(self.address)) & !self.host_mask() == 0
    }

    /// Whether two ranges share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The highest offset within the range: one less than the number of its addresses.
    pub fn last_offset(&self) -> u128 {
        self.host_mask()
    }

    /// The address at an offset from the start of the range.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        (offset <= self.host_mask())
            .then(|| from_bits(self.family(), (to_bits(self.address) & !self.host_mask()) | offset))
    }

    /// How far from the start of the range an address lies.
    pub fn offset_of(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| to_bits(address) & self.host_mask())
    }

    /// Ones where a host's own bits are.
    fn host_mask(&self) -> u128 {
        let host_bits = u32::from(self.family().bits() - self.prefix);
        if host_bits == 128 {
            u128::MAX
        } else {
            (1 << host_bits) - 1
        }
    }
}

fn to_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        // `u8::from_str` would take a sign.
        if !prefix.bytes().all(|b| b.is_ascii_digit()) {
            return Err(malformed());
        }
        let address = address.parse().map_err(|_| malformed())?;
        Self::new(address, prefix.parse().map_err(|_| malformed())?)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn texts_that_are_no_range_are_refused_by_name() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "/8",
            "10.0.0.0/+8",
            "10.0.0/8",
            "10.0.0.0/8/8",
            "10.0.0.0/ 8",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Malformed(text.into())), "{text}");
        }
        for text in ["10.0.0.0/33", "::/129"] {
            assert_eq!(
                text.parse::<Cidr>(),
                Err(CidrError::PrefixTooLong(text.into())),
                "{text}"
            );
        }
    }

    #[test]
    fn a_range_knows_its_network_and_its_members() {
        let range = cidr("10.244.3.9/24");
        assert_eq!(range.to_string(), "10.244.3.9/24");
        assert_eq!(range.network(), cidr("10.244.3.0/24"));
        assert!(range.contains("10.244.3.255".parse().unwrap()));
        assert!(!range.contains("10.244.4.0".parse().unwrap()));
        assert!(!range.contains("::a00:0".parse().unwrap()));
        assert_eq!(range.nth(1), Some("10.244.3.1".parse().unwrap()));
        assert_eq!(range.nth(256), None);
        assert_eq!(range.offset_of("10.244.3.7".parse().unwrap()), Some(7));
        assert_eq!(range.offset_of("10.244.4.7".parse().unwrap()), None);
    }

    #[test]
    fn the_widest_and_the_narrowest_ranges_do_not_overflow() {
        assert_eq!(cidr("::/0").last_offset(), u128::MAX);
        assert_eq!(cidr("0.0.0.0/0").last_offset(), u128::from(u32::MAX));
        assert_eq!(cidr("fd00::7/128").last_offset(), 0);
        assert_eq!(cidr("fd00::7/128").nth(0), Some("fd00::7".parse().unwrap()));
        assert_eq!(cidr("fd00::7/128").nth(1), None);
    }

    #[test]
    fn overlap_is_seen_from_either_side() {
        for (a, b, overlap) in [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/16", "10.1.0.0/16", false),
            ("::/0", "0.0.0.0/0", false),
            ("fd00::/64", "fd00::5/128", true),
        ] {
            assert_eq!(cidr(a).overlaps(&cidr(b)), overlap, "{a} {b}");
            assert_eq!(cidr(b).overlaps(&cidr(a)), overlap, "{b} {a}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits: u128, v6: bool, prefix in 0u8..=128) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let cidr = Cidr::new(from_bits(family, bits), prefix.min(family.bits())).unwrap();
            prop_assert_eq!(cidr.to_string().parse(), Ok(cidr));
            let json = serde_json::to_string(&cidr).unwrap();
            prop_assert_eq!(serde_json::from_str::<Cidr>(&json).unwrap(), cidr);
            prop_assert_eq!(cidr.network().offset_of(cidr.address()).and_then(|o| cidr.nth(o)), Some(cidr.address()));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Cidr>();
        }
    }
}
