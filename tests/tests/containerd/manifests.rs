//! Files in the manifest folder: what is added, changed, removed, and what is wrong with one.

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::ensure;
use bosun_testkit::{
    Node, PATIENCE, eventually,
    manifest::{idle, pod, web},
};

#[tokio::test]
async fn a_manifest_added_starts_a_pod_and_its_removal_ends_it() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(idle("main")))?;
    let ids = node.ready("a").await;
    ensure!(node.exec(&ids[0], &["echo", "hello"]).await?.trim() == "hello");
    node.remove("a")?;
    node.gone("a").await;
    node.finish().await
}

#[tokio::test]
async fn manifests_are_acted_upon_within_a_tenth_of_a_second() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let mut fastest = Duration::MAX;
    // The best of a few: other tests share the processors.
    for number in 0..8 {
        let name = format!("quick-{number}");
        let manifest = pod(&name).with(idle("main"));
        let start = Instant::now();
        node.apply(&manifest)?;
        node.until(&name, "listed", |_| Ok(())).await;
        fastest = fastest.min(start.elapsed());
        node.remove(&name)?;
    }
    ensure!(
        fastest < Duration::from_millis(100),
        "{fastest:?} from the file to the pod"
    );
    node.finish().await
}

#[tokio::test]
async fn a_changed_manifest_replaces_its_pod_by_a_new_one() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(web("main", "first")))?;
    let old = node.ready("a").await;
    let old_uid = node.pods().await?.pod("a")?.uid().to_owned();

    node.apply(&pod("a").with(web("main", "second")))?;
    let ip = node
        .until("a", "replaced", |view| {
            ensure!(view.uid() != old_uid && view.is_ready(), "{}", view.uid());
            view.ip()
        })
        .await;
    let body = eventually(PATIENCE, "the new pod answers", async || {
        node.netns().http_get(ip, 8080, "/")
    })
    .await;
    ensure!(body.trim() == "second", "{body}");
    let containers = node.ctr(&["containers", "list", "--quiet"]).await?;
    ensure!(!containers.contains(&old[0]), "the old container is still there");
    node.finish().await
}

#[tokio::test]
async fn a_file_written_again_without_a_change_leaves_its_pod_alone() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let manifest = pod("a").with(idle("main"));
    node.apply(&manifest)?;
    let before = node.ready("a").await;
    node.apply(&manifest)?;
    // A later file is acted upon after the earlier one.
    node.apply(&pod("b").with(idle("main")))?;
    node.ready("b").await;
    ensure!(node.ready("a").await == before, "the pod was replaced");
    node.finish().await
}

#[tokio::test]
async fn an_invalid_manifest_is_named_with_its_field_and_disturbs_nothing() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("good").with(idle("main")))?;
    node.apply(&pod("other").with(idle("main")))?;
    let (good, other) = (node.ready("good").await, node.ready("other").await);

    let text = pod("good").with(idle("main")).text();
    let cases = [
        ("half-written", text[..text.len() / 2].to_owned(), "good.yaml"),
        (
            "of a wrong type",
            text.replace(
                "\"terminationGracePeriodSeconds\": 2",
                "\"terminationGracePeriodSeconds\": \"soon\"",
            ),
            "terminationGracePeriodSeconds",
        ),
        ("without containers", pod("good").text(), "spec.containers"),
        (
            "of a bad name",
            text.replace("\"name\": \"main\"", "\"name\": \"Main_Container\""),
            "containers[0].name",
        ),
        (
            "of another kind",
            text.replace("\"kind\": \"Pod\"", "\"kind\": \"Service\""),
            "Service",
        ),
    ];
    for (what, text, named) in cases {
        node.write_manifest("good.yaml", &text)?;
        let error = eventually(PATIENCE, &format!("a manifest {what} is reported"), async || {
            let list = node.pods().await?;
            let error = list
                .error_of("good.yaml")
                .map(str::to_owned)
                .ok_or_else(|| anyhow::anyhow!("{:?}", list.manifests))?;
            ensure!(format!("good.yaml: {error}").contains(named), "{error}");
            Ok(error)
        })
        .await;
        ensure!(
            node.agent_log_text().contains("good.yaml"),
            "the log does not name the file: {error}"
        );
        ensure!(
            node.ready("good").await == good,
            "the earlier version of a manifest {what} was replaced"
        );
        ensure!(
            node.ready("other").await == other,
            "another pod was disturbed by a manifest {what}"
        );
        let words = node.cli_words("pods", &[]).await?;
        ensure!(
            words.contains("good.yaml"),
            "`bosun pods` does not name the file:\n{words}"
        );
    }

    node.apply(&pod("good").with(web("main", "mended")))?;
    let mended = node.until("good", "mended", |view| {
        let id = view.container("main")?.id().to_owned();
        ensure!(view.is_ready() && id != good[0], "still {id}");
        Ok(())
    });
    mended.await;
    let list = node.pods().await?;
    ensure!(
        list.error_of("good.yaml").is_none(),
        "the old error stays: {:?}",
        list.manifests
    );
    node.finish().await
}

#[tokio::test]
async fn an_invalid_manifest_taken_away_ends_its_earlier_version() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(idle("main")))?;
    node.ready("a").await;
    node.write_manifest("a.yaml", "kind: Pod\nspec: [\n")?;
    eventually(PATIENCE, "the error is reported", async || {
        let list = node.pods().await?;
        list.error_of("a.yaml")
            .map(str::to_owned)
            .ok_or_else(|| anyhow::anyhow!("{:?}", list.manifests))
    })
    .await;
    node.remove("a")?;
    node.gone("a").await;
    ensure!(
        node.pods().await?.error_of("a.yaml").is_none(),
        "the error outlives its file"
    );
    node.finish().await
}

#[tokio::test]
async fn two_files_with_one_pod_name_are_an_error_of_the_second() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").with(idle("main")))?;
    let ids = node.ready("a").await;
    node.write_manifest("again.yaml", &pod("a").with(idle("main")).text())?;
    eventually(PATIENCE, "the second file is reported", async || {
        let list = node.pods().await?;
        let error = list.error_of("again.yaml").unwrap_or_default().to_owned();
        ensure!(error.contains("a.yaml"), "it does not name the first: {error:?}");
        Ok(())
    })
    .await;
    ensure!(node.ready("a").await == ids, "the first was disturbed");
    node.finish().await
}

#[tokio::test]
async fn hidden_files_and_folders_are_no_manifests_and_json_is_one() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let text = pod("hidden").with(idle("main")).text();
    node.write_manifest(".hidden.yaml", &text)?;
    fs::create_dir(node.manifest_dir().join("folder"))?;
    node.write_manifest("a.json", &pod("a").with(idle("main")).text())?;
    node.ready("a").await;
    let list = node.pods().await?;
    ensure!(
        list.pod("hidden").is_err() && list.manifests.iter().all(|m| m.error.is_none()),
        "{list:?}"
    );
    fs::remove_dir(node.manifest_dir().join("folder"))?;
    node.finish().await
}

#[tokio::test]
async fn manifests_that_were_there_first_start_with_the_agent() -> anyhow::Result<()> {
    let mut node = Node::start().await?;
    node.stop_agent().await?;
    node.apply(&pod("early").with(idle("main")))?;
    node.start_agent().await?;
    node.ready("early").await;
    node.finish().await
}
