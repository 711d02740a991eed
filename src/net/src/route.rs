//! Routes: requests and what the kernel tells of them. Pure.

use std::net::IpAddr;

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
    },
};

use crate::{
    addr,
    cidr::{Cidr, Family},
    message::Request,
};

/// Marks the node's routes as ours (`ip route` shows `proto 98`), so that a sweep touches no other.
pub const PROTOCOL: u8 = 98;

fn unicast(family: Family, prefix: u8) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = addr::family(family);
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.kind = RouteType::Unicast;
    message
}

/// On the node: a pod's address lies behind the host end of its wire. `source` is what the node itself speaks to the
/// pod from, which it must have even when it has no other address.
pub fn to_pod(pod: IpAddr, index: u32, source: Option<IpAddr>) -> Request {
    let family = Family::of(pod);
    let mut message = unicast(family, family.bits());
    message.header.scope = if family == Family::V4 {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    message.attributes = vec![RouteAttribute::Destination(pod.into()), RouteAttribute::Oif(index)];
    message
        .attributes
        .extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
    Request::create(Message::NewRoute(message))
}

/// On the node: a range lies on a link, as on others beside it. Whoever sends to it names the link.
pub fn on_link(range: Cidr, index: u32) -> Request {
    let mut message = unicast(range.family(), range.prefix());
    message.header.scope = RouteScope::Link;
    message.attributes = vec![
        RouteAttribute::Destination(range.address().into()),
        RouteAttribute::Oif(index),
    ];
    Request::append(Message::NewRoute(message))
}

/// In the pod: everything goes to the gateway, which needs no route of its own to be reached.
pub fn default(gateway: IpAddr, index: u32) -> Request {
    let mut message = unicast(Family::of(gateway), 0);
    message.header.scope = RouteScope::Universe;
    message.header.flags = RouteFlags::Onlink;
    message.attributes = vec![RouteAttribute::Gateway(gateway.into()), RouteAttribute::Oif(index)];
    Request::create(Message::NewRoute(message))
}

/// A range lies behind a router, in place of whatever route to it there was. As an administrator's (`ip route` shows
/// `proto static`), so that no sweep of the node's own routes touches it.
pub fn via(range: Cidr, router: IpAddr) -> Request {
    Request::put(Message::NewRoute(through(range, router)))
}

/// Takes away what [`via`] made; one that isn't there is as good.
pub fn not_via(range: Cidr, router: IpAddr) -> Request {
    Request::plain(Message::DelRoute(through(range, router))).accepting(&[libc::ESRCH])
}

fn through(range: Cidr, router: IpAddr) -> RouteMessage {
    let mut message = unicast(range.family(), range.prefix());
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.attributes = vec![RouteAttribute::Gateway(router.into())];
    if range.prefix() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(range.network().address().into()));
    }
    message
}

/// Asks which route a packet to an address takes.
pub fn lookup(address: IpAddr) -> Request {
    let family = Family::of(address);
    let mut message = RouteMessage::default();
    message.header.address_family = addr::family(family);
    message.header.destination_prefix_length = family.bits();
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    Request::plain(Message::GetRoute(message))
}

/// Asks for all routes of a family.
pub fn dump(family: Family) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = addr::family(family);
    Request::dump(Message::GetRoute(message))
}

/// Deletes a route of ours; one that isn't there is as good.
pub fn delete(route: &Route) -> Request {
    let mut message = unicast(route.destination.family(), route.destination.prefix());
    message.header.scope = RouteScope::NoWhere;
    message.attributes = vec![RouteAttribute::Destination(route.destination.address().into())];
    message.attributes.extend(route.link.map(RouteAttribute::Oif));
    Request::plain(Message::DelRoute(message)).accepting(&[libc::ESRCH])
}

/// What is used of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to.
    pub destination: Cidr,
    /// Index of the link it goes by.
    pub link: Option<u32>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The address packets by it leave from, where the kernel told one.
    pub source: Option<IpAddr>,
    /// Whether it is one of ours.
    pub ours: bool,
}

/// What the kernel told, if it was of a unicast route of the main table.
pub fn parse(message: &RouteMessage) -> Option<Route> {
    let family = match message.header.address_family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return None,
    };
    if message.header.kind != RouteType::Unicast || message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut route = Route {
        destination: Cidr::new(family.everything().address(), message.header.destination_prefix_length).ok()?,
        link: None,
        gateway: None,
        source: None,
        ours: message.header.protocol == RouteProtocol::Other(PROTOCOL),
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.destination = Cidr::new(ip(address)?, message.header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.source = ip(address),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            _ => {}
        }
    }
    Some(route)
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(request: Request) -> RouteMessage {
        match request.message {
            Message::NewRoute(message) | Message::DelRoute(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_nodes_route_to_a_pod_names_one_address_one_link_and_the_nodes_own_source() {
        for (pod, source, prefix, scope) in [
            ("10.0.0.7", "10.0.0.1", 32, RouteScope::Link),
            ("fd00::7", "fd00::1", 128, RouteScope::Universe),
        ] {
            let (pod, source): (IpAddr, IpAddr) = (pod.parse().unwrap(), source.parse().unwrap());
            let route = message(to_pod(pod, 9, Some(source)));
            assert_eq!(route.header.destination_prefix_length, prefix);
            assert_eq!(route.header.scope, scope);
            assert!(route.attributes.contains(&RouteAttribute::PrefSource(source.into())));
            assert_eq!(
                parse(&route),
                Some(Route {
                    destination: Cidr::host(pod),
                    link: Some(9),
                    gateway: None,
                    source: Some(source),
                    ours: true
                })
            );
        }
    }

    #[test]
    fn the_pods_default_route_reaches_its_gateway_on_the_link() {
        for gateway in ["169.254.1.1", "fe80::1"] {
            let gateway: IpAddr = gateway.parse().unwrap();
            let route = message(default(gateway, 2));
            assert!(route.header.flags.contains(RouteFlags::Onlink));
            let parsed = parse(&route).unwrap();
            assert_eq!(parsed.destination, Family::of(gateway).everything());
            assert_eq!((parsed.gateway, parsed.link), (Some(gateway), Some(2)));
        }
    }

    #[test]
    fn a_route_through_a_router_is_an_administrators_and_not_ours() {
        let router: IpAddr = "10.9.255.1".parse().unwrap();
        for (range, network) in [("10.9.3.7/24", "10.9.3.0/24"), ("0.0.0.0/0", "0.0.0.0/0")] {
            let route = parse(&message(via(range.parse().unwrap(), router))).unwrap();
            assert_eq!(route.destination, network.parse().unwrap());
            assert_eq!((route.gateway, route.ours), (Some(router), false));
        }
        assert_eq!(not_via("10.9.3.0/24".parse().unwrap(), router).accepted, [libc::ESRCH]);
    }

    #[test]
    fn routes_of_others_and_of_other_tables_are_not_ours() {
        let mut route = message(to_pod("10.0.0.7".parse().unwrap(), 9, None));
        route.header.protocol = RouteProtocol::Static;
        assert!(!parse(&route).unwrap().ours);
        route.header.table = 255;
        assert_eq!(parse(&route), None);
    }
}
