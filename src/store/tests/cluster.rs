//! What needs other processes: etcd, held to the contract, and stores whose process is killed.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

#[path = "contract/behaviours.rs"]
mod contract;
#[path = "cluster/crash.rs"]
mod crash;
#[path = "cluster/etcd.rs"]
mod etcd;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "contract/model.rs"]
mod model;

macro_rules! held_to {
    ($($name:ident,)*) => {
        mod behaves {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let server = crate::etcd::Server::start().await.unwrap();
                    crate::contract::$name(server.store().await.unwrap()).await;
                }
            )*
        }
    };
}
contract::behaviours!(held_to);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_and_watches_complete() {
    let server = etcd::Server::start().await.unwrap();
    for seed in model::seeds(2) {
        let store = bosun_store::Etcd::open(bosun_store::etcd::Options {
            prefix: format!("/seed-{seed}"),
            ..server.options()
        });
        model::check(store.await.unwrap(), seed).await;
    }
}
