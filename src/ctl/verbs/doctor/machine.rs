//! The machine: its memory now, and the system settings that decide what becomes of an idle model.
//!
//! Facts come from [`super::host`]. Thresholds are those of the article and of the memory gate.

use std::time::{Duration, SystemTime};

use super::finding::{Area, Finding, Level};
use crate::config::{Config, IdleKeepWarm, WiredLimit};
use crate::ctl::render::metric;
use crate::ctl::render::quantity::{plural, size, whole_span};
use crate::memory::{Metric, Sample};

const GIB: u64 = 1 << 30;

/// From here on compressed memory is somebody's cold weights and no longer ordinary housekeeping.
const MUCH_COMPRESSED: u64 = 2 * GIB;

/// The first macOS with residency sets, without which `wired_limit` does nothing.
const FIRST_WITH_WIRING: u32 = 15;

/// The first macOS that drops the residency of weights a second after their last use.
const FIRST_THAT_UNWIRES: u32 = 26;

/// No daemon of ours was ever built before this: 2026-01-01.
const EARLIEST: Duration = Duration::from_secs(1_767_225_600);

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    /// `macOS 26.1`, `Linux 6.18 (Debian 12)`.
    pub system: String,
    /// The processor.
    pub chip: Option<String>,
    /// Memory now.
    pub sample: Sample,
    /// Settings of the system.
    pub settings: Settings,
    /// Of the worker that runs: bytes of it that are compressed.
    pub worker_compressed: Option<u64>,
    /// The latest time anything in the home was written.
    pub last_written: Option<SystemTime>,
}

/// What the system is set to. `None`: it could not be read, or does not exist there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// macOS's major version.
    pub macos: Option<u32>,
    /// `iogpu.wired_limit_mb`; 0 is the system's own choice.
    pub gpu_wired_limit_mib: Option<u64>,
    /// Bytes the GPU holds now for all programs together, from `ioreg`'s `IOAccelerator`.
    pub gpu_in_use: Option<u64>,
    /// `iogpu.disable_wired_collector`.
    pub wired_collector_off: Option<bool>,
    /// `sysctl.proc_translated`: an Intel program on Apple silicon.
    pub translated: Option<bool>,
    /// `vm.overcommit_memory`.
    pub overcommit: Option<u8>,
    /// Bytes that may still be committed, where that is limited.
    pub commit_left: Option<u64>,
    /// Whether Linux measures how long tasks wait for memory.
    pub stall_measured: Option<bool>,
    /// Processes ended for want of memory since boot.
    pub out_of_memory_kills: Option<u64>,
}

/// What the configuration asks of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'c> {
    /// The configuration, if there is a good one.
    pub config: Option<&'c Config>,
    /// Bytes of the model's weights in memory, or on disk where the files do not tell what becomes of them: the memory gate
    /// goes by the same number.
    pub model_bytes: Option<u64>,
    /// A worker holds the model already.
    pub resident: bool,
}

/// Judges all of it.
#[must_use]
pub fn judge(machine: &Machine, asked: Asked<'_>, now: SystemTime) -> Vec<Finding> {
    let mut findings = vec![what_it_is(machine)];
    findings.extend(pressure(machine));
    findings.extend(compression(machine));
    findings.extend(room(machine, asked));
    findings.extend(wired(machine, asked));
    findings.extend(residency(&machine.settings, asked));
    findings.extend(linux(&machine.settings, asked));
    findings.extend(clock(machine.last_written, now));
    findings
}

fn finding(level: Level, code: &'static str, what: impl Into<String>) -> Finding {
    Finding::new(Area::Machine, level, code, what)
}

fn bytes(machine: &Machine, metric: Metric) -> Option<u64> {
    machine.sample.get(metric).map(|value| value as u64)
}

fn spoken(bytes: u64) -> String {
    size(bytes as f64)
}

fn what_it_is(machine: &Machine) -> Finding {
    let mut what = machine.system.clone();
    if let Some(chip) = &machine.chip {
        what.push_str(&format!(", {chip}"));
    }
    if let Some(total) = bytes(machine, Metric::SystemTotal) {
        what.push_str(&format!(", {} of memory", spoken(total)));
    }
    if let Some(held) = machine.settings.gpu_in_use {
        what.push_str(&format!(", {} of it in use by the GPU", spoken(held)));
    }
    if machine.settings.translated == Some(true) {
        return finding(Level::Problem, "translated", format!("{what}; this program is translated from Intel code"))
            .because("MLX has no GPU in a translated process")
            .mended_by("arch -arm64 mlxsupctl doctor");
    }
    finding(Level::Ok, "machine", what)
}

fn pressure(machine: &Machine) -> Option<Finding> {
    let level = machine.sample.get(Metric::SystemPressure)?;
    let word = metric::pressure(level);
    (level >= 2.0).then(|| {
        finding(Level::Warning, "memory_pressure", format!("memory pressure is {word} now"))
            .because("the system compresses and swaps; answers become slow, and starts wait at the memory gate")
            .mended_by(if cfg!(target_os = "macos") { "top -l 1 -o mem -n 10" } else { "ps aux --sort=-rss | head" })
    })
}

fn compression(machine: &Machine) -> Option<Finding> {
    if let Some(cold) = machine.worker_compressed.filter(|bytes| *bytes > MUCH_COMPRESSED) {
        return Some(
            finding(Level::Warning, "weights_compressed", format!("{} of the worker are compressed", spoken(cold)))
                .because("each answer pays for decompressing weights first; wiring or a fresh worker brings them back")
                .mended_by("mlxsupctl restart"),
        );
    }
    let compressed = bytes(machine, Metric::SystemCompressed)?;
    let total = bytes(machine, Metric::SystemTotal)?;
    (compressed > MUCH_COMPRESSED.max(total / 10)).then(|| {
        finding(Level::Note, "much_compressed", format!("{} of memory hold compressed pages", spoken(compressed)))
            .because("another program's pages, as far as is known: the worker reports none of its own")
    })
}

/// The memory gate's question, asked before anybody waits at it.
fn room(machine: &Machine, asked: Asked<'_>) -> Option<Finding> {
    let model = asked.model_bytes?;
    let total = bytes(machine, Metric::SystemTotal)?;
    if model > total.saturating_sub(reserve(total)) {
        let what = format!("the model's {} do not fit beside the system into {}", spoken(model), spoken(total));
        return Some(
            finding(Level::Problem, "model_too_large", what)
                .because("it would be swapped in and out with every token")
                .mended_by("mlxsupctl models"),
        );
    }
    let available = bytes(machine, Metric::SystemAvailable)?;
    if asked.resident {
        return Some(finding(Level::Ok, "room", format!("{} are available beside the worker", spoken(available))));
    }
    if available < model {
        let what = format!("a start needs {} for the weights, {} are available", spoken(model), spoken(available));
        return Some(
            finding(Level::Warning, "no_room", what)
                .because("the start waits at the memory gate until that much is free; requests wait with it")
                .mended_by("quit what holds the memory, then see: mlxsupctl status"),
        );
    }
    Some(finding(Level::Ok, "room", format!("{} available for weights of {}", spoken(available), spoken(model))))
}

/// What is left to everything that is not the model.
fn reserve(total: u64) -> u64 {
    (8 * GIB).max(total / 100 * 12).min(total / 2)
}

fn wired(machine: &Machine, asked: Asked<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let total = bytes(machine, Metric::SystemTotal);
    let gpu_limit = machine.settings.gpu_wired_limit_mib.filter(|mib| *mib > 0).map(|mib| mib << 20);
    if let (Some(limit), Some(total)) = (gpu_limit, total) {
        let shown = spoken(limit);
        if limit > total.saturating_sub(reserve(total)) {
            findings.push(
                finding(Level::Warning, "gpu_limit_high", format!("iogpu.wired_limit_mb lets the GPU wire {shown}"))
                    .because(format!("of {} that leaves too little to macOS: it may freeze", spoken(total)))
                    .mended_by("sudo sysctl iogpu.wired_limit_mb=0"),
            );
        } else {
            findings.push(
                finding(Level::Note, "gpu_limit_set", format!("iogpu.wired_limit_mb lets the GPU wire {shown}"))
                    .because("it is gone with the next boot, and a wired_limit above the system's own then fails"),
            );
        }
    }
    let Some(WiredLimit::Bytes(asked)) = asked.config.map(|config| config.worker.memory.wired_limit) else {
        return findings;
    };
    if let Some(limit) = gpu_limit.filter(|limit| asked > *limit) {
        let what = format!("wired_limit is {}, but the GPU may wire {} only", spoken(asked), spoken(limit));
        findings.push(
            finding(Level::Problem, "wired_limit_refused", what)
                .because("MLX refuses such a limit, and the worker does not start")
                .mended_by(format!("sudo sysctl iogpu.wired_limit_mb={}", asked.div_ceil(1 << 20))),
        );
    } else if let Some(total) = total.filter(|total| asked > total.saturating_sub(reserve(*total))) {
        let what = format!("wired_limit is {} of {}", spoken(asked), spoken(total));
        findings.push(
            finding(Level::Warning, "wired_limit_high", what)
                .because("machines that wired nearly everything froze; the system needs 8 GiB or an eighth of it")
                .mended_by("mlxsupctl tune"),
        );
    }
    findings
}

fn residency(settings: &Settings, asked: Asked<'_>) -> Option<Finding> {
    let macos = settings.macos?;
    if macos < FIRST_WITH_WIRING {
        return Some(
            finding(Level::Warning, "no_residency", format!("macOS {macos} cannot keep GPU memory resident"))
                .because("wired_limit does nothing before macOS 15: idle weights are compressed")
                .mended_by("softwareupdate --list"),
        );
    }
    let auto = asked.config.is_some_and(|config| config.worker.memory.idle_keep_warm == IdleKeepWarm::Auto);
    (macos >= FIRST_THAT_UNWIRES && auto && settings.wired_collector_off != Some(true)).then(|| {
        finding(Level::Note, "idle_unwired", format!("macOS {macos} unwires weights a second after their last use"))
            .because("the first token after a pause is late; idle_keep_warm = \"auto\" does not prevent it yet")
            .mended_by("set idle_keep_warm = \"500ms\" in [worker.memory], then: mlxsupctl restart")
    })
}

fn linux(settings: &Settings, asked: Asked<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let (Some(2), Some(left), Some(model)) = (settings.overcommit, settings.commit_left, asked.model_bytes)
        && !asked.resident
        && left < model
    {
        let what = format!("vm.overcommit_memory is 2 and {} may still be promised", spoken(left));
        findings.push(
            finding(Level::Problem, "overcommit", what)
                .because(format!("the weights ask for {} and are refused, whatever is free", spoken(model)))
                .mended_by("sudo sysctl vm.overcommit_memory=0"),
        );
    }
    if settings.stall_measured == Some(false) {
        findings.push(
            finding(Level::Note, "no_stall", "this kernel does not measure how long tasks wait for memory")
                .because("system.pressure and system.stall are n/a, so rules on them never fire")
                .mended_by("boot with psi=1"),
        );
    }
    if let Some(kills) = settings.out_of_memory_kills.filter(|kills| *kills > 0) {
        findings.push(
            finding(
                Level::Note,
                "oom_kills",
                format!("the kernel ended {} for want of memory since boot", plural(kills, "process", "processes")),
            )
            .because("a worker may have been among them")
            .mended_by("journalctl -k --grep 'Out of memory|oom-kill'"),
        );
    }
    findings
}

fn clock(last_written: Option<SystemTime>, now: SystemTime) -> Option<Finding> {
    let wrong = |what: String| {
        finding(Level::Warning, "clock", what)
            .because("schedules go by this clock")
            .mended_by(if cfg!(target_os = "macos") { "sudo sntp -sS time.apple.com" } else { "timedatectl" })
    };
    if now < SystemTime::UNIX_EPOCH + EARLIEST {
        return Some(wrong("the clock of this machine is years behind".to_owned()));
    }
    let ahead = last_written?.duration_since(now).ok().filter(|ahead| *ahead > Duration::from_secs(60))?;
    let ahead = whole_span(ahead.as_secs_f64());
    Some(wrong(format!("the home was last written {ahead} from now: the clock was set back")))
}

#[cfg(test)]
mod tests;
