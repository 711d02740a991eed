//! The cluster's network: a namespace for each machine, a switch between them, this machine on it too.
//!
//! Everything is asked of the kernel first, and only what is missing or wrong is made: so it may have been broken off
//! anywhere before. The switch's namespace also routes between the nodes' pod ranges, as a network between real nodes does
//! that knows them.

use std::{
    fs::File,
    net::IpAddr,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};
use bosun_net::{
    Cidr, Family, addr,
    link::{self, Link, Mac, Veth},
    message::Request,
    netns::{self, Netns},
    route::{self, Route},
    socket::Socket,
    sysctl, wire,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{Layout, ranges::Ranges};

/// How long the kernel may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The namespace with the switch.
pub const FABRIC: &str = "fabric";
/// The server's machine.
pub const SERVER: &str = "server";
/// This machine, as the switch calls it.
const HOST: &str = "host";
/// The link that everything is plugged into.
const SWITCH: &str = "switch";
/// A machine's link to the switch.
const UPLINK: &str = "eth0";

const MTU: u32 = 1500;

/// A machine on the switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `server` or a node's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

/// Makes what is missing of the network between these machines and this one.
pub fn ensure(layout: &Layout, ranges: &Ranges, machines: &[Machine]) -> anyhow::Result<()> {
    let here = Netns::current()?;
    let fabric = namespace(&layout.netns(FABRIC))?;
    let mut switch = Switch {
        kernel: fabric.socket()?,
        ranges: *ranges,
        index: 0,
    };
    switch.ensure()?;
    fabric.within(|| Ok(sysctl::enable_forwarding(Family::V4)?))?;
    let host = Inside(here);
    let mut kernel = host.socket()?;
    let link = switch.plug(HOST, &host, &mut kernel, &layout.host_link(), ranges.host())?;
    kernel.perform(&[
        link::set_alias(link.index, &format!("bosun-dev {}", layout.dir().display())),
        route::via(ranges.whole(), ranges.switch()),
    ])?;
    for machine in machines {
        let inside = namespace(&layout.netns(&machine.name))?;
        let mut kernel = inside.socket()?;
        switch.plug(&machine.name, &inside, &mut kernel, UPLINK, machine.address)?;
        kernel.perform(&[route::via(Family::V4.everything(), ranges.switch())])?;
    }
    Ok(())
}

/// Takes this machine's link to the switch away. The rest goes with the namespaces.
pub fn unplug(layout: &Layout) -> anyhow::Result<()> {
    Socket::open(TIMEOUT)?.perform(&[link::delete(&layout.host_link())])?;
    Ok(())
}

/// Whether this machine is on the switch.
pub fn is_plugged(layout: &Layout) -> anyhow::Result<bool> {
    Ok(wire::find(&mut Socket::open(TIMEOUT)?, &layout.host_link())?.is_some())
}

/// The ranges that this machine's routing table knows, but for the default route and those of the cluster itself.
pub fn taken(layout: &Layout) -> anyhow::Result<Vec<Cidr>> {
    let mut kernel = Socket::open(TIMEOUT)?;
    let own = wire::find(&mut kernel, &layout.host_link())?.map(|link| link.index);
    let routes = wire::routes(&mut kernel, Family::V4)?.into_iter();
    let others = routes.filter(|route| route.destination.prefix() > 0 && (own.is_none() || route.link != own));
    Ok(others.map(|route| route.destination).collect())
}

/// Has the switch's namespace route pods' ranges to the nodes that have them, and no others.
pub fn route_pods(layout: &Layout, ranges: &Ranges, wanted: &[(Cidr, IpAddr)]) -> anyhow::Result<()> {
    let mut kernel = namespace(&layout.netns(FABRIC))?.socket()?;
    let requests = plan_routes(ranges, wanted, &wire::routes(&mut kernel, Family::V4)?);
    kernel.perform(&requests)?;
    Ok(())
}

/// What makes the pods' routes as they are wanted.
fn plan_routes(ranges: &Ranges, wanted: &[(Cidr, IpAddr)], observed: &[Route]) -> Vec<Request> {
    let of_pods = observed
        .iter()
        .filter(|route| ranges.pods().contains(route.destination.address()))
        .filter_map(|route| Some((route.destination, route.gateway?)));
    let there: Vec<(Cidr, IpAddr)> = of_pods.collect();
    let gone = there
        .iter()
        .filter(|(range, _)| wanted.iter().all(|(other, _)| other.network() != *range))
        .map(|(range, node)| route::not_via(*range, *node));
    let new = wanted
        .iter()
        .filter(|(range, node)| !there.contains(&(range.network(), *node)))
        .map(|(range, node)| route::via(*range, *node));
    gone.chain(new).collect()
}

/// The switch, in its namespace.
struct Switch {
    kernel: Socket,
    ranges: Ranges,
    index: u32,
}

impl Switch {
    fn ensure(&mut self) -> anyhow::Result<()> {
        if wire::find(&mut self.kernel, SWITCH)?.is_none() {
            let made = self.kernel.perform(&[link::bridge(SWITCH)]);
            made.context("this kernel makes no bridges: load the module ('modprobe bridge')")?;
        }
        self.index = found(&mut self.kernel, SWITCH)?.index;
        let address = Ranges::on_the_switch(self.ranges.switch());
        self.kernel.perform(&[
            link::up(self.index),
            addr::add(self.index, address).accepting(&[nix::libc::EEXIST]),
        ])?;
        Ok(())
    }

    /// Sees to it that a machine has its link to the switch, with its address; gives the machine's end.
    fn plug(
        &mut self,
        port: &str,
        machine: &Inside,
        kernel: &mut Socket,
        name: &str,
        address: IpAddr,
    ) -> anyhow::Result<Link> {
        let near = wire::find(&mut self.kernel, port)?;
        let far = wire::find(kernel, name)?;
        let paired = match (&near, &far) {
            (Some(near), Some(far)) => near.peer == Some(far.index) && far.peer == Some(near.index),
            _ => false,
        };
        if !paired {
            // Half of a pair whose other half was in a namespace that is no more, or was never brought here.
            if near.is_some() {
                self.kernel.perform(&[link::delete(port)])?;
            }
            if far.is_some() {
                kernel.perform(&[link::delete(name)])?;
            }
            let made = self.kernel.perform(&[link::veth(&Veth {
                name: port,
                mac: mac(0, address),
                peer_name: name,
                peer_mac: mac(1, address),
                peer_netns: machine.0.as_raw_fd(),
                mtu: MTU,
            })]);
            made.context("this kernel makes no veth links: load the module ('modprobe veth')")?;
        }
        let near = found(&mut self.kernel, port)?;
        self.kernel.perform(&[link::plug(near.index, self.index)])?;
        let far = found(kernel, name)?;
        let address = Ranges::on_the_switch(address);
        kernel.perform(&[
            link::up(far.index),
            addr::add(far.index, address).accepting(&[nix::libc::EEXIST]),
            link::settle(far.index),
        ])?;
        self.kernel
            .perform(&[link::settle(near.index), link::settle(self.index)])?;
        Ok(far)
    }
}

/// A hardware address that no other on the switch has.
fn mac(end: u8, address: IpAddr) -> Mac {
    let mut bytes = [0x0a, end, 0, 0, 0, 0];
    if let IpAddr::V4(v4) = address {
        bytes[2..].copy_from_slice(&v4.octets());
    }
    Mac(bytes)
}

fn found(kernel: &mut Socket, name: &str) -> anyhow::Result<Link> {
    wire::find(kernel, name)?.with_context(|| format!("the link {name} was taken away while it was set up"))
}

/// A namespace that something is done in, each time on a thread of its own: a thread that has been elsewhere is not
/// used for anything else.
struct Inside(Netns);

impl Inside {
    fn within<T: Send>(&self, work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
        on_a_thread(|| {
            self.0.enter()?;
            work()
        })
    }

    /// A socket that speaks of this namespace.
    fn socket(&self) -> anyhow::Result<Socket> {
        self.within(|| Ok(Socket::open(TIMEOUT)?))
    }
}

/// The namespace that is mounted there, or a new one.
fn namespace(path: &Path) -> anyhow::Result<Inside> {
    let netns = match Netns::open(path) {
        Ok(netns) => netns,
        // A mount's target may be there without the mount: one that was broken off, or before a reboot.
        Err(netns::Error::Missing { .. } | netns::Error::NotANamespace { .. }) => {
            make_namespace(path).with_context(|| format!("making the network namespace {}", path.display()))?;
            Netns::open(path)?
        }
        Err(error) => return Err(error.into()),
    };
    let inside = Inside(netns);
    // Else the kernel takes every neighbour for a broadcast address.
    inside.socket()?.perform(&[link::up(link::LOOPBACK)])?;
    Ok(inside)
}

/// A namespace lives as long as it is mounted somewhere: one that was made and not mounted goes with this thread.
fn make_namespace(path: &Path) -> anyhow::Result<()> {
    File::create(path)?;
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).context("this kernel or container allows no network namespaces")?;
        let new = PathBuf::from("/proc/thread-self/ns/net");
        mount(Some(&new), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> anyhow::Result<T> + Send) -> anyhow::Result<T> {
    thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("a thread broke down"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_routes_that_are_missing_or_wrong_are_changed() {
        let ranges = Ranges::of("10.200.0.0/16".parse().unwrap()).unwrap();
        let (one, two) = (ranges.node(1), ranges.node(2));
        let route = |destination: &str, gateway| Route {
            destination: destination.parse().unwrap(),
            link: Some(2),
            gateway,
            source: None,
            ours: false,
        };
        let observed = [
            route("10.200.0.0/24", Some(one)),
            route("10.200.1.0/24", Some(one)),
            route("10.200.9.0/24", Some(two)),
            // The switch's own, and another's.
            route("10.200.255.0/24", None),
            route("192.0.2.0/24", Some(two)),
        ];
        let range = |text: &str| text.parse().unwrap();
        let wanted = [
            (range("10.200.0.0/24"), one),
            (range("10.200.1.0/24"), two),
            (range("10.200.2.0/24"), two),
        ];
        let gone = route::not_via(range("10.200.9.0/24"), two);
        let (moved, new) = (
            route::via(range("10.200.1.0/24"), two),
            route::via(range("10.200.2.0/24"), two),
        );
        assert_eq!(plan_routes(&ranges, &wanted, &observed), [gone, moved, new]);
        assert!(plan_routes(&ranges, &[], &[]).is_empty());
    }

    #[test]
    fn every_end_of_every_link_has_a_hardware_address_of_its_own() {
        let ranges = Ranges::of("10.200.0.0/16".parse().unwrap()).unwrap();
        let ends = [ranges.node(1), ranges.node(2), ranges.host()].map(|address| [mac(0, address), mac(1, address)]);
        let mut all: Vec<_> = ends.concat();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
        assert!(
            all.iter().all(|mac| mac.0[0] & 3 == 2),
            "locally administered, of one machine"
        );
    }
}
