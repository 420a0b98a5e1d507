//! Which engine the daemon is told that it has; behind each of them is the same fake worker.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::launchd;
use crate::rig::{SLOTS, TOKEN_MS};

/// Health windows, quick where a real configuration is patient. What says how far it is can be judged soonest.
const STALL: &str = "1500ms";
/// A server that makes no report shows life by tokens of streams and by CPU time, of which the fake uses none.
const STALL_UNTOLD: &str = "3s";
/// So its plain answers must be over well within that.
const LONGEST_UNTOLD: Duration = Duration::from_millis(400);

/// `CHAOS_ENGINE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Native,
    OpenAi,
    MlxLm,
}

impl Engine {
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Native, Self::OpenAi, Self::MlxLm].into_iter().find(|engine| engine.word() == word)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::OpenAi => "openai",
            Self::MlxLm => "mlx_lm",
        }
    }

    /// True where the next worker goes on with a stream. Elsewhere one that has begun dies with its worker.
    pub fn continues(self) -> bool {
        self == Self::Native
    }

    pub fn stall(self) -> &'static str {
        if self == Self::OpenAi { STALL_UNTOLD } else { STALL }
    }

    /// Most tokens of a plain answer.
    pub fn longest_plain(self) -> u32 {
        match self {
            Self::OpenAi => u32::try_from(LONGEST_UNTOLD.as_millis()).unwrap_or(u32::MAX) / TOKEN_MS,
            Self::Native | Self::MlxLm => u32::MAX,
        }
    }

    /// Orders of every worker. Where a stream that has begun is past saving, the prompt takes long enough that some have not.
    pub fn pace(self) -> String {
        let prefill = if self.continues() { "" } else { ",\"prefill_ms\":20" };
        format!("\"token_ms\":{TOKEN_MS},\"load_ms\":10,\"slots\":{SLOTS}{prefill}")
    }

    /// `[worker]`, for a daemon in this rig.
    pub fn section(self, rig: &launchd::Rig) -> String {
        let worker = env!("CARGO_BIN_EXE_mlxsup-fake-worker");
        let keys = match self {
            Self::Native => format!("command = [\"{worker}\"]"),
            Self::OpenAi => format!("command = [\"{worker}\", \"--port\", \"{{port}}\"]\nslots = {SLOTS}"),
            Self::MlxLm => {
                // In place of the Python that runs mlx-lm and its bridge.
                let python = rig.write("python3", &format!("#!/bin/sh\nexec {worker}\n"));
                std::fs::set_permissions(&python, PermissionsExt::from_mode(0o755)).unwrap();
                format!("python = \"{}\"", python.display())
            }
        };
        format!("[worker]\nmodel = \"fake\"\nengine = \"{}\"\n{keys}\n", self.word())
    }
}
