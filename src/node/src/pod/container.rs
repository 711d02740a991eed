//! A container as CRI wants it. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use bosun_api::{
    core::{Container, Pod},
    labels,
};
use bosun_cri::v1::{
    ContainerConfig, ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, LinuxContainerResources, Mount,
    MountPropagation,
};

use super::{env, payload, plan, sandbox::pod_labels, security, volumes::VolumeSources};
use crate::places::Places;

/// What a container needs besides its pod.
#[derive(Clone, Debug)]
pub struct ContainerContext<'a> {
    /// What the environment may refer to.
    pub env: env::EnvContext<'a>,
    /// The pod's volumes by name: where each is on the node.
    pub volumes: &'a VolumeSources,
    /// Where the parts of volumes are that the container's mounts ask for, by the mount's index; see [`sub_paths`].
    pub sub_paths: &'a BTreeMap<usize, PathBuf>,
    /// The pod's `/etc/hosts` on the node; `None` leaves the runtime's.
    pub hosts_file: Option<&'a Path>,
    /// The file for the container's last words.
    pub termination_message: &'a Path,
    /// What it may use.
    pub resources: LinuxContainerResources,
}

/// The container's configuration for one attempt. Fails with what the pod's author must mend.
pub fn container_config(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    context: &ContainerContext<'_>,
) -> Result<ContainerConfig, String> {
    let env = env::environment(pod, container, &context.env)?;
    let image = container.image.clone().unwrap_or_default();
    let mut labels = pod_labels(pod, context.env.node_name);
    labels.insert(labels::CONTAINER_NAME.to_owned(), container.name.clone());
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata {
            name: container.name.clone(),
            attempt,
        }),
        image: Some(ImageSpec {
            image: image.clone(),
            user_specified_image: image,
            ..ImageSpec::default()
        }),
        command: env::expand_words(container.command.as_ref(), &env),
        args: env::expand_words(container.args.as_ref(), &env),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts: mounts(pod, container, &env, context)?,
        labels,
        annotations: annotations(pod, container, attempt),
        log_path: Places::log_file(&container.name, attempt).display().to_string(),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(context.resources.clone()),
            security_context: Some(security::container_security(pod, container)?),
        }),
        envs: env
            .into_iter()
            .map(|(key, value)| KeyValue {
                key,
                value: value.into_bytes(),
            })
            .collect(),
        ..ContainerConfig::default()
    })
}

/// What must be known of a container when its pod's manifest is gone: how to end it.
fn annotations(pod: &Pod, container: &Container, attempt: u32) -> HashMap<String, String> {
    let mut hasher = DefaultHasher::new();
    format!("{container:?}").hash(&mut hasher);
    let mut annotations = HashMap::from([
        (labels::CONTAINER_HASH.to_owned(), format!("{:x}", hasher.finish())),
        (labels::CONTAINER_RESTART_COUNT.to_owned(), attempt.to_string()),
        (
            labels::POD_TERMINATION_GRACE_PERIOD.to_owned(),
            plan::grace(pod).as_secs().to_string(),
        ),
    ]);
    let pre_stop = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    if let Some(handler) = pre_stop.and_then(|handler| serde_json::to_string(handler).ok()) {
        annotations.insert(labels::CONTAINER_PRE_STOP_HANDLER.to_owned(), handler);
    }
    annotations
}

/// The parts of volumes that a container's mounts ask for (`subPath`, `subPathExpr`): index of the mount, name of the
/// volume, path within it.
pub fn sub_paths(
    pod: &Pod,
    container: &Container,
    context: &env::EnvContext<'_>,
) -> Result<Vec<(usize, String, String)>, String> {
    let env = env::environment(pod, container, context)?;
    let lookup = |name: &str| {
        env.iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    let mut parts = vec![];
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => path.clone(),
            (_, Some(expression)) if !expression.is_empty() => {
                let path = bosun_api::expand(expression, lookup).into_owned();
                if path.contains("$(") {
                    return Err(format!(
                        "volume mount {}: subPathExpr {expression:?} names an unknown variable",
                        mount.name
                    ));
                }
                path
            }
            _ => continue,
        };
        parts.push((index, mount.name.clone(), path));
    }
    Ok(parts)
}

fn mounts(
    pod: &Pod,
    container: &Container,
    env: &[(String, String)],
    context: &ContainerContext<'_>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = vec![];
    let volumes = || pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for (index, wanted) in container.volume_mounts.iter().flatten().enumerate() {
        let problem = |what: &str| format!("volume mount {}: {what}", wanted.name);
        let source = context
            .volumes
            .get(&wanted.name)
            .ok_or_else(|| problem("the pod has no volume of this name"))?;
        let source = context.sub_paths.get(&index).unwrap_or(source);
        let path = bosun_api::expand(&wanted.mount_path, |name| {
            env.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        });
        mounts.push(Mount {
            container_path: absolute(&path),
            host_path: source.display().to_string(),
            // What the control plane tells can only be read.
            readonly: wanted.read_only == Some(true)
                || volumes().any(|volume| volume.name == wanted.name && payload::is_payload(volume)),
            propagation: match wanted.mount_propagation.as_deref() {
                Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => MountPropagation::PropagationBidirectional,
                _ => MountPropagation::PropagationPrivate,
            }
            .into(),
            ..Mount::default()
        });
    }
    let taken = |mounts: &[Mount], path: &str| mounts.iter().any(|mount| mount.container_path == path);
    if let Some(hosts) = context.hosts_file.filter(|_| !taken(&mounts, "/etc/hosts")) {
        mounts.push(plain_mount("/etc/hosts".to_owned(), hosts));
    }
    let last_words = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    if !taken(&mounts, last_words) {
        mounts.push(plain_mount(absolute(last_words), context.termination_message));
    }
    Ok(mounts)
}

fn plain_mount(container_path: String, host_path: &Path) -> Mount {
    Mount {
        container_path,
        host_path: host_path.display().to_string(),
        ..Mount::default()
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

#[cfg(test)]
mod tests {
    use bosun_api::core::{ExecAction, Lifecycle, LifecycleHandler, VolumeMount};

    use super::*;
    use crate::pod::fixture::Fixture;

    const NO_PARTS: &BTreeMap<usize, PathBuf> = &BTreeMap::new();

    fn context(volumes: &VolumeSources) -> ContainerContext<'_> {
        ContainerContext {
            sub_paths: NO_PARTS,
            env: env::EnvContext {
                node_name: "n1",
                ..env::EnvContext::default()
            },
            volumes,
            hosts_file: Some(Path::new("/pods/u1/etc-hosts")),
            termination_message: Path::new("/pods/u1/containers/a/0"),
            resources: LinuxContainerResources::default(),
        }
    }

    fn mount(name: &str, path: &str) -> VolumeMount {
        VolumeMount {
            name: name.into(),
            mount_path: path.into(),
            ..VolumeMount::default()
        }
    }

    fn told(config: &ContainerConfig) -> Vec<String> {
        let mounts = config.mounts.iter();
        mounts
            .map(|mount| format!("{}<-{}", mount.container_path, mount.host_path))
            .collect()
    }

    #[test]
    fn a_containers_own_mount_replaces_the_nodes_file() {
        let volumes = VolumeSources::from([("v".to_owned(), "/data/v".into())]);
        let pod = Fixture::new("Always", &["a"]).pod;
        let mut container = pod.spec.as_ref().unwrap().containers[0].clone();
        let config = container_config(&pod, &container, 0, &context(&volumes)).unwrap();
        assert_eq!(
            told(&config),
            [
                "/etc/hosts<-/pods/u1/etc-hosts",
                "/dev/termination-log<-/pods/u1/containers/a/0"
            ]
        );
        container.volume_mounts = Some(vec![mount("v", "/etc/hosts"), mount("v", "data")]);
        let config = container_config(&pod, &container, 0, &context(&volumes)).unwrap();
        assert_eq!(
            told(&config),
            [
                "/etc/hosts<-/data/v",
                "/data<-/data/v",
                "/dev/termination-log<-/pods/u1/containers/a/0"
            ]
        );
        container.volume_mounts = Some(vec![mount("w", "/w")]);
        let problem = container_config(&pod, &container, 0, &context(&volumes)).unwrap_err();
        assert!(problem.contains("volume mount w"), "{problem}");
    }

    #[test]
    fn parts_of_volumes_are_named_with_variables_expanded_or_refused() {
        let pod = Fixture::new("Always", &["a"]).pod;
        let mut container = pod.spec.as_ref().unwrap().containers[0].clone();
        let expression = |expression: &str| VolumeMount {
            sub_path_expr: Some(expression.into()),
            ..mount("v", "/v")
        };
        container.env = Some(vec![bosun_api::core::EnvVar {
            name: "POD".into(),
            value: Some("web".into()),
            ..bosun_api::core::EnvVar::default()
        }]);
        container.volume_mounts = Some(vec![mount("w", "/w"), expression("logs/$(POD)")]);
        let context = env::EnvContext::default();
        assert_eq!(
            sub_paths(&pod, &container, &context).unwrap(),
            [(1, "v".to_owned(), "logs/web".to_owned())]
        );
        container.volume_mounts = Some(vec![expression("$(NOBODY)")]);
        assert!(
            sub_paths(&pod, &container, &context)
                .unwrap_err()
                .contains("unknown variable")
        );
    }

    #[test]
    fn how_to_end_a_container_is_written_on_it() {
        let volumes = VolumeSources::new();
        let pod = Fixture::new("Always", &["a"]).pod;
        let mut container = pod.spec.as_ref().unwrap().containers[0].clone();
        container.lifecycle = Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction {
                    command: Some(vec!["drain".into()]),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        });
        let config = container_config(&pod, &container, 4, &context(&volumes)).unwrap();
        assert_eq!(config.annotations[labels::POD_TERMINATION_GRACE_PERIOD], "30");
        assert_eq!(config.annotations[labels::CONTAINER_RESTART_COUNT], "4");
        assert_eq!(
            config.annotations[labels::CONTAINER_PRE_STOP_HANDLER],
            r#"{"exec":{"command":["drain"]}}"#
        );
        assert_eq!(config.labels[labels::CONTAINER_NAME], "a");
        assert_eq!(config.log_path, "a/4.log");
    }
}
