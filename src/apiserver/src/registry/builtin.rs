//! The rows of the built-in kinds: facts of the schema, with each kind's strategy.

use std::sync::Arc;

use bosun_schema::{ResourceFacts, SubresourceFacts, Types, resources};

use super::fields;
use crate::{
    Resource, Scope,
    cache::feed::ROOT,
    resource::{ScalePaths, Subresource},
};

/// Every resource that upstream serves by default.
pub fn rows() -> Vec<Arc<Resource>> {
    resources()
        .iter()
        .filter(|facts| facts.served)
        .map(|facts| Arc::new(row(facts)))
        .collect()
}

fn row(facts: &ResourceFacts) -> Resource {
    let stored = facts.stored;
    let storage = stored == (facts.group, facts.version);
    Resource {
        group: facts.group.into(),
        version: facts.version.into(),
        kind: facts.kind.into(),
        list_kind: facts
            .list_kind
            .map_or_else(|| format!("{}List", facts.kind).into(), Into::into),
        plural: facts.plural.into(),
        singular: facts.singular.as_str().into(),
        short_names: facts.short_names.iter().map(|&name| name.into()).collect(),
        categories: facts.categories.iter().map(|&name| name.into()).collect(),
        scope: if facts.namespaced {
            Scope::Namespaced
        } else {
            Scope::Cluster
        },
        verbs: facts.verbs.iter().map(|&verb| verb.into()).collect(),
        subresources: facts.subresources.iter().map(subresource).collect(),
        types: Types::builtin().clone(),
        ty: facts.ty,
        strategy: bosun_kinds::strategy(facts.group, facts.kind),
        selectable: fields::selectable(facts.group, facts.kind),
        prefix: prefix(stored.0, facts.plural),
        storage,
        stored_api_version: match stored {
            ("", version) => version.into(),
            (group, version) => format!("{group}/{version}").into(),
        },
    }
}

/// Where objects of a resource are stored.
pub fn prefix(group: &str, plural: &str) -> Arc<str> {
    let group = if group.is_empty() { "core" } else { group };
    format!("{ROOT}{group}/{plural}/").into()
}

fn subresource(sub: &SubresourceFacts) -> Subresource {
    let scale = (sub.name == "scale").then(|| ScalePaths {
        spec_replicas: "spec.replicas".into(),
        status_replicas: "status.replicas".into(),
        selector: Some("spec.selector".into()),
    });
    Subresource {
        name: sub.name.into(),
        kind: (sub.group.into(), sub.version.into(), sub.kind.into()),
        verbs: sub.verbs.iter().map(|&verb| verb.into()).collect(),
        scale,
    }
}
