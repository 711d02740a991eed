//! Which fields selectors of each built-in kind may use: upstream's field label conversions and `SelectableFields`.

use std::sync::Arc;

use super::{RowError, Table};
use crate::{
    Resource, Status,
    cache::{Cache, Fields, Selection, watchers::FieldRef},
    options::ListOptions,
    resource::Selectable,
};

/// Label, path in the stored object, and value where there is none.
type Row = (&'static str, &'static str, &'static str);

const fn same(path: &'static str) -> Row {
    (path, path, "")
}

const EVENT: &[Row] = &[
    same("involvedObject.kind"),
    same("involvedObject.namespace"),
    same("involvedObject.name"),
    same("involvedObject.uid"),
    same("involvedObject.apiVersion"),
    same("involvedObject.resourceVersion"),
    same("involvedObject.fieldPath"),
    same("reason"),
    same("reportingComponent"),
    ("source", "source.component", ""),
    same("type"),
];

const REGARDING_EVENT: &[Row] = &[
    ("regarding.kind", "involvedObject.kind", ""),
    ("regarding.namespace", "involvedObject.namespace", ""),
    ("regarding.name", "involvedObject.name", ""),
    ("regarding.uid", "involvedObject.uid", ""),
    ("regarding.apiVersion", "involvedObject.apiVersion", ""),
    ("regarding.resourceVersion", "involvedObject.resourceVersion", ""),
    ("regarding.fieldPath", "involvedObject.fieldPath", ""),
    same("reason"),
    ("reportingController", "reportingComponent", ""),
    same("type"),
];

const POD: &[Row] = &[
    same("spec.nodeName"),
    same("spec.restartPolicy"),
    same("spec.schedulerName"),
    same("spec.serviceAccountName"),
    ("spec.hostNetwork", "spec.hostNetwork", "false"),
    same("status.phase"),
    same("status.podIP"),
    same("status.nominatedNodeName"),
];

/// The fields of a kind, beside the common two.
fn rows(group: &str, kind: &str) -> Vec<Row> {
    match (group, kind) {
        ("", "Pod") => POD.to_vec(),
        ("", "Node") => vec![("spec.unschedulable", "spec.unschedulable", "false")],
        ("", "Namespace") => vec![same("status.phase")],
        ("", "Secret") => vec![same("type")],
        ("", "Service") => vec![same("spec.clusterIP"), same("spec.type")],
        ("", "Event") => EVENT.to_vec(),
        ("events.k8s.io", "Event") => REGARDING_EVENT.to_vec(),
        ("", "ReplicationController") | ("apps", "ReplicaSet") => vec![("status.replicas", "status.replicas", "0")],
        ("batch", "Job") => vec![("status.successful", "status.succeeded", "0")],
        ("certificates.k8s.io", "CertificateSigningRequest" | "ClusterTrustBundle") => vec![same("spec.signerName")],
        ("resource.k8s.io", "ResourceSlice") => vec![same("spec.nodeName"), same("spec.driver")],
        _ => Vec::new(),
    }
}

/// The fields of a built-in kind.
pub fn selectable(group: &str, kind: &str) -> Vec<Selectable> {
    rows(group, kind)
        .into_iter()
        .map(|(label, path, otherwise)| Selectable {
            label: label.into(),
            path: path.into(),
            otherwise,
        })
        .collect()
}

/// What a list or watch of `row` in `namespace` is about.
pub(super) fn selection(
    row: &Resource,
    cache: &Cache,
    namespace: &str,
    name: &str,
    options: &ListOptions,
) -> Result<Selection, Status> {
    let mut fields = Vec::with_capacity(options.fields.terms.len());
    for term in &options.fields.terms {
        let field = match &*term.field {
            "metadata.name" => FieldRef::Name,
            "metadata.namespace" => FieldRef::Namespace,
            "name" if matches!((&*row.group, &*row.kind), ("", "Namespace" | "PersistentVolume")) => FieldRef::Name,
            label => reference(row, cache, label).map_err(Status::bad_request)?,
        };
        fields.push((field, term.equal, Arc::from(&*term.value)));
    }
    let given = |text: &str| (!text.is_empty()).then(|| Arc::from(text));
    Ok(Selection {
        namespace: given(namespace),
        name: given(name),
        labels: options.labels.clone(),
        fields,
    })
}

fn reference(row: &Resource, cache: &Cache, label: &str) -> Result<FieldRef, String> {
    let known = row.selectable.iter().find(|field| &*field.label == label);
    let place = known.and_then(|field| Some(FieldRef::At(cache.field(&field.path)?, field.otherwise)));
    place.ok_or_else(|| {
        if row.selectable.is_empty() {
            format!("{label:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        } else {
            format!("field label not supported: {label}")
        }
    })
}

/// What the cache of a row's prefix must keep, for all versions.
pub(super) fn kept(table: &Table, row: &Resource) -> Result<Fields, RowError> {
    let mut paths: Vec<Arc<str>> = Vec::new();
    for field in table.versions(&row.prefix).flat_map(|row| &row.selectable) {
        if field.path.split('.').any(str::is_empty) {
            return Err(RowError::Path(field.path.to_string()));
        }
        if !paths.contains(&field.path) {
            paths.push(field.path.clone());
        }
    }
    Ok(Fields::new(paths.iter().map(|path| &**path)))
}
