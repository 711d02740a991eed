//! `bosun pods`.

mod table;

use anyhow::{Context, bail};
use bosun_api::core::Pod;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    cli::{Output, PodsArgs},
    client, output,
};

/// What the agent says.
#[derive(Debug, Deserialize)]
struct PodList {
    items: Vec<Pod>,
    #[serde(default)]
    manifests: Vec<Manifest>,
}

/// A manifest that can't be used.
#[derive(Debug, Deserialize)]
struct Manifest {
    file: String,
    error: String,
}

/// Shows the agent's pods.
pub(crate) async fn run(args: &PodsArgs) -> anyhow::Result<()> {
    let socket = args.run_dir.join("agent.sock");
    let answer = client::get(&socket, "/pods").await?;
    let whole: Value = serde_json::from_slice(&answer).context("reading the agent's answer")?;
    let list: PodList = serde_json::from_slice(&answer).context("reading the agent's answer")?;
    let chosen = match &args.name {
        Some(name) => Some(find(&list.items, name)?),
        None => None,
    };
    if args.output == Output::Json {
        let value = chosen.map_or(&whole, |index| &whole["items"][index]);
        output::print_line(&serde_json::to_string_pretty(value)?)?;
        return Ok(());
    }
    let pods = chosen.map_or(&list.items[..], |index| &list.items[index..=index]);
    if pods.is_empty() {
        eprintln!("no pods: put a manifest into the agent's --manifest-dir");
    } else {
        output::print(&table::render(pods, args.output == Output::Wide, Timestamp::now()))?;
    }
    if chosen.is_none() && !list.manifests.is_empty() {
        eprintln!("manifests that can't be used:");
        for Manifest { file, error } in &list.manifests {
            eprintln!("  {file}: {error}");
        }
    }
    Ok(())
}

/// The place of the one pod of this name.
fn find(pods: &[Pod], name: &str) -> anyhow::Result<usize> {
    let named = |pod: &Pod| {
        let full = pod.metadata.name.as_deref().unwrap_or_default();
        let node = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_deref())
            .unwrap_or_default()
            .to_lowercase();
        let short = full.strip_suffix(&node).and_then(|name| name.strip_suffix('-'));
        full == name || short == Some(name)
    };
    let found: Vec<_> = pods
        .iter()
        .enumerate()
        .filter(|(_, pod)| named(pod))
        .map(|(index, _)| index)
        .collect();
    match found[..] {
        [one] => Ok(one),
        [] => {
            let names: Vec<_> = pods.iter().filter_map(|pod| pod.metadata.name.as_deref()).collect();
            bail!(
                "no pod {name:?} on this node; there are: {}",
                if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(", ")
                }
            )
        }
        // One of them may be in another namespace, or of another node that writes here.
        _ => bail!("there are {} pods {name:?}: see them with 'bosun pods'", found.len()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(names: &[&str]) -> Vec<Pod> {
        let pod = |name: &&str| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"nodeName": "N-1", "containers": []}});
            serde_json::from_value(pod).unwrap()
        };
        names.iter().map(pod).collect()
    }

    #[test]
    fn a_pod_is_found_by_its_name_with_and_without_the_nodes() {
        let pods = pods(&["web-n-1", "db-n-1"]);
        assert_eq!(find(&pods, "db").unwrap(), 1);
        assert_eq!(find(&pods, "web-n-1").unwrap(), 0);
        let error = find(&pods, "d").unwrap_err().to_string();
        assert_eq!(error, r#"no pod "d" on this node; there are: web-n-1, db-n-1"#);
        assert_eq!(
            find(&[], "d").unwrap_err().to_string(),
            r#"no pod "d" on this node; there are: none"#
        );
    }
}
