//! The verbs' side of the control socket: typed questions and orders, with failures a person can act on.
//!
//! Owns paths, limits and the mapping of HTTP answers to failures; waits for nothing but the answer.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::{Method, Response};
use serde::de::DeserializeOwned;

use super::connection::{self, ConnectionError};
use super::error_object;
use super::failure::{Failure, Kind};
use super::home::{Home, Source};
use super::service_control::{installed, is_same};
use crate::control::view::{Status, VerbOptions, VerbReply};

/// Facts are answered from memory; a daemon that needs longer is stuck.
const FACTS_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer accepted.
const ANSWER_MAX_BYTES: usize = 8 << 20;

/// The likeliest reason when both sides run but do not understand each other.
const OTHER_VERSION: &str =
    "the daemon may be of another version: compare `mlxsupctl --version` with `mlxsupd --version`";

/// The control socket of one home.
#[derive(Debug, Clone)]
pub struct Control {
    home: Home,
    socket: PathBuf,
}

/// An answer as it came and as it was understood.
#[derive(Debug)]
pub struct Answer<T> {
    /// The daemon's own text, so that `--json` passes on what a newer daemon says.
    pub text: Bytes,
    /// What we know of it.
    pub value: T,
}

impl Control {
    /// The socket of `home`; nothing is connected yet.
    #[must_use]
    pub fn new(home: Home) -> Self {
        Self { socket: home.control_socket(), home }
    }

    /// The socket's path.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The home it belongs to.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home.path
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<Answer<Status>, Failure> {
        self.facts("/v1/status").await
    }

    /// `GET` of any facts.
    pub async fn facts<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, Failure> {
        let response = self.open(path).await?;
        self.understand(path, response).await
    }

    /// `GET` of facts that arrive one JSON object per line, perhaps without end. Only the head has a time limit.
    pub async fn open(&self, path: &str) -> Result<Response<Incoming>, Failure> {
        let answered = match self.try_open(path).await {
            // An upgrade ends the connections of the moment. Whoever listens now is asked again, once.
            Err(ConnectionError::Broken { .. }) => self.try_open(path).await,
            answered => answered,
        };
        answered.map_err(|error| self.unreachable(error))
    }

    async fn try_open(&self, path: &str) -> Result<Response<Incoming>, ConnectionError> {
        let request = connection::request(Method::GET, path, None)?;
        connection::send_within(FACTS_TIMEOUT, &self.socket, request).await
    }

    /// `GET` of facts that arrive one JSON object per line and end.
    pub async fn lines(&self, path: &str) -> Result<Bytes, Failure> {
        let body = self.open(path).await?.into_body();
        connection::read(&self.socket, body, ANSWER_MAX_BYTES).await.map_err(|error| self.unreachable(error))
    }

    /// `POST /v1/VERB`; answers when the daemon does, which with `no_wait` is at once and else with the outcome.
    pub async fn order(&self, verb: &str, options: &VerbOptions) -> Result<Answer<VerbReply>, Failure> {
        let path = format!("/v1/{verb}");
        let body = serde_json::to_vec(options)
            .map_err(|error| Failure::new(Kind::Internal, "cannot write the verb's options").caused_by(error))?;
        let request = connection::request(Method::POST, &path, Some(body)).map_err(|error| self.unreachable(error))?;
        let response = connection::send(&self.socket, request).await.map_err(|error| self.unreachable(error))?;
        self.understand(&path, response).await
    }

    /// Reads an answer; an error object in its place becomes a failure of the kind its status means.
    pub async fn understand<T: DeserializeOwned>(
        &self,
        path: &str,
        response: Response<Incoming>,
    ) -> Result<Answer<T>, Failure> {
        let status = response.status();
        let text = connection::read(&self.socket, response.into_body(), ANSWER_MAX_BYTES)
            .await
            .map_err(|error| self.unreachable(error))?;
        // A denied verb may come as 409 with an ordinary reply: what parses as the answer is the answer.
        let error = match serde_json::from_slice(&text) {
            Ok(value) => return Ok(Answer { text, value }),
            Err(error) => error,
        };
        if let Some(object) = error_object::parse(&text) {
            let kind = match status.as_u16() {
                400 | 422 => Kind::Usage,
                401 | 403 | 409 => Kind::Denied,
                503 => Kind::NotServing,
                504 => Kind::Deadline,
                _ => Kind::Internal,
            };
            let failure = Failure::new(kind, object.message);
            return Err(if matches!(status.as_u16(), 404 | 405) { failure.hint(OTHER_VERSION) } else { failure });
        }
        if matches!(status.as_u16(), 404 | 405) {
            let message = format!("the daemon does not know `{path}` ({status})");
            return Err(Failure::new(Kind::Internal, message).hint(OTHER_VERSION));
        }
        Err(Failure::new(Kind::Internal, format!("cannot read the daemon's answer to `{path}` ({status})"))
            .caused_by(error)
            .hint(OTHER_VERSION))
    }

    /// A failed exchange, with what to do next.
    pub fn unreachable(&self, error: ConnectionError) -> Failure {
        let cause = match &error {
            ConnectionError::Connect { source, .. } => Some(source.kind()),
            _ => None,
        };
        let home = self.home.path.display();
        let failure = match &error {
            ConnectionError::Connect { .. } => Failure::new(Kind::Unreachable, "cannot reach the daemon"),
            ConnectionError::Silent { .. } => Failure::new(Kind::Unreachable, "the daemon does not answer"),
            ConnectionError::Broken { .. } => Failure::new(Kind::Unreachable, "lost the connection to the daemon"),
            ConnectionError::Request { .. } | ConnectionError::TooLong { .. } => {
                Failure::new(Kind::Internal, "cannot talk to the daemon")
            }
        };
        let silent = matches!(error, ConnectionError::Silent { .. });
        let connected = cause.is_none();
        let failure = failure.caused_by(error);
        match cause {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) if is_installed(&self.home) => {
                failure.hint("it is installed as a service: start it with `mlxsupctl start`")
            }
            Some(io::ErrorKind::NotFound) => {
                let failure = failure.hint(format!("is it running? start it with `mlxsupd --home {home}`"));
                match &self.home.source {
                    Source::System(Some(user)) => failure.hint(format!(
                        "`{}` has no control socket either; name another home with --home",
                        user.display()
                    )),
                    Source::System(None) => failure.hint("name another home with --home"),
                    Source::Environment => failure.hint("this home comes from MLXSUP_HOME"),
                    Source::Flag | Source::User => failure,
                }
            }
            Some(io::ErrorKind::ConnectionRefused) => failure
                .hint("the socket is there but nobody listens: the daemon died without a word")
                .hint(format!("see `mlxsupctl --home {home} logs`, then start it with `mlxsupd --home {home}`")),
            Some(io::ErrorKind::PermissionDenied) => {
                failure.hint("the home belongs to another user: run this as the user the daemon runs as")
            }
            Some(io::ErrorKind::InvalidInput) => {
                failure.hint("a socket's path is limited to about a hundred bytes: choose a shorter home")
            }
            _ if silent => failure.hint(format!("it may be stuck: see `mlxsupctl --home {home} logs`")),
            _ if connected => failure.hint(format!(
                "it may have ended meanwhile: see `mlxsupctl --home {home} logs`, then `mlxsupctl status`"
            )),
            _ => failure,
        }
    }
}

/// True when a service manager would run the daemon of this home, or of the person's own where this one was a last resort.
fn is_installed(home: &Home) -> bool {
    installed().iter().any(|found| [&home.path, home.of_person()].iter().any(|path| is_same(&found.says.home, path)))
}
