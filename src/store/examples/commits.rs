//! How many commits a second the engines take: 64 writers, a key of their own each time, 1 KiB values, every answer
//! durable; beside them etcd's bare puts, if one is given.
//!
//! ```sh
//! cargo run --release -p bosun-store --example commits -- DIR [ETCD_URL]
//! ```

use std::{
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use bosun_store::{Compare, Embedded, Etcd, KeyRange, Op, Revision, Store, Txn, embedded, etcd};
use bytes::Bytes;
use tokio::task::JoinSet;

const WRITERS: usize = 64;
const EACH: usize = 500;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let dir: PathBuf = args.next().context("usage: commits DIR [ETCD_URL]")?.into();
    let url = args.next();
    println!(
        "{:<28} {:>10} {:>9} {:>9} {:>9}",
        "", "commits/s", "p50 ms", "p99 ms", "max ms"
    );

    let home = tempfile::tempdir_in(&dir)?;
    let store: Arc<dyn Store> = Embedded::open(embedded::Options::new(home.path())).await?;
    creates("embedded", &store).await?;
    let start = Instant::now();
    let read = store.range(KeyRange::prefix("/"), 0, None).await?;
    let bytes: usize = read.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
    let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    println!("{:<28} {rate:>10.0} MB/s, {} keys", "embedded, one range", read.count);
    drop(read);
    drop(store);
    let start = Instant::now();
    let store = Embedded::open(embedded::Options::new(home.path())).await?;
    println!(
        "{:<28} {:>10.0} ms",
        "embedded, open and check",
        start.elapsed().as_secs_f64() * 1e3
    );
    drop(store);

    if let Some(url) = url {
        let store: Arc<dyn Store> = Etcd::open(etcd::Options::new([&url])).await?;
        creates("etcd engine", &store).await?;
        let client = etcd_client::Client::connect([&url], None).await?;
        measure("etcd, bare puts", move |writer, number| {
            let mut client = client.clone();
            async move {
                client
                    .put(format!("/bare/{writer}/{number}"), vec![b'x'; 1024], None)
                    .await?;
                Ok(())
            }
        })
        .await?;
    }
    Ok(())
}

async fn creates(name: &str, store: &Arc<dyn Store>) -> anyhow::Result<()> {
    let store = Arc::clone(store);
    let value = Bytes::from(vec![b'x'; 1024]);
    measure(name, move |writer, number| {
        let (store, value) = (Arc::clone(&store), value.clone());
        async move {
            let key = Bytes::from(format!("/registry/configmaps/default/{writer}-{number}"));
            let txn = Txn {
                compares: vec![Compare::Modified(key.clone(), Revision(0))],
                ops: vec![Op::Put { key, value, ttl: None }],
            };
            store.commit(txn).await?;
            Ok(())
        }
    })
    .await
}

/// Has every writer write one after the other, and prints how long it took.
async fn measure<F>(name: &str, write: impl Fn(usize, usize) -> F + Clone + Send + 'static) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let start = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let write = write.clone();
        writers.spawn(async move {
            let mut times = Vec::with_capacity(EACH);
            for number in 0..EACH {
                let start = Instant::now();
                write(writer, number).await?;
                times.push(start.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(writer) = writers.join_next().await {
        times.extend(writer??);
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let at = |part: usize| millis(times[(times.len() - 1) * part / 100]);
    println!(
        "{name:<28} {rate:>10.0} {:>9.2} {:>9.2} {:>9.2}",
        at(50),
        at(99),
        at(100)
    );
    Ok(())
}
