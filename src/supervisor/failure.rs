//! How a worker failed: the classes people act on differently.

use std::fmt;

use super::event::Exit;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// It never became ready: a bad model, a missing file, a start too slow.
    Load,
    /// It ended by itself: a signal nobody of us sent, an exit code.
    Crash,
    /// It lived and made no progress.
    Stall,
    /// The kernel ended it for want of memory (the OOM killer; jetsam on macOS).
    OutOfMemory,
    /// It generates something else than it should, or refuses everything.
    Canary,
    /// It ended and its memory did not come back.
    Stranded,
}

impl FailureClass {
    /// The word in `status` and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load_failure",
            Self::Crash => "crash",
            Self::Stall => "stall",
            Self::OutOfMemory => "out_of_memory",
            Self::Canary => "canary",
            Self::Stranded => "stranded",
        }
    }
}

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which kind.
    pub class: FailureClass,
    /// Half a sentence, after "the worker".
    pub why: String,
}

impl Failure {
    /// A failure in words.
    #[must_use]
    pub fn new(class: FailureClass, why: impl Into<String>) -> Self {
        Self { class, why: why.into() }
    }

    /// What the exit of a worker nobody stopped means. `loading` until it was ready; `told` is what it said before.
    #[must_use]
    pub fn of_exit(exit: &Exit, loading: bool, told: Option<&str>) -> Self {
        let class = match (exit.out_of_memory, loading) {
            (true, _) => FailureClass::OutOfMemory,
            (false, true) => FailureClass::Load,
            (false, false) => FailureClass::Crash,
        };
        let why = match (told, loading) {
            (Some(told), true) => format!("could not load: {told}"),
            (_, true) => format!("ended while loading: {}", describe(exit)),
            (_, false) => describe(exit),
        };
        Self { class, why }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Exit status and the last words.
#[must_use]
pub fn describe(exit: &Exit) -> String {
    if exit.out_of_memory {
        return "was ended by the kernel for want of memory; lower worker.slots or worker.context, or free memory"
            .into();
    }
    // Whoever is killed from outside had no chance to say why.
    if exit.is_from_outside() {
        return format!("ended by {}", exit.status);
    }
    match exit.stderr_tail.iter().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("ended by {}, last words: {}", exit.status, line.trim()),
        None => format!("ended by {}", exit.status),
    }
}
