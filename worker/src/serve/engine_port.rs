//! What the HTTP side needs from the engine, and how the real one gives it.

use std::future::Future;
use std::pin::Pin;

use mlxsup_worker_api::MemoryFacts;
use mlxsup_worker_api::settings::Limits;

use crate::engine::sequence::SequenceRequest;
use crate::engine::{self, EngineHandle};
use crate::openai::Refusal;

/// Memory as measured after a command, or why it was not carried out.
pub type Measured<'a> = Pin<Box<dyn Future<Output = Result<MemoryFacts, String>> + Send + 'a>>;

/// The engine as the HTTP side sees it.
pub trait EnginePort: Send + Sync {
    /// Takes one sequence; its events come through the request's own channel.
    ///
    /// # Errors
    /// A refusal for the client when the engine has stopped or can never run this sequence.
    fn submit(&self, request: SequenceRequest) -> Result<(), Refusal>;

    /// Drops MLX's free-buffer cache.
    fn clear_cache(&self) -> Measured<'_>;

    /// Forgets saved prompts.
    fn trim_prefix_cache(&self) -> Measured<'_>;

    /// Writes saved prompts to disk.
    fn save_prefix_cache(&self) -> Measured<'_>;

    /// Changes what is present.
    fn set_limits(&self, limits: Limits) -> Measured<'_>;
}

impl EnginePort for EngineHandle {
    fn submit(&self, request: SequenceRequest) -> Result<(), Refusal> {
        Self::submit(self, request).map_err(|refusal| {
            let message = refusal.to_string();
            match refusal {
                engine::Refusal::Context { .. } | engine::Refusal::Memory { .. } => Refusal::never_fits(message),
                engine::Refusal::Vocabulary { .. } => Refusal::invalid_value("", message),
                engine::Refusal::Full => Refusal::queue_full(message),
                engine::Refusal::Gone(_) => Refusal::engine_error(&message),
            }
        })
    }

    fn clear_cache(&self) -> Measured<'_> {
        Box::pin(async { Self::clear_cache(self).await.map_err(|gone| gone.to_string()) })
    }

    fn trim_prefix_cache(&self) -> Measured<'_> {
        Box::pin(async { Self::trim_prefix_cache(self).await.map_err(|gone| gone.to_string()) })
    }

    fn save_prefix_cache(&self) -> Measured<'_> {
        Box::pin(async { Self::save_prefix_cache(self).await.map_err(|gone| gone.to_string()) })
    }

    fn set_limits(&self, limits: Limits) -> Measured<'_> {
        Box::pin(async move {
            match Self::set_limits(self, limits).await {
                Ok(outcome) => outcome,
                Err(gone) => Err(gone.to_string()),
            }
        })
    }
}
