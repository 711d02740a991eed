use super::*;
use crate::{
    Reason,
    options::{Preconditions, Propagation},
};

#[tokio::test]
async fn a_deletion_answers_with_success_or_the_object() {
    let world = World::new().await;
    let created = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let answer = world
        .delete("v1/configmaps", "default", "x", &DeleteOptions::default())
        .await
        .unwrap();
    let uid = &created["metadata"]["uid"];
    assert_eq!(
        answer,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {"name": "x", "kind": "configmaps", "uid": uid}})
    );
    let status = world
        .delete("v1/configmaps", "default", "x", &DeleteOptions::default())
        .await
        .unwrap_err();
    assert_eq!(status.message, "configmaps \"x\" not found");

    world
        .create("v1/serviceaccounts", "default", json!({"metadata": {"name": "x"}}))
        .await
        .unwrap();
    let answer = world
        .delete("v1/serviceaccounts", "default", "x", &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(
        (&answer["kind"], &answer["metadata"]["name"]),
        (&json!("ServiceAccount"), &json!("x"))
    );
}

#[tokio::test]
async fn what_was_wanted_of_the_object_must_hold() {
    let world = World::new().await;
    world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap();
    let table = [
        (
            Preconditions {
                uid: Some("u".into()),
                resource_version: None,
            },
            "Precondition failed: UID in precondition: u",
        ),
        (
            Preconditions {
                uid: None,
                resource_version: Some("1".into()),
            },
            "Precondition failed: ResourceVersion in precondition: 1",
        ),
    ];
    for (preconditions, expected) in table {
        let options = DeleteOptions {
            preconditions,
            ..DeleteOptions::default()
        };
        let status = world
            .delete("v1/configmaps", "default", "x", &options)
            .await
            .unwrap_err();
        assert_eq!(status.reason, Reason::Conflict);
        assert!(status.message.contains(expected), "{status}");
    }
}

#[tokio::test]
async fn finalizers_hold_an_object_until_the_last_is_gone() {
    let world = World::new().await;
    let mut object = config_map("x", "1");
    object["metadata"]["finalizers"] = json!(["example.com/a"]);
    world.create("v1/configmaps", "default", object).await.unwrap();
    let foreground = DeleteOptions {
        propagation: Some(Propagation::Foreground),
        ..DeleteOptions::default()
    };
    let held = world
        .delete("v1/configmaps", "default", "x", &foreground)
        .await
        .unwrap();
    assert_eq!(
        held["metadata"]["finalizers"],
        json!(["example.com/a", "foregroundDeletion"])
    );
    assert!(held["metadata"]["deletionTimestamp"].is_string());

    let status = world
        .create("v1/configmaps", "default", config_map("x", "1"))
        .await
        .unwrap_err();
    assert_eq!(
        status.message,
        "object is being deleted: configmaps \"x\" already exists"
    );
    let add = json!({"metadata": {"finalizers": ["example.com/a", "example.com/b"]}});
    let status = world
        .patch("v1/configmaps", "default", "x", PatchType::Merge, add)
        .await
        .unwrap_err();
    assert!(
        status
            .message
            .contains("no new finalizers can be added if the object is being deleted"),
        "{status}"
    );

    let mut watch = world
        .watch(
            "v1/configmaps",
            "default",
            &ListOptions {
                resource_version: held["metadata"]["resourceVersion"].as_str().unwrap().into(),
                ..ListOptions::default()
            },
        )
        .await
        .unwrap();
    let one = json!({"metadata": {"finalizers": ["example.com/a"]}});
    world
        .patch("v1/configmaps", "default", "x", PatchType::Merge, one)
        .await
        .unwrap();
    let none = json!({"metadata": {"finalizers": null}});
    world
        .patch("v1/configmaps", "default", "x", PatchType::Merge, none)
        .await
        .unwrap();
    assert_eq!(
        world.get("v1/configmaps", "default", "x").await.unwrap_err().reason,
        Reason::NotFound
    );
    assert_eq!(told(&mut watch).await, "MODIFIED x");
    assert_eq!(told(&mut watch).await, "DELETED x");
}

#[tokio::test]
async fn a_namespace_that_goes_takes_nothing_new_and_waits_for_its_content() {
    let world = World::new().await;
    let created = world
        .create("v1/namespaces", "", json!({"metadata": {"name": "x"}}))
        .await
        .unwrap();
    assert_eq!(created["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(created["metadata"]["labels"]["kubernetes.io/metadata.name"], "x");
    world.create("v1/configmaps", "x", config_map("a", "1")).await.unwrap();
    let going = world
        .delete("v1/namespaces", "", "x", &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(going["status"]["phase"], "Terminating");
    let status = world
        .create("v1/configmaps", "x", config_map("b", "1"))
        .await
        .unwrap_err();
    assert_eq!(status.reason, Reason::Forbidden);
    assert_eq!(
        status.message,
        "configmaps \"b\" is forbidden: unable to create new content in namespace x because it is being terminated"
    );
    assert_eq!(status.details.unwrap()["causes"][0]["reason"], "NamespaceTerminating");
    let again = world
        .delete("v1/namespaces", "", "x", &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        going["metadata"]["resourceVersion"]
    );

    for name in crate::registry::IMMORTAL {
        let status = world
            .delete("v1/namespaces", "", name, &DeleteOptions::default())
            .await
            .unwrap_err();
        assert_eq!(
            status.message,
            format!("namespaces {name:?} is forbidden: this namespace may not be deleted")
        );
    }
}

#[tokio::test]
async fn a_collection_is_deleted_by_its_selector() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        let mut object = config_map(name, "1");
        object["metadata"]["labels"] = json!({"keep": (name == "b").to_string()});
        world.create("v1/configmaps", "default", object).await.unwrap();
    }
    let request = world.request("deletecollection", "v1/configmaps", "default", "");
    let which = ListOptions {
        labels: crate::selector::LabelSelector::parse("keep=false").unwrap(),
        ..ListOptions::default()
    };
    let gone = world
        .registry
        .delete_collection(&request, &which, &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(gone.entries.len(), 2);
    assert_eq!(
        world
            .list("v1/configmaps", "default", &ListOptions::default())
            .await
            .unwrap()
            .0,
        ["b"]
    );
}
