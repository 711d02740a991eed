//! The roles and bindings that every cluster has, and how they are kept: upstream's, as facts in `policy.txt`, and few of
//! ours. At each start what is missing in them is added, unless an object's annotation
//! `rbac.authorization.kubernetes.io/autoupdate` says `"false"`; nothing that was added by others is taken away.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{
    rbac::{GROUP, decode},
    rule::Rule,
};

const POLICY: &str = include_str!("bootstrap/policy.txt");
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

static OBJECTS: LazyLock<Vec<(&'static str, Value)>> = LazyLock::new(|| parse(POLICY));
static NODE_RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let node = OBJECTS
        .iter()
        .find(|(plural, object)| *plural == "clusterroles" && object["metadata"]["name"] == "system:node");
    decode(&node.expect("the table has the nodes' role").1["rules"])
});

/// All of them, each with its plural: roles before the bindings that name them.
pub fn objects() -> &'static [(&'static str, Value)] {
    &OBJECTS
}

/// What the role `system:node` allows, which nodes have by the node authorizer.
pub fn node_rules() -> &'static [Rule] {
    &NODE_RULES
}

/// What is to be done about one of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It is as it must be, or is not to be touched.
    Keep,
    /// It is missing.
    Create(Value),
    /// Something in it is missing.
    Update(Value),
    /// It gives another role, which an update can't change: delete it, then create this.
    Replace(Value),
}

/// Compares one with what is stored.
pub fn reconcile(wanted: &Value, stored: Option<&Value>) -> Step {
    let Some(stored) = stored else {
        return Step::Create(wanted.clone());
    };
    if stored["metadata"]["annotations"][AUTO_UPDATE] == "false" {
        return Step::Keep;
    }
    if wanted.get("roleRef").is_some_and(|role| *role != stored["roleRef"]) {
        let mut new = wanted.clone();
        new["subjects"] = union(&stored["subjects"], &wanted["subjects"]);
        return Step::Replace(new);
    }
    let mut new = stored.clone();
    for of in ["labels", "annotations"] {
        for (key, value) in wanted["metadata"][of].as_object().into_iter().flatten() {
            if stored["metadata"][of].get(key).is_none() {
                new["metadata"][of][key] = value.clone();
            }
        }
    }
    if wanted.get("subjects").is_some() {
        new["subjects"] = union(&stored["subjects"], &wanted["subjects"]);
    }
    if let Some(rule) = wanted.get("aggregationRule") {
        let of = "clusterRoleSelectors";
        new["aggregationRule"][of] = union(&stored["aggregationRule"][of], &rule[of]);
    } else if wanted.get("rules").is_some() {
        let (has, wants): (Vec<Rule>, Vec<Rule>) = (decode(&stored["rules"]), decode(&wanted["rules"]));
        let lacking: Vec<_> = wants
            .into_iter()
            .filter(|rule| !super::rule::missing(&has, std::slice::from_ref(rule)).is_empty())
            .collect();
        if !lacking.is_empty() {
            new["rules"] = json!([has, lacking].concat());
        }
    }
    if new == *stored { Step::Keep } else { Step::Update(new) }
}

/// What is there, then what is missing.
fn union(stored: &Value, wanted: &Value) -> Value {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut all = list(stored);
    for item in list(wanted) {
        if !all.contains(&item) {
            all.push(item);
        }
    }
    if all.is_empty() { stored.clone() } else { all.into() }
}

/// Reads the table. It is ours: what is wrong with it is a fault of the program, and a test finds it.
fn parse(table: &str) -> Vec<(&'static str, Value)> {
    let mut objects: Vec<(&'static str, Value)> = Vec::new();
    let mut bindings: Vec<(&'static str, Value)> = Vec::new();
    for line in table
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let mut words = line.split_whitespace();
        let first = words.next().expect("a line that is not empty");
        let words: Vec<&str> = words.collect();
        match first {
            "clusterrole" => {
                let mut role = object("ClusterRole", "", words[0]);
                for word in &words[1..] {
                    let (what, to) = word.split_once('=').expect("to=… or from=…");
                    let label = format!("{GROUP_LABEL}/aggregate-to-{to}");
                    if what == "to" {
                        role["metadata"]["labels"][label] = "true".into();
                    } else {
                        let labels = Map::from_iter([(label, "true".into())]);
                        role["aggregationRule"] = json!({"clusterRoleSelectors": [{ "matchLabels": labels }]});
                    }
                }
                if role.get("aggregationRule").is_none() {
                    role["rules"] = json!([]);
                }
                objects.push(("clusterroles", role));
            }
            "role" => {
                let (namespace, name) = words[0].split_once('/').expect("namespace/name");
                let mut role = object("Role", namespace, name);
                role["rules"] = json!([]);
                objects.push(("roles", role));
            }
            "controller" => {
                let name = format!("system:controller:{}", words[0]);
                let mut role = object("ClusterRole", "", &name);
                role["rules"] = json!([]);
                objects.push(("clusterroles", role));
                let subject = format!("sa:kube-system/{}", words[0]);
                bindings.push((
                    "clusterrolebindings",
                    binding("", &name, "ClusterRole", &name, &[&subject]),
                ));
            }
            "bind" => {
                let (kind, role) = words[0].split_once(':').expect("kind:role");
                let kind = if kind == "role" { "Role" } else { "ClusterRole" };
                let (namespace, name) = words[1].split_once('/').unwrap_or(("", words[1]));
                let plural = if namespace.is_empty() {
                    "clusterrolebindings"
                } else {
                    "rolebindings"
                };
                bindings.push((plural, binding(namespace, name, kind, role, &words[2..])));
            }
            _ => {
                let rule = rule(first, &words);
                let (_, role) = objects.last_mut().expect("a role comes before its rules");
                role["rules"]
                    .as_array_mut()
                    .expect("a role with rules")
                    .push(json!(rule));
            }
        }
    }
    objects.append(&mut bindings);
    objects
}

/// Of the labels that aggregate.
const GROUP_LABEL: &str = GROUP;

/// `verbs groups resources [names]`, or `verbs @ paths`.
fn rule(verbs: &str, words: &[&str]) -> Rule {
    let list = |text: &str| {
        let mut all: Vec<String> = text
            .split(',')
            .flat_map(|word| {
                match word {
                    "READ" => "get,list,watch",
                    "WRITE" => "create,delete,deletecollection,patch,update",
                    "core" => "",
                    other => other,
                }
                .split(',')
            })
            .map(str::to_owned)
            .collect();
        all.sort_unstable();
        all
    };
    match *words {
        ["@", paths] => Rule {
            verbs: list(verbs),
            non_resource_urls: list(paths),
            ..Rule::default()
        },
        [groups, resources] | [groups, resources, _] => Rule {
            verbs: list(verbs),
            api_groups: list(groups),
            resources: list(resources),
            resource_names: words.get(2).map_or_else(Vec::new, |names| list(names)),
            ..Rule::default()
        },
        _ => panic!("a rule has verbs, groups and resources, or paths: {verbs} {words:?}"),
    }
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {AUTO_UPDATE: "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": metadata})
}

/// Subjects are `user:name`, `group:name` and `sa:namespace/name`.
fn binding(namespace: &str, name: &str, role_kind: &str, role: &str, subjects: &[&str]) -> Value {
    let kind = if namespace.is_empty() {
        "ClusterRoleBinding"
    } else {
        "RoleBinding"
    };
    let mut binding = object(kind, namespace, name);
    binding["roleRef"] = json!({"apiGroup": GROUP, "kind": role_kind, "name": role});
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|subject| {
            let (kind, name) = subject.split_once(':').expect("kind:name");
            match kind {
                "user" => json!({"kind": "User", "apiGroup": GROUP, "name": name}),
                "group" => json!({"kind": "Group", "apiGroup": GROUP, "name": name}),
                _ => {
                    let (namespace, name) = name.split_once('/').expect("namespace/name");
                    json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
                }
            }
        })
        .collect();
    if !subjects.is_empty() {
        binding["subjects"] = subjects.into();
    }
    binding
}

#[cfg(test)]
mod tests;
