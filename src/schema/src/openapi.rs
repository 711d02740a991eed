//! The API described as OpenAPI, versions 3 (a document for each group's version) and 2 (one for all), rendered from the
//! table of facts when it is asked for: a document is text written in one pass, never a tree, and nothing stays behind.
//!
//! - `operations`: paths and methods of resources, as upstream names and marks them; `parameters`: what they take.
//! - `schemas`: types, with upstream's extensions; what fields are for comes from the `k8s-openapi` crate's sources, at
//!   build time.
//! - `json`: the writer.
//!
//! Version 2 is served as JSON only. The protobuf form that client-go's discovery client asks for is wanted only by
//! `kubectl` commands that find no version 3 and by `kubectl explain --output plaintext-openapiv2`.

mod descriptions;
mod json;
mod operations;
mod parameters;
mod schemas;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    facts,
    resources::ResourceFacts,
    types::{TypeId, Types},
};

use self::{
    descriptions::Descriptions,
    json::Json,
    operations::{Answer, Body, Operation},
    parameters::{CUSTOM_PATCHES, PARAMETERS, PATCHES},
};

/// A custom resource, as far as its description goes.
#[derive(Clone, Copy, Debug)]
pub struct CustomResource<'a> {
    /// Such as `example.com`.
    pub group: &'a str,
    /// Such as `v1`.
    pub version: &'a str,
    /// Such as `widgets`.
    pub plural: &'a str,
    /// Such as `Widget`.
    pub kind: &'a str,
    /// Such as `WidgetList`.
    pub list_kind: &'a str,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// Whether it has the subresource `status`.
    pub status: bool,
    /// Whether it has the subresource `scale`.
    pub scale: bool,
    /// `openAPIV3Schema` of this version; `None` if there is none.
    pub schema: Option<&'a Value>,
}

/// Which version of OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// What is to be described.
#[derive(Clone, Debug, Default)]
pub struct OpenApi<'a> {
    resources: Vec<&'a ResourceFacts>,
    custom: Vec<CustomResource<'a>>,
}

impl<'a> OpenApi<'a> {
    /// Of these resources, in any order.
    pub fn new(
        resources: impl IntoIterator<Item = &'a ResourceFacts>,
        custom: impl IntoIterator<Item = CustomResource<'a>>,
    ) -> Self {
        Self {
            resources: resources.into_iter().collect(),
            custom: custom.into_iter().collect(),
        }
    }

    /// The documents of version 3 there are, as they are named behind `/openapi/v3/`: `api/v1`, `apis`, `apis/apps`,
    /// `apis/apps/v1`, `version`, …; sorted.
    pub fn documents(&self) -> Vec<String> {
        self.operations()
            .iter()
            .map(|operation| document_of(&operation.path))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// The index at `/openapi/v3`: where each document is, with its hash.
    pub fn index(&self) -> Vec<u8> {
        let mut json = Json::default();
        json.object(|json| {
            json.key("paths").object(|json| {
                for name in self.documents() {
                    let url = format!("/openapi/v3/{name}?hash={}", self.hash(&name));
                    json.key(&name)
                        .object(|json| json.key("serverRelativeURL").string(&url));
                }
            });
        });
        json.into_bytes()
    }

    /// The hash of a document, or of the one of version 2 if `name` is empty: the same as long as it is rendered the
    /// same, on whatever server. Told without rendering.
    pub fn hash(&self, name: &str) -> String {
        let mut hash = Fnv::default();
        hash.add(concat!(env!("CARGO_PKG_VERSION"), " ", env!("BOSUN_OPENAPI_DIGEST")).as_bytes());
        hash.add(name.as_bytes());
        let holds = |group: &str, version: &str| {
            name.is_empty() || document_of(&format!("{}/", operations::base(group, version))).starts_with(name)
        };
        for row in self.resources.iter().filter(|row| holds(row.group, row.version)) {
            for word in [row.group, row.version, row.plural] {
                hash.add(word.as_bytes());
            }
        }
        for row in self.custom.iter().filter(|row| holds(row.group, row.version)) {
            for word in [row.group, row.version, row.plural, row.kind, row.list_kind] {
                hash.add(word.as_bytes());
            }
            hash.add(&[row.namespaced.into(), row.status.into(), row.scale.into()]);
            hash.add(row.schema.map(Value::to_string).unwrap_or_default().as_bytes());
        }
        hash.text()
    }

    /// One document of version 3, by its name among [`Self::documents`].
    pub fn v3(&self, name: &str) -> Option<Vec<u8>> {
        let mut operations = self.operations();
        operations.retain(|operation| document_of(&operation.path) == name);
        if operations.is_empty() {
            return None;
        }
        Some(self.render(Dialect::V3, operations))
    }

    /// The document of version 2.
    pub fn v2(&self) -> Vec<u8> {
        self.render(Dialect::V2, self.operations())
    }

    fn operations(&self) -> Vec<Operation> {
        let mut all = operations::of_server();
        all.push(operations::of_groups());
        let built_in = self.resources.iter().map(|row| (row.group, row.version));
        let versions: BTreeSet<_> = built_in
            .chain(self.custom.iter().map(|row| (row.group, row.version)))
            .collect();
        let groups: BTreeSet<_> = versions.iter().map(|(group, _)| *group).collect();
        all.extend(groups.into_iter().map(operations::of_group));
        all.extend(
            versions
                .into_iter()
                .map(|(group, version)| operations::of_version(group, version)),
        );
        all.extend(self.resources.iter().flat_map(|row| operations::of_resource(row)));
        all.extend(self.custom.iter().flat_map(operations::of_custom));
        all
    }

    fn render(&self, dialect: Dialect, operations: Vec<Operation>) -> Vec<u8> {
        let facts = facts::types();
        let descriptions = Descriptions::read();
        let mut schemas = schemas::Schemas::new(&facts, &descriptions, &self.custom, dialect);
        let mut paths: BTreeMap<String, Vec<Operation>> = BTreeMap::new();
        for operation in operations {
            schemas.mention(&operation);
            paths.entry(operation.path.clone()).or_default().push(operation);
        }
        if dialect == Dialect::V2 {
            schemas.mention_all();
        }
        let mut json = Json::default();
        json.object(|json| match dialect {
            Dialect::V2 => {
                json.key("swagger").string("2.0");
                json.key("info").raw(INFO);
                json.key("paths").object(|json| write_paths(json, dialect, &paths));
                json.key("definitions").object(|json| schemas.write(json));
                json.key("parameters").object(|json| {
                    for parameter in PARAMETERS {
                        json.key(parameter.0)
                            .object(|json| write_parameter(json, dialect, "query", *parameter, false));
                    }
                });
                json.key("securityDefinitions").value(&bearer());
                json.key("security").value(&json!([{"BearerToken": []}]));
            }
            Dialect::V3 => {
                json.key("openapi").string("3.0.0");
                json.key("info").raw(INFO);
                json.key("paths").object(|json| write_paths(json, dialect, &paths));
                json.key("components").object(|json| {
                    json.key("schemas").object(|json| schemas.write(json));
                    json.key("securitySchemes").value(&bearer());
                });
            }
        });
        json.into_bytes()
    }
}

impl CustomResource<'_> {
    /// `com.example.v1.Widget`.
    fn schema_name(&self) -> String {
        self.schema_of(self.kind)
    }

    fn list_schema_name(&self) -> String {
        self.schema_of(self.list_kind)
    }

    fn schema_of(&self, kind: &str) -> String {
        let reversed: Vec<_> = self.group.rsplit('.').collect();
        format!("{}.{}.{kind}", reversed.join("."), self.version)
    }
}

/// The name of a built-in type in OpenAPI.
fn name_of(ty: TypeId) -> &'static str {
    Types::builtin()
        .get(ty)
        .name
        .as_deref()
        .expect("a resource's type has a name")
}

const INFO: &str = r#"{"title":"Kubernetes","version":"v1.36.0"}"#;

fn bearer() -> Value {
    let description = "a bearer token";
    json!({"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header", "description": description}})
}

/// Which document of version 3 a path is in: that of its group's version, or else its own.
fn document_of(path: &str) -> String {
    let depth = match path.split('/').nth(1) {
        Some("api") => 2,
        Some("apis") => 3,
        _ => usize::MAX,
    };
    path.split('/')
        .filter(|part| !part.is_empty())
        .take(depth)
        .collect::<Vec<_>>()
        .join("/")
}

fn write_paths(json: &mut Json, dialect: Dialect, paths: &BTreeMap<String, Vec<Operation>>) {
    for (path, operations) in paths {
        json.key(path).object(|json| {
            for operation in operations {
                json.key(operation.method)
                    .object(|json| write_operation(json, dialect, operation));
            }
            let in_path: Vec<_> = path
                .split('/')
                .filter_map(|part| {
                    Some((
                        part.strip_prefix('{')?.strip_suffix('}')?,
                        "string",
                        "a part of the path",
                    ))
                })
                .collect();
            if !in_path.is_empty() {
                json.key("parameters").array(|json| {
                    for (name, ty, what) in in_path {
                        json.object(|json| write_parameter(json, dialect, "path", (name, ty, what), true));
                    }
                });
            }
        });
    }
}

fn write_operation(json: &mut Json, dialect: Dialect, operation: &Operation) {
    let what = operation.kind.as_ref().map_or("what there is", |[_, _, kind]| kind);
    json.key("description")
        .string(&format!("{} {what}", operation.action.unwrap_or("get")));
    json.key("operationId").string(&operation.id);
    json.key("tags").strings([operation.tag.as_str()]);
    if let Some(action) = operation.action {
        json.key("x-kubernetes-action").string(action);
    }
    if let Some([group, version, kind]) = &operation.kind {
        json.key("x-kubernetes-group-version-kind").object(|json| {
            json.key("group").string(group);
            json.key("kind").string(kind);
            json.key("version").string(version);
        });
    }
    let patches = if operation.produces.contains(&"application/vnd.kubernetes.protobuf") {
        PATCHES
    } else {
        CUSTOM_PATCHES
    };
    match dialect {
        Dialect::V2 => {
            let consumes = if matches!(operation.body, Body::Patch) {
                patches
            } else {
                &["*/*"]
            };
            json.key("consumes").strings(consumes.iter().copied());
            json.key("produces").strings(operation.produces.iter().copied());
            json.key("schemes").strings(["https"]);
        }
        Dialect::V3 => {
            if let Some(schema) = schemas::body(&operation.body) {
                let types = if matches!(operation.body, Body::Patch) {
                    patches
                } else {
                    &["*/*"]
                };
                json.key("requestBody").object(|json| {
                    json.key("content")
                        .object(|json| write_content(json, types, Some(&schema)));
                    if !matches!(operation.body, Body::Options) {
                        json.key("required").bool(true);
                    }
                });
            }
        }
    }
    let body = schemas::body(&operation.body).filter(|_| dialect == Dialect::V2);
    if body.is_some() || !operation.query.is_empty() {
        json.key("parameters").array(|json| {
            if let Some(schema) = body {
                json.object(|json| {
                    json.key("in").string("body");
                    json.key("name").string("body");
                    if !matches!(operation.body, Body::Options) {
                        json.key("required").bool(true);
                    }
                    json.key("schema")
                        .object(|json| schemas::reference(json, dialect, &schema));
                });
            }
            for name in operation.query {
                match dialect {
                    Dialect::V2 => json.object(|json| json.key("$ref").string(&format!("#/parameters/{name}"))),
                    Dialect::V3 => {
                        let parameter = PARAMETERS.iter().find(|(known, ..)| known == name);
                        let parameter = *parameter.expect("every parameter is in the list");
                        json.object(|json| write_parameter(json, dialect, "query", parameter, false));
                    }
                }
            }
        });
    }
    json.key("responses").object(|json| {
        for code in [200].iter().chain(operation.also) {
            let text = match code {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            json.key(&code.to_string()).object(|json| {
                json.key("description").string(text);
                write_answer(json, dialect, operation);
            });
        }
        json.key("401")
            .object(|json| json.key("description").string("Unauthorized"));
    });
}

fn write_answer(json: &mut Json, dialect: Dialect, operation: &Operation) {
    let schema = match &operation.answer {
        Answer::Unsaid => return,
        Answer::Object(schema) => Some(schema.as_str()),
        Answer::Text => None,
    };
    match (dialect, schema) {
        (Dialect::V2, Some(schema)) => json
            .key("schema")
            .object(|json| schemas::reference(json, dialect, schema)),
        (Dialect::V2, None) => json.key("schema").raw(r#"{"type":"string"}"#),
        (Dialect::V3, schema) => {
            json.key("content")
                .object(|json| write_content(json, operation.produces, schema));
        }
    }
}

/// Media types, each with the same schema, or with text.
fn write_content(json: &mut Json, types: &[&str], schema: Option<&str>) {
    for ty in types {
        json.key(ty).object(|json| match schema {
            Some(schema) => json
                .key("schema")
                .object(|json| schemas::reference(json, Dialect::V3, schema)),
            None => json.key("schema").raw(r#"{"type":"string"}"#),
        });
    }
}

fn write_parameter(
    json: &mut Json,
    dialect: Dialect,
    place: &str,
    (name, ty, what): (&str, &str, &str),
    required: bool,
) {
    json.key("name").string(name);
    json.key("in").string(place);
    json.key("description").string(what);
    if required {
        json.key("required").bool(true);
    }
    match dialect {
        Dialect::V2 => {
            json.key("type").string(ty);
            json.key("uniqueItems").bool(true);
        }
        Dialect::V3 => json.key("schema").object(|json| {
            json.key("type").string(ty);
            json.key("uniqueItems").bool(true);
        }),
    }
}

/// FNV-1a of 128 bits: told apart, not kept from forgers.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv {
    /// Adds bytes, and that they end.
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().chain(&[0xff]) {
            self.0 = (self.0 ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }

    fn text(&self) -> String {
        format!("{:032X}", self.0)
    }
}

#[cfg(test)]
mod tests;
