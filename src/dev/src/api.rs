//! What the commands ask of the cluster's API server, as its administrator.

use std::{path::Path, time::Duration};

use anyhow::Context;
use bosun_net::Cidr;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::time::timeout;

/// No answer may take longer.
const ANSWER: Duration = Duration::from_secs(5);

/// A node as the API has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeView {
    pub(crate) name: String,
    /// Why it is not ready; `None` if it is.
    pub(crate) not_ready: Option<String>,
    /// Its pods' ranges.
    pub(crate) pod_cidrs: Vec<Cidr>,
}

/// A client with what the kubeconfig says.
pub(crate) async fn client(kubeconfig: &Path) -> anyhow::Result<Client> {
    let what = || format!("reading {}", kubeconfig.display());
    let file = Kubeconfig::read_from(kubeconfig).with_context(what)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .with_context(what)?;
    config.connect_timeout = Some(ANSWER);
    config.read_timeout = Some(ANSWER);
    // It is on this machine, whatever the environment says.
    config.proxy_url = None;
    Client::try_from(config).with_context(what)
}

/// Whether the server says that it is ready.
pub(crate) async fn ready(client: &Client) -> anyhow::Result<()> {
    let request = http::Request::get("/readyz").body(Vec::new())?;
    let answer = timeout(ANSWER, client.request_text(request)).await;
    answer.context("the server does not answer in time")??;
    Ok(())
}

/// All nodes.
pub(crate) async fn nodes(client: &Client) -> anyhow::Result<Vec<NodeView>> {
    let api: Api<Node> = Api::all(client.clone());
    let list = timeout(ANSWER, api.list(&ListParams::default())).await;
    let list = list
        .context("the server does not answer in time")?
        .context("listing nodes")?;
    Ok(list.items.iter().map(view).collect())
}

fn view(node: &Node) -> NodeView {
    let status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let not_ready = match conditions.iter().find(|condition| condition.type_ == "Ready") {
        Some(ready) if ready.status == "True" => None,
        Some(ready) => Some(
            ready
                .message
                .clone()
                .unwrap_or_else(|| "it says that it is not ready".to_owned()),
        ),
        None => Some("it has not said yet how it is".to_owned()),
    };
    let spec = node.spec.clone().unwrap_or_default();
    let ranges = spec.pod_cidrs.unwrap_or_else(|| spec.pod_cidr.into_iter().collect());
    NodeView {
        name: node.name_any(),
        not_ready,
        pod_cidrs: ranges.iter().filter_map(|range| range.parse().ok()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(node: serde_json::Value) -> NodeView {
        view(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn a_node_that_is_not_ready_says_why() {
        let with = |conditions: serde_json::Value| {
            read(json!({"metadata": {"name": "n"}, "status": {"conditions": conditions}})).not_ready
        };
        assert_eq!(with(json!([{"type": "Ready", "status": "True"}])), None);
        assert_eq!(
            with(json!([{"type": "Ready", "status": "False", "message": "no network"}])).as_deref(),
            Some("no network")
        );
        assert!(with(json!([{"type": "Ready", "status": "Unknown"}])).is_some());
        assert!(with(json!([])).is_some());
        assert!(read(json!({"metadata": {"name": "n"}})).not_ready.is_some());
    }

    #[test]
    fn a_nodes_ranges_are_all_it_has() {
        let node = read(json!({
            "metadata": {"name": "node-1"},
            "spec": {"podCIDR": "10.200.0.0/24", "podCIDRs": ["10.200.0.0/24", "fd00::/64"]}
        }));
        assert_eq!(node.pod_cidrs.len(), 2);
        let old = read(json!({"metadata": {"name": "node-1"}, "spec": {"podCIDR": "10.200.0.0/24"}}));
        assert_eq!(old.pod_cidrs, ["10.200.0.0/24".parse().unwrap()]);
    }
}
