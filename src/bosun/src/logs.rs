//! Where the agent's words go.

use std::{
    env,
    fs::File,
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

/// Starts logging: to the journal if that is where standard error leads, else to standard error. `RUST_LOG` says how
/// much; without it, what changes.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let journal = leads_to_journal().then(tracing_journald::layer).and_then(Result::ok);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match journal {
        Some(journal) => journal.with_filter(filter).boxed(),
        None => tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_filter(filter)
            .boxed(),
    };
    tracing_subscriber::registry().with(layer).init();
}

/// systemd gives the device and inode of the stream it has connected to the journal.
fn leads_to_journal() -> bool {
    let Ok(stderr) = io::stderr().as_fd().try_clone_to_owned().map(File::from) else {
        return false;
    };
    let Ok(metadata) = stderr.metadata() else { return false };
    env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stream(&stream, metadata.dev(), metadata.ino()))
}

fn is_stream(stream: &str, device: u64, inode: u64) -> bool {
    stream == format!("{device}:{inode}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_only_used_when_standard_error_is_its_stream() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "", "8", "journal"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }
}
