//! Pod security standards: a namespace's labels say which level its pods must keep (`enforce`) and which is only spoken of,
//! to whoever writes (`warn`) or in the audit log (`audit`).
//!
//! What each level asks for is in [`checks`].

mod checks;

use bosun_api::field::{FieldError, Problem};
use serde_json::Value;

use crate::{
    Status,
    auth::objects::text,
    pod::{containers, items},
};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// A level, in the order of what it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            "restricted" => Self::Restricted,
            _ => return None,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// A level as of a version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) level: Level,
    /// Of 1.x; `None` for the latest.
    pub(super) minor: Option<u32>,
}

impl Policy {
    /// What the labels say of one mode. What can't be understood is taken for the strictest, of the latest version.
    fn of(labels: &Value, mode: &str) -> Self {
        let label = |suffix: &str| labels[format!("{PREFIX}{mode}{suffix}")].as_str();
        Self {
            level: label("").map_or(Level::Privileged, |word| {
                Level::parse(word).unwrap_or(Level::Restricted)
            }),
            minor: label("-version").and_then(parse_version).flatten(),
        }
    }

    fn name(self) -> String {
        let version = self
            .minor
            .map_or_else(|| "latest".to_owned(), |minor| format!("v1.{minor}"));
        format!("{}:{version}", self.level.word())
    }

    /// What a pod breaks of it, in one line.
    fn broken(self, metadata: &Value, spec: &Value) -> Option<String> {
        let broken = checks::run(self, metadata, spec);
        if broken.is_empty() {
            return None;
        }
        let lines: Vec<_> = broken
            .iter()
            .map(|(reason, detail)| format!("{reason} ({detail})"))
            .collect();
        Some(lines.join(", "))
    }
}

/// `latest` or `v1.N`.
#[allow(clippy::option_option, reason = "no version, the latest, or one")]
fn parse_version(text: &str) -> Option<Option<u32>> {
    if text == "latest" {
        return Some(None);
    }
    let minor = text.strip_prefix("v1.")?;
    let plain = minor == "0" || (!minor.starts_with('0') && minor.bytes().all(|byte| byte.is_ascii_digit()));
    plain.then(|| minor.parse().ok()).flatten().map(Some)
}

/// Why a pod may not be in a namespace with these labels.
pub(super) fn enforce(labels: &Value, metadata: &Value, spec: &Value) -> Option<String> {
    let policy = Policy::of(labels, "enforce");
    let broken = policy.broken(metadata, spec)?;
    Some(format!("violates PodSecurity {:?}: {broken}", policy.name()))
}

/// What the audit log calls the policy that was enforced, and what is broken of the one that is only spoken of there.
pub(super) const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
pub(super) const VIOLATIONS: &str = "pod-security.kubernetes.io/audit-violations";

/// The policy that is enforced, by its name.
pub(super) fn enforced(labels: &Value) -> String {
    Policy::of(labels, "enforce").name()
}

/// What the writer of a pod, or of something that makes pods, is warned of. What is enforced on a pod needs no warning.
pub(super) fn warn(labels: &Value, metadata: &Value, spec: &Value) -> Option<String> {
    would_violate("warn", labels, metadata, spec)
}

/// What the audit log is to say of a pod, or of something that makes pods.
pub(super) fn audit(labels: &Value, metadata: &Value, spec: &Value) -> Option<String> {
    would_violate("audit", labels, metadata, spec)
}

fn would_violate(mode: &str, labels: &Value, metadata: &Value, spec: &Value) -> Option<String> {
    let policy = Policy::of(labels, mode);
    let broken = policy.broken(metadata, spec)?;
    Some(format!("would violate PodSecurity {:?}: {broken}", policy.name()))
}

/// No more pods are looked at when a namespace gets another level.
const MOST_PODS: usize = 3000;

/// Whether a namespace's pods must keep more or something else than before.
pub(super) fn tightens(labels: &Value, old: &Value) -> bool {
    let (new, old) = (Policy::of(labels, "enforce"), Policy::of(old, "enforce"));
    new != old && new.level != Level::Privileged
}

/// What whoever sets a namespace's level is warned of: its pods that break it, those alike together. They stay.
pub(super) fn existing(namespace: &str, labels: &Value, pods: &[Value]) -> Vec<String> {
    let policy = Policy::of(labels, "enforce");
    let mut alike: Vec<(String, Vec<&str>)> = Vec::new();
    for pod in pods.iter().take(MOST_PODS) {
        let broken = checks::run(policy, &pod["metadata"], &pod["spec"]);
        if broken.is_empty() {
            continue;
        }
        let reasons = broken
            .into_iter()
            .map(|(reason, _)| reason)
            .collect::<Vec<_>>()
            .join(", ");
        let name = text(pod, "/metadata/name");
        match alike.iter_mut().find(|(known, _)| *known == reasons) {
            Some((_, names)) => names.push(name),
            None => alike.push((reasons, vec![name])),
        }
    }
    if alike.is_empty() {
        return Vec::new();
    }
    let head = format!(
        "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
        policy.name()
    );
    let lines = alike.into_iter().map(|(reasons, mut names)| {
        names.sort_unstable();
        let others = match names.len() - 1 {
            0 => String::new(),
            1 => " (and 1 other pod)".to_owned(),
            more => format!(" (and {more} other pods)"),
        };
        format!("{}{others}: {reasons}", names[0])
    });
    std::iter::once(head).chain(lines).collect()
}

/// The pods that something makes: their metadata and spec.
pub(super) fn template<'a>(group: &str, plural: &str, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let pointer = match (group, plural) {
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "daemonsets" | "deployments" | "replicasets" | "statefulsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    let template = object.pointer(pointer)?;
    Some((&template["metadata"], &template["spec"]))
}

/// Whether an update of a pod touches anything that levels are about. Most of a pod can't change.
pub(super) fn differs(old: &Value, new: &Value) -> bool {
    let images = |pod: &Value| {
        let images = containers(&pod["spec"]).map(|container| {
            (
                text(container, "/name").to_owned(),
                text(container, "/image").to_owned(),
            )
        });
        images.collect::<Vec<_>>()
    };
    let profiles = |pod: &Value| {
        let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
        let kept = annotations
            .filter(|(key, _)| key.starts_with("container.apparmor.") || key.contains("seccomp.security.alpha"));
        kept.map(|(key, value)| (key.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    images(old) != images(new) || profiles(old) != profiles(new)
}

/// Labels of a namespace that nobody would understand.
pub(super) fn check_labels(namespace: &Value) -> Result<(), Status> {
    let labels = namespace["metadata"]["labels"].as_object().into_iter().flatten();
    let mut errors = Vec::new();
    for (key, value) in labels {
        let Some(mode) = key.strip_prefix(PREFIX) else {
            continue;
        };
        let text = value.as_str().unwrap_or_default();
        let why = match mode {
            "enforce" | "audit" | "warn" if Level::parse(text).is_none() => {
                "must be one of privileged, baseline, restricted"
            }
            "enforce-version" | "audit-version" | "warn-version" if parse_version(text).is_none() => {
                "must be \"latest\" or \"v1.x\""
            }
            _ => continue,
        };
        errors.push(FieldError {
            field: format!("metadata.labels[{key}]"),
            problem: Problem::Invalid(value.clone(), why.to_owned()),
        });
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(
        "",
        "Namespace",
        text(namespace, "/metadata/name"),
        &errors,
    ))
}

/// Shows the names of a pod's containers of which something holds.
fn bad_containers(spec: &Value, bad: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(spec)
        .filter(|container| bad(container))
        .map(|container| text(container, "/name"))
        .collect()
}

/// `container "a"`, `containers "a", "b"`.
fn named(word: &str, names: &[&str]) -> String {
    format!("{} {}", plural(word, names.len()), joined(names))
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

fn joined(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}

fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

fn list(value: &Value) -> Vec<&str> {
    items(value).iter().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests;
