//! Where log lines go: text to a terminal, fields to journald, JSON otherwise.

use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;
use std::panic;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use tracing::Level;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, journald where it reads our standard error, JSON otherwise.
    Auto,
    Text,
    Json,
    Journald,
}

/// Starts logging for the whole process, to standard error or to journald.
pub fn init(level: Level, format: Format) -> io::Result<()> {
    let lines = || {
        tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
    };
    let layer = match format.resolve() {
        Format::Journald => tracing_journald::layer()?
            .with_field_prefix(Some("SESSILE".to_owned()))
            .boxed(),
        // Of the spans that a line stands in, the innermost says whose request it is for.
        Format::Json => lines()
            .json()
            .flatten_event(true)
            .with_span_list(false)
            .boxed(),
        Format::Auto | Format::Text => lines().with_ansi(io::stderr().is_terminal()).boxed(),
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(LevelFilter::from_level(level)))
        .init();
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A panic is a bug of ours, and its message may quote what a caller sent: the place goes to the log for every
/// eye, the message only to those who debug.
fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    tracing::error!(panic.location = place, "a bug: this code panicked");
    let message = panic.payload_as_str().unwrap_or_default();
    tracing::debug!(
        panic.location = place,
        panic.message = message,
        "the panic's message"
    );
}

impl Format {
    fn resolve(self) -> Self {
        match self {
            Self::Auto if io::stderr().is_terminal() => Self::Text,
            Self::Auto if stderr_is_journald() => Self::Journald,
            Self::Auto => Self::Json,
            other => other,
        }
    }
}

/// systemd sets `JOURNAL_STREAM` to the device and inode of the stream it connected (systemd.exec(5)); the
/// variable is inherited, so it counts only while our standard error still is that stream.
fn stderr_is_journald() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else {
        return false;
    };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}
