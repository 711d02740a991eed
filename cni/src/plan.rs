//! The wire of an attachment, and what a previous result promised. Pure.

use std::net::IpAddr;

use bosun_net::{
    Attachment, Cidr, Family,
    ipam::Pool,
    link::Mac,
    names::{self, Alias},
    wire::{Pair, Wire},
};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::{CniError, Code};

/// A wire that was made.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The wire.
    pub wire: &'a Wire,
    /// The pod's namespace, as the runtime wrote it.
    pub netns: &'a str,
}

/// The wire of an attachment with these addresses.
pub fn wire(
    network: &str,
    attachment: &Attachment,
    pod: Option<String>,
    pools: &[Pool],
    addresses: &[IpAddr],
    mtu: u32,
) -> Wire {
    let node_address = |pod: IpAddr| {
        let pool = pools.iter().find(|pool| pool.family() == Family::of(pod));
        pool.map(|pool| Pair {
            pod,
            node: pool.node_address(),
        })
    };
    Wire {
        host_link: names::host_link(network, attachment),
        alias: Alias {
            network: network.to_owned(),
            attachment: attachment.clone(),
            pod,
        }
        .to_text(),
        pod_link: attachment.ifname.clone(),
        pod_mac: names::pod_mac(network, attachment),
        mtu,
        addresses: addresses.iter().filter_map(|pod| node_address(*pod)).collect(),
    }
}

/// What the result of an ADD promised of the pod's interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Reads the previous result of an attachment. Results of other plugins in the list stand beside ours and are theirs.
pub fn promise(previous: &Value, host_link: &str, ifname: &str) -> Result<Promise, CniError> {
    #[derive(Deserialize)]
    struct Previous {
        #[serde(default)]
        interfaces: Vec<Interface>,
        #[serde(default)]
        ips: Vec<Ip>,
    }
    #[derive(Deserialize)]
    struct Interface {
        name: String,
        #[serde(default)]
        mac: String,
        #[serde(default)]
        sandbox: String,
    }
    #[derive(Deserialize)]
    struct Ip {
        address: Cidr,
        interface: Option<usize>,
    }
    let invalid = |what: String| CniError::new(Code::InvalidConfig, format!("`prevResult` {what}"));
    let previous: Previous =
        Previous::deserialize(previous).map_err(|e| invalid("is not a result of ADD".into()).because(&e))?;
    if !previous
        .interfaces
        .iter()
        .any(|interface| interface.sandbox.is_empty() && interface.name == host_link)
    {
        return Err(invalid(format!("lacks the interface {host_link} on the node")));
    }
    let ours = |interface: &Interface| !interface.sandbox.is_empty() && interface.name == ifname;
    let Some(index) = previous.interfaces.iter().position(ours) else {
        return Err(invalid(format!("lacks the interface {ifname} in the pod")));
    };
    let mac = &previous.interfaces[index].mac;
    let mac = if mac.is_empty() {
        None
    } else {
        Some(parse_mac(mac).ok_or_else(|| invalid(format!("has the malformed hardware address `{mac}`")))?)
    };
    let ips = previous.ips.iter().filter(|ip| ip.interface == Some(index));
    let addresses: Vec<_> = ips.map(|ip| ip.address.address()).collect();
    if addresses.is_empty() {
        return Err(invalid(format!("has no address for the interface {ifname}")));
    }
    Ok(Promise { mac, addresses })
}

fn parse_mac(text: &str) -> Option<Mac> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(mac))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Version, added};
    use proptest::prelude::*;
    use serde_json::json;

    fn made() -> Wire {
        let pools: Vec<_> = ["10.0.0.0/24", "fd00::/64"]
            .iter()
            .map(|range| Pool::new(range.parse().unwrap()).unwrap())
            .collect();
        let attachment = Attachment {
            container: "c1".into(),
            ifname: "eth0".into(),
        };
        let addresses: Vec<_> = ["10.0.0.7", "fd00::7"].iter().map(|ip| ip.parse().unwrap()).collect();
        wire(
            "bosun",
            &attachment,
            Some("default/web".into()),
            &pools,
            &addresses,
            1500,
        )
    }

    #[test]
    fn a_wire_pairs_each_address_with_the_nodes_of_its_family() {
        let wire = made();
        let pairs: Vec<_> = wire
            .addresses
            .iter()
            .map(|p| (p.pod.to_string(), p.node.to_string()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("10.0.0.7".into(), "10.0.0.1".into()),
                ("fd00::7".into(), "fd00::1".into())
            ]
        );
        assert_eq!(
            wire.alias,
            "bosun network=bosun container=c1 interface=eth0 pod=default/web"
        );
        assert!(wire.host_link.starts_with("bos"));
    }

    #[test]
    fn what_every_versions_result_promises_is_read_back() {
        let wire = made();
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let result = added(
                Version::parse(version).unwrap(),
                &Outcome {
                    wire: &wire,
                    netns: "/n",
                },
            );
            let promise = promise(&result, &wire.host_link, "eth0").unwrap();
            assert_eq!(promise.mac, Some(wire.pod_mac), "{version}");
            assert_eq!(
                promise.addresses,
                wire.addresses.iter().map(|p| p.pod).collect::<Vec<_>>(),
                "{version}"
            );
        }
    }

    #[test]
    fn a_result_that_is_not_of_this_attachment_is_refused() {
        let wire = made();
        let good = added(
            Version::NEWEST,
            &Outcome {
                wire: &wire,
                netns: "/n",
            },
        );
        let broken = |change: fn(&mut Value)| {
            let mut result = good.clone();
            change(&mut result);
            promise(&result, &wire.host_link, "eth0").map_err(|e| e.message)
        };
        assert!(broken(|_| {}).is_ok());
        for (change, told) in [
            (
                (|r| *r = json!("x")) as fn(&mut Value),
                "`prevResult` is not a result of ADD".to_owned(),
            ),
            (
                |r| r["interfaces"] = json!([]),
                format!("`prevResult` lacks the interface {} on the node", wire.host_link),
            ),
            (
                |r| r["interfaces"][1]["name"] = json!("net1"),
                "`prevResult` lacks the interface eth0 in the pod".into(),
            ),
            (
                |r| r["interfaces"][1]["mac"] = json!("+1:00:00:00:00:00"),
                "`prevResult` has the malformed hardware address `+1:00:00:00:00:00`".into(),
            ),
            (
                |r| r["ips"] = json!([]),
                "`prevResult` has no address for the interface eth0".into(),
            ),
        ] {
            assert_eq!(broken(change), Err(told));
        }
    }

    proptest! {
        #[test]
        fn only_six_pairs_of_digits_are_a_hardware_address(text in "[0-9a-fA-F:+ ]{0,18}") {
            if let Some(mac) = parse_mac(&text) {
                prop_assert_eq!(mac.to_string(), text.to_lowercase());
            }
        }
    }
}
