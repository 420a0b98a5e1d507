//! The decision core: `step(state, event, now) -> actions`.
//!
//! Owns every decision about workers, requests, restarts, rules and schedules. Never looks at a clock, a socket, a file
//! or a random number: time arrives with each event, randomness as numbers inside events.

pub mod ids;
pub mod refusal;
pub mod time;

pub use ids::{Generation, RequestId};
pub use refusal::{Code, Refusal};
pub use time::{Mono, Now, Wall};
