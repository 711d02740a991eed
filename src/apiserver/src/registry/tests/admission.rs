use async_trait::async_trait;
use bosun_store::{Compare, Op, Revision};

use super::*;
use crate::{
    Reason,
    admission::{Admission, Attributes, Operation, Warning},
};

/// Counts config maps in a key of its own, as a quota does, and lets no more than so many be.
struct Counting {
    store: Arc<dyn Store>,
    most: u64,
}

const COUNT: &str = "/test/count";

#[async_trait]
impl Admission for Counting {
    async fn mutate(&self, attributes: &mut Attributes<'_>) -> Result<Vec<Warning>, Status> {
        if attributes.operation == Operation::Create {
            attributes.object["data"]["admitted"] = "yes".into();
        }
        Ok(vec!["it was looked at".into()])
    }

    async fn validate(&self, attributes: &mut Attributes<'_>) -> Result<(), Status> {
        let step: i64 = match (
            attributes.operation,
            &*attributes.request.resource.as_ref().unwrap().plural,
        ) {
            (Operation::Create, "configmaps") => 1,
            (Operation::Delete, "configmaps") => -1,
            _ => return Ok(()),
        };
        let there = self.store.get(COUNT.into()).await?;
        let (count, was) = match &there {
            Some(kv) => (std::str::from_utf8(&kv.value).unwrap().parse().unwrap(), kv.modified),
            None => (0, Revision(0)),
        };
        let next = count + step;
        if next > self.most as i64 {
            return Err(Status::forbidden("", "configmaps", attributes.name, "exceeded quota"));
        }
        attributes.txn.compares.push(Compare::Modified(COUNT.into(), was));
        attributes.txn.ops.push(Op::Put {
            key: COUNT.into(),
            value: next.to_string().into(),
            ttl: None,
        });
        Ok(())
    }
}

async fn count(world: &World) -> String {
    let kv = world.store.get(COUNT.into()).await.unwrap().unwrap();
    String::from_utf8(kv.value.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_admission_counts_is_counted_in_the_same_transaction() {
    let world = Arc::new(World::new().await);
    world.registry.admit_with(Arc::new(Counting {
        store: world.store.clone(),
        most: 7,
    }));
    let mut creations = tokio::task::JoinSet::new();
    for number in 0..12 {
        let world = world.clone();
        creations.spawn(async move {
            world
                .create("v1/configmaps", "default", config_map(&format!("c{number}"), "1"))
                .await
        });
    }
    let (made, refused): (Vec<_>, Vec<_>) = creations.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (7, 5));
    assert!(
        refused
            .iter()
            .all(|status| status.as_ref().unwrap_err().reason == Reason::Forbidden)
    );
    assert!(
        made.iter()
            .all(|object| object.as_ref().unwrap()["data"]["admitted"] == "yes")
    );
    assert_eq!(count(&world).await, "7");
    let name = made[0].as_ref().unwrap()["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    world
        .delete("v1/configmaps", "default", &name, &DeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(count(&world).await, "6");
    let dry = WriteOptions {
        dry_run: true,
        ..options()
    };
    let request = world.request("create", "v1/configmaps", "default", "");
    let written = world
        .registry
        .create(&request, config_map("dry", "1").into(), &dry)
        .await
        .unwrap();
    assert_eq!(written.warnings, ["it was looked at"]);
    assert_eq!(count(&world).await, "6");
}
