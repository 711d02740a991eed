//! The same on etcd, started for the test on loopback.

use std::{net::TcpListener, process::Stdio};

use bosun_store::Etcd;
use tokio::process::{Child, Command};

use super::*;

/// A running etcd; it ends, and its data with it, when this is dropped.
struct Server {
    _child: Child,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (url, peer) = (
        format!("http://127.0.0.1:{}", port()),
        format!("http://127.0.0.1:{}", port()),
    );
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new("etcd")
        .arg("--data-dir")
        .arg(dir.path().join("etcd"))
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .args(["--logger", "zap", "--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("etcd, which these tests need: install the Debian package etcd-server");
    let ground = Server {
        _child: child,
        _dir: dir,
    };
    let start = std::time::Instant::now();
    let store = loop {
        let opened = Etcd::open(bosun_store::etcd::Options::new([&url])).await;
        match opened {
            Ok(store) if store.revision().await.is_ok() => break store,
            _ => assert!(start.elapsed() < PATIENCE, "etcd does not answer"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    World::on(store, ground, Config::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_watchers_and_lists_agree_on_one_history() {
    concurrent::run(world().await, 7).await;
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_where_it_ended() {
    goes_on_after_a_restart(world().await).await;
}
