//! `requests.log`: one line per request.
//!
//! Owns the fields and their order; its readers are scripts. There is no field for prompts or answers, and none may come.

use std::io;
use std::path::Path;

use chrono::{DateTime, Local, SecondsFormat};

use super::line;
use super::rotating_file::RotatingFile;
use crate::config;
use crate::daemon::handle::Class;
use crate::supervisor::{Generation, Wall};

/// How one request went. Absent values are written as `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// When it arrived.
    pub at: Wall,
    /// `x-request-id`.
    pub id: String,
    /// Principal, and the name inside its share if there is one.
    pub client: String,
    /// Priority class.
    pub class: Class,
    /// HTTP status sent.
    pub status: u16,
    /// Error code, also of an error sent after the headers.
    pub code: Option<String>,
    /// Prompt tokens, as the worker counted them.
    pub prompt_tokens: Option<u64>,
    /// Generated tokens, as the worker counted them.
    pub completion_tokens: Option<u64>,
    /// Milliseconds until the first assignment (or until it ended without one).
    pub queue_ms: u64,
    /// Milliseconds until the first token.
    pub ttft_ms: Option<u64>,
    /// Milliseconds until its end.
    pub total_ms: u64,
    /// Workers that served it, in order; more than one when it was carried over.
    pub generations: Vec<Generation>,
    /// `finish_reason`, or how else it ended (`cancelled`).
    pub finish: Option<String>,
}

impl RequestLine {
    /// The line, newline included.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(256);
        let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let generations: Vec<_> = self.generations.iter().map(ToString::to_string).collect();
        let generations = if generations.is_empty() { "-".to_owned() } else { generations.join(",") };
        let class = match self.class {
            Class::Interactive => "interactive",
            Class::Normal => "normal",
            Class::Batch => "batch",
        };
        line::field(&mut out, "at", &timestamp(self.at));
        line::field(&mut out, "id", &self.id);
        line::field(&mut out, "client", &self.client);
        line::field(&mut out, "class", class);
        line::field(&mut out, "status", &self.status.to_string());
        line::field(&mut out, "code", self.code.as_deref().unwrap_or("-"));
        line::field(&mut out, "prompt_tokens", &number(self.prompt_tokens));
        line::field(&mut out, "completion_tokens", &number(self.completion_tokens));
        line::field(&mut out, "queue_ms", &self.queue_ms.to_string());
        line::field(&mut out, "ttft_ms", &number(self.ttft_ms));
        line::field(&mut out, "total_ms", &self.total_ms.to_string());
        line::field(&mut out, "generations", &generations);
        line::field(&mut out, "finish", self.finish.as_deref().unwrap_or("-"));
        out.push('\n');
        out
    }
}

/// RFC 3339 with the local offset, as everywhere people read times.
fn timestamp(at: Wall) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    let utc = DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::UNIX_EPOCH);
    utc.with_timezone(&Local).to_rfc3339_opts(SecondsFormat::Millis, false)
}

/// The open log. Cheap to clone; writing is one `write(2)` under a lock.
#[derive(Debug, Clone)]
pub struct RequestsLog {
    file: RotatingFile,
}

impl RequestsLog {
    /// Opens `path` (`logs/requests.log`) with the configured rotation.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(path: &Path, log: &config::Log) -> io::Result<Self> {
        RotatingFile::open(path, log.rotate_at, log.keep).map(|file| Self { file })
    }

    /// Writes one line.
    ///
    /// # Errors
    /// When the file system refuses; the answer has long been sent, so the caller can only count it.
    pub fn write(&self, request: &RequestLine) -> io::Result<()> {
        self.file.append(request.render().as_bytes())
    }

    /// Opens the path anew (USR1).
    ///
    /// # Errors
    /// When it cannot be opened; the old file stays in use.
    pub fn reopen(&self) -> io::Result<()> {
        self.file.reopen()
    }

    /// Takes over changed rotation settings.
    pub fn configure(&self, log: &config::Log) {
        self.file.configure(log.rotate_at, log.keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carried() -> RequestLine {
        RequestLine {
            at: Wall(1_795_424_400_123),
            id: "req-7".to_owned(),
            client: "laptop".to_owned(),
            class: Class::Interactive,
            status: 200,
            code: None,
            prompt_tokens: Some(120),
            completion_tokens: Some(400),
            queue_ms: 3,
            ttft_ms: Some(210),
            total_ms: 9_800,
            generations: vec![Generation(3), Generation(4)],
            finish: Some("stop".to_owned()),
        }
    }

    /// Without the time, whose offset is the machine's.
    fn rest(request: &RequestLine) -> String {
        let line = request.render();
        let (at, rest) = line.split_once(' ').unwrap();
        assert!(DateTime::parse_from_rfc3339(at.strip_prefix("at=").unwrap()).is_ok(), "{at}");
        rest.to_owned()
    }

    #[test]
    fn a_carried_request() {
        assert_eq!(
            rest(&carried()),
            "id=req-7 client=laptop class=interactive status=200 code=- prompt_tokens=120 completion_tokens=400 \
             queue_ms=3 ttft_ms=210 total_ms=9800 generations=3,4 finish=stop\n"
        );
        let at = carried().render();
        let at = at.strip_prefix("at=").and_then(|line| line.split(' ').next()).unwrap().to_owned();
        assert_eq!(DateTime::parse_from_rfc3339(&at).unwrap().timestamp_millis(), 1_795_424_400_123);
    }

    #[test]
    fn a_refused_request_from_a_forger() {
        let refused = RequestLine {
            client: "x\nat=2026 id=fake".to_owned(),
            status: 429,
            code: Some("queue_full".to_owned()),
            prompt_tokens: None,
            completion_tokens: None,
            ttft_ms: None,
            generations: Vec::new(),
            finish: None,
            ..carried()
        };
        let line = rest(&refused);
        assert_eq!(line.lines().count(), 1);
        assert!(line.contains(r#"client="x\nat=2026 id=fake" class="#), "{line}");
        assert!(line.contains("code=queue_full prompt_tokens=- completion_tokens=- queue_ms=3 ttft_ms=- "), "{line}");
        assert!(line.ends_with("generations=- finish=-\n"), "{line}");
    }

    #[test]
    fn lines_go_to_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests.log");
        let settings =
            config::Log { level: config::LogLevel::Info, format: config::LogFormat::Text, keep: 1, rotate_at: 1 << 20 };
        let log = RequestsLog::open(&path, &settings).unwrap();
        log.write(&carried()).unwrap();
        log.write(&carried()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), carried().render().repeat(2));
    }
}
