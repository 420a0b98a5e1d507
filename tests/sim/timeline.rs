//! What is going to happen, in order of time.

use std::collections::BTreeMap;

use mlxsup::supervisor::Event;

/// One thing that happens in the world.
#[derive(Debug, Clone)]
pub enum Happening {
    /// News reach the daemon of this life; a later daemon never hears them.
    News { life: u64, event: Box<Event>, twice: bool },
    /// A worker's load comes to its planned end.
    Loaded { generation: u64 },
    /// A worker is looked at.
    Look { generation: u64, regular: bool },
    /// The look's answer is there, or its timeout has passed.
    Seen { generation: u64 },
    /// A worker's process ends by itself, or obeys.
    Dies { generation: u64, how: How },
    /// A stopped or wedged process goes on.
    Thaws { generation: u64 },
    /// A terminating process has given some memory back.
    Shrinks { generation: u64 },
    /// A canary's token.
    CanaryDone { generation: u64 },
    /// An answer grows.
    Grows { request: u64, leg: u64 },
    /// A client comes.
    Arrives { chain: u64 },
    /// A client runs out of patience.
    HangsUp { request: u64 },
    /// Somebody at the keyboard.
    Commands { chain: u64 },
    /// Something goes wrong.
    Fault { chain: u64 },
    /// An impatient operator comes again.
    CommandsAgain,
    /// Busy and quiet times alternate.
    Episode,
    /// The machine's other users take or give memory.
    Others { give_back: u64 },
    /// Wired memory of a dead worker is released.
    Returns { bytes: u64 },
    /// Memory pressure is over.
    Relief,
    /// A daemon is started again.
    DaemonStarts,
    /// The image was tried.
    Vetted,
    /// The exec happened, or did not.
    Executes,
    /// The wish of the operator to reload comes through.
    Reloads,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Code(i32),
    Signal(i32),
    OutOfMemory,
}

/// Happenings by instant (milliseconds of the monotonic clock), then by the order in which they were planned.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    queue: BTreeMap<(u64, u64), Happening>,
    planned: u64,
}

impl Timeline {
    pub fn plan(&mut self, at: u64, happening: Happening) {
        self.planned += 1;
        self.queue.insert((at, self.planned), happening);
    }

    pub fn next_at(&self) -> Option<u64> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// The first happening that is due.
    pub fn due(&mut self, now: u64) -> Option<Happening> {
        let entry = self.queue.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}
