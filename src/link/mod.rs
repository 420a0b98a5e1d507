//! The worker link, daemon side: one process per generation, its socket, and everything said over it.
//!
//! Owns spawning, the ready pipe, probes, commands, signals and the exit watch. Decides nothing: what it learns goes to
//! the supervisor as events.
//!
//! ```text
//! spawn ─▶ process (exit watch, signals) ─▶ Exited          stderr_tail: the last words in worker.log
//!   └────▶ ready pipe ─▶ first /status ─▶ Ready              client: one HTTP exchange
//!   └────▶ probe loop ─▶ Probed                              events: the generation stream (used by the gateway)
//!                                                            foreign: engines that speak the OpenAI API instead
//! ```

pub mod canary;
pub mod client;
pub mod endpoint;
pub mod events;
pub mod foreign;
#[cfg(target_os = "macos")]
mod kqueue;
#[cfg(target_os = "linux")]
mod pidfd;
#[cfg(target_os = "linux")]
mod pidfd_ffi;
pub mod probe;
pub mod process;
mod process_ffi;
pub mod spawn;
pub mod stderr_tail;
