//! Whether a wire still is as it was made: CNI's CHECK.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage as Message;

use super::{Error, TIMEOUT, find, gateway, told_link, told_route};
use crate::{
    addr,
    cidr::{Cidr, Family},
    link::{self, Link, Mac},
    names::HOST_MAC,
    neighbour::{self, Neighbour},
    netns::Netns,
    route::{self, Route},
    socket::Socket,
};

/// What the kernel has of a wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The host end.
    pub host: Option<Link>,
    /// By which link the node reaches each of the pod's addresses.
    pub node_routes: Vec<(IpAddr, Option<u32>)>,
    /// The node's permanent neighbours.
    pub node_neighbours: Vec<Neighbour>,
    /// The pod's end.
    pub pod: Option<Link>,
    /// Whether the pod's loopback is up.
    pub loopback_up: bool,
    /// Addresses of the pod's end.
    pub pod_addresses: Vec<Cidr>,
    /// The pod's routes.
    pub pod_routes: Vec<Route>,
    /// The pod's permanent neighbours.
    pub pod_neighbours: Vec<Neighbour>,
}

/// What is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// An end is not there.
    #[error("link {0} is missing")]
    Missing(String),
    /// An end is down.
    #[error("link {0} is down")]
    Down(String),
    /// The ends are not each other's.
    #[error("links {0} and {1} are not the two ends of one wire")]
    NotAPair(String, String),
    /// The pod's end was given another hardware address.
    #[error("link {link} has hardware address {found}, not {expected}")]
    OtherMac {
        /// The pod's end.
        link: String,
        /// As it was made.
        expected: Mac,
        /// As it is.
        found: String,
    },
    /// The pod lost an address.
    #[error("link {link} lacks address {address}")]
    NoAddress {
        /// The pod's end.
        link: String,
        /// The address.
        address: Cidr,
    },
    /// The pod can't reach the world.
    #[error("the pod lacks its default route via {0}")]
    NoDefaultRoute(IpAddr),
    /// The node can't reach the pod.
    #[error("the node's route to {0} does not go by the pod's wire")]
    NoRoute(IpAddr),
    /// An end would have to ask for the other's hardware address, and get no answer.
    #[error("the permanent neighbour entry of {0} is missing")]
    NoNeighbour(IpAddr),
}

/// Compares what was made with what is.
pub fn verify(
    host_link: &str,
    pod_link: &str,
    pod_mac: Option<Mac>,
    addresses: &[IpAddr],
    observed: &Observed,
) -> Result<(), Fault> {
    let present = |link: &Option<Link>, name: &str| {
        let link = link.clone().ok_or_else(|| Fault::Missing(name.to_owned()))?;
        if link.up {
            Ok(link)
        } else {
            Err(Fault::Down(name.to_owned()))
        }
    };
    let host = present(&observed.host, host_link)?;
    let pod = present(&observed.pod, pod_link)?;
    if !observed.loopback_up {
        return Err(Fault::Down("lo".into()));
    }
    if host.peer != Some(pod.index) || pod.peer != Some(host.index) {
        return Err(Fault::NotAPair(host_link.to_owned(), pod_link.to_owned()));
    }
    if let Some(expected) = pod_mac
        && pod.mac != Some(expected)
    {
        let found = pod.mac.map_or_else(|| "none".to_owned(), |mac| mac.to_string());
        return Err(Fault::OtherMac {
            link: pod_link.to_owned(),
            expected,
            found,
        });
    }
    let fixed = |neighbours: &[Neighbour], link: u32, address: IpAddr, mac: Option<Mac>| {
        neighbours
            .iter()
            .any(|n| n.link == link && n.address == address && Some(n.mac) == mac)
    };
    for &address in addresses {
        let family = Family::of(address);
        if !observed.pod_addresses.iter().any(|a| a.address() == address) {
            return Err(Fault::NoAddress {
                link: pod_link.to_owned(),
                address: Cidr::host(address),
            });
        }
        let via = gateway(family);
        let default =
            |r: &Route| r.destination == family.everything() && r.gateway == Some(via) && r.link == Some(pod.index);
        if !observed.pod_routes.iter().any(default) {
            return Err(Fault::NoDefaultRoute(via));
        }
        if !fixed(&observed.pod_neighbours, pod.index, via, Some(HOST_MAC)) {
            return Err(Fault::NoNeighbour(via));
        }
        if !observed.node_routes.contains(&(address, Some(host.index))) {
            return Err(Fault::NoRoute(address));
        }
        if !fixed(&observed.node_neighbours, host.index, address, pod.mac) {
            return Err(Fault::NoNeighbour(address));
        }
    }
    Ok(())
}

/// Asks the kernel, in both namespaces, for what [`verify`] compares.
pub fn observe(
    node: &mut Socket,
    pod: &Netns,
    host_link: &str,
    pod_link: &str,
    addresses: &[IpAddr],
) -> Result<Observed, Error> {
    let mut observed = Observed {
        host: find(node, host_link)?,
        ..Observed::default()
    };
    let mut families: Vec<_> = addresses.iter().map(|a| Family::of(*a)).collect();
    families.dedup();
    for &address in addresses {
        let link = match node.perform(&[route::lookup(address)]) {
            Ok(told) => told.iter().find_map(told_route).and_then(|route| route.link),
            Err(e) if e.errno().is_some() => None,
            Err(e) => return Err(e.into()),
        };
        observed.node_routes.push((address, link));
    }
    for &family in &families {
        observed.node_neighbours.extend(neighbours(node, family)?);
    }
    pod.within(|| {
        let mut pod = Socket::open(TIMEOUT)?;
        observed.pod = find(&mut pod, pod_link)?;
        let told = pod.perform(&[link::get_by_index(link::LOOPBACK)])?;
        observed.loopback_up = told.iter().find_map(told_link).is_some_and(|lo| lo.up);
        let index = observed.pod.as_ref().map(|link| link.index);
        observed.pod_addresses = pod
            .list(&addr::dump())?
            .iter()
            .filter_map(|message| match message {
                Message::NewAddress(message) => addr::parse(message),
                _ => None,
            })
            .filter(|a| Some(a.link) == index)
            .map(|a| a.address)
            .collect();
        for &family in &families {
            observed
                .pod_routes
                .extend(pod.list(&route::dump(family))?.iter().filter_map(told_route));
            observed.pod_neighbours.extend(neighbours(&mut pod, family)?);
        }
        Ok(observed)
    })?
}

fn neighbours(socket: &mut Socket, family: Family) -> Result<Vec<Neighbour>, Error> {
    let told = socket.list(&neighbour::dump(family))?;
    Ok(told
        .iter()
        .filter_map(|message| match message {
            Message::NewNeighbour(message) => neighbour::parse(message),
            _ => None,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD_MAC: Mac = Mac([10, 0, 0, 0, 0, 7]);

    fn link(name: &str, index: u32, peer: u32, mac: Mac) -> Link {
        Link {
            index,
            name: name.into(),
            alias: None,
            mac: Some(mac),
            mtu: 1500,
            up: true,
            loopback: false,
            peer: Some(peer),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A dual-stack wire as it was made.
    fn whole() -> Observed {
        let neighbour = |link, address: &str, mac| Neighbour {
            link,
            address: ip(address),
            mac,
        };
        let default = |family: Family| Route {
            destination: family.everything(),
            link: Some(2),
            gateway: Some(gateway(family)),
            source: None,
            ours: true,
        };
        Observed {
            host: Some(link("bosx", 9, 2, HOST_MAC)),
            node_routes: vec![(ip("10.0.0.7"), Some(9)), (ip("fd00::7"), Some(9))],
            node_neighbours: vec![neighbour(9, "10.0.0.7", POD_MAC), neighbour(9, "fd00::7", POD_MAC)],
            pod: Some(link("eth0", 2, 9, POD_MAC)),
            loopback_up: true,
            pod_addresses: vec!["10.0.0.7/32".parse().unwrap(), "fd00::7/128".parse().unwrap()],
            pod_routes: vec![default(Family::V4), default(Family::V6)],
            pod_neighbours: vec![neighbour(2, "169.254.1.1", HOST_MAC), neighbour(2, "fe80::1", HOST_MAC)],
        }
    }

    type Breakage = fn(&mut Observed);

    #[test]
    fn each_thing_a_wire_may_lack_is_told_by_name() {
        let check = |observed: &Observed| {
            let addresses = [ip("10.0.0.7"), ip("fd00::7")];
            verify("bosx", "eth0", Some(POD_MAC), &addresses, observed).map_err(|fault| fault.to_string())
        };
        assert_eq!(check(&whole()), Ok(()));
        let cases: [(Breakage, &str); 12] = [
            (|o| o.host = None, "link bosx is missing"),
            (|o| o.pod = None, "link eth0 is missing"),
            (|o| o.pod.as_mut().unwrap().up = false, "link eth0 is down"),
            (|o| o.loopback_up = false, "link lo is down"),
            (
                |o| o.pod.as_mut().unwrap().peer = Some(8),
                "links bosx and eth0 are not the two ends of one wire",
            ),
            (
                |o| o.pod.as_mut().unwrap().mac = Some(HOST_MAC),
                "link eth0 has hardware address 02:62:6f:73:75:6e, not 0a:00:00:00:00:07",
            ),
            (|o| o.pod_addresses.truncate(1), "link eth0 lacks address fd00::7/128"),
            (
                |o| o.pod_routes.retain(|r| r.destination.family() == Family::V6),
                "the pod lacks its default route via 169.254.1.1",
            ),
            (
                |o| o.pod_neighbours.truncate(1),
                "the permanent neighbour entry of fe80::1 is missing",
            ),
            (
                |o| o.node_routes[0].1 = Some(3),
                "the node's route to 10.0.0.7 does not go by the pod's wire",
            ),
            (
                |o| o.node_routes[1].1 = None,
                "the node's route to fd00::7 does not go by the pod's wire",
            ),
            (
                |o| o.node_neighbours[0].link = 3,
                "the permanent neighbour entry of 10.0.0.7 is missing",
            ),
        ];
        for (break_it, told) in cases {
            let mut observed = whole();
            break_it(&mut observed);
            assert_eq!(check(&observed), Err(told.to_owned()));
        }
    }
}
