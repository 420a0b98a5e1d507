//! Gathering the evidence for [`super::questions`]: commands that only look, and one process of our own.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::questions::{Evidence, LogTally, MemoryNow, tally};
use crate::ctl::service_control::{Patience, Tool, choose, installed};
use crate::ctl::terminal::Terminal;
use crate::ctl::verbs::doctor::gathering::Gathered;
use crate::link::process::{Family, Process};
use crate::memory::{Metric, Sample, process_start_id};
use crate::supervisor::event::ExitStatus;

/// What is asked here answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most bytes of one log file that are read.
const LOG_MAX: u64 = 64 << 20;

/// The exit code that our own process ends with.
const ORPHANS_CODE: i32 = 7;

/// Looks for everything the questions can use.
pub async fn gather(gathered: &Gathered, terminal: &mut Terminal) -> Evidence {
    let home = &gathered.daemon.home;
    let mut evidence = Evidence {
        daemon: gathered.daemon.status().map(|status| status.daemon.pid),
        log: logs(&home.join("logs")),
        memory: memory(&gathered.machine.sample),
        orphan: Some(orphan()),
        ..Evidence::default()
    };
    let named = crate::ctl::home::Home { path: home.clone(), source: crate::ctl::home::Source::Flag };
    if let Some(found) = choose(installed(), &named) {
        let mut wait = Patience::new(PATIENCE);
        evidence.job = found.control().properties(&mut wait, terminal).await.unwrap_or_default();
    }
    let say = async |program: &'static str, words: &[&str], terminal: &mut Terminal| {
        let mut wait = Patience::new(PATIENCE);
        let ran = Tool::new(program).run(words, "looking", &mut wait, terminal).await.ok()?;
        (ran.code == Some(0)).then(|| format!("{}{}", ran.out, ran.err))
    };
    let backlog = say("sysctl", &["-n", "kern.ipc.somaxconn"], terminal).await;
    evidence.backlog = backlog.and_then(|text| text.trim().parse().ok());
    let status = gathered.daemon.status();
    let worker = status.and_then(|status| status.worker.as_ref()).map(|worker| worker.pid);
    for (who, pid) in [("daemon", evidence.daemon), ("worker", worker)] {
        let Some(pid) = pid else { continue };
        let text = say("ps", &["-o", "pri=", "-p", &pid.to_string()], terminal).await;
        if let Some(priority) = text.and_then(|text| text.trim().parse().ok()) {
            evidence.priorities.push((who.to_owned(), priority));
        }
    }
    if let Some(program) = gathered.service.unit.as_ref().map(|unit| unit.program.display().to_string()) {
        let text = say("codesign", &["-dv", &program], terminal).await.unwrap_or_default();
        let wanted = |line: &&str| line.starts_with("Signature=") || line.starts_with("TeamIdentifier=");
        let lines: Vec<&str> = text.lines().filter(wanted).collect();
        evidence.signature = (!lines.is_empty()).then(|| lines.join(", "));
    }
    evidence
}

/// The daemon's log and its older siblings, oldest first.
fn logs(folder: &Path) -> LogTally {
    let mut files: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
    files.retain(|entry| entry.file_name().to_string_lossy().starts_with("mlxsupd.log"));
    files.sort_by_key(|entry| entry.metadata().and_then(|found| found.modified()).ok());
    let mut sum = LogTally::default();
    for file in files.iter().filter(|file| file.metadata().is_ok_and(|found| found.len() < LOG_MAX)) {
        tally(&String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()), &mut sum);
    }
    sum
}

fn memory(sample: &Sample) -> MemoryNow {
    let share = sample.get(Metric::SystemFreePercent).map(|percent| percent / 100.0);
    MemoryNow {
        level: sample.get(Metric::SystemPressure),
        uncompressed: share.zip(sample.get(Metric::SystemTotal)).map(|(share, total)| share * total),
        compressed: sample.get(Metric::SystemCompressed),
        swap: sample.get(Metric::SystemSwapUsed),
    }
}

/// Starts a process that is nobody's child here, watches it as an adopted worker is watched, and sees what is told of its
/// end. It waits for its standard input to close, so that it cannot end before it is watched.
fn orphan() -> Result<ExitStatus, String> {
    use std::process::{Command, Stdio};

    // The outer shell ends at once; the inner one, its child, then belongs to nobody here. The shell gives what runs in the
    // background no standard input of its own, hence the second descriptor.
    let script = format!("exec 3<&0; sh -c 'read line <&3; exit {ORPHANS_CODE}' >/dev/null 2>&1 & echo $!");
    let mut outer = Command::new("sh");
    outer.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut outer = outer.spawn().map_err(|error| error.to_string())?;
    let hold = outer.stdin.take();
    let output = outer.wait_with_output().map_err(|error| error.to_string())?;
    let pid = String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().map_err(|error| error.to_string())?;
    let start = process_start_id(pid).ok_or("it ended too soon")?;
    let (sender, ended) = mpsc::channel();
    let watched = Process::adopt(pid, &start, Family::Alone, move |how| {
        let _ = sender.send(how.status);
    });
    watched.map_err(|error| error.to_string())?;
    drop(hold);
    ended.recv_timeout(PATIENCE).map_err(|_| "its end was not told within 5 s".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_orphan_is_told() {
        let told = orphan().unwrap();
        // Linux tells its status to nobody but its parent.
        let expected = if cfg!(target_os = "macos") { ExitStatus::Code(ORPHANS_CODE) } else { ExitStatus::Unknown };
        assert_eq!(told, expected);
    }

    #[test]
    fn logs_are_read_with_their_older_siblings() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("mlxsupd.log.1", "mlxsupd starts\n"), ("mlxsupd.log", "mlxsupd starts\n"), ("other", "x")]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(logs(folder.path()).starts, 2);
        assert_eq!(logs(Path::new("/no/such/folder")), LogTally::default());
    }
}
