//! The resource metrics, upstream's `/metrics/resource`: what metrics-server reads. Pure.

use std::fmt::{Display, Write as _};

use bosun_cri::v1;

use super::{Usage, name};

/// In Prometheus' text format. `whole` is whether the pods are in it.
pub fn metrics(usage: &Usage, whole: bool) -> String {
    let mut text = String::with_capacity(1024 + usage.pods.len() * 1024);
    let now = usage.taken_at.as_millisecond();
    let pods = || usage.pods.iter();
    let containers = || {
        pods().flat_map(|pod| {
            let named = pod
                .stats
                .containers
                .iter()
                .filter_map(|stats| Some((name(stats)?, stats)));
            named.map(move |(name, stats)| {
                let labels = format!(
                    "{{container=\"{name}\",namespace=\"{}\",pod=\"{}\"}}",
                    pod.key.namespace, pod.key.name
                );
                (labels, pod, name, stats)
            })
        })
    };
    let cpu_of = |cpu: Option<&v1::CpuUsage>| {
        let cpu = cpu?;
        Some((
            seconds(cpu.usage_core_nano_seconds.as_ref()?.value),
            milliseconds(cpu.timestamp),
        ))
    };
    let memory_of = |memory: Option<&v1::MemoryUsage>| {
        let memory = memory?;
        Some((memory.working_set_bytes.as_ref()?.value, milliseconds(memory.timestamp)))
    };

    family(
        &mut text,
        "container_cpu_usage_seconds_total",
        "counter",
        "Processor time that the container has used, in seconds of one core",
    );
    for (labels, _, _, stats) in containers() {
        if let Some((value, time)) = cpu_of(stats.cpu.as_ref()) {
            sample(
                &mut text,
                "container_cpu_usage_seconds_total",
                &labels,
                value,
                Some(time),
            );
        }
    }
    family(
        &mut text,
        "container_memory_working_set_bytes",
        "gauge",
        "Memory of the container that cannot be taken back, in bytes",
    );
    for (labels, _, _, stats) in containers() {
        if let Some((value, time)) = memory_of(stats.memory.as_ref()) {
            sample(
                &mut text,
                "container_memory_working_set_bytes",
                &labels,
                value,
                Some(time),
            );
        }
    }
    family(
        &mut text,
        "container_start_time_seconds",
        "gauge",
        "When the container was started, in seconds since 1970",
    );
    for (labels, pod, name, _) in containers() {
        if let Some((Some(started), _)) = pod.containers.get(name) {
            let value = seconds(u64::try_from(started.as_nanosecond()).unwrap_or(0));
            sample(&mut text, "container_start_time_seconds", &labels, value, None);
        }
    }
    family(
        &mut text,
        "node_cpu_usage_seconds_total",
        "counter",
        "Processor time that the node has used, in seconds of one core",
    );
    sample(
        &mut text,
        "node_cpu_usage_seconds_total",
        "",
        seconds(usage.cpu),
        Some(now),
    );
    family(
        &mut text,
        "node_memory_working_set_bytes",
        "gauge",
        "Memory of the node that cannot be taken back, in bytes",
    );
    sample(
        &mut text,
        "node_memory_working_set_bytes",
        "",
        usage.memory.working_set,
        Some(now),
    );
    family(
        &mut text,
        "pod_cpu_usage_seconds_total",
        "counter",
        "Processor time that the pod has used, in seconds of one core",
    );
    for pod in pods() {
        if let Some((value, time)) = cpu_of(pod.stats.cpu.as_ref()) {
            let labels = format!("{{namespace=\"{}\",pod=\"{}\"}}", pod.key.namespace, pod.key.name);
            sample(&mut text, "pod_cpu_usage_seconds_total", &labels, value, Some(time));
        }
    }
    family(
        &mut text,
        "pod_memory_working_set_bytes",
        "gauge",
        "Memory of the pod that cannot be taken back, in bytes",
    );
    for pod in pods() {
        if let Some((value, time)) = memory_of(pod.stats.memory.as_ref()) {
            let labels = format!("{{namespace=\"{}\",pod=\"{}\"}}", pod.key.namespace, pod.key.name);
            sample(&mut text, "pod_memory_working_set_bytes", &labels, value, Some(time));
        }
    }
    family(
        &mut text,
        "resource_scrape_error",
        "gauge",
        "Whether something is missing here: 1 if the runtime did not answer",
    );
    sample(&mut text, "resource_scrape_error", "", u8::from(!whole), None);
    text
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing into a string can't fail.
    let _ = write!(text, "# HELP {name} [STABLE] {help}\n# TYPE {name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl Display, time: Option<i64>) {
    let _ = match time {
        Some(time) => writeln!(text, "{name}{labels} {value} {time}"),
        None => writeln!(text, "{name}{labels} {value}"),
    };
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn milliseconds(nanoseconds: i64) -> i64 {
    nanoseconds / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::summary::tests::usage;

    #[test]
    fn the_lines_are_those_that_metrics_server_reads() {
        let text = metrics(&usage(), true);
        for line in [
            "# TYPE node_cpu_usage_seconds_total counter",
            "node_cpu_usage_seconds_total 5 1700000001000",
            "node_memory_working_set_bytes 0 1700000001000",
            "container_cpu_usage_seconds_total{container=\"web\",namespace=\"a\",pod=\"b\"} 2.5 1700000000123",
            "container_memory_working_set_bytes{container=\"web\",namespace=\"a\",pod=\"b\"} 4096 1700000000000",
            "container_start_time_seconds{container=\"web\",namespace=\"a\",pod=\"b\"} 1699999999",
            "pod_cpu_usage_seconds_total{namespace=\"a\",pod=\"b\"} 3 1700000000123",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(metrics(&Usage::default(), false).contains("resource_scrape_error 1"));
    }
}
