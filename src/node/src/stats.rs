//! What the node and its pods consume, for those who ask: upstream's Summary API (`/stats/summary`) and the resource
//! metrics (`/metrics/resource`).
//!
//! Nothing is sampled on a clock: counters are read when somebody asks, and rates are taken from what was read before.
//!
//! - [`machine`]: the kernel's own tables, read. Pure but for the reading.
//! - [`summary`], [`resource`]: the two forms it is told in. Pure.

pub mod machine;
pub mod resource;
pub mod summary;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::Arc,
    time::Duration,
};

use bosun_api::{PodKey, PodUid, core::PodStatus};
use bosun_cri::v1;
use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;

use self::machine::{Memory, Network};
use crate::{node::Node, pod::worker::pod_key};

/// What the node and its pods consume at one moment.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Its name.
    pub node: String,
    /// When it was read.
    pub taken_at: Timestamp,
    /// When the machine was started.
    pub booted_at: Option<Timestamp>,
    /// Processor time since then, in nanoseconds.
    pub cpu: u64,
    /// The machine's memory.
    pub memory: Memory,
    /// The machine's links, the one to the world first.
    pub network: Vec<Network>,
    /// The file system that pods' directories are on.
    pub disk: Option<Disk>,
    /// Processes there are, and may be.
    pub processes: (u64, u64),
    /// The pods that have a sandbox.
    pub pods: Vec<PodUsage>,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its size, in bytes.
    pub capacity: u64,
    /// What can still be written, in bytes.
    pub available: u64,
    /// Its inodes.
    pub inodes: u64,
    /// Those that are free.
    pub inodes_free: u64,
}

/// What a pod consumes.
#[derive(Clone, Debug)]
pub struct PodUsage {
    /// Its name.
    pub key: PodKey,
    /// Its UID.
    pub uid: PodUid,
    /// When the node took it in.
    pub started_at: Option<Timestamp>,
    /// What the runtime tells of it.
    pub stats: v1::LinuxPodSandboxStats,
    /// Of each container: when it was started, and the bytes of its logs.
    pub containers: BTreeMap<String, (Option<Timestamp>, u64)>,
}

/// Answers what is consumed.
#[derive(Debug)]
pub struct Stats {
    node: Arc<Node>,
    /// What rates are taken against.
    earlier: Mutex<Counters>,
}

/// Processor time that was used up to a moment.
#[derive(Clone, Debug, Default)]
struct Counters {
    /// Of what (empty: the node; a pod's UID; UID/container), with when, in nanoseconds since 1970.
    used: HashMap<String, (i64, u64)>,
    /// What they replaced, against which a rate is taken while they are too young.
    before: HashMap<String, (i64, u64)>,
    taken_at: Timestamp,
}

/// Rates over a shorter time say more about the moment than about the pod.
const SHORTEST: Duration = Duration::from_secs(10);

impl Stats {
    /// Of this node.
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            node,
            earlier: Mutex::default(),
        }
    }

    /// The Summary API's answer, as JSON. Fails if the runtime does not answer.
    pub async fn summary(&self) -> Result<serde_json::Value, bosun_cri::Error> {
        let usage = self.usage().await?;
        let rates = self.rates(&usage);
        Ok(summary::summary(&usage, &rates))
    }

    /// The resource metrics, in Prometheus' text format; without pods if the runtime does not answer.
    pub async fn resource(&self) -> String {
        match self.usage().await {
            Ok(usage) => resource::metrics(&usage, true),
            Err(error) => {
                tracing::warn!(%error, "the runtime does not tell what pods consume");
                resource::metrics(&self.machine(), false)
            }
        }
    }

    async fn usage(&self) -> Result<Usage, bosun_cri::Error> {
        let told = self.node.runtime.sandbox_stats().await?;
        let mut usage = self.machine();
        usage.pods = self.pods(told);
        Ok(usage)
    }

    fn machine(&self) -> Usage {
        let root = &self.node.places.root;
        let disk = statvfs(root).ok().map(|found| {
            let block = found.fragment_size();
            Disk {
                capacity: found.blocks() * block,
                available: found.blocks_available() * block,
                inodes: found.files(),
                inodes_free: found.files_free(),
            }
        });
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let stat = read("/proc/stat");
        Usage {
            node: self.node.name.clone(),
            taken_at: self.node.clock.now(),
            booted_at: machine::booted_at(&stat),
            cpu: machine::cpu(&stat),
            memory: Memory::parse(&read("/proc/meminfo"), &read("/proc/vmstat")),
            network: machine::network(&read("/proc/self/net/dev"), &read("/proc/self/net/route")),
            disk,
            processes: machine::processes(&read("/proc/loadavg"), &read("/proc/sys/kernel/pid_max")),
            pods: vec![],
        }
    }

    /// The newest sandbox of each pod the node knows.
    fn pods(&self, told: Vec<v1::PodSandboxStats>) -> Vec<PodUsage> {
        let mut newest: HashMap<String, (u32, v1::LinuxPodSandboxStats)> = HashMap::new();
        for sandbox in told {
            let (Some(metadata), Some(stats)) = (
                sandbox.attributes.and_then(|attributes| attributes.metadata),
                sandbox.linux,
            ) else {
                continue;
            };
            let known = newest.get(&metadata.uid).map(|(attempt, _)| *attempt);
            if known.is_none_or(|known| known < metadata.attempt) {
                newest.insert(metadata.uid, (metadata.attempt, stats));
            }
        }
        let notices = self.node.board.all();
        let pods = notices.into_iter().filter_map(|notice| {
            let uid = PodUid::from(notice.pod.metadata.uid.clone()?);
            let (_, stats) = newest.remove(uid.as_str())?;
            let key = pod_key(&notice.pod);
            let logs = self.node.places.pod_logs(&key, &uid);
            let started = started(&notice.status);
            let containers = stats.containers.iter().filter_map(name).map(|name| {
                let bytes = machine::bytes_below(&logs.join(name));
                (name.to_owned(), (started.get(name).copied(), bytes))
            });
            Some(PodUsage {
                started_at: notice.status.start_time.as_ref().map(|time| time.0),
                containers: containers.collect(),
                key,
                uid,
                stats,
            })
        });
        pods.collect()
    }

    /// Processor use in billionths of a core: of the node (empty), each pod (its UID) and each container.
    fn rates(&self, usage: &Usage) -> BTreeMap<String, u64> {
        let used = counters(usage);
        let mut earlier = self.earlier.lock();
        let rates = used.iter().filter_map(|(of, now)| {
            let against = [&earlier.used, &earlier.before].map(|counters| counters.get(of));
            let rate = against.into_iter().flatten().find_map(|then| rate(*then, *now))?;
            Some((of.clone(), rate))
        });
        let rates = rates.collect();
        let age = usage.taken_at.duration_since(earlier.taken_at);
        if Duration::try_from(age).is_ok_and(|age| age >= SHORTEST) {
            earlier.before = std::mem::replace(&mut earlier.used, used);
            earlier.taken_at = usage.taken_at;
        }
        rates
    }
}

fn name(stats: &v1::ContainerStats) -> Option<&str> {
    Some(&stats.attributes.as_ref()?.metadata.as_ref()?.name)
}

/// When each running container of a pod was started.
fn started(status: &PodStatus) -> BTreeMap<&str, Timestamp> {
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let all = lists.into_iter().flatten().flatten();
    let running = all.filter_map(|container| {
        let running = container.state.as_ref()?.running.as_ref()?;
        Some((container.name.as_str(), running.started_at.as_ref()?.0))
    });
    running.collect()
}

/// All counters of processor time, each with the moment it is of.
fn counters(usage: &Usage) -> HashMap<String, (i64, u64)> {
    let now = i64::try_from(usage.taken_at.as_nanosecond()).unwrap_or(i64::MAX);
    let mut all = HashMap::from([(String::new(), (now, usage.cpu))]);
    for pod in &usage.pods {
        let mut put = |of: String, cpu: Option<&v1::CpuUsage>| {
            if let Some((cpu, used)) = cpu.and_then(|cpu| Some((cpu, cpu.usage_core_nano_seconds?.value))) {
                all.insert(of, (cpu.timestamp, used));
            }
        };
        put(pod.uid.to_string(), pod.stats.cpu.as_ref());
        for container in &pod.stats.containers {
            if let Some(name) = name(container) {
                put(format!("{}/{name}", pod.uid), container.cpu.as_ref());
            }
        }
    }
    all
}

/// In billionths of a core, between two readings; `None` where they are too near, or of a container made anew.
fn rate(then: (i64, u64), now: (i64, u64)) -> Option<u64> {
    let passed = u64::try_from(now.0.checked_sub(then.0)?).ok()?;
    if passed < SHORTEST.as_nanos() as u64 {
        return None;
    }
    let used = u128::from(now.1.checked_sub(then.1)?) * 1_000_000_000 / u128::from(passed);
    u64::try_from(used).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_wants_some_time_between_two_readings_of_one_counter() {
        const SECOND: i64 = 1_000_000_000;
        for (then, now, expected) in [
            ((0, 0), (10 * SECOND, 5_000_000_000), Some(500_000_000)),
            ((0, 0), (9 * SECOND, 5_000_000_000), None),
            ((0, 10), (20 * SECOND, 9), None),
            ((20 * SECOND, 0), (0, 9), None),
            ((0, 7), (20 * SECOND, 7), Some(0)),
        ] {
            assert_eq!(rate(then, now), expected, "{then:?} {now:?}");
        }
    }
}
