//! What is told to clients before they ask for objects.

use anyhow::ensure;
use bosun_testkit::Server;

#[tokio::test]
async fn a_document_is_sent_once_and_then_known_by_its_tag() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let first = client.get("/apis", &[("accept", accept)]).await?;
    ensure!(first.json()?["kind"] == "APIGroupDiscoveryList");
    ensure!(first.header("content-type").contains("as=APIGroupDiscoveryList"));
    let tag = first.header("etag").to_owned();
    let again = client
        .get("/apis", &[("accept", accept), ("if-none-match", &tag)])
        .await?;
    ensure!(again.status == 304 && again.body.is_empty(), "{again:?}");
    let plain = client.get("/apis", &[]).await?;
    ensure!(plain.json()?["kind"] == "APIGroupList");
    Ok(())
}

#[tokio::test]
async fn openapi_is_found_by_its_hash_and_may_be_kept() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let index = client.get("/openapi/v3", &[]).await?.json()?;
    let path = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let document = client.get(&path, &[]).await?;
    ensure!(
        document.header("cache-control").contains("immutable"),
        "{:?}",
        document.headers
    );
    ensure!(document.json()?["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
    let (bare, _) = path.split_once('?').unwrap_or((&path, ""));
    let stale = client.get(&format!("{bare}?hash=OLD"), &[]).await?;
    ensure!(stale.status == 301 && stale.header("location") == path, "{stale:?}");
    let v2 = client.get("/openapi/v2", &[]).await?;
    ensure!(v2.json()?["swagger"] == "2.0");
    Ok(())
}

#[tokio::test]
async fn health_is_told_to_anyone_and_the_rest_to_those_who_may() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let stranger = server.stranger()?;
    for path in ["/healthz", "/livez", "/readyz"] {
        let reply = stranger.get(path, &[]).await?;
        ensure!(reply.status == 200 && reply.text() == "ok", "{path}: {reply:?}");
    }
    for path in ["/api/v1/namespaces", "/metrics", "/apis", "/nowhere"] {
        let reply = stranger.get(path, &[]).await?;
        ensure!(reply.status == 401 || reply.status == 403, "{path}: {reply:?}");
        ensure!(reply.json()?["kind"] == "Status", "{path}");
    }
    let client = server.client()?;
    let verbose = client.get("/readyz?verbose", &[]).await?;
    ensure!(verbose.text().contains("[+]store ok"), "{}", verbose.text());
    let metrics = client.get("/metrics", &[]).await?.text();
    for name in [
        "apiserver_request_total{",
        "etcd_request_duration_seconds_bucket{",
        "apiserver_current_inflight_requests{",
    ] {
        ensure!(metrics.contains(name), "{name}: {metrics}");
    }
    let keys = client.get("/openid/v1/jwks", &[]).await?.json()?;
    ensure!(keys["keys"][0]["kty"] == "EC", "{keys}");
    Ok(())
}
