//! Where nodes, pods and services are reached. Pure.

use std::net::IpAddr;

use serde_json::Value;

use crate::{Reason, Status};

/// Whom to believe at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// No TLS.
    Plain,
    /// A node's agent, whose certificate is the cluster's; ours is shown to it.
    Node,
    /// Anybody, over TLS: pods have certificates of anybody's.
    Anybody,
}

/// Where somebody is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An address, or a name.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whom to believe there.
    pub trust: Trust,
}

impl Endpoint {
    /// As the header `Host` has it.
    pub fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// The order in which a node's addresses are tried for one that there is.
const PREFERRED: [&str; 5] = ["InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"];
/// Where agents listen that don't say so.
const AGENT_PORT: u16 = 10250;
/// Of nodes whose agents speak all that clients speak over WebSocket (KEP-4006).
const SPEAKS_WEBSOCKET: &str = "ExtendWebSocketsToKubelet";

/// Where a node's agent is reached.
pub fn agent(node: &Value) -> Result<Endpoint, Status> {
    let host = node_host(node)?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
    Ok(Endpoint {
        host,
        port: port.unwrap_or(AGENT_PORT),
        trust: Trust::Node,
    })
}

/// Whether a node's agent speaks the channel protocols over WebSocket itself.
pub fn speaks_websocket(node: &Value) -> bool {
    let declared = node["status"]["declaredFeatures"].as_array();
    declared
        .into_iter()
        .flatten()
        .any(|feature| feature == SPEAKS_WEBSOCKET)
}

fn node_host(node: &Value) -> Result<String, Status> {
    let addresses = node["status"]["addresses"].as_array();
    let of = |kind: &&str| {
        let found = addresses
            .into_iter()
            .flatten()
            .find(|address| address["type"] == **kind);
        found.and_then(|address| address["address"].as_str())
    };
    let name = &node["metadata"]["name"];
    let found = PREFERRED.iter().find_map(of);
    let none = || {
        Status::new(
            Reason::ServiceUnavailable,
            format!("no preferred addresses found for node {name}; known addresses: []"),
        )
    };
    found.map(str::to_owned).ok_or_else(none)
}

/// `[scheme:]name[:port]`, as the name of something that is reached through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Whether it speaks TLS.
    pub tls: bool,
    /// The object.
    pub name: &'a str,
    /// A port's number or, of a service, its name; empty for the only one there is.
    pub port: &'a str,
}

impl<'a> Named<'a> {
    /// Reads such a name.
    pub fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let tls = match scheme {
            "" | "http" => false,
            "https" => true,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { tls, name, port })
    }

    fn trust(&self) -> Trust {
        if self.tls { Trust::Anybody } else { Trust::Plain }
    }

    fn default_port(&self) -> u16 {
        if self.tls { 443 } else { 80 }
    }
}

/// Where a node itself is reached: its agent, unless a port is asked for that isn't the agent's.
pub fn node(node: &Value, named: Named<'_>) -> Result<Endpoint, Status> {
    let agent = agent(node)?;
    if named.port.is_empty() || named.port == agent.port.to_string() {
        return Ok(agent);
    }
    let port = number(named.port)?;
    if let Ok(address) = agent.host.parse() {
        proxyable(address)?;
    }
    Ok(Endpoint {
        port,
        trust: named.trust(),
        ..agent
    })
}

/// Where a pod is reached: by its address, at the port that is asked for or its first.
pub fn pod(pod: &Value, named: Named<'_>) -> Result<Endpoint, Status> {
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    let address: IpAddr = address
        .parse()
        .map_err(|_| Status::bad_request("address not allowed"))?;
    proxyable(address)?;
    let first = || {
        let containers = pod["spec"]["containers"].as_array();
        let mut ports = containers
            .into_iter()
            .flatten()
            .filter_map(|container| container["ports"][0]["containerPort"].as_u64());
        ports.next().and_then(|port| u16::try_from(port).ok())
    };
    let port = match named.port {
        "" => first().unwrap_or(named.default_port()),
        text => number(text)?,
    };
    Ok(Endpoint {
        host: address.to_string(),
        port,
        trust: named.trust(),
    })
}

/// Where a service is reached: at one of the endpoints of `slices` that are ready; `pick` chooses one of so many.
pub fn service(
    service: &Value,
    slices: &[Value],
    named: Named<'_>,
    pick: impl FnOnce(usize) -> usize,
) -> Result<Endpoint, Status> {
    let none = || {
        Status::new(
            Reason::ServiceUnavailable,
            format!("no endpoints available for service {:?}", named.name),
        )
    };
    let ports = service["spec"]["ports"].as_array().map_or(&[][..], Vec::as_slice);
    // By its name, by its number, or the only one there is.
    let wanted = match named.port {
        "" if ports.len() <= 1 => ports.first(),
        "" => ports
            .iter()
            .find(|port| port["name"].as_str().unwrap_or_default().is_empty()),
        text => ports.iter().find(|port| {
            port["name"] == text || port["port"].as_u64().is_some_and(|number| number.to_string() == text)
        }),
    };
    let wanted = wanted
        .map(|port| port["name"].as_str().unwrap_or_default())
        .ok_or_else(|| {
            Status::new(
                Reason::ServiceUnavailable,
                format!("no service port {:?} found for service {:?}", named.port, named.name),
            )
        })?;
    let mut endpoints = Vec::new();
    for slice in slices {
        let port = slice["ports"].as_array().into_iter().flatten();
        let mut port = port.filter(|port| port["name"].as_str().unwrap_or_default() == wanted);
        let port = port.find_map(|port| u16::try_from(port["port"].as_u64()?).ok());
        let Some(port) = port else { continue };
        let ready = slice["endpoints"].as_array().into_iter().flatten();
        let ready = ready.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        endpoints.extend(ready.filter_map(|endpoint| Some((endpoint["addresses"][0].as_str()?, port))));
    }
    if endpoints.is_empty() {
        return Err(none());
    }
    let at = pick(endpoints.len());
    let (host, port) = endpoints.get(at).copied().ok_or_else(none)?;
    let address: IpAddr = host.parse().map_err(|_| Status::bad_request("address not allowed"))?;
    proxyable(address)?;
    Ok(Endpoint {
        host: host.to_owned(),
        port,
        trust: named.trust(),
    })
}

fn number(text: &str) -> Result<u16, Status> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| Status::bad_request(format!("invalid port {text:?}")))
}

/// Whoever may write a pod's status must not reach the server's own machine by it.
fn proxyable(address: IpAddr) -> Result<(), Status> {
    let (loopback, link_local) = match address {
        IpAddr::V4(address) => (address.is_loopback(), address.is_link_local()),
        IpAddr::V6(address) => {
            let mapped = address.to_ipv4_mapped();
            (
                address.is_loopback() || mapped.is_some_and(|mapped| mapped.is_loopback()),
                address.is_unicast_link_local() || mapped.is_some_and(|mapped| mapped.is_link_local()),
            )
        }
    };
    if loopback || link_local || address.is_unspecified() || address.is_multicast() {
        return Err(Status::bad_request("address not allowed"));
    }
    Ok(())
}

/// The container that is meant in a pod, if that can be told.
pub fn container(pod: &Value, wanted: &str) -> Result<String, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let names = |field: &str| {
        let all = pod["spec"][field].as_array().into_iter().flatten();
        all.filter_map(|container| container["name"].as_str())
            .collect::<Vec<_>>()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    if !wanted.is_empty() {
        let known = main
            .iter()
            .chain(&init)
            .chain(&names("ephemeralContainers"))
            .any(|one| *one == wanted);
        let unknown = || Status::bad_request(format!("container {wanted} is not valid for pod {name}"));
        return known.then(|| wanted.to_owned()).ok_or_else(unknown);
    }
    match (&main[..], &init[..]) {
        ([only], []) => Ok((*only).to_owned()),
        ([], _) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}"
        ))),
        _ => {
            let mut why = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                main.join(" ")
            );
            if !init.is_empty() {
                why = format!("{why} or one of the init containers: [{}]", init.join(" "));
            }
            Err(Status::bad_request(why))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node_with(addresses: &Value) -> Value {
        json!({"metadata": {"name": "n1"}, "status": {"addresses": addresses}})
    }

    #[test]
    fn an_agent_is_reached_at_the_address_within_the_cluster() {
        let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let mut node = node_with(&json!([address("Hostname", "n1"), address("InternalIP", "10.0.0.1")]));
        let expected = Endpoint {
            host: "10.0.0.1".to_owned(),
            port: 10250,
            trust: Trust::Node,
        };
        assert_eq!(agent(&node), Ok(expected.clone()));
        node["status"]["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": 10999}});
        assert_eq!(agent(&node).unwrap().port, 10999);
        assert_eq!(
            agent(&node_with(&json!([]))).unwrap_err().reason,
            Reason::ServiceUnavailable
        );
        assert!(!speaks_websocket(&node));
        node["status"]["declaredFeatures"] = json!(["X", "ExtendWebSocketsToKubelet"]);
        assert!(speaks_websocket(&node));
        let own = super::node(&node, Named::parse("n1:10999").unwrap()).unwrap();
        assert_eq!(own.trust, Trust::Node);
        let other = super::node(&node, Named::parse("https:n1:9100").unwrap()).unwrap();
        assert_eq!(
            (other.port, other.trust),
            (9100, Trust::Anybody),
            "our certificate is for agents only"
        );
    }

    #[test]
    fn names_may_have_a_scheme_and_a_port() {
        let named = |tls, name, port| Some(Named { tls, name, port });
        for (text, expected) in [
            ("web", named(false, "web", "")),
            ("web:80", named(false, "web", "80")),
            ("https:web:", named(true, "web", "")),
            ("http:web:http", named(false, "web", "http")),
            ("ftp:web:21", None),
            ("https::443", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(Named::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_pod_is_reached_at_its_first_port_unless_its_address_is_none_of_the_clusters() {
        let at = |address: &str| json!({"status": {"podIP": address}, "spec": {"containers": [{}, {"ports": [{"containerPort": 8080}]}]}});
        let place = |address: &str, name: &str| pod(&at(address), Named::parse(name).unwrap());
        assert_eq!(place("10.1.0.5", "web").unwrap().authority(), "10.1.0.5:8080");
        assert_eq!(place("fd00::5", "web:80").unwrap().authority(), "[fd00::5]:80");
        assert_eq!(place("10.1.0.5", "https:web:8443").unwrap().trust, Trust::Anybody);
        for bad in [
            "",
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "0.0.0.0",
            "224.0.0.1",
        ] {
            assert_eq!(place(bad, "web").unwrap_err().message, "address not allowed", "{bad}");
        }
    }

    #[test]
    fn a_service_is_reached_at_an_endpoint_that_is_ready() {
        let web = json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}});
        let slices = [json!({
            "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 8081}],
            "endpoints": [
                {"addresses": ["10.1.0.4"], "conditions": {"ready": false}},
                {"addresses": ["10.1.0.5"], "conditions": {"ready": true}},
                {"addresses": ["10.1.0.6"], "conditions": {}},
            ],
        })];
        let place = |name, pick| service(&web, &slices, Named::parse(name).unwrap(), |_| pick);
        assert_eq!(place("web:http", 0).unwrap().authority(), "10.1.0.5:8080");
        assert_eq!(place("web:81", 1).unwrap().authority(), "10.1.0.6:8081");
        for (name, message) in [
            ("web:other", "no service port \"other\" found for service \"web\""),
            ("web", "no service port \"\" found for service \"web\""),
        ] {
            assert_eq!(place(name, 0).unwrap_err().message, message);
        }
        let empty = service(&web, &[], Named::parse("web:80").unwrap(), |_| 0).unwrap_err();
        assert_eq!(empty.message, "no endpoints available for service \"web\"");
    }

    #[test]
    fn a_container_must_be_named_where_there_is_more_than_one() {
        let pod = |containers: &Value, init: &Value| json!({"metadata": {"name": "web"}, "spec": {"containers": containers, "initContainers": init}});
        let (a, b, none) = (json!({"name": "a"}), json!({"name": "b"}), json!([]));
        assert_eq!(container(&pod(&json!([a]), &none), "").unwrap(), "a");
        assert_eq!(container(&pod(&json!([a]), &json!([b])), "b").unwrap(), "b");
        for (pod, wanted, message) in [
            (pod(&json!([a]), &none), "x", "container x is not valid for pod web"),
            (
                pod(&json!([a, b]), &none),
                "",
                "a container name must be specified for pod web, choose one of: [a b]",
            ),
            (
                pod(&json!([a]), &json!([b])),
                "",
                "a container name must be specified for pod web, choose one of: [a] or one of the init containers: [b]",
            ),
        ] {
            assert_eq!(container(&pod, wanted).unwrap_err().message, message);
        }
    }
}
