//! From counters that were read twice to what is consumed. Pure.

use std::collections::HashMap;

use super::text::{Reading, Sample};

/// What is consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor, in billionths of a core, over the window.
    pub cpu: u64,
    /// Memory that can't be taken back, in bytes, at its end.
    pub memory: u64,
    /// The window's end, in milliseconds since 1970.
    pub at: i64,
    /// Its length, in milliseconds.
    pub window: u64,
}

/// What was consumed between two readings; `None` where time or the counter stood or went back, as of a container made
/// anew.
pub fn rates(previous: &Sample, current: &Sample) -> Option<Usage> {
    let window = u64::try_from(current.at.checked_sub(previous.at)?)
        .ok()
        .filter(|&window| window > 0)?;
    let anew = previous.started.is_some() && current.started.is_some() && previous.started != current.started;
    let used = current.cpu.checked_sub(previous.cpu).filter(|_| !anew)?;
    let cpu = u128::from(used) * 1000 / u128::from(window);
    Some(Usage {
        cpu: u64::try_from(cpu).ok()?,
        memory: current.memory,
        at: current.at,
        window,
    })
}

/// The last reading of something, and the one before, if a rate can be taken against it.
#[derive(Clone, Copy, Debug)]
struct Pair {
    previous: Option<Sample>,
    current: Sample,
}

impl Pair {
    /// After another reading. One that is no news (agents may answer from memory) changes nothing.
    fn after(known: Option<Self>, new: Sample) -> Self {
        match known {
            Some(known) if known.current.at == new.at => known,
            Some(known) => Self {
                previous: rates(&known.current, &new).map(|_| known.current),
                current: new,
            },
            None => Self {
                previous: None,
                current: new,
            },
        }
    }

    fn usage(&self) -> Option<Usage> {
        rates(&self.previous?, &self.current)
    }
}

/// A pod's containers.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    containers: HashMap<String, Pair>,
}

impl Pod {
    /// What each container consumes, by name; `None` while that of one is unknown.
    pub fn usage(&self) -> Option<Vec<(&str, Usage)>> {
        let each = self
            .containers
            .iter()
            .map(|(name, pair)| Some((&**name, pair.usage()?)));
        let mut containers: Vec<_> = each.collect::<Option<_>>()?;
        containers.sort_by_key(|(name, _)| *name);
        (!containers.is_empty()).then_some(containers)
    }

    /// When it was read last, in milliseconds since 1970.
    pub fn read_at(&self) -> Option<i64> {
        self.containers.values().map(|pair| pair.current.at).max()
    }
}

/// What is known of a node and its pods.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    node: Option<Pair>,
    pods: HashMap<(String, String), Pod>,
}

impl Numbers {
    /// Takes another reading; what is not in it is gone.
    pub fn take(&mut self, reading: Reading) {
        self.node = reading.node.map(|new| Pair::after(self.node, new));
        let mut known = std::mem::take(&mut self.pods);
        let pods = reading.pods.into_iter().map(|(key, containers)| {
            let old = known.remove(&key).unwrap_or_default().containers;
            let containers = containers.into_iter().map(|(name, new)| {
                let pair = Pair::after(old.get(&name).copied(), new);
                (name, pair)
            });
            let containers = containers.collect();
            (key, Pod { containers })
        });
        self.pods = pods.collect();
    }

    /// What the node consumes, if that is known.
    pub fn node(&self) -> Option<Usage> {
        self.node?.usage()
    }

    /// Its pods, by namespace and name.
    pub fn pods(&self) -> impl Iterator<Item = ((&str, &str), &Pod)> {
        self.pods
            .iter()
            .map(|((namespace, name), pod)| ((&**namespace, &**name), pod))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn sample(at: i64, cpu: u64) -> Sample {
        Sample {
            at,
            cpu,
            memory: 7,
            started: None,
        }
    }

    #[test]
    fn use_is_the_counters_difference_over_the_time_between() {
        let started = |started, sample| Sample {
            started: Some(started),
            ..sample
        };
        let usage = |cpu, at, window| {
            Some(Usage {
                cpu,
                memory: 7,
                at,
                window,
            })
        };
        for (previous, current, expected) in [
            (
                sample(0, 0),
                sample(10_000, 5 * SECOND),
                usage(SECOND / 2, 10_000, 10_000),
            ),
            (sample(5, 9), sample(1005, 9), usage(0, 1005, 1000)),
            (sample(5, 9), sample(5, 9), None),
            (sample(9, 0), sample(5, 9), None),
            (sample(0, 9), sample(1000, 8), None),
            (
                started(1, sample(0, 1)),
                started(1, sample(1000, 2)),
                usage(1, 1000, 1000),
            ),
            (started(1, sample(0, 1)), started(2, sample(1000, 2)), None),
            (sample(i64::MIN, 0), sample(i64::MAX, u64::MAX), None),
            (sample(0, 0), sample(1, u64::MAX), None),
        ] {
            assert_eq!(rates(&previous, &current), expected, "{previous:?} {current:?}");
        }
    }

    fn reading(at: i64, pods: &[(&str, &[(&str, u64)])]) -> Reading {
        let containers = |containers: &[(&str, u64)]| {
            let named = containers
                .iter()
                .map(|(name, cpu)| ((*name).to_owned(), sample(at, *cpu)));
            named.collect()
        };
        let pods = pods
            .iter()
            .map(|(pod, list)| (("a".to_owned(), (*pod).to_owned()), containers(list)));
        Reading {
            node: Some(sample(at, 1)),
            pods: pods.collect(),
        }
    }

    fn known(numbers: &Numbers) -> Vec<&str> {
        let all = numbers.pods().filter(|(_, pod)| pod.usage().is_some());
        let mut names: Vec<_> = all.map(|((_, name), _)| name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_pod_has_numbers_once_all_its_containers_were_read_twice_and_until_it_is_gone() {
        let mut numbers = Numbers::default();
        numbers.take(reading(1000, &[("x", &[("c", 1)]), ("y", &[("c", 1)])]));
        assert!(known(&numbers).is_empty() && numbers.node().is_none());
        numbers.take(reading(2000, &[("x", &[("c", 2)]), ("y", &[("c", 1), ("d", 1)])]));
        assert_eq!(known(&numbers), ["x"]);
        assert_eq!(numbers.node().expect("read twice").window, 1000);
        // An agent that answers from memory takes nothing away.
        numbers.take(reading(2000, &[("x", &[("c", 2)]), ("y", &[("c", 1), ("d", 1)])]));
        assert_eq!(known(&numbers), ["x"]);
        numbers.take(reading(3000, &[("x", &[("c", 1)]), ("y", &[("c", 1), ("d", 1)])]));
        assert_eq!(known(&numbers), ["y"], "x was made anew");
        numbers.take(reading(4000, &[]));
        assert_eq!(numbers.pods().count(), 0);
    }
}
