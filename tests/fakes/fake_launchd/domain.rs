//! The loaded jobs, and what may be asked about them when.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde_json::Value;

use crate::children::Ending;
use crate::job::Job;
use crate::job_file;

/// launchctl's numbers, with a word each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub number: i32,
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.number, self.why)
    }
}

fn refusal(number: i32, why: impl Into<String>) -> Refusal {
    Refusal { number, why: why.into() }
}

/// All jobs.
#[derive(Debug)]
pub struct Domain {
    jobs: Vec<Job>,
    /// Labels that were taken out lately: a bootstrap fails until then.
    closed: Vec<(String, Instant)>,
    eio: Duration,
    ending: bool,
}

impl Domain {
    pub fn new(eio: Duration) -> Self {
        Self { jobs: Vec::new(), closed: Vec::new(), eio, ending: false }
    }

    /// Loads a job.
    pub fn bootstrap(&mut self, plist: &Path, now: Instant) -> Result<(), Refusal> {
        let bad = |why: String| refusal(122, format!("{}: {why}", plist.display()));
        let file = job_file::read(plist).map_err(bad)?;
        if self.jobs.iter().any(|job| job.label() == file.label && job.is_stopping()) {
            return Err(refusal(37, "Operation already in progress"));
        }
        let is_closed = self.closed.iter().any(|(label, until)| *label == file.label && *until > now);
        if is_closed || self.jobs.iter().any(|job| job.label() == file.label) {
            return Err(refusal(5, "Input/output error"));
        }
        self.jobs.push(Job::load(file, now).map_err(bad)?);
        Ok(())
    }

    /// Takes a job out; its process ends later.
    pub fn bootout(&mut self, label: &str, now: Instant) -> Result<(), Refusal> {
        self.job(label)?.stop(now);
        self.sweep(now);
        Ok(())
    }

    pub fn kickstart(&mut self, label: &str, kill_first: bool, now: Instant) -> Result<(), Refusal> {
        self.job(label)?.kickstart(kill_first, now);
        Ok(())
    }

    pub fn print(&mut self, label: &str) -> Result<Value, Refusal> {
        Ok(self.job(label)?.facts())
    }

    fn job(&mut self, label: &str) -> Result<&mut Job, Refusal> {
        let known = self.jobs.iter_mut().find(|job| job.label() == label);
        known.ok_or_else(|| refusal(113, "Could not find specified service"))
    }

    /// Takes all jobs out; `is_over` once they have ended.
    pub fn shut_down(&mut self, now: Instant) {
        self.ending = true;
        for job in &mut self.jobs {
            job.stop(now);
        }
        self.sweep(now);
    }

    pub fn is_over(&self) -> bool {
        self.ending && self.jobs.is_empty()
    }

    /// Sockets on which a connection starts a job, with its label.
    pub fn awaiting_demand(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        self.jobs.iter().flat_map(|job| job.awaiting_demand().iter().map(|held| (job.label().to_owned(), held.as_fd())))
    }

    pub fn demand(&mut self, label: &str, now: Instant) {
        if let Ok(job) = self.job(label) {
            job.demand(now);
        }
    }

    pub fn ended(&mut self, pid: Pid, ending: Ending, now: Instant) {
        // Nobody's process is an orphan that we inherited; it is reaped and that is all.
        let _ = self.jobs.iter_mut().any(|job| job.ended(pid, ending, now));
        self.sweep(now);
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.jobs.iter().filter_map(Job::next_deadline).min()
    }

    pub fn tick(&mut self, now: Instant) {
        for job in &mut self.jobs {
            job.tick(now);
        }
    }

    fn sweep(&mut self, now: Instant) {
        let until = now + self.eio;
        self.closed.retain(|(_, until)| *until > now);
        self.closed.extend(self.jobs.iter().filter(|job| job.is_gone()).map(|job| (job.label().to_owned(), until)));
        self.jobs.retain(|job| !job.is_gone());
    }
}
