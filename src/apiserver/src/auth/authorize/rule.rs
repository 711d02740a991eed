//! Rules of roles: what they allow, and whether some cover another.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use super::Attributes;

/// A rule of a role (`rbac.authorization.k8s.io/v1` `PolicyRule`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// What may be done; `*` for anything.
    pub verbs: Vec<String>,
    /// API groups; `*` for any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Such as `pods`, `pods/log`, `*/scale`; `*` for any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; none means any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths of other requests; a `*` at the end stands for anything.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
}

fn has(all: &[String], one: &str) -> bool {
    all.iter().any(|item| item == one)
}

/// Whether `all` names `one`, or has a `*`.
fn allows(all: &[String], one: &str) -> bool {
    all.iter().any(|item| item == "*" || item == one)
}

impl Rule {
    /// Whether it allows the request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !allows(&self.verbs, attributes.verb) {
            return false;
        }
        if !attributes.is_resource {
            return self.allows_path(attributes.path);
        }
        allows(&self.api_groups, attributes.group)
            && self.allows_resource(attributes.resource, attributes.subresource)
            && (self.resource_names.is_empty() || has(&self.resource_names, attributes.name))
    }

    fn allows_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|allowed| {
            if allowed == "*" {
                return true;
            }
            match allowed.split_once('/') {
                Some((of, part)) => !subresource.is_empty() && part == subresource && (of == "*" || of == resource),
                None => subresource.is_empty() && allowed == resource,
            }
        })
    }

    fn allows_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|allowed| path_covers(allowed, path))
    }

    /// Each thing it allows as a rule of its own.
    pub fn split(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for group in &self.api_groups {
                for resource in &self.resources {
                    let part = Self {
                        verbs: verbs.clone(),
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        parts.push(part.clone());
                    }
                    parts.extend(self.resource_names.iter().map(|name| Self {
                        resource_names: vec![name.clone()],
                        ..part.clone()
                    }));
                }
            }
            parts.extend(self.non_resource_urls.iter().map(|url| Self {
                verbs: verbs.clone(),
                non_resource_urls: vec![url.clone()],
                ..Self::default()
            }));
        }
        parts
    }

    /// Whether it allows all that `part`, one of [`Rule::split`], does.
    fn covers(&self, part: &Self) -> bool {
        let all = |ours: &[String], theirs: &[String]| theirs.iter().all(|one| allows(ours, one));
        let names = if part.resource_names.is_empty() {
            self.resource_names.is_empty()
        } else {
            self.resource_names.is_empty() || part.resource_names.iter().all(|name| has(&self.resource_names, name))
        };
        all(&self.verbs, &part.verbs)
            && all(&self.api_groups, &part.api_groups)
            && part.resources.iter().all(|resource| {
                allows(&self.resources, resource)
                    || resource
                        .split_once('/')
                        .is_some_and(|(_, subresource)| has(&self.resources, &format!("*/{subresource}")))
            })
            && part
                .non_resource_urls
                .iter()
                .all(|url| self.non_resource_urls.iter().any(|allowed| path_covers(allowed, url)))
            && names
    }
}

fn path_covers(allowed: &str, path: &str) -> bool {
    allowed == path
        || allowed
            .strip_suffix('*')
            .is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

/// What of `wanted` none of `held` allows, in parts; empty if all is covered.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    wanted
        .iter()
        .flat_map(Rule::split)
        .filter(|part| !held.iter().any(|rule| rule.covers(part)))
        .collect()
}

/// Parts that differ in their verb only, put together, each as upstream shows it, sorted.
pub fn describe(parts: &[Rule]) -> Vec<String> {
    let mut together: Vec<Rule> = Vec::new();
    for part in parts {
        let same = together.iter_mut().find(|rule| {
            part.non_resource_urls.is_empty()
                && (&rule.api_groups, &rule.resources, &rule.resource_names)
                    == (&part.api_groups, &part.resources, &part.resource_names)
        });
        match same {
            Some(rule) => rule.verbs.extend(part.verbs.iter().cloned()),
            None => together.push(part.clone()),
        }
    }
    let lines: BTreeSet<_> = together.iter().map(ToString::to_string).collect();
    lines.into_iter().collect()
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name}:{}", quoted(values)))
        .collect();
        write!(f, "{{{}}}", parts.join(", "))
    }
}

/// `["a" "b"]`, as Go's `%q` shows a list.
pub(crate) fn quoted(values: &[String]) -> String {
    let values: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", values.join(" "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::User;

    fn list(text: &str) -> Vec<String> {
        text.split(',')
            .filter(|item| !item.is_empty())
            .map(|item| item.trim_matches('\'').to_owned())
            .collect()
    }

    /// Groups are written with quotes, as the core group's name is empty.
    fn rule(verbs: &str, groups: &str, resources: &str, names: &str, urls: &str) -> Rule {
        Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: list(names),
            non_resource_urls: list(urls),
        }
    }

    #[test]
    fn a_rule_allows_what_it_names() {
        let user = User::default();
        let rule = rule("get,list", "'',apps", "pods,deployments/status,*/scale", "", "");
        let table = [
            ("get", "", "pods", "", true),
            ("get", "", "pods", "log", false),
            ("watch", "", "pods", "", false),
            ("get", "batch", "pods", "", false),
            ("get", "apps", "deployments", "", false),
            ("get", "apps", "deployments", "status", true),
            ("list", "apps", "replicasets", "scale", true),
            ("get", "apps", "scale", "", false),
        ];
        for (verb, group, resource, subresource, allowed) in table {
            let attributes = Attributes {
                verb,
                group,
                resource,
                subresource,
                ..Attributes::resource(&user)
            };
            assert_eq!(
                rule.allows(&attributes),
                allowed,
                "{verb} {group} {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn names_and_stars_count() {
        let user = User::default();
        let attributes = |name| Attributes {
            verb: "get",
            resource: "secrets",
            name,
            ..Attributes::resource(&user)
        };
        let named = rule("*", "*", "*", "a,b", "");
        assert!(named.allows(&attributes("a")));
        assert!(!named.allows(&attributes("c")));
        assert!(!named.allows(&attributes("")), "a list has no name");
        let path = |path| Attributes {
            verb: "get",
            path,
            ..Attributes::path(&user)
        };
        assert!(
            !rule("*", "*", "*", "", "").allows(&path("/healthz")),
            "resources are no paths"
        );
        let urls = rule("get", "", "", "", "/healthz,/api/*");
        for (at, allowed) in [
            ("/healthz", true),
            ("/healthz/x", false),
            ("/api/v1", true),
            ("/api", false),
            ("/apis", false),
        ] {
            assert_eq!(urls.allows(&path(at)), allowed, "{at}");
        }
        assert!(rule("*", "", "", "", "*").allows(&path("/anything")));
    }

    #[test]
    fn what_is_missing_is_told_as_upstream_does() {
        let held = [rule("get,list", "''", "pods,*/status", "", "/healthz*")];
        let held: Vec<Rule> = held
            .into_iter()
            .map(|rule| Rule {
                api_groups: vec![String::new()],
                ..rule
            })
            .collect();
        let wanted = [
            Rule {
                verbs: list("get,delete,create"),
                api_groups: vec![String::new()],
                resources: list("pods,nodes/status"),
                ..Rule::default()
            },
            rule("get", "", "", "", "/healthz/ping,/metrics"),
        ];
        assert_eq!(
            describe(&missing(&held, &wanted)),
            [
                r#"{APIGroups:[""], Resources:["nodes/status"], Verbs:["delete" "create"]}"#,
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "create"]}"#,
                r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#,
            ]
        );
    }

    #[test]
    fn any_name_is_more_than_some() {
        let some = rule("get", "*", "secrets", "a,b", "");
        let any = rule("get", "*", "secrets", "", "");
        assert!(missing(std::slice::from_ref(&any), std::slice::from_ref(&some)).is_empty());
        assert_eq!(
            missing(std::slice::from_ref(&some), std::slice::from_ref(&any)).len(),
            1
        );
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let words = |choices: &'static [&'static str]| {
            proptest::collection::vec(proptest::sample::select(choices).prop_map(str::to_owned), 1..3)
        };
        (
            words(&["get", "list", "*"]),
            words(&["", "apps", "*"]),
            words(&["pods", "pods/log", "*/log", "*"]),
            proptest::collection::vec("[ab]", 0..2),
        )
            .prop_map(|(verbs, api_groups, resources, resource_names)| Rule {
                verbs,
                api_groups,
                resources,
                resource_names,
                ..Rule::default()
            })
    }

    proptest! {
        #[test]
        fn rules_cover_themselves(rules in proptest::collection::vec(any_rule(), 1..4)) {
            prop_assert_eq!(missing(&rules, &rules), vec![]);
        }

        /// Nothing is granted that its giver could not do: the property the check is there for.
        #[test]
        fn who_is_covered_can_do_no_more(
            held in proptest::collection::vec(any_rule(), 1..4), wanted in any_rule(),
            verb in "(get|list|watch)", group in "(|apps|batch)", resource in "(pods|nodes)", sub in "(|log)", name in "(|a|b|c)",
        ) {
            let user = User::default();
            let attributes = Attributes {
                verb: &verb, group: &group, resource: &resource, subresource: &sub, name: &name,
                ..Attributes::resource(&user)
            };
            if missing(&held, std::slice::from_ref(&wanted)).is_empty() && wanted.allows(&attributes) {
                prop_assert!(held.iter().any(|rule| rule.allows(&attributes)));
            }
        }
    }
}
