//! Asks agents what is consumed, while somebody wants to know.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request as HttpRequest, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Shared,
    text::{self, Reading},
};
use crate::{
    Registry, Status,
    connect::{
        Dialer,
        place::{self, Endpoint},
    },
    options::ListOptions,
    registry::own_request,
};

/// For one agent's answer, connection and all.
const DEADLINE: Duration = Duration::from_secs(10);
/// Between two rounds while somebody asks, as metrics-server.
const PERIOD: Duration = Duration::from_secs(15);
/// Between the first two rounds: rates want some time between two readings.
const FIRST_PERIOD: Duration = Duration::from_millis(1200);
/// Agents that are asked at a time.
const AT_ONCE: usize = 128;
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// What came of asking an agent.
struct Scraped {
    node: String,
    outcome: Result<Reading, String>,
}

/// Runs until it is dropped, and survives whatever agents say.
pub(super) async fn run(registry: Arc<Registry>, dialer: Arc<dyn Dialer>, shared: Arc<Shared>) {
    loop {
        while !shared.wanted() {
            shared.question.notified().await;
        }
        while_wanted(&registry, &dialer, &shared).await;
        // Old readings say nothing about the next time somebody asks.
        shared.rounds.send_replace(0);
        shared.numbers.lock().clear();
    }
}

async fn while_wanted(registry: &Arc<Registry>, dialer: &Arc<dyn Dialer>, shared: &Shared) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut scrapes = JoinSet::new();
    let mut busy = HashSet::new();
    let mut period = FIRST_PERIOD;
    while shared.wanted() {
        match agents(registry).await {
            Ok(agents) => {
                let names: HashSet<&str> = agents.iter().map(|(name, _)| &**name).collect();
                shared.numbers.lock().retain(|name, _| names.contains(&**name));
                for (node, agent) in agents {
                    // One that has yet to answer is not asked again.
                    if busy.insert(node.clone()) {
                        let (dialer, places) = (dialer.clone(), places.clone());
                        scrapes.spawn(async move {
                            let _place = places.acquire().await;
                            let asked = timeout(DEADLINE, ask(&dialer, &agent));
                            let late = |_| Err(format!("no answer within {} s", DEADLINE.as_secs()));
                            let outcome = asked.await.unwrap_or_else(late);
                            Scraped { node, outcome }
                        });
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the nodes can't be listed to ask what they consume"),
        }
        let rest = sleep(std::mem::replace(&mut period, PERIOD));
        tokio::pin!(rest);
        let mut counted = false;
        loop {
            if scrapes.is_empty() && !counted {
                counted = true;
                shared.rounds.send_modify(|rounds| *rounds = rounds.saturating_add(1));
            }
            tokio::select! {
                () = &mut rest => break,
                Some(ended) = scrapes.join_next() => match ended {
                    Ok(scraped) => {
                        busy.remove(&scraped.node);
                        take(shared, scraped);
                    }
                    Err(error) => {
                        tracing::error!(%error, "asking an agent broke off");
                        // Whose it was is not told: all are asked again.
                        scrapes.abort_all();
                        busy.clear();
                    }
                },
            }
        }
    }
}

fn take(shared: &Shared, Scraped { node, outcome }: Scraped) {
    match outcome {
        Ok(reading) => shared.numbers.lock().entry(node).or_default().take(reading),
        Err(error) => {
            tracing::debug!(node, error, "an agent does not say what is consumed");
            shared.numbers.lock().remove(&node);
        }
    }
}

/// All nodes whose agents can be reached, with where.
async fn agents(registry: &Arc<Registry>) -> Result<Vec<(String, Endpoint)>, Status> {
    let table = registry.table();
    let row = table.get("", "v1", "nodes").ok_or_else(crate::http::unknown)?;
    let request = own_request(row, "list", "", "", Timestamp::now());
    let list = registry.list(&request, &ListOptions::default()).await?;
    let place = |node: Value, name: &str| Some((name.to_owned(), place::agent(&node).ok()?));
    let agents = list
        .entries
        .iter()
        .filter_map(|entry| place(entry.decode(), entry.name()));
    Ok(agents.collect())
}

async fn ask(dialer: &Arc<dyn Dialer>, agent: &Endpoint) -> Result<Reading, String> {
    let connection = dialer.dial(agent).await.map_err(|error| error.to_string())?;
    let handshake = http1::handshake(TokioIo::new(connection)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to an agent broke");
        }
    });
    let request = HttpRequest::get("/metrics/resource")
        .header(header::HOST, agent.authority())
        .header(header::ACCEPT, "text/plain;version=0.0.4")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    Ok(text::parse(
        &String::from_utf8_lossy(&body),
        Timestamp::now().as_millisecond(),
    ))
}
