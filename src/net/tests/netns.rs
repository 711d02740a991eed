//! Against the real kernel, in namespaces of the test's own. Needs root.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[path = "netns/world.rs"]
mod world;

use std::{future::Future, net::IpAddr, os::fd::AsRawFd};

use bosun_net::{
    Attachment, Cidr, Family, addr,
    ipam::{Ipam, Pool, Record},
    link::{self, Mac, Veth},
    names::{self, Alias, HOST_MAC},
    node::{NodeNet, Swept},
    route,
    socket::{Error, Socket},
    sysctl::Sysctl,
    underlay,
    wire::{self, Pair, Wire},
};
use world::{Namespace, eventually, outside};

/// Runs what is asynchronous in a namespace.
fn block_on<T: Send, F: Future<Output = T>>(node: &Namespace, work: impl FnOnce() -> F + Send) -> T {
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { work().await })
    })
}

fn attachment(container: &str) -> Attachment {
    Attachment {
        container: container.into(),
        ifname: "eth0".into(),
    }
}

fn wire_of(network: &str, container: &str, pod: &str, node: &str) -> Wire {
    let attachment = attachment(container);
    Wire {
        host_link: names::host_link(network, &attachment),
        alias: Alias {
            network: network.into(),
            attachment: attachment.clone(),
            pod: None,
        }
        .to_text(),
        pod_link: "eth0".into(),
        pod_mac: names::pod_mac(network, &attachment),
        mtu: 1500,
        addresses: vec![Pair {
            pod: pod.parse().unwrap(),
            node: node.parse().unwrap(),
        }],
    }
}

fn connect(node: &Namespace, pod: &Namespace, wire: &Wire) -> Result<(), wire::Error> {
    let netns = pod.open();
    node.run(|| wire::connect(&mut Socket::open(wire::TIMEOUT).unwrap(), &netns, wire))
}

#[test]
fn a_refusal_tells_what_was_refused_and_the_kernels_words() {
    let node = Namespace::node();
    let refused = |request| {
        node.run(|| Socket::open(wire::TIMEOUT).unwrap().perform(&[request]))
            .unwrap_err()
    };
    let error = refused(addr::add(77, "10.0.0.1/32".parse().unwrap()));
    assert_eq!(error.errno(), Some(libc::ENODEV));
    assert!(
        error
            .to_string()
            .starts_with("cannot add address 10.0.0.1/32 to link 77"),
        "{error}"
    );

    let error = refused(route::to_pod(
        "10.0.0.9".parse().unwrap(),
        link::LOOPBACK,
        Some("10.9.9.9".parse().unwrap()),
    ));
    assert_eq!(error.errno(), Some(libc::EINVAL));
    assert_eq!(
        error.to_string(),
        "cannot add route 10.0.0.9/32 (Invalid prefsrc address)"
    );
}

#[test]
fn of_several_requests_all_are_performed_and_the_first_failure_is_told() {
    let node = Namespace::node();
    let result = node.run(|| {
        let mut socket = Socket::open(wire::TIMEOUT).unwrap();
        let failed = socket.perform(&[
            addr::add(link::LOOPBACK, "10.0.0.1/32".parse().unwrap()),
            addr::add(77, "10.0.0.2/32".parse().unwrap()),
            addr::add(78, "10.0.0.3/32".parse().unwrap()),
            addr::add(link::LOOPBACK, "10.0.0.4/32".parse().unwrap()),
        ]);
        // The socket is in step for what comes after.
        let told = socket.perform(&[link::get("lo"), link::delete("not-there")]).unwrap();
        (failed, told.len())
    });
    let (Err(Error::Refused { doing, .. }), 1) = result else {
        panic!("{result:?}")
    };
    assert_eq!(doing, "add address 10.0.0.2/32 to link 77");
    let addresses = node.addresses("lo");
    for there in ["10.0.0.1/32", "10.0.0.4/32"] {
        assert!(addresses.contains(&there.parse().unwrap()), "{addresses:?}");
    }
}

#[test]
fn a_wire_that_fails_halfway_is_taken_away_again() {
    let (node, pod) = (Namespace::node(), Namespace::new());
    // The node's route is there already: the last step fails.
    let mut wire = wire_of("n", "a", "10.0.0.7", "10.0.0.1");
    node.ask(&[addr::add(link::LOOPBACK, "10.0.0.1/32".parse().unwrap())]);
    node.ask(&[route::to_pod("10.0.0.7".parse().unwrap(), link::LOOPBACK, None)]);
    let error = connect(&node, &pod, &wire).unwrap_err();
    assert!(error.to_string().starts_with("cannot add route 10.0.0.7/32"), "{error}");
    assert_eq!((node.wires(), pod.link("eth0")), (vec![], None));

    // An MTU no link may have: the first step fails.
    wire.addresses[0].pod = "10.0.0.8".parse().unwrap();
    wire.mtu = 70_000;
    let error = connect(&node, &pod, &wire).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("cannot create link {}", wire.host_link)),
        "{error}"
    );
    assert_eq!((node.wires(), pod.link("eth0")), (vec![], None));

    wire.mtu = 1500;
    connect(&node, &pod, &wire).unwrap();
    assert_eq!(node.wires(), [wire.host_link]);
}

#[test]
fn a_wire_replaces_what_a_killed_process_left_of_it() {
    let (node, pod) = (Namespace::node(), Namespace::new());
    let wire = wire_of("n", "a", "10.0.0.7", "10.0.0.1");
    let netns = pod.open();
    let left = Veth {
        name: &wire.host_link,
        mac: HOST_MAC,
        peer_name: "eth0",
        peer_mac: Mac([2, 0, 0, 0, 0, 1]),
        peer_netns: netns.as_raw_fd(),
        mtu: 1500,
    };
    node.ask(&[link::veth(&left)]);
    connect(&node, &pod, &wire).unwrap();
    let echo = pod.echo("10.0.0.7".parse().unwrap());
    assert_eq!(node.talk_to(&echo), "10.0.0.1".parse::<IpAddr>().unwrap());
}

#[test]
fn a_node_is_known_by_the_addresses_it_speaks_to_the_world_from() {
    let node = Namespace::node();
    let ask = |node: &Namespace| {
        let addresses = node.run(|| bosun_net::node_addresses().unwrap());
        let blocking = node.run(|| underlay::mtu(&mut Socket::open(wire::TIMEOUT).unwrap()).unwrap());
        let nonblocking = block_on(node, || async {
            NodeNet::open().unwrap().underlay_mtu().await.unwrap()
        });
        assert_eq!(blocking, nonblocking);
        (addresses, blocking)
    };
    assert_eq!(ask(&node), (vec![], 1500), "no world");
    let ends = [("192.0.2.1/24", "192.0.2.2/24"), ("2001:db8::1/64", "2001:db8::2/64")];
    let _world = outside(&node, 1420, &ends, &[]);
    let expected: Vec<IpAddr> = vec!["192.0.2.2".parse().unwrap(), "2001:db8::2".parse().unwrap()];
    assert_eq!(ask(&node), (expected, 1420));
}

/// A cable to a namespace that has no part in the test.
fn outside_named(node: &Namespace, name: &str) -> Namespace {
    let router = Namespace::new();
    let netns = router.open();
    node.ask(&[link::veth(&Veth {
        name,
        mac: Mac([2, 0, 0, 0, 4, 1]),
        peer_name: "node",
        peer_mac: Mac([2, 0, 0, 0, 4, 2]),
        peer_netns: netns.as_raw_fd(),
        mtu: 1500,
    })]);
    router
}

#[test]
fn preparing_a_node_brings_its_loopback_up_and_forwarding_on() {
    let node = Namespace::new();
    let ranges: Vec<Cidr> = vec!["10.0.0.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
    // An uplink that learns its IPv6 routes from its router, as most do, and one that does not.
    let _routers = [outside_named(&node, "learns"), outside_named(&node, "fixed")];
    let fixed = Sysctl::of_link(Family::V6, "fixed", "accept_ra", "0");
    node.run(|| fixed.apply().unwrap());
    for _ in 0..2 {
        block_on(&node, || async {
            NodeNet::open().unwrap().prepare(&ranges).await.unwrap();
        });
        assert!(node.link("lo").unwrap().up);
        assert_eq!(node.sysctl("ipv4/ip_forward"), "1");
        assert_eq!(node.sysctl("ipv6/conf/all/forwarding"), "1");
        assert_eq!(node.sysctl("ipv6/conf/learns/accept_ra"), "2", "it goes on learning");
        assert_eq!(node.sysctl("ipv6/conf/fixed/accept_ra"), "0");
    }
}

#[test]
fn a_sweep_clears_what_no_pod_stands_behind_and_leaves_running_pods_alone() {
    let dir = tempfile::tempdir().unwrap();
    let node = Namespace::node();
    let pools = [Pool::new("10.0.0.0/24".parse().unwrap()).unwrap()];
    let ipam = Ipam::new(dir.path(), "n");
    let start = |container: &str, pod: &Namespace| {
        let record = Record {
            attachment: attachment(container),
            netns: pod.path().into(),
            inode: pod.open().inode(),
            pod: None,
            created: 0,
        };
        let given = ipam.allocate(&record, &pools, &mut |_| false).unwrap();
        connect(&node, pod, &wire_of("n", container, &given[0].to_string(), "10.0.0.1")).unwrap();
        given[0]
    };
    let sweep = || {
        block_on(&node, || async {
            NodeNet::open().unwrap().sweep(dir.path(), "n").await.unwrap()
        })
    };
    assert_eq!(sweep(), Swept::default(), "where nothing ever ran");

    let (running, dying, forgotten, foreign) = (Namespace::new(), Namespace::new(), Namespace::new(), Namespace::new());
    let running_ip = start("running", &running);
    let dying_ip = start("dying", &dying);
    // A wire without a record, and one of another network without one.
    let forgotten_wire = wire_of("n", "forgotten", "10.0.0.200", "10.0.0.1");
    connect(&node, &forgotten, &forgotten_wire).unwrap();
    let foreign_wire = wire_of("other", "foreign", "10.1.0.200", "10.1.0.1");
    connect(&node, &foreign, &foreign_wire).unwrap();
    drop(dying);
    eventually("the dead pod's wire goes with its namespace", || {
        node.wires().len() == 3
    });

    let swept = sweep();
    let expected = Swept {
        routes: vec![],
        links: vec![forgotten_wire.host_link],
        addresses: vec![dying_ip],
    };
    assert_eq!(swept, expected);
    assert_eq!(forgotten.link("eth0"), None);
    assert!(foreign.link("eth0").is_some());
    let echo = running.echo(running_ip);
    node.talk_to(&echo);
    assert_eq!(ipam.list().unwrap().records.len(), 1);
    assert_eq!(sweep(), Swept::default(), "a second time");
}
