//! A pod's wire: a veth pair whose host end is a router's interface. No bridge.
//!
//! ```text
//!   pod's namespace                              node's namespace
//!   eth0  10.244.1.7/32  fd00::7/128  <------->  bos + 12 digits  10.244.1.1/32  fe80::1/128  fd00::1/128
//!   default via 169.254.1.1, via fe80::1         10.244.1.7 dev bosX…  src 10.244.1.1
//!   169.254.1.1, fe80::1 -> the host end's MAC   10.244.1.7 -> the pod's MAC   (all permanent)
//! ```
//! So no end ever asks for the other's hardware address, and every packet between pods passes the node's rules. The
//! addresses of the host end are for this wire only; they give the node a source to speak to pods from when it has no
//! other, and go when the wire goes.
//!
//! What is asked of the kernel is pure; [`connect`] sends it in three batches.

mod check;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
    time::Duration,
};

use netlink_packet_route::RouteNetlinkMessage;

pub use self::check::{Fault, Observed, observe, verify};
use crate::{
    addr,
    cidr::{Cidr, Family},
    link::{self, Link, Mac, Veth},
    message::Request,
    names::HOST_MAC,
    neighbour,
    netns::{self, Netns},
    route, socket,
    socket::Socket,
    sysctl::{self, Sysctl},
};

/// How long the kernel may take to answer; the slowest thing asked of it is deleting a link under load.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// What a pod sends everything to: link-local, the same in every pod, on no interface.
pub fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    }
}

/// A wire as it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Name of the host end.
    pub host_link: String,
    /// Its alias.
    pub alias: String,
    /// Name of the pod's end.
    pub pod_link: String,
    /// Hardware address of the pod's end.
    pub pod_mac: Mac,
    /// The MTU of both.
    pub mtu: u32,
    /// An address of the pod for each family it has, with the node's own on this wire.
    pub addresses: Vec<Pair>,
}

/// The two addresses of a family on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The pod's.
    pub pod: IpAddr,
    /// The node's, the same on all its wires.
    pub node: IpAddr,
}

impl Wire {
    fn has(&self, family: Family) -> bool {
        self.addresses.iter().any(|pair| Family::of(pair.pod) == family)
    }

    /// On the node, first: the pair, what came of it (which also settles the host end), and the host end's settings.
    pub fn create_requests(&self, pod: &impl AsRawFd) -> [Request; 3] {
        [
            link::veth(&Veth {
                name: &self.host_link,
                mac: HOST_MAC,
                peer_name: &self.pod_link,
                peer_mac: self.pod_mac,
                peer_netns: pod.as_raw_fd(),
                mtu: self.mtu,
            }),
            link::get(&self.host_link),
            link::set_up_host_end(&self.host_link, &self.alias, self.has(Family::V6)),
        ]
    }

    /// On the node, before the other end is up: a pod tells its node nothing about routers, and speaks no IPv6 to it
    /// where there is none.
    pub fn host_sysctls(&self) -> Vec<Sysctl> {
        if self.has(Family::V6) {
            vec![Sysctl::of_link(Family::V6, &self.host_link, "accept_ra", "0")]
        } else {
            vec![Sysctl::of_link(Family::V6, &self.host_link, "disable_ipv6", "1").if_there()]
        }
    }

    /// In the pod, before its end is up: no one on the wire may pose as a router, and no address waits for a duplicate.
    pub fn pod_sysctls(&self) -> Vec<Sysctl> {
        if self.has(Family::V6) {
            vec![
                Sysctl::of_link(Family::V6, &self.pod_link, "accept_ra", "0"),
                Sysctl::of_link(Family::V6, &self.pod_link, "accept_dad", "0"),
            ]
        } else {
            vec![Sysctl::of_link(Family::V6, &self.pod_link, "disable_ipv6", "1").if_there()]
        }
    }

    /// In the pod.
    pub fn pod_requests(&self, index: u32) -> Vec<Request> {
        // Without `lo` the kernel takes every neighbour for a broadcast address as long as there is no other address.
        let mut requests = vec![link::settle(index), link::up(link::LOOPBACK)];
        requests.extend(self.addresses.iter().map(|pair| addr::add(index, Cidr::host(pair.pod))));
        requests.push(link::up(index));
        for pair in &self.addresses {
            let gateway = gateway(Family::of(pair.pod));
            requests.push(neighbour::permanent(index, gateway, HOST_MAC));
            requests.push(route::default(gateway, index));
        }
        requests.push(link::settle(index));
        requests
    }

    /// On the node, last: from here on packets flow.
    pub fn host_requests(&self, index: u32) -> Vec<Request> {
        let mut requests = Vec::with_capacity(self.addresses.len() * 4);
        for pair in &self.addresses {
            if Family::of(pair.pod) == Family::V6 {
                // The link's range as a route, not as the address's: a router would also answer to that range's anycast
                // address, whose removal costs DEL another round of waiting in the kernel.
                let link = Cidr::new(gateway(Family::V6), 64).expect("64 is within an IPv6 address");
                requests.push(addr::add_link_local(index, Cidr::host(gateway(Family::V6))));
                requests.push(route::on_link(link.network(), index));
            }
            requests.push(addr::add_link_local(index, Cidr::host(pair.node)));
            requests.push(neighbour::permanent(index, pair.pod, self.pod_mac));
            requests.push(route::to_pod(pair.pod, index, Some(pair.node)));
        }
        requests.push(link::settle(index));
        requests
    }
}

/// Why a wire could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] socket::Error),
    /// The pod's namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] netns::Error),
    /// A setting could not be made.
    #[error(transparent)]
    Sysctl(#[from] sysctl::Error),
    /// Someone else's interface has the name the pod's end shall have.
    #[error("{netns} has an interface {link} already, which is not ours")]
    Taken {
        /// The pod's namespace.
        netns: String,
        /// The name.
        link: String,
    },
    /// The kernel made the link and then did not know it.
    #[error("the kernel did not tell the index of link {0} it just made")]
    Untold(String),
}

/// Makes the wire. A host end of the same name is what a killed ADD of the same attachment left: it is replaced. On an
/// error nothing is left.
pub fn connect(node: &mut Socket, pod: &Netns, wire: &Wire) -> Result<(), Error> {
    let told = match node.perform(&wire.create_requests(pod)) {
        Err(e) if e.errno() == Some(libc::EEXIST) => {
            if find(node, &wire.host_link)?.is_none() {
                return Err(Error::Taken {
                    netns: pod.path().display().to_string(),
                    link: wire.pod_link.clone(),
                });
            }
            disconnect(node, &wire.host_link)?;
            node.perform(&wire.create_requests(pod))
        }
        told => told,
    };
    let made = told.map_err(Error::from).and_then(|told| {
        let link = told
            .iter()
            .find_map(told_link)
            .ok_or_else(|| Error::Untold(wire.host_link.clone()))?;
        let peer = link.peer.ok_or_else(|| Error::Untold(wire.pod_link.clone()))?;
        for sysctl in wire.host_sysctls() {
            sysctl.apply()?;
        }
        pod.within(|| {
            for sysctl in wire.pod_sysctls() {
                sysctl.apply()?;
            }
            Socket::open(TIMEOUT)?.perform(&wire.pod_requests(peer))?;
            Ok::<_, Error>(())
        })??;
        node.perform(&wire.host_requests(link.index))?;
        Ok(())
    });
    if made.is_err() {
        // The first error is the one to tell; whatever stands in the way of this, DEL will meet again.
        let _ = disconnect(node, &wire.host_link);
    }
    made
}

/// Removes a wire by its host end: the pair, and with it every route, address and neighbour. None there is as good.
pub fn disconnect(node: &mut Socket, host_link: &str) -> Result<(), socket::Error> {
    node.perform(&[link::delete(host_link)]).map(drop)
}

/// A link by name.
pub fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, socket::Error> {
    match socket.perform(&[link::get(name)]) {
        Ok(told) => Ok(told.iter().find_map(told_link)),
        Err(e) if e.errno() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(e),
    }
}

/// All links.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, socket::Error> {
    Ok(socket.list(&link::dump())?.iter().filter_map(told_link).collect())
}

/// All unicast routes of a family in the main table.
pub fn routes(socket: &mut Socket, family: Family) -> Result<Vec<route::Route>, socket::Error> {
    Ok(socket
        .list(&route::dump(family))?
        .iter()
        .filter_map(told_route)
        .collect())
}

pub(crate) fn told_link(message: &RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from(message)),
        _ => None,
    }
}

pub(crate) fn told_route(message: &RouteNetlinkMessage) -> Option<route::Route> {
    match message {
        RouteNetlinkMessage::NewRoute(message) => route::parse(message),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::describe;

    fn wire(addresses: &[(&str, &str)]) -> Wire {
        Wire {
            host_link: "bosx".into(),
            alias: "bosun".into(),
            pod_link: "eth0".into(),
            pod_mac: Mac([10, 0, 0, 0, 0, 1]),
            mtu: 1500,
            addresses: addresses
                .iter()
                .map(|(pod, node)| Pair {
                    pod: pod.parse().unwrap(),
                    node: node.parse().unwrap(),
                })
                .collect(),
        }
    }

    fn described(requests: &[Request]) -> Vec<String> {
        requests.iter().map(describe).collect()
    }

    #[test]
    fn an_ipv4_wire_takes_few_requests_in_an_order_that_works() {
        let wire = wire(&[("10.0.0.7", "10.0.0.1")]);
        assert_eq!(
            described(&wire.create_requests(&std::io::stdout())),
            ["create link bosx", "look up link bosx", "configure link bosx"]
        );
        assert_eq!(
            described(&wire.pod_requests(2)),
            [
                "look up link 2",
                "configure link 1",
                "add address 10.0.0.7/32 to link 2",
                "configure link 2",
                "set neighbour Inet(169.254.1.1) on link 2",
                "add route 0.0.0.0/0 (default)",
                "look up link 2",
            ]
        );
        assert_eq!(
            described(&wire.host_requests(9)),
            [
                "add address 10.0.0.1/32 to link 9",
                "set neighbour Inet(10.0.0.7) on link 9",
                "add route 10.0.0.7/32",
                "look up link 9",
            ]
        );
    }

    #[test]
    fn a_dual_stack_wire_has_both_families_on_both_sides() {
        let wire = wire(&[("10.0.0.7", "10.0.0.1"), ("fd00::7", "fd00::1")]);
        let pod = described(&wire.pod_requests(2)).join("\n");
        for step in [
            "10.0.0.7/32",
            "fd00::7/128",
            "169.254.1.1",
            "fe80::1",
            "0.0.0.0/0",
            "::/0",
        ] {
            assert!(pod.contains(step), "{step} in {pod}");
        }
        let host = described(&wire.host_requests(9)).join("\n");
        for step in [
            "address fe80::1/128",
            "address fd00::1/128",
            "route 10.0.0.7/32",
            "route fd00::7/128",
        ] {
            assert!(host.contains(step), "{step} in {host}");
        }
    }

    #[test]
    fn router_advertisements_are_refused_and_ipv6_is_off_where_there_is_none() {
        let keys = |sysctls: Vec<Sysctl>| sysctls.into_iter().map(|s| (s.key, s.value)).collect::<Vec<_>>();
        let dual = wire(&[("10.0.0.7", "10.0.0.1"), ("fd00::7", "fd00::1")]);
        assert_eq!(
            keys(dual.pod_sysctls()),
            [
                ("net/ipv6/conf/eth0/accept_ra".into(), "0"),
                ("net/ipv6/conf/eth0/accept_dad".into(), "0")
            ]
        );
        assert_eq!(
            keys(dual.host_sysctls()),
            [("net/ipv6/conf/bosx/accept_ra".into(), "0")]
        );
        let v4 = wire(&[("10.0.0.7", "10.0.0.1")]);
        assert_eq!(
            keys(v4.pod_sysctls()),
            [("net/ipv6/conf/eth0/disable_ipv6".into(), "1")]
        );
        assert_eq!(
            keys(v4.host_sysctls()),
            [("net/ipv6/conf/bosx/disable_ipv6".into(), "1")]
        );
    }
}
