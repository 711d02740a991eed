//! The built programs, and running commands with a deadline.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{process::Command, time::timeout};

/// How long a command may take that should answer at once.
pub const COMMAND: Duration = Duration::from_secs(20);

/// The folder with `bosun` and `bosun-cni`, as `hack/build` leaves them; `BOSUN_BIN_DIR` names another.
pub fn bin_dir() -> PathBuf {
    env::var_os("BOSUN_BIN_DIR").map_or_else(|| repository().join("target/bin"), PathBuf::from)
}

/// One of the built programs.
pub fn built(name: &str) -> anyhow::Result<PathBuf> {
    let path = bin_dir().join(name);
    if !path.exists() {
        bail!(
            "{} is not built: run ./hack/build (or ./hack/test, which does)",
            path.display()
        );
    }
    Ok(path)
}

/// The archive with the demo's image, as `hack/images` leaves it.
pub fn demo_archive() -> anyhow::Result<PathBuf> {
    let path = repository().join("target/images/demo.tar");
    if !path.exists() {
        bail!(
            "{} is not made: run ./hack/images (or ./hack/test, which does)",
            path.display()
        );
    }
    Ok(path)
}

/// The repository's folder.
pub fn repository() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let mut above = package.ancestors();
    above
        .find(|path| path.join("Cargo.lock").exists())
        .unwrap_or(&package)
        .to_path_buf()
}

/// Runs a command to its end and returns what it printed; one that fails or dawdles is an error with its words.
pub async fn run<S: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = S>) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(args);
    Ok(String::from_utf8_lossy(&succeeding(command).await?.stdout).into_owned())
}

/// Runs a command that must succeed.
pub async fn succeeding(command: Command) -> anyhow::Result<Output> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let output = output(command, COMMAND).await?;
    if !output.status.success() {
        bail!(
            "{name}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output)
}

/// Runs a command to its end, whatever that is, or kills it at the deadline.
pub async fn output(mut command: Command, deadline: Duration) -> anyhow::Result<Output> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command.kill_on_drop(true).stdin(std::process::Stdio::null());
    let output = timeout(deadline, command.output()).await;
    output
        .with_context(|| format!("{name} did not end within {deadline:?}"))?
        .with_context(|| format!("running {name}"))
}
