//! The keys of a job's plist that are imitated, with launchd's defaults.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plist::{Dictionary, Value};

/// A job as its file describes it.
#[derive(Debug, Clone)]
pub struct JobFile {
    pub label: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub stderr: Option<PathBuf>,
    pub run_at_load: bool,
    pub keep_alive: bool,
    pub throttle: Duration,
    /// `None` is for ever.
    pub exit_timeout: Option<Duration>,
    pub abandons_group: bool,
    pub sockets: Vec<SocketEntry>,
}

/// One entry of `Sockets`.
#[derive(Debug, Clone)]
pub struct SocketEntry {
    pub name: String,
    pub place: Place,
}

/// Where it listens.
#[derive(Debug, Clone)]
pub enum Place {
    Path { path: PathBuf, mode: u32 },
    Tcp { address: String },
}

/// Reads a job; the error says what launchd would not take.
pub fn read(path: &Path) -> Result<JobFile, String> {
    let facts = std::fs::symlink_metadata(path).map_err(|why| why.to_string())?;
    let owner_is_trusted = facts.uid() == nix::unistd::geteuid().as_raw() || facts.uid() == 0;
    if !facts.is_file() || !owner_is_trusted || facts.mode() & 0o022 != 0 {
        return Err("not a regular file of ours that nobody else may write to".to_owned());
    }
    let value = Value::from_file(path).map_err(|why| why.to_string())?;
    let job = value.as_dictionary().ok_or("not a dictionary")?;
    let seconds = |key: &str, default| number(job, key).map_or(Duration::from_secs(default), Duration::from_secs);
    let exit_timeout = seconds("ExitTimeOut", 20);
    let text = |key: &str| job.get(key).and_then(Value::as_string);
    Ok(JobFile {
        label: text("Label").ok_or("no Label")?.to_owned(),
        arguments: arguments(job)?,
        environment: environment(job),
        stderr: text("StandardErrorPath").map(PathBuf::from),
        run_at_load: flag(job, "RunAtLoad"),
        keep_alive: flag(job, "KeepAlive"),
        throttle: seconds("ThrottleInterval", 10),
        exit_timeout: (!exit_timeout.is_zero()).then_some(exit_timeout),
        abandons_group: flag(job, "AbandonProcessGroup"),
        sockets: sockets(job)?,
    })
}

fn flag(job: &Dictionary, key: &str) -> bool {
    job.get(key).and_then(Value::as_boolean).unwrap_or(false)
}

fn number(job: &Dictionary, key: &str) -> Option<u64> {
    job.get(key).and_then(Value::as_unsigned_integer)
}

fn arguments(job: &Dictionary) -> Result<Vec<String>, String> {
    let list = job.get("ProgramArguments").and_then(Value::as_array).ok_or("no ProgramArguments")?;
    let arguments: Vec<String> = list.iter().filter_map(Value::as_string).map(str::to_owned).collect();
    if arguments.is_empty() { Err("ProgramArguments is empty".to_owned()) } else { Ok(arguments) }
}

fn environment(job: &Dictionary) -> Vec<(String, String)> {
    let variables = job.get("EnvironmentVariables").and_then(Value::as_dictionary);
    let pair = |(name, value): (&String, &Value)| Some((name.clone(), value.as_string()?.to_owned()));
    variables.into_iter().flatten().filter_map(pair).collect()
}

fn sockets(job: &Dictionary) -> Result<Vec<SocketEntry>, String> {
    let entries = job.get("Sockets").and_then(Value::as_dictionary);
    entries
        .into_iter()
        .flatten()
        .map(|(name, entry)| {
            let entry = entry.as_dictionary().ok_or(format!("Sockets/{name} is no dictionary"))?;
            let text = |key: &str| entry.get(key).and_then(Value::as_string);
            let place = match (text("SockPathName"), text("SockServiceName")) {
                (Some(path), _) => {
                    // Decimal in the file; umask 077 unless told otherwise.
                    let mode = number(entry, "SockPathMode").and_then(|mode| u32::try_from(mode).ok());
                    Place::Path { path: PathBuf::from(path), mode: mode.unwrap_or(0o600) }
                }
                (None, Some(port)) => {
                    Place::Tcp { address: format!("{}:{port}", text("SockNodeName").unwrap_or("127.0.0.1")) }
                }
                (None, None) => return Err(format!("Sockets/{name} has neither a path nor a port")),
            };
            Ok(SocketEntry { name: name.clone(), place })
        })
        .collect()
}
