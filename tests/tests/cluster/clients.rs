//! Client libraries as their users have them, unchanged: kube-rs, and Python's `kubernetes`.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context, ensure};
use bosun_testkit::{PATIENCE, Server, programs};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::GroupVersionKind,
    discovery::{Discovery, Scope},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::json;
use tokio::{process::Command, time::timeout};

/// The release of Python's `kubernetes` of this API level.
const PYTHON_CLIENT: &str = "kubernetes==36.0.3";
/// Fetching it, once.
const FETCH: Duration = Duration::from_mins(4);

pub(crate) async fn client(server: &Server) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::read_from(server.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "n": value } })).expect("a ConfigMap")
}

#[tokio::test]
async fn kube_rs_reads_and_writes_typed_and_dynamic_objects() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let client = client(&server).await?;
    ensure!(client.apiserver_version().await?.minor.starts_with("36"));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({ "metadata": { "name": "of-kube-rs" } }))?;
    namespaces.create(&PostParams::default(), &namespace).await?;

    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "of-kube-rs");
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await?;
    let mut changed = made.clone();
    changed.data.get_or_insert_default().insert("m".into(), "2".into());
    let changed = maps.replace("a", &PostParams::default(), &changed).await?;
    ensure!(changed.resource_version() != made.resource_version());
    let error = maps.replace("a", &PostParams::default(), &made).await.expect_err("old");
    ensure!(
        matches!(&error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict"),
        "{error:?}"
    );
    let merge = Patch::Merge(json!({ "data": { "n": null } }));
    let patched = maps.patch("a", &PatchParams::default(), &merge).await?;
    ensure!(patched.data.as_ref().is_some_and(|data| data.len() == 1), "{patched:?}");
    let apply = Patch::Apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" }, "data": { "applied": "yes" },
    }));
    let applied = maps.patch("a", &PatchParams::apply("test"), &apply).await?;
    let managers: Vec<_> = applied
        .managed_fields()
        .iter()
        .filter_map(|entry| entry.manager.clone())
        .collect();
    ensure!(managers.iter().any(|manager| manager == "test"), "{managers:?}");
    ensure!(maps.get_opt("none").await?.is_none());

    let discovery = Discovery::new(client.clone()).run_aggregated().await?;
    let (resource, capabilities) = discovery
        .resolve_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"))
        .context("apps/v1 Deployment is not discovered")?;
    ensure!(resource.plural == "deployments" && matches!(capabilities.scope, Scope::Namespaced));
    let dynamic: Api<DynamicObject> = Api::namespaced_with(client.clone(), "of-kube-rs", &resource);
    let deployment = DynamicObject::new("web", &ApiResource::clone(&resource)).data(json!({ "spec": {
        "selector": { "matchLabels": { "app": "web" } },
        "template": {
            "metadata": { "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "web", "image": "web:1" }] },
        },
    } }));
    dynamic.create(&PostParams::default(), &deployment).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "of-kube-rs");
    let spec = deployments.get("web").await?.spec.context("no spec")?;
    ensure!(
        spec.replicas == Some(1) && spec.progress_deadline_seconds == Some(600),
        "{spec:?}"
    );
    let scaled = Patch::Merge(json!({ "spec": { "replicas": 4 } }));
    let scale = deployments.patch_scale("web", &PatchParams::default(), &scaled).await?;
    ensure!(scale.spec.context("no spec")?.replicas == Some(4));

    maps.delete("a", &DeleteParams::default()).await?;
    ensure!(
        maps.list(&ListParams::default())
            .await?
            .items
            .iter()
            .all(|map| map.name_any() != "a")
    );
    server.stop().await
}

#[tokio::test]
async fn kube_rs_watches_a_collection_through_a_stream_of_its_start() -> anyhow::Result<()> {
    let mut server = Server::start().await?;
    let maps: Api<ConfigMap> = Api::namespaced(client(&server).await?, "default");
    for name in ["a", "b"] {
        maps.create(&PostParams::default(), &config_map(name, "0")).await?;
    }
    for config in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let config = config.fields("metadata.name!=kube-root-ca.crt");
        let mut events = watcher(maps.clone(), config).applied_objects().boxed();
        let mut next = async || {
            let next = timeout(PATIENCE, events.try_next())
                .await
                .context("no event in time")??;
            let map = next.context("the watch ended")?;
            let value = map.data.clone().unwrap_or_default().get("n").cloned();
            anyhow::Ok((map.name_any(), value.unwrap_or_default()))
        };
        let mut first = [next().await?, next().await?];
        first.sort();
        ensure!(
            first == [("a".into(), "0".into()), ("b".into(), "0".into())],
            "{first:?}"
        );
        for value in ["1", "2", "0"] {
            maps.replace("a", &PostParams::default(), &config_map("a", value))
                .await?;
            let seen = next().await?;
            ensure!(seen == ("a".into(), value.into()), "{seen:?}");
        }
    }
    server.stop().await
}

#[tokio::test]
async fn pythons_client_drives_it_typed_dynamic_and_watching() -> anyhow::Result<()> {
    let python = python().await?;
    let mut server = Server::start().await?;
    let script = programs::repository().join("tests/tests/cluster/clients/python.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg("of-python")
        .env("KUBECONFIG", server.kubeconfig());
    let output = programs::output(command, Duration::from_mins(2)).await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.stop().await
}

/// A Python that has the client; made once, in the build folder.
async fn python() -> anyhow::Result<PathBuf> {
    let dir = programs::repository().join("target/python").join(PYTHON_CLIENT);
    let python = dir.join("bin/python");
    let ready = dir.join("ready");
    if !ready.exists() {
        let run = async |program: &str, args: &[&str]| {
            let mut command = Command::new(program);
            command.args(args).stdin(Stdio::null());
            let output = programs::output(command, FETCH).await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{program} {args:?}: {said}");
            Ok(())
        };
        run("python3", &["-m", "venv", "--clear", &dir.to_string_lossy()])
            .await
            .context("a Python with venv is needed: apt-get install python3-venv")?;
        run(
            &python.to_string_lossy(),
            &["-m", "pip", "install", "--quiet", PYTHON_CLIENT],
        )
        .await?;
        std::fs::write(ready, "")?;
    }
    Ok(python)
}
