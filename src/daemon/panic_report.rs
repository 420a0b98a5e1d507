//! Kernel panics found at boot: did the machine go down under the last worker, and was it MLX's wired memory?
//!
//! Owns where macOS leaves its reports and the signatures of the panics that wired Metal memory is known to cause (memory
//! facts, kernel panics and wired leaks). Other systems leave no such reports. What follows is decided where it is asked:
//! the daemon tells it as an event, and `wired_limit = "auto"` means off while such a report is recent.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::clock::rfc3339;
use crate::control::view::FailureView;
use crate::supervisor::Wall;
use crate::supervisor::time::millis;

/// Where macOS writes `panic-full-*.panic`.
const REPORTS: &str = "/Library/Logs/DiagnosticReports";

/// Text of panics that come from wired GPU memory, and what the kernel calls them.
const SIGNATURES: [&str; 5] = [
    "completeMemory() prepare count underflow",
    "remove_memory_object() memory object not found",
    "fPendingMemorySet",
    "cpt_mapcnt_inc: refcnt overflow",
    "no checkins from watchdogd",
];

/// So long a panic of a known kind keeps `wired_limit = "auto"` off.
const RECENT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bytes read of a report: the reason stands at its head.
const HEAD_BYTES: usize = 64 << 10;

/// One report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanicReport {
    /// Where it lies.
    pub path: PathBuf,
    /// When it was written.
    pub at: SystemTime,
    /// The known signature in it, if there is one.
    pub signature: Option<&'static str>,
}

impl PanicReport {
    /// One sentence for events and `status`.
    #[must_use]
    pub fn message(&self) -> String {
        let path = self.path.display();
        match self.signature {
            Some(signature) => format!(
                "the kernel panicked since the last daemon ran ({path}: {signature}), as it is known to with wired Metal \
                 memory; wired_limit = \"auto\" is off for 30 days, set worker.memory.wired_limit to a size to wire again"
            ),
            None => format!("the kernel panicked since the last daemon ran ({path})"),
        }
    }

    /// As `status` shows it.
    #[must_use]
    pub fn view(&self) -> FailureView {
        let at = rfc3339(Wall(self.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, millis)));
        FailureView { class: "kernel_panic".to_owned(), message: self.message(), at }
    }
}

/// The newest panic since the last daemon of this home wrote its state. `None` without a state: a first start has
/// nothing to do with older panics.
#[must_use]
pub fn since_the_last_daemon(state: &Path) -> Option<PanicReport> {
    let since = fs::metadata(state).and_then(|metadata| metadata.modified()).ok()?;
    if cfg!(target_os = "macos") { newest(Path::new(REPORTS), since, false) } else { None }
}

/// True when wired memory has lately brought this machine down.
#[must_use]
pub fn forbids_wiring() -> bool {
    let since = SystemTime::now().checked_sub(RECENT).unwrap_or(SystemTime::UNIX_EPOCH);
    cfg!(target_os = "macos") && newest(Path::new(REPORTS), since, true).is_some()
}

/// The reports of the time in which a known one keeps `wired_limit = "auto"` off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recent {
    /// This system keeps none.
    NotKept,
    /// The folder is not ours to read.
    Closed(PathBuf),
    /// Newest first.
    Reports(Vec<PanicReport>),
}

/// What the machine has kept of its recent panics.
#[must_use]
pub fn recent() -> Recent {
    if !cfg!(target_os = "macos") {
        return Recent::NotKept;
    }
    let since = SystemTime::now().checked_sub(RECENT).unwrap_or(SystemTime::UNIX_EPOCH);
    recent_in(Path::new(REPORTS), since)
}

fn recent_in(folder: &Path, since: SystemTime) -> Recent {
    if let Err(error) = fs::read_dir(folder)
        && error.kind() == std::io::ErrorKind::PermissionDenied
    {
        return Recent::Closed(folder.to_owned());
    }
    let mut reports = all(folder, since);
    reports.sort_by_key(|report| std::cmp::Reverse(report.at));
    Recent::Reports(reports)
}

/// The newest report in `folder` written after `since`; `known`: only those with a signature count.
fn newest(folder: &Path, since: SystemTime, known: bool) -> Option<PanicReport> {
    all(folder, since).into_iter().filter(|report| !known || report.signature.is_some()).max_by_key(|report| report.at)
}

fn all(folder: &Path, since: SystemTime) -> Vec<PanicReport> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let report = |path: PathBuf| {
        let is_report = path.extension().is_some_and(|end| end == "panic" || end == "ips");
        let at = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok().filter(|at| *at > since)?;
        if !is_report || !is_panic(&path) {
            return None;
        }
        let signature = signature(&path);
        Some(PanicReport { path, at, signature })
    };
    entries.flatten().filter_map(|entry| report(entry.path())).collect()
}

/// Crash reports of programs lie in the same folder and may be named alike.
fn is_panic(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("panic-"))
}

fn signature(path: &Path) -> Option<&'static str> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(HEAD_BYTES)]).into_owned();
    SIGNATURES.into_iter().find(|signature| text.contains(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(reports: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in reports {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn only_panics_count_and_known_ones_are_named() {
        let folder = folder(&[
            ("Safari-2026.ips", "completeMemory() prepare count underflow"),
            (
                "panic-full-2026.panic",
                "panic(cpu 3): \"completeMemory() prepare count underflow\" @IOGPUMemory.cpp:550",
            ),
        ]);
        let report = newest(folder.path(), SystemTime::UNIX_EPOCH, true).unwrap();
        assert!(report.path.ends_with("panic-full-2026.panic"));
        assert_eq!(report.signature, Some("completeMemory() prepare count underflow"));
        assert!(report.message().contains("set worker.memory.wired_limit"), "{}", report.message());
    }

    #[test]
    fn other_panics_are_told_and_forbid_nothing() {
        let folder = folder(&[("panic-full-2026.panic", "panic(cpu 0): \"a driver of somebody else\"")]);
        let report = newest(folder.path(), SystemTime::UNIX_EPOCH, false).unwrap();
        assert_eq!(report.signature, None);
        assert_eq!(newest(folder.path(), SystemTime::UNIX_EPOCH, true), None);
    }

    #[test]
    fn recent_ones_are_listed_newest_first() {
        let folder = folder(&[("panic-1.panic", "fPendingMemorySet"), ("panic-2.panic", "x"), ("Safari.ips", "x")]);
        let old = fs::File::options().write(true).open(folder.path().join("panic-1.panic")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        let Recent::Reports(reports) = recent_in(folder.path(), SystemTime::UNIX_EPOCH) else { panic!("readable") };
        let signatures: Vec<_> = reports.iter().map(|report| report.signature).collect();
        assert_eq!(signatures, [None, Some("fPendingMemorySet")]);
        assert_eq!(recent_in(Path::new("/no/such/folder"), SystemTime::UNIX_EPOCH), Recent::Reports(Vec::new()));
    }

    #[test]
    fn what_was_before_is_over_and_a_missing_folder_is_no_panic() {
        let folder = folder(&[("panic-full-2020.panic", "fPendingMemorySet")]);
        let later = SystemTime::now() + Duration::from_secs(3600);
        assert_eq!(newest(folder.path(), later, false), None);
        assert_eq!(newest(Path::new("/no/such/folder"), SystemTime::UNIX_EPOCH, false), None);
    }
}
