//! Network namespaces for tests: each is a thread's, has no name, and goes when the thread ends, however the test ends.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "shared by two test programs, which use different parts"
)]

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bosun_net::{
    addr,
    cidr::Cidr,
    link::{self, Link, Mac, Veth},
    message::{Request, RouteNetlinkMessage},
    netns::Netns,
    route,
    socket::Socket,
    wire,
};
use netlink_packet_route::route::{RouteAttribute, RouteProtocol};

/// No answer of this machine takes longer, however loaded it is.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A namespace, and the thread that keeps it.
pub struct Namespace {
    keep: Option<mpsc::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    path: PathBuf,
}

impl Namespace {
    /// A new one, with `lo` down like any.
    pub fn new() -> Self {
        let (keep, kept) = mpsc::channel::<()>();
        let (ready_tx, ready_rx) = mpsc::channel();
        let thread = thread::spawn(move || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("these tests make network namespaces: run them as root, as in `sudo ./hack/test --tier 3`");
            ready_tx.send(nix::unistd::gettid()).unwrap();
            // Until the other end is dropped.
            let _ = kept.recv();
        });
        let tid = ready_rx.recv().expect("a namespace");
        let path = format!("/proc/{}/task/{tid}/ns/net", std::process::id()).into();
        Self {
            keep: Some(keep),
            thread: Some(thread),
            path,
        }
    }

    /// One whose `lo` is up: a node.
    pub fn node() -> Self {
        let node = Self::new();
        node.ask(&[link::up(link::LOOPBACK)]);
        node
    }

    /// A path by which others open it.
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The namespace, open.
    pub fn open(&self) -> Netns {
        Netns::open(&self.path).unwrap()
    }

    /// Does something in the namespace. A panic there is one here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.open().enter().unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Performs requests.
    pub fn ask(&self, requests: &[Request]) -> Vec<RouteNetlinkMessage> {
        self.run(|| Socket::open(PATIENCE).unwrap().perform(requests).unwrap())
    }

    /// All links.
    pub fn links(&self) -> Vec<Link> {
        self.run(|| wire::links(&mut Socket::open(PATIENCE).unwrap()).unwrap())
    }

    /// A link by name.
    pub fn link(&self, name: &str) -> Option<Link> {
        self.links().into_iter().find(|link| link.name == name)
    }

    /// The host ends of our wires.
    pub fn wires(&self) -> Vec<String> {
        self.links()
            .into_iter()
            .map(|link| link.name)
            .filter(|name| name.starts_with("bos"))
            .collect()
    }

    /// All routes of the main table.
    pub fn routes(&self) -> Vec<route::Route> {
        self.run(|| {
            let mut socket = Socket::open(PATIENCE).unwrap();
            let mut routes = Vec::new();
            for family in [bosun_net::Family::V4, bosun_net::Family::V6] {
                for message in socket.list(&route::dump(family)).unwrap() {
                    if let RouteNetlinkMessage::NewRoute(message) = message {
                        routes.extend(route::parse(&message));
                    }
                }
            }
            routes
        })
    }

    /// The addresses of a link.
    pub fn addresses(&self, link: &str) -> Vec<Cidr> {
        let Some(link) = self.link(link) else { return Vec::new() };
        let told = self.run(|| Socket::open(PATIENCE).unwrap().list(&addr::dump()).unwrap());
        told.iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(message) => addr::parse(message),
                _ => None,
            })
            .filter(|address| address.link == link.index)
            .map(|address| address.address)
            .collect()
    }

    /// The value of a setting below `/proc/sys/net`.
    pub fn sysctl(&self, key: &str) -> String {
        let path = format!("/proc/sys/net/{key}");
        self.run(|| {
            std::fs::read_to_string(&path)
                .unwrap_or_else(|e| panic!("{path}: {e}"))
                .trim_end()
                .to_owned()
        })
    }

    /// Listens on an address and echoes what each connection sends, telling who connected.
    pub fn echo(&self, address: IpAddr) -> Echo {
        let listener = self.run(|| TcpListener::bind(SocketAddr::new(address, 0)).unwrap());
        let at = listener.local_addr().unwrap();
        let (peers_tx, peers) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut bytes = Vec::new();
                let Ok(peer) = stream.peer_addr() else { continue };
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                if stream.read_to_end(&mut bytes).is_ok() {
                    let _ = stream.write_all(&bytes);
                    if bytes == b"stop" || peers_tx.send(peer.ip()).is_err() {
                        return;
                    }
                }
            }
        });
        Echo {
            at,
            peers,
            stop: self.path.clone(),
        }
    }

    /// Sends more than a packet holds to an echo and expects it back; gives the address the echo saw.
    pub fn talk_to(&self, echo: &Echo) -> IpAddr {
        let text: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
        let at = echo.at;
        let answer = self.run(|| exchange(at, &text));
        assert_eq!(
            answer.unwrap_or_else(|e| panic!("{} does not answer: {e}", echo.at)),
            text
        );
        echo.peers.recv_timeout(PATIENCE).expect("the echo told who connected")
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.keep = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A listener in a namespace.
pub struct Echo {
    /// Where it listens.
    pub at: SocketAddr,
    peers: mpsc::Receiver<IpAddr>,
    stop: PathBuf,
}

impl Drop for Echo {
    /// The listener's thread would keep the namespace.
    fn drop(&mut self) {
        let (at, netns) = (self.at, self.stop.clone());
        let _ = thread::spawn(move || {
            if let Ok(netns) = Netns::open(netns)
                && netns.enter().is_ok()
            {
                let _ = exchange(at, b"stop");
            }
        })
        .join();
    }
}

fn exchange(at: SocketAddr, text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// A namespace outside, joined to a node by a cable: its address and the node's, and a route to the node's pods.
pub fn outside(node: &Namespace, mtu: u32, ends: &[(&str, &str)], pods: &[&str]) -> Namespace {
    let outside = Namespace::node();
    let netns = outside.open();
    let veth = Veth {
        name: "uplink",
        mac: Mac([2, 0, 0, 0, 1, 1]),
        peer_name: "node",
        peer_mac: Mac([2, 0, 0, 0, 1, 2]),
        peer_netns: std::os::fd::AsRawFd::as_raw_fd(&netns),
        mtu,
    };
    node.ask(&[link::veth(&veth)]);
    let (uplink, cable) = (node.link("uplink").unwrap().index, outside.link("node").unwrap().index);
    node.ask(&[link::up(uplink)]);
    outside.ask(&[link::up(cable)]);
    for (there, here) in ends {
        let (there, here): (Cidr, Cidr) = (there.parse().unwrap(), here.parse().unwrap());
        outside.ask(&[addr::add(cable, there)]);
        node.ask(&[
            addr::add(uplink, here),
            via(there.family().everything(), there.address(), uplink),
        ]);
        for pods in pods.iter().map(|pods| pods.parse::<Cidr>().unwrap()) {
            if pods.family() == here.family() {
                outside.ask(&[via(pods, here.address(), cable)]);
            }
        }
    }
    outside
}

/// An administrator's route to a range by a next hop.
fn via(range: Cidr, gateway: IpAddr, index: u32) -> Request {
    let mut request = route::default(gateway, index);
    if let RouteNetlinkMessage::NewRoute(message) = &mut request.message {
        message.header.protocol = RouteProtocol::Static;
        message.header.destination_prefix_length = range.prefix();
        if range.prefix() > 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(range.address().into()));
        }
    }
    request
}

/// Waits until something holds.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::park_timeout(Duration::from_millis(2));
    }
}
