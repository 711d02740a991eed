//! The table of facts about Kubernetes' API, `src/schema/src/facts/{types,resources}.txt`, made from upstream's
//! specification (`api/openapi-spec/swagger.json`) and the numbers of its protobuf fields.
//!
//! The grammar of the texts is at their heads. What neither source says is in `upstream.txt`, kept by hand.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// What every type's name begins with in the specification.
const PREFIX: &str = "io.k8s.";

const TYPES_HEAD: &str = "\
# Every type of Kubernetes 1.36's API. Made by `cargo xtask facts`; not edited by hand.
#
# A type: its name without `io.k8s.`; `=form` if its JSON is of a form of its own; `hidden` if OpenAPI doesn't show it;
# `atomic` (x-kubernetes-map-type); `gvk=group/version/kind`; `union=discriminator:field=value,...`.
# A field: its name, `!` if required; its protobuf number (`2.1`: field 1 of the message that is field 2 and inlined in
# JSON; `-`: none); its type (`[]` a list of, `{}` a map of, `@` a message of its own around the list); then list type
# (`atomic`, `set`, `map=key,...`), map type (`atomic`, `granular`) and `patch=strategy:merge key`.
";

const RESOURCES_HEAD: &str = "\
# Every resource of Kubernetes 1.36's API. Made by `cargo xtask facts`; not edited by hand.
#
# A group and version; below it a resource: plural, kind, type, list's type, scope, verbs, `returned` if its deletion is
# answered with the object rather than a Status; below that a subresource: name, group/version/kind, type of body or
# answer (`-`: not an object), verbs.
";

/// Types whose JSON isn't an object of their fields.
const FORMS: &[(&str, &str)] = &[
    ("apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON", "json"),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
        "schemaorarray",
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
        "schemaorbool",
    ),
    (
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
        "schemaorstrings",
    ),
    ("apimachinery.pkg.api.resource.Quantity", "quantity"),
    ("apimachinery.pkg.apis.meta.v1.FieldsV1", "fields"),
    ("apimachinery.pkg.apis.meta.v1.MicroTime", "microtime"),
    ("apimachinery.pkg.apis.meta.v1.Patch", "patch"),
    ("apimachinery.pkg.apis.meta.v1.Time", "time"),
    ("apimachinery.pkg.runtime.RawExtension", "raw"),
    ("apimachinery.pkg.util.intstr.IntOrString", "intorstring"),
];

/// Messages that JSON inlines, by the name of the field that holds them.
const INLINED: &[&str] = &[
    "deviceConfiguration",
    "ephemeralContainerCommon",
    "handler",
    "ingressRuleValue",
    "localObjectReference",
    "persistentVolumeSource",
    "rule",
    "ruleWithOperations",
    "volumeSource",
];

/// Messages that aren't in the specification but go over the wire, and the group and version of their kinds.
const HIDDEN: &[(&str, &str, &[&str])] = &[
    (
        "k8s.io.apimachinery.pkg.apis.meta.v1.",
        "meta.k8s.io/v1",
        &[
            "ApplyOptions",
            "CreateOptions",
            "GetOptions",
            "ListOptions",
            "PartialObjectMetadata",
            "PartialObjectMetadataList",
            "PatchOptions",
            "TableOptions",
            "UpdateOptions",
        ],
    ),
    (
        "k8s.io.apimachinery.pkg.apis.meta.v1.",
        "",
        &["GroupVersionKind", "GroupVersionResource", "List"],
    ),
    (
        "k8s.io.api.core.v1.",
        "/v1",
        &[
            "List",
            "NodeProxyOptions",
            "PodAttachOptions",
            "PodExecOptions",
            "PodLogOptions",
            "PodPortForwardOptions",
            "PodProxyOptions",
            "RangeAllocation",
            "SerializedReference",
            "ServiceProxyOptions",
        ],
    ),
    (
        "k8s.io.api.apidiscovery.v2.",
        "apidiscovery.k8s.io/v2",
        &["APIGroupDiscovery", "APIGroupDiscoveryList"],
    ),
    (
        "k8s.io.api.apidiscovery.v2.",
        "",
        &["APIResourceDiscovery", "APISubresourceDiscovery", "APIVersionDiscovery"],
    ),
    ("k8s.io.api.admission.v1.", "admission.k8s.io/v1", &["AdmissionReview"]),
    (
        "k8s.io.api.admission.v1.",
        "",
        &["AdmissionRequest", "AdmissionResponse"],
    ),
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.",
        "apiextensions.k8s.io/v1",
        &["ConversionReview"],
    ),
    (
        "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1.",
        "",
        &["ConversionRequest", "ConversionResponse"],
    ),
];

/// Messages by name, each field with its number and type.
struct Messages<'a>(&'a Value);

impl<'a> Messages<'a> {
    fn fields(&self, message: &str) -> Vec<(&'a str, u64, &'a str)> {
        let fields = self.0[message].as_object();
        let fields = fields.into_iter().flatten();
        fields
            .filter_map(|(name, field)| Some((name.as_str(), field[0].as_u64()?, field[1].as_str()?)))
            .collect()
    }

    /// The path of numbers and the type of a JSON field, whose name differs in letters' case at most.
    fn find(&self, message: &str, name: &str) -> Option<(String, &'a str)> {
        let plain = |name: &str| {
            name.to_lowercase()
                .replace(|letter: char| !letter.is_ascii_alphanumeric(), "")
        };
        let fields = self.fields(message);
        if let Some((_, number, ty)) = fields.iter().find(|(field, ..)| plain(field) == plain(name)) {
            return Some((number.to_string(), ty));
        }
        fields
            .iter()
            .filter(|(field, ..)| INLINED.contains(field))
            .find_map(|(_, number, ty)| {
                let (inner, ty) = self.find(ty, name)?;
                Some((format!("{number}.{inner}"), ty))
            })
    }

    /// Whether a message stands for a list of texts.
    fn wraps(&self, message: &str) -> bool {
        self.fields(message) == [("items", 1, "repeated string")]
    }
}

/// `types.txt`.
pub(crate) fn types(spec: &Value, protobuf: &Value) -> Result<String> {
    let messages = Messages(&protobuf["messages"]);
    let definitions = spec["definitions"]
        .as_object()
        .context("the specification has definitions")?;
    let mut blocks = BTreeMap::new();
    for (name, schema) in definitions {
        let name = name
            .strip_prefix(PREFIX)
            .with_context(|| format!("{name} begins with {PREFIX}"))?;
        blocks.insert(
            name.to_owned(),
            shown(name, schema, &messages).with_context(|| name.to_owned())?,
        );
    }
    for (package, version, names) in HIDDEN {
        for base in *names {
            let message = format!("{package}{base}");
            let name = short(&message)?;
            let kind = if version.is_empty() {
                String::new()
            } else {
                format!("{version}/{base}")
            };
            blocks.insert(
                name.clone(),
                hidden(&name, &kind, &message, &messages).with_context(|| message.clone())?,
            );
        }
    }
    let blocks: Vec<_> = blocks.into_values().collect();
    Ok(format!("{TYPES_HEAD}{}\n", blocks.join("\n")))
}

/// A message's name as a type's.
fn short(message: &str) -> Result<String> {
    let name = message
        .strip_prefix("k8s.io.")
        .with_context(|| format!("{message} is Kubernetes' own"))?;
    Ok(name.replace('_', "-"))
}

/// A type's line and its fields'.
fn shown(name: &str, schema: &Value, messages: &Messages<'_>) -> Result<String> {
    let message = format!("k8s.io.{}", name.replace('-', "_"));
    let mut line = vec![name.to_owned()];
    line.extend(
        FORMS
            .iter()
            .find(|(form, _)| *form == name)
            .map(|(_, form)| format!("={form}")),
    );
    line.extend(schema["x-kubernetes-map-type"].as_str().map(str::to_owned));
    for kind in schema["x-kubernetes-group-version-kind"]
        .as_array()
        .into_iter()
        .flatten()
    {
        line.push(format!("gvk={}", gvk(kind)?));
    }
    for union in schema["x-kubernetes-unions"].as_array().into_iter().flatten() {
        let fields = union["fields-to-discriminateBy"]
            .as_object()
            .context("a union has fields")?;
        let fields: Vec<_> = fields
            .iter()
            .map(|(field, value)| format!("{field}={}", text(value)))
            .collect();
        line.push(format!("union={}:{}", text(&union["discriminator"]), fields.join(",")));
    }
    let mut lines = vec![line.join(" ")];
    let required: BTreeSet<_> = schema["required"].as_array().into_iter().flatten().map(text).collect();
    let properties: BTreeMap<_, _> = schema["properties"].as_object().into_iter().flatten().collect();
    for (field, schema) in properties {
        let found = messages.find(&message, field);
        let (number, ty) = found.map_or(("-".to_owned(), None), |(number, ty)| (number, Some(ty)));
        let mark = if required.contains(field.as_str()) { "!" } else { "" };
        let mut words = vec![format!("{field}{mark}"), number, expression(schema, ty, messages)?];
        match text(&schema["x-kubernetes-list-type"]) {
            "" => {}
            "map" => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                words.push(format!("map={}", keys.map(text).collect::<Vec<_>>().join(",")));
            }
            list => words.push(list.to_owned()),
        }
        words.extend(schema["x-kubernetes-map-type"].as_str().map(str::to_owned));
        if let Some(strategy) = schema["x-kubernetes-patch-strategy"].as_str() {
            let key = schema["x-kubernetes-patch-merge-key"].as_str();
            words.push(format!(
                "patch={strategy}{}",
                key.map(|key| format!(":{key}")).unwrap_or_default()
            ));
        }
        lines.push(format!("  {}", words.join(" ")));
    }
    Ok(lines.join("\n"))
}

/// The lines of a type that only its message tells of.
fn hidden(name: &str, kind: &str, message: &str, messages: &Messages<'_>) -> Result<String> {
    let mut fields: BTreeMap<&str, (String, &str)> = BTreeMap::new();
    if !kind.is_empty() {
        fields.extend(["apiVersion", "kind"].map(|field| (field, ("-".to_owned(), "string"))));
    }
    for (field, number, ty) in messages.fields(message) {
        fields.insert(field, (number.to_string(), ty));
    }
    ensure!(!fields.is_empty(), "there is such a message");
    let mut lines = vec![if kind.is_empty() {
        format!("{name} hidden")
    } else {
        format!("{name} hidden gvk={kind}")
    }];
    for (field, (number, ty)) in fields {
        lines.push(format!("  {field} {number} {}", message_expression(ty, messages)?));
    }
    Ok(lines.join("\n"))
}

/// A field's type by its schema; `message`, by its message, tells lists that are messages.
fn expression(schema: &Value, message: Option<&str>, messages: &Messages<'_>) -> Result<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return Ok(name.strip_prefix(PREFIX).context("a reference to a type")?.to_owned());
    }
    Ok(match (text(&schema["type"]), text(&schema["format"])) {
        ("array", _) => {
            let wrapped = if message.is_some_and(|message| messages.wraps(message)) {
                "@"
            } else {
                ""
            };
            format!("{wrapped}[]{}", expression(&schema["items"], None, messages)?)
        }
        ("object", _) => {
            let values = message.and_then(|ty| ty.strip_prefix("map<string, ")?.strip_suffix('>'));
            format!("{{}}{}", expression(&schema["additionalProperties"], values, messages)?)
        }
        ("boolean", "") => "bool".to_owned(),
        ("string", "") => "string".to_owned(),
        ("string", "byte") => "bytes".to_owned(),
        ("integer", "int32") => "int32".to_owned(),
        ("integer", "int64") => "int64".to_owned(),
        ("number", "double") => "double".to_owned(),
        (ty, format) => bail!("unknown type {ty:?} of format {format:?}"),
    })
}

/// A field's type by its message.
fn message_expression(ty: &str, messages: &Messages<'_>) -> Result<String> {
    Ok(match ty {
        "string" | "bool" | "int32" | "int64" | "bytes" | "double" => ty.to_owned(),
        _ if messages.wraps(ty) => "@[]string".to_owned(),
        _ => match (ty.strip_prefix("repeated "), ty.strip_prefix("map<string, ")) {
            (Some(items), _) => format!("[]{}", message_expression(items, messages)?),
            (_, Some(values)) => format!("{{}}{}", message_expression(values.trim_end_matches('>'), messages)?),
            _ => short(ty)?,
        },
    })
}

/// What is known of a resource or subresource.
#[derive(Default)]
struct Row {
    namespaced: bool,
    verbs: BTreeSet<&'static str>,
    kind: String,
    ty: Option<String>,
    list: Option<String>,
    returned: bool,
}

/// `resources.txt`.
pub(crate) fn resources(spec: &Value) -> Result<String> {
    let mut rows: BTreeMap<[String; 4], Row> = BTreeMap::new();
    for (path, operations) in spec["paths"].as_object().context("the specification has paths")? {
        let Some((place, namespaced)) = place(path) else {
            continue;
        };
        let row = rows.entry(place).or_default();
        row.namespaced |= namespaced;
        let operations = operations.as_object().context("a path has operations")?;
        for (method, operation) in operations.iter().filter(|(key, _)| *key != "parameters") {
            row.add(method, operation).with_context(|| format!("{method} {path}"))?;
        }
    }
    let mut lines = Vec::new();
    let mut above = None;
    for ([group, version, plural, subresource], row) in &rows {
        if above != Some((group, version)) {
            lines.push(format!("{group}/{version}"));
            above = Some((group, version));
        }
        let verbs = row.verbs.iter().copied().collect::<Vec<_>>().join(",");
        let ty = row.ty.as_deref().unwrap_or("-");
        if subresource.is_empty() {
            let kind = row.kind.rsplit('/').next().unwrap_or_default();
            let scope = if row.namespaced { "namespaced" } else { "cluster" };
            let returned = if row.returned { " returned" } else { "" };
            let list = row.list.as_deref().unwrap_or("-");
            lines.push(format!("  {plural} {kind} {ty} {list} {scope} {verbs}{returned}"));
        } else {
            lines.push(format!("    /{subresource} {} {ty} {verbs}", row.kind));
        }
    }
    Ok(format!("{RESOURCES_HEAD}{}\n", lines.join("\n")))
}

/// Group, version, plural and subresource of a path, and whether it is within a namespace.
fn place(path: &str) -> Option<([String; 4], bool)> {
    let mut parts = path
        .trim_matches('/')
        .split('/')
        .collect::<Vec<_>>()
        .into_iter()
        .peekable();
    let group = match parts.next()? {
        "api" => "",
        "apis" => parts.next()?,
        _ => return None,
    };
    let version = parts.next()?;
    parts.next_if_eq(&"watch");
    let mut rest: Vec<_> = parts.collect();
    let namespaced = rest.len() > 2 && rest[..2] == ["namespaces", "{namespace}"];
    if namespaced {
        rest.drain(..2);
    }
    let plural = *rest.first()?;
    let subresource = rest.get(2).copied().unwrap_or_default();
    Some(([group, version, plural, subresource].map(str::to_owned), namespaced))
}

impl Row {
    fn add(&mut self, method: &str, operation: &Value) -> Result<()> {
        let kind = gvk(&operation["x-kubernetes-group-version-kind"])?;
        ensure!(self.kind.is_empty() || self.kind == kind, "{} and {kind}", self.kind);
        self.kind = kind;
        let action = text(&operation["x-kubernetes-action"]);
        let verb = match (action, method) {
            ("post", _) | ("connect", "post") => "create",
            ("put", _) | ("connect", "put") => "update",
            ("get", _) | ("connect", "get") => "get",
            ("patch", _) | ("connect", "patch") => "patch",
            ("delete", _) | ("connect", "delete") => "delete",
            ("deletecollection", _) => "deletecollection",
            ("list", _) => "list",
            ("watch" | "watchlist", _) => "watch",
            // Proxies take these, too; there are no verbs for them.
            ("connect", "head" | "options") => return Ok(()),
            _ => bail!("unknown action {action:?}"),
        };
        self.verbs.insert(verb);
        let schema = |value: &Value| -> Option<String> {
            let name = value["schema"]["$ref"].as_str()?.rsplit('/').next()?;
            Some(name.strip_prefix(PREFIX)?.to_owned())
        };
        let answer = schema(&operation["responses"]["200"]);
        match action {
            "post" | "put" => {
                let sent = operation["parameters"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .find_map(schema);
                self.ty = Some(sent.context("something is sent")?);
            }
            "get" => self.ty = answer,
            "list" => self.list = answer,
            "delete" => self.returned |= answer.is_some_and(|name| !name.ends_with(".Status")),
            _ => {}
        }
        Ok(())
    }
}

fn gvk(kind: &Value) -> Result<String> {
    ensure!(kind["kind"].is_string(), "a group, version and kind");
    Ok(format!(
        "{}/{}/{}",
        text(&kind["group"]),
        text(&kind["version"]),
        text(&kind["kind"])
    ))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_type_takes_its_facts_from_both_sources() {
        let spec = json!({"definitions": {"io.k8s.api.x.v1.Thing": {
        "type": "object", "required": ["name"], "x-kubernetes-map-type": "atomic",
        "x-kubernetes-group-version-kind": [{"group": "x", "version": "v1", "kind": "Thing"}],
        "properties": {
            "name": {"type": "string"},
            "kind": {"type": "string"},
            "port": {"type": "integer", "format": "int32"},
            "exec": {"$ref": "#/definitions/io.k8s.api.x.v1.Exec"},
            "ports": {"type": "array", "items": {"$ref": "#/definitions/io.k8s.api.x.v1.Port"},
                "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
                "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "port"},
            "extra": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        }}}});
        let protobuf = json!({"messages": {
            "k8s.io.api.x.v1.Thing": {"Name": [1, "string"], "port": [2, "int32"], "handler": [3, "k8s.io.api.x.v1.H"],
                "ports": [4, "repeated k8s.io.api.x.v1.Port"], "extra": [5, "map<string, k8s.io.api.x.v1.Extra>"]},
            "k8s.io.api.x.v1.H": {"exec": [7, "k8s.io.api.x.v1.Exec"]},
            "k8s.io.api.x.v1.Extra": {"items": [1, "repeated string"]},
        }});
        let messages = Messages(&protobuf["messages"]);
        let schema = &spec["definitions"]["io.k8s.api.x.v1.Thing"];
        let wanted = "api.x.v1.Thing atomic gvk=x/v1/Thing\n  exec 3.7 api.x.v1.Exec\n  extra 5 {}@[]string\n  \
                      kind - string\n  name! 1 string\n  port 2 int32\n  \
                      ports 4 []api.x.v1.Port map=port,protocol patch=merge:port";
        assert_eq!(shown("api.x.v1.Thing", schema, &messages).expect("a type"), wanted);
        assert!(
            types(&spec, &protobuf).is_err(),
            "messages that are always there are missing"
        );
    }

    #[test]
    fn a_resource_gathers_what_its_paths_say() {
        let kind = json!({"group": "apps", "version": "v1", "kind": "Thing"});
        let thing = json!({"schema": {"$ref": "#/definitions/io.k8s.api.apps.v1.Thing"}});
        let operation = |action: &str| {
            json!({"x-kubernetes-action": action, "x-kubernetes-group-version-kind": kind.clone(),
                   "parameters": [thing.clone()], "responses": {"200": thing.clone()}})
        };
        let spec = json!({"paths": {
            "/version/": {"get": {}},
            "/apis/apps/v1/": {"get": {}},
            "/apis/apps/v1/things": {"get": operation("list")},
            "/apis/apps/v1/namespaces/{namespace}/things/{name}": {
                "get": operation("get"), "put": operation("put"), "delete": operation("delete"), "parameters": []},
            "/apis/apps/v1/namespaces/{namespace}/things/{name}/status": {"get": operation("get")},
            "/apis/apps/v1/watch/things": {"get": operation("watchlist")},
        }});
        let text = resources(&spec).expect("resources");
        let wanted = "apps/v1\n  things Thing api.apps.v1.Thing api.apps.v1.Thing namespaced delete,get,list,update,watch \
                      returned\n    /status apps/v1/Thing api.apps.v1.Thing get\n";
        assert_eq!(text.strip_prefix(RESOURCES_HEAD), Some(wanted));
    }
}
