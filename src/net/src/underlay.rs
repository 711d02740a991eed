//! How the node reaches the world: the MTU there, and the addresses it is known by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage;

use crate::{
    cidr::Family,
    link,
    message::Request,
    route::{self, Route},
    socket::{Error, Socket},
    wire::{TIMEOUT, told_link, told_route},
};

/// Ethernet's, for a node that reaches no world.
pub const ETHERNET_MTU: u32 = 1500;

/// Addresses set aside for documentation: whatever route they take is the default one.
fn somewhere_outside(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    }
}

/// Asks for the route to the world.
pub(crate) fn lookup(family: Family) -> Request {
    // A node without such a route is a node, too.
    route::lookup(somewhere_outside(family)).accepting(&[libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES])
}

/// The route to the world among what the kernel told.
pub(crate) fn told(told: &[RouteNetlinkMessage]) -> Option<Route> {
    told.iter().find_map(told_route)
}

/// The MTU of a link the world is reached by. A loopback's is none.
pub(crate) fn told_mtu(told: &[RouteNetlinkMessage]) -> Option<u32> {
    told.iter()
        .find_map(told_link)
        .filter(|link| !link.loopback)
        .map(|link| link.mtu)
}

/// The MTU of the link by which the node of this thread's namespace reaches the world.
pub fn mtu(node: &mut Socket) -> Result<u32, Error> {
    for family in [Family::V4, Family::V6] {
        if let Some(index) = told(&node.perform(&[lookup(family)])?).and_then(|route| route.link)
            && let Some(mtu) = told_mtu(&node.perform(&[link::get_by_index(index)])?)
        {
            return Ok(mtu);
        }
    }
    Ok(ETHERNET_MTU)
}

/// The addresses the node of this thread's namespace speaks to the world from, IPv4 first: what others know it by. None
/// where it reaches no world.
pub fn node_addresses() -> Result<Vec<IpAddr>, Error> {
    let mut node = Socket::open(TIMEOUT)?;
    let mut addresses = Vec::new();
    for family in [Family::V4, Family::V6] {
        addresses.extend(told(&node.perform(&[lookup(family)])?).and_then(|route| route.source));
    }
    Ok(addresses)
}
