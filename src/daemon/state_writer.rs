//! Keeps `state.json` true without making the driver wait for a disk.
//!
//! The document lives here; a thread writes it. Changes that come while it writes are written together, the last one as it
//! then is. Whoever must not go on before a change is on disk says so: [`StateWriter::flush`] waits, and
//! [`StateWriter::written`] tells later.

use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::sync::watch;

use super::state_file::{self, State, WorkerRecord};
use crate::supervisor::{Generation, Persistent};

/// The state, and the thread that writes it.
#[derive(Debug)]
pub struct StateWriter {
    state: State,
    /// How many changes were handed to the thread.
    asked: u64,
    jobs: Option<mpsc::Sender<Job>>,
    tried: watch::Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Job {
    state: State,
    number: u64,
    told: Option<mpsc::Sender<Result<(), String>>>,
}

impl StateWriter {
    /// A writer of `state`, which is not written before the first change or [`Self::flush`].
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn new(path: PathBuf, state: State) -> std::io::Result<Self> {
        let (jobs, work) = mpsc::channel();
        let (tried_in, tried) = watch::channel(0);
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(move || {
            while let Ok(job) = work.recv() {
                write_newest(&path, job, &work, &tried_in);
            }
        })?;
        Ok(Self { state, asked: 0, jobs: Some(jobs), tried, thread: Some(thread) })
    }

    /// The document as it is to be.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Keeps what the core wants kept.
    pub fn keep(&mut self, core: Persistent) {
        self.state.core = core;
        self.ask(None);
    }

    /// Writes down who a worker is, for the next daemon.
    pub fn remember(&mut self, record: WorkerRecord) {
        if !self.state.workers.contains(&record) {
            self.state.remember(record);
            self.ask(None);
        }
    }

    /// Strikes the records of workers of which `lives` is false.
    pub fn retain(&mut self, lives: impl Fn(Generation) -> bool) {
        let before = self.state.workers.len();
        self.state.workers.retain(|record| lives(Generation(record.generation)));
        if self.state.workers.len() < before {
            self.ask(None);
        }
    }

    /// Writes the state and waits until it is on disk.
    ///
    /// # Errors
    /// Why it is not; it has been logged, and is tried again with the next change.
    pub fn flush(&mut self) -> Result<(), String> {
        let (told, answer) = mpsc::channel();
        self.ask(Some(told));
        answer.recv().unwrap_or_else(|_| Err("the thread that writes the state is gone".to_owned()))
    }

    /// Waits until all changes so far are on disk, or were tried in vain.
    ///
    /// Returns at once when nothing is under way, which saves a write.
    pub fn settle(&mut self) {
        if *self.tried.borrow() < self.asked {
            let _ = self.flush();
        }
    }

    /// Ready once all changes so far are on disk, or were tried in vain; `None` if they are already.
    pub fn written(&self) -> Option<impl Future<Output = ()> + Send + 'static> {
        let asked = self.asked;
        if *self.tried.borrow() >= asked {
            return None;
        }
        let mut tried = self.tried.clone();
        Some(async move {
            // An error: the writer is gone, and nothing more will be written.
            let _ = tried.wait_for(|tried| *tried >= asked).await;
        })
    }

    fn ask(&mut self, told: Option<mpsc::Sender<Result<(), String>>>) {
        self.asked += 1;
        if let Some(jobs) = &self.jobs {
            // A thread that has gone drops `told`, which is how flush hears of it.
            let _ = jobs.send(Job { state: self.state.clone(), number: self.asked, told });
        }
    }
}

impl Drop for StateWriter {
    /// Waits for the last change: a daemon leaves its state behind whole.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Writes the newest of the jobs that wait, and tells all who wait for one of them.
fn write_newest(path: &std::path::Path, first: Job, work: &mpsc::Receiver<Job>, tried: &watch::Sender<u64>) {
    let mut newest = first;
    let mut told: Vec<_> = newest.told.take().into_iter().collect();
    while let Ok(mut later) = work.try_recv() {
        told.extend(later.told.take());
        newest = later;
    }
    let result = state_file::write(path, &newest.state).map_err(|error| error.to_string());
    if let Err(error) = &result {
        tracing::error!(%error, "state not written");
    }
    tried.send_replace(newest.number);
    for waiting in told {
        // Whoever does not wait any more needs no answer.
        let _ = waiting.send(result.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Standing;

    fn persistent(generation: u64) -> Persistent {
        Persistent { generation, ..Persistent::default() }
    }

    #[test]
    fn a_flush_leaves_the_last_change_on_disk() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        let mut writer = StateWriter::new(path.clone(), State::default()).unwrap();
        for generation in 1..=50 {
            writer.keep(persistent(generation));
        }
        writer.remember(WorkerRecord { generation: 50, pid: 7, ..WorkerRecord::default() });
        writer.flush().unwrap();
        assert_eq!(&state_file::look(&path).unwrap(), writer.state());
        writer.retain(|generation| generation != Generation(50));
        writer.settle();
        assert_eq!(state_file::look(&path).unwrap().workers, Vec::new());
    }

    #[test]
    fn a_dropped_writer_has_written() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        let mut writer = StateWriter::new(path.clone(), State::default()).unwrap();
        writer.keep(Persistent { standing: Standing::Drained, ..persistent(3) });
        drop(writer);
        let core = state_file::look(&path).unwrap().core;
        assert_eq!((core.generation, core.standing), (3, Standing::Drained));
    }

    #[tokio::test]
    async fn who_waits_for_a_change_finds_it_on_disk() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("state.json");
        let mut writer = StateWriter::new(path.clone(), State::default()).unwrap();
        assert!(writer.written().is_none(), "nothing to wait for");
        writer.keep(persistent(4));
        if let Some(written) = writer.written() {
            written.await;
        }
        assert_eq!(state_file::look(&path).unwrap().core.generation, 4);
    }

    #[test]
    fn a_disk_that_refuses_is_told_and_tried_again() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("later");
        let mut writer = StateWriter::new(folder.join("state.json"), State::default()).unwrap();
        writer.keep(persistent(5));
        let error = writer.flush().unwrap_err();
        assert!(error.contains("cannot write") && error.contains("state.json"), "{error}");
        std::fs::create_dir(&folder).unwrap();
        writer.flush().unwrap();
        assert_eq!(state_file::look(&folder.join("state.json")).unwrap().core.generation, 5);
    }
}
