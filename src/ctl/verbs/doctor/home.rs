//! The home: whose it is, who may look, whether it can be written, how full its disk is, how large its logs are.
//!
//! Only looks; the daemon closes an open home itself at its next start.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::finding::{Area, Finding, Level};
use crate::config::Log;
use crate::ctl::render::quantity::size;

const MIB: u64 = 1 << 20;

/// With less, logs and state can no longer be written any day now.
const LITTLE_SPACE: u64 = 1024 * MIB;
/// With less, they fail now.
const NO_SPACE: u64 = 64 * MIB;

/// Logs of the daemon's that rotate; what else lies in `logs/` is the service manager's.
const LOGS: [&str; 3] = ["mlxsupd.log", "worker.log", "requests.log"];
/// launchd appends to it and never rotates it.
const STDERR_LOG: &str = "mlxsupd.stderr.log";

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Home {
    /// Its path.
    pub path: PathBuf,
    /// What is there.
    pub there: There,
    /// Who looks.
    pub us: u32,
    /// Files of ours in it, and how they are closed.
    pub files: Vec<FileFacts>,
    /// The file system it lies on.
    pub disk: Option<Disk>,
    /// Sizes of logs, by the name of the youngest, older ones included.
    pub logs: Vec<(String, u64)>,
    /// `[log]`, if there is a good configuration.
    pub rotation: Option<Log>,
}

/// What lies at the home's path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    #[default]
    Nothing,
    /// Something that is no folder.
    NoFolder,
    /// A folder.
    Folder {
        /// Its owner.
        owner: u32,
        /// Its permission bits.
        mode: u32,
        /// Whether we may list it.
        readable: bool,
    },
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileFacts {
    /// Its name in the home.
    pub name: String,
    /// Its owner.
    pub owner: u32,
    /// Its permission bits.
    pub mode: u32,
    /// When it was last written.
    pub written: Option<SystemTime>,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that we may still write.
    pub available: u64,
    /// Files that may still be made; some systems do not count them.
    pub files_left: Option<u64>,
    /// True when nothing can be written.
    pub read_only: bool,
}

/// Looks.
#[must_use]
pub fn gather(path: &Path, rotation: Option<Log>) -> Home {
    let mut home = Home { path: path.to_owned(), us: nix::unistd::geteuid().as_raw(), rotation, ..Home::default() };
    home.disk = disk_of(path);
    let Ok(metadata) = std::fs::metadata(path) else { return home };
    if !metadata.is_dir() {
        home.there = There::NoFolder;
        return home;
    }
    let listing = std::fs::read_dir(path);
    home.there = There::Folder { owner: metadata.uid(), mode: metadata.mode() & 0o7777, readable: listing.is_ok() };
    for entry in listing.into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() && entry.file_name() != "logs" {
            continue;
        }
        home.files.push(facts(entry.file_name().to_string_lossy().into_owned(), &metadata));
    }
    home.files.sort_by(|one, other| one.name.cmp(&other.name));
    for entry in std::fs::read_dir(path.join("logs")).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(log) = LOGS.into_iter().chain([STDERR_LOG]).find(|log| name.starts_with(log)) else { continue };
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        match home.logs.iter_mut().find(|(known, _)| known == log) {
            Some((_, sum)) => *sum += bytes,
            None => home.logs.push((log.to_owned(), bytes)),
        }
    }
    home.logs.sort();
    home
}

fn facts(name: String, metadata: &Metadata) -> FileFacts {
    FileFacts { name, owner: metadata.uid(), mode: metadata.mode() & 0o7777, written: metadata.modified().ok() }
}

/// Of the home, or of the nearest folder above it that exists.
fn disk_of(path: &Path) -> Option<Disk> {
    let there = path.ancestors().find(|path| path.exists())?;
    let read = statvfs(there).ok()?;
    // The widths of these numbers differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast, reason = "not useless on every system")]
    let (blocks, block, files, files_left) = (
        read.blocks_available() as u64,
        read.fragment_size() as u64,
        read.files() as u64,
        read.files_available() as u64,
    );
    Some(Disk {
        available: blocks.saturating_mul(block),
        files_left: (files > 0).then_some(files_left),
        read_only: read.flags().contains(FsFlags::ST_RDONLY),
    })
}

impl Home {
    /// The latest time anything of ours was written.
    #[must_use]
    pub fn last_written(&self) -> Option<SystemTime> {
        self.files
            .iter()
            .filter(|file| file.name == "state.json" || file.name == "logs")
            .filter_map(|f| f.written)
            .max()
    }
}

/// Judges it.
#[must_use]
pub fn judge(home: &Home) -> Vec<Finding> {
    let path = home.path.display();
    let finding = |level, code, what: String| Finding::new(Area::Home, level, code, what);
    let (owner, mode, readable) = match home.there {
        There::Nothing => {
            return vec![
                finding(Level::Warning, "no_home", format!("there is no home at {path}"))
                    .because("nothing is configured there; another home may be meant")
                    .mended_by("mlxsupctl init"),
            ];
        }
        There::NoFolder => {
            return vec![
                finding(Level::Problem, "home_no_folder", format!("the home {path} is no folder"))
                    .because("the daemon does not start with it")
                    .mended_by("unset MLXSUP_HOME, or name another with --home"),
            ];
        }
        There::Folder { owner, mode, readable } => (owner, mode, readable),
    };
    if !readable {
        return vec![
            finding(
                Level::Problem,
                "home_closed",
                format!("the home {path} belongs to uid {owner} and is closed to us"),
            )
            .because("what lies in it could not be looked at")
            .mended_by(format!("sudo -u '#{owner}' mlxsupctl --home {path} doctor")),
        ];
    }
    let mut findings = Vec::new();
    if owner != home.us && home.us != 0 {
        let what = format!("the home {path} belongs to uid {owner}, this is uid {}", home.us);
        findings.push(
            finding(Level::Warning, "home_foreign", what)
                .because("a daemon started by this user refuses it")
                .mended_by("run this as its owner, or name another home with --home"),
        );
    }
    if mode & 0o077 != 0 {
        findings.push(
            finding(Level::Warning, "home_open", format!("the home is open to others (mode {mode:04o})"))
                .because("others could read keys and logs, or put files of their own in the place of ours")
                .mended_by(format!("chmod 700 {path}")),
        );
    }
    findings.extend(files(home, owner));
    findings.extend(disk(home));
    findings.extend(logs(home));
    if findings.iter().all(|finding| finding.level == Level::Ok) {
        findings.push(finding(Level::Ok, "home", format!("{path} is ours and closed to others")));
    }
    findings
}

fn files(home: &Home, owner: u32) -> Vec<Finding> {
    let finding = |level, code, what: String| Finding::new(Area::Home, level, code, what);
    let path = home.path.display();
    let mut findings = Vec::new();
    let foreign: Vec<&str> =
        home.files.iter().filter(|file| file.owner != owner).map(|file| file.name.as_str()).collect();
    if !foreign.is_empty() {
        let what = format!("{} in the home {} not its owner's", foreign.join(", "), plural_is(foreign.len()));
        findings.push(
            finding(Level::Problem, "files_foreign", what)
                .because("the daemon cannot write them; something was run there as another user, with sudo perhaps")
                .mended_by(format!("sudo chown -R {owner} {path}")),
        );
    }
    for key in home.files.iter().filter(|file| file.name == "api.key" && file.mode & 0o077 != 0) {
        findings.push(
            finding(Level::Problem, "key_open", format!("api.key is open to others (mode {:04o})", key.mode))
                .because("the daemon refuses keys that others could read, and TCP stays closed")
                .mended_by(format!("chmod 600 {path}/api.key")),
        );
    }
    let damaged = |file: &&FileFacts| file.name.starts_with("history.db.corrupt-");
    if let Some(file) = home.files.iter().rfind(damaged) {
        findings.push(
            finding(Level::Note, "history_aside", format!("{} was set aside as damaged", file.name))
                .because("the history began anew; what is in it can perhaps be saved with sqlite3's .recover")
                .mended_by(format!("rm {path}/history.db.corrupt-*")),
        );
    }
    let aside: Vec<&str> =
        home.files.iter().map(|file| file.name.as_str()).filter(|name| name.starts_with("state.json.bad")).collect();
    if !aside.is_empty() {
        findings.push(
            finding(Level::Note, "state_aside", format!("{} was set aside as unreadable", aside.join(", ")))
                .because("that daemon forgot whether it was drained, unloaded or parked; tell us, then remove it")
                .mended_by(format!("rm {path}/state.json.bad-*")),
        );
    }
    findings
}

const fn plural_is(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

fn disk(home: &Home) -> Option<Finding> {
    let disk = home.disk?;
    let finding = |level, code, what: String| Finding::new(Area::Home, level, code, what);
    let lost = "state and logs are not written: the next daemon does not know its workers";
    let mend = format!("df -h {}", home.path.display());
    let left = size(disk.available as f64);
    Some(if disk.read_only {
        finding(Level::Problem, "disk_read_only", "the home's file system can only be read".to_owned())
            .because(lost)
            .mended_by("mount | grep -w ro")
    } else if disk.available < NO_SPACE || disk.files_left == Some(0) {
        finding(Level::Problem, "disk_full", format!("the home's disk is full, {left} are left"))
            .because(lost)
            .mended_by(mend)
    } else if disk.available < LITTLE_SPACE {
        finding(Level::Warning, "disk_little", format!("the home's disk has {left} left"))
            .because("swap grows on the same disk when memory is short; a full one stops state and logs")
            .mended_by(mend)
    } else {
        finding(Level::Ok, "disk", format!("{left} of disk are free"))
    })
}

fn logs(home: &Home) -> Vec<Finding> {
    let Some(rotation) = &home.rotation else { return Vec::new() };
    // The young one, the old ones, and one more for a line that was just written.
    let most = rotation.rotate_at.saturating_mul(u64::from(rotation.keep) + 2);
    let path = home.path.join("logs");
    let finding = |name: &str, bytes: u64| {
        let what = format!("logs/{name} takes {}", size(bytes as f64));
        Finding::new(Area::Home, Level::Warning, "log_large", what)
    };
    let large = |(name, bytes): &(String, u64)| {
        let own = LOGS.contains(&name.as_str());
        if own && *bytes > most {
            return Some(
                finding(name, *bytes)
                    .because(format!(
                        "it should rotate and stay below {}; somebody else writes to it",
                        size(most as f64)
                    ))
                    .mended_by(format!("ls -l {}", path.display())),
            );
        }
        (!own && *bytes > rotation.rotate_at).then(|| {
            finding(name, *bytes)
                .because("launchd appends what a failing daemon says and never rotates it: look why it fails")
                .mended_by(format!("tail {0}; : > {0}", path.join(name).display()))
        })
    };
    home.logs.iter().filter_map(large).collect()
}

#[cfg(test)]
mod tests;
