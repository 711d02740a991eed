//! Leases for keys with a time to live, shared by keys that end at about the same time: a lease for each event would cost
//! etcd more than the event.

use std::{collections::HashMap, time::Duration};

use etcd_client::LeaseClient;
use tokio::{sync::Mutex, time::Instant};

use super::{Deadline, failure::Failure};

/// How many keys share a lease: etcd deletes all of them at once.
const KEYS: u32 = 1000;
/// The longest time that a lease is shared.
const SHARED: Duration = Duration::from_secs(60);

/// By seconds to live.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<u64, Lease>>);

#[derive(Debug)]
struct Lease {
    id: i64,
    until: Instant,
    left: u32,
}

/// How a time to live is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    /// What etcd is asked for: the whole time for a key put at the last moment of sharing, and a second for its way.
    seconds: u64,
    /// How long others can share it: a twentieth of the time.
    shared: Duration,
}

fn terms(ttl: Duration) -> Terms {
    let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    let shared = SHARED.min(Duration::from_secs(seconds / 20));
    Terms {
        seconds: seconds + shared.as_secs() + 1,
        shared,
    }
}

impl Leases {
    /// A lease that lasts for `ttl` from now at least.
    pub(super) async fn take(
        &self,
        mut client: LeaseClient,
        ttl: Duration,
        deadline: Deadline,
    ) -> Result<i64, Failure> {
        let terms = terms(ttl);
        let mut leases = self.0.lock().await;
        let now = Instant::now();
        if let Some(lease) = leases.get_mut(&terms.seconds)
            && lease.left > 0
            && now < lease.until
        {
            lease.left -= 1;
            return Ok(lease.id);
        }
        let granted = deadline
            .call("granting a lease", client.grant(terms.seconds as i64, None))
            .await?;
        leases.retain(|_, lease| now < lease.until);
        let lease = Lease {
            id: granted.id(),
            until: now + terms.shared,
            left: KEYS - 1,
        };
        if !terms.shared.is_zero() {
            leases.insert(terms.seconds, lease);
        }
        Ok(granted.id())
    }

    /// Forgets one that etcd does not know any more.
    pub(super) async fn forget(&self, id: i64) {
        self.0.lock().await.retain(|_, lease| lease.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_longer_than_its_keys_by_as_much_as_it_is_shared() {
        let table = [(1_000, 2, 0), (1_500, 3, 0), (20_000, 22, 1), (3_600_000, 3_661, 60)];
        for (ttl, seconds, shared) in table {
            let expected = Terms {
                seconds,
                shared: Duration::from_secs(shared),
            };
            assert_eq!(terms(Duration::from_millis(ttl)), expected, "{ttl} ms");
        }
    }
}
