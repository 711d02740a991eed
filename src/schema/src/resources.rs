//! The built-in resources, made from the table of facts at first use.

use std::{cmp::Ordering, collections::HashMap, sync::LazyLock};

use crate::{
    facts::{self, PREFIX, Upstream},
    types::{TypeId, Types},
};

/// One resource of one version of a group.
#[derive(Clone, Debug)]
pub struct ResourceFacts {
    /// Its group; empty for the core group.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// Its name in paths, such as `pods`.
    pub plural: &'static str,
    /// Its name for one, such as `pod`.
    pub singular: String,
    /// Its objects' kind.
    pub kind: &'static str,
    /// Its lists' kind, if it can be listed.
    pub list_kind: Option<&'static str>,
    /// Its objects' type.
    pub ty: TypeId,
    /// Its lists' type, if it can be listed.
    pub list_ty: Option<TypeId>,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done with it, sorted by name.
    pub verbs: Vec<&'static str>,
    /// Whether upstream answers its deletion with the object rather than a `Status`.
    pub returns_deleted: bool,
    /// Such as `po`.
    pub short_names: Vec<&'static str>,
    /// Such as `all`.
    pub categories: Vec<&'static str>,
    /// In the order of their names.
    pub subresources: Vec<SubresourceFacts>,
    /// Whether upstream serves this version unless told otherwise: general availability is, beta and alpha aren't.
    pub served: bool,
    /// Group and version its objects are stored in. `events.k8s.io` events are stored as the core group's.
    pub stored: (&'static str, &'static str),
}

/// One subresource.
#[derive(Clone, Debug)]
pub struct SubresourceFacts {
    /// Such as `status`.
    pub name: &'static str,
    /// The group of its kind.
    pub group: &'static str,
    /// The version of its kind.
    pub version: &'static str,
    /// The kind of its body or answer; of its options if it is connected to.
    pub kind: &'static str,
    /// The type of its body or answer; `None` if that is a stream or text.
    pub ty: Option<TypeId>,
    /// What can be done with it, sorted by name.
    pub verbs: Vec<&'static str>,
}

/// One group.
#[derive(Clone, Debug)]
pub struct GroupFacts {
    /// Its name; empty for the core group.
    pub name: &'static str,
    /// Its priority among groups (`groupPriorityMinimum` of its `APIService`s).
    pub priority: u32,
    /// Its versions, the preferred one first.
    pub versions: Vec<VersionFacts>,
}

/// One version of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionFacts {
    /// Such as `v1`.
    pub name: &'static str,
    /// Whether upstream serves it unless told otherwise.
    pub served: bool,
}

/// Every resource of every version of every group that 1.36 knows, in the order of discovery.
pub fn resources() -> &'static [ResourceFacts] {
    static RESOURCES: LazyLock<Vec<ResourceFacts>> = LazyLock::new(build_resources);
    &RESOURCES
}

/// Every group that 1.36 knows, in the order of discovery, the core group first.
pub fn groups() -> &'static [GroupFacts] {
    static GROUPS: LazyLock<Vec<GroupFacts>> = LazyLock::new(build_groups);
    &GROUPS
}

/// The order in which clients should prefer versions, most preferred first: general availability before beta before
/// alpha, then the higher number; what isn't shaped like a version comes last, by name.
///
/// As `version.CompareKubeAwareVersionStrings` in apimachinery, reversed.
pub fn by_preference(a: &str, b: &str) -> Ordering {
    fn rank(version: &str) -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = |text: &str| (!text.starts_with('0')).then(|| text.parse::<u64>().ok()).flatten();
        let (major, stage) = rest.split_at(digits(rest));
        let major = number(major)?;
        match (stage.strip_prefix("beta"), stage.strip_prefix("alpha")) {
            _ if stage.is_empty() => Some((2, major, 0)),
            (Some(minor), _) => Some((1, major, number(minor)?)),
            (_, Some(minor)) => Some((0, major, number(minor)?)),
            _ => None,
        }
    }
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Whether upstream serves a version unless told otherwise (KEP-3136: beta APIs are off).
fn served(version: &str) -> bool {
    !version.contains("alpha") && !version.contains("beta")
}

fn build_groups() -> Vec<GroupFacts> {
    let mut versions: HashMap<&str, Vec<VersionFacts>> = HashMap::new();
    for resource in facts::resources() {
        let version = VersionFacts {
            name: resource.version,
            served: served(resource.version),
        };
        let of_group = versions.entry(resource.group).or_default();
        if !of_group.contains(&version) {
            of_group.push(version);
        }
    }
    facts::upstream()
        .filter_map(|fact| match fact {
            Upstream::Group { name, priority } => {
                let mut versions = versions.remove(name).unwrap_or_default();
                versions.sort_by(|a, b| by_preference(a.name, b.name));
                Some(GroupFacts {
                    name,
                    priority,
                    versions,
                })
            }
            _ => None,
        })
        .collect()
}

fn build_resources() -> Vec<ResourceFacts> {
    let mut names = HashMap::new();
    let mut stored_as = HashMap::new();
    for fact in facts::upstream() {
        match fact {
            Upstream::Names {
                group,
                plural,
                short,
                categories,
            } => {
                names.insert((group, plural), (short, categories));
            }
            Upstream::Stored {
                group,
                plural,
                as_group,
                as_version,
            } => {
                stored_as.insert((group, plural), (as_group, as_version));
            }
            Upstream::Group { .. } | Upstream::Zeros { .. } | Upstream::Default { .. } => {}
        }
    }
    let types = Types::builtin();
    let find = |name: &str| {
        types
            .find(&format!("{PREFIX}{name}"))
            .expect("a resource's type is in the table")
    };
    let lines = facts::resources();
    let stored = |line: &facts::ResourceLine| {
        let same = lines
            .iter()
            .filter(|other| (other.group, other.plural) == (line.group, line.plural));
        let version = same.map(|other| other.version).min_by(|a, b| by_preference(a, b));
        stored_as
            .get(&(line.group, line.plural))
            .copied()
            .unwrap_or((line.group, version.expect("it is among its own versions")))
    };
    let mut resources: Vec<ResourceFacts> = lines
        .iter()
        .map(|line| {
            let (short_names, categories) = names.get(&(line.group, line.plural)).cloned().unwrap_or_default();
            ResourceFacts {
                group: line.group,
                version: line.version,
                plural: line.plural,
                singular: line.kind.to_ascii_lowercase(),
                kind: line.kind,
                list_kind: line
                    .list
                    .map(|list| list.rsplit('.').next().expect("a name has an end")),
                ty: find(line.ty),
                list_ty: line.list.map(find),
                namespaced: line.namespaced,
                verbs: line.verbs.clone(),
                returns_deleted: line.returned,
                short_names,
                categories,
                subresources: line.subresources.iter().map(|sub| subresource(sub, &find)).collect(),
                served: served(line.version),
                stored: stored(line),
            }
        })
        .collect();
    let place = |resource: &ResourceFacts| groups().iter().position(|group| group.name == resource.group);
    resources.sort_by(|a, b| {
        let order = place(a).cmp(&place(b));
        order
            .then_with(|| by_preference(a.version, b.version))
            .then_with(|| a.plural.cmp(b.plural))
    });
    resources
}

fn subresource(line: &facts::SubresourceLine, find: &impl Fn(&str) -> TypeId) -> SubresourceFacts {
    SubresourceFacts {
        name: line.name,
        group: line.kind.group,
        version: line.kind.version,
        kind: line.kind.kind,
        ty: line.ty.map(find),
        verbs: line.verbs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(group: &str, version: &str, plural: &str) -> &'static ResourceFacts {
        resources()
            .iter()
            .find(|row| (row.group, row.version, row.plural) == (group, version, plural))
            .expect("a known resource")
    }

    #[test]
    fn versions_are_preferred_as_clients_expect() {
        let mut versions = [
            "v1",
            "v1alpha1",
            "foo",
            "v2",
            "v10",
            "v1beta2",
            "v11alpha2",
            "v1beta10",
            "bar",
            "v01",
            "v3beta1",
        ];
        versions.sort_by(|a, b| by_preference(a, b));
        assert_eq!(
            versions,
            [
                "v10",
                "v2",
                "v1",
                "v3beta1",
                "v1beta10",
                "v1beta2",
                "v11alpha2",
                "v1alpha1",
                "bar",
                "foo",
                "v01"
            ]
        );
    }

    #[test]
    fn every_group_of_a_resource_has_its_place() {
        for row in resources() {
            let group = groups()
                .iter()
                .find(|group| group.name == row.group)
                .expect("a group in discovery's order");
            assert!(
                group.versions.iter().any(|version| version.name == row.version),
                "{row:?}"
            );
        }
        for group in groups() {
            assert!(!group.versions.is_empty(), "{} has no resources", group.name);
        }
    }

    #[test]
    fn every_hand_kept_name_is_of_a_resource() {
        for fact in facts::upstream() {
            let (group, plural) = match fact {
                Upstream::Names { group, plural, .. } | Upstream::Stored { group, plural, .. } => (group, plural),
                Upstream::Group { .. } | Upstream::Zeros { .. } | Upstream::Default { .. } => continue,
            };
            assert!(
                resources().iter().any(|row| (row.group, row.plural) == (group, plural)),
                "{group}/{plural}"
            );
        }
    }

    #[test]
    fn a_row_says_what_discovery_and_routes_need() {
        let pods = resource("", "v1", "pods");
        assert_eq!(
            (pods.kind, pods.singular.as_str(), pods.list_kind),
            ("Pod", "pod", Some("PodList"))
        );
        assert!(pods.namespaced && pods.served);
        assert_eq!(pods.short_names, ["po"]);
        assert_eq!(pods.categories, ["all"]);
        let eviction = pods
            .subresources
            .iter()
            .find(|sub| sub.name == "eviction")
            .expect("pods/eviction");
        assert_eq!(
            (eviction.group, eviction.version, eviction.kind),
            ("policy", "v1", "Eviction")
        );
        assert_eq!(eviction.verbs, ["create"]);
        let log = pods
            .subresources
            .iter()
            .find(|sub| sub.name == "log")
            .expect("pods/log");
        assert_eq!(log.ty, None);
        assert!(!resource("", "v1", "namespaces").verbs.contains(&"deletecollection"));
        assert!(!resource("resource.k8s.io", "v1beta1", "resourceclaims").served);
        assert_eq!(
            resource("autoscaling", "v1", "horizontalpodautoscalers").stored,
            ("autoscaling", "v2")
        );
        assert_eq!(resource("events.k8s.io", "v1", "events").stored, ("", "v1"));
        assert_eq!(
            resource("certificates.k8s.io", "v1beta1", "podcertificaterequests").stored,
            ("certificates.k8s.io", "v1beta1")
        );
    }
}
