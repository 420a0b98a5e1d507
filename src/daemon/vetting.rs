//! Trying an image before it takes our place: it must run here, be a mlxsupd, and accept home and configuration.
//!
//! A dead daemon is the price of a wrong one, and only running it shows that the loader, the signature and the
//! configuration let it: so it is run twice, with `--version` and with `--check`.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::signals;

/// For both runs together.
const LIMIT: Duration = Duration::from_secs(10);

/// Between two looks whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Read of what it says.
const WORDS_BYTES: u64 = 4 << 10;

/// What `--version` begins with.
const NAME: &str = "mlxsupd ";

/// An image and what it would run with.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The program.
    pub image: PathBuf,
    /// `--home`.
    pub home: PathBuf,
    /// `--config`, if ours has one.
    pub config: Option<PathBuf>,
}

impl Candidate {
    /// Blocks until the image has shown that it runs, or the time for it is over. Returns the version it reports.
    ///
    /// # Errors
    /// Why it must not be run, in the image's own words where it has some.
    pub fn try_out(&self) -> Result<String, String> {
        let until = Instant::now() + LIMIT;
        let (status, words) = self.run([OsStr::new("--version")], until)?;
        let version = words.trim().strip_prefix(NAME).filter(|version| status.success() && !version.contains('\n'));
        let Some(version) = version else {
            return Err(format!("{} is no mlxsupd: `--version` says {}", self.image.display(), quoted(&words)));
        };
        let mut arguments = vec![OsStr::new("--home"), self.home.as_os_str()];
        if let Some(config) = &self.config {
            arguments.extend([OsStr::new("--config"), config.as_os_str()]);
        }
        arguments.push(OsStr::new("--check"));
        let (status, words) = self.run(arguments, until)?;
        if !status.success() {
            return Err(format!("`{} --check` says {} ({status})", self.image.display(), quoted(&words)));
        }
        Ok(version.to_owned())
    }

    fn run<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a OsStr>,
        until: Instant,
    ) -> Result<(ExitStatus, String), String> {
        let failed = |error: std::io::Error| format!("cannot run {}: {error}", self.image.display());
        let mut words = self.scratch().map_err(failed)?;
        let mut command = Command::new(&self.image);
        command.args(arguments).stdin(Stdio::null()).process_group(0);
        command.stdout(words.try_clone().map_err(failed)?).stderr(words.try_clone().map_err(failed)?);
        for name in crate::service::INIT_VARIABLES {
            command.env_remove(name);
        }
        let mut child = signals::unheld(|| command.spawn()).map_err(failed)?;
        let Some(status) = wait(&mut child, until).map_err(failed)? else {
            return Err(format!("{} did not end within {} s", self.image.display(), LIMIT.as_secs()));
        };
        let mut text = Vec::new();
        words.rewind().and_then(|()| words.take(WORDS_BYTES).read_to_end(&mut text)).map_err(failed)?;
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }

    /// A file without a name: unlike a pipe it neither blocks the image nor waits for its children.
    fn scratch(&self) -> std::io::Result<File> {
        let path = self.home.join("upgrade-check.out");
        let file = OpenOptions::new().read(true).append(true).create(true).truncate(false).mode(0o600).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

/// Tries the image on a thread of its own; `done` gets the result there.
///
/// # Errors
/// When no thread can be started.
pub fn try_in_background(
    candidate: Candidate,
    done: impl FnOnce(Result<String, String>) + Send + 'static,
) -> std::io::Result<()> {
    let try_out = move || done(candidate.try_out());
    std::thread::Builder::new().name("vet-image".to_owned()).spawn(try_out).map(drop)
}

/// `None` when it had to be killed.
fn wait(child: &mut Child, until: Instant) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn quoted(words: &str) -> String {
    let words = words.trim();
    if words.is_empty() { "nothing".to_owned() } else { format!("`{words}`") }
}

/// Path of the image now installed where ours came from. On Linux a replaced one shows as deleted.
///
/// # Errors
/// When our own path is unknown.
pub fn installed_image() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find our own program: {error}"))?;
    Ok(own.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map_or(own.clone(), |text| Path::new(text).into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn candidate(script: &str) -> (tempfile::TempDir, Candidate) {
        let home = tempfile::tempdir().unwrap();
        let image = home.path().join("image");
        std::fs::write(&image, script).unwrap();
        std::fs::set_permissions(&image, std::fs::Permissions::from_mode(0o755)).unwrap();
        let candidate = Candidate { image, home: home.path().to_owned(), config: None };
        (home, candidate)
    }

    fn tried(version: &str, check: &str) -> Result<String, String> {
        let script = format!("#!/bin/sh\ncase \"$*\" in --version) {version};; *--home*--check) {check};; esac\n");
        candidate(&script).1.try_out()
    }

    #[test]
    fn an_image_that_runs_and_accepts_says_its_version() {
        assert_eq!(tried("echo mlxsupd 9.9.9", "exit 0"), Ok("9.9.9".to_owned()));
    }

    #[test]
    fn whatever_else_it_does_is_told() {
        let error = tried("echo nginx 1.2", "exit 0").unwrap_err();
        assert!(error.contains("is no mlxsupd: `--version` says `nginx 1.2`"), "{error}");
        let error = tried("echo mlxsupd 9.9.9; exit 3", "exit 0").unwrap_err();
        assert!(error.contains("is no mlxsupd"), "{error}");
        let error = tried("echo mlxsupd 9.9.9", "echo no such model >&2; exit 2").unwrap_err();
        assert!(error.contains("says `no such model` (exit status: 2)"), "{error}");
        let error = candidate("#!/no/such/interpreter\n").1.try_out().unwrap_err();
        assert!(error.starts_with("cannot run "), "{error}");
    }

    #[test]
    fn one_that_does_not_end_is_killed() {
        let (_home, candidate) = candidate("#!/bin/sh\nsleep 600 & sleep 600\n");
        let begun = Instant::now();
        let arguments = [OsStr::new("--version")];
        let error = candidate.run(arguments, Instant::now() + Duration::from_millis(50)).unwrap_err();
        assert!(error.contains("did not end"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
