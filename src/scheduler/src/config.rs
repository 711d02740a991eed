//! What the scheduler is told: a `KubeSchedulerConfiguration` of `kubescheduler.config.k8s.io/v1`.
//!
//! A field that doesn't exist is an error that names its path. One that exists upstream but isn't implemented here is a
//! warning that names it, so that a file people have can be used and nothing is ignored in silence.

mod args;
mod wire;

use std::{collections::BTreeSet, time::Duration};

use bosun_client::lease::Terms;
use serde_json::Value;

use self::wire::{Document, PluginSet};
use crate::{plugins::Plugin, profile::Profile, queue::Backoff};

/// What the scheduler is told. The default is upstream's.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Ways of scheduling, by `spec.schedulerName`.
    pub profiles: Vec<Profile>,
    /// How long a pod rests after a failure.
    pub backoff: Backoff,
    /// Whether to stand for election among several; `None` schedules at once.
    pub election: Option<Candidacy>,
}

/// The Lease to stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidacy {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who we are: unique among those that run at the same time.
    pub identity: String,
    /// Its times.
    pub terms: Terms,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            profiles: vec![Profile::default()],
            backoff: Backoff::default(),
            election: None,
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no YAML.
    #[error("the scheduler's configuration is not YAML")]
    Syntax(#[source] Box<serde_saphyr::Error>),
    /// A field can't be what it is.
    #[error("{path}: {why}")]
    Field {
        /// Where, such as `profiles[0].plugins`.
        path: String,
        /// What is wrong.
        why: String,
    },
}

impl ConfigError {
    fn at(path: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Field {
            path: path.into(),
            why: why.into(),
        }
    }
}

impl Config {
    /// Reads a file's text. The warnings name what isn't implemented. `identity` is used where the file asks for
    /// election.
    pub fn parse(text: &str, identity: &str) -> Result<(Self, Vec<String>), ConfigError> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| ConfigError::Syntax(error.into()))?;
        let document: Document = strictly(value, "")?;
        if document.api_version != "kubescheduler.config.k8s.io/v1" {
            return Err(ConfigError::at("apiVersion", "must be kubescheduler.config.k8s.io/v1"));
        }
        if document.kind != "KubeSchedulerConfiguration" {
            return Err(ConfigError::at("kind", "must be KubeSchedulerConfiguration"));
        }
        let mut warnings: Vec<String> = document
            .unimplemented()
            .into_iter()
            .map(|path| format!("{path} is not implemented"))
            .collect();
        let percentage = percentage(document.percentage_of_nodes_to_score, "percentageOfNodesToScore")?.unwrap_or(0);
        let mut profiles = Vec::new();
        for (index, written) in document.profiles.iter().enumerate() {
            let path = format!("profiles[{index}]");
            profiles.push(profile(written, percentage, &path, &mut warnings)?);
        }
        if document.profiles.is_empty() {
            profiles.push(Profile {
                percentage,
                ..Profile::default()
            });
        }
        let mut names = BTreeSet::new();
        for (index, profile) in profiles.iter().enumerate() {
            if !names.insert(profile.name.clone()) {
                let why = format!("{} is the name of another profile", profile.name);
                return Err(ConfigError::at(format!("profiles[{index}].schedulerName"), why));
            }
        }
        let config = Self {
            profiles,
            backoff: backoff(&document)?,
            election: election(&document, identity)?,
        };
        Ok((config, warnings))
    }
}

/// Reads a value of which every field must be known.
fn strictly<T: serde::de::DeserializeOwned>(value: Value, within: &str) -> Result<T, ConfigError> {
    let join = |path: &str| match (within, path) {
        ("", path) => path.to_owned(),
        (within, "" | ".") => within.to_owned(),
        (within, path) => format!("{within}.{path}"),
    };
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = T::deserialize(serde_ignored::Deserializer::new(deserializer, &mut note));
    let read = read.map_err(|error| ConfigError::at(join(&track.path().to_string()), error.to_string()))?;
    match unknown.first() {
        None => Ok(read),
        Some(path) => Err(ConfigError::at(join(&indexed(path)), "no such field")),
    }
}

/// `a.0.b` as people write it: `a[0].b`.
fn indexed(path: &str) -> String {
    let mut written = String::new();
    for part in path.split('.').filter(|part| *part != "?") {
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            written.extend(["[", part, "]"]);
        } else {
            written.push_str(if written.is_empty() { "" } else { "." });
            written.push_str(part);
        }
    }
    written
}

fn percentage(written: Option<i32>, path: &str) -> Result<Option<u32>, ConfigError> {
    let valid = |value: i32| u32::try_from(value).ok().filter(|value| *value <= 100);
    match written.map(valid) {
        None => Ok(None),
        Some(Some(value)) => Ok(Some(value)),
        Some(None) => Err(ConfigError::at(path, "must be between 0 and 100")),
    }
}

fn backoff(document: &Document) -> Result<Backoff, ConfigError> {
    let usual = Backoff::default();
    let seconds = |written: Option<i64>, usual: Duration, path: &str| match written.map(u64::try_from) {
        None => Ok(usual),
        Some(Ok(seconds)) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        Some(_) => Err(ConfigError::at(path, "must be greater than 0")),
    };
    let first = seconds(
        document.pod_initial_backoff_seconds,
        usual.first,
        "podInitialBackoffSeconds",
    )?;
    let most = seconds(document.pod_max_backoff_seconds, usual.most, "podMaxBackoffSeconds")?;
    if most < first {
        return Err(ConfigError::at(
            "podMaxBackoffSeconds",
            "must not be less than podInitialBackoffSeconds",
        ));
    }
    Ok(Backoff { first, most })
}

fn election(document: &Document, identity: &str) -> Result<Option<Candidacy>, ConfigError> {
    let written = &document.leader_election;
    if !written.leader_elect.unwrap_or(true) {
        return Ok(None);
    }
    let usual = Terms::default();
    let duration = |text: &Option<String>, usual: Duration, field: &str| match text {
        None => Ok(usual),
        Some(text) => wire::duration(text).ok_or_else(|| {
            ConfigError::at(
                format!("leaderElection.{field}"),
                format!("{text:?} is no duration, such as 15s"),
            )
        }),
    };
    let terms = Terms {
        duration: duration(&written.lease_duration, usual.duration, "leaseDuration")?,
        deadline: duration(&written.renew_deadline, usual.deadline, "renewDeadline")?,
        retry: duration(&written.retry_period, usual.retry, "retryPeriod")?,
    };
    if terms.deadline >= terms.duration || terms.retry >= terms.deadline {
        let why = "leaseDuration must be greater than renewDeadline, and that greater than retryPeriod";
        return Err(ConfigError::at("leaderElection", why));
    }
    if written.resource_lock.as_deref().is_some_and(|lock| lock != "leases") {
        return Err(ConfigError::at("leaderElection.resourceLock", "must be leases"));
    }
    Ok(Some(Candidacy {
        namespace: written
            .resource_namespace
            .clone()
            .unwrap_or_else(|| "kube-system".to_owned()),
        name: written
            .resource_name
            .clone()
            .unwrap_or_else(|| "kube-scheduler".to_owned()),
        identity: identity.to_owned(),
        terms,
    }))
}

fn profile(
    written: &wire::Profile,
    usual: u32,
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<Profile, ConfigError> {
    let mut profile = Profile {
        percentage: percentage(
            written.percentage_of_nodes_to_score,
            &format!("{path}.percentageOfNodesToScore"),
        )?
        .unwrap_or(usual),
        ..Profile::default()
    };
    if let Some(name) = &written.scheduler_name {
        profile.name = name.as_str().into();
    }
    for (point, set) in written.plugins.points() {
        let path = format!("{path}.plugins.{point}");
        apply(&mut profile, point, set, &path, warnings)?;
    }
    for (index, one) in written.plugin_config.iter().enumerate() {
        let path = format!("{path}.pluginConfig[{index}]");
        args::apply(&mut profile, one, &path, warnings)?;
    }
    Ok(profile)
}

/// Switches plugins on and off at one point. What is enabled and disabled is enabled.
fn apply(
    profile: &mut Profile,
    point: &str,
    set: &PluginSet,
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let filters = matches!(point, "multiPoint" | "filter");
    let scores = matches!(point, "multiPoint" | "score");
    let preempts = matches!(point, "multiPoint" | "postFilter");
    let chosen_here = filters || scores || preempts;
    if !chosen_here && (!set.enabled.is_empty() || !set.disabled.is_empty()) {
        warnings.push(format!(
            "{path} is not implemented: plugins are chosen at multiPoint, filter, score and postFilter"
        ));
        return Ok(());
    }
    for (index, one) in set.disabled.iter().enumerate() {
        let plugins: Vec<Plugin> = match (one.name.as_str(), Plugin::named(&one.name)) {
            ("*", _) => Plugin::ALL.to_vec(),
            (_, Some(plugin)) => vec![plugin],
            (name, None) => {
                warnings.push(format!(
                    "{path}.disabled[{index}]: {name} is not implemented, so it needs no disabling"
                ));
                continue;
            }
        };
        for plugin in plugins {
            profile.filters[plugin as usize] &= !filters;
            if scores {
                profile.weights[plugin as usize] = 0;
            }
            profile.preempts &= !(preempts && plugin == Plugin::DefaultPreemption);
        }
    }
    for (index, one) in set.enabled.iter().enumerate() {
        let path = format!("{path}.enabled[{index}]");
        let Some(plugin) = Plugin::named(&one.name) else {
            return Err(ConfigError::at(
                format!("{path}.name"),
                format!("there is no plugin {}", one.name),
            ));
        };
        if matches!(plugin, Plugin::NodeVolumeLimits | Plugin::DynamicResources) {
            warnings.push(format!("{path}: {plugin} is not implemented"));
        }
        profile.filters[plugin as usize] |= filters;
        if scores && plugin.weight() > 0 {
            profile.weights[plugin as usize] = match one.weight {
                None | Some(0) => plugin.weight(),
                Some(weight) if weight > 0 => weight.into(),
                Some(_) => return Err(ConfigError::at(format!("{path}.weight"), "must be greater than 0")),
            };
        }
        profile.preempts |= preempts && plugin == Plugin::DefaultPreemption;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
