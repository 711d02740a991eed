//! How endpoints are spread over slices, so that few slices change when few endpoints do. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};

use super::backend::{Backend, Port};
use crate::objects::EndpointSlice;

/// Endpoints in a slice.
const SIZE: usize = 100;

/// The content of a slice.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Content {
    /// `IPv4` or `IPv6`.
    pub(super) family: String,
    pub(super) ports: Vec<Port>,
    pub(super) endpoints: Vec<Endpoint>,
}

/// What to do with the slices of a service.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) create: Vec<Content>,
    /// By the name of the slice.
    pub(super) update: Vec<(String, Content)>,
    pub(super) delete: Vec<String>,
}

/// Endpoints that have the same family and ports.
type Groups = BTreeMap<(String, Vec<Port>), Vec<Endpoint>>;

/// Spreads what serves over the slices that there are, and new ones. Every family has one slice at least, so that who
/// reads them knows that nothing serves.
pub(super) fn plan(
    families: &[(String, Vec<Backend>)],
    zone_of: impl Fn(&str) -> Option<String>,
    slices: &[Arc<EndpointSlice>],
) -> Plan {
    let mut groups = Groups::new();
    for (family, backends) in families {
        for backend in backends {
            let mut ports = backend.ports.clone();
            ports.sort();
            let endpoints = groups.entry((family.clone(), ports)).or_default();
            endpoints.push(endpoint(backend, &zone_of));
        }
        if backends.is_empty() {
            groups.insert((family.clone(), Vec::new()), Vec::new());
        }
    }
    let mut held: HashMap<(String, Vec<Port>), Vec<&Arc<EndpointSlice>>> = HashMap::new();
    let mut plan = Plan::default();
    for slice in slices {
        let key = (slice.address_type.clone(), ports_of(slice));
        if groups.contains_key(&key) {
            held.entry(key).or_default().push(slice);
        } else {
            plan.delete.push(name(slice));
        }
    }
    for (key, endpoints) in groups {
        let mut slices = held.remove(&key).unwrap_or_default();
        slices.sort_by_key(|slice| name(slice));
        spread(&mut plan, &key, endpoints, &slices);
    }
    plan
}

fn spread(plan: &mut Plan, key: &(String, Vec<Port>), endpoints: Vec<Endpoint>, slices: &[&Arc<EndpointSlice>]) {
    let content = |endpoints: Vec<Endpoint>| Content {
        family: key.0.clone(),
        ports: key.1.clone(),
        endpoints,
    };
    let nothing = endpoints.is_empty();
    let mut wanted: BTreeMap<String, Endpoint> = endpoints
        .into_iter()
        .map(|endpoint| (identity(&endpoint), endpoint))
        .collect();
    // Every endpoint stays where it is.
    let mut filled: Vec<_> = slices
        .iter()
        .map(|slice| {
            let stay = slice
                .endpoints
                .iter()
                .filter_map(|held| wanted.remove(&identity(held)))
                .take(SIZE);
            (*slice, stay.collect::<Vec<_>>())
        })
        .collect();
    // New ones go first where something changes anyhow, then where there is room.
    let mut new: Vec<_> = wanted.into_values().collect();
    filled.sort_by_key(|(slice, stay)| *stay == slice.endpoints);
    for (_, stay) in &mut filled {
        let room = SIZE.saturating_sub(stay.len()).min(new.len());
        stay.extend(new.drain(..room));
    }
    let mut kept = 0;
    for (slice, endpoints) in filled {
        // An empty one is only of use where there is no other.
        if endpoints.is_empty() && (!nothing || kept > 0) {
            plan.delete.push(name(slice));
            continue;
        }
        kept += 1;
        if endpoints != slice.endpoints {
            plan.update.push((name(slice), content(endpoints)));
        }
    }
    if nothing && kept == 0 {
        plan.create.push(content(Vec::new()));
    }
    plan.create
        .extend(new.chunks(SIZE).map(|endpoints| content(endpoints.to_vec())));
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint
        .target_ref
        .as_ref()
        .and_then(|target| target.uid.clone())
        .unwrap_or_default();
    format!("{target} {}", endpoint.addresses.join(","))
}

fn ports_of(slice: &EndpointSlice) -> Vec<Port> {
    let ports = slice.ports.iter().map(|port| Port {
        name: port.name.clone().or_else(|| Some(String::new())),
        protocol: port.protocol.clone(),
        number: port.port,
        app_protocol: port.app_protocol.clone(),
    });
    let mut ports: Vec<_> = ports.collect();
    ports.sort();
    ports
}

/// A port as slices have it.
pub(super) fn wire(port: &Port) -> EndpointPort {
    EndpointPort {
        name: port.name.clone(),
        protocol: port.protocol.clone(),
        port: port.number,
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(backend: &Backend, zone_of: impl Fn(&str) -> Option<String>) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: backend.target.clone(),
        zone: backend.node.as_deref().and_then(zone_of),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn backends(numbers: std::ops::Range<usize>, port: i32) -> Vec<Backend> {
        let backend = |number: usize| Backend {
            address: format!("10.0.{}.{}", number / 256, number % 256),
            ports: vec![Port {
                number: Some(port),
                name: Some(String::new()),
                ..Port::default()
            }],
            ready: true,
            ..Backend::default()
        };
        numbers.map(backend).collect()
    }

    /// Slices after a plan was applied.
    fn applied(plan: &Plan, slices: &[Arc<EndpointSlice>]) -> Vec<Arc<EndpointSlice>> {
        let slice = |name: String, content: &Content| {
            Arc::new(EndpointSlice {
                metadata: ObjectMeta {
                    name: Some(name),
                    ..ObjectMeta::default()
                },
                address_type: content.family.clone(),
                endpoints: content.endpoints.clone(),
                ports: content.ports.iter().map(wire).collect(),
            })
        };
        let kept = slices.iter().filter(|held| {
            !plan.delete.contains(&name(held)) && !plan.update.iter().any(|(changed, _)| *changed == name(held))
        });
        let updated = plan.update.iter().map(|(name, content)| slice(name.clone(), content));
        let created = plan
            .create
            .iter()
            .enumerate()
            .map(|(at, content)| slice(format!("new-{}-{at}", slices.len()), content));
        kept.cloned().chain(updated).chain(created).collect()
    }

    fn planned(families: &[(String, Vec<Backend>)], slices: &[Arc<EndpointSlice>]) -> Plan {
        plan(families, |_| None, slices)
    }

    fn v4(backends: Vec<Backend>) -> [(String, Vec<Backend>); 1] {
        [("IPv4".to_owned(), backends)]
    }

    #[test]
    fn slices_hold_a_hundred_endpoints_and_few_change_at_a_time() {
        let first = planned(&v4(backends(0..250, 80)), &[]);
        assert_eq!(
            first
                .create
                .iter()
                .map(|slice| slice.endpoints.len())
                .collect::<Vec<_>>(),
            [100, 100, 50]
        );
        let slices = applied(&first, &[]);
        assert_eq!(planned(&v4(backends(0..250, 80)), &slices), Plan::default());
        // One goes, two come: one slice changes.
        let mut changed = backends(1..252, 80);
        let second = planned(&v4(changed.clone()), &slices);
        assert_eq!(
            (second.create.len(), second.update.len(), second.delete.len()),
            (0, 2, 0)
        );
        let slices = applied(&second, &slices);
        assert_eq!(slices.iter().map(|slice| slice.endpoints.len()).sum::<usize>(), 251);
        // One is no longer ready.
        changed[7].ready = false;
        assert_eq!(planned(&v4(changed), &slices).update.len(), 1);
        // All go.
        let last = planned(&v4(vec![]), &slices);
        assert_eq!((last.create.len(), last.delete.len()), (1, 3));
    }

    #[test]
    fn a_service_that_nothing_serves_has_an_empty_slice_of_each_family() {
        let families = [("IPv4".to_owned(), vec![]), ("IPv6".to_owned(), vec![])];
        let first = planned(&families, &[]);
        assert_eq!(first.create.len(), 2);
        assert_eq!(planned(&families, &applied(&first, &[])), Plan::default());
    }

    #[test]
    fn endpoints_of_other_ports_are_in_slices_of_their_own() {
        let mixed = v4(backends(0..2, 80).into_iter().chain(backends(2..3, 81)).collect());
        let first = planned(&mixed, &[]);
        assert_eq!(first.create.len(), 2);
        let slices = applied(&first, &[]);
        assert_eq!(planned(&mixed, &slices), Plan::default());
        let moved = planned(&v4(backends(0..3, 80)), &slices);
        assert_eq!((moved.create.len(), moved.update.len(), moved.delete.len()), (0, 1, 1));
    }
}
