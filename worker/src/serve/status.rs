//! `GET /status`: the board, written down.
//!
//! Costs O(1), takes no lock that the engine holds for longer than a copy, and never touches MLX.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use mlxsup_worker_api::{Counters, EngineFacts, MemoryFacts, PROTOCOL, WorkerStatus};

use crate::board::Board;

use super::Worker;

/// Everything the worker says about itself now.
pub(super) fn report(worker: &Worker) -> WorkerStatus {
    let (board, identity) = (&worker.board, &worker.identity);
    let failure = board.phase.borrow().1.clone();
    WorkerStatus {
        protocol: PROTOCOL,
        pid: std::process::id(),
        generation: identity.generation,
        nonce: identity.nonce.clone(),
        fingerprint: board.fingerprint.get().cloned().unwrap_or_default(),
        phase: worker.phase(),
        failure,
        bytes_done: board.bytes_done.load(Relaxed),
        bytes_total: board.bytes_total.load(Relaxed),
        model: board.model.get().cloned(),
        engine: engine(board),
        memory: with_footprint(*board.memory.lock().unwrap_or_else(PoisonError::into_inner), board),
        counters: Counters {
            requests: board.requests.load(Relaxed),
            prompt_tokens: board.prompt_tokens.load(Relaxed),
            restored_tokens: board.restored_tokens.load(Relaxed),
            completion_tokens: board.completion_tokens.load(Relaxed),
            cancelled: board.cancelled.load(Relaxed),
            failed: board.failed.load(Relaxed),
            cache_clears: board.cache_clears.load(Relaxed),
        },
    }
}

fn engine(board: &Board) -> EngineFacts {
    let last_step = board.last_step_ms.load(Relaxed);
    let age = || board.started.elapsed().saturating_sub(Duration::from_millis(last_step));
    EngineFacts {
        steps: board.steps.load(Relaxed),
        last_step_age_ms: (last_step != u64::MAX).then(|| u64::try_from(age().as_millis()).unwrap_or(u64::MAX)),
        pending_prefill_tokens: board.pending_prefill_tokens.load(Relaxed),
        active: board.active.load(Relaxed),
        waiting: board.waiting.load(Relaxed),
        slots: board.slots.load(Relaxed),
    }
}

/// MLX's own numbers with the kernel's beside them.
pub(super) fn with_footprint(facts: MemoryFacts, board: &Board) -> MemoryFacts {
    let footprint = *board.footprint.lock().unwrap_or_else(PoisonError::into_inner);
    MemoryFacts {
        footprint_bytes: footprint.total_bytes,
        graphics_footprint_bytes: footprint.graphics_bytes,
        graphics_compressed_bytes: footprint.graphics_compressed_bytes,
        wired_bytes: facts.wired_bytes.or(footprint.locked_bytes),
        ..facts
    }
}
