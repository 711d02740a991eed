//! A disk that is full: writes are refused in words, reads go on, and when there is room again, so do writes.

use std::fs;

use anyhow::{Context, ensure};
use bosun_testkit::{PATIENCE, Server, ServerOptions, eventually};
use http::Method;
use serde_json::json;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn on_a_full_disk_writes_are_refused_in_words_and_all_else_goes_on() -> anyhow::Result<()> {
    let server = Server::with(ServerOptions {
        disk: Some(24),
        ..ServerOptions::default()
    })
    .await?;
    // What someone else has on the disk, and takes away later.
    let ballast = server.seen_data_dir()?.join("ballast");
    fs::write(&ballast, vec![1; 8 << 20]).context("this needs user namespaces for a disk of its own")?;
    let client = server.client()?;
    let map = |name: &str| json!({"metadata": {"name": name}, "data": {"x": "y".repeat(200_000)}});
    let mut stored = 0;
    let refused = loop {
        let reply = client.json(Method::POST, MAPS, &map(&format!("m{stored}"))).await?;
        if reply.status != 201 {
            break reply;
        }
        stored += 1;
        ensure!(stored < 1000, "the disk is not small");
    };
    let status = refused.json()?;
    ensure!(
        refused.status == 503 && status["reason"] == "ServiceUnavailable" && refused.header("retry-after") == "5",
        "{refused:?}"
    );
    ensure!(
        status["message"]
            .as_str()
            .is_some_and(|message| message.contains("full")),
        "{status}"
    );
    // Reads go on, and so does a watch that begins now.
    let list = client.get(MAPS, &[]).await?;
    ensure!(
        list.status == 200
            && list.json()?["items"]
                .as_array()
                .is_some_and(|items| items.len() >= stored)
    );
    ensure!(client.get(&format!("{MAPS}/m0"), &[]).await?.status == 200);
    ensure!(client.get("/livez", &[]).await?.status == 200);
    let printed = server.kubectl(["get", "configmaps", "m0", "-o", "name"]).await?;
    ensure!(printed == "configmap/m0\n", "{printed}");

    fs::remove_file(&ballast)?;
    eventually(PATIENCE, "there is room, and writes go on", async || {
        let reply = client.json(Method::POST, MAPS, &map("after")).await?;
        ensure!(reply.status == 201, "{reply:?}");
        Ok(())
    })
    .await;
    ensure!(client.get(&format!("{MAPS}/after"), &[]).await?.status == 200);
    ensure!(client.get("/readyz", &[]).await?.status == 200);
    Ok(())
}
