//! Both certificates anew in time, for as long as the node runs.

use std::{sync::Arc, time::Duration};

use bosun_client::connect::{Connection, Options};
use jiff::Timestamp;
use tokio::{sync::watch, time::sleep};

use super::{
    JoinConfig, JoinError, Names, Purpose, ServeWith, Step,
    decide::renewal,
    discovery, obtain,
    serving::Serving,
    store::{CLIENT, SERVER, Store},
};

/// The clock may be set meanwhile, so no wait for a certificate's time is longer.
const CLOCK_CHECK: Duration = Duration::from_secs(600);
/// After a failure, from and to.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// Renews a node's certificates.
pub struct Upkeep {
    pub(super) config: JoinConfig,
    pub(super) client: kube::Client,
    pub(super) store: Store,
    pub(super) serving: Arc<Serving>,
    pub(super) names: watch::Receiver<Names>,
    /// Whether the client certificate is one that is kept here.
    pub(super) managed: bool,
}

impl Upkeep {
    /// Runs for ever.
    pub async fn run(&self) {
        tokio::join!(self.keep_client(), self.keep_serving());
    }

    async fn keep_client(&self) {
        if !self.managed {
            return std::future::pending().await;
        }
        let share = fastrand::f64();
        let mut backoff = Backoff::default();
        loop {
            let now = Timestamp::now();
            let held = match self.store.current(CLIENT) {
                Ok(Some(pair)) => Some((pair.certificate.not_before, pair.certificate.not_after)),
                Ok(None) => None,
                Err(error) => {
                    tracing::error!(%error, "the node's certificate can't be read");
                    None
                }
            };
            if let Some((from, to)) = held {
                let due = renewal(from, to, share);
                if now < due {
                    sleep(until(now, due)).await;
                    continue;
                }
            }
            let expired = held.is_none_or(|(_, to)| to <= now);
            match self.renew_client(expired).await {
                Ok(()) => {
                    tracing::info!("the node's certificate was renewed");
                    backoff = Backoff::default();
                }
                Err(error) => {
                    tracing::error!(%error, expired, "the node's certificate was not renewed; trying again");
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    /// With the certificate there is while it holds; after that as at the first time, if there is something to join with.
    async fn renew_client(&self, expired: bool) -> Result<(), JoinError> {
        let client = match (expired, &self.config.way) {
            (false, _) => self.client.clone(),
            (true, Some(way)) => {
                let access = discovery::access(way, Duration::ZERO).await?;
                Connection::new(access, Options::default())?.client()
            }
            (true, None) => {
                return Err(JoinError::new(
                    Step::Credentials,
                    "the node's certificate has expired while it ran",
                    "start it again with a token: 'bosun token create' on the server prints the command",
                ));
            }
        };
        let approval = self.config.approval;
        obtain(&client, &self.config, &self.store, &Purpose::Client, approval).await
    }

    async fn keep_serving(&self) {
        let node = &self.config.node_name;
        let mut names = self.names.clone();
        let share = fastrand::f64();
        let mut backoff = Backoff::default();
        if matches!(self.config.serve_with, ServeWith::Files { .. }) {
            return std::future::pending().await;
        }
        loop {
            let wanted = names.borrow_and_update().clone();
            let now = Timestamp::now();
            let held = self.serving.held();
            let fits = held.is_for(&wanted);
            let due = if self.config.rotate || !held.signed {
                renewal(held.valid.0, held.valid.1, share)
            } else {
                held.valid.1
            };
            // What the cluster signed serves on until there is better, unless its time is over.
            if held.valid.1 <= now || !held.signed && (!fits || now >= due) {
                self.serving.take_own(node, &wanted, now);
                continue;
            }
            let nameless = wanted.dns.is_empty() && wanted.addresses.is_empty();
            let asks = self.config.serve_with == ServeWith::Cluster && !nameless;
            let renew = !held.signed || !fits || now >= due;
            if !asks || !renew {
                tokio::select! {
                    () = sleep(until(now, due)) => {}
                    changed = names.changed() => closed(changed).await,
                }
                continue;
            }
            let obtained = tokio::select! {
                obtained = self.renew_serving(wanted) => obtained,
                // Asked for the new ones at once.
                changed = names.changed() => {
                    closed(changed).await;
                    continue;
                }
            };
            match obtained {
                Ok(()) => {
                    tracing::info!(serving = ?self.serving, "the node's serving certificate is signed by the cluster");
                    backoff = Backoff::default();
                }
                Err(error) => {
                    tracing::warn!(%error, "no serving certificate from the cluster yet; serving with what there is");
                    tokio::select! {
                        () = sleep(backoff.next()) => {}
                        changed = names.changed() => closed(changed).await,
                    }
                }
            }
        }
    }

    async fn renew_serving(&self, names: Names) -> Result<(), JoinError> {
        let purpose = Purpose::Serving(names.clone());
        obtain(&self.client, &self.config, &self.store, &purpose, self.config.approval).await?;
        if let Some(pair) = self.store.current(SERVER)? {
            self.serving.take(&pair, &names);
        }
        Ok(())
    }
}

/// Nobody tells names any more: those that were told stay.
async fn closed(changed: Result<(), watch::error::RecvError>) {
    if changed.is_err() {
        sleep(CLOCK_CHECK).await;
    }
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    let left = Duration::try_from(now.duration_until(due)).unwrap_or(Duration::ZERO);
    left.clamp(Duration::from_secs(1), CLOCK_CHECK)
}

/// Longer and longer, and not all nodes at once.
#[derive(Default)]
struct Backoff {
    last: Duration,
}

impl Backoff {
    fn next(&mut self) -> Duration {
        self.last = (self.last * 2).clamp(BACKOFF.0, BACKOFF.1);
        self.last.mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}
