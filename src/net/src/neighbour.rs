//! Neighbour entries: requests and what the kernel tells of them. Pure.

use std::net::IpAddr;

use netlink_packet_route::{
    RouteNetlinkMessage as Message,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};

use crate::{addr, cidr::Family, link::Mac, message::Request};

/// Fixes the hardware address of a neighbour, so that no one ever asks for it.
pub fn permanent(index: u32, address: IpAddr, mac: Mac) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = addr::family(Family::of(address));
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.attributes = vec![
        NeighbourAttribute::Destination(match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        }),
        NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
    ];
    Request::put(Message::NewNeighbour(message))
}

/// Asks for all neighbours of a family.
pub fn dump(family: Family) -> Request {
    let mut message = NeighbourMessage::default();
    message.header.family = addr::family(family);
    Request::dump(Message::GetNeighbour(message))
}

/// A neighbour whose hardware address is fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Index of the link it is reached by.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
}

/// What the kernel told, if it was of a permanent entry.
pub fn parse(message: &NeighbourMessage) -> Option<Neighbour> {
    if message.header.state != NeighbourState::Permanent {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => address = Some(IpAddr::V4(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => address = Some(IpAddr::V6(*v6)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some(Neighbour {
        link: message.header.ifindex,
        address: address?,
        mac: mac?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::AddressFamily;

    #[test]
    fn an_entry_is_permanent_and_read_back() {
        for address in ["169.254.1.1", "fe80::1"] {
            let address = address.parse().unwrap();
            let request = permanent(3, address, Mac([2, 1, 1, 1, 1, 1]));
            let Message::NewNeighbour(message) = request.message else {
                panic!("a neighbour")
            };
            assert_eq!(
                parse(&message),
                Some(Neighbour {
                    link: 3,
                    address,
                    mac: Mac([2, 1, 1, 1, 1, 1])
                })
            );
        }
    }

    #[test]
    fn entries_the_kernel_learnt_are_not_ours() {
        let Message::NewNeighbour(mut message) =
            permanent(3, "10.0.0.1".parse().unwrap(), Mac([2, 1, 1, 1, 1, 1])).message
        else {
            panic!("a neighbour")
        };
        message.header.state = NeighbourState::Reachable;
        assert_eq!(parse(&message), None);
        assert_eq!(message.header.family, AddressFamily::Inet);
    }
}
