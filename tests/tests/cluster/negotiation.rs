//! In which form answers are wanted, and bodies come.

use std::io::Read as _;

use anyhow::ensure;
use bosun_testkit::Server;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn an_object_is_sent_in_the_form_that_is_wanted() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let made = client
        .json(
            Method::POST,
            MAPS,
            &json!({"metadata": {"name": "a"}, "data": {"x": "y"}}),
        )
        .await?;
    ensure!(made.status == 201, "{made:?}");
    ensure!(!made.header("audit-id").is_empty() && made.header("cache-control") == "no-cache, private");
    let path = format!("{MAPS}/a");
    for (accept, code, kind, start) in [
        (
            "application/json",
            200,
            "application/json",
            r#"{"apiVersion":"v1","kind":"ConfigMap""#,
        ),
        (
            "application/yaml",
            200,
            "application/yaml",
            "apiVersion: v1\nkind: ConfigMap\n",
        ),
        (
            "application/vnd.kubernetes.protobuf",
            200,
            "application/vnd.kubernetes.protobuf",
            "k8s\0",
        ),
        ("text/html, */*;q=0.1", 200, "application/json", "{"),
        ("application/cbor", 406, "application/json", "{"),
        (
            "application/json;as=Table;g=meta.k8s.io;v=v1",
            200,
            "application/json",
            r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1""#,
        ),
        (
            "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
            200,
            "application/json",
            r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"#,
        ),
    ] {
        let reply = client.get(&path, &[("accept", accept)]).await?;
        ensure!(reply.status == code, "{accept}: {reply:?}");
        ensure!(reply.header("content-type") == kind, "{accept}: {:?}", reply.headers);
        ensure!(reply.body.starts_with(start.as_bytes()), "{accept}: {}", reply.text());
    }
    let pretty = client.get(&format!("{path}?pretty=true"), &[]).await?;
    ensure!(
        pretty.text().contains("\n  \"kind\": \"ConfigMap\""),
        "{}",
        pretty.text()
    );
    let list = client
        .get(
            MAPS,
            &[(
                "accept",
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            )],
        )
        .await?;
    let items = list.json()?;
    ensure!(
        items["kind"] == "PartialObjectMetadataList" && items["items"][0].get("data").is_none(),
        "{items}"
    );
    Ok(())
}

#[tokio::test]
async fn what_comes_as_protobuf_or_yaml_is_the_same_object() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let yaml = "metadata:\n  name: a\ndata:\n  x: word\n";
    let send = |kind: &'static str, body: Bytes| {
        let request = client.request(Method::POST, MAPS).header("content-type", kind);
        let request = request.body(Full::from(body));
        let client = client.clone();
        async move { client.send(request?).await }
    };
    let made = send("application/yaml", yaml.into()).await?;
    ensure!(made.status == 201, "{made:?}");
    let message = client
        .get(
            &format!("{MAPS}/a"),
            &[("accept", "application/vnd.kubernetes.protobuf")],
        )
        .await?
        .body;
    let deleted = client.json(Method::DELETE, &format!("{MAPS}/a"), &Value::Null).await?;
    ensure!(deleted.status == 200, "{deleted:?}");
    // With the version and identity of the one that is gone, it is refused for that and nothing else.
    let again = send("application/vnd.kubernetes.protobuf", message).await?;
    ensure!(
        again.json()?["message"] == "resourceVersion should not be set on objects to be created",
        "{again:?}"
    );
    for kind in ["application/cbor", "text/plain", "application/x-www-form-urlencoded"] {
        let refused = send(kind, yaml.into()).await?;
        ensure!(refused.status == 415, "{kind}: {refused:?}");
        ensure!(refused.json()?["reason"] == "UnsupportedMediaType");
    }
    Ok(())
}

#[tokio::test]
async fn a_field_nobody_knows_is_dropped_warned_of_or_refused_as_is_asked() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let object = |name: &str| json!({"metadata": {"name": name}, "datum": 1});
    for (mode, code, warned) in [("Ignore", 201, false), ("Warn", 201, true), ("Strict", 400, false)] {
        let path = format!("{MAPS}?fieldValidation={mode}");
        let reply = client.json(Method::POST, &path, &object(&mode.to_lowercase())).await?;
        ensure!(reply.status == code, "{mode}: {reply:?}");
        ensure!(
            reply.header("warning").starts_with("299 - \"unknown field") == warned,
            "{mode}: {:?}",
            reply.headers
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_long_answer_is_compressed_for_whoever_takes_it_so() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    for (name, length) in [("long", 200_000), ("short", 100)] {
        let object = json!({"metadata": {"name": name}, "data": {"x": "y".repeat(length)}});
        ensure!(client.json(Method::POST, MAPS, &object).await?.status == 201);
    }
    let gzip = ("accept-encoding", "deflate, gzip");
    for (path, accept, compressed) in [
        (MAPS.to_owned(), "application/json", true),
        (MAPS.to_owned(), "application/yaml", true),
        (MAPS.to_owned(), "application/vnd.kubernetes.protobuf", true),
        (format!("{MAPS}/long"), "application/json", true),
        (format!("{MAPS}/short"), "application/json", false),
    ] {
        let plain = client.get(&path, &[("accept", accept)]).await?;
        ensure!(
            plain.header("content-encoding").is_empty(),
            "{path}: {:?}",
            plain.headers
        );
        let reply = client.get(&path, &[("accept", accept), gzip]).await?;
        ensure!(
            (reply.header("content-encoding") == "gzip") == compressed,
            "{path} {accept}: {:?}",
            reply.headers
        );
        ensure!(reply.header("content-type") == accept);
        let mut read = Vec::new();
        if compressed {
            ensure!(reply.header("vary") == "Accept-Encoding");
            GzDecoder::new(&*reply.body).read_to_end(&mut read)?;
        } else {
            read.extend_from_slice(&reply.body);
        }
        ensure!(read == plain.body, "{path} {accept} says something else compressed");
    }
    Ok(())
}

#[tokio::test]
async fn paths_and_methods_that_are_not_served_are_told_apart() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    for (method, path, code) in [
        (Method::GET, "/apis/nowhere.example/v1/things", 404),
        (Method::GET, "/api/v1/nothings", 404),
        (Method::GET, "/api/v1/pods/p", 404),
        (Method::GET, "/api/v1/namespaces/default/nodes", 404),
        (Method::GET, "/api/v1/namespaces/default/pods/p/nothing", 404),
        (Method::GET, "/apis/apps/v2", 404),
        (Method::GET, "/nowhere", 404),
        (Method::PUT, "/api/v1/namespaces/default/configmaps", 405),
        (Method::POST, "/version", 405),
        (Method::GET, "/api/v1/namespaces?limit=x", 400),
        (Method::GET, "/api/v1/namespaces?labelSelector=%3D", 400),
        (Method::GET, "/api/v1/namespaces/%zz", 400),
        (Method::GET, "/api/v1/namespaces/none", 404),
    ] {
        let reply = client.json(method.clone(), path, &json!({})).await?;
        ensure!(reply.status == code, "{method} {path}: {reply:?}");
        let status = reply.json()?;
        ensure!(
            status["kind"] == "Status" && status["code"] == code,
            "{method} {path}: {status}"
        );
    }
    Ok(())
}
