//! The embedded engine, held to the contract and to what is its own.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "contract/behaviours.rs"]
mod contract;
#[path = "contract/model.rs"]
mod model;
#[path = "embedded/recovery.rs"]
mod recovery;
#[path = "embedded/settings.rs"]
mod settings;

use std::time::Duration;

use bosun_store::embedded::Options;

fn options(dir: &tempfile::TempDir) -> Options {
    Options {
        progress: Duration::from_millis(300),
        watch_queue: 64,
        ..Options::new(dir.path().join("store"))
    }
}

macro_rules! held_to {
    ($($name:ident,)*) => {
        mod behaves {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let dir = tempfile::tempdir().unwrap();
                    let store = bosun_store::Embedded::open(super::options(&dir)).await.unwrap();
                    super::contract::$name(store).await;
                }
            )*
        }
    };
}
contract::behaviours!(held_to);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_and_watches_complete() {
    for seed in model::seeds(4) {
        let dir = tempfile::tempdir().unwrap();
        let store = bosun_store::Embedded::open(options(&dir)).await.unwrap();
        model::check(store, seed).await;
    }
}
