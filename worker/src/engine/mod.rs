//! The engine: one thread that owns MLX and steps over a set of sequences.
//!
//! ```text
//! start: headers are read ─▶ thread: limits ─▶ weights ─▶ warm-up ─▶ Ready
//!                                                                     │
//! EngineHandle::submit ─▶ waiting ─ admission ─▶ the set ── a turn: one prefill chunk, one decode step of the set
//!                                                                     └──▶ events of each sequence, board
//! ```
//!
//! Invariants: MLX is called on this thread only. Every sequence ends with exactly one last event, or its receiver was
//! dropped. An MLX error ends at most the sequences it belongs to. Does not own text, HTTP or the clock.

mod admission;
mod handle;
mod load;
mod logprobs;
mod prefixes;
mod running;
pub mod sequence;
#[cfg(test)]
mod tests;
mod turn;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use mlxsup_worker_api::{Phase, Settings};

use crate::board::Board;
use crate::limits::LimitsError;
use crate::model::{self, ModelError, ModelSource};
pub use handle::{EngineGone, EngineHandle, MAX_WAITING, Refusal};
pub(crate) use turn::LAST_WRITING;

/// Why the engine could not start or load.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The model is missing, unsupported or damaged.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Device or memory limits.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The settings ask for something impossible.
    #[error("{0}")]
    Settings(String),
    /// MLX failed in the first prefill or token.
    #[error("MLX failed in the warm-up: {0}")]
    WarmUp(String),
    /// The system gave no thread.
    #[error("cannot start the engine thread: {0}")]
    Thread(io::Error),
}

/// An engine that was started and is loading.
#[derive(Debug)]
pub struct Started {
    /// For the HTTP side.
    pub handle: EngineHandle,
    /// Where tokenizer and template are to be read from.
    pub source: ModelSource,
    /// The name clients see.
    pub name: String,
    /// Ends when the last [`EngineHandle`] is dropped, its work is done, or loading failed.
    pub thread: JoinHandle<()>,
}

/// Reads the model's headers, then starts the engine thread, which loads, warms up and serves. Progress, readiness and a
/// failure to load are published on `board`.
///
/// # Errors
/// [`EngineError`] for everything that headers and settings tell; it is also published as [`Phase::Failed`].
pub fn start(settings: &Settings, board: &Arc<Board>) -> Result<Started, EngineError> {
    let started = begin(settings, board);
    if let Err(error) = &started {
        board.phase.send_replace((Phase::Failed, Some(error.to_string())));
    }
    started
}

fn begin(settings: &Settings, board: &Arc<Board>) -> Result<Started, EngineError> {
    let opened = model::open(&settings.model)?;
    let context = load::context(settings, &opened)?;
    let stored: u64 = opened.tensors.iter().map(|tensor| tensor.bytes).sum();
    board.bytes_total.store(stored, Relaxed);
    let _ = board.fingerprint.set(opened.fingerprint.clone());

    let (sender, receiver) = mpsc::channel();
    let handle = EngineHandle::new(sender, Arc::clone(board), context, opened.shape.vocabulary);
    let (source, name) = (opened.source.clone(), opened.name.clone());
    let (settings, board) = (settings.clone(), Arc::clone(board));
    let thread = thread::Builder::new()
        .name("engine".to_owned())
        .spawn(move || {
            let fail = |why: String| {
                tracing::error!("the engine failed: {why}");
                board.phase.send_replace((Phase::Failed, Some(why)));
            };
            let run = AssertUnwindSafe(|| {
                let loaded = load::load(&settings, &opened, &board)?;
                board.phase.send_replace((Phase::Ready, None));
                turn::Engine::new(loaded, &settings, &board, receiver).run();
                Ok::<(), EngineError>(())
            });
            match catch_unwind(run) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => fail(error.to_string()),
                Err(_) => fail("the engine thread panicked; the log has the message".to_owned()),
            }
        })
        .map_err(EngineError::Thread)?;
    Ok(Started { handle, source, name, thread })
}
