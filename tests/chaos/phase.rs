//! One phase: a rig of its own, a crowd of clients, one act of violence after the other, the judgement.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime};

use crate::chance::Chance;
use crate::checker::{self, Grounds, Verdict};
use crate::crowd::Crowd;
use crate::daemon_log::{self, Line};
use crate::engine::Engine;
use crate::history::{self, History};
use crate::rig::{Rig, Weight};
use crate::settings::Settings;

/// Progress is told so often.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Lines of the daemon's log shown when an act failed.
const LAST_WORDS: usize = 60;

/// A phase under way.
pub struct Phase {
    pub rig: Rig,
    pub history: Arc<History>,
    pub chance: Chance,
    /// When the kernel said that the worker of a generation had ended.
    pub exits: BTreeMap<u64, SystemTime>,
    /// When daemons were killed.
    pub kills: Vec<Instant>,
    /// Workers are ended by force in this phase, and so may streams be that cannot go on without them.
    pub workers_die: bool,
    /// Worker pid kept, of how many times that it should have been.
    pub kept: (u64, u64),
    /// Things that went wrong besides the history.
    pub faults: Vec<String>,
    /// What was done, by kind.
    pub done: BTreeMap<String, u64>,
    /// The next worker may have been born without the last orders.
    pub orders_withdrawn: bool,
}

/// What a phase came to.
#[derive(Debug, Default)]
pub struct Report {
    pub name: String,
    /// Why it was not run.
    pub skipped: Option<String>,
    pub verdict: Verdict,
    pub faults: Vec<String>,
    pub done: BTreeMap<String, u64>,
    pub kept: (u64, u64),
    /// Requests that outlived a worker, as the last daemon counts them.
    pub carried: u64,
    /// Daemon's start to adopted or ready worker, in microseconds.
    pub adoption_us: Vec<u64>,
    /// Kernel's word of the worker's exit to the daemon's.
    pub notice_us: Vec<u64>,
    /// The same to its decision to start the next.
    pub decision_us: Vec<u64>,
    pub drift: Option<(i64, i64)>,
    pub took: Duration,
}

/// How one act ended.
pub enum Act {
    /// Done; a word for what it was.
    Did(&'static str),
    /// The daemon cannot do this yet.
    Unknown(String),
}

impl Report {
    pub fn violations(&self) -> impl Iterator<Item = String> + '_ {
        let all = self.verdict.violations.iter().chain(&self.faults);
        all.map(|why| format!("{}: {why}", self.name))
    }
}

/// Runs `count` acts under load. Where `workers_die` is false no request may fail.
pub fn run(
    settings: &Settings,
    name: &str,
    count: u64,
    workers_die: bool,
    mut act: impl FnMut(&mut Phase) -> Result<Act, String>,
) -> Report {
    let started = Instant::now();
    let history = Arc::new(History::default());
    let mut phase = Phase {
        rig: Rig::start(settings.engine, &settings.grace),
        history: history.clone(),
        chance: Chance::of(&[settings.seed, count, name.len() as u64]),
        exits: BTreeMap::new(),
        kills: Vec::new(),
        workers_die,
        kept: (0, 0),
        faults: Vec::new(),
        done: BTreeMap::new(),
        orders_withdrawn: false,
    };
    let next_id = Arc::new(AtomicU64::new(1));
    let (mut done, mut told, mut skipped, mut before) = (0, Instant::now(), None, None);
    if let Err(why) = phase.rig.serving(|_| true) {
        phase.faults.push(why);
    }
    // The first tenth warms everything up; what the daemon weighs then is what it may weigh at the end.
    for goal in [count.div_ceil(10), count] {
        let crowd = Crowd::start(settings, &phase.rig.socket(), &history, &next_id);
        while done < goal && skipped.is_none() && phase.faults.is_empty() {
            match act(&mut phase) {
                Ok(Act::Did(what)) => *phase.done.entry(what.to_owned()).or_default() += 1,
                Ok(Act::Unknown(why)) => skipped = Some(why),
                Err(why) => phase.faults.push(format!("act {done}: {why}")),
            }
            done += 1;
            if started.elapsed() > settings.limit && done < count {
                phase.faults.push(format!("only {done} of {count} within {:?}", settings.limit));
            }
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                say(&format!("{name}: {done} of {count}, {} requests answered", history.answered()));
            }
        }
        phase.rig.order("");
        phase.orders_withdrawn = true;
        crowd.finish();
        for result in [phase.rig.serving(|_| true).map(drop), phase.rig.settled()] {
            phase.faults.extend(result.err());
        }
        before = before.or_else(|| phase.rig.weight());
    }
    let after = phase.rig.weight();
    let carried = phase.rig.status().and_then(|status| status["ledger"]["carried"].as_u64()).unwrap_or_default();
    let mut report = judge(phase, settings.engine, started);
    report.drift = before.zip(after).map(|(before, after): (Weight, Weight)| {
        (after.descriptors - before.descriptors, after.resident_kib - before.resident_kib)
    });
    report.name = name.to_owned();
    report.carried = carried;
    report.took = started.elapsed();
    report.skipped = skipped;
    say(&format!("{name}: over after {:.0?}: {:?}", report.took, report.done));
    report
}

fn judge(mut phase: Phase, engine: Engine, started: Instant) -> Report {
    let (now, clock) = (Instant::now(), SystemTime::now());
    let workers = phase.rig.live_workers();
    if workers != 1 {
        phase.faults.push(format!("{workers} workers live at the end"));
    }
    let dispatches = history::dispatches(&phase.rig.read("dispatches"));
    let text = phase.rig.read("logs/mlxsupd.log");
    if !phase.faults.is_empty() {
        let lines: Vec<&str> = text.lines().collect();
        say(&format!("the daemon's last words:\n{}", lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")));
    }
    let log = daemon_log::read(&text);
    // By the daemon's own word, which is all there is of a worker that came and went unseen.
    let died = log.iter().filter(|line| phase.workers_die && line.is("worker_crashed"));
    let deaths: Vec<Instant> = died
        .map(|line| now.checked_sub(clock.duration_since(line.at).unwrap_or_default()).unwrap_or(started))
        .collect();
    let grounds = Grounds { daemon_kills: &phase.kills, worker_deaths: &deaths, continues: engine.continues() };
    let mut report = Report {
        verdict: checker::check(&phase.history.events(), &dispatches, &grounds),
        adoption_us: adoptions(&log),
        ..Report::default()
    };
    for (generation, exit) in &phase.exits {
        let of_it = |line: &&Line| line.is("worker_crashed") && line.generation == Some(*generation);
        let Some(noticed) = log.iter().position(|line| of_it(&line)) else { continue };
        report.notice_us.push(between(*exit, log[noticed].at));
        let decided = log[noticed..].iter().find(|line| line.is("crash_backoff"));
        report.decision_us.extend(decided.map(|line| between(*exit, line.at)));
    }
    Report { faults: phase.faults, done: phase.done, kept: phase.kept, ..report }
}

/// From each start of a daemon but the first to its first worker.
fn adoptions(log: &[Line]) -> Vec<u64> {
    let starts = log.iter().enumerate().filter(|(_, line)| line.text.contains("mlxsupd starts")).skip(1);
    let has_worker = |line: &&Line| line.is("worker_adopted") || line.is("worker_ready");
    starts
        .filter_map(|(index, start)| {
            // A daemon that was killed before it had a worker adopted none.
            let life = log[index + 1..].iter().take_while(|line| !line.text.contains("mlxsupd starts"));
            life.into_iter().find(has_worker).map(|line| between(start.at, line.at))
        })
        .collect()
}

/// Two witnesses of one moment may tell it in either order.
fn between(from: SystemTime, to: SystemTime) -> u64 {
    to.duration_since(from).map_or(0, |length| u64::try_from(length.as_micros()).unwrap_or(u64::MAX))
}

/// A line for whoever watches.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "chaos: {line}");
}
