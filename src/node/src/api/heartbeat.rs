//! The node's Lease: 40 s, renewed every 10 s. A control plane that sees it run out takes the node for lost.

use std::time::Duration;

use bosun_client::{CallError, backoff::Backoff, call};
use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::Node as NodeObject,
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
};
use kube::api::{Api as KubeApi, PostParams};

use super::{Api, delay};
use crate::pod::words::chain;

/// Where nodes' leases are.
const NAMESPACE: &str = "kube-node-lease";
/// How long a lease lasts.
const DURATION: i32 = 40;
/// How often it is renewed.
const INTERVAL: Duration = Duration::from_secs(10);

/// How soon to look again for this node's object, which the lease belongs to.
const UNREGISTERED: Duration = Duration::from_millis(200);

/// Renews the lease for as long as it is polled.
pub async fn keep(api: Api) {
    let leases: KubeApi<Lease> = KubeApi::namespaced(api.client.clone(), NAMESPACE);
    let nodes: KubeApi<NodeObject> = KubeApi::all(api.client.clone());
    let mut delays = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));
    let mut known: Option<Lease> = None;
    loop {
        let wait = match renew(&api, &leases, &nodes, known.take()).await {
            Ok(renewed) => {
                delays.succeeded();
                known = renewed;
                if known.is_some() { INTERVAL } else { UNREGISTERED }
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "the node's lease is not renewed; trying again");
                delay(&mut delays, &error)
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// Renews the lease, or makes it once the node is registered; `None` while it is not.
async fn renew(
    api: &Api,
    leases: &KubeApi<Lease>,
    nodes: &KubeApi<NodeObject>,
    known: Option<Lease>,
) -> Result<Option<Lease>, CallError> {
    let name = &api.node.name;
    let existing = match known {
        Some(known) => Some(known),
        None => call(leases.get_opt(name)).await?,
    };
    let now = api.node.clock.now();
    let Some(existing) = existing else {
        let Some(node) = call(nodes.get_opt(name)).await? else {
            return Ok(None);
        };
        let lease = renewed(Lease::default(), name, Some(&node), now);
        return call(leases.create(&PostParams::default(), &lease)).await.map(Some);
    };
    let owned = existing
        .metadata
        .owner_references
        .as_ref()
        .is_some_and(|owners| !owners.is_empty());
    let node = if owned { None } else { call(nodes.get_opt(name)).await? };
    let lease = renewed(existing, name, node.as_ref(), now);
    call(leases.replace(name, &PostParams::default(), &lease))
        .await
        .map(Some)
}

/// The lease from now on. Pure.
fn renewed(mut lease: Lease, name: &str, node: Option<&NodeObject>, now: Timestamp) -> Lease {
    lease.metadata.name = Some(name.to_owned());
    lease.metadata.namespace = Some(NAMESPACE.to_owned());
    if let Some(uid) = node.and_then(|node| node.metadata.uid.clone()) {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.to_owned(),
            uid,
            ..OwnerReference::default()
        }]);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.to_owned());
    spec.lease_duration_seconds = Some(DURATION);
    spec.renew_time = Some(MicroTime(now));
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_its_nodes_and_keeps_its_owner() {
        let mut node = NodeObject::default();
        node.metadata.uid = Some("u1".into());
        let now = Timestamp::from_second(100).unwrap();
        let owned = renewed(Lease::default(), "n1", Some(&node), now);
        let later = renewed(owned, "n1", None, Timestamp::from_second(110).unwrap());
        let owner = &later.metadata.owner_references.unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Node", "u1"));
        let spec = later.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("n1"));
        assert_eq!(spec.lease_duration_seconds, Some(40));
        assert_eq!(spec.renew_time.unwrap().0.as_second(), 110);
    }
}
