//! The file as it is written. Fields that are read nowhere are here so that they are known.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Document {
    pub(super) api_version: String,
    pub(super) kind: String,
    parallelism: Option<i32>,
    pub(super) leader_election: LeaderElection,
    client_connection: Option<ClientConnection>,
    enable_profiling: Option<bool>,
    enable_contention_profiling: Option<bool>,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    percentage_of_placements_to_score: Option<i32>,
    pub(super) pod_initial_backoff_seconds: Option<i64>,
    pub(super) pod_max_backoff_seconds: Option<i64>,
    pub(super) profiles: Vec<Profile>,
    extenders: Vec<Value>,
    delay_cache_until_active: Option<bool>,
}

impl Document {
    /// What is written, and not implemented.
    pub(super) fn unimplemented(&self) -> Vec<&'static str> {
        let fields = [
            (self.parallelism.is_some(), "parallelism"),
            (self.client_connection.is_some(), "clientConnection"),
            (self.enable_profiling == Some(true), "enableProfiling"),
            (
                self.enable_contention_profiling == Some(true),
                "enableContentionProfiling",
            ),
            (
                self.percentage_of_placements_to_score.is_some(),
                "percentageOfPlacementsToScore",
            ),
            (!self.extenders.is_empty(), "extenders"),
            // We list what is needed when we become the leader, which is what `true` asks for.
            (
                self.delay_cache_until_active == Some(false),
                "delayCacheUntilActive: false",
            ),
        ];
        fields
            .into_iter()
            .filter(|(written, _)| *written)
            .map(|(_, path)| path)
            .collect()
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct LeaderElection {
    pub(super) leader_elect: Option<bool>,
    pub(super) lease_duration: Option<String>,
    pub(super) renew_deadline: Option<String>,
    pub(super) retry_period: Option<String>,
    pub(super) resource_lock: Option<String>,
    pub(super) resource_name: Option<String>,
    pub(super) resource_namespace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code, reason = "known, and told to be not implemented")]
struct ClientConnection {
    kubeconfig: Option<String>,
    accept_content_types: Option<String>,
    content_type: Option<String>,
    qps: Option<f64>,
    burst: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(dead_code, reason = "what is about groups of pods is known, and not implemented")]
pub(super) struct Profile {
    pub(super) scheduler_name: Option<String>,
    pub(super) percentage_of_nodes_to_score: Option<i32>,
    percentage_of_placements_to_score: Option<i32>,
    pub(super) plugins: Plugins,
    pub(super) plugin_config: Vec<PluginConfig>,
}

macro_rules! points {
    ($($field:ident = $name:literal,)*) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        pub(super) struct Plugins {
            $($field: PluginSet,)*
        }

        impl Plugins {
            /// Points by name, the one that stands for all first.
            pub(super) fn points(&self) -> Vec<(&'static str, &PluginSet)> {
                vec![$(($name, &self.$field),)*]
            }
        }
    };
}

points! {
    multi_point = "multiPoint",
    pre_enqueue = "preEnqueue",
    queue_sort = "queueSort",
    pre_filter = "preFilter",
    filter = "filter",
    post_filter = "postFilter",
    pre_score = "preScore",
    score = "score",
    reserve = "reserve",
    permit = "permit",
    pre_bind = "preBind",
    bind = "bind",
    post_bind = "postBind",
    placement_generate = "placementGenerate",
    placement_score = "placementScore",
    placement_feasible = "placementFeasible",
    pod_group_post_filter = "podGroupPostFilter",
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PluginSet {
    pub(super) enabled: Vec<Named>,
    pub(super) disabled: Vec<Named>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) weight: Option<i32>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PluginConfig {
    pub(super) name: String,
    #[serde(default)]
    pub(super) args: Value,
}

/// A duration as Go writes it: `1m30s`, `500ms`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit_ends = after
            .find(|character: char| character.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_ends);
        let number: u64 = number.parse().ok()?;
        total += match unit {
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return None,
        };
        rest = next;
    }
    Some(total)
}
