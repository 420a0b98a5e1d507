//! mlxsup: whatever happens to the worker, a client at the stable socket notices nothing but time.
//!
//! ```text
//! data     client socket → gateway/session ─Submitted→ supervisor/{requests,queue} ─Assign→ link → worker
//!          worker → link → gateway/relay → client socket          tokens never enter the supervisor
//! control  signals · schedule · memory · control/verbs ─Event→ supervisor::step ─Action→ daemon/effects
//!          every action's outcome returns as an event with the same id and generation
//! ```
//!
//! [`supervisor`] decides, [`daemon`] does; everything else senses or speaks. Reading order below.

pub mod config;
pub mod supervisor;

pub mod daemon;
pub mod gateway;
pub mod history;
pub mod limits;
pub mod link;
pub mod memory;
pub mod schedule;
pub mod service;
pub mod telemetry;

pub mod control;
pub mod ctl;

#[doc(hidden)]
pub mod fuzzing;
