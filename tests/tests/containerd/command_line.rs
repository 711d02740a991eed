//! What the command line says without an agent.

use std::path::Path;

use anyhow::ensure;
use bosun_testkit::programs::{built, run};

#[tokio::test]
async fn the_version_is_the_workspaces() -> anyhow::Result<()> {
    let said = run(&built("bosun")?, ["version"]).await?;
    ensure!(said.contains(env!("CARGO_PKG_VERSION")), "{said:?}");
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
