//! A definition as rows of the table of kinds: one for each version that is served.

use std::{cmp::Ordering, sync::Arc};

use bosun_schema::custom::{CustomVersion, Definition, JsonPath, Scale};

use super::{Custom, strategy::Defined};
use crate::{
    Resource, Scope,
    registry::builtin,
    resource::{ScalePaths, Selectable, Subresource},
};

/// What may be done with every custom resource.
const VERBS: [&str; 8] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// And with its subresources.
const PART_VERBS: [&str; 3] = ["get", "patch", "update"];

/// The rows, the preferred version first.
pub(super) fn rows(definition: &Arc<Definition>) -> Vec<Arc<Resource>> {
    let mut served: Vec<usize> = (0..definition.versions.len())
        .filter(|at| definition.versions[*at].served)
        .collect();
    served.sort_by(|a, b| by_priority(&definition.versions[*a].name, &definition.versions[*b].name));
    served.into_iter().map(|at| Arc::new(row(definition, at))).collect()
}

fn row(definition: &Arc<Definition>, at: usize) -> Resource {
    let version = &definition.versions[at];
    let (group, names): (Arc<str>, _) = (definition.group.as_str().into(), &definition.names);
    let text = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    let stored = definition.storage().map_or(&*version.name, |stored| &stored.name);
    Resource {
        version: version.name.as_str().into(),
        kind: names.kind.as_str().into(),
        list_kind: names.list_kind.as_str().into(),
        plural: names.plural.as_str().into(),
        singular: names.singular.as_str().into(),
        short_names: text(&names.short_names),
        categories: text(&names.categories),
        scope: if definition.namespaced {
            Scope::Namespaced
        } else {
            Scope::Cluster
        },
        verbs: VERBS.map(Into::into).to_vec(),
        subresources: subresources(definition, version),
        types: version.types.clone(),
        ty: version.ty,
        strategy: Arc::new(Defined::new(definition.clone(), at)),
        selectable: version.selectable.iter().filter_map(selectable).collect(),
        prefix: builtin::prefix(&group, &names.plural),
        storage: version.storage,
        stored_api_version: format!("{group}/{stored}").into(),
        custom: Some(Custom {
            definition: definition.clone(),
            version: at,
        }),
        group,
    }
}

fn subresources(definition: &Definition, version: &CustomVersion) -> Vec<Subresource> {
    let part = |name: &str, kind: (&str, &str, &str), scale| Subresource {
        name: name.into(),
        kind: (kind.0.into(), kind.1.into(), kind.2.into()),
        verbs: PART_VERBS.map(Into::into).to_vec(),
        scale,
    };
    let mut parts = Vec::new();
    if let Some(paths) = version.scale.as_ref().and_then(scale) {
        parts.push(part("scale", ("autoscaling", "v1", "Scale"), Some(paths)));
    }
    if version.status {
        let own = (&*definition.group, &*version.name, &*definition.names.kind);
        parts.push(part("status", own, None));
    }
    parts
}

fn scale(scale: &Scale) -> Option<ScalePaths> {
    Some(ScalePaths {
        spec_replicas: dotted(&scale.spec_replicas)?,
        status_replicas: dotted(&scale.status_replicas)?,
        selector: scale.label_selector.as_ref().and_then(dotted),
    })
}

fn selectable(path: &JsonPath) -> Option<Selectable> {
    let path = dotted(path)?;
    Some(Selectable {
        label: path.clone(),
        path,
        otherwise: "",
    })
}

fn dotted(path: &JsonPath) -> Option<Arc<str>> {
    Some(path.fields()?.join(".").into())
}

/// Upstream's order of versions: `v2`, `v1`, `v2beta1`, `v1beta2`, `v1alpha1`, then others by their names.
fn by_priority(a: &str, b: &str) -> Ordering {
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// How mature a version is, and its numbers.
fn rank(version: &str) -> Option<(u8, u64, u64)> {
    let number = |text: &str| -> Option<u64> {
        let plain = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| plain)
    };
    let rest = version.strip_prefix('v')?;
    for (word, maturity) in [("beta", 2), ("alpha", 1)] {
        if let Some((major, minor)) = rest.split_once(word) {
            return Some((maturity, number(major)?, number(minor)?));
        }
    }
    Some((3, number(rest)?, 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_ordered_as_upstream_orders_them() {
        let mut versions = [
            "foo1", "v1alpha1", "v1", "v11", "v1beta2", "v2beta1", "v10", "v02", "v2",
        ];
        versions.sort_by(|a, b| by_priority(a, b));
        assert_eq!(
            versions,
            [
                "v11", "v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo1", "v02"
            ]
        );
    }

    #[test]
    fn each_served_version_is_a_row_and_all_are_stored_as_one() {
        let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}, "color": {"type": "string"}}},
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}}
        }}});
        let definition = Definition::parse(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
                "versions": [
                    {"name": "v1alpha1", "served": false, "storage": false, "schema": schema},
                    {"name": "v1beta1", "served": true, "storage": true, "schema": schema},
                    {
                        "name": "v1", "served": true, "storage": false, "schema": schema,
                        "selectableFields": [{"jsonPath": ".spec.color"}],
                        "subresources": {"status": {}, "scale": {
                            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"
                        }}
                    }
                ]
            }
        }))
        .expect("a good definition");
        let rows = rows(&Arc::new(definition));
        let versions: Vec<_> = rows.iter().map(|row| (&*row.version, row.storage)).collect();
        assert_eq!(versions, [("v1", false), ("v1beta1", true)]);
        let row = &rows[0];
        assert_eq!(&*row.prefix, "/registry/example.com/widgets/");
        assert_eq!(&*row.stored_api_version, "example.com/v1beta1");
        assert_eq!((&*row.singular, &*row.list_kind), ("widget", "WidgetList"));
        let parts: Vec<_> = row.subresources.iter().map(|part| &*part.name).collect();
        assert_eq!(parts, ["scale", "status"]);
        let paths = row.subresources[0].scale.as_ref().expect("paths");
        assert_eq!(&*paths.spec_replicas, "spec.replicas");
        assert_eq!(&*row.selectable[0].label, "spec.color");
        assert!(rows[1].subresources.is_empty());
    }
}
