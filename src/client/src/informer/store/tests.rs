use kube::api::ObjectMeta;

use super::*;

crate::projected! {
    struct Thing: k8s_openapi::api::core::v1::ConfigMap, without annotations {}
}

fn thing(name: &str, uid: &str, version: &str) -> Thing {
    Thing {
        metadata: ObjectMeta {
            namespace: Some("default".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        },
    }
}

/// What was told since the last look: `+name@version`, `~name@version`, `-name@version`.
fn told(changes: &mut mpsc::UnboundedReceiver<Change<Thing>>) -> Vec<String> {
    let mut told = Vec::new();
    while let Ok(change) = changes.try_recv() {
        let sign = match &change {
            Change::Added(_) => '+',
            Change::Updated { .. } => '~',
            Change::Deleted(_) => '-',
        };
        let meta = &change.object().metadata;
        told.push(format!(
            "{sign}{}@{}",
            meta.name.as_deref().unwrap_or_default(),
            meta.resource_version.as_deref().unwrap_or_default()
        ));
    }
    told.sort();
    told
}

#[test]
fn only_true_differences_are_told() {
    let store = Store::default();
    let mut changes = store.subscribe();
    store.replace(vec![thing("a", "1", "1"), thing("b", "2", "2")]);
    assert_eq!(told(&mut changes), ["+a@1", "+b@2"]);

    // A list that shows the same, one change, one new object and one object less.
    store.replace(vec![thing("a", "1", "1"), thing("b", "2", "2")]);
    assert_eq!(told(&mut changes), [""; 0]);
    store.replace(vec![thing("b", "2", "5"), thing("c", "3", "4")]);
    assert_eq!(told(&mut changes), ["+c@4", "-a@1", "~b@5"]);

    // A watch that begins before what the list showed tells some of it again.
    store.apply(thing("c", "3", "4"));
    assert_eq!(told(&mut changes), [""; 0]);
    store.apply(thing("c", "3", "6"));
    store.delete(thing("b", "2", "7"));
    assert_eq!(told(&mut changes), ["-b@7", "~c@6"]);
}

#[test]
fn an_object_made_anew_under_its_name_is_another() {
    let store = Store::default();
    store.replace(vec![thing("a", "1", "1")]);
    let mut changes = store.subscribe();
    assert_eq!(told(&mut changes), ["+a@1"]);
    store.apply(thing("a", "2", "3"));
    assert_eq!(told(&mut changes), ["+a@3", "-a@1"]);
    // The end of the first is told late.
    store.delete(thing("a", "1", "2"));
    assert_eq!(told(&mut changes), [""; 0]);
    assert!(store.get(&ObjectKey::new("default", "a")).is_some());
}

#[test]
fn who_begins_late_hears_of_all_there_is() {
    let store = Store::default();
    store.replace(vec![thing("a", "1", "1")]);
    store.apply(thing("b", "2", "2"));
    let mut changes = store.subscribe();
    assert_eq!(told(&mut changes), ["+a@1", "+b@2"]);
    drop(changes);
    // Nobody listens any more.
    store.apply(thing("b", "2", "3"));
    assert_eq!(store.state.read().subscribers.len(), 0);
}

#[test]
fn an_index_follows_its_objects() {
    let store = Arc::new(Store::default());
    store.replace(vec![thing("a", "1", "1"), thing("b", "2", "odd")]);
    let reader = crate::Reader { store: store.clone() };
    let by_version = reader.index(|thing: &Thing| thing.metadata.resource_version.clone());
    let names = |key: &str| {
        let mut names: Vec<_> = by_version
            .get(key)
            .iter()
            .filter_map(|thing| thing.metadata.name.clone())
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        (names("1"), names("odd"), names("2")),
        (vec!["a".into()], vec!["b".into()], vec![])
    );
    store.apply(thing("a", "1", "odd"));
    assert_eq!(
        (names("1"), names("odd")),
        (vec![], vec!["a".to_owned(), "b".to_owned()])
    );
    store.delete(thing("b", "2", "odd"));
    assert_eq!((names("odd"), by_version.count("odd")), (vec!["a".to_owned()], 1));
    store.replace(vec![]);
    assert_eq!(by_version.count("odd"), 0);
}
