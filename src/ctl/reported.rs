//! What a running worker has said about its device, if a daemon answers: some facts of a Mac are known nowhere else.

use super::control::Control;
use crate::control::view::LimitsView;
use crate::memory::machine::Reported;

/// Asks the daemon; nothing when there is none.
pub async fn ask(control: &Control) -> Reported {
    if !control.socket().exists() {
        return Reported::default();
    }
    match control.status().await {
        Ok(answer) => of(answer.value.limits.as_ref()),
        Err(_) => Reported::default(),
    }
}

fn of(limits: Option<&LimitsView>) -> Reported {
    let Some(limits) = limits else { return Reported::default() };
    Reported {
        working_set: limits.recommended_working_set_bytes,
        gpu: limits.device.as_deref().map(|device| device == "gpu"),
    }
}
