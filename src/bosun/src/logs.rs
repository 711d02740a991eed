//! Where the agent's words go.

use std::{
    env, fmt,
    fs::File,
    io::{self, IsTerminal},
    os::{fd::AsFd, unix::fs::MetadataExt},
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Starts logging: to the journal if that is where standard error leads, else to standard error. `RUST_LOG` says how
/// much; without it, what changes.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if leads_to_journal() {
        layer
            .event_format(ForJournal)
            .with_ansi(false)
            .with_filter(filter)
            .boxed()
    } else {
        layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed()
    };
    tracing_subscriber::registry().with(layer).init();
}

/// Lines for systemd's journal: the priority in front, as sd-daemon(3) has it, and no time, which the journal adds.
/// The fields stay in the line, so that `journalctl -u bosun-agent` shows which pod and which file.
struct ForJournal;

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        let line = format::Format::default().without_time().with_level(false);
        line.format_event(context, writer, event)
    }
}

/// syslog(3)'s priority of a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
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
    fn a_level_has_the_priority_that_journalctl_filters_by() {
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        assert_eq!(levels.map(priority), [3, 4, 6, 7, 7]);
    }

    #[test]
    fn the_journal_is_only_used_when_standard_error_is_its_stream() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "", "8", "journal"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }
}
