//! How pods are reached.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    AGE, NAME, SELECTOR, Table,
    cell::{self, NONE, UNSET},
    text,
};

pub(super) static SERVICES: Table = Table {
    columns: &[
        NAME,
        text("Type", "How far it reaches"),
        text("Cluster-IP", "Its address in the cluster"),
        text("External-IP", "Its addresses outside"),
        text("Port(s)", "Its ports, with those of the nodes"),
        AGE,
        SELECTOR,
    ],
    row: |object, now| {
        let ports = ports(object);
        vec![
            cell::name(object),
            cell::string(object, "/spec/type"),
            cell::string_or(object, "/spec/clusterIPs/0", NONE),
            external(object).into(),
            if ports.is_empty() { NONE.into() } else { ports.into() },
            cell::age(object, now),
            cell::labels(object, "/spec/selector"),
        ]
    },
};

fn ports(service: &Value) -> String {
    let port = |port: &Value| {
        let (number, protocol) = (cell::int(port, "/port"), cell::str(port, "/protocol"));
        match cell::int(port, "/nodePort") {
            node @ 1.. => format!("{number}:{node}/{protocol}"),
            _ => format!("{number}/{protocol}"),
        }
    };
    let all: Vec<_> = cell::items(service, "/spec/ports").iter().map(port).collect();
    all.join(",")
}

/// Where a load balancer listens.
fn balanced(object: &Value) -> String {
    let addresses: BTreeSet<_> = cell::items(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| cell::str_or(ingress, "/ip", cell::str(ingress, "/hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    addresses.into_iter().collect::<Vec<_>>().join(",")
}

fn external(service: &Value) -> String {
    let given = cell::joined(service, "/spec/externalIPs", ",");
    match cell::str(service, "/spec/type") {
        "ClusterIP" | "NodePort" if given.is_empty() => NONE.to_owned(),
        "ClusterIP" | "NodePort" => given,
        "LoadBalancer" => match (balanced(service), given) {
            (balanced, given) if balanced.is_empty() && given.is_empty() => "<pending>".to_owned(),
            (balanced, given) if balanced.is_empty() => given,
            (balanced, given) if given.is_empty() => balanced,
            (balanced, given) => format!("{balanced},{given}"),
        },
        "ExternalName" => cell::str(service, "/spec/externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// An address and a port, the address in brackets if it has colons of its own.
fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') {
        format!("[{address}]:{port}")
    } else {
        format!("{address}:{port}")
    }
}

pub(super) static ENDPOINTS: Table = Table {
    columns: &[NAME, text("Endpoints", "Addresses and ports that are ready"), AGE],
    row: |object, now| {
        let mut list = Vec::new();
        for subset in cell::items(object, "/subsets") {
            let addresses = || {
                cell::items(subset, "/addresses")
                    .iter()
                    .map(|address| cell::str(address, "/ip"))
            };
            let ports = cell::items(subset, "/ports");
            if ports.is_empty() {
                list.extend(addresses().map(str::to_owned));
            }
            for port in ports {
                list.extend(addresses().map(|address| host_port(address, cell::int(port, "/port"))));
            }
        }
        let none = if cell::items(object, "/subsets").is_empty() {
            NONE
        } else {
            ""
        };
        vec![
            cell::name(object),
            cell::three(&list, none).into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static SLICES: Table = Table {
    columns: &[
        NAME,
        text("AddressType", "The family of its addresses"),
        text("Ports", "Its ports"),
        text("Endpoints", "Its addresses"),
        AGE,
    ],
    row: |object, now| {
        let port = |port: &Value| match port.get("port").and_then(Value::as_i64) {
            Some(number) => number.to_string(),
            None => cell::str_or(port, "/name", "*").to_owned(),
        };
        let ports: Vec<_> = cell::items(object, "/ports").iter().map(port).collect();
        let addresses: Vec<_> = cell::items(object, "/endpoints")
            .iter()
            .flat_map(|endpoint| cell::items(endpoint, "/addresses"))
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        vec![
            cell::name(object),
            cell::string(object, "/addressType"),
            cell::three(&ports, UNSET).into(),
            cell::three(&addresses, UNSET).into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static INGRESSES: Table = Table {
    columns: &[
        NAME,
        text("Class", "Which controller it is for"),
        text("Hosts", "Hosts it is for"),
        text("Address", "Where it listens"),
        text("Ports", "Ports it listens on"),
        AGE,
    ],
    row: |object, now| {
        let hosts: Vec<_> = cell::items(object, "/spec/rules")
            .iter()
            .map(|rule| cell::str(rule, "/host").to_owned())
            .filter(|host| !host.is_empty())
            .collect();
        let encrypted = !cell::items(object, "/spec/tls").is_empty();
        vec![
            cell::name(object),
            cell::string_or(object, "/spec/ingressClassName", NONE),
            cell::three(&hosts, "*").into(),
            balanced(object).into(),
            if encrypted { "80, 443" } else { "80" }.into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static CLASSES: Table = Table {
    columns: &[
        NAME,
        text("Controller", "The controller of the class"),
        text("Parameters", "The object that says more of it"),
        AGE,
    ],
    row: |object, now| {
        let parameters = object
            .pointer("/spec/parameters")
            .filter(|parameters| !parameters.is_null());
        let parameters = parameters.map_or(NONE.to_owned(), |parameters| {
            let (kind, name) = (cell::str(parameters, "/kind"), cell::str(parameters, "/name"));
            match cell::str(parameters, "/apiGroup") {
                "" => format!("{kind}/{name}"),
                group => format!("{kind}.{group}/{name}"),
            }
        });
        vec![
            cell::name(object),
            cell::string(object, "/spec/controller"),
            parameters.into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static POLICIES: Table = Table {
    columns: &[NAME, text("Pod-Selector", "Which pods it is about"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::selector(object, "/spec/podSelector"),
            cell::age(object, now),
        ]
    },
};

pub(super) static SERVICE_CIDRS: Table = Table {
    columns: &[NAME, text("CIDRs", "Ranges that addresses are given out of"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::joined(object, "/spec/cidrs", ",").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static ADDRESSES: Table = Table {
    columns: &[NAME, text("ParentRef", "What has the address")],
    row: |object, _| {
        let parent = object.pointer("/spec/parentRef").filter(|parent| !parent.is_null());
        let parent = parent.map_or(NONE.to_owned(), |parent| {
            let mut words = match cell::str(parent, "/group") {
                "" => cell::str(parent, "/resource").to_lowercase(),
                group => format!("{}.{group}", cell::str(parent, "/resource")).to_lowercase(),
            };
            for field in ["/namespace", "/name"] {
                let part = cell::str(parent, field);
                if !part.is_empty() {
                    words.push('/');
                    words.push_str(part);
                }
            }
            words
        });
        vec![cell::name(object), parent.into()]
    },
};
