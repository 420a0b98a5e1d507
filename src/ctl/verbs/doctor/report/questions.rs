//! What nobody could find out without a Mac, and what this one has to say about it.
//!
//! Pure: evidence in, one answer per question out. An answer says what was seen, never what is to be expected; where looking
//! alone cannot tell, it says which experiment would, with the commands.

use std::collections::BTreeMap;

use crate::supervisor::event::ExitStatus;

/// Divisor of the kernel's own rule: it warns when less than half of what is not wired is uncompressed.
const WARN_BELOW: f64 = 0.50;
/// And calls it critical below this part.
const CRITICAL_BELOW: f64 = 0.343;

/// What was seen on this machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// The job as launchd has it, by its own names.
    pub job: BTreeMap<String, String>,
    /// The daemon that answers.
    pub daemon: Option<u32>,
    /// What the daemon's logs tell of earlier days.
    pub log: LogTally,
    /// `kern.ipc.somaxconn`.
    pub backlog: Option<u64>,
    /// Scheduling priority of daemon and worker.
    pub priorities: Vec<(String, i64)>,
    /// How the exit of a process that was not our child was told: exit code 7 is right.
    pub orphan: Option<Result<ExitStatus, String>>,
    /// How the daemon's file is signed.
    pub signature: Option<String>,
    /// Memory now.
    pub memory: MemoryNow,
}

/// Lines of `mlxsupd.log` and its older siblings, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogTally {
    /// Starts of a daemon.
    pub starts: u64,
    /// Workers that outlived their daemon and were taken over.
    pub adopted: u64,
    /// Workers that ended while no daemon ran.
    pub ended_unseen: u64,
    /// Upgrades in place.
    pub upgraded: u64,
    /// The last lines about memory that did or did not come back.
    pub memory: Vec<String>,
}

/// Memory now, as far as the kernel's thresholds are concerned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MemoryNow {
    /// `kern.memorystatus_vm_pressure_level`.
    pub level: Option<f64>,
    /// Pages that are neither wired nor compressed, bytes.
    pub uncompressed: Option<f64>,
    /// Memory the compressor occupies, bytes.
    pub compressed: Option<f64>,
    /// Swap in use, bytes.
    pub swap: Option<f64>,
}

/// One question with its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What is asked.
    pub question: &'static str,
    /// What was seen.
    pub seen: String,
    /// What would tell more; empty when nothing is left to ask.
    pub experiment: &'static str,
}

/// Reads a log of the daemon.
pub fn tally(text: &str, tally: &mut LogTally) {
    for line in text.lines() {
        let says = |words: &str| line.contains(words);
        tally.starts += u64::from(says("mlxsupd starts"));
        tally.adopted += u64::from(says("kind=worker_adopted") || says("\"worker_adopted\""));
        tally.ended_unseen += u64::from(says("ended while no daemon ran"));
        tally.upgraded += u64::from(says("kind=upgraded") || says("\"upgraded\""));
        if says("memory_stranded") || says("memory_returned") || says("returned, available") {
            tally.memory.push(line.to_owned());
        }
    }
    let extra = tally.memory.len().saturating_sub(KEPT);
    tally.memory.drain(..extra);
}

/// Lines about memory that are kept.
const KEPT: usize = 10;

/// All questions, answered as far as the evidence goes.
#[must_use]
pub fn answer(evidence: &Evidence) -> Vec<Answered> {
    let entry = |question, seen, experiment| Answered { question, seen, experiment };
    vec![
        entry("Does launchd honour a ThrottleInterval below 10 s?", throttle(evidence), THROTTLE_TRIAL),
        entry(
            "How long does launchd really wait between SIGTERM and SIGKILL?",
            value(evidence, "exit timeout", "the job's exit timeout in force", " s"),
            "",
        ),
        entry("Does bootout, or a logout, reach a worker with a session of its own?", bootout(evidence), BOOTOUT_TRIAL),
        entry(
            "What becomes of connects when the backlog is full while the job is throttled?",
            backlog(evidence),
            BACKLOG_TRIAL,
        ),
        entry("Does an exec in place keep the job, its priority and its socket?", exec(evidence), EXEC_TRIAL),
        entry(
            "Is a daemon's new image, signed or not, still trusted (files, firewall)?",
            signature(evidence),
            SIGNATURE_TRIAL,
        ),
        entry("Is the exit status told of a process that was not our child?", orphan(evidence), ""),
        entry("How fast does wired memory come back, and does SIGKILL strand it?", memory_back(evidence), MEMORY_TRIAL),
        entry("Where do the pressure levels lie, and is there swap before?", thresholds(&evidence.memory), ""),
    ]
}

const THROTTLE_TRIAL: &str = "kill -9 $(mlxsupctl status --json | jq .daemon.pid) twice within 5 s; the times of `mlxsupd \
    starts` in mlxsupd.log tell the pause (the worker survives both)";
const BOOTOUT_TRIAL: &str = "W=$(mlxsupctl status --json | jq .worker.pid); mlxsupctl stop --keep-worker; sleep 30; ps -p $W; \
    mlxsupctl start (the same once more with a logout and login instead)";
const BACKLOG_TRIAL: &str =
    "with the daemon stopped twice in 5 s, open 200 connections to mlxsup.sock and count those refused";
const EXEC_TRIAL: &str = "launchctl print gui/$UID/io.github.mlxsup.mlxsupd before and after `mlxsupctl upgrade`: pid and runs \
    must stay";
const SIGNATURE_TRIAL: &str = "rebuild, `mlxsupctl upgrade`, and see whether macOS asks for permissions again";
const MEMORY_TRIAL: &str = "mlxsupctl unload prints what came back; a SIGKILL of a large wired worker may need a reboot, so do not \
    try it on a machine that you need";

fn throttle(evidence: &Evidence) -> String {
    let mut seen = value(evidence, "minimum runtime", "the job's minimum runtime in force", " s");
    if let Some(runs) = evidence.job.get("runs") {
        seen.push_str(&format!("; {runs} runs since it was loaded"));
    }
    seen
}

fn value(evidence: &Evidence, name: &str, what: &str, unit: &str) -> String {
    match evidence.job.get(name) {
        Some(value) => format!("{what} is {value}{unit}"),
        None => "not seen: launchd does not have the job, or does not say".to_owned(),
    }
}

fn bootout(evidence: &Evidence) -> String {
    let LogTally { starts, adopted, ended_unseen, .. } = evidence.log;
    if starts == 0 {
        return "not seen: there is no log of a daemon".to_owned();
    }
    format!(
        "in the logs kept: {starts} starts of a daemon, {adopted} workers adopted afterwards, {ended_unseen} found ended \
         (crashes of the daemon and bootouts together)"
    )
}

fn backlog(evidence: &Evidence) -> String {
    match evidence.backlog {
        Some(backlog) => {
            format!("the backlog of a socket is {backlog} (kern.ipc.somaxconn); what a full one does was not tried")
        }
        None => "not seen".to_owned(),
    }
}

fn exec(evidence: &Evidence) -> String {
    let mut seen = vec![format!("{} upgrades in the logs kept", evidence.log.upgraded)];
    let theirs: Option<u32> = evidence.job.get("pid").and_then(|pid| pid.parse().ok());
    match (theirs, evidence.daemon) {
        (Some(theirs), Some(ours)) if theirs == ours => seen.push("launchd's pid is the daemon's".to_owned()),
        (Some(_), Some(_)) => seen.push("launchd's pid is NOT the daemon's".to_owned()),
        _ => {}
    }
    for name in ["runs", "execs", "spawn type"] {
        if let Some(value) = evidence.job.get(name) {
            seen.push(format!("{name} {value}"));
        }
    }
    // 31 is a process in the foreground, 20 a throttled one.
    seen.extend(evidence.priorities.iter().map(|(who, priority)| format!("priority of the {who} {priority}")));
    seen.join("; ")
}

fn signature(evidence: &Evidence) -> String {
    evidence.signature.clone().unwrap_or_else(|| "not seen".to_owned())
}

fn orphan(evidence: &Evidence) -> String {
    match &evidence.orphan {
        Some(Ok(ExitStatus::Code(7))) => "yes: exit code 7 was told as such".to_owned(),
        Some(Ok(ExitStatus::Unknown)) => "no: the exit was told, its status was not".to_owned(),
        Some(Ok(other)) => format!("wrongly: exit code 7 was told as {other}"),
        Some(Err(why)) => format!("not seen: {why}"),
        None => "not tried".to_owned(),
    }
}

fn memory_back(evidence: &Evidence) -> String {
    if evidence.log.memory.is_empty() {
        return "not seen: the logs kept tell of no worker that was stopped for its memory".to_owned();
    }
    format!("the last lines about it:\n{}", evidence.log.memory.join("\n"))
}

/// What is in force is compared with what the kernel of 2025 would say of the same numbers.
fn thresholds(now: &MemoryNow) -> String {
    let gib = |bytes: f64| bytes / f64::from(1_u32 << 30);
    let (Some(level), Some(uncompressed), Some(compressed)) = (now.level, now.uncompressed, now.compressed) else {
        return "not seen".to_owned();
    };
    let share = uncompressed / (uncompressed + compressed).max(1.0);
    let expected = if share < CRITICAL_BELOW {
        4.0
    } else if share < WARN_BELOW {
        2.0
    } else {
        1.0
    };
    let fits = if (level - expected).abs() < 0.5 {
        "as the kernel of macOS 15.5 would"
    } else {
        "unlike the kernel of macOS 15.5"
    };
    let swap = now.swap.map_or_else(String::new, |swap| format!(", swap {:.1} GiB", gib(swap)));
    format!(
        "level {level:.0} with {:.0} % of what is not wired uncompressed ({:.1} of {:.1} GiB){swap}: {fits}, which warns below \
         50 % and calls 34 % critical",
        share * 100.0,
        gib(uncompressed),
        gib(uncompressed + compressed),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(evidence: &Evidence, question: &str) -> String {
        answer(evidence).into_iter().find(|one| one.question.contains(question)).unwrap().seen
    }

    #[test]
    fn without_evidence_nothing_is_claimed() {
        let answers = answer(&Evidence::default());
        assert_eq!(answers.len(), 9);
        for answered in answers {
            let seen = answered.seen;
            assert!(
                seen.contains("not seen") || seen.contains("not tried") || seen.starts_with("0 upgrades"),
                "{seen}"
            );
        }
    }

    #[test]
    fn launchds_own_words_answer() {
        let job = [("minimum runtime", "1"), ("exit timeout", "60"), ("pid", "812"), ("runs", "3")];
        let job = job.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let evidence = Evidence { job, daemon: Some(812), ..Evidence::default() };
        assert_eq!(
            seen(&evidence, "Throttle"),
            "the job's minimum runtime in force is 1 s; 3 runs since it was loaded"
        );
        assert_eq!(seen(&evidence, "SIGTERM"), "the job's exit timeout in force is 60 s");
        assert_eq!(seen(&evidence, "exec"), "0 upgrades in the logs kept; launchd's pid is the daemon's; runs 3");
        let other = Evidence { daemon: Some(9), ..evidence };
        assert!(seen(&other, "exec").contains("NOT"));
    }

    #[test]
    fn the_log_tells_what_happened_before() {
        let mut log = LogTally::default();
        let text = "INFO mlxsupd starts version=0.1.0\nINFO kind=worker_adopted worker 3\nINFO kind=leftover_worker worker 2 \
                    (pid 9) ended while no daemon ran: it is gone\nINFO kind=upgraded 0.1.0\nINFO kind=memory_returned 9 GiB\n";
        for _ in 0..12 {
            tally(text, &mut log);
        }
        assert_eq!((log.starts, log.adopted, log.ended_unseen, log.upgraded, log.memory.len()), (12, 12, 12, 12, 10));
        let evidence = Evidence { log, ..Evidence::default() };
        assert!(seen(&evidence, "bootout").starts_with("in the logs kept: 12 starts"));
        assert!(seen(&evidence, "wired").contains("9 GiB"));
    }

    #[test]
    fn an_orphans_exit_is_told_or_not() {
        let with = |orphan| seen(&Evidence { orphan: Some(orphan), ..Evidence::default() }, "not our child");
        assert!(with(Ok(ExitStatus::Code(7))).starts_with("yes"));
        assert!(with(Ok(ExitStatus::Unknown)).starts_with("no"));
        assert!(with(Ok(ExitStatus::Signal(9))).starts_with("wrongly"));
    }

    #[test]
    fn levels_are_compared_with_the_known_rule() {
        let with = |level: f64, uncompressed: f64, compressed: f64| {
            let now = MemoryNow {
                level: Some(level),
                uncompressed: Some(uncompressed),
                compressed: Some(compressed),
                swap: Some(0.0),
            };
            thresholds(&now)
        };
        assert!(with(1.0, 30e9, 1e9).contains("as the kernel"));
        assert!(with(1.0, 10e9, 12e9).contains("unlike"));
        assert!(with(4.0, 10e9, 30e9).contains("as the kernel"));
    }
}
