//! Random writers and watchers against a model: what was acknowledged is seen, by everyone, once, in one order.

use std::collections::BTreeMap;

use bosun_store::Revision;
use tokio::task::JoinSet;

use super::*;
use crate::Reason;

const KEYS: u8 = 6;
const WRITERS: usize = 6;
const WRITES: usize = 40;

/// What a writer was told: at this revision, the key had this value (`None`: it was deleted).
type History = BTreeMap<Revision, (String, Option<String>)>;

fn revision(object: &Value) -> Revision {
    Revision(object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap())
}

async fn write(world: Arc<World>, seed: u64) -> Vec<(Revision, String, Option<String>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut done = Vec::new();
    for write in 0..WRITES {
        let name = format!("k{}", random.u8(..KEYS));
        let value = format!("{seed}-{write}");
        match random.u8(..10) {
            0..4 => match world
                .create("v1/configmaps", "default", config_map(&name, &value))
                .await
            {
                Ok(object) => done.push((revision(&object), name, Some(value))),
                Err(status) => assert_eq!(status.reason, Reason::AlreadyExists, "{status}"),
            },
            4..8 => {
                let patch = json!({"data": {"value": value}});
                match world
                    .patch("v1/configmaps", "default", &name, PatchType::Merge, patch)
                    .await
                {
                    Ok(object) => done.push((revision(&object), name, Some(value))),
                    Err(status) => assert_eq!(status.reason, Reason::NotFound, "{status}"),
                }
            }
            8 => {
                // A read, then a change that must not lose anybody's.
                let Ok(mut object) = world.get("v1/configmaps", "default", &name).await else {
                    continue;
                };
                object["data"]["value"] = value.as_str().into();
                match world.update("v1/configmaps", object).await {
                    Ok(object) => done.push((revision(&object), name, Some(value))),
                    Err(status) => assert!(matches!(status.reason, Reason::Conflict | Reason::NotFound), "{status}"),
                }
            }
            _ => {
                let request = world.request("delete", "v1/configmaps", "default", &name);
                match world.registry.delete(&request, &DeleteOptions::default()).await {
                    // Its revision is not told; watchers tell it.
                    Ok(_) => {}
                    Err(status) => assert_eq!(status.reason, Reason::NotFound, "{status}"),
                }
            }
        }
    }
    done
}

/// Everything that a watch from `from` tells, until the object `end` appears.
async fn watch(world: Arc<World>, from: Revision, labels: &str) -> History {
    let options = ListOptions {
        resource_version: from.to_string(),
        labels: crate::selector::LabelSelector::parse(labels).unwrap(),
        ..ListOptions::default()
    };
    let mut watch = world.watch("v1/configmaps", "default", &options).await.unwrap();
    let mut seen = History::new();
    let mut last = from;
    loop {
        let event = tokio::time::timeout(PATIENCE, watch.next())
            .await
            .expect("an event in time");
        let Some(WatchEvent::Change(kind, change)) = event else {
            panic!("{event:?}")
        };
        assert!(change.revision() > last, "revisions come once, in order");
        last = change.revision();
        let object = decode(&change.json(kind));
        assert_eq!(revision(&object), last);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        if name == "end" {
            return seen;
        }
        let value = (kind != Kind::Deleted).then(|| object["data"]["value"].as_str().unwrap().to_owned());
        let before = seen
            .values()
            .rev()
            .find(|(other, _)| *other == name)
            .and_then(|(_, value)| value.as_ref());
        assert_eq!(before.is_some(), kind != Kind::Added, "{name} at {last}");
        seen.insert(last, (name, value));
    }
}

/// Lists again and again; each must be what the history says of its revision.
async fn lists(world: Arc<World>, seed: u64) -> Vec<(Revision, BTreeMap<String, String>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut seen: Vec<(Revision, BTreeMap<String, String>)> = Vec::new();
    for _ in 0..30 {
        let mut options = ListOptions {
            limit: random.u64(..3),
            ..ListOptions::default()
        };
        let mut found = BTreeMap::new();
        let mut at = None;
        loop {
            let request = world.request("list", "v1/configmaps", "default", "");
            let list = world.registry.list(&request, &options).await.unwrap();
            assert_eq!(
                *at.get_or_insert(list.revision),
                list.revision,
                "all pages are of one revision"
            );
            for entry in list.entries.iter() {
                found.insert(
                    entry.name().to_owned(),
                    entry.decode()["data"]["value"].as_str().unwrap().to_owned(),
                );
            }
            if list.continue_token.is_empty() {
                break;
            }
            options.continue_token = list.continue_token;
            tokio::task::yield_now().await;
        }
        let at = at.unwrap();
        if let Some((before, _)) = seen.last() {
            assert!(at >= *before, "time goes on");
        }
        seen.push((at, found));
    }
    seen
}

/// Writers, watchers and lists on one world, and what they must agree on.
pub(super) async fn run(world: World, seed: u64) {
    let world = Arc::new(world);
    let (_, list) = world
        .list("v1/configmaps", "default", &ListOptions::default())
        .await
        .unwrap();
    let mut watchers = JoinSet::new();
    for _ in 0..3 {
        watchers.spawn(watch(world.clone(), list.revision, ""));
    }
    let mut listers = JoinSet::new();
    for lister in 0..2 {
        listers.spawn(lists(world.clone(), seed * 1000 + 500 + lister));
    }
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS as u64 {
        writers.spawn(write(world.clone(), seed * 1000 + writer));
    }
    let acknowledged: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    let listed: Vec<_> = listers.join_all().await.into_iter().flatten().collect();
    world
        .create("v1/configmaps", "default", config_map("end", ""))
        .await
        .unwrap();
    // One who comes late sees the same.
    watchers.spawn(watch(world.clone(), list.revision, ""));
    let histories = watchers.join_all().await;
    let history = &histories[0];
    assert!(histories.iter().all(|other| other == history), "all see the same");
    for (revision, name, value) in acknowledged {
        assert_eq!(
            history.get(&revision),
            Some(&(name, value)),
            "acknowledged at {revision}"
        );
    }
    let state_at = |at: Revision| {
        let mut state = BTreeMap::new();
        for (_, (name, value)) in history.range(..=at) {
            match value {
                Some(value) => state.insert(name.clone(), value.clone()),
                None => state.remove(name),
            };
        }
        state
    };
    for (at, found) in listed {
        assert_eq!(found, state_at(at), "the list at {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_writers_watchers_and_lists_agree_on_one_history() {
    for seed in 0..4 {
        run(World::new().await, seed).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_update_of_a_counter_is_lost() {
    let world = Arc::new(World::new().await);
    world
        .create("v1/configmaps", "default", config_map("x", "0"))
        .await
        .unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..4 {
        let world = world.clone();
        writers.spawn(async move {
            let mut added = 0;
            while added < 10 {
                let mut object = world.get("v1/configmaps", "default", "x").await.unwrap();
                let count: u64 = object["data"]["value"].as_str().unwrap().parse().unwrap();
                object["data"]["value"] = (count + 1).to_string().into();
                match world.update("v1/configmaps", object).await {
                    Ok(_) => added += 1,
                    Err(status) => assert_eq!(status.reason, Reason::Conflict, "{status}"),
                }
            }
        });
    }
    writers.join_all().await;
    assert_eq!(
        world.get("v1/configmaps", "default", "x").await.unwrap()["data"]["value"],
        "40"
    );
}
