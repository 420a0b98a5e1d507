//! Whether a daemon answers in a home, and which.

use crate::control::view::{Cause, State};
use crate::ctl::control::Control;

/// A daemon that answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// What the service is doing.
    pub state: State,
    /// Why.
    pub cause: Option<Cause>,
    /// What is wrong with the configuration on disk.
    pub problems: Vec<String>,
}

impl std::fmt::Display for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mlxsupd runs (pid {}): {}", self.pid, self.state.as_str())?;
        if let Some(cause) = &self.cause {
            write!(f, ", {}", cause.message)?;
        }
        Ok(())
    }
}

/// The daemon that answers on the control socket now; `None` when nobody does.
pub async fn answering(control: &Control) -> Option<Running> {
    let status = control.status().await.ok()?.value;
    Some(Running { pid: status.daemon.pid, state: status.state, cause: status.cause, problems: status.config.problems })
}
