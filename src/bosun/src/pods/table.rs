//! Pods as a table, in `kubectl`'s words. Pure.

use std::{collections::BTreeMap, fmt::Write};

use bosun_api::core::{Container, ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use jiff::Timestamp;

/// Annotation of a pod: a JSON object of milliseconds by stage of its start.
const STAGES: &str = bosun_node::admin::STAGES;

/// The table, a line for each pod; columns are two spaces apart at least.
pub(super) fn render(pods: &[Pod], wide: bool, now: Timestamp) -> String {
    let namespaces = pods
        .iter()
        .any(|pod| pod.metadata.namespace.as_deref().unwrap_or("default") != "default");
    let mut titles = vec!["NAME", "READY", "STATUS", "RESTARTS", "AGE"];
    if namespaces {
        titles.insert(0, "NAMESPACE");
    }
    if wide {
        titles.extend(["IP", "START", "CONTAINERS"]);
    }
    let mut rows = vec![titles.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    rows.extend(pods.iter().map(|pod| row(pod, namespaces, wide, now)));
    let columns = rows[0].len();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
            + 2
    };
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:width$}").expect("writing to a string succeeds");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(pod: &Pod, namespaces: bool, wide: bool, now: Timestamp) -> Vec<String> {
    let default = PodStatus::default();
    let status = pod.status.as_ref().unwrap_or(&default);
    let started = status.start_time.as_ref().or(pod.metadata.creation_timestamp.as_ref());
    let text = |field: &Option<String>| field.clone().unwrap_or_else(|| "<none>".to_owned());
    let mut cells = vec![
        text(&pod.metadata.name),
        ready(pod, status),
        state(pod, status),
        restarts(status, now),
        started.map_or_else(|| "<unknown>".to_owned(), |started| age(started.0, now)),
    ];
    if namespaces {
        cells.insert(0, text(&pod.metadata.namespace));
    }
    if wide {
        cells.extend([text(&status.pod_ip), stages(pod), ids(status)]);
    }
    cells
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.init_containers.as_deref())
        .unwrap_or_default()
}

fn statuses(list: Option<&Vec<ContainerStatus>>) -> &[ContainerStatus] {
    list.map_or(&[], Vec::as_slice)
}

/// Containers that are ready, of those that run side by side.
fn ready(pod: &Pod, status: &PodStatus) -> String {
    let sidecars: Vec<_> = init_containers(pod)
        .iter()
        .filter(|container| is_sidecar(container))
        .collect();
    let is_sidecar = |status: &&ContainerStatus| sidecars.iter().any(|sidecar| sidecar.name == status.name);
    let total = sidecars.len() + pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let init = statuses(status.init_container_statuses.as_ref())
        .iter()
        .filter(is_sidecar);
    let ready = init
        .chain(statuses(status.container_statuses.as_ref()))
        .filter(|status| status.ready)
        .count();
    format!("{ready}/{total}")
}

/// One word for how the pod is: what hinders it, else its phase.
fn state(pod: &Pod, status: &PodStatus) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "Terminating".to_owned();
    }
    if let Some(reason) = given(status.reason.as_ref()) {
        return reason.to_owned();
    }
    if let Some(state) = initializing(pod, status) {
        return state;
    }
    let phase = given(status.phase.as_ref()).unwrap_or("Unknown");
    let containers = statuses(status.container_statuses.as_ref());
    let hindered = containers.iter().find_map(|container| {
        let state = container.state.as_ref()?;
        waiting(state)
            .map(str::to_owned)
            .or_else(|| state.terminated.as_ref().map(ended))
    });
    let runs = containers
        .iter()
        .any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
    match hindered {
        // Some have done their part, the others go on.
        Some(reason) if reason == "Completed" && runs => {
            let conditions = status.conditions.iter().flatten();
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
            if ready.next().is_some() { "Running" } else { "NotReady" }.to_owned()
        }
        Some(reason) => reason,
        None => phase.to_owned(),
    }
}

/// Where the init containers stand, until the last has done its part.
fn initializing(pod: &Pod, status: &PodStatus) -> Option<String> {
    let containers = init_containers(pod);
    let states = statuses(status.init_container_statuses.as_ref());
    for (number, container) in containers.iter().enumerate() {
        let status = states.iter().find(|status| status.name == container.name);
        let state = status.and_then(|status| status.state.as_ref());
        let started = is_sidecar(container) && status.is_some_and(|status| status.started == Some(true));
        let terminated = state.and_then(|state| state.terminated.as_ref());
        if started || terminated.is_some_and(|end| end.exit_code == 0) {
            continue;
        }
        let reason = terminated
            .map(ended)
            .or_else(|| state.and_then(waiting).map(str::to_owned));
        return Some(match reason.filter(|reason| reason != "PodInitializing") {
            Some(reason) => format!("Init:{reason}"),
            None => format!("Init:{number}/{}", containers.len()),
        });
    }
    None
}

fn waiting(state: &ContainerState) -> Option<&str> {
    given(state.waiting.as_ref()?.reason.as_ref())
}

fn ended(end: &ContainerStateTerminated) -> String {
    match (given(end.reason.as_ref()), end.signal.unwrap_or_default()) {
        (Some(reason), _) => reason.to_owned(),
        (None, 0) => format!("ExitCode:{}", end.exit_code),
        (None, signal) => format!("Signal:{signal}"),
    }
}

fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

fn all(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let init = statuses(status.init_container_statuses.as_ref());
    init.iter().chain(statuses(status.container_statuses.as_ref()))
}

/// How often containers were started again, and when the last one had ended.
fn restarts(status: &PodStatus, now: Timestamp) -> String {
    let count: i32 = all(status).map(|status| status.restart_count).sum();
    let ends = all(status).filter_map(|status| status.last_state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    match ends.map(|time| time.0).max() {
        Some(last) if count > 0 => format!("{count} ({} ago)", age(last, now)),
        _ => count.to_string(),
    }
}

/// Container ids, in the order of the spec.
fn ids(status: &PodStatus) -> String {
    let ids: Vec<_> = all(status)
        .filter_map(|status| given(status.container_id.as_ref()))
        .collect();
    if ids.is_empty() {
        "<none>".to_owned()
    } else {
        ids.join(",")
    }
}

/// What each stage of the start took, as `sandbox 95, web 61 ms`.
fn stages(pod: &Pod) -> String {
    let annotation = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(STAGES));
    let stages: BTreeMap<String, f64> = annotation
        .and_then(|stages| serde_json::from_str(stages).ok())
        .unwrap_or_default();
    if stages.is_empty() {
        return "<none>".to_owned();
    }
    let took: Vec<_> = stages
        .iter()
        .map(|(stage, milliseconds)| format!("{stage} {milliseconds:.0}"))
        .collect();
    format!("{} ms", took.join(", "))
}

/// As `kubectl` tells an age: in two units while that says something.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, sub: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{sub}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ if days < 730 => format!("{days}d"),
        _ => two(days / 365, "y", days % 365, "d"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: &str = "2026-11-20T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn pod(spec: &Value, status: &Value) -> Pod {
        let pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-n1"}, "spec": spec, "status": status});
        serde_json::from_value(pod).unwrap()
    }

    fn container(name: &str, state: &Value) -> Value {
        json!({"name": name, "ready": state.get("running").is_some(), "restartCount": 0, "image": "i", "imageID": "i", "state": state})
    }

    #[test]
    fn one_word_says_how_a_pod_is() {
        let running = || json!({"running": {}});
        let waits = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = |code: i32, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
        let one = json!({"containers": [{"name": "a"}]});
        let two = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let init = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
        let table = [
            (&one, json!({"phase": "Pending"}), "0/1 Pending"),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [container("a", &running())]}),
                "1/1 Running",
            ),
            (
                &one,
                json!({"phase": "Pending", "containerStatuses": [container("a", &waits("ErrImagePull"))]}),
                "0/1 ErrImagePull",
            ),
            (
                &one,
                json!({"phase": "Running", "containerStatuses": [container("a", &waits("CrashLoopBackOff"))]}),
                "0/1 CrashLoopBackOff",
            ),
            (
                &one,
                json!({"phase": "Succeeded", "containerStatuses": [container("a", &ended(0, "Completed"))]}),
                "0/1 Completed",
            ),
            (
                &one,
                json!({"phase": "Failed", "containerStatuses": [container("a", &ended(3, ""))]}),
                "0/1 ExitCode:3",
            ),
            (&one, json!({"phase": "Failed", "reason": "Evicted"}), "0/1 Evicted"),
            (
                &two,
                json!({"phase": "Running", "containerStatuses": [container("a", &ended(0, "Completed")), container("b", &running())]}),
                "1/2 NotReady",
            ),
            (
                &two,
                json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [container("a", &ended(0, "Completed")), container("b", &running())]}),
                "1/2 Running",
            ),
            (&init, json!({"phase": "Pending"}), "0/2 Init:0/2"),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [container("i", &waits("PodInitializing"))]}),
                "0/2 Init:0/2",
            ),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [container("i", &ended(1, "Error"))]}),
                "0/2 Init:Error",
            ),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [container("i", &ended(0, "Completed")), container("s", &waits("CrashLoopBackOff"))]}),
                "0/2 Init:CrashLoopBackOff",
            ),
            (
                &init,
                json!({"phase": "Pending", "initContainerStatuses": [container("i", &ended(0, "Completed")), container("s", &running())]}),
                "1/2 Init:1/2",
            ),
        ];
        for (spec, status, expected) in table {
            let pod = pod(spec, &status);
            let status = pod.status.clone().unwrap();
            assert_eq!(
                format!("{} {}", ready(&pod, &status), state(&pod, &status)),
                expected,
                "{status:?}"
            );
        }
    }

    #[test]
    fn a_table_lines_up_and_a_wide_one_says_more() {
        let spec = json!({"containers": [{"name": "a"}]});
        let mut status = container("a", &json!({"running": {}}));
        status["restartCount"] = json!(2);
        status["containerID"] = json!("containerd://0123abcd");
        status["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-11-20T11:55:00Z"}});
        let status = json!({"phase": "Running", "startTime": "2026-11-20T11:00:00Z", "podIP": "10.0.0.2", "containerStatuses": [status]});
        let mut web = pod(&spec, &status);
        let stages = BTreeMap::from([(STAGES.to_owned(), r#"{"sandbox": 95.2, "web": 60.6}"#.to_owned())]);
        web.metadata.annotations = Some(stages);
        let waiting = pod(&spec, &json!({"phase": "Pending"}));
        assert_eq!(
            render(&[web.clone(), waiting.clone()], false, now()),
            "NAME    READY  STATUS   RESTARTS    AGE\n\
             web-n1  1/1    Running  2 (5m ago)  60m\n\
             web-n1  0/1    Pending  0           <unknown>\n"
        );
        assert_eq!(
            render(&[web.clone(), waiting], true, now()),
            "NAME    READY  STATUS   RESTARTS    AGE        IP        START                  CONTAINERS\n\
             web-n1  1/1    Running  2 (5m ago)  60m        10.0.0.2  sandbox 95, web 61 ms  containerd://0123abcd\n\
             web-n1  0/1    Pending  0           <unknown>  <none>    <none>                 <none>\n"
        );
        web.metadata.namespace = Some("kube-system".to_owned());
        assert!(render(&[web], false, now()).starts_with("NAMESPACE    NAME "));
    }

    #[test]
    fn ages_are_told_as_kubectl_tells_them() {
        for (seconds, expected) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600 - 1, "179m"),
            (3 * 3600, "3h"),
            (4 * 3600 + 120, "4h2m"),
            (8 * 3600, "8h"),
            (47 * 3600, "47h"),
            (50 * 3600, "2d2h"),
            (8 * 86_400, "8d"),
            (729 * 86_400, "729d"),
            (731 * 86_400, "2y1d"),
        ] {
            assert_eq!(
                age(now() - jiff::SignedDuration::from_secs(seconds), now()),
                expected,
                "{seconds}"
            );
        }
    }
}
