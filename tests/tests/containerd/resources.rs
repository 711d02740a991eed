//! Requests and limits, as the kernel holds them.

use anyhow::ensure;
use bosun_testkit::{
    Node,
    manifest::{idle, pod, shell},
};
use serde_json::json;

const MIB: u64 = 1 << 20;

#[tokio::test]
async fn requests_and_limits_are_in_the_cgroups_of_container_and_pod() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let resources = |cpu: &str, limit: &str, memory: &str| {
        json!({
            "requests": { "cpu": cpu, "memory": "8Mi" }, "limits": { "cpu": limit, "memory": memory },
        })
    };
    let one = idle("one").set("/resources", resources("100m", "200m", "16Mi"));
    let two = idle("two").set("/resources", resources("300m", "500m", "32Mi"));
    node.apply(&pod("a").with(one).with(two))?;
    let ids = node.ready("a").await;

    let one = node.cgroup_of(&ids[0]).await?;
    ensure!(one.memory_limit()? == Some(16 * MIB), "{:?}", one.memory_limit());
    ensure!(one.cpu_quota()? == Some((20_000, 100_000)), "{:?}", one.cpu_quota());
    let pod = one.parent();
    ensure!(pod.memory_limit()? == Some(48 * MIB), "{:?}", pod.memory_limit());
    ensure!(pod.cpu_quota()? == Some((70_000, 100_000)), "{:?}", pod.cpu_quota());
    ensure!(
        pod.path().starts_with(node.cgroup_root()),
        "{} is not under the root",
        pod.path()
    );
    ensure!(
        node.cgroup_of(&ids[1]).await?.parent().path() == pod.path(),
        "one pod, two cgroups"
    );
    let (small, large) = (one.cpu_weight()?, node.cgroup_of(&ids[1]).await?.cpu_weight()?);
    // 100m against 300m.
    ensure!((large as f64 / small as f64 - 3.0).abs() < 0.3, "{small} and {large}");
    node.finish().await
}

#[tokio::test]
async fn the_quality_of_service_decides_the_place_in_the_hierarchy() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let same = json!({ "cpu": "100m", "memory": "16Mi" });
    let guaranteed = idle("main").set("/resources", json!({ "requests": same, "limits": same }));
    node.apply(&pod("guaranteed").with(guaranteed))?;
    node.apply(&pod("burstable").with(idle("main").set("/resources/requests/cpu", json!("50m"))))?;
    node.apply(&pod("besteffort").with(idle("main")))?;
    for name in ["guaranteed", "burstable", "besteffort"] {
        let id = node.ready(name).await.remove(0);
        let uid = node.pods().await?.pod(name)?.uid().to_owned();
        let path = node.cgroup_of(&id).await?.path().to_owned();
        let class = if name == "guaranteed" { "" } else { name };
        let classes: Vec<_> = ["burstable", "besteffort"]
            .into_iter()
            .filter(|class| path.contains(class))
            .collect();
        ensure!(
            classes.iter().all(|found| *found == class) && (class.is_empty() || classes.len() == 1),
            "{name}: {path}"
        );
        ensure!(
            path.contains(&uid) || path.contains(&uid.replace('-', "_")),
            "{path} does not name {uid}"
        );
        let reported = node
            .pods()
            .await?
            .pod(name)?
            .whole()
            .status
            .as_ref()
            .and_then(|status| status.qos_class.clone());
        ensure!(reported.is_some_and(|class| class.eq_ignore_ascii_case(name)));
    }
    node.finish().await
}

#[tokio::test]
async fn a_container_beyond_its_memory_is_killed_and_the_reason_says_so() -> anyhow::Result<()> {
    let node = Node::start().await?;
    // tail keeps what it reads until a line ends, and /dev/zero has none.
    let main = shell("main", "exec tail /dev/zero").set("/resources/limits/memory", json!("16Mi"));
    node.apply(&pod("a").restart("Never").with(main))?;
    node.until("a", "killed for its memory", |view| {
        let ended = view.container("main")?.ended();
        ensure!(ended == Some((137, "OOMKilled")), "{ended:?}");
        Ok(())
    })
    .await;
    node.finish().await
}
