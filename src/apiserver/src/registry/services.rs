//! Addresses and node ports of Services: given out in the same transaction that stores the Service, so that nothing that
//! happens between can leak one or give it twice.
//!
//! Who has an address is told by an object of its own, an `IPAddress`, as upstream has it (KEP-1880); who has a node port by
//! a key beside the objects. Such a record is put on condition that it is absent, and deleted with what it is for.

mod families;
pub mod range;

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive, sync::Arc};

use bosun_api::field::{FieldError, Problem};
use bosun_store::{Compare, KeyRange, Op, Revision, Txn};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

pub use range::{IpRange, IpRangeError};

use super::{
    Registry, metadata, own_request, read,
    write::{Place, invalid},
};
use crate::{
    Reason, Resource, Status,
    cache::{Cache, entry::encode},
    options::WriteOptions,
};

/// What node ports' records begin with.
const NODE_PORTS: &str = "/bosun/nodeports/";
/// Labels of the records of addresses, as upstream.
const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// What Services are given.
#[derive(Clone, Debug)]
pub struct ServiceConfig {
    /// One range, or one of each family; the first is the default.
    pub ranges: Vec<IpRange>,
    /// Node ports.
    pub node_ports: RangeInclusive<u16>,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            ranges: vec!["10.96.0.0/16".parse().expect("a range")],
            node_ports: 30_000..=32_767,
        }
    }
}

/// What a Service has.
#[derive(Debug, Default, PartialEq)]
struct Claims {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

/// Whether it is the kind.
pub(super) fn is_service(row: &Resource) -> bool {
    (&*row.group, &*row.plural) == ("", "services")
}

fn claims(service: &Value) -> Claims {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return Claims::default();
    }
    let addresses = spec["clusterIPs"].as_array().into_iter().flatten();
    let ports = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| &port["nodePort"]);
    let port = |value: &Value| {
        value
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
    };
    Claims {
        addresses: addresses.filter_map(|address| address.as_str()?.parse().ok()).collect(),
        ports: ports.chain([&spec["healthCheckNodePort"]]).filter_map(port).collect(),
    }
}

fn field_error(field: impl Into<String>, value: Value, why: impl Into<String>) -> Vec<FieldError> {
    vec![FieldError {
        field: field.into(),
        problem: Problem::Invalid(value, why.into()),
    }]
}

impl Registry {
    /// Gives a Service that is to be stored what it asks for, and takes back what it no longer has.
    pub(super) async fn settle_service(
        &self,
        place: &Place<'_>,
        service: &mut Value,
        old: Option<&Value>,
        txn: &mut Txn,
    ) -> Result<(), Status> {
        let name = metadata::text(service, "name").to_owned();
        let refuse = |errors: Vec<FieldError>| invalid(place.row, &name, &errors);
        let config = &self.config.services;
        let had = old.map(claims).unwrap_or_default();
        let mut spec = service["spec"].clone();
        let configured: Vec<_> = config.ranges.iter().map(IpRange::family).collect();
        families::settle(&mut spec, old.map(|old| &old["spec"]), &configured).map_err(refuse)?;
        self.settle_addresses(service, &mut spec, &had).await?.map_err(refuse)?;
        self.settle_ports(&mut spec, &had).await?.map_err(refuse)?;
        service["spec"] = spec;
        let has = claims(service);
        self.record(place.request.now, service, &had, &has, txn)
    }

    /// Takes back what a Service that goes has.
    pub(super) fn release_service(&self, service: &Value, txn: &mut Txn) -> Result<(), Status> {
        self.record(
            Timestamp::UNIX_EPOCH,
            service,
            &claims(service),
            &Claims::default(),
            txn,
        )
    }

    async fn settle_addresses(
        &self,
        service: &Value,
        spec: &mut Value,
        had: &Claims,
    ) -> Result<Result<(), Vec<FieldError>>, Status> {
        let mut addresses: Vec<String> = spec["clusterIPs"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|address| Some(address.as_str()?.to_owned()))
            .collect();
        if spec["type"] == "ExternalName" || addresses.first().is_some_and(|address| address == "None") {
            return Ok(Ok(()));
        }
        let records = self.address_records()?;
        for (at, family) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate() {
            let Some(range) = self
                .config
                .services
                .ranges
                .iter()
                .find(|range| range.family() == family)
            else {
                continue;
            };
            match addresses
                .get(at)
                .map(|address| (address.clone(), address.parse::<IpAddr>()))
            {
                Some((_, Ok(address))) if had.addresses.contains(&address) => {}
                Some((text, Ok(address))) => {
                    let failed = |why: String| {
                        let all = Value::from(addresses.clone());
                        Ok(Err(field_error(
                            "spec.clusterIPs",
                            all,
                            format!("failed to allocate IP {text}: {why}"),
                        )))
                    };
                    let reserved = address == range.first() && !is_own(service);
                    if !range.contains(address) {
                        return failed(format!(
                            "the provided IP ({text}) is not in the valid range. The range of valid IPs is {range}"
                        ));
                    }
                    let record = records.stored(&address.to_string()).await.map_err(read::unreadable)?;
                    if reserved || record.is_some() {
                        return failed("provided IP is already allocated".into());
                    }
                }
                Some((_, Err(_))) => {}
                None => {
                    let is_taken = |address: IpAddr| records.peek(&address.to_string()).is_some();
                    let Some(address) = range.choose(is_taken, |below| fastrand::u128(..below)) else {
                        let message = "failed to allocate a serviceIP: range is full";
                        return Err(Status::internal(message));
                    };
                    addresses.push(address.to_string());
                }
            }
        }
        if let Some(first) = addresses.first() {
            spec["clusterIP"] = first.as_str().into();
            spec["clusterIPs"] = json!(addresses);
        }
        Ok(Ok(()))
    }

    async fn settle_ports(&self, spec: &mut Value, had: &Claims) -> Result<Result<(), Vec<FieldError>>, Status> {
        let balanced = spec["type"] == "LoadBalancer";
        let wants_ports = spec["type"] == "NodePort" || balanced && spec["allocateLoadBalancerNodePorts"] != false;
        let wants_health = balanced && spec["externalTrafficPolicy"] == "Local";
        let mut asked = Vec::new();
        let mut missing = Vec::new();
        if wants_ports {
            let ports = spec["ports"].as_array().into_iter().flatten().enumerate();
            for (at, port) in ports {
                match port["nodePort"].as_u64() {
                    Some(0) | None => missing.push(at),
                    Some(number) => asked.push((format!("spec.ports[{at}].nodePort"), number)),
                }
            }
        }
        let health = spec["healthCheckNodePort"].as_u64().filter(|port| *port > 0);
        if let Some(port) = health.filter(|_| wants_health) {
            asked.push(("spec.healthCheckNodePort".into(), port));
        }
        let wanted = !missing.is_empty() || wants_health && health.is_none();
        let taken = if wanted || !asked.is_empty() {
            self.taken_ports().await?
        } else {
            BTreeSet::new()
        };
        let range = &self.config.services.node_ports;
        for (field, number) in asked {
            let port = u16::try_from(number)
                .ok()
                .filter(|port| range.contains(port) || had.ports.contains(port));
            let Some(port) = port else {
                let why = format!(
                    "provided port is not in the valid range. The range of valid ports is {}-{}",
                    range.start(),
                    range.end()
                );
                return Ok(Err(field_error(field, number.into(), why)));
            };
            if taken.contains(&port) && !had.ports.contains(&port) {
                return Ok(Err(field_error(
                    field,
                    number.into(),
                    "provided port is already allocated",
                )));
            }
        }
        let mut taken: BTreeSet<u16> = taken.union(&had.ports).copied().collect();
        taken.extend(claims(&json!({"spec": &*spec})).ports);
        let mut choose = || {
            let port = choose_port(range, &taken)
                .ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
            taken.insert(port);
            Ok::<_, Status>(port)
        };
        for at in missing {
            // The same port of another protocol may have the same node port.
            let same = spec["ports"].as_array().into_iter().flatten().find(|other| {
                let this = &spec["ports"][at];
                other["port"] == this["port"]
                    && other["protocol"] != this["protocol"]
                    && other["nodePort"].as_u64().is_some_and(|port| port > 0)
            });
            let port = match same.and_then(|other| other["nodePort"].as_u64()) {
                Some(port) => port,
                None => choose()?.into(),
            };
            spec["ports"][at]["nodePort"] = port.into();
        }
        if wants_health && health.is_none() {
            spec["healthCheckNodePort"] = choose()?.into();
        }
        Ok(Ok(()))
    }

    async fn taken_ports(&self) -> Result<BTreeSet<u16>, Status> {
        let records = self.store.range(KeyRange::prefix(NODE_PORTS), 0, None).await?;
        let ports = records.kvs.iter().filter_map(|kv| {
            std::str::from_utf8(&kv.key)
                .ok()?
                .strip_prefix(NODE_PORTS)?
                .parse()
                .ok()
        });
        Ok(ports.collect())
    }

    fn address_records(&self) -> Result<Arc<Cache>, Status> {
        let table = self.table();
        let row = table.get("networking.k8s.io", "v1", "ipaddresses");
        self.cache(row.ok_or_else(|| Status::internal("addresses are not served"))?)
    }

    async fn tell_ranges(&self, now: Timestamp) -> Result<(), Status> {
        let table = self.table();
        let Some(row) = table.get("networking.k8s.io", "v1", "servicecidrs") else {
            return Ok(());
        };
        let ranges: Vec<_> = self.config.services.ranges.iter().map(ToString::to_string).collect();
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": ranges},
        });
        let request = own_request(row, "create", "", "", now);
        match self.create(&request, object.into(), &WriteOptions::default()).await {
            Err(status) if status.reason != Reason::AlreadyExists => Err(status),
            _ => Ok(()),
        }
    }

    /// Adds to `txn` what changes from `had` to `has`.
    fn record(&self, now: Timestamp, service: &Value, had: &Claims, has: &Claims, txn: &mut Txn) -> Result<(), Status> {
        let records = self.address_records()?;
        let put = |txn: &mut Txn, key: Bytes, value: Bytes| {
            txn.compares.push(Compare::Modified(key.clone(), Revision(0)));
            txn.ops.push(Op::Put { key, value, ttl: None });
        };
        for address in has.addresses.difference(&had.addresses) {
            let record = address_record(*address, service, now);
            put(txn, records.store_key(&address.to_string()), encode(&record).into());
        }
        for address in had.addresses.difference(&has.addresses) {
            let key = records.store_key(&address.to_string());
            txn.ops.push(Op::Delete { key });
        }
        for port in has.ports.difference(&had.ports) {
            put(txn, port_key(*port), owner_name(service).into());
        }
        for port in had.ports.difference(&has.ports) {
            txn.ops.push(Op::Delete { key: port_key(*port) });
        }
        Ok(())
    }

    /// To be done at a start: tells the ranges by an object, compares what is recorded with what Services have, and mends
    /// what another hand has broken.
    pub async fn prepare_services(&self, now: Timestamp) -> Result<(), Status> {
        self.tell_ranges(now).await?;
        let table = self.table();
        let Some(row) = table.get("", "v1", "services") else {
            return Ok(());
        };
        let services = self.cache(row)?;
        services.catch_up().await.map_err(read::unreadable)?;
        let records = self.address_records()?;
        let ports = self.taken_ports().await?;
        let mut claimed = Claims::default();
        for entry in services.list(&crate::cache::Scan::default()).entries.iter() {
            let service = entry.decode();
            let mut txn = Txn::default();
            let claims = claims(&service);
            let mut missing = Claims::default();
            missing.addresses.extend(
                claims
                    .addresses
                    .iter()
                    .filter(|ip| records.peek(&ip.to_string()).is_none()),
            );
            missing.ports.extend(claims.ports.difference(&ports));
            claimed.addresses.extend(&claims.addresses);
            claimed.ports.extend(&claims.ports);
            if missing != Claims::default() {
                tracing::warn!(service = owner_name(&service), ?missing, "recording what a service has");
                self.record(now, &service, &Claims::default(), &missing, &mut txn)?;
                super::write::commit(self, txn).await?;
            }
        }
        for entry in records.list(&crate::cache::Scan::default()).entries.iter() {
            let managed = entry.projection().label(MANAGED_LABEL) == Some(MANAGER);
            let address: Option<IpAddr> = entry.name().parse().ok();
            if managed && address.is_some_and(|address| !claimed.addresses.contains(&address)) {
                tracing::warn!(address = entry.name(), "giving back an address that no service has");
                let key = records.store_key(entry.key());
                let txn = Txn {
                    compares: vec![Compare::Modified(key.clone(), entry.revision())],
                    ops: vec![Op::Delete { key }],
                };
                super::write::commit(self, txn).await?;
            }
        }
        Ok(())
    }
}

fn choose_port(range: &RangeInclusive<u16>, taken: &BTreeSet<u16>) -> Option<u16> {
    let count = u32::from(range.end() - range.start()) + 1;
    let start = fastrand::u32(..count);
    (0..count)
        .map(|step| range.start() + ((start + step) % count) as u16)
        .find(|port| !taken.contains(port))
}

fn port_key(port: u16) -> Bytes {
    format!("{NODE_PORTS}{port}").into()
}

fn owner_name(service: &Value) -> String {
    format!(
        "{}/{}",
        metadata::text(service, "namespace"),
        metadata::text(service, "name")
    )
}

/// Whether it is the API server's own.
fn is_own(service: &Value) -> bool {
    owner_name(service) == "default/kubernetes"
}

fn address_record(address: IpAddr, service: &Value, now: Timestamp) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "uid": uuid::Uuid::new_v4().to_string(),
            "creationTimestamp": metadata::time(now),
            "labels": {FAMILY_LABEL: range::family(address), MANAGED_LABEL: MANAGER},
        },
        "spec": {"parentRef": {
            "group": "", "resource": "services",
            "namespace": metadata::text(service, "namespace"), "name": metadata::text(service, "name"),
        }},
    })
}
