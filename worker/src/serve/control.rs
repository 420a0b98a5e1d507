//! `POST /control/*`: commands of the daemon.
//!
//! Owns who may command: a daemon with a lower epoch than one already seen has been replaced, and a command with another
//! nonce is meant for another process.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use hyper::HeaderMap;
use hyper::Response;
use mlxsup_worker_api::settings::Limits;
use mlxsup_worker_api::{HEADER_EPOCH, HEADER_NONCE};

use crate::openai::Refusal;

use super::reply::{self, Reply};
use super::{Measured, Worker, status};

/// Who this worker is. A worker that runs alone has an empty nonce and obeys anybody who reaches its socket.
#[derive(Debug, Default)]
pub struct Identity {
    /// Generation given at spawn.
    pub generation: u64,
    /// Nonce given at spawn.
    pub nonce: String,
    /// Highest epoch of a daemon seen so far.
    pub epoch: AtomicU64,
}

impl Identity {
    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.nonce.is_empty() {
            return Ok(());
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if text(HEADER_NONCE) != Some(self.nonce.as_str()) {
            let message = format!("the command is not meant for this worker: `{HEADER_NONCE}` is not its nonce");
            return Err(Refusal::stale_command(message));
        }
        let Some(epoch) = text(HEADER_EPOCH).and_then(|epoch| epoch.parse::<u64>().ok()) else {
            return Err(Refusal::stale_command(format!("`{HEADER_EPOCH}` must be the daemon's epoch")));
        };
        let highest = self.epoch.fetch_max(epoch, SeqCst);
        if epoch < highest {
            let message =
                format!("epoch {epoch} has been replaced by {highest}; this daemon must not command any more");
            return Err(Refusal::stale_command(message));
        }
        Ok(())
    }
}

/// `POST /control/clear-cache`.
pub(super) async fn clear_cache(worker: &Worker, headers: &HeaderMap) -> Result<Response<Reply>, Refusal> {
    worker.identity.admit(headers)?;
    finished(worker, worker.engine()?.clear_cache()).await
}

/// `POST /control/trim-prefix-cache`.
pub(super) async fn trim_prefix_cache(worker: &Worker, headers: &HeaderMap) -> Result<Response<Reply>, Refusal> {
    worker.identity.admit(headers)?;
    finished(worker, worker.engine()?.trim_prefix_cache()).await
}

/// `POST /control/save-prefix-cache`.
pub(super) async fn save_prefix_cache(worker: &Worker, headers: &HeaderMap) -> Result<Response<Reply>, Refusal> {
    worker.identity.admit(headers)?;
    finished(worker, worker.engine()?.save_prefix_cache()).await
}

/// `POST /control/limits`.
pub(super) async fn limits(worker: &Worker, headers: &HeaderMap, body: &[u8]) -> Result<Response<Reply>, Refusal> {
    worker.identity.admit(headers)?;
    let limits: Limits = serde_json::from_slice(body)
        .map_err(|error| Refusal::invalid_value("", format!("the limits were not understood: {error}")))?;
    finished(worker, worker.engine()?.set_limits(limits)).await
}

/// Answers with the memory measured after the command, the kernel's view of the process beside it.
async fn finished(worker: &Worker, measured: Measured<'_>) -> Result<Response<Reply>, Refusal> {
    let facts = measured.await.map_err(|what| Refusal::engine_error(&what))?;
    Ok(reply::json(&status::with_footprint(facts, &worker.board)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(nonce: &str, epoch: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER_NONCE, nonce.parse().expect("a header"));
        headers.insert(HEADER_EPOCH, epoch.parse().expect("a header"));
        headers
    }

    #[test]
    fn only_the_latest_daemon_commands() {
        let identity = Identity { generation: 1, nonce: "abc".to_owned(), epoch: AtomicU64::new(3) };
        let status = |nonce: &str, epoch: &str| identity.admit(&headers(nonce, epoch)).map_err(|r| r.status);
        assert_eq!(status("abc", "3"), Ok(()));
        assert_eq!(status("abc", "5"), Ok(()));
        assert_eq!(status("abc", "4"), Err(409));
        assert_eq!(status("other", "9"), Err(409));
        assert_eq!(status("abc", "x"), Err(409));
        assert_eq!(identity.admit(&HeaderMap::new()).map_err(|r| r.status), Err(409));
        assert_eq!(Identity::default().admit(&HeaderMap::new()), Ok(()));
    }
}
