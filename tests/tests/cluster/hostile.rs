//! Input that no honest client sends: the right answer, bounded memory, no effect on others.

use std::time::Duration;

use anyhow::{Context, ensure};
use bosun_testkit::{PATIENCE, Server, eventually};
use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, Full};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn a_body_that_is_no_object_is_refused_in_words() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let ten = |of: &str| [of; 10].join(",");
    let levels = (1..10).map(|level| format!("a{level}: &a{level} [{}]\n", ten(&format!("*a{}", level - 1))));
    let bomb = [format!("a0: &a0 [{}]\n", ten("x"))]
        .into_iter()
        .chain(levels)
        .collect::<String>();
    let deep = format!("{}1{}", "{\"a\":".repeat(20_000), "}".repeat(20_000));
    let wide = format!(
        "{{\"metadata\":{{\"name\":\"a\"}},\"data\":[{}1]}}",
        "[],".repeat(900_000)
    );
    for (kind, body, code) in [
        ("application/json", "{\"metadata\":".to_owned(), 400),
        ("application/json", String::new(), 400),
        ("application/json", "[1]".to_owned(), 400),
        ("application/json", "\u{feff}\0\0".to_owned(), 400),
        ("application/json", deep.clone(), 400),
        ("application/json", wide, 400),
        ("application/yaml", "a: [b".to_owned(), 400),
        ("application/yaml", bomb, 400),
        ("application/yaml", deep, 400),
        (
            "application/vnd.kubernetes.protobuf",
            "k8s\0\u{12}\u{7f}".to_owned(),
            400,
        ),
        ("application/json", "x".repeat((3 << 20) + 1), 413),
    ] {
        let request = client.request(Method::POST, MAPS).header("content-type", kind);
        let start = body.chars().take(30).collect::<String>();
        let reply = client.send(request.body(Full::from(body))?).await;
        let reply = reply.with_context(|| format!("{kind} {start:?}"))?;
        ensure!(reply.status == code, "{kind} {start:?}: {reply:?}");
        ensure!(reply.json()?["kind"] == "Status");
    }
    ensure!(server.resident()? < 200 << 20, "{} bytes", server.resident()?);
    Ok(())
}

#[tokio::test]
async fn an_object_larger_than_the_store_takes_is_told_so() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let object = serde_json::json!({"metadata": {"name": "a"}, "data": {"x": "y".repeat(2_900_000)}});
    let reply = client.json(Method::POST, MAPS, &object).await?;
    ensure!(
        reply.status == 413 || reply.status == 422,
        "{} {}",
        reply.status,
        &reply.text()[..200.min(reply.body.len())]
    );
    Ok(())
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let mut stream = client.connect(false).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\n").await?;
    let line = format!("x-filler: {}\r\n", "y".repeat(8000));
    let flood = async {
        for _ in 0..1000 {
            stream.write_all(line.as_bytes()).await?;
        }
        anyhow::Ok(())
    };
    // Either the server answers that it is too much, or it just closes; what it never does is take it all.
    let taken = timeout(PATIENCE, flood)
        .await
        .context("the server neither takes nor closes")?;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    ensure!(taken.is_err() || answer.starts_with("HTTP/1.1 431"), "{answer:?}");
    ensure!(client.get("/readyz", &[]).await?.status == 200);
    Ok(())
}

#[tokio::test]
async fn connections_that_say_nothing_are_closed_and_harm_nobody() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(server.address()).await?);
    }
    let client = server.client()?;
    ensure!(client.get("/readyz", &[]).await?.status == 200);
    for mut stream in silent {
        let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await;
        ensure!(
            matches!(ended, Ok(Ok(0) | Err(_))),
            "a connection without a handshake stays open"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_reader_that_stands_still_holds_up_nobody() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let object = |number: usize| serde_json::json!({"metadata": {"name": format!("m{number}")}, "data": {"x": "y".repeat(400_000)}});
    for number in 0..20 {
        ensure!(client.json(Method::POST, MAPS, &object(number)).await?.status == 201);
    }
    let before = server.resident()?;
    let mut standing = Vec::new();
    for _ in 0..100 {
        let mut stream = client.connect(false).await?;
        stream
            .write_all(format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
            .await?;
        standing.push(stream);
    }
    let started = tokio::time::Instant::now();
    ensure!(client.get(&format!("{MAPS}/m0"), &[]).await?.status == 200);
    ensure!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let after = server.resident()?;
    ensure!(after < before + (200 << 20), "{before} bytes before, {after} after");
    // They are cut off in time.
    let mut first = standing.swap_remove(0);
    drop(standing);
    eventually(PATIENCE, "the reader is cut off", async || {
        let metrics = client.get("/metrics", &[]).await?.text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("apiserver_current_inflight_requests{request_kind=\"readOnly\"}"))
            .context("no such metric")?
            .to_owned();
        // The one that asks is in flight itself.
        ensure!(line.ends_with(" 1"), "{line}");
        Ok(())
    })
    .await;
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, first.read_to_end(&mut rest)).await;
    ensure!(ended.is_ok(), "the connection stays open");
    Ok(())
}

#[tokio::test]
async fn more_requests_than_there_are_places_are_told_to_come_again() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let object = serde_json::json!({"metadata": {"name": "a"}, "data": {"x": "y".repeat(100_000)}});
    ensure!(client.json(Method::POST, MAPS, &object).await?.status == 201);
    let before = server.resident()?;
    let mut connections = JoinSet::new();
    let mut senders = Vec::new();
    for _ in 0..50 {
        senders.push(client.http2(&mut connections).await?);
    }
    // 20,000 requests, or with `--soak` 100,000.
    let rounds = if std::env::var_os("BOSUN_SOAK").is_some() {
        20
    } else {
        4
    };
    let mut requests = JoinSet::new();
    for round in 0..rounds {
        for sender in &senders {
            for _ in 0..100 {
                let mut sender = sender.clone();
                let request = http::Request::get(client.url(MAPS)).body(Full::<Bytes>::default())?;
                requests.spawn(async move {
                    sender.ready().await?;
                    let response = sender.send_request(request).await?;
                    let (parts, body) = response.into_parts();
                    body.collect().await?;
                    anyhow::Ok((parts.status.as_u16(), parts.headers.contains_key("retry-after")))
                });
            }
        }
        let mut answered = 0;
        while let Some(outcome) = requests.join_next().await {
            let (code, retry) = outcome??;
            ensure!(code == 200 || (code == 429 && retry), "round {round}: {code}");
            answered += 1;
        }
        ensure!(answered == 5000, "{answered}");
    }
    let after = server.resident()?;
    ensure!(after < before + FLOOD / 3, "{before} bytes before, {after} after");
    ensure!(client.get("/readyz", &[]).await?.status == 200);
    Ok(())
}

/// What 5,000 answers of 100 kB weigh: what a server would hold that writes more than it has places for.
const FLOOD: u64 = 5000 * 100_000;

#[tokio::test]
async fn answers_that_nobody_takes_hold_their_places_and_no_more_memory() -> anyhow::Result<()> {
    let server = Server::start().await?;
    let client = server.client()?;
    let object = serde_json::json!({"metadata": {"name": "a"}, "data": {"x": "y".repeat(100_000)}});
    ensure!(client.json(Method::POST, MAPS, &object).await?.status == 201);
    let before = server.resident()?;
    let mut connections = JoinSet::new();
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..50 {
        // Each stream takes one byte of its answer.
        let sender = client.http2_with_window(&mut connections, 1).await?;
        let mut requests = JoinSet::new();
        for _ in 0..100 {
            let mut sender = sender.clone();
            let request = http::Request::get(client.url(MAPS)).body(Full::<Bytes>::default())?;
            requests.spawn(async move {
                sender.ready().await?;
                anyhow::Ok(sender.send_request(request).await?)
            });
        }
        while let Some(response) = timeout(PATIENCE, requests.join_next()).await? {
            let response = response??;
            match response.status().as_u16() {
                200 => held.push(response),
                429 => refused += 1,
                code => anyhow::bail!("{code}"),
            }
        }
    }
    ensure!(refused > 4000, "{} answered, {refused} refused", held.len());
    let after = server.resident()?;
    ensure!(after < before + FLOOD / 3, "{before} bytes before, {after} after");
    // They are all of one user: others are answered.
    let stranger = server.stranger()?;
    ensure!(stranger.get("/readyz", &[]).await?.status == 200);
    drop(held);
    drop(connections);
    eventually(PATIENCE, "the places are free again", async || {
        let status = client.get(MAPS, &[]).await?.status;
        ensure!(status == 200, "{status}");
        Ok(())
    })
    .await;
    Ok(())
}
