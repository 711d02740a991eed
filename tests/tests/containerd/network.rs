//! The pod network: every pod has an address, every pod reaches every other.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::ensure;
use bosun_testkit::{
    Node, PATIENCE, eventually,
    manifest::{idle, pod, shell, web},
};
use serde_json::json;

#[tokio::test]
async fn pods_reach_each_other_and_the_node_reaches_them_by_address() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let names = ["red", "green", "blue"];
    for name in names {
        node.apply(&pod(name).with(web("main", name)))?;
    }
    let mut pods = Vec::new();
    for name in names {
        let id = node.ready(name).await.remove(0);
        let ip = node.pods().await?.pod(name)?.ip()?;
        pods.push((name, id, ip));
    }
    let addresses: BTreeSet<_> = pods.iter().map(|(_, _, ip)| *ip).collect();
    ensure!(addresses.len() == 3, "{addresses:?}");
    for ip in addresses {
        let IpAddr::V4(ip) = ip else {
            anyhow::bail!("{ip}: the range is IPv4's")
        };
        ensure!(ip.octets()[..3] == [10, 88, 0], "{ip} is not of 10.88.0.0/24");
    }
    for (name, _, ip) in &pods {
        let body = eventually(PATIENCE, &format!("{name} answers"), async || {
            node.netns().http_get(*ip, 8080, "/")
        })
        .await;
        ensure!(body.trim() == *name, "{body}");
    }
    for (_, from, _) in &pods {
        for (name, _, ip) in &pods {
            let body = node
                .exec(from, &["wget", "-q", "-O", "-", &format!("http://{ip}:8080/")])
                .await?;
            ensure!(body.trim() == *name, "{body}");
        }
    }
    node.finish().await
}

#[tokio::test]
async fn containers_of_a_pod_share_its_address_and_localhost() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(web("web", "shared")).with(idle("client")))?;
    let ids = node.ready("a").await;
    let body = eventually(PATIENCE, "localhost answers", async || {
        node.exec(&ids[1], &["wget", "-q", "-O", "-", "http://127.0.0.1:8080/"])
            .await
    })
    .await;
    ensure!(body.trim() == "shared", "{body}");
    node.finish().await
}

#[tokio::test]
async fn a_pod_on_the_hosts_network_is_in_the_nodes_namespace() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(
        &pod("host")
            .set("/spec/hostNetwork", true.into())
            .with(web("main", "host")),
    )?;
    let id = node.ready("host").await.remove(0);
    let body = eventually(PATIENCE, "it answers on the node's localhost", async || {
        node.netns().http_get([127, 0, 0, 1].into(), 8080, "/")
    })
    .await;
    ensure!(body.trim() == "host", "{body}");
    let links = |text: &str| {
        text.lines()
            .skip(2)
            .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
            .collect::<Vec<_>>()
    };
    let inside = links(&node.exec(&id, &["cat", "/proc/net/dev"]).await?);
    ensure!(inside == node.netns().links()?, "{inside:?}");
    node.finish().await
}

#[tokio::test]
async fn addresses_come_back_for_later_pods() -> anyhow::Result<()> {
    // Eight addresses at most, twelve pods one after another.
    let options = bosun_testkit::Options {
        pod_cidr: "10.88.7.0/29".into(),
        ..Default::default()
    };
    let node = Node::with(options).await?;
    for number in 0..12 {
        let name = format!("pod-{number}");
        node.apply(&pod(&name).grace(0).with(idle("main")))?;
        node.ready(&name).await;
        node.remove(&name)?;
        node.gone(&name).await;
    }
    node.finish().await
}

#[tokio::test]
async fn a_range_used_up_is_a_clear_state_and_mends_itself() -> anyhow::Result<()> {
    let options = bosun_testkit::Options {
        pod_cidr: "10.88.7.0/29".into(),
        ..Default::default()
    };
    let node = Node::with(options).await?;
    let names: Vec<_> = (0..8).map(|number| format!("pod-{number}")).collect();
    for name in &names {
        node.apply(&pod(name).grace(0).with(idle("main")))?;
    }
    let ready = |list: &bosun_testkit::PodList| {
        list.pods()
            .filter(|pod| pod.is_ready())
            .map(|pod| pod.name().to_owned())
            .collect::<Vec<_>>()
    };
    let first = eventually(PATIENCE, "some run, the others say why they don't", async || {
        let list = node.pods().await?;
        let ready = ready(&list);
        ensure!((4..8).contains(&ready.len()), "{ready:?}");
        for pod in list.pods().filter(|pod| !pod.is_ready()) {
            let said = format!("{} {}", pod.reason(), pod.container("main")?.waiting());
            ensure!(said.contains("10.88.7.0/29"), "{}: {said}", pod.name());
        }
        Ok(ready)
    })
    .await;
    for name in &first {
        node.remove(name)?;
    }
    eventually(PATIENCE * 2, "the others run", async || {
        let ready = ready(&node.pods().await?);
        // As many as the range has addresses.
        ensure!(ready.len() == first.len().min(names.len() - first.len()), "{ready:?}");
        Ok(())
    })
    .await;
    node.finish().await
}

#[tokio::test]
async fn a_pods_name_is_its_hostname() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("named").with(shell("main", "hostname; exec sleep 3600")))?;
    node.apply(
        &pod("other")
            .set("/spec/hostname", json!("chosen"))
            .with(shell("main", "hostname; exec sleep 3600")),
    )?;
    node.ready("named").await;
    node.ready("other").await;
    let said = eventually(PATIENCE, "both said their names", async || {
        let said = [node.logs("named", "main")?, node.logs("other", "main")?].concat();
        ensure!(said.len() == 2, "{said:?}");
        Ok(said)
    })
    .await;
    ensure!(said[0].starts_with("named") && said[1] == "chosen", "{said:?}");
    node.finish().await
}
