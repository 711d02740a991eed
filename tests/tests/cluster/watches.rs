//! Watches as they travel.

use anyhow::{Context, ensure};
use bosun_testkit::{PATIENCE, Server, server::Client};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2::SendRequest};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::timeout};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// An answer that goes on.
struct Watching {
    body: Incoming,
    read: Vec<u8>,
}

impl Watching {
    async fn start(
        client: &Client,
        sender: &SendRequest<Full<Bytes>>,
        path: &str,
        accept: &str,
    ) -> anyhow::Result<Self> {
        let request = http::Request::get(client.url(path)).header("accept", accept);
        let mut sender = sender.clone();
        let answer = timeout(PATIENCE, sender.send_request(request.body(Full::default())?)).await??;
        ensure!(answer.status() == 200, "{answer:?}");
        Ok(Self {
            body: answer.into_body(),
            read: Vec::new(),
        })
    }

    /// More bytes; false at the end.
    async fn more(&mut self) -> anyhow::Result<bool> {
        let frame = timeout(PATIENCE, self.body.frame())
            .await
            .context("the watch is silent")?;
        let Some(frame) = frame else { return Ok(false) };
        if let Ok(data) = frame?.into_data() {
            self.read.extend_from_slice(&data);
        }
        Ok(true)
    }

    /// The next line of JSON; `None` at the end.
    async fn line(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.read.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    /// The next frame of protobuf.
    async fn frame(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            if let Some(head) = self.read.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*head) as usize;
                if self.read.len() >= end {
                    let frame: Vec<_> = self.read.drain(..end).collect();
                    return Ok(frame[4..].to_vec());
                }
            }
            ensure!(self.more().await?, "the watch ended");
        }
    }
}

fn map(name: &str, value: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"x": value}})
}

#[tokio::test]
async fn every_change_is_an_event_in_the_form_that_was_asked_for() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let mut tasks = JoinSet::new();
    let sender = client.http2(&mut tasks).await?;
    let list = client.get(MAPS, &[]).await?.json()?;
    let version = list["metadata"]["resourceVersion"]
        .as_str()
        .context("no version")?
        .to_owned();
    let path = format!("{MAPS}?watch=true&resourceVersion={version}");
    let json = "application/json";
    let mut plain = Watching::start(&client, &sender, &path, json).await?;
    let mut table = Watching::start(&client, &sender, &path, "application/json;as=Table;v=v1;g=meta.k8s.io").await?;
    let partial = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
    let mut partial = Watching::start(&client, &sender, &path, partial).await?;
    let mut message = Watching::start(&client, &sender, &path, "application/vnd.kubernetes.protobuf").await?;
    client.json(Method::POST, MAPS, &map("a", "1")).await?;
    client.json(Method::PUT, &format!("{MAPS}/a"), &map("a", "2")).await?;
    client.json(Method::DELETE, &format!("{MAPS}/a"), &Value::Null).await?;
    let mut last = 0;
    for kind in ["ADDED", "MODIFIED", "DELETED"] {
        let event = plain.line().await?.context("the watch ended")?;
        ensure!(
            event["type"] == kind && event["object"]["metadata"]["name"] == "a",
            "{event}"
        );
        let version: u64 = event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .parse()?;
        ensure!(version > last, "{version} after {last}");
        last = version;
        let event = table.line().await?.context("the watch ended")?;
        ensure!(
            event["object"]["kind"] == "Table" && event["object"]["rows"][0]["cells"][0] == "a",
            "{event}"
        );
        ensure!(
            event["object"]["columnDefinitions"].is_null() == (kind != "ADDED"),
            "{event}"
        );
        let event = partial.line().await?.context("the watch ended")?;
        ensure!(
            event["object"]["kind"] == "PartialObjectMetadata" && event["object"].get("data").is_none(),
            "{event}"
        );
        let frame = message.frame().await?;
        ensure!(
            frame.starts_with(&[&[0x0a, kind.len() as u8], kind.as_bytes()].concat()),
            "{frame:?}"
        );
        ensure!(frame.windows(4).any(|window| window == b"k8s\0"));
    }
    Ok(())
}

#[tokio::test]
async fn what_there_is_comes_first_and_a_bookmark_tells_its_end() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    client.json(Method::POST, MAPS, &map("a", "1")).await?;
    let mut tasks = JoinSet::new();
    let sender = client.http2(&mut tasks).await?;
    let path = format!(
        "{MAPS}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=2"
    );
    let mut watching = Watching::start(&client, &sender, &path, "application/json").await?;
    let first = watching.line().await?.context("the watch ended")?;
    ensure!(
        first["type"] == "ADDED" && first["object"]["metadata"]["name"] == "a",
        "{first}"
    );
    let mark = watching.line().await?.context("the watch ended")?;
    ensure!(
        mark["type"] == "BOOKMARK" && mark["object"]["kind"] == "ConfigMap",
        "{mark}"
    );
    ensure!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true",
        "{mark}"
    );
    // Its time is over: it ends without an error.
    while let Some(event) = watching.line().await? {
        ensure!(event["type"] == "BOOKMARK", "{event}");
    }
    Ok(())
}

#[tokio::test]
async fn a_watch_from_beyond_what_is_kept_is_told_that_it_is_gone() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let reply = client
        .get(&format!("{MAPS}?watch=true&resourceVersion=999999999"), &[])
        .await?;
    ensure!(reply.status == 504 && reply.json()?["reason"] == "Timeout", "{reply:?}");
    Ok(())
}

#[tokio::test]
async fn one_change_reaches_a_thousand_watches() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let mut tasks = JoinSet::new();
    let mut watches = Vec::new();
    for _ in 0..10 {
        let sender = client.http2(&mut tasks).await?;
        for _ in 0..100 {
            let path = format!("{MAPS}?watch=true");
            watches.push(Watching::start(&client, &sender, &path, "application/json").await?);
        }
    }
    client.json(Method::POST, MAPS, &map("a", "1")).await?;
    for watching in &mut watches {
        let event = watching.line().await?.context("the watch ended")?;
        ensure!(event["type"] == "ADDED", "{event}");
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_ends_lets_its_watches_end_whole() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let client = server.client()?;
    let mut tasks = JoinSet::new();
    let sender = client.http2(&mut tasks).await?;
    let mut watching = Watching::start(&client, &sender, &format!("{MAPS}?watch=true"), "application/json").await?;
    server.stop().await?;
    ensure!(watching.line().await?.is_none());
    Ok(())
}
