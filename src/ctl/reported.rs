//! What a worker has said about its device: the running one, if a daemon answers, else the program itself, asked for it.

use super::control::Control;
use crate::control::view::LimitsView;
use crate::limits::device;
use crate::memory::machine::Reported;

/// Asks the daemon, and on a Mac without one the worker program.
pub async fn ask(control: &Control) -> Reported {
    let told = match control.socket().exists() {
        true => control.status().await.ok().map(|answer| of(answer.value.limits.as_ref())),
        false => None,
    };
    match told.filter(|told| told.gpu.is_some()) {
        Some(told) => told,
        // A panic of that thread is no reason to say nothing.
        None => tokio::task::spawn_blocking(device::reported).await.unwrap_or_default(),
    }
}

fn of(limits: Option<&LimitsView>) -> Reported {
    let Some(limits) = limits else { return Reported::default() };
    Reported {
        working_set: limits.recommended_working_set_bytes,
        gpu: limits.device.as_deref().map(|device| device == "gpu"),
    }
}
