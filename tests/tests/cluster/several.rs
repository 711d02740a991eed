//! Several servers of one cluster, on one etcd.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use bosun_testkit::{Etcd, PATIENCE, Server, ServerOptions, server::Client};
use http::Method;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

/// Servers of one cluster: the others have the first one's keys.
pub(crate) async fn servers(etcd: &Etcd, number: usize) -> anyhow::Result<Vec<Server>> {
    let mut servers: Vec<Server> = Vec::new();
    for _ in 0..number {
        let options = ServerOptions {
            flags: vec!["--datastore".to_owned(), format!("etcd={}", etcd.endpoint())],
            keys_of: servers.first().map(Server::data_dir),
            ..ServerOptions::default()
        };
        servers.push(Server::with(options).await?);
    }
    Ok(servers)
}

#[tokio::test]
async fn what_is_written_at_one_server_is_seen_at_the_other() -> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    let servers = servers(&etcd, 2).await?;
    let (one, other) = (servers[0].client()?, servers[1].client()?);
    let secrets = "/api/v1/namespaces/default/secrets";
    let mut tasks = JoinSet::new();
    let mut sender = other.http2(&mut tasks).await?;
    let request = http::Request::get(other.url(&format!("{secrets}?watch=true"))).body(Full::default())?;
    let mut watch = sender.send_request(request).await?.into_body();
    // Sealed by one, opened by the other.
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"password": "correct horse"}});
    let made = one.json(Method::POST, secrets, &secret).await?;
    ensure!(made.status == 201, "{made:?}");
    let read = other.get(&format!("{secrets}/s"), &[]).await?.json()?;
    ensure!(read == made.json()?, "{read}");
    let frame = timeout(PATIENCE, watch.frame()).await?.context("the watch ended")??;
    let event: Value = serde_json::from_slice(frame.data_ref().context("no data")?)?;
    ensure!(event["type"] == "ADDED" && event["object"] == read, "{event}");
    // A client's certificate is good at both.
    let same = Client::new(&servers[0].kubeconfig(), servers[1].address(), true)?;
    ensure!(same.get(secrets, &[]).await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn of_two_leaders_one_gets_the_lease_whichever_servers_they_ask() -> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    let servers = servers(&etcd, 2).await?;
    let clients = [servers[0].client()?, servers[1].client()?];
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let lease = json!({"metadata": {"name": "leader"}, "spec": {"holderIdentity": "nobody"}});
    ensure!(clients[0].json(Method::POST, leases, &lease).await?.status == 201);
    let path = format!("{leases}/leader");
    for round in 0..10 {
        let mut lease = clients[round % 2].get(&path, &[]).await?.json()?;
        let mut claims = [lease.clone(), lease.take()];
        claims[0]["spec"]["holderIdentity"] = format!("one-{round}").into();
        claims[1]["spec"]["holderIdentity"] = format!("other-{round}").into();
        let (one, other) = tokio::try_join!(
            clients[0].json(Method::PUT, &path, &claims[0]),
            clients[1].json(Method::PUT, &path, &claims[1])
        )?;
        let mut codes = [one.status.as_u16(), other.status.as_u16()];
        codes.sort_unstable();
        ensure!(codes == [200, 409], "{one:?} {other:?}");
        let winner = if one.status == 200 { one } else { other };
        for client in &clients {
            ensure!(client.get(&path, &[]).await?.json()? == winner.json()?, "round {round}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn no_address_is_given_twice_by_two_servers() -> anyhow::Result<()> {
    let etcd = Etcd::start().await?;
    let servers = servers(&etcd, 2).await?;
    let mut tasks = JoinSet::new();
    for number in 0..40 {
        let client = servers[number % 2].client()?;
        tasks.spawn(async move {
            let service = json!({
                "metadata": {"name": format!("s{number}")},
                "spec": {"type": "NodePort", "ports": [{"port": 80}]},
            });
            client
                .json(Method::POST, "/api/v1/namespaces/default/services", &service)
                .await
        });
    }
    let mut given = BTreeSet::new();
    while let Some(reply) = tasks.join_next().await {
        let reply = reply??;
        ensure!(reply.status == 201, "{reply:?}");
        let service = reply.json()?;
        for field in ["/spec/clusterIP", "/spec/ports/0/nodePort"] {
            let value = service.pointer(field).context(field)?.to_string();
            ensure!(given.insert(value.clone()), "{value} twice");
        }
    }
    ensure!(given.len() == 80);
    Ok(())
}
