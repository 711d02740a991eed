use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;

/// Does with a key what its name says, and notes it.
struct Scripted {
    ran: watch::Sender<Vec<&'static str>>,
    at_once: AtomicUsize,
    most: Mutex<HashMap<&'static str, usize>>,
}

#[async_trait]
impl Controller for Scripted {
    type Key = &'static str;

    fn name(&self) -> &'static str {
        "scripted"
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches<Self::Key>) {
        for key in ["panics", "hangs", "fails", "settles", "again"] {
            watches.queue().add(key);
        }
    }

    async fn sync(&self, key: &Self::Key) -> Result<Done, SyncError> {
        let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
        self.most
            .lock()
            .entry("all")
            .and_modify(|most| *most = (*most).max(now))
            .or_insert(now);
        self.ran.send_modify(|ran| ran.push(key));
        let outcome = match *key {
            "panics" => {
                self.at_once.fetch_sub(1, Ordering::Relaxed);
                panic!("as asked")
            }
            "hangs" => {
                self.at_once.fetch_sub(1, Ordering::Relaxed);
                std::future::pending().await
            }
            "fails" => Err(SyncError::Other("as asked".to_owned())),
            "again" => Ok(Done::Again(Duration::from_secs(10))),
            _ => Ok(Done::Settled),
        };
        self.at_once.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    fn workers(&self) -> usize {
        2
    }
}

#[tokio::test(start_paused = true)]
async fn panics_hangs_and_failures_end_only_their_own_run_and_are_tried_again() {
    let controller = Arc::new(Scripted {
        ran: watch::Sender::new(Vec::new()),
        at_once: AtomicUsize::new(0),
        most: Mutex::default(),
    });
    let mut ran = controller.ran.subscribe();
    let mut tasks = JoinSet::new();
    tasks.spawn(run(controller.clone(), Metrics::default()));
    let count = |ran: &[&str], key: &str| ran.iter().filter(|one| **one == key).count();
    ran.wait_for(|ran| {
        ["panics", "hangs", "fails", "again"]
            .iter()
            .all(|key| count(ran, key) >= 3)
            && count(ran, "settles") >= 1
    })
    .await
    .expect("the controller runs");
    assert_eq!(count(&ran.borrow(), "settles"), 1);
    assert!(controller.most.lock()["all"] <= 2);
}
