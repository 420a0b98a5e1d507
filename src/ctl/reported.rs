//! What a worker has said about its device: the running one, if a daemon answers, else the program itself, asked for it.

use super::control::Control;
use crate::control::view::LimitsView;
use crate::limits::device;
use crate::memory::machine::Reported;

/// Asks the daemon, and on a Mac without one the worker program.
pub async fn ask(control: &Control) -> Reported {
    let status = match control.socket().exists() {
        true => control.status().await.ok(),
        false => None,
    };
    known(status.as_ref().and_then(|answer| answer.value.limits.as_ref())).await
}

/// The same, where the daemon has been asked already: what it said of its limits, if anything.
pub async fn known(limits: Option<&LimitsView>) -> Reported {
    let told = of(limits);
    if told.gpu.is_some() {
        return told;
    }
    // A panic of that thread is no reason to say nothing.
    tokio::task::spawn_blocking(device::reported).await.unwrap_or_default()
}

fn of(limits: Option<&LimitsView>) -> Reported {
    let Some(limits) = limits else { return Reported::default() };
    Reported {
        working_set: limits.recommended_working_set_bytes,
        gpu: limits.device.as_deref().map(|device| device == "gpu"),
    }
}
