//! Addresses of links: requests and what the kernel tells of them. Pure.

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
};

use crate::{
    cidr::{Cidr, Family},
    message::Request,
};

/// The kernel's name of a family.
pub(crate) fn family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// Adds an address to a link, usable at once: no duplicate address detection.
pub fn add(index: u32, address: Cidr) -> Request {
    with_scope(index, address, AddressScope::Universe)
}

/// Adds an address that is meant for this link only and never chosen as the source elsewhere.
pub fn add_link_local(index: u32, address: Cidr) -> Request {
    with_scope(index, address, AddressScope::Link)
}

fn with_scope(index: u32, address: Cidr, scope: AddressScope) -> Request {
    let mut message = AddressMessage::default();
    message.header.family = family(address.family());
    message.header.prefix_len = address.prefix();
    message.header.scope = scope;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address.address()));
    message.attributes.push(AddressAttribute::Address(address.address()));
    if address.family() == Family::V6 {
        let mut flags = AddressFlags::Nodad;
        if address.prefix() == Family::V6.bits() {
            // The kernel's own route to a range of one address, on the address's link, would be of no use.
            flags |= AddressFlags::Noprefixroute;
        }
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    Request::create(Message::NewAddress(message))
}

/// Asks for the addresses of all links.
pub fn dump() -> Request {
    Request::dump(Message::GetAddress(AddressMessage::default()))
}

/// Which address a link has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// Index of the link.
    pub link: u32,
    /// The address with its prefix length.
    pub address: Cidr,
    /// Whether duplicate address detection keeps it from being used.
    pub tentative: bool,
}

/// What the kernel told, unless it told of no address.
pub fn parse(message: &AddressMessage) -> Option<LinkAddress> {
    let mut local = None;
    let mut peer = None;
    let mut tentative = false;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(flags) => tentative = flags.contains(AddressFlags::Tentative),
            _ => {}
        }
    }
    let address = Cidr::new(local.or(peer)?, message.header.prefix_len).ok()?;
    Some(LinkAddress {
        link: message.header.index,
        address,
        tentative,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(request: Request) -> AddressMessage {
        match request.message {
            Message::NewAddress(message) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ipv6_address_waits_for_no_duplicate_detection() {
        let v6 = message(add(4, "fd00::7/128".parse().unwrap()));
        assert_eq!(v6.header.family, AddressFamily::Inet6);
        assert_eq!(v6.header.prefix_len, 128);
        let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
        assert!(v6.attributes.contains(&AddressAttribute::Flags(flags)));
        let on_link = message(add_link_local(4, "fe80::1/64".parse().unwrap()));
        assert!(
            on_link
                .attributes
                .contains(&AddressAttribute::Flags(AddressFlags::Nodad))
        );
        let v4 = message(add(4, "10.0.0.7/32".parse().unwrap()));
        assert_eq!(v4.header.family, AddressFamily::Inet);
        assert!(!v4.attributes.iter().any(|a| matches!(a, AddressAttribute::Flags(_))));
    }

    #[test]
    fn scope_tells_an_address_of_the_link_from_one_of_the_node() {
        assert_eq!(
            message(add(4, "10.0.0.7/32".parse().unwrap())).header.scope,
            AddressScope::Universe
        );
        assert_eq!(
            message(add_link_local(4, "10.0.0.1/32".parse().unwrap())).header.scope,
            AddressScope::Link
        );
    }

    #[test]
    fn what_is_asked_is_read_back() {
        for text in ["10.0.0.7/32", "fd00::7/64"] {
            let address = text.parse().unwrap();
            assert_eq!(
                parse(&message(add(4, address))),
                Some(LinkAddress {
                    link: 4,
                    address,
                    tentative: false
                }),
                "{text}"
            );
        }
        assert_eq!(parse(&AddressMessage::default()), None);
    }
}
