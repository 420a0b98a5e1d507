//! `mlxsupd.log`, and stderr when somebody looks at it.
//!
//! Owns the subscriber: level, line format, destinations. Our own targets follow the configured level; libraries never get
//! below warnings, whose chatter would rotate our decisions away.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use chrono::{Local, SecondsFormat};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;

use super::line;
use super::rotating_file::RotatingFile;
use crate::config::{Log, LogFormat, LogLevel};

/// Whether lines also go to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StderrLog {
    /// When stderr is a terminal.
    Auto,
    /// Always; for a service manager that collects it, and for tests.
    Always,
    /// Never.
    Never,
}

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The file cannot be opened.
    #[error("cannot open the log `{path}` for appending: {source}; make its folder writable for the daemon's user")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A subscriber is installed already.
    #[error("logging was set up before in this process")]
    Twice,
}

/// The running log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logging {
    file: RotatingFile,
    filter: reload::Handle<Targets, Registry>,
}

impl Logging {
    /// Sends everything `tracing` records in this process to `path` (`logs/mlxsupd.log`), and to stderr as asked. Once per
    /// process.
    ///
    /// # Errors
    /// When the file cannot be opened, or on a second call.
    pub fn start(path: &Path, log: &Log, stderr: StderrLog) -> Result<Self, LoggingError> {
        let (logging, subscriber) = Self::build(path, log, stderr)?;
        tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::Twice)?;
        Ok(logging)
    }

    fn build(
        path: &Path,
        log: &Log,
        stderr: StderrLog,
    ) -> Result<(Self, impl Subscriber + Send + Sync + 'static), LoggingError> {
        let file = RotatingFile::open(path, log.rotate_at, log.keep)
            .map_err(|source| LoggingError::Open { path: path.to_owned(), source })?;
        let (filter, handle) = reload::Layer::new(targets(log.level));
        let shown = match stderr {
            StderrLog::Auto => io::stderr().is_terminal(),
            StderrLog::Always => true,
            StderrLog::Never => false,
        };
        let writer = file.clone();
        let file_layer = layer(log.format, move || writer.clone());
        let stderr_layer = shown.then(|| layer(log.format, io::stderr));
        // One filter in front of both destinations. A layer that is not global would be asked per line and per layer.
        let subscriber = tracing_subscriber::registry().with(filter).with(file_layer).with(stderr_layer);
        Ok((Self { file, filter: handle }, subscriber))
    }

    /// Opens the path anew (USR1).
    ///
    /// # Errors
    /// When it cannot be opened; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.file.reopen()
    }

    /// Takes over changed level and rotation; the line format needs a new daemon.
    pub fn configure(&self, log: &Log) {
        self.file.configure(log.rotate_at, log.keep);
        // Fails only when the subscriber is gone, and then there is nothing to filter.
        let _ = self.filter.reload(targets(log.level));
    }

    /// Lines that could not be written since one last could: a full disk, most likely.
    #[must_use]
    pub fn failed_writes(&self) -> u64 {
        self.file.failed_writes()
    }
}

/// Our own code at `level`, everything else at warnings or less.
fn targets(level: LogLevel) -> Targets {
    let own = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(own.min(LevelFilter::WARN)).with_target("mlxsup", own)
}

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

fn layer<S, W>(format: LogFormat, writer: W) -> Boxed<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    match format {
        LogFormat::Text => layer.event_format(KeyValue).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_timer(LocalTime).with_current_span(false).boxed(),
    }
}

/// RFC 3339 with the local offset, to the microsecond: a death is noticed and decided upon within one millisecond.
struct LocalTime;

impl FormatTime for LocalTime {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        w.write_str(&Local::now().to_rfc3339_opts(SecondsFormat::Micros, false))
    }
}

/// `TIME LEVEL message key=value …`: one line, whatever the values hold.
struct KeyValue;

impl<S, N> FormatEvent<S, N> for KeyValue
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        LocalTime.format_time(&mut writer)?;
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        write!(writer, " {level:5}")?;
        if !parts.message.is_empty() {
            write!(writer, " {}", parts.message)?;
        }
        if !parts.fields.is_empty() {
            write!(writer, " {}", parts.fields)?;
        }
        writer.write_char('\n')
    }
}

/// An event's message and its other fields, ready to print.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn add(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            line::message(&mut self.message, value);
        } else {
            line::field(&mut self.fields, field.name(), value);
        }
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        // The whole chain: the innermost cause is the one that helps.
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        self.add(field, &text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(level: LogLevel, format: LogFormat) -> Log {
        Log { level, format, keep: 2, rotate_at: 1 << 20 }
    }

    /// What `act` logs, without the times.
    fn logged(log: &Log, act: impl FnOnce(&Logging)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mlxsupd.log");
        let (logging, subscriber) = Logging::build(&path, log, StderrLog::Never).unwrap();
        tracing::subscriber::with_default(subscriber, || act(&logging));
        std::fs::read_to_string(&path).unwrap()
    }

    fn without_times(text: &str) -> String {
        text.lines()
            .map(|line| {
                let (time, rest) = line.split_once(' ').unwrap();
                assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
                format!("{rest}\n")
            })
            .collect()
    }

    #[test]
    fn a_decision_is_one_readable_line() {
        let text = logged(&settings(LogLevel::Info, LogFormat::Text), |_| {
            tracing::info!(blue = 3, green = 4, took_ms = 8120_u64, "handover committed");
            tracing::warn!(cause = "no\nat=forged", model = %"a b", "worker\nlost");
            let inner = io::Error::other("disk full");
            let error = LoggingError::Open { path: "/x".into(), source: inner };
            tracing::error!(error = &error as &dyn std::error::Error, rate = 0.5, "cannot");
            tracing::debug!("not asked for");
        });
        assert_eq!(
            without_times(&text),
            "info  handover committed blue=3 green=4 took_ms=8120\n\
             warn  worker\\nlost cause=\"no\\nat=forged\" model=\"a b\"\n\
             error cannot error=\"cannot open the log `/x` for appending: disk full; make its folder writable for the \
             daemon's user\" rate=0.5\n"
        );
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = logged(&settings(LogLevel::Info, LogFormat::Json), |_| {
            tracing::info!(generation = 4, note = "two\nlines", "ready");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "ready");
        assert_eq!(line["generation"], 4);
        assert_eq!(line["note"], "two\nlines");
        assert!(chrono::DateTime::parse_from_rfc3339(line["timestamp"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn the_level_changes_while_running_and_libraries_stay_quiet() {
        let text = logged(&settings(LogLevel::Warn, LogFormat::Text), |logging| {
            tracing::info!("1");
            logging.configure(&settings(LogLevel::Trace, LogFormat::Text));
            tracing::trace!("2");
            tracing::info!(target: "hyper::proto", "3");
            tracing::warn!(target: "hyper::proto", "4");
            logging.configure(&settings(LogLevel::Error, LogFormat::Text));
            tracing::warn!("5");
            tracing::warn!(target: "hyper::proto", "6");
        });
        assert_eq!(without_times(&text), "trace 2\nwarn  4\n");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let missing = Path::new("/nonexistent/logs/mlxsupd.log");
        let Err(error) = Logging::build(missing, &settings(LogLevel::Info, LogFormat::Text), StderrLog::Never) else {
            panic!("opened a log in no folder");
        };
        assert!(error.to_string().contains("/nonexistent/logs/mlxsupd.log"), "{error}");
    }
}
