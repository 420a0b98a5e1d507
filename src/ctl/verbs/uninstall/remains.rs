//! What a service leaves behind: known by name, told apart from what is not ours.
//!
//! Only names that mlxsup itself gives are ever removed, links are removed and not followed, and a model that lies among
//! them stays with everything above it.

use std::fs::FileType;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::config;
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::terminal::Terminal;

/// One thing of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remnant {
    path: PathBuf,
    what: &'static str,
}

/// Everything of ours in one home, and what else lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    ours: Vec<Remnant>,
    foreign: Vec<PathBuf>,
    model: Option<PathBuf>,
}

impl Remains {
    /// Looks through the home, and for the client socket wherever the configuration puts it.
    #[must_use]
    pub fn of(root: &Path) -> Self {
        let config = config::load(&root.join("mlxsup.toml")).ok();
        let model = config.as_ref().and_then(|config| Path::new(&config.worker.model).canonicalize().ok());
        let mut remains = Self { ours: Vec::new(), foreign: Vec::new(), model };
        remains.sort_out(root, of_home);
        if let Some(socket) = config.map(|config| config.listen.socket).filter(|socket| socket.is_absolute())
            && !socket.starts_with(root)
            && is_abandoned_socket(&socket)
        {
            remains.ours.push(Remnant { path: socket, what: "the client socket" });
        }
        remains
    }

    /// One line each on stdout.
    pub fn list(&self, terminal: &mut Terminal) -> Result<(), Failure> {
        for remnant in &self.ours {
            terminal.print(format!("remains {} ({})\n", remnant.path.display(), remnant.what))?;
        }
        for path in &self.foreign {
            terminal.print(format!("remains {} (not of mlxsup's making)\n", path.display()))?;
        }
        Ok(())
    }

    /// Removes what is ours, then the home if nothing else is in it.
    pub fn remove(&self, root: &Path, terminal: &mut Terminal) -> Result<(), Failure> {
        let failed = |path: &Path, source: std::io::Error| {
            Failure::new(Kind::Internal, format!("cannot remove `{}`", path.display()))
                .caused_by(source)
                .hint("what was named before is gone; mend this, then do it again")
        };
        for remnant in &self.ours {
            let path = &remnant.path;
            let Ok(found) = path.symlink_metadata() else { continue };
            if found.is_dir() && remnant.what == LOGS {
                let mut inside = Self { ours: Vec::new(), foreign: Vec::new(), model: self.model.clone() };
                inside.sort_out(path, of_logs);
                for log in &inside.ours {
                    std::fs::remove_file(&log.path).map_err(|source| failed(&log.path, source))?;
                }
                for foreign in &inside.foreign {
                    terminal.print(format!("kept {} (not of mlxsup's making)\n", foreign.display()))?;
                }
                if !inside.foreign.is_empty() {
                    continue;
                }
                std::fs::remove_dir(path).map_err(|source| failed(path, source))?;
            } else if found.is_dir() {
                // Does not follow links.
                std::fs::remove_dir_all(path).map_err(|source| failed(path, source))?;
            } else {
                std::fs::remove_file(path).map_err(|source| failed(path, source))?;
            }
            terminal.print(format!("removed {} ({})\n", path.display(), remnant.what))?;
        }
        for path in &self.foreign {
            terminal.print(format!("kept {} (not of mlxsup's making)\n", path.display()))?;
        }
        match std::fs::remove_dir(root) {
            Ok(()) => terminal.print(format!("removed {} (the home)\n", root.display()))?,
            // Not empty, or a link to a folder elsewhere: the person's own arrangement.
            Err(_) => terminal.print(format!("kept {} (the home)\n", root.display()))?,
        }
        Ok(())
    }

    fn sort_out(&mut self, folder: &Path, judge: fn(&str, FileType) -> Option<&'static str>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        let mut entries: Vec<_> = entries.flatten().map(|entry| (entry.path(), entry.file_type().ok())).collect();
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        for (path, kind) in entries {
            let name = path.file_name().and_then(|name| name.to_str());
            let what = name.zip(kind).and_then(|(name, kind)| judge(name, kind));
            match what.filter(|_| !self.holds_model(&path)) {
                Some(what) => self.ours.push(Remnant { path, what }),
                None => self.foreign.push(path),
            }
        }
    }

    fn holds_model(&self, path: &Path) -> bool {
        self.model.as_ref().is_some_and(|model| path.canonicalize().is_ok_and(|path| model.starts_with(path)))
    }
}

const LOGS: &str = "logs";

/// What of the home is ours, by name and kind.
fn of_home(name: &str, kind: FileType) -> Option<&'static str> {
    let is_file = kind.is_file();
    match name {
        "mlxsup.toml" if is_file || kind.is_symlink() => Some("the configuration"),
        "mlxsup.last-good.toml" | "mlxsup.last-good.toml.new" if is_file => Some("the last accepted configuration"),
        "api.key" if is_file => Some("keys of clients"),
        "mlxsupd.lock" if is_file => Some("lock"),
        "mlxsup.sock" | "control.sock" if kind.is_socket() => Some("socket"),
        "logs" if kind.is_dir() => Some(LOGS),
        "prefix-cache" if kind.is_dir() => Some("saved prompts"),
        _ if is_file && (name == "state.json" || name.starts_with("state.json.")) => Some("state"),
        _ if is_file
            && (name == "history.db" || name.starts_with("history.db-") || name.starts_with("history.db.")) =>
        {
            Some("history")
        }
        _ if kind.is_socket() && name.starts_with("worker-") && name.ends_with(".sock") => Some("socket"),
        _ => None,
    }
}

/// What of `logs/` is ours.
fn of_logs(name: &str, kind: FileType) -> Option<&'static str> {
    let ours = ["mlxsupd.", "worker.", "requests."].iter().any(|start| name.starts_with(start));
    (ours && kind.is_file()).then_some("log")
}

/// A socket of a daemon that is gone: nobody listens there.
fn is_abandoned_socket(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    is_socket && std::os::unix::net::UnixStream::connect(path).is_err()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_our_own_goes_and_never_the_model() {
        let outer = tempfile::Builder::new().prefix("rem").tempdir_in("/tmp").unwrap();
        let root = outer.path().join("home");
        for folder in ["logs", "prefix-cache/deep", "models/m"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let model = root.join("prefix-cache/deep/model.gguf");
        let files =
            ["state.json", "state.json.bad-12", "logs/mlxsupd.log.1", "logs/notes", "models/m/w", "state.jsonl"];
        for file in files {
            std::fs::write(root.join(file), "x").unwrap();
        }
        std::fs::write(&model, "weights").unwrap();
        std::fs::write(root.join("mlxsup.toml"), format!("[worker]\nmodel = \"{}\"\n", model.display())).unwrap();
        std::fs::write(outer.path().join("elsewhere"), "precious").unwrap();
        std::os::unix::fs::symlink(outer.path().join("elsewhere"), root.join("api.key")).unwrap();
        drop(UnixListener::bind(root.join("worker-3.sock")).unwrap());
        let mut terminal = Terminal::of_process();
        Remains::of(&root).remove(&root, &mut terminal).unwrap();
        let left = |name: &str| root.join(name).symlink_metadata().is_ok();
        for kept in ["prefix-cache/deep/model.gguf", "models/m/w", "logs/notes", "state.jsonl", "api.key"] {
            assert!(left(kept), "{kept}");
        }
        for gone in ["state.json", "state.json.bad-12", "logs/mlxsupd.log.1", "mlxsup.toml", "worker-3.sock"] {
            assert!(!left(gone), "{gone}");
        }
        assert_eq!(std::fs::read_to_string(outer.path().join("elsewhere")).unwrap(), "precious");
    }

    #[test]
    fn a_home_of_ours_alone_goes_as_a_whole() {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("home");
        std::fs::create_dir_all(root.join("logs")).unwrap();
        for file in [
            "mlxsup.toml",
            "logs/requests.log",
            "logs/mlxsupd.stderr.log",
            "history.db-wal",
            "history.db.corrupt-20260304T050607Z",
        ] {
            std::fs::write(root.join(file), "").unwrap();
        }
        Remains::of(&root).remove(&root, &mut Terminal::of_process()).unwrap();
        assert!(!root.exists());
    }
}
