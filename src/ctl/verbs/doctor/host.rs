//! Reading the machine: `/proc` and `/sys` on Linux, `sysctl` and `ioreg` on macOS.
//!
//! Commands, and no calls of its own: what is asked here is asked once, by a person who waits.

use std::time::SystemTime;

use sysinfo::{CpuRefreshKind, RefreshKind, System};

use super::machine::{Machine, Settings};
use crate::ctl::terminal::Terminal;
use crate::memory::Probe;
use crate::supervisor::Mono;

/// Reads everything that [`super::machine`] judges.
pub async fn gather(
    worker_compressed: Option<u64>,
    last_written: Option<SystemTime>,
    terminal: &mut Terminal,
) -> Machine {
    #[cfg(feature = "fake-worker")]
    if std::env::var_os(PRETENCE).is_some() {
        return pretended(worker_compressed, last_written);
    }
    let sample = Probe::new().map(|mut probe| probe.sample(None, Mono(0))).unwrap_or_default();
    Machine {
        system: system(),
        chip: chip(),
        sample,
        settings: settings(terminal).await,
        worker_compressed,
        last_written,
    }
}

/// With this variable set, tests see the same calm machine everywhere.
#[cfg(feature = "fake-worker")]
const PRETENCE: &str = "MLXSUP_FAKE_MACHINE";

#[cfg(feature = "fake-worker")]
fn pretended(worker_compressed: Option<u64>, last_written: Option<SystemTime>) -> Machine {
    use crate::memory::{Metric, Sample};

    const GIB: f64 = (1_u64 << 30) as f64;
    let mut sample = Sample::default();
    sample.set(Metric::SystemTotal, Some(64.0 * GIB));
    sample.set(Metric::SystemAvailable, Some(40.0 * GIB));
    sample.set(Metric::SystemPressure, Some(1.0));
    Machine { system: "a calm machine".to_owned(), sample, worker_compressed, last_written, ..Machine::default() }
}

fn system() -> String {
    let name = System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned());
    match System::kernel_version() {
        Ok(kernel) => format!("{name}, kernel {kernel}"),
        Err(_) => name,
    }
}

fn chip() -> Option<String> {
    let refresh = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
    let system = System::new_with_specifics(refresh).ok()?;
    let brand = system.cpus().first()?.brand().trim().to_owned();
    (!brand.is_empty()).then_some(brand)
}

#[cfg(target_os = "linux")]
#[allow(clippy::unused_async, reason = "asking is a matter of commands on macOS")]
async fn settings(_terminal: &mut Terminal) -> Settings {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let meminfo = read("/proc/meminfo").unwrap_or_default();
    Settings {
        overcommit: read("/proc/sys/vm/overcommit_memory").and_then(|text| text.trim().parse().ok()),
        commit_left: commit_left(&meminfo),
        stall_measured: Some(std::path::Path::new("/proc/pressure/memory").exists()),
        out_of_memory_kills: crate::memory::out_of_memory_kills(),
        ..Settings::default()
    }
}

/// What may still be promised, bytes.
#[cfg(target_os = "linux")]
fn commit_left(meminfo: &str) -> Option<u64> {
    let kibibytes = |name: &str| -> Option<u64> {
        meminfo.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    Some(kibibytes("CommitLimit:")?.saturating_sub(kibibytes("Committed_AS:")?) << 10)
}

#[cfg(target_os = "macos")]
async fn settings(terminal: &mut Terminal) -> Settings {
    let whole = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
    let mut all = Settings {
        macos: System::os_version().ok().and_then(|text| text.split('.').next()?.parse().ok()),
        gpu_wired_limit_mib: whole(sysctl("iogpu.wired_limit_mb", terminal).await),
        ..Settings::default()
    };
    all.wired_collector_off = whole(sysctl("iogpu.disable_wired_collector", terminal).await).map(|value| value == 1);
    all.gpu_in_use = gpu(terminal).await;
    all.translated = whole(sysctl("sysctl.proc_translated", terminal).await).map(|value| value == 1);
    all
}

/// One control value; `None` where this macOS has no such name.
#[cfg(target_os = "macos")]
pub async fn sysctl(name: &str, terminal: &mut Terminal) -> Option<String> {
    told("sysctl", &["-n", name], terminal).await.map(|out| out.trim().to_owned())
}

#[cfg(target_os = "macos")]
async fn gpu(terminal: &mut Terminal) -> Option<u64> {
    let out = told("ioreg", &["-r", "-d", "1", "-w", "0", "-c", "IOAccelerator"], terminal).await?;
    gpu_in_use(&out)
}

#[cfg(target_os = "macos")]
async fn told(program: &'static str, arguments: &[&str], terminal: &mut Terminal) -> Option<String> {
    use crate::ctl::service_control::{Patience, Tool};

    let mut wait = Patience::new(std::time::Duration::from_secs(5));
    let ran = Tool::new(program).run(arguments, "reading settings", &mut wait, terminal).await;
    ran.ok()?.ok().ok().map(|ran| ran.out)
}

/// `In use system memory` of each accelerator's `PerformanceStatistics`, summed; the driver's own share stands apart there.
#[cfg(any(target_os = "macos", test))]
fn gpu_in_use(ioreg: &str) -> Option<u64> {
    let each = ioreg.split("\"In use system memory\"=").skip(1);
    let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok());
    each.map(digits).collect::<Option<Vec<u64>>>().filter(|found| !found.is_empty()).map(|found| found.iter().sum())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_room_for_promises_is_read() {
        let text = "MemTotal: 5 kB\nCommitLimit:     1000 kB\nCommitted_AS:     400 kB\n";
        assert_eq!(commit_left(text), Some(600 << 10));
        assert_eq!(commit_left("MemTotal: 5 kB\n"), None);
    }

    #[test]
    fn what_the_gpu_holds_is_read_without_the_drivers_share() {
        let text = "+-o AGXAcceleratorG13X  <class AGXAcceleratorG13X, id 0x1000003f4>\n    {\n      \"PerformanceStatistics\" = \
                    {\"In use system memory (driver)\"=0,\"Alloc system memory\"=41000000000,\"Tiler Utilization %\"=3,\
                    \"In use system memory\"=38123456789,\"recoveryCount\"=0}\n    }\n";
        assert_eq!(gpu_in_use(text), Some(38_123_456_789));
        assert_eq!(gpu_in_use("\"Alloc system memory\"=1"), None);
    }

    #[tokio::test]
    async fn this_machine_is_read() {
        let machine = gather(None, None, &mut Terminal::of_process()).await;
        assert!(!machine.system.is_empty());
        assert!(machine.sample.get(crate::memory::Metric::SystemTotal).is_some());
        assert!(machine.settings.overcommit.is_some() && machine.settings.macos.is_none());
    }
}
