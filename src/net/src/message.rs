//! Requests to the kernel as values, and their bytes: no I/O.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage,
};
pub use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::{
    address::AddressAttribute, link::LinkAttribute, neighbour::NeighbourAttribute, route::RouteAttribute,
};

use crate::cidr::Family;

/// One request to the kernel: what is asked, and which refusals are as good as success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is asked.
    pub message: RouteNetlinkMessage,
    /// `NLM_F_*`, without the acknowledgement, which the transport asks for.
    pub flags: u16,
    /// Error numbers (positive) that mean the wanted state is there already.
    pub accepted: &'static [i32],
}

impl Request {
    /// Makes a thing that must not exist yet.
    pub fn create(message: RouteNetlinkMessage) -> Self {
        Self {
            message,
            flags: NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL,
            accepted: &[],
        }
    }

    /// Makes a thing beside others of its kind.
    pub fn append(message: RouteNetlinkMessage) -> Self {
        Self {
            message,
            flags: NLM_F_REQUEST | NLM_F_CREATE | NLM_F_APPEND,
            accepted: &[],
        }
    }

    /// Makes a thing or replaces it.
    pub fn put(message: RouteNetlinkMessage) -> Self {
        Self {
            message,
            flags: NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE,
            accepted: &[],
        }
    }

    /// Changes, removes or asks for one thing.
    pub fn plain(message: RouteNetlinkMessage) -> Self {
        Self {
            message,
            flags: NLM_F_REQUEST,
            accepted: &[],
        }
    }

    /// Asks for all things of a kind.
    pub fn dump(message: RouteNetlinkMessage) -> Self {
        Self {
            message,
            flags: NLM_F_REQUEST | NLM_F_DUMP,
            accepted: &[],
        }
    }

    /// Counts these error numbers as success.
    pub fn accepting(self, accepted: &'static [i32]) -> Self {
        Self { accepted, ..self }
    }

    /// Whether the answer is a list that ends with a message of its own.
    pub fn is_dump(&self) -> bool {
        self.flags & NLM_F_DUMP == NLM_F_DUMP
    }
}

/// The bytes of several requests, numbered from `first`, as one send carries them. The kernel performs them in order
/// and tells of every failure, but acknowledges success only where asked: of the last.
pub fn encode(requests: &[Request], first: u32) -> Vec<u8> {
    let last = requests.len().saturating_sub(1);
    let mut bytes = Vec::with_capacity(requests.len() * 128);
    for (i, request) in requests.iter().enumerate() {
        let mut header = NetlinkHeader::default();
        header.flags = request.flags | if i == last && !request.is_dump() { NLM_F_ACK } else { 0 };
        header.sequence_number = first.wrapping_add(i as u32);
        let mut message = NetlinkMessage::new(header, request.message.clone().into());
        message.finalize();
        let start = bytes.len();
        let length = message.buffer_len();
        bytes.resize(start + length.next_multiple_of(4), 0);
        message.serialize(&mut bytes[start..start + length]);
    }
    bytes
}

/// What a request does to what, for messages to people.
pub fn describe(request: &Request) -> String {
    use RouteNetlinkMessage as M;
    match &request.message {
        M::NewLink(m) => format!("create link {}", link_name(&m.attributes, m.header.index)),
        M::SetLink(m) => format!("configure link {}", link_name(&m.attributes, m.header.index)),
        M::DelLink(m) => format!("delete link {}", link_name(&m.attributes, m.header.index)),
        M::GetLink(_) if request.is_dump() => "list links".into(),
        M::GetLink(m) => format!("look up link {}", link_name(&m.attributes, m.header.index)),
        M::NewAddress(m) => {
            let address = m.attributes.iter().find_map(|a| match a {
                AddressAttribute::Local(address) | AddressAttribute::Address(address) => Some(address.to_string()),
                _ => None,
            });
            let address = address.unwrap_or_default();
            format!(
                "add address {address}/{} to link {}",
                m.header.prefix_len, m.header.index
            )
        }
        M::GetAddress(_) => "list addresses".into(),
        M::NewNeighbour(m) => {
            let address = m.attributes.iter().find_map(|a| match a {
                NeighbourAttribute::Destination(address) => Some(format!("{address:?}")),
                _ => None,
            });
            format!(
                "set neighbour {} on link {}",
                address.unwrap_or_default(),
                m.header.ifindex
            )
        }
        M::GetNeighbour(_) => "list neighbours".into(),
        M::NewRoute(m) => format!("add route {}", route_name(m)),
        M::DelRoute(m) => format!("delete route {}", route_name(m)),
        M::GetRoute(_) if request.is_dump() => "list routes".into(),
        M::GetRoute(m) => format!("look up route {}", route_name(m)),
        other => format!("perform netlink request {}", other.message_type()),
    }
}

fn link_name(attributes: &[LinkAttribute], index: u32) -> String {
    attributes
        .iter()
        .find_map(|a| match a {
            LinkAttribute::IfName(name) => Some(name.clone()),
            _ => None,
        })
        .unwrap_or_else(|| index.to_string())
}

fn route_name(route: &netlink_packet_route::route::RouteMessage) -> String {
    use netlink_packet_route::{AddressFamily, route::RouteAddress};
    let family = if route.header.address_family == AddressFamily::Inet6 {
        Family::V6
    } else {
        Family::V4
    };
    let destination = route.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(v4.to_string()),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(v6.to_string()),
        _ => None,
    });
    match destination {
        Some(address) => format!("{address}/{}", route.header.destination_prefix_length),
        None => format!("{} (default)", family.everything()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{link, route};
    use netlink_packet_core::NetlinkBuffer;

    #[test]
    fn several_requests_travel_aligned_and_only_the_last_is_acknowledged() {
        let requests = [link::delete("odd"), link::get("eth0"), link::delete("bos")];
        let bytes = encode(&requests, 40);
        let mut rest = &bytes[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let message = NetlinkBuffer::new_checked(rest).unwrap();
            seen.push((message.sequence_number(), message.flags() & NLM_F_ACK != 0));
            let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).unwrap();
            assert_eq!(parsed.payload, requests[seen.len() - 1].message.clone().into());
            rest = &rest[(message.length() as usize).next_multiple_of(4)..];
        }
        assert_eq!(seen, [(40, false), (41, false), (42, true)]);
    }

    #[test]
    fn a_list_is_not_acknowledged_for_it_has_an_end_of_its_own() {
        let bytes = encode(&[link::dump()], 1);
        assert_eq!(NetlinkBuffer::new_checked(&bytes).unwrap().flags() & NLM_F_ACK, 0);
    }

    #[test]
    fn a_request_is_described_by_what_it_does_to_what() {
        for (request, text) in [
            (link::delete("bosabc"), "delete link bosabc"),
            (link::up(7), "configure link 7"),
            (link::dump(), "list links"),
            (
                route::to_pod("10.0.0.5".parse().unwrap(), 7, None),
                "add route 10.0.0.5/32",
            ),
            (
                route::default("fe80::1".parse().unwrap(), 7),
                "add route ::/0 (default)",
            ),
            (
                crate::addr::add(3, "fd00::5/128".parse().unwrap()),
                "add address fd00::5/128 to link 3",
            ),
        ] {
            assert_eq!(describe(&request), text);
        }
    }
}
