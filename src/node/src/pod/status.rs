//! What the API says of a pod, from what is wanted, what is observed and what is next. Pure.

use std::net::IpAddr;

use bosun_api::core::{
    Container, ContainerState as ApiState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, HostIP, PodCondition, PodIP, PodStatus,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    observed::{ContainerState, Exit, ObservedContainer},
    phase::{Phase, Why},
    plan::{ImageState, JobKey, Next, View, is_sidecar},
};

/// What a status says beyond the plan's view.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where the pod is in its life.
    pub phase: Phase,
    /// When this node took the pod on.
    pub accepted_at: Timestamp,
    /// The node's addresses.
    pub host_addresses: &'a [IpAddr],
    /// The status before this one: conditions that did not change keep their time.
    pub previous: Option<&'a PodStatus>,
}

/// The pod's status.
pub fn status(view: &View<'_>, context: &Context<'_>) -> PodStatus {
    let init_containers = view.init_containers();
    let init: Vec<_> = init_containers
        .iter()
        .map(|container| container_status(view, context, container, true))
        .collect();
    let apps: Vec<_> = view
        .containers()
        .iter()
        .map(|container| container_status(view, context, container, false))
        .collect();
    let phase = api_phase(view, context, &init, &apps);
    let host_network = view
        .pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.host_network == Some(true));
    let addresses = match view.observed.ready_sandbox() {
        Some(_) if host_network => context.host_addresses,
        Some(sandbox) => &sandbox.addresses,
        None => &[],
    };
    let ips: Vec<_> = addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
    let host_ips: Vec<_> = context
        .host_addresses
        .iter()
        .map(|ip| HostIP { ip: ip.to_string() })
        .collect();
    PodStatus {
        conditions: Some(conditions(view, context, &phase, &init, &apps)),
        host_ip: host_ips.first().map(|host| host.ip.clone()),
        host_ips: (!host_ips.is_empty()).then_some(host_ips),
        pod_ip: ips.first().map(|pod| pod.ip.clone()),
        pod_ips: (!ips.is_empty()).then_some(ips),
        phase: Some(phase),
        qos_class: view
            .pod
            .spec
            .as_ref()
            .map(|spec| bosun_api::qos::qos_class(spec).as_str().to_owned()),
        start_time: Some(Time(context.accepted_at)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(apps),
        ..PodStatus::default()
    }
}

fn waiting(reason: &str, message: impl Into<String>) -> ApiState {
    let message = message.into();
    ApiState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: (!message.is_empty()).then_some(message),
        }),
        ..ApiState::default()
    }
}

fn terminated(id: &str, exit: &Exit) -> ApiState {
    ApiState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(container_id(id)),
            exit_code: exit.code,
            reason: Some(exit.reason.clone()),
            message: (!exit.message.is_empty()).then(|| exit.message.clone()),
            started_at: exit.started_at.map(Time),
            finished_at: Some(Time(exit.finished_at)),
            signal: None,
        }),
        ..ApiState::default()
    }
}

fn container_id(id: &str) -> String {
    format!("containerd://{id}")
}

fn container_status(view: &View<'_>, context: &Context<'_>, container: &Container, init: bool) -> ContainerStatus {
    let mut history = view.observed.history(&container.name);
    let newest = history.next();
    let next = if init && !is_sidecar(container) {
        view.next_init(container)
    } else {
        view.next(container)
    };
    let ending = !matches!(context.phase, Phase::Pending | Phase::Syncing);
    let backs_off = matches!(next, Next::BackOff { .. }) && !ending;
    let (state, last) = match newest {
        Some(newest) if backs_off => (
            why_waiting(view, container, init, &next),
            newest.exit().map(|exit| (newest, exit)),
        ),
        Some(newest) => (
            observed_state(view, container, init, newest, &next),
            history.next().and_then(|old| old.exit().map(|exit| (old, exit))),
        ),
        None => (why_waiting(view, container, init, &next), None),
    };
    let verdict = newest.and_then(|newest| view.verdicts.get(&newest.id));
    let running = newest.is_some_and(ObservedContainer::is_running);
    let ready = if init && !is_sidecar(container) {
        next == Next::Done { ok: true }
    } else {
        running && verdict.is_some_and(|verdict| verdict.ready)
    };
    ContainerStatus {
        name: container.name.clone(),
        container_id: newest.map(|newest| container_id(newest.id.as_str())),
        image: newest
            .map(|newest| newest.image.clone())
            .filter(|image| !image.is_empty())
            .or_else(|| container.image.clone())
            .unwrap_or_default(),
        image_id: newest.map(|newest| newest.image_id.clone()).unwrap_or_default(),
        restart_count: newest.map_or(0, |newest| newest.attempt as i32),
        ready,
        started: Some(running && verdict.is_some_and(|verdict| verdict.started)),
        state: Some(state),
        last_state: Some(last.map_or_else(ApiState::default, |(old, exit)| terminated(old.id.as_str(), exit))),
        ..ContainerStatus::default()
    }
}

fn observed_state(
    view: &View<'_>,
    container: &Container,
    init: bool,
    newest: &ObservedContainer,
    next: &Next,
) -> ApiState {
    match &newest.state {
        ContainerState::Running { started_at } => ApiState {
            running: Some(ContainerStateRunning {
                started_at: Some(Time(*started_at)),
            }),
            ..ApiState::default()
        },
        ContainerState::Exited(exit) => terminated(newest.id.as_str(), exit),
        ContainerState::Created => why_waiting(view, container, init, next),
        ContainerState::Unknown => waiting("ContainerStatusUnknown", "the runtime lost track of this container"),
    }
}

/// Why a container does not run yet, the most telling reason first.
fn why_waiting(view: &View<'_>, container: &Container, init: bool, next: &Next) -> ApiState {
    if let Next::BackOff { delay, .. } = next {
        let metadata = &view.pod.metadata;
        return waiting(
            "CrashLoopBackOff",
            format!(
                "back-off {}s restarting failed container {} of pod {}/{}",
                delay.as_secs(),
                container.name,
                metadata.namespace.as_deref().unwrap_or_default(),
                metadata.name.as_deref().unwrap_or_default(),
            ),
        );
    }
    if let Some(ImageState::Failed(retry)) = container.image.as_ref().and_then(|image| view.images.get(image)) {
        return waiting(retry.reason, &retry.message);
    }
    if let Some(retry) = view.retries.get(&JobKey::Start(container.name.clone())) {
        return waiting(retry.reason, &retry.message);
    }
    let held_up = [JobKey::Observe, JobKey::Volumes, JobKey::Sandbox]
        .iter()
        .find_map(|key| view.retries.get(key));
    let message = held_up.map(|retry| retry.message.as_str()).unwrap_or_default();
    let initializing = !init && !view.init_containers().is_empty() && !view.is_initialized();
    waiting(
        if initializing {
            "PodInitializing"
        } else {
            "ContainerCreating"
        },
        message,
    )
}

/// `status.phase`, as upstream derives it.
fn api_phase(view: &View<'_>, context: &Context<'_>, init: &[ContainerStatus], apps: &[ContainerStatus]) -> String {
    let exit_code = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        let last = status.last_state.as_ref();
        let terminated = state.and_then(|state| state.terminated.as_ref());
        terminated
            .or_else(|| last.and_then(|last| last.terminated.as_ref()))
            .map(|end| end.exit_code)
    };
    let runs = |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let never_ran = |status: &ContainerStatus| !runs(status) && exit_code(status).is_none();
    let finished = matches!(
        context.phase,
        Phase::Terminating {
            why: Why::Completed,
            ..
        } | Phase::Terminated { .. }
    );
    let init_failed = view
        .init_containers()
        .iter()
        .zip(init)
        .any(|(container, status)| !is_sidecar(container) && exit_code(status).is_some_and(|code| code != 0));
    let phase = if finished {
        let succeeded = !init_failed && apps.iter().all(|status| exit_code(status) == Some(0));
        if succeeded { "Succeeded" } else { "Failed" }
    } else if !view.is_initialized() || apps.iter().any(never_ran) {
        "Pending"
    } else {
        // Some run; or all ended, and some will be started again.
        "Running"
    };
    phase.to_owned()
}

fn conditions(
    view: &View<'_>,
    context: &Context<'_>,
    phase: &str,
    init: &[ContainerStatus],
    apps: &[ContainerStatus],
) -> Vec<PodCondition> {
    let completed = phase == "Succeeded";
    let names = |statuses: &[ContainerStatus]| {
        let unready = statuses.iter().filter(|status| !status.ready);
        unready.map(|status| status.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let initialized = completed || view.is_initialized();
    let sidecars = view.init_containers().iter().zip(init);
    let sidecars_ready = sidecars
        .clone()
        .all(|(container, status)| !is_sidecar(container) || status.ready);
    let running_phase = phase == "Running";
    let ready = running_phase && sidecars_ready && apps.iter().all(|status| status.ready);
    let unready: (&str, String) = match phase {
        "Succeeded" => ("PodCompleted", String::new()),
        "Failed" => ("PodFailed", String::new()),
        _ => (
            "ContainersNotReady",
            format!("containers with unready status: [{}]", names(apps)),
        ),
    };
    let sandbox = view.observed.ready_sandbox().is_some();
    let initialized_why = if completed {
        ("PodCompleted", String::new())
    } else {
        (
            "ContainersNotInitialized",
            format!("containers with incomplete status: [{}]", names(init)),
        )
    };
    let list = [
        ("PodReadyToStartContainers", sandbox, ("", String::new())),
        ("Initialized", initialized, initialized_why),
        ("Ready", ready, unready.clone()),
        ("ContainersReady", ready, unready),
        ("PodScheduled", true, ("", String::new())),
    ];
    let list = list.into_iter().map(|(type_, holds, (reason, message))| {
        let status = if holds { "True" } else { "False" };
        let before = context
            .previous
            .and_then(|previous| previous.conditions.as_ref())
            .and_then(|conditions| conditions.iter().find(|condition| condition.type_ == type_))
            .filter(|condition| condition.status == status);
        let told = !holds || (type_ == "Initialized" && completed);
        PodCondition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            last_transition_time: before.map_or(Some(Time(view.now)), |before| before.last_transition_time.clone()),
            reason: (told && !reason.is_empty()).then(|| reason.to_owned()),
            message: (told && !message.is_empty()).then_some(message),
            ..PodCondition::default()
        }
    });
    list.collect()
}

#[cfg(test)]
mod tests;
