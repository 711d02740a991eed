//! What is served, told to clients: the documents below `/api` and `/apis`, aggregated (`apidiscovery.k8s.io`) and one by
//! one, and `/version`. Pure: made from the rows of the table of kinds whenever these change.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{Resource, Scope};

/// Every document of discovery, as it is sent.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    /// `/api` and `/apis`, aggregated, by path, in each of [`AGGREGATED`]'s versions.
    aggregated: BTreeMap<(&'static str, &'static str), Document>,
    /// By path: `/api`, `/api/v1`, `/apis`, `/apis/apps`, `/apis/apps/v1`.
    plain: BTreeMap<String, Document>,
}

/// One document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// As JSON.
    pub body: Bytes,
    /// In quotes, as `ETag` has it.
    pub etag: String,
}

/// The versions of aggregated discovery, the preferred one first.
pub const AGGREGATED: [&str; 2] = ["v2", "v2beta1"];

/// The media type of aggregated discovery in one of its versions.
pub fn aggregated_media_type(version: &str) -> String {
    format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList")
}

/// A group with its versions, the preferred one first, each with its rows.
struct Group<'a> {
    name: &'a str,
    versions: Vec<(&'a str, Vec<&'a Resource>)>,
}

impl Documents {
    /// Tells of these rows. Groups and versions are told in the order of their first rows; `address` is where clients
    /// reach the server, such as `10.0.0.1:6443`.
    pub fn new(rows: &[Arc<Resource>], address: &str) -> Self {
        let groups = groups(rows);
        let core = || groups.iter().filter(|group| group.name.is_empty());
        let named = || groups.iter().filter(|group| !group.name.is_empty());
        let mut documents = Self::default();
        for version in AGGREGATED {
            for (path, items) in [
                ("/api", core().map(aggregated).collect::<Vec<_>>()),
                ("/apis", named().map(aggregated).collect()),
            ] {
                let list = json!({
                    "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
                    "metadata": {}, "items": items,
                });
                documents.aggregated.insert((path, version), Document::new(&list));
            }
        }
        let mut plain = |path: String, value: &Value| documents.plain.insert(path, Document::new(value));
        plain(
            "/api".to_owned(),
            &json!({
                "kind": "APIVersions",
                "versions": core().flat_map(|group| &group.versions).map(|(version, _)| version).collect::<Vec<_>>(),
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
            }),
        );
        let api_groups: Vec<_> = named().map(Group::plain).collect();
        plain(
            "/apis".to_owned(),
            &json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": api_groups}),
        );
        for group in &groups {
            if !group.name.is_empty() {
                let mut value = json!({"kind": "APIGroup", "apiVersion": "v1"});
                merge(&mut value, group.plain());
                plain(format!("/apis/{}", group.name), &value);
            }
            for (version, rows) in &group.versions {
                plain(group.path(version), &resource_list(group, version, rows));
            }
        }
        documents
    }

    /// The aggregated document of `/api` or `/apis`.
    pub fn aggregated(&self, path: &str, version: &str) -> Option<&Document> {
        let found = self.aggregated.iter().find(|(key, _)| **key == (path, version));
        found.map(|(_, document)| document)
    }

    /// The document of a path without a trailing slash.
    pub fn plain(&self, path: &str) -> Option<&Document> {
        self.plain.get(path)
    }

    /// The paths of all documents.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.plain.keys().map(String::as_str)
    }
}

impl Document {
    /// With the hash of its text as its tag.
    pub fn new(value: &Value) -> Self {
        let body = serde_json::to_vec(value).expect("a value is JSON");
        Self {
            etag: format!("\"{}\"", hash(&body)),
            body: body.into(),
        }
    }
}

/// SHA-256 in capitals, as upstream writes its hashes of documents.
pub fn hash(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(text, "{byte:02X}");
    }
    text
}

fn groups(rows: &[Arc<Resource>]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows {
        let at = groups.iter().position(|group| group.name == &*row.group);
        let at = at.unwrap_or_else(|| {
            groups.push(Group {
                name: &row.group,
                versions: Vec::new(),
            });
            groups.len() - 1
        });
        let versions = &mut groups[at].versions;
        match versions.iter_mut().find(|(version, _)| *version == &*row.version) {
            Some((_, rows)) => rows.push(row),
            None => versions.push((&row.version, vec![row])),
        }
    }
    for (_, rows) in groups.iter_mut().flat_map(|group| &mut group.versions) {
        rows.sort_by(|a, b| a.plural.cmp(&b.plural));
    }
    groups
}

impl Group<'_> {
    fn group_version(&self, version: &str) -> String {
        if self.name.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.name)
        }
    }

    fn path(&self, version: &str) -> String {
        let top = if self.name.is_empty() { "/api" } else { "/apis" };
        format!("{top}/{}", self.group_version(version))
    }

    /// As in `APIGroupList`.
    fn plain(&self) -> Value {
        let version = |version: &str| json!({"groupVersion": self.group_version(version), "version": version});
        let versions: Vec<_> = self.versions.iter().map(|(name, _)| version(name)).collect();
        json!({"name": self.name, "versions": versions, "preferredVersion": versions.first()})
    }
}

/// As in `APIGroupDiscoveryList`.
fn aggregated(group: &Group<'_>) -> Value {
    let versions = group.versions.iter().map(|(version, rows)| {
        let resources: Vec<_> = rows.iter().map(|row| aggregated_resource(row)).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    });
    json!({"metadata": {"name": group.name}, "versions": versions.collect::<Vec<_>>()})
}

fn aggregated_resource(row: &Resource) -> Value {
    let mut value = json!({
        "resource": row.plural,
        "responseKind": {"group": row.group, "version": row.version, "kind": row.kind},
        "scope": match row.scope { Scope::Namespaced => "Namespaced", Scope::Cluster => "Cluster" },
        "singularResource": row.singular,
        "verbs": row.verbs,
    });
    names(&mut value, row);
    if !row.subresources.is_empty() {
        let subresources = row.subresources.iter().map(|sub| {
            let (group, version, kind) = &sub.kind;
            json!({
                "subresource": sub.name,
                "responseKind": {"group": group, "version": version, "kind": kind},
                "verbs": sub.verbs,
            })
        });
        value["subresources"] = subresources.collect();
    }
    value
}

fn resource_list(group: &Group<'_>, version: &str, rows: &[&Resource]) -> Value {
    let mut value = json!({"kind": "APIResourceList"});
    if !group.name.is_empty() {
        value["apiVersion"] = "v1".into();
    }
    value["groupVersion"] = group.group_version(version).into();
    let mut resources = Vec::new();
    for row in rows {
        let namespaced = row.scope == Scope::Namespaced;
        let mut resource = json!({
            "name": row.plural, "singularName": row.singular, "namespaced": namespaced, "kind": row.kind,
            "verbs": row.verbs,
        });
        names(&mut resource, row);
        // Resources that are stored have one: it changes when the stored version does.
        if row.verbs.iter().any(|verb| **verb == *"get") && row.storage {
            resource["storageVersionHash"] = storage_hash(row).into();
        }
        resources.push(resource);
        for sub in &row.subresources {
            let (group, version, kind) = &sub.kind;
            let mut value =
                json!({"name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": namespaced});
            if (group, version) != (&row.group, &row.version) {
                value["group"] = (**group).into();
                value["version"] = (**version).into();
            }
            value["kind"] = (**kind).into();
            value["verbs"] = json!(sub.verbs);
            resources.push(value);
        }
    }
    value["resources"] = resources.into();
    value
}

fn names(value: &mut Value, row: &Resource) {
    for (field, names) in [("shortNames", &row.short_names), ("categories", &row.categories)] {
        if !names.is_empty() {
            value[field] = json!(names);
        }
    }
}

fn storage_hash(row: &Resource) -> String {
    let name = format!("{}/{}/{}", row.group, row.version, row.kind);
    STANDARD.encode(&Sha256::digest(name)[..8])
}

fn merge(into: &mut Value, from: Value) {
    if let (Some(into), Value::Object(from)) = (into.as_object_mut(), from) {
        into.extend(from);
    }
}

/// The version of Kubernetes this is one of, with ours behind: `v1.36.0+bosun.0.1.0`.
pub fn git_version() -> String {
    format!("v1.36.0+bosun.{}", env!("CARGO_PKG_VERSION"))
}

/// Such as `linux/amd64`.
pub fn platform() -> String {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{}/{arch}", std::env::consts::OS)
}

/// `/version`.
pub fn version() -> Value {
    let mut info = Map::new();
    for (field, value) in [
        ("major", "1".to_owned()),
        ("minor", "36".to_owned()),
        ("emulationMajor", "1".to_owned()),
        ("emulationMinor", "36".to_owned()),
        ("minCompatibilityMajor", "1".to_owned()),
        ("minCompatibilityMinor", "35".to_owned()),
        ("gitVersion", git_version()),
        ("gitCommit", String::new()),
        ("gitTreeState", "clean".to_owned()),
        ("buildDate", "1970-01-01T00:00:00Z".to_owned()),
        ("goVersion", "none (Rust)".to_owned()),
        ("compiler", "rustc".to_owned()),
        ("platform", platform()),
    ] {
        info.insert(field.to_owned(), value.into());
    }
    Value::Object(info)
}

#[cfg(test)]
mod tests;
