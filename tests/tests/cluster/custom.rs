//! Custom resources, from the definition to their end.

use anyhow::ensure;
use bosun_testkit::{PATIENCE, Server, eventually};
use serde_json::{Value, json};

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_whitespace()
}

/// A definition in two versions, with every subresource, columns, defaults and rules.
fn definition() -> Value {
    let schema = json!({ "openAPIV3Schema": {
        "type": "object", "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object", "required": ["size"],
                "x-kubernetes-validations": [
                    { "rule": "self.size <= self.most", "message": "size must not be larger than most" },
                    { "rule": "!has(oldSelf.color) || self.color == oldSelf.color", "message": "color is for ever" },
                ],
                "properties": {
                    "size": { "type": "integer", "minimum": 1, "description": "How large it is." },
                    "most": { "type": "integer", "default": 10 },
                    "color": { "type": "string", "enum": ["red", "blue"], "default": "red" },
                },
            },
            "status": { "type": "object", "properties": {
                "size": { "type": "integer" }, "selector": { "type": "string" },
            } },
        },
    } });
    let columns = json!([
        { "name": "Size", "type": "integer", "jsonPath": ".spec.size" },
        { "name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1 },
        { "name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp" },
    ]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"] },
            "versions": [
                { "name": "v1beta1", "served": true, "storage": false, "schema": schema },
                {
                    "name": "v1", "served": true, "storage": true, "schema": schema,
                    "additionalPrinterColumns": columns, "selectableFields": [{ "jsonPath": ".spec.color" }],
                    "subresources": { "status": {}, "scale": {
                        "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                        "labelSelectorPath": ".status.selector",
                    } },
                },
            ],
        },
    })
}

async fn defined() -> anyhow::Result<Server> {
    let server = Server::start().await?;
    let file = server.file("definition.json", &definition().to_string())?;
    server.kubectl(["apply", "-f", &file.to_string_lossy()]).await?;
    server
        .kubectl(words(
            "wait --for=condition=Established --timeout=20s crd/widgets.example.com",
        ))
        .await?;
    Ok(server)
}

fn widget(name: &str, spec: &str) -> String {
    format!("apiVersion: example.com/v1\nkind: Widget\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Applies a widget; what kubectl says, whether or not it succeeds.
async fn apply(server: &Server, name: &str, spec: &str) -> anyhow::Result<String> {
    let file = server.file("widget.yaml", &widget(name, spec))?;
    let output = server.try_kubectl(["apply", "-f", &file.to_string_lossy()]).await?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[tokio::test]
async fn a_defined_kind_is_used_like_any_other() -> anyhow::Result<()> {
    let server = defined().await?;
    let resources = server.kubectl(words("api-resources --api-group=example.com")).await?;
    ensure!(
        resources.contains("widgets") && resources.contains("wd") && resources.contains("Widget"),
        "{resources}"
    );

    ensure!(apply(&server, "a", "{size: 2, color: blue}").await?.contains("created"));
    ensure!(apply(&server, "b", "{size: 3}").await?.contains("created"));
    let table = server.kubectl(words("get wd")).await?;
    let mut lines = table.lines();
    ensure!(lines.next() == Some("NAME   SIZE   AGE"), "{table}");
    ensure!(
        lines.next().is_some_and(|line| line.starts_with("a      2      ")),
        "{table}"
    );
    let wide = server.kubectl(words("get widgets -o wide")).await?;
    ensure!(wide.starts_with("NAME   SIZE   COLOR   AGE"), "{wide}");
    let b: Value = serde_json::from_str(&server.kubectl(words("get widget b -o json")).await?)?;
    ensure!(b["spec"] == json!({ "size": 3, "most": 10, "color": "red" }), "{b}");
    let old: Value = serde_json::from_str(
        &server
            .kubectl(words("get widgets.v1beta1.example.com b -o json"))
            .await?,
    )?;
    ensure!(
        old["apiVersion"] == "example.com/v1beta1" && old["spec"] == b["spec"],
        "{old}"
    );
    let blue = server
        .kubectl(words("get widgets -o name --field-selector spec.color=blue"))
        .await?;
    ensure!(blue == "widget.example.com/a\n", "{blue}");
    server.kubectl(words("scale widget a --replicas=5")).await?;
    let a: Value = serde_json::from_str(&server.kubectl(words("get widget a -o json")).await?)?;
    ensure!(a["spec"]["size"] == 5 && a["metadata"]["generation"] == 2, "{a}");
    server
        .kubectl([
            "patch",
            "widget",
            "a",
            "--subresource=status",
            "--type=merge",
            "-p",
            r#"{"status":{"size":4}}"#,
        ])
        .await?;
    let a: Value = serde_json::from_str(&server.kubectl(words("get widget a -o json")).await?)?;
    ensure!(a["status"]["size"] == 4 && a["metadata"]["generation"] == 2, "{a}");
    let explained = server.kubectl(words("explain widget.spec.size")).await?;
    ensure!(explained.contains("How large it is."), "{explained}");
    let all = server.kubectl(words("get all -o name")).await?;
    ensure!(all.contains("widget.example.com/a"), "{all}");
    Ok(())
}

#[tokio::test]
async fn what_a_definition_forbids_is_refused_in_upstreams_words() -> anyhow::Result<()> {
    let server = defined().await?;
    ensure!(apply(&server, "a", "{size: 2}").await?.contains("created"));
    for (spec, words) in [
        (
            "{size: 0}",
            "spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1",
        ),
        ("{size: 11}", "size must not be larger than most"),
        ("{size: 2, color: blue}", "color is for ever"),
        (
            "{size: 2, color: green}",
            "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
        ),
        (
            "{size: two}",
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        ("{size: 2, colour: red}", "unknown field \"spec.colour\""),
    ] {
        let said = apply(&server, "a", spec).await?;
        ensure!(said.contains(words), "{spec}: {said}");
    }
    let missing = apply(&server, "b", "{}").await?;
    ensure!(missing.contains("spec.size: Required value"), "{missing}");

    let mut bad = definition();
    bad["spec"]["versions"][1]["storage"] = false.into();
    let file = server.file("bad.json", &bad.to_string())?;
    let refused = server.try_kubectl(["apply", "-f", &file.to_string_lossy()]).await?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        said.contains("must have exactly one version marked as storage version"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_definition_takes_its_objects_with_it_and_outlives_a_restart() -> anyhow::Result<()> {
    let mut server = defined().await?;
    apply(&server, "a", "{size: 2}").await?;
    server.kill().await?;
    server.run().await?;
    ensure!(server.kubectl(words("get wd -o name")).await? == "widget.example.com/a\n");

    // One that something holds keeps the definition.
    server
        .kubectl([
            "patch",
            "widget",
            "a",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":["example.com/hold"]}}"#,
        ])
        .await?;
    server
        .kubectl(words("delete crd widgets.example.com --wait=false"))
        .await?;
    let get = words("get crd widgets.example.com -o json").collect::<Vec<_>>();
    eventually(PATIENCE, "the definition says that it ends", async || {
        let object: Value = serde_json::from_str(&server.kubectl(get.iter().copied()).await?)?;
        let conditions = object["status"]["conditions"].to_string();
        ensure!(conditions.contains("InstanceDeletionInProgress"), "{conditions}");
        let widget: Value = serde_json::from_str(&server.kubectl(words("get widget a -o json")).await?)?;
        ensure!(widget["metadata"]["deletionTimestamp"].is_string(), "{widget}");
        Ok(())
    })
    .await;
    server
        .kubectl([
            "patch",
            "widget",
            "a",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":null}}"#,
        ])
        .await?;
    eventually(PATIENCE, "definition and kind are gone", async || {
        let definition = server.try_kubectl(get.iter().copied()).await?;
        let kind = server.try_kubectl(words("get widgets")).await?;
        ensure!(!definition.status.success() && !kind.status.success(), "not yet");
        Ok(())
    })
    .await;
    // What it stored is not there for the next of its name.
    let file = server.file("definition.json", &definition().to_string())?;
    server.kubectl(["apply", "-f", &file.to_string_lossy()]).await?;
    server
        .kubectl(words(
            "wait --for=condition=Established --timeout=20s crd/widgets.example.com",
        ))
        .await?;
    ensure!(server.kubectl(words("get widgets -o name")).await?.is_empty());
    Ok(())
}
