//! What is told of a pod's jobs as events, with upstream's reasons. Pure.

use bosun_api::core::{Container, Pod};

use super::{
    plan::{Job, JobKey},
    worker::pod_key,
};
use crate::probe::ProbeReport;

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Which part of the pod, such as `spec.containers{web}`.
    pub field: Option<String>,
    /// It needs somebody's attention.
    pub is_warning: bool,
    /// Upstream's reason.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The path of a container in its pod's spec, as events name it.
pub fn field(pod: &Pod, name: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let is = |container: &Container| container.name == name;
    if spec.containers.iter().any(is) {
        Some(format!("spec.containers{{{name}}}"))
    } else if spec.init_containers.iter().flatten().any(is) {
        Some(format!("spec.initContainers{{{name}}}"))
    } else {
        None
    }
}

/// The containers that are made of an image.
fn of_image<'a>(pod: &'a Pod, image: &'a str) -> impl Iterator<Item = &'a str> {
    let containers = pod
        .spec
        .iter()
        .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers
        .filter(move |container| container.image.as_deref() == Some(image))
        .map(|container| container.name.as_str())
}

fn normal(field: Option<String>, reason: &'static str, message: impl Into<String>) -> News {
    News {
        field,
        is_warning: false,
        reason,
        message: message.into(),
    }
}

fn warning(field: Option<String>, reason: &'static str, message: impl Into<String>) -> News {
    News {
        is_warning: true,
        ..normal(field, reason, message)
    }
}

/// What is told when a job begins.
pub fn of_begin(pod: &Pod, job: &Job) -> Vec<News> {
    match job {
        Job::Stop { name, why, .. } => {
            let message = if why == "the pod ends" {
                format!("Stopping container {name}")
            } else {
                format!("Container {name} is stopped: {why}")
            };
            vec![normal(field(pod, name), "Killing", message)]
        }
        _ => vec![],
    }
}

/// What is told when a job succeeded.
pub fn of_success(pod: &Pod, key: &JobKey) -> Vec<News> {
    match key {
        JobKey::Image(image) => of_image(pod, image)
            .map(|name| {
                let message = format!("Container image {image:?} is present on the node");
                normal(field(pod, name), "Pulled", message)
            })
            .collect(),
        JobKey::Start(name) => vec![
            normal(field(pod, name), "Created", "Container created"),
            normal(field(pod, name), "Started", "Container started"),
        ],
        _ => vec![],
    }
}

/// What is told when a job failed for this reason, for the n-th time in a row.
pub fn of_failure(pod: &Pod, key: &JobKey, reason: &'static str, message: &str, failures: u32) -> Vec<News> {
    match key {
        JobKey::Volumes | JobKey::Refresh => vec![warning(None, reason, message)],
        JobKey::Image(image) => {
            let told = of_image(pod, image).flat_map(|name| {
                let field = field(pod, name);
                let first = match reason {
                    "ErrImageNeverPull" => warning(field.clone(), "ErrImageNeverPull", message),
                    _ if failures > 1 => normal(
                        field.clone(),
                        "BackOff",
                        format!("Back-off pulling image {image:?}: {message}"),
                    ),
                    _ => warning(
                        field.clone(),
                        "Failed",
                        format!("Failed to pull image {image:?}: {message}"),
                    ),
                };
                [first, warning(field, "Failed", format!("Error: {reason}"))]
            });
            told.collect()
        }
        JobKey::Sandbox if reason == "FailedCreatePodSandBox" => {
            vec![warning(
                None,
                reason,
                format!("Failed to create pod sandbox: {message}"),
            )]
        }
        JobKey::Start(name) => vec![warning(field(pod, name), "Failed", format!("Error: {message}"))],
        JobKey::Stop(_) | JobKey::StopSandbox(_) | JobKey::Sandbox => {
            vec![warning(None, "FailedKillPod", format!("error killing pod: {message}"))]
        }
        JobKey::Observe | JobKey::Remove(_) | JobKey::RemoveSandbox(_) | JobKey::Cleanup => vec![],
    }
}

/// What is told of a probe that gave a container up.
pub fn of_probe(pod: &Pod, report: &ProbeReport) -> News {
    let message = format!("{} probe failed: {}", report.kind, report.message);
    let message = message[..1].to_uppercase() + &message[1..];
    warning(field(pod, &report.container), "Unhealthy", message)
}

/// What is told of a container that waits before it is started again.
pub fn of_back_off(pod: &Pod, name: &str) -> News {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let key = pod_key(pod);
    let message = format!(
        "Back-off restarting failed container {name} in pod {}_{}({uid})",
        key.name, key.namespace
    );
    warning(field(pod, name), "BackOff", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::fixture::Fixture;

    #[test]
    fn each_outcome_is_told_of_the_container_it_concerns_with_upstreams_reason() {
        let mut pod = Fixture::new("Always", &["a"]).pod;
        pod.spec.as_mut().unwrap().containers[0].image = Some("i:1".into());
        let image = JobKey::Image("i:1".into());
        let start = JobKey::Start("a".into());
        let told = |news: Vec<News>| {
            let told = news.iter().map(|news| {
                let kind = if news.is_warning { "Warning" } else { "Normal" };
                format!("{kind} {} {}", news.reason, news.field.as_deref().unwrap_or("-"))
            });
            told.collect::<Vec<_>>().join(", ")
        };
        let a = "spec.containers{a}";
        assert_eq!(
            told(of_success(&pod, &start)),
            format!("Normal Created {a}, Normal Started {a}")
        );
        assert_eq!(told(of_success(&pod, &image)), format!("Normal Pulled {a}"));
        let table = [
            (
                &image,
                "ErrImagePull",
                1,
                format!("Warning Failed {a}, Warning Failed {a}"),
            ),
            (
                &image,
                "ImagePullBackOff",
                2,
                format!("Normal BackOff {a}, Warning Failed {a}"),
            ),
            (
                &image,
                "ErrImageNeverPull",
                1,
                format!("Warning ErrImageNeverPull {a}, Warning Failed {a}"),
            ),
            (&JobKey::Volumes, "FailedMount", 1, "Warning FailedMount -".to_owned()),
            (
                &JobKey::Sandbox,
                "FailedCreatePodSandBox",
                1,
                "Warning FailedCreatePodSandBox -".to_owned(),
            ),
            (&start, "CreateContainerConfigError", 1, format!("Warning Failed {a}")),
            (&JobKey::Observe, "ObserveFailed", 1, String::new()),
        ];
        for (key, reason, failures, expected) in table {
            assert_eq!(
                told(of_failure(&pod, key, reason, "no", failures)),
                expected,
                "{key:?} {reason}"
            );
        }
        assert_eq!(
            of_back_off(&pod, "a").message,
            format!(
                "Back-off restarting failed container a in pod {}_{}({})",
                pod.metadata.name.clone().unwrap_or_default(),
                pod.metadata.namespace.clone().unwrap_or_default(),
                pod.metadata.uid.clone().unwrap_or_default()
            )
        );
    }
}
