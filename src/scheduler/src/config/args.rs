//! What single plugins are told.

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, strictly, wire::PluginConfig};
use crate::{
    objects::{Labels, NodeRequirement, PreferredNode, SpreadConstraint},
    plugins::{
        Plugin,
        fit::{FitArgs, Strategy},
    },
    profile::{AddedAffinity, Profile, SpreadDefaults},
};

macro_rules! arguments {
    ($name:ident { $($field:ident: $type:ty,)* }) => {
        #[derive(Debug, Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        #[allow(dead_code, reason = "the type's name is known, and said by the plugin's name already")]
        struct $name {
            api_version: Option<String>,
            kind: Option<String>,
            $($field: $type,)*
        }
    };
}

arguments!(TypeMeta {});
arguments!(Preemption { min_candidate_nodes_percentage: Option<u32>, min_candidate_nodes_absolute: Option<u32>, });
arguments!(InterPod { hard_pod_affinity_weight: Option<i64>, ignore_preferred_terms_of_existing_pods: bool, });
arguments!(Fit { ignored_resources: Vec<String>, ignored_resource_groups: Vec<String>, scoring_strategy: Option<Scoring>, });
arguments!(Spread { default_constraints: Vec<TopologySpreadConstraint>, defaulting_type: Option<String>, });
arguments!(Balanced { resources: Vec<Resource>, });
arguments!(AddedTo { added_affinity: Option<NodeAffinity>, });
arguments!(Binding { bind_timeout_seconds: Option<i64>, shape: Vec<Point>, });

#[derive(Debug, Deserialize)]
struct Resource {
    name: String,
    weight: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Point {
    utilization: i64,
    score: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Scoring {
    #[serde(rename = "type")]
    kind: Option<String>,
    resources: Vec<Resource>,
    requested_to_capacity_ratio: Option<Ratio>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ratio {
    shape: Vec<Point>,
}

/// Tells a profile's plugin.
pub(super) fn apply(
    profile: &mut Profile,
    written: &PluginConfig,
    path: &str,
    warnings: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let path = &format!("{path}.args");
    match Plugin::named(&written.name) {
        Some(Plugin::DefaultPreemption) => {
            let args: Preemption = read(written, path)?;
            if args
                .min_candidate_nodes_percentage
                .is_some_and(|percentage| percentage > 100)
            {
                return Err(ConfigError::at(
                    format!("{path}.minCandidateNodesPercentage"),
                    "must be between 0 and 100",
                ));
            }
            profile.candidates_percentage = args.min_candidate_nodes_percentage.unwrap_or(10);
            profile.candidates_least = args.min_candidate_nodes_absolute.unwrap_or(100);
        }
        Some(Plugin::InterPodAffinity) => {
            let args: InterPod = read(written, path)?;
            let weight = args.hard_pod_affinity_weight.unwrap_or(1);
            if !(0..=100).contains(&weight) {
                return Err(ConfigError::at(
                    format!("{path}.hardPodAffinityWeight"),
                    "must be between 0 and 100",
                ));
            }
            profile.hard_pod_affinity_weight = weight;
            profile.ignore_preferred_terms_of_existing = args.ignore_preferred_terms_of_existing_pods;
        }
        Some(Plugin::NodeResourcesFit) => profile.fit = fit(read(written, path)?, path)?,
        Some(Plugin::BalancedAllocation) => {
            let args: Balanced = read(written, path)?;
            if !args.resources.is_empty() {
                profile.balanced = resources(&args.resources, &format!("{path}.resources"))?;
            }
        }
        Some(Plugin::NodeAffinity) => {
            let args: AddedTo = read(written, path)?;
            let required = (args.added_affinity.as_ref())
                .and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
            profile.added = AddedAffinity {
                required: required.map(NodeRequirement::of).unwrap_or_default(),
                preferred: PreferredNode::of(args.added_affinity.as_ref()),
            };
        }
        Some(Plugin::PodTopologySpread) => profile.spread = spread(&read(written, path)?, path)?,
        Some(Plugin::VolumeBinding) => {
            let args: Binding = read(written, path)?;
            if args.bind_timeout_seconds.is_some() || !args.shape.is_empty() {
                warnings.push(format!(
                    "{path} is not implemented: only claims that are bound already are"
                ));
            }
        }
        Some(plugin) => {
            let _: TypeMeta = read(written, path)?;
            warnings.push(format!("{path}: {plugin} takes no arguments"));
        }
        None => {
            let name = path.strip_suffix(".args").unwrap_or(path);
            return Err(ConfigError::at(
                format!("{name}.name"),
                format!("there is no plugin {}", written.name),
            ));
        }
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned + Default>(written: &PluginConfig, path: &str) -> Result<T, ConfigError> {
    match &written.args {
        Value::Null => Ok(T::default()),
        args => strictly(args.clone(), path),
    }
}

fn resources(written: &[Resource], path: &str) -> Result<Vec<(std::sync::Arc<str>, i64)>, ConfigError> {
    let one = |(index, resource): (usize, &Resource)| match resource.weight {
        None | Some(0) => Ok((resource.name.as_str().into(), 1)),
        Some(weight) if (1..=100).contains(&weight) => Ok((resource.name.as_str().into(), weight)),
        Some(_) => Err(ConfigError::at(
            format!("{path}[{index}].weight"),
            "must be between 1 and 100",
        )),
    };
    written.iter().enumerate().map(one).collect()
}

fn fit(args: Fit, path: &str) -> Result<FitArgs, ConfigError> {
    let usual = FitArgs::default();
    let scoring = args.scoring_strategy.unwrap_or_default();
    let path = format!("{path}.scoringStrategy");
    let strategy = match scoring.kind.as_deref() {
        None | Some("LeastAllocated") => Strategy::LeastAllocated,
        Some("MostAllocated") => Strategy::MostAllocated,
        Some("RequestedToCapacityRatio") => {
            let points = scoring.requested_to_capacity_ratio.unwrap_or_default().shape;
            let points: Vec<_> = points.iter().map(|point| (point.utilization, point.score)).collect();
            let rises = points.windows(2).all(|two| two[0].0 < two[1].0);
            let inside = points
                .iter()
                .all(|(at, score)| (0..=100).contains(at) && (0..=10).contains(score));
            if points.is_empty() || !rises || !inside {
                let why = "must be points of rising utilization (0 to 100) with scores of 0 to 10";
                return Err(ConfigError::at(format!("{path}.requestedToCapacityRatio.shape"), why));
            }
            Strategy::RequestedToCapacityRatio(points)
        }
        Some(other) => {
            return Err(ConfigError::at(
                format!("{path}.type"),
                format!("there is no strategy {other}"),
            ));
        }
    };
    Ok(FitArgs {
        ignored: args.ignored_resources.iter().map(|name| name.as_str().into()).collect(),
        ignored_groups: args
            .ignored_resource_groups
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        strategy,
        resources: match scoring.resources.as_slice() {
            [] => usual.resources,
            written => resources(written, &format!("{path}.resources"))?,
        },
    })
}

fn spread(args: &Spread, path: &str) -> Result<SpreadDefaults, ConfigError> {
    let list = match args.defaulting_type.as_deref() {
        None | Some("System") => false,
        Some("List") => true,
        Some(_) => {
            return Err(ConfigError::at(
                format!("{path}.defaultingType"),
                "must be System or List",
            ));
        }
    };
    if !list {
        if !args.default_constraints.is_empty() {
            let why = "must be empty unless defaultingType is List";
            return Err(ConfigError::at(format!("{path}.defaultConstraints"), why));
        }
        return Ok(SpreadDefaults::System);
    }
    let mut constraints = Vec::new();
    for (index, one) in args.default_constraints.iter().enumerate() {
        let path = format!("{path}.defaultConstraints[{index}]");
        if one.label_selector.is_some() {
            return Err(ConfigError::at(
                format!("{path}.labelSelector"),
                "must be empty: it is found for each pod",
            ));
        }
        if one.max_skew <= 0 {
            return Err(ConfigError::at(format!("{path}.maxSkew"), "must be greater than 0"));
        }
        constraints.push(SpreadConstraint::of(one, &Labels::default()));
    }
    Ok(SpreadDefaults::List(constraints))
}
