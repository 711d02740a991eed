//! Container logs: CRI's format, upstream's places.

use std::fs;

use anyhow::{Context, ensure};
use bosun_testkit::{
    Node, PATIENCE, eventually,
    manifest::{pod, shell},
};

#[tokio::test]
async fn each_line_has_its_time_stream_and_tag_and_shippers_find_the_file() -> anyhow::Result<()> {
    let node = Node::start().await?;
    let script = "echo out; echo err >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; exec sleep 3600";
    node.apply(&pod("a").with(shell("main", script)))?;
    let id = node.ready("a").await.remove(0);
    let uid = node.pods().await?.pod("a")?.uid().to_owned();

    let files = node.log_files("a", "main")?;
    ensure!(files.len() == 1, "{files:?}");
    let path = files[0].to_string_lossy().into_owned();
    ensure!(
        path.ends_with(&format!("_{uid}/main/0.log")) && path.contains("/pods/default_a"),
        "{path}"
    );

    let lines = eventually(PATIENCE, "all was written", async || {
        let text = fs::read_to_string(&files[0])?;
        let lines: Vec<Vec<String>> = text
            .lines()
            .map(|line| line.splitn(4, ' ').map(str::to_owned).collect())
            .collect();
        ensure!(
            lines.iter().filter(|line| line[2] == "F").count() == 3,
            "{} lines",
            lines.len()
        );
        Ok(lines)
    })
    .await;
    let of = |stream: &str| {
        lines
            .iter()
            .filter(|line| line[1] == stream)
            .map(|line| (line[2].as_str(), line[3].len()))
            .collect::<Vec<_>>()
    };
    ensure!(of("stderr") == [("F", 3)], "{:?}", of("stderr"));
    // A line longer than the runtime's 16 KiB comes in parts.
    ensure!(
        of("stdout") == [("F", 3), ("P", 16384), ("F", 20000 - 16384)],
        "{:?}",
        of("stdout")
    );
    for line in &lines {
        let time = &line[0];
        ensure!(time.len() >= 20 && time.as_bytes()[10] == b'T', "not RFC 3339: {time}");
    }

    let links: Vec<_> = fs::read_dir(node.log_dir().join("containers"))?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    ensure!(links.len() == 1, "{links:?}");
    let name = links[0].file_name().context("a name")?.to_string_lossy().into_owned();
    ensure!(
        name.starts_with('a') && name.ends_with(&format!("_default_main-{id}.log")),
        "{name}"
    );
    ensure!(
        fs::canonicalize(&links[0])? == fs::canonicalize(&files[0])?,
        "the link leads elsewhere"
    );
    node.finish().await
}

#[tokio::test]
async fn each_run_of_a_container_has_a_file_of_its_own() -> anyhow::Result<()> {
    let node = Node::start().await?;
    node.apply(&pod("a").restart("OnFailure").with(shell("main", "echo run; exit 1")))?;
    eventually(PATIENCE, "two runs", async || {
        let mut files = node.log_files("a", "main")?;
        files.sort();
        let names: Vec<_> = files.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        ensure!(names.ends_with(&["1.log"]) || names.ends_with(&["2.log"]), "{names:?}");
        Ok(())
    })
    .await;
    node.finish().await
}
