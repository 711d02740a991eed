//! The Summary API, `stats.k8s.io/v1alpha1`: what metrics-server of old, dashboards and `kubectl get --raw` read. Pure.

use std::collections::BTreeMap;

use bosun_cri::v1;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Disk, PodUsage, Usage, machine::Network, name};

/// The answer of `/stats/summary`. `rates` are of the node (empty), pods (UID) and containers (UID/name), in billionths
/// of a core.
pub fn summary(usage: &Usage, rates: &BTreeMap<String, u64>) -> Value {
    let time = at(usage.taken_at);
    let memory = &usage.memory;
    let disk = usage.disk.unwrap_or_default();
    let mut node = json!({
        "nodeName": usage.node,
        "cpu": {"time": time, "usageCoreNanoSeconds": usage.cpu},
        "memory": {
            "time": time, "availableBytes": memory.capacity.saturating_sub(memory.working_set),
            "usageBytes": memory.usage, "workingSetBytes": memory.working_set, "rssBytes": memory.rss,
            "pageFaults": memory.page_faults, "majorPageFaults": memory.major_page_faults,
        },
        "fs": of_disk(&disk, &time, None),
        "runtime": {"imageFs": of_disk(&disk, &time, None)},
        "rlimit": {"time": time, "maxpid": usage.processes.1, "curproc": usage.processes.0},
    });
    if let Some(rate) = rates.get("") {
        node["cpu"]["usageNanoCores"] = (*rate).into();
    }
    if let Some(booted) = usage.booted_at {
        node["startTime"] = at(booted).into();
    }
    if let Some((first, _)) = usage.network.split_first() {
        let mut network = of_link(first);
        network.insert("time".into(), time.clone().into());
        network.insert("interfaces".into(), usage.network.iter().map(of_link).collect());
        node["network"] = network.into();
    }
    let pods: Vec<Value> = usage.pods.iter().map(|pod| of_pod(pod, rates, &disk)).collect();
    json!({"node": node, "pods": pods})
}

fn of_pod(pod: &PodUsage, rates: &BTreeMap<String, u64>, disk: &Disk) -> Value {
    let mut told = Map::new();
    let mut written = 0;
    let containers = pod.stats.containers.iter().filter_map(|container| {
        let name = name(container)?;
        let (started, logs) = pod.containers.get(name).copied().unwrap_or_default();
        let mut told = Map::new();
        told.insert("name".into(), name.into());
        if let Some(started) = started {
            told.insert("startTime".into(), at(started).into());
        }
        let rate = rates.get(&format!("{}/{name}", pod.uid));
        consumed(&mut told, container.cpu.as_ref(), container.memory.as_ref(), rate);
        if let Some(layer) = &container.writable_layer {
            let used = layer.used_bytes.map_or(0, |bytes| bytes.value);
            written += used + logs;
            let time = at_nanosecond(layer.timestamp);
            let mut root = of_disk(disk, &time, Some(used));
            if let Some(inodes) = layer.inodes_used {
                root.insert("inodesUsed".into(), inodes.value.into());
            }
            told.insert("rootfs".into(), root.into());
            told.insert("logs".into(), of_disk(disk, &time, Some(logs)).into());
        }
        Some(Value::Object(told))
    });
    let containers: Vec<Value> = containers.collect();
    told.insert(
        "podRef".into(),
        json!({"name": pod.key.name, "namespace": pod.key.namespace, "uid": pod.uid.as_str()}),
    );
    if let Some(started) = pod.started_at {
        told.insert("startTime".into(), at(started).into());
    }
    told.insert("containers".into(), containers.into());
    let (cpu, memory) = (pod.stats.cpu.as_ref(), pod.stats.memory.as_ref());
    consumed(&mut told, cpu, memory, rates.get(pod.uid.as_str()));
    if let Some(network) = &pod.stats.network
        && let Some(default) = &network.default_interface
    {
        let mut shown = of_link(&link(default));
        shown.insert("time".into(), at_nanosecond(network.timestamp).into());
        let all = std::iter::once(default).chain(&network.interfaces);
        shown.insert("interfaces".into(), all.map(|each| of_link(&link(each))).collect());
        told.insert("network".into(), shown.into());
    }
    let time = at_nanosecond(cpu.map_or(0, |cpu| cpu.timestamp));
    told.insert("ephemeral-storage".into(), of_disk(disk, &time, Some(written)).into());
    if let Some(processes) = pod.stats.process.as_ref().and_then(|process| process.process_count) {
        told.insert("process_stats".into(), json!({"process_count": processes.value}));
    }
    told.into()
}

/// `cpu` and `memory`, as far as they are known.
fn consumed(
    told: &mut Map<String, Value>,
    cpu: Option<&v1::CpuUsage>,
    memory: Option<&v1::MemoryUsage>,
    rate: Option<&u64>,
) {
    if let Some(cpu) = cpu {
        let mut shown = Map::from_iter([("time".to_owned(), at_nanosecond(cpu.timestamp).into())]);
        let rate = rate.copied().or(cpu.usage_nano_cores.map(|rate| rate.value));
        put(&mut shown, "usageNanoCores", rate);
        put(
            &mut shown,
            "usageCoreNanoSeconds",
            cpu.usage_core_nano_seconds.map(|used| used.value),
        );
        told.insert("cpu".into(), shown.into());
    }
    if let Some(memory) = memory {
        let mut shown = Map::from_iter([("time".to_owned(), at_nanosecond(memory.timestamp).into())]);
        for (name, value) in [
            ("availableBytes", &memory.available_bytes),
            ("usageBytes", &memory.usage_bytes),
            ("workingSetBytes", &memory.working_set_bytes),
            ("rssBytes", &memory.rss_bytes),
            ("pageFaults", &memory.page_faults),
            ("majorPageFaults", &memory.major_page_faults),
        ] {
            // A runtime says 0 where there is no limit; upstream says nothing.
            let known = value.as_ref().map(|value| value.value);
            put(
                &mut shown,
                name,
                known.filter(|known| name != "availableBytes" || *known > 0),
            );
        }
        told.insert("memory".into(), shown.into());
    }
}

fn put(told: &mut Map<String, Value>, name: &str, value: Option<u64>) {
    if let Some(value) = value {
        told.insert(name.to_owned(), value.into());
    }
}

fn of_disk(disk: &Disk, time: &str, used: Option<u64>) -> Map<String, Value> {
    let all_used = disk.capacity.saturating_sub(disk.available);
    let told = json!({
        "time": time, "availableBytes": disk.available, "capacityBytes": disk.capacity,
        "usedBytes": used.unwrap_or(all_used), "inodesFree": disk.inodes_free, "inodes": disk.inodes,
    });
    let mut told = match told {
        Value::Object(told) => told,
        _ => Map::new(),
    };
    if used.is_none() {
        told.insert("inodesUsed".into(), disk.inodes.saturating_sub(disk.inodes_free).into());
    }
    told
}

fn of_link(link: &Network) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), link.name.clone().into()),
        ("rxBytes".to_owned(), link.rx_bytes.into()),
        ("rxErrors".to_owned(), link.rx_errors.into()),
        ("txBytes".to_owned(), link.tx_bytes.into()),
        ("txErrors".to_owned(), link.tx_errors.into()),
    ])
}

fn link(told: &v1::NetworkInterfaceUsage) -> Network {
    let number = |value: &Option<v1::UInt64Value>| value.as_ref().map_or(0, |value| value.value);
    Network {
        name: told.name.clone(),
        rx_bytes: number(&told.rx_bytes),
        rx_errors: number(&told.rx_errors),
        tx_bytes: number(&told.tx_bytes),
        tx_errors: number(&told.tx_errors),
    }
}

/// As `metav1.Time`: whole seconds.
fn at(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

fn at_nanosecond(time: i64) -> String {
    Timestamp::from_nanosecond(time.into()).map(at).unwrap_or_default()
}

#[cfg(test)]
pub(in crate::stats) mod tests {
    use bosun_api::{PodKey, PodUid};

    use super::*;

    pub(in crate::stats) fn usage() -> Usage {
        let number = |value| Some(v1::UInt64Value { value });
        let cpu = |used| v1::CpuUsage {
            timestamp: 1_700_000_000_123_456_789,
            usage_core_nano_seconds: number(used),
            ..v1::CpuUsage::default()
        };
        let container = v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                metadata: Some(v1::ContainerMetadata {
                    name: "web".into(),
                    attempt: 0,
                }),
                ..v1::ContainerAttributes::default()
            }),
            cpu: Some(cpu(2_500_000_000)),
            memory: Some(v1::MemoryUsage {
                timestamp: 1_700_000_000_000_000_000,
                working_set_bytes: number(4096),
                available_bytes: number(0),
                ..v1::MemoryUsage::default()
            }),
            writable_layer: Some(v1::FilesystemUsage {
                used_bytes: number(100),
                inodes_used: number(3),
                ..v1::FilesystemUsage::default()
            }),
            ..v1::ContainerStats::default()
        };
        Usage {
            node: "n".into(),
            taken_at: Timestamp::from_second(1_700_000_001).unwrap(),
            cpu: 5_000_000_000,
            disk: Some(Disk {
                capacity: 1000,
                available: 400,
                inodes: 10,
                inodes_free: 6,
            }),
            pods: vec![PodUsage {
                key: PodKey {
                    namespace: "a".into(),
                    name: "b".into(),
                },
                uid: PodUid::from("u"),
                started_at: Timestamp::from_second(1_699_999_999).ok(),
                stats: v1::LinuxPodSandboxStats {
                    cpu: Some(cpu(3_000_000_000)),
                    containers: vec![container],
                    ..v1::LinuxPodSandboxStats::default()
                },
                containers: BTreeMap::from([("web".to_owned(), (Timestamp::from_second(1_699_999_999).ok(), 50))]),
            }],
            ..Usage::default()
        }
    }

    #[test]
    fn what_is_known_is_told_under_upstreams_names_and_nothing_else() {
        let rates = BTreeMap::from([(String::new(), 7), ("u".to_owned(), 8), ("u/web".to_owned(), 9)]);
        let told = summary(&usage(), &rates);
        assert_eq!(told["node"]["cpu"]["usageNanoCores"], 7);
        assert_eq!(told["node"]["fs"]["usedBytes"], 600);
        let pod = &told["pods"][0];
        assert_eq!(pod["podRef"], json!({"name": "b", "namespace": "a", "uid": "u"}));
        assert_eq!(
            pod["cpu"],
            json!({"time": "2023-11-14T22:13:20Z", "usageNanoCores": 8, "usageCoreNanoSeconds": 3_000_000_000_u64})
        );
        let container = &pod["containers"][0];
        assert_eq!(container["name"], "web");
        assert_eq!(container["cpu"]["usageNanoCores"], 9);
        assert_eq!(
            container["memory"],
            json!({"time": "2023-11-14T22:13:20Z", "workingSetBytes": 4096}),
            "no limit: nothing is available up to it"
        );
        assert_eq!(container["rootfs"]["usedBytes"], 100);
        assert_eq!(container["logs"]["usedBytes"], 50);
        assert_eq!(pod["ephemeral-storage"]["usedBytes"], 150);
        assert!(pod.get("network").is_none(), "a pod in the node's network");
    }
}
