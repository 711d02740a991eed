use std::{collections::BTreeSet, env, fs, path::Path};

use serde_json::Map;

use super::*;
use crate::resources::resources;

/// What is compared of a document, a line for each fact.
fn lines(document: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let parameters = |list: &Value| -> Vec<String> {
        let named = |parameter: &Value| {
            let reference = parameter["$ref"]
                .as_str()
                .map(|at| at.rsplit('/').next().expect("a name").to_owned());
            let parameter = reference.map_or(parameter, |name| &document["parameters"][name]);
            let word = |key: &str| parameter[key].as_str().unwrap_or_default().to_owned();
            format!("{}={}:{}", word("in"), word("name"), word("type"))
        };
        list.as_array()
            .map(|list| list.iter().map(named).collect())
            .unwrap_or_default()
    };
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item
            .as_object()
            .expect("a path")
            .iter()
            .filter(|(key, _)| *key != "parameters")
        {
            let at = format!("path {path} {method}");
            let kind = &operation["x-kubernetes-group-version-kind"];
            lines.insert(format!(
                "{at} {} {} {} {}",
                operation["operationId"], operation["x-kubernetes-action"], kind, operation["tags"]
            ));
            for parameter in parameters(&item["parameters"])
                .into_iter()
                .chain(parameters(&operation["parameters"]))
            {
                lines.insert(format!("{at} {parameter}"));
            }
            let body = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .find_map(|parameter| {
                    let reference = parameter["$ref"]
                        .as_str()
                        .map(|at| at.rsplit('/').next().expect("a name").to_owned());
                    let parameter = reference.map_or(parameter, |name| &document["parameters"][name]);
                    parameter["schema"]["$ref"]
                        .as_str()
                        .map(|at| format!("{at} {}", parameter["required"] == true))
                });
            lines.insert(format!("{at} body {body:?}"));
            for (code, answer) in operation["responses"].as_object().expect("answers") {
                lines.insert(format!("{at} answer {code} {}", answer["schema"]));
            }
            let media = |key: &str| {
                operation[key]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
            };
            lines.extend(media("produces").map(|ty| format!("{at} produces {ty}")));
            if method == "patch" {
                lines.extend(media("consumes").map(|ty| format!("{at} consumes {ty}")));
            }
        }
    }
    for (name, schema) in document["definitions"].as_object().expect("definitions") {
        let own = |schema: &Value| {
            let mut facts = schema.clone();
            if let Value::Object(facts) = &mut facts {
                for key in ["description", "properties", "required"] {
                    facts.shift_remove(key);
                }
                facts.sort_keys();
            }
            sorted(facts).to_string()
        };
        lines.insert(format!("type {name} {}", own(schema)));
        for field in schema["required"].as_array().into_iter().flatten() {
            lines.insert(format!("required {name} {field}"));
        }
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            lines.insert(format!("field {name} {field} {}", own(schema)));
        }
    }
    lines
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut map: Map<String, Value> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            map.sort_keys();
            Value::Object(map)
        }
        Value::Array(list) => list.into_iter().map(sorted).collect(),
        other => other,
    }
}

fn ours() -> BTreeSet<String> {
    lines(&serde_json::from_slice(&OpenApi::new(resources(), []).v2()).expect("JSON"))
}

/// The specification, where it lies beside the repository, or where a variable says.
fn theirs() -> Option<BTreeSet<String>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/spec");
    let folder = env::var_os("BOSUN_SPEC").map_or(beside, Into::into);
    let text = fs::read(folder.join("openapi-1.36.json")).ok()?;
    Some(lines(
        &serde_json::from_slice(&text).expect("the specification is JSON"),
    ))
}

#[test]
fn what_we_describe_is_what_the_specification_does_but_for_the_differences_listed() {
    let ours = ours();
    let mut digest = Fnv::default();
    for line in &ours {
        digest.add(line.as_bytes());
    }
    // As it was when the comparison below held, for where the specification isn't at hand.
    assert_eq!(
        (ours.len(), digest.text().as_str()),
        (23_498, "E24D80CE7639D713C8E224C8183A3415"),
        "what is described has changed"
    );
    let Some(theirs) = theirs() else { return };
    let mut rules: Vec<(&str, &str, bool)> = include_str!("differences.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (rule, reason) = line.split_once(" | ").expect("a difference and its reason");
            assert!(!reason.is_empty());
            let (sort, what) = rule.split_once(' ').expect("a sort and a pattern");
            (sort, what, false)
        })
        .collect();
    let mut missing = Vec::new();
    for line in theirs.difference(&ours) {
        let rule = rules.iter_mut().find(|(sort, what, _)| match *sort {
            "word" => line.split(' ').any(|word| word == *what),
            sort => line
                .strip_prefix(sort)
                .is_some_and(|rest| rest.trim_start().starts_with(what)),
        });
        match rule {
            Some((.., used)) => *used = true,
            None => missing.push(line),
        }
    }
    let more: Vec<_> = ours.difference(&theirs).collect();
    assert!(
        missing.is_empty() && more.is_empty(),
        "upstream only: {missing:#?}\nours only: {more:#?}"
    );
    let idle: Vec<_> = rules.iter().filter(|(.., used)| !used).collect();
    assert!(idle.is_empty(), "no longer a difference: {idle:?}");
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(at)) = map.get("$ref") {
                found.insert(at.clone());
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn widgets(schema: &Value) -> CustomResource<'_> {
    CustomResource {
        group: "example.com",
        version: "v1",
        plural: "widgets",
        kind: "Widget",
        list_kind: "WidgetList",
        namespaced: true,
        status: true,
        scale: true,
        schema: Some(schema),
    }
}

#[test]
fn every_document_of_version_3_holds_what_it_refers_to() {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "nullable": true}}});
    let api = OpenApi::new(resources().iter().filter(|row| row.served), [widgets(&schema)]);
    let documents = api.documents();
    for name in [
        "api",
        "api/v1",
        "apis",
        "apis/apps",
        "apis/apps/v1",
        "apis/example.com/v1",
        "version",
    ] {
        assert!(
            documents.iter().any(|document| document == name),
            "{name} is among {documents:?}"
        );
    }
    assert!(!documents.iter().any(|name| name.contains("beta")), "{documents:?}");
    for name in &documents {
        let document: Value = serde_json::from_slice(&api.v3(name).expect("a document")).expect("JSON");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for at in found {
            let schema = at.strip_prefix("#/components/schemas/").expect("a schema");
            assert!(
                document["components"]["schemas"][schema].is_object(),
                "{name} lacks {schema}"
            );
        }
    }
    assert_eq!(api.v3("apis/nothing/v1"), None);
}

#[test]
fn kubectl_finds_in_version_3_what_it_looks_for() {
    let api = OpenApi::new(resources(), []);
    let document: Value = serde_json::from_slice(&api.v3("apis/apps/v1").expect("apps/v1")).expect("JSON");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<_> = patch["parameters"]
        .as_array()
        .expect("parameters")
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert!(names.contains(&&json!("fieldValidation")) && names.contains(&&json!("dryRun")));
    assert!(patch["requestBody"]["content"]["application/apply-patch+yaml"].is_object());
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert!(
        spec["containers"]["description"]
            .as_str()
            .is_some_and(|text| text.contains("containers"))
    );
    assert_eq!(
        schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"],
        "TCP"
    );
    let version = &schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"];
    assert_eq!(
        *version,
        json!([{"group": "apps", "kind": "Deployment", "version": "v1"}])
    );
}

#[test]
fn custom_resources_are_described_in_the_words_of_each_version() {
    let schema = json!({
        "type": "object", "description": "a widget",
        "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer", "nullable": true, "default": 1, "minimum": 0},
            "default": {"type": "string"},
            "either": {"type": "object", "oneOf": [{"required": ["a"]}], "x-kubernetes-preserve-unknown-fields": true},
        }}},
    });
    let api = OpenApi::new([], [widgets(&schema)]);
    let three: Value = serde_json::from_slice(&api.v3("apis/example.com/v1").expect("a document")).expect("JSON");
    let widget = &three["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(widget["properties"]["spec"], schema["properties"]["spec"]);
    assert!(widget["properties"]["metadata"]["allOf"].is_array());
    let two: Value = serde_json::from_slice(&api.v2()).expect("JSON");
    let spec = &two["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"];
    assert_eq!(spec["size"], json!({"type": "integer", "minimum": 0}));
    assert_eq!(spec["default"], json!({"type": "string"}));
    assert_eq!(
        spec["either"],
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    );
    let paths = two["paths"].as_object().expect("paths");
    for path in [
        "widgets",
        "namespaces/{namespace}/widgets/{name}/scale",
        "namespaces/{namespace}/widgets/{name}/status",
    ] {
        assert!(paths.contains_key(&format!("/apis/example.com/v1/{path}")), "{path}");
    }
    let id = &paths["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["get"]["operationId"];
    assert_eq!(id, "readExampleComV1NamespacedWidget");
}

#[test]
fn hashes_change_with_what_they_stand_for_and_only_then() {
    let (one, other) = (json!({"type": "object"}), json!({"type": "object", "description": "x"}));
    let hash = |schema: &Value, name: &str| OpenApi::new(resources(), [widgets(schema)]).hash(name);
    assert_eq!(hash(&one, "apis/apps/v1"), hash(&other, "apis/apps/v1"));
    assert_ne!(hash(&one, "apis/example.com/v1"), hash(&other, "apis/example.com/v1"));
    assert_ne!(hash(&one, ""), hash(&other, ""));
    assert_ne!(hash(&one, "apis/apps/v1"), hash(&one, "apis/batch/v1"));
    let index: Value = serde_json::from_slice(&OpenApi::new(resources(), []).index()).expect("JSON");
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .expect("a URL");
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
}
