//! What the kernel tells about processes, and their end.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a program may take to leave when asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// A program that was started, ended when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts it, its words in a file.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let words = fs::File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(words.try_clone()?).stderr(words).spawn();
        let child = child.map_err(|why| io::Error::other(format!("{}: {why}", command.get_program().display())))?;
        Ok(Self { child })
    }

    /// This process and its children, if they belong to what is measured.
    pub fn family(&self, children: bool) -> Vec<u32> {
        let parent = self.child.id();
        let mut family = vec![parent];
        if children && let Ok(text) = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")) {
            family.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
        family
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        let _ = kill(pid, Signal::SIGTERM);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of processes so far, nanoseconds: each thread's own clock, since `stat` counts in hundredths of a second.
pub fn cpu_ns(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| threads_ns(*pid).unwrap_or(0)).sum()
}

fn threads_ns(pid: u32) -> Option<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread that ended meanwhile takes its time along: threads of a pool, which idle and end, have next to none.
        let Ok(text) = fs::read_to_string(thread.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    }
    Some(sum)
}

/// Resident memory of processes, bytes; pages they share count in each.
pub fn resident(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    pids.iter().filter_map(of).sum::<u64>() * 1024
}

/// Cores, model, kernel and load of this machine, one line.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = read("/proc/cpuinfo");
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores of {}, Linux {}, load {}", model.unwrap_or("an unknown kind"), kernel.trim(), load())
}

/// Load averages.
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
