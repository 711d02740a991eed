//! Links: requests and what the kernel tells of them. Pure.

use std::os::fd::RawFd;

use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    link::{
        AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InetDevConf, InfoData, InfoKind, InfoVeth,
        LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    },
};

use crate::message::Request;

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A veth pair to be made: one end here, the other born in another namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Its hardware address. A set one (unlike a random one) is left alone by udev.
    pub mac: Mac,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// Hardware address of the other end.
    pub peer_mac: Mac,
    /// An open file of the namespace the other end is born in.
    pub peer_netns: RawFd,
    /// The MTU of both.
    pub mtu: u32,
}

/// Makes a veth pair, both ends down: see [`settle`] for what an end that is up without the other would cost.
pub fn veth(veth: &Veth<'_>) -> Request {
    // One queue each: the kernel's default is one per possible CPU, allocated for every pod.
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(veth.peer_name.to_owned()),
        LinkAttribute::Address(veth.peer_mac.0.to_vec()),
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::NetNsFd(veth.peer_netns),
    ];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(veth.name.to_owned()),
        LinkAttribute::Address(veth.mac.0.to_vec()),
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    Request::create(Message::NewLink(link))
}

/// Makes the host end of a pod's wire a router's interface: an alias that names the pod; forwarding; packets accepted
/// only from the pod's own addresses (strict reverse path); no IPv6 address of the kernel's choosing. And brings it up.
pub fn set_up_host_end(name: &str, alias: &str, ipv6: bool) -> Request {
    let mut conf = InetDevConf::default();
    conf.forwarding = 1;
    conf.rp_filter = 1;
    let mut families = vec![AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(conf)])];
    if ipv6 {
        families.push(AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
            In6AddrGenMode::None,
        )]));
    }
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::IfAlias(alias.to_owned()),
        LinkAttribute::AfSpecUnspec(families),
    ];
    Request::plain(Message::SetLink(link))
}

/// Makes a bridge: a switch that links are plugged into by [`plug`]. It is made down.
pub fn bridge(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]),
    ];
    Request::create(Message::NewLink(link))
}

/// Plugs a link into a bridge and brings it up.
pub fn plug(index: u32, bridge: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![LinkAttribute::Controller(bridge)];
    Request::plain(Message::SetLink(link))
}

/// Gives a link an alias, which people read in `ip link`.
pub fn set_alias(index: u32, alias: &str) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes = vec![LinkAttribute::IfAlias(alias.to_owned())];
    Request::plain(Message::SetLink(link))
}

/// Brings a link up.
pub fn up(index: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    Request::plain(Message::SetLink(link))
}

/// Index of `lo`, the same in every namespace.
pub const LOOPBACK: u32 = 1;

/// Asks for one link by name.
pub fn get(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    Request::plain(Message::GetLink(link))
}

/// Asks for one link by index.
pub fn get_by_index(index: u32) -> Request {
    let mut link = LinkMessage::default();
    link.header.index = index;
    link.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    Request::plain(Message::GetLink(link))
}

/// Makes the kernel act at once upon a change of the carrier, as it does (since 6.8) before it tells of a link. Of one that
/// has come it would else do so a moment later, and drop what is sent by the link until then. A new link lost its carrier
/// when it was made: that costs nothing while it is down, but for one that is up the kernel waits until no processor uses
/// its queue any more, about a millisecond. So new links are settled before they are brought up.
pub fn settle(index: u32) -> Request {
    get_by_index(index)
}

/// Asks for all links.
pub fn dump() -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    Request::dump(Message::GetLink(link))
}

/// Deletes a link by name; one that isn't there is as good.
pub fn delete(name: &str) -> Request {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request::plain(Message::DelLink(link)).accepting(&[libc::ENODEV])
}

/// What is used of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alias, by which ours are known.
    pub alias: Option<String>,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is a loopback.
    pub loopback: bool,
    /// For one end of a pair, the index of the other end in its own namespace.
    pub peer: Option<u32>,
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            alias: None,
            mac: None,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            loopback: message.header.flags.contains(LinkFlags::Loopback),
            peer: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(peer) => link.peer = Some(*peer),
                _ => {}
            }
        }
        link
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::encode;

    /// The attributes of a message as (kind without flags, value), nested ones left whole.
    fn attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let mut found = Vec::new();
        while bytes.len() >= 4 {
            let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
            let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & 0x3fff;
            found.push((kind, bytes[4..length].to_vec()));
            bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
        }
        found
    }

    fn value(attributes: &[(u16, Vec<u8>)], kind: i32) -> Vec<u8> {
        let found = attributes.iter().find(|(k, _)| i32::from(*k) == kind);
        found
            .unwrap_or_else(|| panic!("attribute {kind} in {attributes:?}"))
            .1
            .clone()
    }

    const IFLA_ADDRESS: i32 = 1;
    const IFLA_IFNAME: i32 = 3;
    const IFLA_MTU: i32 = 4;
    const IFLA_LINKINFO: i32 = 18;
    const IFLA_IFALIAS: i32 = 20;
    const IFLA_AF_SPEC: i32 = 26;
    const IFLA_NET_NS_FD: i32 = 28;
    const IFLA_NUM_TX_QUEUES: i32 = 31;
    const IFLA_NUM_RX_QUEUES: i32 = 32;
    const HEADERS: usize = 16 + 16;

    #[test]
    fn a_pair_is_made_with_both_ends_down_and_the_far_one_elsewhere() {
        let request = veth(&Veth {
            name: "bosx",
            mac: Mac([2, 0, 0, 0, 0, 1]),
            peer_name: "eth0",
            peer_mac: Mac([2, 0, 0, 0, 0, 2]),
            peer_netns: 9,
            mtu: 1450,
        });
        let bytes = encode(&[request], 1);
        assert_eq!(&bytes[16 + 8..16 + 12], [0; 4], "the near end's flags");
        let outer = attributes(&bytes[HEADERS..]);
        assert_eq!(value(&outer, IFLA_IFNAME), b"bosx\0");
        assert_eq!(value(&outer, IFLA_ADDRESS), [2, 0, 0, 0, 0, 1]);
        assert_eq!(value(&outer, IFLA_MTU), 1450u32.to_ne_bytes());
        assert_eq!(value(&outer, IFLA_NUM_TX_QUEUES), 1u32.to_ne_bytes());
        assert_eq!(value(&outer, IFLA_NUM_RX_QUEUES), 1u32.to_ne_bytes());
        let info = attributes(&value(&outer, IFLA_LINKINFO));
        assert!(value(&info, 1).starts_with(b"veth"));
        let peer = value(&attributes(&value(&info, 2)), 1);
        assert_eq!(&peer[8..12], [0; 4], "the far end's flags");
        let peer = attributes(&peer[16..]);
        assert_eq!(value(&peer, IFLA_IFNAME), b"eth0\0");
        assert_eq!(value(&peer, IFLA_ADDRESS), [2, 0, 0, 0, 0, 2]);
        assert_eq!(value(&peer, IFLA_MTU), 1450u32.to_ne_bytes());
        assert_eq!(value(&peer, IFLA_NET_NS_FD), 9u32.to_ne_bytes());
        assert_eq!(value(&peer, IFLA_NUM_RX_QUEUES), 1u32.to_ne_bytes());
    }

    #[test]
    fn the_host_end_forwards_checks_its_sources_and_makes_no_address_of_its_own() {
        for ipv6 in [false, true] {
            let bytes = encode(&[set_up_host_end("bosx", "bosun pod=a/b", ipv6)], 1);
            let outer = attributes(&bytes[HEADERS..]);
            assert_eq!(value(&outer, IFLA_IFALIAS), b"bosun pod=a/b\0");
            let families = attributes(&value(&outer, IFLA_AF_SPEC));
            let conf = attributes(&value(&attributes(&value(&families, libc::AF_INET)), 1));
            // IPV4_DEVCONF_FORWARDING and IPV4_DEVCONF_RP_FILTER, and nothing else.
            assert_eq!(
                conf,
                [(1, 1u32.to_ne_bytes().to_vec()), (8, 1u32.to_ne_bytes().to_vec())]
            );
            let inet6 = families.iter().find(|(kind, _)| i32::from(*kind) == libc::AF_INET6);
            // IFLA_INET6_ADDR_GEN_MODE = IN6_ADDR_GEN_MODE_NONE.
            assert_eq!(
                inet6.map(|(_, nested)| attributes(nested)),
                ipv6.then(|| vec![(8, vec![1])])
            );
        }
    }

    #[test]
    fn a_link_is_plugged_into_a_bridge_and_brought_up_at_once() {
        const IFLA_MASTER: i32 = 10;
        let bytes = encode(&[plug(7, 3)], 1);
        assert_eq!(
            u32::from_ne_bytes(bytes[16 + 8..16 + 12].try_into().unwrap()),
            libc::IFF_UP as u32
        );
        assert_eq!(value(&attributes(&bytes[HEADERS..]), IFLA_MASTER), 3u32.to_ne_bytes());
        let made = encode(&[bridge("switch")], 1);
        let info = attributes(&value(&attributes(&made[HEADERS..]), IFLA_LINKINFO));
        assert!(value(&info, 1).starts_with(b"bridge"));
    }

    #[test]
    fn deleting_what_is_not_there_is_success() {
        assert_eq!(delete("bosx").accepted, [libc::ENODEV]);
    }

    #[test]
    fn a_hardware_address_is_printed_as_people_write_it() {
        assert_eq!(Mac([2, 0x62, 0x6f, 0, 0xff, 0x6e]).to_string(), "02:62:6f:00:ff:6e");
    }
}
