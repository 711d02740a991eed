//! What the Node object says of this node, from what is known of it. Pure.

use std::net::IpAddr;

use bosun_cri::v1;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{ContainerImage, DaemonEndpoint, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::facts::machine::Machine;

/// No more images are told of, as upstream has it.
const MOST_IMAGES: usize = 50;
/// No more names of one image.
const MOST_IMAGE_NAMES: usize = 5;

/// What a node's status is made from.
#[derive(Clone, Debug)]
pub struct View<'a> {
    /// The node's name.
    pub name: &'a str,
    /// What the machine is.
    pub machine: &'a Machine,
    /// The node's addresses, the primary first.
    pub addresses: &'a [IpAddr],
    /// Where the agent's HTTPS API listens.
    pub port: u16,
    /// The runtime's name and version, such as `containerd://1.7.0`; empty while it does not answer.
    pub runtime_version: String,
    /// The images on this node.
    pub images: Vec<v1::Image>,
    /// What keeps pods from running here.
    pub problems: &'a [String],
    /// The conditions before these.
    pub previous: &'a [NodeCondition],
    /// The time it is.
    pub now: Timestamp,
}

/// The node's status.
pub fn node_status(view: View<'_>) -> NodeStatus {
    NodeStatus {
        addresses: Some(addresses(view.name, view.addresses)),
        allocatable: Some(view.machine.allocatable()),
        capacity: Some(view.machine.capacity()),
        conditions: Some(conditions(view.problems, view.previous, view.now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: view.port.into() }),
        }),
        node_info: Some(view.machine.system_info(view.runtime_version)),
        images: Some(images(view.images)),
        ..NodeStatus::default()
    }
}

fn addresses(name: &str, addresses: &[IpAddr]) -> Vec<NodeAddress> {
    let internal = addresses.iter().map(|address| NodeAddress {
        type_: "InternalIP".to_owned(),
        address: address.to_string(),
    });
    let hostname = NodeAddress {
        type_: "Hostname".to_owned(),
        address: name.to_owned(),
    };
    internal.chain([hostname]).collect()
}

/// The largest images, each with a few of its names.
fn images(mut images: Vec<v1::Image>) -> Vec<ContainerImage> {
    images.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    images.truncate(MOST_IMAGES);
    let told = images.into_iter().map(|image| {
        let names = image.repo_digests.into_iter().chain(image.repo_tags);
        ContainerImage {
            names: Some(names.take(MOST_IMAGE_NAMES).collect()),
            size_bytes: Some(image.size.cast_signed()),
        }
    });
    told.collect()
}

fn conditions(problems: &[String], previous: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let enough = [
        (
            "MemoryPressure",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
    ];
    let enough = enough.map(|(type_, reason, message)| (type_, "False", reason, message.to_owned()));
    let ready = if problems.is_empty() {
        (
            "Ready",
            "True",
            "KubeletReady",
            "kubelet is posting ready status".to_owned(),
        )
    } else {
        (
            "Ready",
            "False",
            "KubeletNotReady",
            format!("[{}]", problems.join(", ")),
        )
    };
    let all = enough
        .into_iter()
        .chain([ready])
        .map(|(type_, status, reason, message)| {
            let before = previous
                .iter()
                .find(|condition| condition.type_ == type_ && condition.status == status);
            NodeCondition {
                type_: type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: before
                    .and_then(|before| before.last_transition_time.clone())
                    .or(Some(Time(now))),
            }
        });
    all.collect()
}

/// What keeps pods from running here, in upstream's words: the runtime's own conditions (`Err` if it does not answer) and
/// the pod network as far as the agent knows.
pub fn problems(runtime: Result<&v1::RuntimeStatus, String>, network: &Result<(), String>) -> Vec<String> {
    let status = match runtime {
        Ok(status) => status,
        Err(problem) => return vec![format!("container runtime is down: {problem}")],
    };
    let mut problems = vec![];
    if let Err(problem) = network {
        problems.push(format!(
            "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{problem}"
        ));
    }
    for condition in status.conditions.iter().filter(|condition| !condition.status) {
        let what = match condition.r#type.as_str() {
            "NetworkReady" if network.is_err() => continue,
            "NetworkReady" => "container runtime network not ready",
            "RuntimeReady" => "container runtime not ready",
            // Others are for those who know them.
            _ => continue,
        };
        problems.push(format!(
            "{what}: {}=false reason:{} message:{}",
            condition.r#type, condition.reason, condition.message
        ));
    }
    problems
}

/// Whether two statuses say the same but for when they were said.
pub fn says_the_same(a: &NodeStatus, b: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut status = status.clone();
        for condition in status.conditions.iter_mut().flatten() {
            condition.last_heartbeat_time = None;
        }
        status
    };
    timeless(a) == timeless(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(problems: &[String], previous: &[NodeCondition], second: i64) -> Vec<NodeCondition> {
        conditions(problems, previous, at(second))
    }

    #[test]
    fn a_condition_keeps_its_time_while_it_stays() {
        let first = ready(&[], &[], 100);
        let second = ready(&[], &first, 200);
        let third = ready(&["broken".to_owned()], &second, 300);
        let told = |conditions: &[NodeCondition]| {
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready").unwrap();
            let since = ready.last_transition_time.as_ref().unwrap().0.as_second();
            (ready.status.clone(), ready.reason.clone().unwrap(), since)
        };
        assert_eq!(told(&first), ("True".into(), "KubeletReady".into(), 100));
        assert_eq!(told(&second), ("True".into(), "KubeletReady".into(), 100));
        assert_eq!(told(&third), ("False".into(), "KubeletNotReady".into(), 300));
    }

    #[test]
    fn a_node_without_a_pod_network_says_so_once() {
        let condition = |r#type: &str, status: bool| v1::RuntimeCondition {
            r#type: r#type.into(),
            status,
            reason: "NetworkPluginNotReady".into(),
            message: "cni plugin not initialized".into(),
        };
        let status = |network| v1::RuntimeStatus {
            conditions: vec![condition("RuntimeReady", true), condition("NetworkReady", network)],
        };
        assert_eq!(problems(Ok(&status(true)), &Ok(())), Vec::<String>::new());
        let [one] = problems(Ok(&status(false)), &Ok(())).try_into().unwrap();
        assert!(
            one.ends_with("reason:NetworkPluginNotReady message:cni plugin not initialized"),
            "{one}"
        );
        let [one] = problems(Ok(&status(false)), &Err("no range yet".into()))
            .try_into()
            .unwrap();
        assert!(one.ends_with("message:no range yet"), "{one}");
        let [one] = problems(Err("gone".into()), &Ok(())).try_into().unwrap();
        assert_eq!(one, "container runtime is down: gone");
    }

    #[test]
    fn the_largest_images_are_told_of() {
        let image = |size: u64| v1::Image {
            id: size.to_string(),
            size,
            repo_tags: vec![format!("image:{size}")],
            ..v1::Image::default()
        };
        let told = images((0..60).map(image).collect());
        assert_eq!(told.len(), 50);
        assert_eq!(told[0].names, Some(vec!["image:59".to_owned()]));
    }

    #[test]
    fn a_node_of_two_families_tells_an_address_of_each() {
        let told = addresses("n1", &["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        let told: Vec<_> = told
            .iter()
            .map(|told| format!("{} {}", told.type_, told.address))
            .collect();
        assert_eq!(told, ["InternalIP 10.0.0.1", "InternalIP fd00::1", "Hostname n1"]);
    }
}
