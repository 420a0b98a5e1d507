//! How much memory the control group still allows, both versions.
//!
//! Owns finding the groups that bind this process and their arithmetic. Clipping is all it is for: a container's limit is
//! a wall the host's own numbers do not show, and what must be left to others is a share of what is inside it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where control groups are mounted; the only layout distributions ship.
const MOUNT: &str = "/sys/fs/cgroup";
/// Levels looked at from the leaf upwards; deeper nesting than this does not exist in practice.
const DEEPEST: usize = 32;

/// One group with a limit, and the files that tell its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    limit: PathBuf,
    usage: PathBuf,
    stat: PathBuf,
    /// The line of `stat` with file cache the group gives up first.
    cache_key: &'static str,
}

/// What limited groups leave of the machine, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The smallest limit: all the memory there is, for whoever is inside.
    pub limit: u64,
    /// The least that may still be allocated.
    pub room: u64,
}

/// The tightest of `levels`; `None` when none of them has a limit.
#[must_use]
pub fn bounds(levels: &[Level]) -> Option<Bounds> {
    levels
        .iter()
        .filter_map(|level| Some(Bounds { limit: level.limit()?, room: level.room()? }))
        .reduce(|one, other| Bounds { limit: one.limit.min(other.limit), room: one.room.min(other.room) })
}

/// Which hierarchy holds the memory controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The smallest limit on this process's groups, if one is below `total` bytes.
#[must_use]
pub fn limit(total: u64) -> Option<u64> {
    limited_levels(total).iter().filter_map(Level::limit).min()
}

/// The groups above this process that set a limit below `total` bytes. Empty on a machine without limits.
#[must_use]
pub fn limited_levels(total: u64) -> Vec<Level> {
    let Ok(own) = fs::read_to_string("/proc/self/cgroup") else { return Vec::new() };
    levels(Path::new(MOUNT), &own)
        .into_iter()
        .filter(|level| level.limit().is_some_and(|limit| limit < total))
        .collect()
}

/// Every group from the process's own to the root, limited or not.
fn levels(mount: &Path, own: &str) -> Vec<Level> {
    let Some((version, path)) = memory_group(own) else { return Vec::new() };
    let root = match version {
        Version::One => mount.join("memory"),
        Version::Two => mount.to_path_buf(),
    };
    let mut relative = Path::new(path.trim_start_matches('/'));
    // A container sees its own group as the root of the mount, while /proc tells the host's path.
    if !root.join(relative).is_dir() {
        relative = Path::new("");
    }
    relative.ancestors().take(DEEPEST).map(|group| Level::at(&root.join(group), version)).collect()
}

/// The memory controller's hierarchy and the process's path in it, out of `/proc/self/cgroup`.
fn memory_group(text: &str) -> Option<(Version, &str)> {
    let mut unified = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        // `..` would lead out of the mount; the kernel writes it for groups outside our namespace.
        let path = if path.split('/').any(|part| part == "..") { "/" } else { path };
        if controllers.split(',').any(|name| name == "memory") {
            return Some((Version::One, path));
        }
        if controllers.is_empty() {
            unified = Some((Version::Two, path));
        }
    }
    unified
}

impl Level {
    fn at(group: &Path, version: Version) -> Self {
        let (limit, usage, cache_key) = match version {
            Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            Version::Two => ("memory.max", "memory.current", "inactive_file"),
        };
        Self { limit: group.join(limit), usage: group.join(usage), stat: group.join("memory.stat"), cache_key }
    }

    fn limit(&self) -> Option<u64> {
        // Version 2 writes `max` for none, which is no number either.
        fs::read_to_string(&self.limit).ok()?.trim().parse().ok()
    }

    /// Bytes that may still be allocated under this group; `None` when it has no limit (any more).
    #[must_use]
    pub fn room(&self) -> Option<u64> {
        let limit = self.limit()?;
        let usage = fs::read_to_string(&self.usage).ok()?.trim().parse().ok()?;
        let stat = fs::read_to_string(&self.stat).unwrap_or_default();
        Some(room(limit, usage, stat_value(&stat, self.cache_key).unwrap_or(0)))
    }
}

/// Cache read from files counts as usage but is given back on demand: reading a model's weights would otherwise make its
/// own restart look impossible.
fn room(limit: u64, usage: u64, cache: u64) -> u64 {
    limit.saturating_sub(usage.saturating_sub(cache))
}

fn stat_value(stat: &str, wanted: &str) -> Option<u64> {
    stat.lines().filter_map(|line| line.split_once(' ')).find(|(key, _)| *key == wanted)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HYBRID: &str = "9:name=systemd:/\n8:pids:/\n4:memory:/api/1e81\n3:cpuset:/\n0::/\n";
    const UNIFIED: &str = "0::/system.slice/mlxsup.service\n";

    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let dir = root.join(path);
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_memory_controller_decides_the_version() {
        assert_eq!(memory_group(HYBRID), Some((Version::One, "/api/1e81")));
        assert_eq!(memory_group(UNIFIED), Some((Version::Two, "/system.slice/mlxsup.service")));
        assert_eq!(memory_group("0::/../../elsewhere\n"), Some((Version::Two, "/")));
        assert_eq!(memory_group("nonsense"), None);
    }

    #[test]
    fn every_ancestor_may_bind() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "system.slice", &[("memory.max", "4000\n"), ("memory.current", "1000\n")]);
        let leaf =
            [("memory.max", "max\n"), ("memory.current", "900\n"), ("memory.stat", "anon 1\ninactive_file 300\n")];
        group(root.path(), "system.slice/mlxsup.service", &leaf);
        let rooms: Vec<_> = levels(root.path(), UNIFIED).iter().map(Level::room).collect();
        assert_eq!(rooms, [None, Some(3000), None]);
    }

    #[test]
    fn the_tightest_limit_and_the_least_room_bind_together() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "system.slice", &[("memory.max", "4000\n"), ("memory.current", "3900\n")]);
        let leaf = [("memory.max", "2000\n"), ("memory.current", "900\n")];
        group(root.path(), "system.slice/mlxsup.service", &leaf);
        assert_eq!(bounds(&levels(root.path(), UNIFIED)), Some(Bounds { limit: 2000, room: 100 }));
        assert_eq!(bounds(&[]), None);
    }

    #[test]
    fn file_cache_counts_as_room() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("memory.limit_in_bytes", "1000\n"),
            ("memory.usage_in_bytes", "950\n"),
            ("memory.stat", "inactive_file 1\ntotal_inactive_file 800\n"),
        ];
        group(root.path(), "memory/api/1e81", &files);
        assert_eq!(levels(root.path(), HYBRID)[0].room(), Some(850));
        assert_eq!(room(10, 50, 0), 0);
    }

    #[test]
    fn a_path_outside_the_container_falls_back_to_its_root() {
        let root = tempfile::tempdir().unwrap();
        group(root.path(), "memory", &[("memory.limit_in_bytes", "7\n"), ("memory.usage_in_bytes", "2\n")]);
        let all = levels(root.path(), HYBRID);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].room(), Some(5));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "[0-9a-z:/.,\\n=]{0,200}") {
            let _ = levels(Path::new("/nonexistent"), &text);
            let _ = stat_value(&text, "inactive_file");
        }
    }
}
