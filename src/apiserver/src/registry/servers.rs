//! The servers there are, and the Service `default/kubernetes` by which pods reach them.

use std::{net::IpAddr, time::Duration};

use bosun_store::{KeyRange, Op, Txn};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Registry, metadata, own_request, services::range};
use crate::{
    Reason, Status,
    options::{ListOptions, WriteOptions},
};

/// What the keys of living servers begin with; each ends with a server's address.
const SERVERS: &str = "/bosun/servers/";
/// How often a server says that it lives.
const ALIVE: Duration = Duration::from_secs(10);
/// For how long it is believed.
const BELIEVED: Duration = Duration::from_secs(30);

impl Registry {
    /// Tells other servers on the same store of this one, and keeps `default/kubernetes` with the addresses of all that
    /// live; without end. A server that is alone needs [`Registry::keep_kubernetes_service`] only.
    pub async fn announce(&self, address: IpAddr, port: u16) {
        loop {
            if let Err(error) = self.announce_once(address, port).await {
                tracing::warn!(%error, "this server could not be announced; it is tried again");
                tokio::time::sleep(ALIVE).await;
            }
        }
    }

    async fn announce_once(&self, address: IpAddr, port: u16) -> Result<(), Status> {
        let put = Op::Put {
            key: format!("{SERVERS}{address}").into(),
            value: port.to_string().into(),
            ttl: Some(BELIEVED),
        };
        let txn = Txn {
            compares: Vec::new(),
            ops: vec![put],
        };
        self.store.commit(txn).await?;
        let range = KeyRange::prefix(SERVERS);
        let alive = self.store.range(range.clone(), 0, None).await?;
        let servers: Vec<IpAddr> = alive
            .kvs
            .iter()
            .filter_map(|kv| std::str::from_utf8(&kv.key).ok()?.strip_prefix(SERVERS)?.parse().ok())
            .collect();
        self.keep_kubernetes_service(Timestamp::now(), &servers, port).await?;
        // Until it is time again, or another comes or goes.
        let next = tokio::time::Instant::now() + ALIVE;
        let mut watch = self.store.watch(range, alive.revision).await?;
        while let Ok(Some(Ok(batch))) = tokio::time::timeout_at(next, watch.recv()).await {
            let others = batch.events.iter().any(|event| match event {
                bosun_store::Event::Put { kv } => kv.created == kv.modified,
                bosun_store::Event::Delete { .. } => true,
            });
            if others {
                return Ok(());
            }
        }
        tokio::time::sleep_until(next).await;
        Ok(())
    }

    /// Keeps the Service by which pods reach the API server, on the first address, with the endpoints it has.
    pub async fn keep_kubernetes_service(&self, now: Timestamp, servers: &[IpAddr], port: u16) -> Result<(), Status> {
        let range = &self.config.services.ranges[0];
        let (first, family) = (range.first().to_string(), range.family());
        let labels = json!({"component": "apiserver", "provider": "kubernetes"});
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {
                "type": "ClusterIP", "clusterIP": first, "clusterIPs": [first], "ipFamilies": [family],
                "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            },
        });
        let ranges: Vec<_> = self.config.services.ranges.iter().map(ToString::to_string).collect();
        let cidr = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": ranges},
        });
        self.keep(now, ("networking.k8s.io", "servicecidrs"), cidr, None)
            .await?;
        self.keep(now, ("", "services"), service, Some("/spec/ports")).await?;
        let servers: Vec<_> = servers
            .iter()
            .filter(|server| range::family(**server) == family)
            .collect();
        if servers.is_empty() {
            return Ok(());
        }
        let mirror = json!({"endpointslice.kubernetes.io/skip-mirror": "true"});
        let addresses: Vec<_> = servers.iter().map(|server| json!({"ip": server})).collect();
        let endpoints = json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "kubernetes", "labels": mirror},
            "subsets": [{"addresses": addresses, "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
        });
        self.keep(now, ("", "endpoints"), endpoints, Some("/subsets")).await?;
        let ready: Vec<_> = servers
            .iter()
            .map(|server| json!({"addresses": [server], "conditions": {"ready": true}}))
            .collect();
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "endpoints": ready, "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        });
        self.keep(now, ("discovery.k8s.io", "endpointslices"), slice, Some("/endpoints"))
            .await
    }

    /// Creates an object of the server's own, or sets the part of it that may have changed.
    async fn keep(
        &self,
        now: Timestamp,
        (group, plural): (&str, &str),
        object: Value,
        part: Option<&str>,
    ) -> Result<(), Status> {
        let table = self.table();
        let Some(row) = table.stored(group, plural) else {
            return Ok(());
        };
        let namespace = if row.scope == crate::Scope::Namespaced {
            "default"
        } else {
            ""
        };
        let options = WriteOptions {
            field_manager: "kube-apiserver".into(),
            ..WriteOptions::default()
        };
        let name = metadata::text(&object, "name");
        let request = own_request(row, "update", namespace, name, now);
        let json = match self.get(&request, &ListOptions::default()).await {
            Ok(json) => json,
            Err(status) if status.reason == Reason::NotFound => {
                let request = own_request(row, "create", namespace, "", now);
                return match self.create(&request, object.into(), &options).await {
                    // Another server does the same.
                    Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
                    other => other.map(drop),
                };
            }
            Err(status) => return Err(status),
        };
        let Some(part) = part else {
            return Ok(());
        };
        let mut there: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
        if let (Some(is), Some(should)) = (there.pointer_mut(part), object.pointer(part)) {
            *is = should.clone();
        }
        match self.update(&request, there.into(), &options).await {
            Err(status) if status.reason == Reason::Conflict => Ok(()),
            other => other.map(drop),
        }
    }
}
