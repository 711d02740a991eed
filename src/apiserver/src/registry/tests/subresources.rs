use super::*;
use crate::Reason;

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    })
}

impl World {
    async fn post(&self, path: &str, name: &str, object: Value) -> Result<Value, Status> {
        let request = self.request("create", path, "default", name);
        Ok(decode(
            &self.registry.create(&request, object.into(), &options()).await?.json,
        ))
    }
}

#[tokio::test]
async fn a_workload_is_scaled_through_its_scale() {
    let world = World::new().await;
    world
        .create("apps/v1/deployments", "default", deployment())
        .await
        .unwrap();
    let mut scale = world.get("apps/v1/deployments/scale", "default", "x").await.unwrap();
    assert_eq!(
        (&scale["kind"], &scale["spec"]["replicas"], &scale["status"]["selector"]),
        (&json!("Scale"), &json!(1), &json!("a=b"))
    );
    scale["spec"]["replicas"] = 3.into();
    let scaled = world.update("apps/v1/deployments/scale", scale.clone()).await.unwrap();
    assert_eq!(scaled["spec"]["replicas"], 3);
    scale["spec"]["replicas"] = 4.into();
    assert_eq!(
        world
            .update("apps/v1/deployments/scale", scale)
            .await
            .unwrap_err()
            .reason,
        Reason::Conflict
    );
    let patch = json!({"spec": {"replicas": 5}});
    world
        .patch("apps/v1/deployments/scale", "default", "x", PatchType::Merge, patch)
        .await
        .unwrap();
    let object = world.get("apps/v1/deployments", "default", "x").await.unwrap();
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(5), &json!(3))
    );
    let patch = json!({"spec": {"replicas": -1}});
    let status = world
        .patch("apps/v1/deployments/scale", "default", "x", PatchType::Merge, patch)
        .await
        .unwrap_err();
    assert!(
        status
            .message
            .contains("spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        "{status}"
    );
}

#[tokio::test]
async fn whoever_applies_a_scale_owns_the_number_of_replicas() {
    let world = World::new().await;
    let apply = async |path: &str, manager: &str, force: bool, config: Value| {
        let request = world.request("patch", path, "default", "x");
        let options = WriteOptions {
            field_manager: manager.to_owned(),
            force,
            ..options()
        };
        let written = world
            .registry
            .patch(&request, PatchType::Apply, config.into(), &options)
            .await?;
        Ok::<_, Status>(decode(&written.json))
    };
    let (object, scale) = ("apps/v1/deployments", "apps/v1/deployments/scale");
    let wanted = |replicas: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "x"}, "spec": {"replicas": replicas}});
    let owners = async || {
        let object = world.get(object, "default", "x").await.unwrap();
        let entries = object["metadata"]["managedFields"].as_array().unwrap().clone();
        let owners = entries
            .into_iter()
            .filter(|entry| entry["fieldsV1"]["f:spec"]["f:replicas"].is_object());
        let mut owners: Vec<_> = owners
            .map(|entry| entry["manager"].as_str().unwrap().to_owned())
            .collect();
        owners.sort();
        (object["spec"]["replicas"].as_i64().unwrap(), owners)
    };
    apply(object, "ann", false, deployment()).await.unwrap();
    assert_eq!(owners().await, (1, vec!["ann".to_owned()]));
    let conflict = apply(scale, "bob", false, wanted(3)).await.unwrap_err();
    assert_eq!(conflict.reason, Reason::Conflict);
    assert!(
        conflict.message.contains("\"ann\"") && conflict.message.contains(".spec.replicas"),
        "{conflict}"
    );
    // The same number is no conflict: both own it.
    apply(scale, "bob", false, wanted(1)).await.unwrap();
    assert_eq!(owners().await, (1, vec!["ann".to_owned(), "bob".to_owned()]));
    let scaled = apply(scale, "bob", true, wanted(3)).await.unwrap();
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"]),
        (&json!("Scale"), &json!(3))
    );
    assert_eq!(owners().await, (3, vec!["bob".to_owned()]));
    let conflict = apply(object, "ann", false, deployment()).await.unwrap_err();
    assert!(conflict.message.contains("\"bob\""), "{conflict}");
    // Again the same: nothing changes.
    let before = world.get(object, "default", "x").await.unwrap();
    apply(scale, "bob", false, wanted(3)).await.unwrap();
    assert_eq!(world.get(object, "default", "x").await.unwrap(), before);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let world = World::new().await;
    world.create("v1/pods", "default", pod("x")).await.unwrap();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "x"}, "target": {"kind": "Node", "name": "n"}});
    let answer = world.post("v1/pods/binding", "x", binding.clone()).await.unwrap();
    assert_eq!((&answer["status"], &answer["code"]), (&json!("Success"), &json!(201)));
    let bound = world.get("v1/pods", "default", "x").await.unwrap();
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let status = world.post("v1/pods/binding", "x", binding).await.unwrap_err();
    assert_eq!(status.reason, Reason::Conflict);
    assert!(
        status.message.ends_with("pod x is already assigned to node \"n\""),
        "{status}"
    );

    world.create("v1/pods", "default", pod("y")).await.unwrap();
    let binding = json!({"metadata": {"name": "y"}, "target": {"name": "n"}});
    world.post("v1/bindings", "", binding).await.unwrap();
    assert_eq!(
        world.get("v1/pods", "default", "y").await.unwrap()["spec"]["nodeName"],
        "n"
    );
}

#[tokio::test]
async fn an_eviction_asks_the_budget() {
    let world = World::new().await;
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    world
        .create("policy/v1/poddisruptionbudgets", "default", budget)
        .await
        .unwrap();
    for name in ["x", "y"] {
        world.create("v1/pods", "default", pod(name)).await.unwrap();
        let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        world
            .patch("v1/pods/status", "default", name, PatchType::Merge, running)
            .await
            .unwrap();
    }
    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    let status = world.post("v1/pods/eviction", "x", eviction("x")).await.unwrap_err();
    assert_eq!(status.reason, Reason::TooManyRequests);
    let cause = &status.details.unwrap()["causes"][0];
    assert_eq!(
        cause["message"],
        "The disruption budget b is still being processed by the server."
    );

    let allow = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2}});
    world
        .patch(
            "policy/v1/poddisruptionbudgets/status",
            "default",
            "b",
            PatchType::Merge,
            allow,
        )
        .await
        .unwrap();
    world.post("v1/pods/eviction", "x", eviction("x")).await.unwrap();
    assert_eq!(
        world.get("v1/pods", "default", "x").await.unwrap_err().reason,
        Reason::NotFound
    );
    let budget = world
        .get("policy/v1/poddisruptionbudgets", "default", "b")
        .await
        .unwrap();
    assert_eq!(budget["status"]["disruptionsAllowed"], 0);
    assert!(budget["status"]["disruptedPods"]["x"].is_string());
    let status = world.post("v1/pods/eviction", "y", eviction("y")).await.unwrap_err();
    assert_eq!(
        status.message,
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    let cause = &status.details.unwrap()["causes"][0];
    assert_eq!(
        cause["message"],
        "The disruption budget b needs 1 healthy pods and has 2 currently"
    );
    assert!(world.get("v1/pods", "default", "y").await.is_ok());
}

#[tokio::test]
async fn a_finalized_namespace_is_gone() {
    let world = World::new().await;
    world
        .create("v1/namespaces", "", json!({"metadata": {"name": "x"}}))
        .await
        .unwrap();
    let mut going = world
        .delete("v1/namespaces", "", "x", &DeleteOptions::default())
        .await
        .unwrap();
    going["spec"]["finalizers"] = json!([]);
    world.update("v1/namespaces/finalize", going).await.unwrap();
    assert_eq!(
        world.get("v1/namespaces", "", "x").await.unwrap_err().reason,
        Reason::NotFound
    );
}
