//! The thread that writes: takes what happens without making anybody wait, writes every few seconds, and sees to a file
//! that is damaged or a disk that is full.
//!
//! ```text
//! Writing ── damaged ──▶ set aside, a new file ──▶ Writing
//!    │  ▲
//!    │  └── taken again: told, with what was lost
//!    └── full, locked, gone ──▶ Blocked: told once, tried again every 30 s; the newest minutes are kept meanwhile
//! ```

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chrono::Utc;
use tokio::sync::mpsc::UnboundedSender;

use super::HistoryError;
use super::file_fate::set_aside;
use super::store::{Happening, Store};
use crate::memory::Sample;
use crate::supervisor::Wall;

/// Between two transactions while samples come.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// From an event to the file: a death that follows should be explained there.
const EVENT_WAITS: Duration = Duration::from_millis(250);

/// Between two tries while the file does not take anything.
const RETRY_EVERY: Duration = Duration::from_secs(30);

/// Things on their way to the thread. It lags only while a disk hangs.
const ON_THE_WAY: usize = 256;

/// Samples and events kept while they cannot be written; older ones are lost first.
const WAITING_MAX: usize = 900;

/// How long an image that is about to be replaced waits for its last seconds to be written.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// What the writer has to tell people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Stable word: `history_set_aside`, `history_blocked`, `history_resumed`.
    pub kind: &'static str,
    /// One sentence.
    pub message: String,
}

#[derive(Debug)]
enum Job {
    Sample(Wall, Box<Sample>),
    Event(Happening),
    Flush(SyncSender<()>),
    End,
}

/// Where what happens is handed in. Clones lead to the same thread.
#[derive(Debug, Clone)]
pub struct History {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl History {
    /// Keeps a sample. Never waits.
    pub fn sample(&self, at: Wall, sample: &Sample) {
        self.hand_in(Job::Sample(at, Box::new(sample.clone())));
    }

    /// Keeps an event. Never waits.
    pub fn event(&self, at: Wall, kind: &str, message: &str) {
        self.hand_in(Job::Event(Happening { at, kind: kind.to_owned(), message: message.to_owned() }));
    }

    /// Waits until what was handed in so far is in the file, or was tried in vain; two seconds at most.
    pub fn flush(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.jobs.try_send(Job::Flush(done)).is_ok() {
            // Late or gone: nothing better can be done about it here.
            let _ = wait.recv_timeout(FLUSH_PATIENCE);
        }
    }

    fn hand_in(&self, job: Job) {
        match self.jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The thread. Dropped, it writes what it has and ends.
#[derive(Debug)]
pub struct HistoryWriter {
    history: History,
    thread: Option<JoinHandle<()>>,
}

impl HistoryWriter {
    /// A writer of this file, which is opened by the thread. `notes` hears what people should know.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(path: PathBuf, notes: UnboundedSender<Note>) -> std::io::Result<Self> {
        let (jobs, work) = mpsc::sync_channel(ON_THE_WAY);
        let lost = Arc::new(AtomicU64::new(0));
        let mut keeper = Keeper::new(path, notes, Arc::clone(&lost));
        let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || keeper.work(&work))?;
        Ok(Self { history: History { jobs, lost }, thread: Some(thread) })
    }

    /// An end to hand things in at.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }
}

impl Drop for HistoryWriter {
    fn drop(&mut self) {
        // Waits for room: the thread takes everything before this.
        let _ = self.history.jobs.send(Job::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Keeper {
    path: PathBuf,
    notes: UnboundedSender<Note>,
    store: Option<Store>,
    samples: VecDeque<(Wall, Sample)>,
    events: VecDeque<Happening>,
    lost: Arc<AtomicU64>,
    blocked: bool,
    due: Option<Instant>,
}

impl Keeper {
    fn new(path: PathBuf, notes: UnboundedSender<Note>, lost: Arc<AtomicU64>) -> Self {
        let (samples, events) = (VecDeque::new(), VecDeque::new());
        Self { path, notes, store: None, samples, events, lost, blocked: false, due: None }
    }

    fn work(&mut self, jobs: &mpsc::Receiver<Job>) {
        // A damaged file is told of at the start, and not with the first sample.
        self.write();
        loop {
            let job = match self.due {
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(Job::Sample(at, sample)) => {
                    push(&mut self.samples, (at, *sample), &self.lost);
                    self.due_within(WRITE_EVERY);
                }
                Ok(Job::Event(event)) => {
                    push(&mut self.events, event, &self.lost);
                    self.due_within(EVENT_WAITS);
                }
                Ok(Job::Flush(done)) => {
                    self.write();
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.write(),
                Ok(Job::End) | Err(RecvTimeoutError::Disconnected) => {
                    self.write();
                    self.settle();
                    return;
                }
            }
        }
    }

    fn due_within(&mut self, wait: Duration) {
        // A file that takes nothing is tried at its own pace.
        if !self.blocked {
            let by = Instant::now() + wait;
            self.due = Some(self.due.map_or(by, |due| due.min(by)));
        }
    }

    fn write(&mut self) {
        self.due = None;
        match self.try_write() {
            Ok(()) => self.resumed(),
            Err(HistoryError::Damaged { why, .. }) => self.start_anew(&why),
            Err(error) => self.blocked(&error),
        }
    }

    fn try_write(&mut self) -> Result<(), HistoryError> {
        let store = match &mut self.store {
            Some(store) => store,
            none => none.insert(Store::open(&self.path)?),
        };
        if self.samples.is_empty() && self.events.is_empty() {
            return Ok(());
        }
        store.write(self.samples.make_contiguous(), self.events.make_contiguous())?;
        self.samples.clear();
        self.events.clear();
        Ok(())
    }

    fn settle(&mut self) {
        if let Some(store) = &mut self.store
            && let Err(error) = store.settle()
        {
            tracing::warn!(%error, "history: the last minutes are not thinned");
        }
    }

    /// Nothing can be read back from a file with holes; the service goes on with a new one.
    fn start_anew(&mut self, why: &str) {
        self.store = None;
        let aside = match set_aside(&self.path, Utc::now()) {
            Ok(aside) => aside,
            Err(error) => return self.blocked(&error),
        };
        self.tell(
            "history_set_aside",
            format!("history.db is damaged ({why}); set aside as {}, a new one is begun", name(&aside)),
        );
        match self.try_write() {
            Ok(()) => self.resumed(),
            Err(error) => self.blocked(&error),
        }
    }

    fn blocked(&mut self, error: &HistoryError) {
        // Opened anew next time: whatever was wrong may be about this very file.
        self.store = None;
        self.due = Some(Instant::now() + RETRY_EVERY);
        if !std::mem::replace(&mut self.blocked, true) {
            let retry = RETRY_EVERY.as_secs();
            self.tell("history_blocked", format!("{error}; nothing is recorded, tried again every {retry} s"));
        }
    }

    fn resumed(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if std::mem::take(&mut self.blocked) || lost > 0 {
            let lost = if lost == 0 { "nothing".to_owned() } else { format!("{lost} samples and events") };
            self.tell("history_resumed", format!("history.db is written again; {lost} lost meanwhile"));
        }
    }

    fn tell(&self, kind: &'static str, message: String) {
        // Nobody listens any more at the very end.
        let _ = self.notes.send(Note { kind, message });
    }
}

fn push<T>(waiting: &mut VecDeque<T>, item: T, lost: &AtomicU64) {
    if waiting.len() == WAITING_MAX {
        waiting.pop_front();
        lost.fetch_add(1, Ordering::Relaxed);
    }
    waiting.push_back(item);
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
