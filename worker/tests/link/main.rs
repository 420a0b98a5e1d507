//! The worker at its link: what it says over a real socket, also after its predecessor was lost. Some tests start the
//! real program with the real model and need `make model`.
#![allow(clippy::expect_used, clippy::panic, reason = "a failed step of a test is a failed test")]

mod canary;
mod continuation;
mod life;
mod near_ties;
mod properties;
mod record;
mod spawned;
mod tiny;
mod wire;

use std::path::{Path, PathBuf};

/// The small real model.
fn real_model() -> PathBuf {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(model.is_file(), "{} is missing: run `make model`", model.display());
    model
}
