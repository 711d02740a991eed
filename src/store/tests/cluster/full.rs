//! A disk that is really full: a small file system in a mount namespace of a child process.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use bosun_store::{Embedded, Error, Revision, Store, embedded::Options};
use tokio::{process::Command, time::timeout};

use crate::contract::{PATIENCE, all, events, just, key, put};

/// Names the small file system to the process in it.
const DISK: &str = "BOSUN_TEST_FULL_DISK";

async fn fill(disk: &Path) {
    // What someone else has on the disk, and takes away later.
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let dir = disk.join("store");
    let store = Embedded::open(Options::new(&dir)).await.unwrap();
    let value = "x".repeat(20_000);
    let mut stored = 0;
    let full = loop {
        match store.commit(just([put(&format!("/{stored:03}"), &value)])).await {
            Ok(revision) => {
                stored += 1;
                assert_eq!(revision, Revision(stored));
            }
            Err(error) => break error,
        }
        assert!(stored < 1000, "the disk is not small");
    };
    assert!(matches!(full, Error::Full(_)), "{full:?}");
    let again = store.commit(just([put("/again", &value)])).await;
    assert!(matches!(again, Err(Error::Full(_))), "{again:?}");
    assert!(store.health().await.unwrap().trouble.is_some());
    // Reads go on, and so do watches.
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, stored);
    assert_eq!(store.get(key("/again")).await, Ok(None));
    let mut watch = store.watch(all(), Revision(0)).await.unwrap();
    assert_eq!(events(&mut watch, Revision(stored)).await.len() as u64, stored);

    std::fs::remove_file(ballast).unwrap();
    let start = Instant::now();
    let recovered = loop {
        match store.commit(just([put("/again", &value)])).await {
            Ok(revision) => break revision,
            Err(error) => assert!(matches!(error, Error::Full(_)), "{error:?}"),
        }
        assert!(start.elapsed() < PATIENCE, "there is room, and it does not go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(recovered, Revision(stored + 1));
    assert_eq!(events(&mut watch, recovered).await.len(), 1);
    assert_eq!(store.health().await.unwrap().trouble, None);
    drop(store);
    let store = Embedded::open(Options::new(&dir)).await.unwrap();
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, stored + 1);
    println!("FULL after {stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_writes_fail_reads_go_on_and_it_recovers_without_a_start() {
    if let Some(disk) = std::env::var_os(DISK) {
        return fill(Path::new(&disk)).await;
    }
    let disk = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=6m,mode=700 bosun-test \"$1\" && exec \"$2\" --exact \"$3\" --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(disk.path())
        .arg(std::env::current_exe().unwrap())
        .arg("full::on_a_full_disk_writes_fail_reads_go_on_and_it_recovers_without_a_start")
        .env(DISK, disk.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("FULL after"),
        "this needs user namespaces (or root) for a file system of its own: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
