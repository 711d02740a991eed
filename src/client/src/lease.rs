//! One leader among several, by a Lease of coordination.k8s.io.
//!
//! The holder writes the Lease every few seconds; who sees it unchanged for its whole duration, by their own clock,
//! takes it over. Times in the Lease are for people: clocks of two machines are never compared. A holder that couldn't
//! renew in time stops leading before another one may begin. Numbers and rules are those of upstream's
//! `client-go/tools/leaderelection`, so both can stand for election together.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::call::{CallError, call_within};

/// How long leadership lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long others leave an unchanged Lease to its holder.
    pub duration: Duration,
    /// How long the holder leads without a successful renewal; less than the duration.
    pub deadline: Duration,
    /// Time between two attempts to get or renew the Lease.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A candidate for a Lease.
#[derive(Clone)]
pub struct Election {
    api: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    terms: Terms,
}

/// The Lease as it was last seen, and when it was first seen so.
#[derive(Debug)]
struct Observed {
    lease: Lease,
    since: Instant,
}

/// What a candidate does now.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// There is no Lease: create it.
    Create(LeaseSpec),
    /// It is ours, or may be taken over: write it.
    Take(LeaseSpec),
    /// Somebody else leads.
    Wait,
}

impl Election {
    /// A candidate. `identity` is unique among those that run at the same time; one that is the same after a restart
    /// takes its Lease up again at once.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, terms: Terms) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            terms,
        }
    }

    /// Runs what `lead` makes while leading, again each time that the Lease is got. When it can't be renewed the
    /// future is dropped, wherever it is. Ends, and gives the Lease back, when `end` is cancelled or the future
    /// itself ends.
    pub async fn lead<F, Fut>(&self, end: &CancellationToken, mut lead: F)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = ()>,
    {
        let mut observed = None;
        loop {
            tokio::select! {
                () = self.acquire(&mut observed) => {}
                () = end.cancelled() => return,
            }
            info!(lease = self.name, identity = self.identity, "leading");
            let lost = tokio::select! {
                () = lead() => false,
                () = end.cancelled() => false,
                () = self.renew(&mut observed) => true,
            };
            if !lost {
                self.release(observed).await;
                return;
            }
            warn!(
                lease = self.name,
                identity = self.identity,
                "no longer leading: the lease could not be renewed"
            );
        }
    }

    async fn acquire(&self, observed: &mut Option<Observed>) {
        loop {
            match self.attempt(observed).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => debug!(lease = self.name, %error, "the lease is not to be had"),
            }
            // Candidates shall not stay in step.
            sleep(self.terms.retry.mul_f64(1.0 + fastrand::f64() * 0.2)).await;
        }
    }

    /// Renews until that failed for too long, or somebody else leads.
    async fn renew(&self, observed: &mut Option<Observed>) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.terms.retry).await;
            let begun = Instant::now();
            let left = self.terms.deadline.saturating_sub(renewed.elapsed());
            match timeout(left, self.attempt(observed)).await {
                Ok(Ok(true)) => renewed = begun,
                // Somebody else holds it.
                Ok(Ok(false)) | Err(_) => return,
                Ok(Err(error)) => debug!(lease = self.name, %error, "the lease was not renewed"),
            }
        }
    }

    /// One attempt to get or keep the Lease: whether it is ours now.
    async fn attempt(&self, observed: &mut Option<Observed>) -> Result<bool, CallError> {
        let limit = self.terms.deadline / 2;
        let found = call_within(limit, self.api.get_opt(&self.name)).await?;
        let now = Instant::now();
        match found {
            None => *observed = None,
            Some(lease)
                if observed
                    .as_ref()
                    .is_some_and(|observed| observed.lease.spec == lease.spec) =>
            {
                // Seen before; only the version to write against may be another.
                if let Some(observed) = observed {
                    observed.lease = lease;
                }
            }
            Some(lease) => *observed = Some(Observed { lease, since: now }),
        }
        let held = observed
            .as_ref()
            .map(|observed| (observed.lease.spec.as_ref(), now - observed.since));
        let step = decide(held, &self.identity, self.terms.duration, Timestamp::now());
        let written = match step {
            Step::Wait => return Ok(false),
            Step::Create(spec) => {
                let lease = self.lease(ObjectMeta::default(), spec);
                call_within(limit, self.api.create(&PostParams::default(), &lease)).await?
            }
            Step::Take(spec) => {
                let meta = observed.as_ref().map(|observed| observed.lease.metadata.clone());
                let lease = self.lease(meta.unwrap_or_default(), spec);
                call_within(limit, self.api.replace(&self.name, &PostParams::default(), &lease)).await?
            }
        };
        *observed = Some(Observed {
            lease: written,
            since: now,
        });
        Ok(true)
    }

    /// Lets another one lead at once.
    async fn release(&self, observed: Option<Observed>) {
        let Some(Observed { lease, .. }) = observed else { return };
        let spec = lease.spec.unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return;
        }
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            ..spec
        };
        let lease = self.lease(lease.metadata, spec);
        let params = PostParams::default();
        let written = self.api.replace(&self.name, &params, &lease);
        if let Err(error) = call_within(self.terms.retry, written).await {
            debug!(lease = self.name, %error, "the lease is not given back: it ends by itself");
        }
    }

    fn lease(&self, meta: ObjectMeta, spec: LeaseSpec) -> Lease {
        Lease {
            metadata: ObjectMeta {
                namespace: Some(self.namespace.clone()),
                name: Some(self.name.clone()),
                managed_fields: None,
                ..meta
            },
            spec: Some(spec),
        }
    }
}

/// What to do about a Lease that has been as it is for some time; `None` if there is none.
fn decide(held: Option<(Option<&LeaseSpec>, Duration)>, me: &str, duration: Duration, now: Timestamp) -> Step {
    let mine = |acquired: Option<MicroTime>, transitions: i32| LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: acquired.or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    let Some((spec, unchanged)) = held else {
        return Step::Create(mine(None, 0));
    };
    let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
    match spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default()
    {
        holder if holder == me => {
            let acquired = spec.and_then(|spec| spec.acquire_time.clone());
            Step::Take(mine(acquired, transitions))
        }
        "" => Step::Take(mine(None, transitions.saturating_add(1))),
        _ if unchanged >= duration => Step::Take(mine(None, transitions.saturating_add(1))),
        _ => Step::Wait,
    }
}

impl std::fmt::Debug for Election {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Election")
            .field("lease", &self.name)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use serde_json::json;

    use super::*;
    use crate::scripted::{Answer, Scripted};

    fn held(holder: &str, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_left_to_its_holder_for_its_duration() {
        let now = Timestamp::from_second(1_800_000_000).expect("in range");
        let second = Duration::from_secs;
        // Holder, seconds unchanged; what becomes of it: transitions, and whether it was acquired now.
        let table = [
            (None, 0, Some((0, true))),
            (Some("other"), 0, None),
            (Some("other"), 14, None),
            (Some("other"), 15, Some((4, true))),
            (Some(""), 0, Some((4, true))),
            (Some("me"), 0, Some((3, false))),
            (Some("me"), 99, Some((3, false))),
        ];
        for (holder, unchanged, expected) in table {
            let spec = holder.map(|holder| held(holder, 3));
            let step = decide(
                spec.as_ref().map(|spec| (Some(spec), second(unchanged))),
                "me",
                second(15),
                now,
            );
            let taken = match step {
                Step::Wait => None,
                Step::Create(spec) | Step::Take(spec) => {
                    assert_eq!(spec.holder_identity.as_deref(), Some("me"));
                    assert_eq!(spec.lease_duration_seconds, Some(15));
                    assert_eq!(spec.renew_time, Some(MicroTime(now)));
                    Some((
                        spec.lease_transitions.unwrap_or(-1),
                        spec.acquire_time == Some(MicroTime(now)),
                    ))
                }
            };
            assert_eq!(taken, expected, "{holder:?} {unchanged}");
        }
        // A Lease that somebody made empty.
        assert!(matches!(
            decide(Some((None, second(0))), "me", second(15), now),
            Step::Take(_)
        ));
    }

    fn lease(holder: &str) -> Answer {
        Answer::Json(json!({
            "metadata": {"name": "l", "namespace": "kube-system", "resourceVersion": "1"},
            "spec": {"holderIdentity": holder},
        }))
    }

    fn election(api: &Scripted) -> Election {
        Election::new(api.client(), "kube-system", "l", "me", Terms::default())
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_renew_stops_leading_before_another_may_begin() {
        let api = Scripted::new([
            Answer::Refusal(404, "NotFound", None),
            lease("me"),
            lease("me"),
            lease("me"),
        ]);
        let (terms, end) = (Terms::default(), CancellationToken::new());
        let began = Instant::now();
        let election = election(&api);
        let leading = election.lead(&end, || async {
            // Dropped when the API, which says nothing more, has been silent for the deadline.
            struct Led(Instant);
            impl Drop for Led {
                fn drop(&mut self) {
                    assert!(self.0.elapsed() < Duration::from_secs(13), "{:?}", self.0.elapsed());
                }
            }
            let _led = Led(Instant::now());
            pending::<()>().await;
        });
        assert!(timeout(Duration::from_secs(30), leading).await.is_err());
        let asked = api.asked();
        let methods: Vec<_> = asked.iter().take(4).map(|asked| asked.method.as_str()).collect();
        assert_eq!(methods, ["GET", "POST", "GET", "PUT"]);
        assert!(began.elapsed() > terms.duration);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_a_silent_holder_and_gives_the_lease_back_at_the_end() {
        let api = Scripted::new((0..20).map(|_| lease("other")));
        let (end, led) = (CancellationToken::new(), AtomicUsize::new(0));
        let began = Instant::now();
        let election = election(&api);
        election
            .lead(&end, || {
                led.fetch_add(1, Ordering::Relaxed);
                assert!(began.elapsed() >= Terms::default().duration);
                end.cancel();
                pending()
            })
            .await;
        assert_eq!(led.load(Ordering::Relaxed), 1);
        let asked = api.asked();
        let taken = asked
            .iter()
            .find(|asked| asked.method == "PUT")
            .expect("it was taken over");
        assert_eq!(taken.body["spec"]["holderIdentity"], "me");
        assert_eq!(taken.body["metadata"]["resourceVersion"], "1");
    }
}
