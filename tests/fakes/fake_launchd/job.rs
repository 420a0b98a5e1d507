//! One job's life, and launchd's arithmetic in it.
//!
//! ```text
//! Waiting ──demand, RunAtLoad, KeepAlive──▶ Running ──exit──▶ Throttled until throttle − runtime is over
//! Throttled ──▶ Running if it is kept alive, else Waiting
//! any ──bootout──▶ Stopping (TERM, after ExitTimeOut KILL) ──exit──▶ gone
//! ```

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::children::Ending;
use crate::job_file::JobFile;
use crate::listeners::Held;
use crate::spawn;

/// A loaded job.
#[derive(Debug)]
pub struct Job {
    file: JobFile,
    held: Vec<Held>,
    state: State,
    runs: u64,
    exits: u64,
    last: Option<LastRun>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting,
    Throttled { until: Instant },
    Running { pid: Pid, since: Instant },
    Stopping { pid: Pid, kill_at: Option<Instant>, killed: bool },
    Gone,
}

/// The run before this one.
#[derive(Debug)]
struct LastRun {
    ending: Ending,
    ran: Duration,
    pause: Duration,
}

/// How long a job that ran for `ran` must wait before it is started again.
pub fn pause(throttle: Duration, ran: Duration) -> Duration {
    throttle.saturating_sub(ran)
}

impl Job {
    /// Binds the sockets and starts what wants to run at once.
    pub fn load(file: JobFile, now: Instant) -> Result<Self, String> {
        let held = file.sockets.iter().map(Held::bind).collect::<Result<Vec<_>, _>>()?;
        let mut job = Self { file, held, state: State::Waiting, runs: 0, exits: 0, last: None };
        if job.file.run_at_load || job.file.keep_alive {
            job.start(now)?;
        }
        Ok(job)
    }

    fn start(&mut self, now: Instant) -> Result<(), String> {
        let pid = spawn::start(&self.file, &self.held)?;
        self.runs += 1;
        self.state = State::Running { pid, since: now };
        Ok(())
    }

    /// `start` where nobody is left to tell but the log.
    fn start_again(&mut self, now: Instant) {
        if let Err(why) = self.start(now) {
            let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("fake launchd: {why}\n").as_bytes());
            self.state = State::Throttled { until: now + self.file.throttle.max(Duration::from_secs(1)) };
        }
    }

    pub fn label(&self) -> &str {
        &self.file.label
    }

    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    pub fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping { .. })
    }

    /// Sockets to watch: those of a job that is down and free to start.
    pub fn awaiting_demand(&self) -> &[Held] {
        if matches!(self.state, State::Waiting) { &self.held } else { &[] }
    }

    /// Somebody connected, or asks for the job.
    pub fn demand(&mut self, now: Instant) {
        if matches!(self.state, State::Waiting) {
            self.start_again(now);
        }
    }

    /// `kickstart`, which does not wait for the throttle; with `kill` a running job is killed first.
    pub fn kickstart(&mut self, kill_first: bool, now: Instant) {
        match self.state {
            State::Waiting | State::Throttled { .. } => self.start_again(now),
            State::Running { pid, .. } if kill_first => {
                let _ = kill(pid, Signal::SIGKILL);
            }
            State::Running { .. } | State::Stopping { .. } | State::Gone => {}
        }
    }

    /// TERM now, KILL when its time is over.
    pub fn stop(&mut self, now: Instant) {
        self.state = match self.state {
            State::Running { pid, .. } => {
                let _ = kill(pid, Signal::SIGTERM);
                State::Stopping { pid, kill_at: self.file.exit_timeout.map(|timeout| now + timeout), killed: false }
            }
            State::Waiting | State::Throttled { .. } => State::Gone,
            other @ (State::Stopping { .. } | State::Gone) => other,
        };
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Throttled { until } => Some(until),
            State::Stopping { kill_at, killed: false, .. } => kill_at,
            State::Waiting | State::Running { .. } | State::Stopping { .. } | State::Gone => None,
        }
    }

    pub fn tick(&mut self, now: Instant) {
        match &mut self.state {
            State::Throttled { until } if *until <= now => {
                if self.file.keep_alive {
                    self.start_again(now);
                } else {
                    self.state = State::Waiting;
                }
            }
            State::Stopping { pid, kill_at: Some(at), killed } if *at <= now && !*killed => {
                *killed = true;
                let _ = kill(*pid, Signal::SIGKILL);
            }
            _ => {}
        }
    }

    /// True if it was this job's process that ended.
    pub fn ended(&mut self, pid: Pid, ending: Ending, now: Instant) -> bool {
        let (ours, since) = match self.state {
            State::Running { pid, since } => (pid, Some(since)),
            State::Stopping { pid, .. } => (pid, None),
            State::Waiting | State::Throttled { .. } | State::Gone => return false,
        };
        if ours != pid {
            return false;
        }
        if !self.file.abandons_group {
            // The group of the session that `spawn` made; gone already, most of the time.
            let _ = killpg(pid, Signal::SIGTERM);
        }
        self.exits += 1;
        let Some(since) = since else {
            self.state = State::Gone;
            return true;
        };
        let ran = now - since;
        let pause = pause(self.file.throttle, ran);
        self.last = Some(LastRun { ending, ran, pause });
        // Without a pause it is over with the same turn's tick.
        self.state = State::Throttled { until: now + pause };
        true
    }

    /// What `print` shows.
    pub fn facts(&self) -> Value {
        let (state, pid) = match self.state {
            State::Waiting => ("waiting", None),
            State::Throttled { .. } => ("throttled", None),
            State::Running { pid, .. } => ("running", Some(pid.as_raw())),
            State::Stopping { pid, .. } => ("stopping", Some(pid.as_raw())),
            State::Gone => ("gone", None),
        };
        let milliseconds = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let last = self.last.as_ref().map(|last| {
            let (code, signal) = match last.ending {
                Ending::Code(code) => (Some(code), None),
                Ending::Signal(signal) => (None, Some(signal)),
            };
            json!({"code": code, "signal": signal, "ran_ms": milliseconds(last.ran),
                "pause_ms": milliseconds(last.pause)})
        });
        json!({"label": self.file.label, "state": state, "pid": pid, "runs": self.runs, "exits": self.exits,
            "last_run": last})
    }
}
