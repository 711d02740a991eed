//! The built plugin, run as a runtime runs it, in namespaces of the test's own, with packets really sent. Needs root.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[path = "netns/hostile.rs"]
mod hostile;
#[path = "netns/node.rs"]
mod node;
#[path = "../../src/net/tests/netns/world.rs"]
mod world;

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    time::Duration,
};

use bosun_net::{Cidr, addr, link, neighbour, route};
use node::{Node, answer, ips, new_id};
use serde_json::{Value, json};
use world::{Namespace, eventually, outside};

const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const V4: &str = "10.88.0.0/24";
const V6: &str = "fd88::/64";

#[test]
fn every_version_is_answered_in_its_own_form_and_leaves_nothing() {
    let mut node = Node::new(&[V4, V6]);
    for version in VERSIONS {
        node.config["cniVersion"] = version.into();
        let asked = node
            .call("VERSION", "", None, &json!({ "cniVersion": version }))
            .result();
        assert_eq!(asked, json!({ "cniVersion": version, "supportedVersions": VERSIONS }));

        let (id, pod) = (new_id(), Namespace::new());
        let result = node.add(&id, &pod);
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["interfaces"][1]["sandbox"], pod.path());
        assert_eq!(
            result["ips"][0].get("version"),
            (version < "1").then(|| json!("4")).as_ref()
        );
        if version > "0.4" {
            assert_eq!(node.check(&id, &pod, &result).result(), Value::Null);
        }
        let status = node.call("STATUS", "", None, &node.config);
        if version == "1.1.0" {
            assert_eq!(status.result(), Value::Null);
        } else {
            assert_eq!(status.failure().0, 1, "STATUS came with 1.1.0");
        }
        node.del(&id);
        node.assert_empty();
        assert_eq!(pod.link("eth0"), None);
    }
}

#[test]
fn packets_flow_between_pods_node_and_the_world_in_both_families() {
    let node = Node::new(&[V4, V6]);
    let world = outside(
        &node.namespace,
        1400,
        &[("192.0.2.1/24", "192.0.2.2/24"), ("2001:db8::1/64", "2001:db8::2/64")],
        &[V4, V6],
    );
    let (a, b) = (Namespace::new(), Namespace::new());
    let (a_id, b_id) = (new_id(), new_id());
    let (a_ips, b_ips) = (ips(&node.add(&a_id, &a)), ips(&node.add(&b_id, &b)));
    for family in 0..2 {
        let node_ip: IpAddr = ["10.88.0.1", "fd88::1"][family].parse().unwrap();
        let world_ip: IpAddr = ["192.0.2.1", "2001:db8::1"][family].parse().unwrap();
        let echo = b.echo(b_ips[family]);
        assert_eq!(a.talk_to(&echo), a_ips[family], "pod to pod");
        assert_eq!(b.talk_to(&echo), b_ips[family], "pod to itself");
        assert_eq!(node.namespace.talk_to(&echo), node_ip, "node to pod");
        assert_eq!(world.talk_to(&echo), world_ip, "world to pod");
        let echo = node.namespace.echo(node_ip);
        assert_eq!(a.talk_to(&echo), a_ips[family], "pod to node");
        assert_eq!(b.talk_to(&echo), b_ips[family], "pod to node");
        let echo = world.echo(world_ip);
        assert_eq!(a.talk_to(&echo), a_ips[family], "pod to world");
        let echo = a.echo(["127.0.0.1", "::1"][family].parse().unwrap());
        a.talk_to(&echo);
    }
    assert_eq!(a.link("eth0").unwrap().mtu, 1400, "the underlay's");
    node.del(&a_id);
    let echo = b.echo(b_ips[0]);
    node.namespace.talk_to(&echo);
    drop(echo);
    node.del(&b_id);
    node.assert_empty();
}

#[test]
fn a_node_with_no_address_but_its_loopbacks_speaks_to_its_pods() {
    let node = Node::new(&[V4]);
    let pod = Namespace::new();
    let result = node.add(&new_id(), &pod);
    let echo = pod.echo(ips(&result)[0]);
    assert_eq!(node.namespace.talk_to(&echo), "10.88.0.1".parse::<IpAddr>().unwrap());
}

#[test]
fn a_pod_has_its_addresses_and_no_other_and_believes_no_router() {
    let node = Node::new(&[V4, V6]);
    let pod = Namespace::new();
    let result = node.add(&new_id(), &pod);
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    let own: Vec<_> = pod
        .addresses("eth0")
        .into_iter()
        .filter(|a| !a.to_string().starts_with("fe80"))
        .collect();
    assert_eq!(
        own,
        ["10.88.0.2/32".parse::<Cidr>().unwrap(), "fd88::2/128".parse().unwrap()]
    );
    assert_eq!(pod.sysctl("ipv6/conf/eth0/accept_ra"), "0");
    assert_eq!(pod.sysctl("ipv6/conf/eth0/accept_dad"), "0");
    assert!(pod.link("lo").unwrap().up);
    assert_eq!(node.namespace.sysctl(&format!("ipv6/conf/{host}/accept_ra")), "0");
    assert_eq!(node.namespace.sysctl(&format!("ipv4/conf/{host}/rp_filter")), "1");
    assert_eq!(node.namespace.sysctl(&format!("ipv4/conf/{host}/route_localnet")), "0");
    assert_eq!(node.namespace.sysctl("ipv4/ip_forward"), "1");
    assert_eq!(node.namespace.sysctl("ipv6/conf/all/forwarding"), "1");
    // The gateway answers, if only to whoever asks on the wire.
    let gateway = std::net::SocketAddrV6::new(
        "fe80::1".parse().unwrap(),
        0,
        0,
        node.namespace.link(host).unwrap().index,
    );
    let listener = node.namespace.run(|| UdpSocket::bind(gateway).unwrap());
    let mut to = gateway;
    to.set_port(listener.local_addr().unwrap().port());
    to.set_scope_id(pod.link("eth0").unwrap().index);
    let asking = pod.run(|| UdpSocket::bind("[::]:0").unwrap());
    let moment = Some(Duration::from_millis(100));
    listener.set_read_timeout(moment).unwrap();
    asking.set_read_timeout(moment).unwrap();
    // No one promised that a datagram arrives.
    eventually("the gateway answers", || {
        let mut buffer = [0; 8];
        asking.send_to(b"who", to).unwrap();
        let Ok((_, from)) = listener.recv_from(&mut buffer) else {
            return false;
        };
        listener.send_to(b"i", from).unwrap();
        asking.recv(&mut buffer).is_ok()
    });
    let mut on_host = node.namespace.addresses(host);
    on_host.sort();
    assert_eq!(
        on_host,
        ["10.88.0.1/32", "fd88::1/128", "fe80::1/128"].map(|a| a.parse::<Cidr>().unwrap()),
        "none of the kernel's choosing"
    );
    let alias = node.namespace.link(host).unwrap().alias.unwrap();
    assert!(alias.ends_with("interface=eth0 pod=tests/pod"), "{alias}");
}

#[test]
fn without_an_ipv6_range_the_wire_carries_none() {
    let node = Node::new(&[V4]);
    let pod = Namespace::new();
    let result = node.add(&new_id(), &pod);
    let host = result["interfaces"][0]["name"].as_str().unwrap();
    assert_eq!(pod.sysctl("ipv6/conf/eth0/disable_ipv6"), "1");
    assert_eq!(node.namespace.sysctl(&format!("ipv6/conf/{host}/disable_ipv6")), "1");
    assert_eq!(pod.addresses("eth0"), ["10.88.0.2/32".parse().unwrap()]);
    assert_eq!(pod.sysctl("ipv6/conf/lo/disable_ipv6"), "0", "its own ::1 stays");
}

#[test]
fn a_pod_cannot_speak_with_an_address_that_is_not_its_own() {
    let node = Node::new(&[V4]);
    let pod = Namespace::new();
    node.add(&new_id(), &pod);
    let listener = node.namespace.run(|| UdpSocket::bind("10.88.0.1:0").unwrap());
    let to = listener.local_addr().unwrap();
    pod.ask(&[addr::add(link::LOOPBACK, "10.88.0.77/32".parse().unwrap())]);
    let send = |from: &str, text: &[u8]| {
        let socket = pod.run(|| UdpSocket::bind((from, 0)).unwrap());
        socket.send_to(text, to).unwrap();
    };
    send("10.88.0.77", b"forged");
    send("10.88.0.2", b"own");
    // The honest packet was sent last; were the forged one let through, it would have arrived before.
    listener.set_read_timeout(Some(world::PATIENCE)).unwrap();
    let mut buffer = [0; 16];
    let (length, from) = listener.recv_from(&mut buffer).unwrap();
    assert_eq!(
        (&buffer[..length], from.ip().to_string().as_str()),
        (&b"own"[..], "10.88.0.2")
    );
}

#[test]
fn an_add_again_gives_the_same_addresses_and_a_wire_that_works() {
    let node = Node::new(&[V4, V6]);
    let (id, pod) = (new_id(), Namespace::new());
    let first = node.add(&id, &pod);
    assert_eq!(node.add(&id, &pod), first);
    assert_eq!(node.check(&id, &pod, &first).result(), Value::Null);
    let echo = pod.echo(ips(&first)[0]);
    node.namespace.talk_to(&echo);
    drop(echo);
    node.del(&id);
    node.assert_empty();
}

#[test]
fn what_cannot_be_added_is_refused_by_the_specifications_codes_and_leaves_nothing() {
    let node = Node::new(&[V4]);
    let pod = Namespace::new();
    let file = node.run_dir.path().join("file");
    fs::write(&file, "").unwrap();
    let add = |netns: &str| node.call("ADD", &new_id(), Some(netns), &node.config).failure();

    assert_eq!(
        add("/nowhere/netns"),
        (3, "there is no network namespace at /nowhere/netns".into())
    );
    assert_eq!(
        add(file.to_str().unwrap()),
        (4, format!("{} is not a network namespace", file.display()))
    );
    let (code, message) = add(node.namespace.path());
    assert_eq!(code, 4);
    assert!(message.contains("is the node's own network namespace"), "{message}");

    // Someone else's interface has the name.
    let other = Namespace::new();
    let netns = pod.open();
    other.ask(&[link::veth(&link::Veth {
        name: "other",
        mac: link::Mac([2, 0, 0, 0, 2, 1]),
        peer_name: "eth0",
        peer_mac: link::Mac([2, 0, 0, 0, 2, 2]),
        peer_netns: std::os::fd::AsRawFd::as_raw_fd(&netns),
        mtu: 1500,
    })]);
    let (code, message) = add(pod.path());
    assert_eq!(
        (code, message),
        (
            4,
            format!("{} has an interface eth0 already, which is not ours", pod.path())
        )
    );
    assert!(pod.link("eth0").is_some(), "theirs stays");
    node.assert_empty();
}

#[test]
fn a_del_needs_neither_namespace_nor_records_nor_a_whole_configuration() {
    let node = Node::new(&[V4]);
    let poor = json!({ "runDir": node.run_dir.path(), "ranges": 7 });

    let (id, pod) = (new_id(), Namespace::new());
    node.add(&id, &pod);
    drop(pod);
    node.call("DEL", &id, Some("/nowhere/netns"), &poor).result();
    eventually("the wire goes with its namespace", || node.namespace.wires().is_empty());
    node.assert_empty();
    node.call("DEL", &id, None, &poor).result();

    let (id, pod) = (new_id(), Namespace::new());
    node.add(&id, &pod);
    fs::remove_dir_all(node.ipam_dir()).unwrap();
    node.call("DEL", &id, Some(pod.path()), &poor).result();
    node.assert_empty();
    assert_eq!(pod.link("eth0"), None);
}

#[test]
fn a_check_tells_what_was_changed() {
    let node = Node::new(&[V4, V6]);
    let (id, pod) = (new_id(), Namespace::new());
    let result = node.add(&id, &pod);
    let host = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
    let ip: IpAddr = "10.88.0.2".parse().unwrap();
    let told = || node.check(&id, &pod, &result).failure();
    let index = node.namespace.link(&host).unwrap().index;

    let mut forged = result.clone();
    forged["ips"][0]["address"] = "10.88.0.99/32".into();
    assert_eq!(
        node.check(&id, &pod, &forged).failure(),
        (
            100,
            format!("address 10.88.0.99 is not recorded for eth0 of container {id}")
        )
    );
    assert_eq!(
        node.call("CHECK", &id, Some(pod.path()), &node.config).failure().0,
        7,
        "without prevResult"
    );

    let neighbour = neighbour::permanent(index, ip, link::Mac([2, 9, 9, 9, 9, 9]));
    node.namespace.ask(&[neighbour]);
    assert_eq!(
        told(),
        (100, "the permanent neighbour entry of 10.88.0.2 is missing".into())
    );
    let route = route::Route {
        destination: Cidr::host(ip),
        link: Some(index),
        gateway: None,
        source: None,
        ours: true,
    };
    node.namespace.ask(&[route::delete(&route)]);
    assert_eq!(
        told(),
        (
            100,
            "the node's route to 10.88.0.2 does not go by the pod's wire".into()
        )
    );
    node.namespace.ask(&[link::delete(&host)]);
    assert_eq!(told(), (100, format!("link {host} is missing")));
    node.del(&id);
    let (code, _) = told();
    assert_eq!(code, 100, "no record");
}

#[test]
fn a_gc_removes_what_is_not_listed_and_nothing_else() {
    let node = Node::new(&[V4, V6]);
    let other = node.with("name", "other".into());
    let pods: Vec<_> = (0..4).map(|_| (new_id(), Namespace::new())).collect();
    let results: Vec<_> = pods[..3].iter().map(|(id, pod)| node.add(id, pod)).collect();
    // Another network's, whose addresses are its own.
    let (other_id, other_pod) = &pods[3];
    let mut other_config = other.clone();
    other_config["ranges"] = json!(["10.89.0.0/24"]);
    node.call("ADD", other_id, Some(other_pod.path()), &other_config)
        .result();

    assert_eq!(node.call("GC", "", None, &node.config).failure().0, 7, "without a list");
    assert_eq!(node.namespace.wires().len(), 4);

    node.gc(&[&pods[1].0]).result();
    assert_eq!(node.namespace.wires().len(), 2);
    assert_eq!(node.check(&pods[1].0, &pods[1].1, &results[1]).result(), Value::Null);
    assert_eq!(
        node.records().len(),
        3,
        "two addresses and their owner: {:?}",
        node.records()
    );
    node.gc(&[]).result();
    assert_eq!(node.records(), Vec::<String>::new());
    node.call("DEL", other_id, None, &other_config).result();
    node.assert_empty();
}

#[test]
fn a_full_range_is_told_by_add_and_status_until_a_pod_goes() {
    let node = Node::new(&["10.88.0.0/29"]);
    let pods: Vec<_> = (0..5).map(|_| (new_id(), Namespace::new())).collect();
    for (id, pod) in &pods {
        node.add(id, pod);
    }
    let late = Namespace::new();
    let late_id = new_id();
    let (code, message) = node.call("ADD", &late_id, Some(late.path()), &node.config).failure();
    assert_eq!(code, 11);
    assert!(
        message.starts_with("no address is left in 10.88.0.0/29: 5 usable, 5 held by live pods"),
        "{message}"
    );
    let (code, message) = node.call("STATUS", "", None, &node.config).failure();
    assert_eq!(
        (code, message.as_str()),
        (50, "every address of 10.88.0.0/29 is held by a pod")
    );
    assert_eq!(late.link("eth0"), None);

    // One pod's namespace goes without a DEL: its address serves the next.
    let mut pods = pods;
    drop(pods.remove(2));
    node.call("STATUS", "", None, &node.config).result();
    assert_eq!(
        ips(&node.add(&late_id, &late)),
        ["10.88.0.4".parse::<IpAddr>().unwrap()]
    );
    for id in pods.iter().map(|(id, _)| id).chain([&late_id]) {
        node.del(id);
    }
    eventually("the lost pod's wire goes with its namespace", || {
        node.namespace.wires().is_empty()
    });
    node.gc(&[]).result();
    node.assert_empty();
}

#[test]
fn a_namespace_that_lost_its_name_but_lives_gives_its_address_up_with_its_wire() {
    let node = Node::new(&["10.88.0.0/30"]);
    let lost = Namespace::new();
    // A path that goes while the namespace stays, as when a runtime's directory is cleared around a stuck process.
    let path = node.run_dir.path().join("netns");
    std::os::unix::fs::symlink(lost.path(), &path).unwrap();
    let first = node
        .call("ADD", &new_id(), Some(path.to_str().unwrap()), &node.config)
        .result();
    fs::remove_file(&path).unwrap();
    let pod = Namespace::new();
    let second = node.add(&new_id(), &pod);
    assert_eq!(ips(&first), ips(&second));
    assert_eq!(lost.link("eth0"), None, "no two live interfaces have one address");
    let echo = pod.echo(ips(&second)[0]);
    node.namespace.talk_to(&echo);
}

#[test]
fn a_hundred_at_once_get_their_own_addresses_and_leave_nothing() {
    const PODS: usize = 100;
    let node = Node::new(&[V4, V6]);
    let pods: Vec<_> = (0..PODS).map(|_| (new_id(), Namespace::new())).collect();
    let adding: Vec<_> = pods
        .iter()
        .map(|(id, pod)| node.spawn("ADD", id, Some(pod.path()), &node.config))
        .collect();
    let results: Vec<_> = adding
        .into_iter()
        .map(|child| answer(child.wait_with_output().unwrap()).result())
        .collect();
    let mut addresses: Vec<_> = results.iter().flat_map(ips).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), PODS * 2);
    for ((id, pod), result) in pods.iter().zip(&results).step_by(17) {
        assert_eq!(node.check(id, pod, result).result(), Value::Null);
        let echo = pod.echo(ips(result)[1]);
        node.namespace.talk_to(&echo);
    }
    let deleting: Vec<_> = pods
        .iter()
        .map(|(id, _)| node.spawn("DEL", id, None, &node.config))
        .collect();
    for child in deleting {
        answer(child.wait_with_output().unwrap()).result();
    }
    node.assert_empty();
}

#[test]
fn a_runtime_that_asks_for_a_loopback_gets_one() {
    let node = Node::new(&[V4]);
    let pod = Namespace::new();
    let config = json!({ "cniVersion": "0.3.1", "name": "cni-loopback", "type": "loopback" });
    let result = node.call("ADD", &new_id(), Some(pod.path()), &config).result();
    assert_eq!(
        result,
        json!({
            "cniVersion": "0.3.1",
            "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": pod.path() }],
            "ips": [
                { "address": "127.0.0.1/8", "interface": 0, "version": "4" },
                { "address": "::1/128", "interface": 0, "version": "6" },
            ],
            "dns": {},
        })
    );
    assert!(pod.link("lo").unwrap().up);
    assert_eq!(
        node.call("DEL", &new_id(), Some("/nowhere"), &config).result(),
        Value::Null
    );
    assert!(!node.run_dir.path().join("ipam").exists());
}
