//! What the command line says without an agent.

use std::path::Path;

use anyhow::ensure;
use bosun_testkit::programs::{built, run};
use tokio::process::Command;

#[tokio::test]
async fn the_version_is_the_workspaces() -> anyhow::Result<()> {
    let said = run(&built("bosun")?, ["version"]).await?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_failure() -> anyhow::Result<()> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let output = Command::new(built("bosun")?)
        .arg("version")
        .stdout(writer)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    Ok(())
}

#[tokio::test]
async fn without_an_agent_pods_says_where_it_looked_and_what_to_do() -> anyhow::Result<()> {
    let nowhere = "/nonexistent/bosun-run";
    let error = run(&built("bosun")?, ["pods", "--run-dir", nowhere])
        .await
        .expect_err("no agent runs there");
    let said = format!("{error:#}");
    ensure!(said.contains(nowhere) && said.contains("bosun agent"), "{said}");
    ensure!(!Path::new(nowhere).exists(), "asking made {nowhere}");
    Ok(())
}
