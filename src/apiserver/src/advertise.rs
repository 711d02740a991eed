//! `default/kubernetes`: the Service by which pods reach the API, and where it leads.
//!
//! One task: it follows Services, Endpoints and their slices, and puts back what somebody changes. It leads to all servers
//! on the store that live, of the family of this one's address.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep};

use crate::{
    Reason, Registry, Status,
    auth::Objects,
    options::WriteOptions,
    registry::{Follow, Followed, own_request},
};

/// What is advertised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Where clients and nodes reach the server.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The Service's addresses: the first of each range of Services.
    pub service_addresses: Vec<IpAddr>,
}

/// The Service's name, and that of its endpoints.
const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
/// After a failure, what was to be done is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// One object that is kept.
struct Kept {
    group: &'static str,
    plural: &'static str,
    object: Value,
}

impl Advertised {
    /// The objects, as they should be as far as this is about them.
    fn objects(&self, servers: &BTreeSet<IpAddr>) -> Vec<Kept> {
        let servers: BTreeSet<_> = servers.iter().chain([&self.address]).collect();
        let servers: Vec<_> = servers
            .into_iter()
            .filter(|server| server.is_ipv6() == self.address.is_ipv6() && !server.is_loopback())
            .map(ToString::to_string)
            .collect();
        let listed: Vec<_> = servers.iter().map(|server| json!({"ip": server})).collect();
        let ready: Vec<_> = servers
            .iter()
            .map(|server| json!({"addresses": [server], "conditions": {"ready": true}}))
            .collect();
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let families: Vec<_> = self.service_addresses.iter().map(family).collect();
        let addresses: Vec<_> = self.service_addresses.iter().map(ToString::to_string).collect();
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
            "spec": {
                "type": "ClusterIP", "sessionAffinity": "None",
                "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": self.port}],
                "ipFamilies": families,
                "ipFamilyPolicy": if families.len() > 1 { "RequireDualStack" } else { "SingleStack" },
            },
        });
        if let Some(first) = addresses.first() {
            service["spec"]["clusterIP"] = first.as_str().into();
            service["spec"]["clusterIPs"] = json!(addresses);
        }
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints",
            "metadata": {
                "name": NAME, "namespace": NAMESPACE,
                "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
            },
            "subsets": [{
                "addresses": listed,
                "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
            }],
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "name": NAME, "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": NAME},
            },
            "addressType": family(&self.address),
            "endpoints": ready,
            "ports": [{"name": "https", "port": self.port, "protocol": "TCP"}],
        });
        let kept = |group, plural, object| Kept { group, plural, object };
        let service = kept("", "services", service);
        if self.address.is_loopback() {
            // A server for this machine alone: no pod could reach it there, and endpoints may not say so.
            return vec![service];
        }
        vec![
            service,
            kept("", "endpoints", endpoints),
            kept("discovery.k8s.io", "endpointslices", slice),
        ]
    }

    /// Writes what is missing or differs.
    pub async fn write(&self, registry: &Registry, now: Timestamp) -> Result<(), Status> {
        for kept in self.objects(&registry.servers().await?) {
            // Another server may write the same meanwhile: what it leaves is compared anew.
            while let Err(status) = kept.write(registry, now).await {
                if !matches!(
                    status.reason,
                    Reason::Conflict | Reason::AlreadyExists | Reason::NotFound
                ) {
                    return Err(status);
                }
            }
        }
        Ok(())
    }

    /// Keeps the objects as they should be, for as long as it is polled.
    pub async fn keep(self, registry: Arc<Registry>) {
        let [services, endpoints, slices] = [
            ("", "services"),
            ("", "endpoints"),
            ("discovery.k8s.io", "endpointslices"),
        ]
        .map(|(group, plural)| registry.follow(group, plural));
        let (mut services, mut endpoints, mut slices) = match (services, endpoints, slices) {
            (Ok(services), Ok(endpoints), Ok(slices)) => (services, endpoints, slices),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                tracing::error!(%error, "the Service of the API is not kept");
                return;
            }
        };
        let (tell, mut servers) = watch::channel(registry.servers().await.unwrap_or_default());
        let mut announce = std::pin::pin!(registry.announce(self.address, &tell));
        loop {
            servers.mark_unchanged();
            if let Err(error) = self.write(&registry, Timestamp::now()).await {
                tracing::warn!(%error, "the Service of the API was not written; trying again");
                sleep(RETRY).await;
                continue;
            }
            tokio::select! {
                () = touched(&mut services) => {}
                () = touched(&mut endpoints) => {}
                () = touched(&mut slices) => {}
                Ok(()) = servers.changed() => {}
                () = &mut announce => {}
            }
        }
    }
}

/// Waits for a change of the object that is kept.
async fn touched(follow: &mut Follow) {
    loop {
        if let Followed::Upsert(entry) | Followed::Delete(entry) = follow.next().await
            && (entry.namespace(), entry.name()) == (NAMESPACE, NAME)
        {
            return;
        }
    }
}

impl Kept {
    async fn write(&self, registry: &Registry, now: Timestamp) -> Result<(), Status> {
        let table = registry.table();
        let row = table.stored(self.group, self.plural);
        let row = row.ok_or_else(|| Status::internal(format_args!("{} are not served", self.plural)))?;
        let options = WriteOptions {
            field_manager: "bosun".to_owned(),
            ..WriteOptions::default()
        };
        let stored = Objects::get(registry, self.group, self.plural, NAMESPACE, NAME).await?;
        match stored {
            None => {
                let request = own_request(row, "create", NAMESPACE, "", now);
                registry.create(&request, self.object.clone().into(), &options).await?;
            }
            Some(stored) => {
                let mut wanted = stored.clone();
                overlay(&mut wanted, &self.object);
                if wanted != stored {
                    let request = own_request(row, "update", NAMESPACE, NAME, now);
                    registry.update(&request, wanted.into(), &options).await?;
                }
            }
        }
        Ok(())
    }
}

/// Sets in `object` what `wanted` says; objects are gone into, lists of as many items too, all else is replaced.
fn overlay(object: &mut Value, wanted: &Value) {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => {
            for (field, value) in wanted {
                overlay(object.entry(field).or_insert(Value::Null), value);
            }
        }
        (Value::Array(items), Value::Array(wanted)) if items.len() == wanted.len() => {
            for (item, value) in items.iter_mut().zip(wanted) {
                overlay(item, value);
            }
        }
        (object, wanted) => *object = wanted.clone(),
    }
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv6() { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_added_stays_and_what_they_changed_is_put_back() {
        let mut object = json!({
            "metadata": {"name": "kubernetes", "uid": "u", "labels": {"mine": "x"}},
            "subsets": [{"addresses": [{"ip": "10.0.0.9", "nodeName": "n"}, {"ip": "10.0.0.8"}]}],
        });
        overlay(
            &mut object,
            &json!({"metadata": {"labels": {"a": "b"}}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]}),
        );
        assert_eq!(
            object,
            json!({
                "metadata": {"name": "kubernetes", "uid": "u", "labels": {"mine": "x", "a": "b"}},
                "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}],
            })
        );
    }

    #[test]
    fn a_server_for_this_machine_alone_has_no_endpoints() {
        let advertised = Advertised {
            address: "127.0.0.1".parse().unwrap(),
            port: 6443,
            service_addresses: vec!["10.43.0.1".parse().unwrap()],
        };
        assert_eq!(advertised.objects(&BTreeSet::new()).len(), 1);
    }

    #[test]
    fn both_families_are_advertised_by_the_service_and_one_by_the_slice() {
        let advertised = Advertised {
            address: "fd00::7".parse().unwrap(),
            port: 6443,
            service_addresses: vec!["10.43.0.1".parse().unwrap(), "fd00:43::1".parse().unwrap()],
        };
        let others = ["fd00::8".parse().unwrap(), "192.0.2.1".parse().unwrap()].into();
        let objects = advertised.objects(&others);
        assert_eq!(
            objects[0].object["spec"]["clusterIPs"],
            json!(["10.43.0.1", "fd00:43::1"])
        );
        assert_eq!(objects[0].object["spec"]["ipFamilyPolicy"], "RequireDualStack");
        assert_eq!(objects[2].object["addressType"], "IPv6");
        let servers = json!([{"ip": "fd00::7"}, {"ip": "fd00::8"}]);
        assert_eq!(objects[1].object["subsets"][0]["addresses"], servers);
    }
}
