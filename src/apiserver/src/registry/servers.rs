//! The servers there are on one store: each says that it lives, and is believed for a while.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use bosun_store::{Event, KeyRange, Op, Txn};
use bytes::Bytes;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};

use super::Registry;
use crate::Status;

/// What the keys of living servers begin with; each ends with a server's address.
const SERVERS: &str = "/bosun/servers/";
/// How often a server says that it lives.
const ALIVE: Duration = Duration::from_secs(20);
/// For how long it is believed.
const BELIEVED: Duration = Duration::from_secs(60);

impl Registry {
    /// The addresses of the servers that live, as far as they have said so.
    pub async fn servers(&self) -> Result<BTreeSet<IpAddr>, Status> {
        let alive = self.store.range(KeyRange::prefix(SERVERS), 0, None).await?;
        let addresses = alive.kvs.iter().filter_map(|kv| {
            let key = std::str::from_utf8(&kv.key).ok()?;
            key.strip_prefix(SERVERS)?.parse().ok()
        });
        Ok(addresses.collect())
    }

    /// Tells other servers on the same store of this one, and `servers` of those that live; without end.
    pub async fn announce(&self, address: IpAddr, servers: &watch::Sender<BTreeSet<IpAddr>>) {
        loop {
            let next = Instant::now() + ALIVE;
            if let Err(error) = self.announce_until(next, address, servers).await {
                tracing::warn!(%error, "this server could not be announced; it is tried again");
            }
            sleep_until(next).await;
        }
    }

    async fn announce_until(
        &self,
        next: Instant,
        address: IpAddr,
        servers: &watch::Sender<BTreeSet<IpAddr>>,
    ) -> Result<(), Status> {
        let alive = Op::Put {
            key: format!("{SERVERS}{address}").into(),
            value: Bytes::new(),
            ttl: Some(BELIEVED),
        };
        let txn = Txn {
            compares: Vec::new(),
            ops: vec![alive],
        };
        let revision = self.store.commit(txn).await?;
        let mut watch = self.store.watch(KeyRange::prefix(SERVERS), revision).await?;
        self.tell_servers(servers).await?;
        while let Ok(Some(Ok(batch))) = timeout_at(next, watch.recv()).await {
            // One more, or one less; not one that lives on.
            let changed = |event: &Event| match event {
                Event::Put { kv } => kv.created == kv.modified,
                Event::Delete { .. } => true,
            };
            if batch.events.iter().any(changed) {
                self.tell_servers(servers).await?;
            }
        }
        Ok(())
    }

    async fn tell_servers(&self, servers: &watch::Sender<BTreeSet<IpAddr>>) -> Result<(), Status> {
        let alive = self.servers().await?;
        servers.send_if_modified(|known| {
            let changed = *known != alive;
            *known = alive;
            changed
        });
        Ok(())
    }
}
