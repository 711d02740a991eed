use bosun_schema::{Shape, Type, Types};

use super::*;
use crate::resource::Subresource;

struct Plain;

impl bosun_kinds::Strategy for Plain {}

fn row(
    group: &str,
    version: &str,
    kind: &str,
    plural: &str,
    scope: Scope,
    subresources: Vec<Subresource>,
) -> Arc<Resource> {
    let mut types = Types::default();
    let ty = types.add(Type {
        name: None,
        shape: Shape::Any,
        nullable: false,
    });
    Arc::new(Resource {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        plural: plural.into(),
        singular: kind.to_lowercase().into(),
        short_names: if kind == "Pod" { vec!["po".into()] } else { Vec::new() },
        categories: Vec::new(),
        scope,
        verbs: vec!["get".into(), "list".into()],
        subresources,
        types: Arc::new(types),
        ty,
        strategy: Arc::new(Plain),
        selectable: Vec::new(),
        stored_api_version: version.into(),
        prefix: format!("/registry/{plural}/").into(),
        storage: true,
    })
}

fn documents() -> Documents {
    let scale = Subresource {
        name: "scale".into(),
        kind: ("autoscaling".into(), "v1".into(), "Scale".into()),
        verbs: vec!["get".into()],
        scale: None,
    };
    let status = Subresource {
        name: "status".into(),
        kind: ("".into(), "v1".into(), "Pod".into()),
        verbs: vec!["get".into()],
        scale: None,
    };
    let rows = [
        row("", "v1", "Pod", "pods", Scope::Namespaced, vec![status]),
        row("", "v1", "Node", "nodes", Scope::Cluster, Vec::new()),
        row(
            "apps",
            "v1",
            "Deployment",
            "deployments",
            Scope::Namespaced,
            vec![scale],
        ),
        row("events.k8s.io", "v1", "Event", "events", Scope::Namespaced, Vec::new()),
    ];
    Documents::new(&rows, "10.0.0.1:6443")
}

fn json(document: Option<&Document>) -> Value {
    serde_json::from_slice(&document.expect("a document").body).unwrap()
}

#[test]
fn a_groups_resources_are_listed_with_their_subresources() {
    let documents = documents();
    assert_eq!(
        json(documents.plain("/api/v1")),
        json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "nodes", "singularName": "node", "namespaced": false, "kind": "Node", "verbs": ["get", "list"],
             "storageVersionHash": "XwShjMxG9Fs="},
            {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get", "list"],
             "shortNames": ["po"], "storageVersionHash": "xPOwRZ+Yhw8="},
            {"name": "pods/status", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"]},
        ]})
    );
    let apps = json(documents.plain("/apis/apps/v1"));
    assert_eq!(
        apps["resources"][1],
        json!({"name": "deployments/scale", "singularName": "", "namespaced": true, "group": "autoscaling",
               "version": "v1", "kind": "Scale", "verbs": ["get"]})
    );
}

#[test]
fn groups_are_listed_in_the_tables_order() {
    let documents = documents();
    let groups = json(documents.plain("/apis"));
    assert_eq!(groups["groups"][0]["name"], "apps");
    assert_eq!(
        groups["groups"][1]["preferredVersion"],
        json!({"groupVersion": "events.k8s.io/v1", "version": "v1"})
    );
    assert_eq!(json(documents.plain("/apis/apps"))["kind"], "APIGroup");
    assert_eq!(json(documents.plain("/api"))["versions"], json!(["v1"]));
    assert!(documents.plain("/apis/batch").is_none());
}

#[test]
fn the_aggregated_document_holds_them_all_and_changes_its_tag_with_them() {
    let documents = documents();
    let core = json(documents.aggregated("/api", "v2"));
    assert_eq!(
        core["items"][0]["versions"][0]["resources"][1],
        json!({
            "resource": "pods", "responseKind": {"group": "", "version": "v1", "kind": "Pod"}, "scope": "Namespaced",
            "singularResource": "pod", "verbs": ["get", "list"], "shortNames": ["po"],
            "subresources": [{"subresource": "status",
                              "responseKind": {"group": "", "version": "v1", "kind": "Pod"}, "verbs": ["get"]}],
        })
    );
    let named = json(documents.aggregated("/apis", "v2"));
    assert_eq!(named["items"].as_array().unwrap().len(), 2);
    let (v2, v1) = (
        documents.aggregated("/apis", "v2"),
        documents.aggregated("/apis", "v2beta1"),
    );
    assert_ne!(v2.unwrap().etag, v1.unwrap().etag);
    assert!(v2.unwrap().etag.starts_with('"') && v2.unwrap().etag.len() == 66);
}
