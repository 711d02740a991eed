//! `bosun images`.

use std::{fmt::Write, path::Path, time::Duration};

use anyhow::{Context, bail};
use bosun_cri::{CriClient, ErrorKind, Runtime, runtime::Error, v1::Image};

use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use crate::{
    cli::{Endpoint, ImagesArgs, ImagesCommand},
    output,
};

/// What a runtime that is being started gets until it answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// Imports or lists images.
pub(crate) async fn run(args: &ImagesArgs) -> anyhow::Result<()> {
    let (socket, agent) = match &args.runtime_endpoint {
        Endpoint::Socket(socket) => (socket.clone(), None),
        Endpoint::Managed => (
            args.run_dir.join("containerd/containerd.sock"),
            Some(args.run_dir.join("agent.sock")),
        ),
    };
    let runtime = CriClient::connect(&format!("unix://{}", socket.display()))?;
    match answers(&runtime, agent.as_deref()).await {
        Ok(()) => {}
        Err(error) if error.kind == ErrorKind::Unavailable => bail!(
            "no container runtime answers at {}: start the agent, name its --run-dir, or name the machine's runtime \
             with --runtime-endpoint unix:///run/containerd/containerd.sock",
            socket.display()
        ),
        Err(error) => return Err(error.into()),
    }
    match &args.command {
        ImagesCommand::Import { files } => import(&runtime, files).await,
        ImagesCommand::List => {
            output::print(&table(&runtime.list_images().await?))?;
            Ok(())
        }
    }
}

/// Waits until the runtime answers, if there is an agent that is starting it.
async fn answers(runtime: &impl Runtime, agent: Option<&Path>) -> Result<(), Error> {
    let latest = Instant::now() + PATIENCE;
    loop {
        let Err(error) = runtime.version().await else {
            return Ok(());
        };
        let starting = match agent {
            Some(agent) if error.kind == ErrorKind::Unavailable => UnixStream::connect(agent).await.is_ok(),
            _ => false,
        };
        if !starting || Instant::now() >= latest {
            return Err(error);
        }
        sleep(PAUSE).await;
    }
}

async fn import(runtime: &impl Runtime, files: &[impl AsRef<Path>]) -> anyhow::Result<()> {
    // All are looked at before the first is imported.
    for file in files.iter().map(AsRef::as_ref) {
        std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    }
    for file in files.iter().map(AsRef::as_ref) {
        let file = std::path::absolute(file)?;
        let names = runtime
            .import_images(&file)
            .await
            .with_context(|| format!("importing {}", file.display()))?;
        if names.is_empty() {
            bail!(
                "{} holds no image with a name: save it with its tag, such as 'docker save web:1'",
                file.display()
            );
        }
        for name in names {
            output::print_line(&name)?;
        }
    }
    Ok(())
}

/// Images by name, those without one by id.
fn table(images: &[Image]) -> String {
    let mut rows: Vec<_> = images
        .iter()
        .flat_map(|image| {
            let unnamed = image.repo_tags.is_empty() && image.repo_digests.is_empty();
            let names = if image.repo_tags.is_empty() {
                &image.repo_digests
            } else {
                &image.repo_tags
            };
            let unnamed = unnamed.then(|| "<none>".to_owned());
            let id = image
                .id
                .strip_prefix("sha256:")
                .unwrap_or(&image.id)
                .chars()
                .take(12)
                .collect::<String>();
            names
                .iter()
                .cloned()
                .chain(unnamed)
                .map(move |name| (name, id.clone(), size(image.size)))
        })
        .collect();
    rows.sort();
    rows.insert(0, ("IMAGE".to_owned(), "ID".to_owned(), "SIZE".to_owned()));
    let width = rows
        .iter()
        .map(|(name, ..)| name.chars().count())
        .max()
        .unwrap_or_default();
    let mut text = String::new();
    for (name, id, size) in rows {
        writeln!(text, "{name:width$}  {id:12}  {size}").expect("writing to a string succeeds");
    }
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_listed_by_each_of_their_names() {
        let image = |id: &str, tags: &[&str], size| Image {
            id: id.to_owned(),
            repo_tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            size,
            ..Image::default()
        };
        let images = [
            image("sha256:0123456789abcdef", &["web:2", "web:1"], 2_345_678),
            image("sha256:ff", &[], 999),
        ];
        assert_eq!(
            table(&images),
            "IMAGE   ID            SIZE\n\
             <none>  ff            1.0 kB\n\
             web:1   0123456789ab  2.3 MB\n\
             web:2   0123456789ab  2.3 MB\n"
        );
        assert_eq!(table(&[]), "IMAGE  ID            SIZE\n");
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_opened_is_told_before_any_is_imported() {
        let runtime = bosun_cri::FakeRuntime::new();
        let error = import(&runtime, &["/no/such.tar"]).await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "opening /no/such.tar: No such file or directory (os error 2)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_the_agent_is_starting_is_waited_for() {
        let directory = tempfile::TempDir::new().unwrap();
        let agent = directory.path().join("agent.sock");
        let runtime = bosun_cri::FakeRuntime::new();
        let unavailable = || runtime.fail_next("Version", ErrorKind::Unavailable, "not yet");
        unavailable();
        let refused = answers(&runtime, Some(&agent)).await;
        assert!(refused.is_err(), "there is no agent that would start it");
        unavailable();
        assert!(
            answers(&runtime, None).await.is_err(),
            "another's runtime is not the agent's to start"
        );
        let _listener = tokio::net::UnixListener::bind(&agent).unwrap();
        unavailable();
        assert!(answers(&runtime, Some(&agent)).await.is_ok());
    }
}
