//! Which kinds the API serves, built-in and custom.

use bosun_client::{CallError, call::call};
use kube::{Client, client::APIGroupDiscovery, core::ApiResource};

/// A kind that the API serves, in the version that it prefers.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// Its names.
    pub api: ApiResource,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What may be done to them.
    pub verbs: Vec<String>,
}

impl Kind {
    /// Whether all of this may be done.
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.iter().any(|served| served == verb))
    }
}

/// What is served.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Served {
    /// Every kind once.
    pub kinds: Vec<Kind>,
    /// Versions of groups whose servers could not be asked, as `group/version`.
    pub unknown: Vec<String>,
}

impl Served {
    /// Asks the API, in two requests.
    pub async fn read(client: &Client) -> Result<Self, CallError> {
        let core = call(client.list_core_api_versions_aggregated()).await?;
        let named = call(client.list_api_groups_aggregated()).await?;
        Ok(Self::of(core.items.iter().chain(&named.items)))
    }

    fn of<'a>(groups: impl Iterator<Item = &'a APIGroupDiscovery>) -> Self {
        let mut served = Self::default();
        for group in groups {
            let name = group
                .metadata
                .as_ref()
                .and_then(|meta| meta.name.clone())
                .unwrap_or_default();
            let begin = served.kinds.len();
            // The preferred version comes first.
            for version in &group.versions {
                let number = version.version.clone().unwrap_or_default();
                if version.freshness.as_deref() == Some("Stale") {
                    served.unknown.push(format!("{name}/{number}"));
                }
                for resource in &version.resources {
                    let plural = resource.resource.clone().unwrap_or_default();
                    if served.kinds[begin..].iter().any(|kind| kind.api.plural == plural) {
                        continue;
                    }
                    let kind = resource.response_kind.as_ref().and_then(|kind| kind.kind.clone());
                    let api_version = if name.is_empty() {
                        number.clone()
                    } else {
                        format!("{name}/{number}")
                    };
                    served.kinds.push(Kind {
                        api: ApiResource {
                            group: name.clone(),
                            version: number.clone(),
                            api_version,
                            kind: kind.unwrap_or_default(),
                            plural,
                        },
                        namespaced: resource.scope.as_deref() == Some("Namespaced"),
                        verbs: resource.verbs.clone(),
                    });
                }
            }
        }
        served
    }

    /// The kind of an object or a reference to one, whatever version it names.
    pub fn find(&self, api_version: &str, kind: &str) -> Option<&Kind> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        self.kinds
            .iter()
            .find(|served| served.api.group == group && served.api.kind == kind)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_is_taken_once_in_its_preferred_version() {
        let resource = |plural: &str, kind: &str, scope: &str| json!({"resource": plural, "responseKind": {"kind": kind}, "scope": scope, "verbs": ["list", "watch"]});
        let groups: Vec<APIGroupDiscovery> = serde_json::from_value(json!([
            {"metadata": {}, "versions": [{"version": "v1", "resources": [resource("pods", "Pod", "Namespaced")]}]},
            {"metadata": {"name": "example.org"}, "versions": [
                {"version": "v2", "resources": [resource("things", "Thing", "Cluster")]},
                {"version": "v1", "freshness": "Stale", "resources": [
                    resource("things", "Thing", "Cluster"), resource("pods", "Pod", "Namespaced"),
                ]},
            ]},
        ]))
        .expect("valid discovery");
        let served = Served::of(groups.iter());
        let names: Vec<_> = served
            .kinds
            .iter()
            .map(|kind| format!("{} {}", kind.api.api_version, kind.api.plural))
            .collect();
        assert_eq!(names, ["v1 pods", "example.org/v2 things", "example.org/v1 pods"]);
        assert_eq!(served.unknown, ["example.org/v1"]);
        assert!(served.kinds[0].namespaced && !served.kinds[1].namespaced);
        assert!(served.kinds[0].can(&["list", "watch"]) && !served.kinds[0].can(&["list", "delete"]));
        let found = served.find("example.org/v1", "Thing").expect("it is served");
        assert_eq!(found.api.version, "v2");
        assert_eq!(served.find("v1", "Thing"), None);
    }
}
