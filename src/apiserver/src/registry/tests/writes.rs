use super::*;
use crate::Reason;

#[tokio::test]
async fn a_created_object_has_what_the_server_sets() {
    let world = World::new().await;
    let created = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let metadata = &created["metadata"];
    assert_eq!(metadata["namespace"], "default");
    assert_eq!(metadata["uid"].as_str().unwrap().len(), 36);
    assert!(metadata["creationTimestamp"].as_str().unwrap().ends_with('Z'));
    assert!(metadata["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(metadata["managedFields"][0]["manager"], "test");
    assert_eq!(world.get("v1/configmaps", "default", "x").await.unwrap(), created);
}

#[tokio::test]
async fn what_can_not_be_created_is_told_in_upstream_s_words() {
    let world = World::new().await;
    world
        .create("v1/configmaps", "default", config_map("there", "1"))
        .await
        .unwrap();
    let named = |metadata: Value| json!({"metadata": metadata});
    let table = [
        (
            "default",
            config_map("there", "2"),
            Reason::AlreadyExists,
            "configmaps \"there\" already exists",
        ),
        (
            "absent",
            config_map("x", "1"),
            Reason::NotFound,
            "namespaces \"absent\" not found",
        ),
        (
            "default",
            named(json!({"name": "x", "namespace": "other"})),
            Reason::BadRequest,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "default",
            named(json!({"name": "x", "resourceVersion": "1"})),
            Reason::BadRequest,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "default",
            named(json!({})),
            Reason::Invalid,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            "default",
            json!({"apiVersion": "v2", "metadata": {"name": "x"}}),
            Reason::BadRequest,
            "the API version in the data (v2) does not match the expected API version (v1)",
        ),
        (
            "default",
            json!({"metadata": {"name": "x"}, "spec": 1}),
            Reason::BadRequest,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"spec\"",
        ),
        (
            "default",
            json!({"metadata": {"name": "x"}, "data": {"a": 1}}),
            Reason::BadRequest,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct \
             field ConfigMap.data of type string",
        ),
    ];
    for (namespace, object, reason, message) in table {
        let status = world.create("v1/configmaps", namespace, object).await.unwrap_err();
        assert_eq!((status.reason, status.message.as_str()), (reason, message));
    }
    let status = world
        .create("v1/configmaps", "default", config_map("X", "1"))
        .await
        .unwrap_err();
    assert!(
        status
            .message
            .starts_with("ConfigMap \"X\" is invalid: metadata.name: Invalid value: \"X\": a lowercase RFC 1123"),
        "{status}"
    );
}

#[tokio::test]
async fn a_name_is_made_up_where_one_is_asked_for() {
    let world = World::new().await;
    let object = json!({"metadata": {"generateName": "web-"}});
    let first = world.create("v1/configmaps", "default", object.clone()).await.unwrap();
    let second = world.create("v1/configmaps", "default", object).await.unwrap();
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&first).starts_with("web-") && name(&first).len() == 9);
    assert_ne!(name(&first), name(&second));
}

#[tokio::test]
async fn unknown_fields_are_dropped_and_the_user_warned() {
    let world = World::new().await;
    let request = world.request("create", "v1/configmaps", "default", "");
    let body = json!({"metadata": {"name": "x"}, "spec": 1});
    let warn = WriteOptions::default();
    let written = world
        .registry
        .create(&request, body.clone().into(), &warn)
        .await
        .unwrap();
    assert_eq!(written.warnings, ["unknown field \"spec\""]);
    assert!(decode(&written.json).get("spec").is_none());
    let mut other = body;
    other["metadata"]["name"] = "y".into();
    let ignore = WriteOptions {
        field_validation: FieldValidation::Ignore,
        ..warn
    };
    let written = world.registry.create(&request, other.into(), &ignore).await.unwrap();
    assert!(written.warnings.is_empty());
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let world = World::new().await;
    let dry = WriteOptions {
        dry_run: true,
        ..options()
    };
    let request = world.request("create", "v1/configmaps", "default", "");
    let written = world
        .registry
        .create(&request, config_map("x", "1").into(), &dry)
        .await
        .unwrap();
    assert_eq!(decode(&written.json)["metadata"]["name"], "x");
    assert_eq!(
        world.get("v1/configmaps", "default", "x").await.unwrap_err().reason,
        Reason::NotFound
    );

    let created = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let status = world
        .registry
        .create(&request, config_map("x", "1").into(), &dry)
        .await
        .unwrap_err();
    assert_eq!(status.reason, Reason::AlreadyExists);
    let request = world.request("update", "v1/configmaps", "default", "x");
    let written = world
        .registry
        .update(&request, config_map("x", "2").into(), &dry)
        .await
        .unwrap();
    assert_eq!(decode(&written.json)["data"]["value"], "2");
    let dry = DeleteOptions {
        dry_run: true,
        ..DeleteOptions::default()
    };
    world.delete("v1/configmaps", "default", "x", &dry).await.unwrap();
    assert_eq!(world.get("v1/configmaps", "default", "x").await.unwrap(), created);
}

#[tokio::test]
async fn an_update_needs_the_version_it_was_made_from() {
    let world = World::new().await;
    let first = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let mut second = first.clone();
    second["data"]["value"] = "2".into();
    let second = world.update("v1/configmaps", second).await.unwrap();
    assert_eq!(second["data"]["value"], "2");
    assert_ne!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );

    let mut late = first.clone();
    late["data"]["value"] = "3".into();
    let status = world.update("v1/configmaps", late).await.unwrap_err();
    assert_eq!(status.reason, Reason::Conflict);
    assert_eq!(
        status.message,
        "Operation cannot be fulfilled on configmaps \"x\": the object has been modified; please apply your changes to the \
         latest version and try again"
    );
    // Without a version it replaces whatever there is.
    let mut blind = config_map("x", "4");
    blind["metadata"]["namespace"] = "default".into();
    let blind = world.update("v1/configmaps", blind).await.unwrap();
    assert_eq!(blind["metadata"]["uid"], first["metadata"]["uid"]);

    let mut other = blind.clone();
    other["metadata"]["uid"] = "other".into();
    let status = world.update("v1/configmaps", other).await.unwrap_err();
    assert!(
        status
            .message
            .contains("Precondition failed: UID in precondition: other, UID in object meta: "),
        "{status}"
    );
    let mut absent = config_map("absent", "1");
    absent["metadata"]["namespace"] = "default".into();
    assert_eq!(
        world.update("v1/configmaps", absent).await.unwrap_err().reason,
        Reason::NotFound
    );
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let world = World::new().await;
    let created = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let revision = world.store.revision().await.unwrap();
    assert_eq!(world.update("v1/configmaps", created.clone()).await.unwrap(), created);
    let patch = json!({"data": {"value": "1"}});
    let patched = world
        .patch("v1/configmaps", "default", "x", PatchType::Merge, patch)
        .await
        .unwrap();
    assert_eq!(patched, created);
    assert_eq!(world.store.revision().await.unwrap(), revision);
}

#[tokio::test]
async fn what_identifies_an_object_never_changes() {
    let world = World::new().await;
    let created = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let mut changed = created.clone();
    changed["metadata"]["creationTimestamp"] = "2000-01-01T00:00:00Z".into();
    changed["metadata"]["generation"] = 9.into();
    changed["metadata"]["deletionTimestamp"] = "2000-01-01T00:00:00Z".into();
    changed["data"]["value"] = "2".into();
    let status = world.update("v1/configmaps", changed.clone()).await.unwrap_err();
    assert!(
        status
            .message
            .contains("metadata.deletionTimestamp: Invalid value: \"2000-01-01T00:00:00Z\": field is immutable"),
        "{status}"
    );
    changed["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
    let updated = world.update("v1/configmaps", changed).await.unwrap();
    for field in ["creationTimestamp", "generation", "uid"] {
        assert_eq!(updated["metadata"][field], created["metadata"][field], "{field}");
    }
}

#[tokio::test]
async fn every_patch_is_applied_to_the_object_as_it_is() {
    let world = World::new().await;
    world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let table = [
        (
            PatchType::Merge,
            json!({"data": {"a": "m"}}),
            json!({"value": "1", "a": "m"}),
        ),
        (
            PatchType::Json,
            json!([{"op": "remove", "path": "/data/value"}]),
            json!({"a": "m"}),
        ),
        (
            PatchType::Strategic,
            json!({"data": {"b": "s"}}),
            json!({"a": "m", "b": "s"}),
        ),
        (
            PatchType::Apply,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"c": "applied"}}),
            json!({"a": "m", "b": "s", "c": "applied"}),
        ),
    ];
    for (ty, patch, expected) in table {
        let patched = world.patch("v1/configmaps", "default", "x", ty, patch).await.unwrap();
        assert_eq!(patched["data"], expected, "{ty:?}");
    }
    let status = world
        .patch(
            "v1/configmaps",
            "default",
            "x",
            PatchType::Json,
            json!([{"op": "test", "path": "/data/a", "value": "no"}]),
        )
        .await
        .unwrap_err();
    assert_eq!(status.reason, Reason::Invalid);
    let status = world
        .patch("v1/configmaps", "default", "no", PatchType::Merge, json!({}))
        .await
        .unwrap_err();
    assert_eq!(status.message, "configmaps \"no\" not found");
}

#[tokio::test]
async fn apply_creates_what_is_absent_and_tells_whose_field_it_would_take() {
    let world = World::new().await;
    let config =
        |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": value}});
    let request = world.request("patch", "v1/configmaps", "default", "x");
    let as_manager = |manager: &str, force| WriteOptions {
        field_manager: manager.into(),
        force,
        ..options()
    };
    let apply = async |manager: &str, value: &str, force| {
        world
            .registry
            .patch(
                &request,
                PatchType::Apply,
                config(value).into(),
                &as_manager(manager, force),
            )
            .await
    };
    let written = apply("one", "1", false).await.unwrap();
    assert!(written.created);
    let first = decode(&written.json);
    assert_eq!(first["metadata"]["managedFields"][0]["operation"], "Apply");
    // Again: nothing changes.
    let again = apply("one", "1", false).await.unwrap();
    assert_eq!((again.created, decode(&again.json)), (false, first));
    let status = apply("two", "2", false).await.unwrap_err();
    assert_eq!(status.reason, Reason::Conflict);
    let details = status.details.unwrap();
    assert_eq!(details["causes"][0]["reason"], "FieldManagerConflict");
    assert_eq!(details["causes"][0]["field"], ".data.a");
    let forced = decode(&apply("two", "2", true).await.unwrap().json);
    assert_eq!(forced["data"]["a"], "2");
}

#[tokio::test]
async fn the_status_is_written_through_its_own_door() {
    let world = World::new().await;
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
        "status": {"replicas": 9},
    });
    let created = world
        .create("apps/v1/deployments", "default", deployment)
        .await
        .unwrap();
    assert!(created["status"].get("replicas").is_none(), "{}", created["status"]);
    assert_eq!(created["metadata"]["generation"], 1);

    let mut changed = created.clone();
    changed["status"] = json!({"replicas": 5});
    changed["spec"]["replicas"] = 2.into();
    let updated = world.update("apps/v1/deployments", changed.clone()).await.unwrap();
    assert_eq!(
        (&updated["spec"]["replicas"], updated["status"].get("replicas")),
        (&json!(2), None)
    );
    assert_eq!(updated["metadata"]["generation"], 2);

    changed["metadata"]["resourceVersion"] = updated["metadata"]["resourceVersion"].clone();
    changed["spec"]["replicas"] = 7.into();
    let updated = world.update("apps/v1/deployments/status", changed).await.unwrap();
    assert_eq!(
        (&updated["spec"]["replicas"], &updated["status"]["replicas"]),
        (&json!(2), &json!(5))
    );
    assert_eq!(updated["metadata"]["generation"], 2);
}

#[tokio::test]
async fn what_the_schema_requires_is_required_of_kinds_without_particulars() {
    let world = World::new().await;
    let wrong = json!({"metadata": {"name": "x"}, "spec": {"parentRef": {}}});
    let status = world
        .create("networking.k8s.io/v1/ipaddresses", "", wrong)
        .await
        .unwrap_err();
    assert_eq!(status.reason, Reason::Invalid);
    assert!(
        status.message.contains("spec.parentRef.name: Required value"),
        "{status}"
    );
}

#[tokio::test]
async fn a_lease_is_created_by_an_update() {
    let world = World::new().await;
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "x", "namespace": "default"}, "spec": {"holderIdentity": "me"},
    });
    let request = world.request("update", "coordination.k8s.io/v1/leases", "default", "x");
    let written = world.registry.update(&request, lease.into(), &options()).await.unwrap();
    assert!(written.created);
}

#[tokio::test]
async fn events_have_two_faces_and_an_hour() {
    let world = World::new().await;
    let event = json!({
        "metadata": {"name": "x"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Started", "message": "it runs", "type": "Normal", "source": {"component": "c"}, "count": 2,
    });
    world.create("v1/events", "default", event).await.unwrap();
    let other = world.get("events.k8s.io/v1/events", "default", "x").await.unwrap();
    assert_eq!(other["apiVersion"], "events.k8s.io/v1");
    assert_eq!(
        (&other["regarding"]["name"], &other["note"]),
        (&json!("p"), &json!("it runs"))
    );
    assert_eq!(other["deprecatedCount"], 2);
    let selected = ListOptions {
        fields: crate::selector::FieldSelector::parse("regarding.name=p").unwrap(),
        ..ListOptions::default()
    };
    assert_eq!(
        world
            .list("events.k8s.io/v1/events", "default", &selected)
            .await
            .unwrap()
            .0,
        ["x"]
    );
}
