//! What one image of the daemon leaves for the next in the same process: descriptors, and a variable that names them.
//!
//! `MLXSUP_INHERITED=pid=4711,from=0.1.0,held=1700000000000,activated=no,client=7,control=8,lock=9`. The pid is the guard
//! against children that find the variable in their environment; it stays true over any number of images, each of which
//! writes the variable anew. Everything here is close-on-exec but for the moment of [`Heirlooms::lay_open`].

use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::descriptors::{self, Inherited};
use super::sockets::Listeners;

/// The variable's name.
pub const VARIABLE: &str = "MLXSUP_INHERITED";

/// Names of the descriptors.
const CLIENT: &str = "client";
const CLIENT_TCP: &str = "client-tcp";
const CONTROL: &str = "control";
const LOCK: &str = "lock";

/// The inheritance is there and cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{VARIABLE}=`{value}`: {problem}; it is written by mlxsupd for itself, start it without")]
pub struct InheritanceError {
    value: String,
    problem: String,
}

/// What the last image left, taken over.
#[derive(Debug)]
pub struct Inheritance {
    /// Client listeners, non-blocking.
    pub listeners: Listeners,
    /// True when they came from the init system, which keeps them after us.
    pub activated: bool,
    /// The control socket's listener, non-blocking.
    pub control: Option<UnixListener>,
    /// The file whose lock makes one daemon per home; still locked.
    pub lock: Option<OwnedFd>,
    /// Version of the last image.
    pub from: String,
    /// Since when clients wait, milliseconds since the Unix epoch.
    pub held_since_ms: u64,
}

/// The document, before any descriptor is touched.
#[derive(Debug, Default, PartialEq, Eq)]
struct Will {
    pid: u32,
    from: String,
    held: u64,
    activated: bool,
    descriptors: Vec<(String, RawFd)>,
}

impl Will {
    fn parse(text: &str) -> Result<Self, String> {
        let mut will = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is no name=value"))?;
            let bad = || format!("{name} is not `{value}`");
            match name {
                "pid" => will.pid = value.parse().map_err(|_| bad())?,
                "from" => value.clone_into(&mut will.from),
                "held" => will.held = value.parse().map_err(|_| bad())?,
                "activated" => will.activated = value == "yes",
                _ => {
                    let number = value.parse().map_err(|_| bad())?;
                    if will.descriptors.iter().any(|(_, known)| *known == number) {
                        return Err(format!("descriptor {number} is named twice"));
                    }
                    will.descriptors.push((name.to_owned(), number));
                }
            }
        }
        Ok(will)
    }
}

/// Takes over what the last image left; `None` when there was none. To be called once, before anything else opens files.
///
/// # Errors
/// When the variable is meant for this process and something in it cannot be used.
pub fn take() -> Result<Option<Inheritance>, InheritanceError> {
    let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let value = value.to_string_lossy().into_owned();
    understand(&value).map_err(|problem| InheritanceError { value, problem })
}

fn understand(value: &str) -> Result<Option<Inheritance>, String> {
    let will = Will::parse(value)?;
    if will.pid != std::process::id() {
        return Ok(None);
    }
    let numbers: Vec<RawFd> = will.descriptors.iter().map(|(_, number)| *number).collect();
    let taken = descriptors::take_from_last_image(&numbers).ok_or("it was taken before")?;
    let mut out = Inheritance {
        listeners: Listeners::default(),
        activated: will.activated,
        control: None,
        lock: None,
        from: will.from,
        held_since_ms: will.held,
    };
    for ((name, number), owned) in will.descriptors.into_iter().zip(taken) {
        let owned = owned.map_err(|problem| format!("descriptor {number} ({name}) is {problem}"))?;
        out.add(&name, owned).map_err(|problem| format!("descriptor {number} ({name}) is {problem}"))?;
    }
    Ok(Some(out))
}

impl Inheritance {
    fn add(&mut self, name: &str, owned: OwnedFd) -> Result<(), String> {
        if name == LOCK {
            self.lock = Some(owned);
            return Ok(());
        }
        let unix = |inherited| match inherited {
            Inherited::Unix(owned) => {
                let listener = UnixListener::from(owned);
                listener.set_nonblocking(true).map(|()| listener).map_err(|error| error.to_string())
            }
            Inherited::Tcp(_) => Err("a TCP socket".to_owned()),
        };
        let inherited = descriptors::classify(owned)?;
        match name {
            CLIENT => self.listeners.client = Some(unix(inherited)?),
            CONTROL => self.control = Some(unix(inherited)?),
            CLIENT_TCP => match inherited {
                Inherited::Tcp(owned) => {
                    let listener = TcpListener::from(owned);
                    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
                    self.listeners.client_tcp.push(listener);
                }
                Inherited::Unix(_) => return Err("a Unix socket".to_owned()),
            },
            // A later image may leave more than this one knows: closed, as nobody here has a use for it.
            _ => drop(inherited),
        }
        Ok(())
    }
}

/// What this image will leave: duplicates, so that whoever serves may close theirs.
#[derive(Debug)]
pub struct Heirlooms {
    kept: Vec<(&'static str, OwnedFd)>,
    activated: bool,
}

impl Heirlooms {
    /// Nothing yet. `activated`: the client listeners came from the init system.
    #[must_use]
    pub fn new(activated: bool) -> Self {
        Self { kept: Vec::new(), activated }
    }

    /// Keeps the stable socket's listener.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn keep_client(&mut self, listener: impl AsFd) -> std::io::Result<()> {
        self.keep(CLIENT, listener)
    }

    /// Keeps a TCP listener.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn keep_client_tcp(&mut self, listener: impl AsFd) -> std::io::Result<()> {
        self.keep(CLIENT_TCP, listener)
    }

    /// Keeps the control socket's listener.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn keep_control(&mut self, listener: impl AsFd) -> std::io::Result<()> {
        self.keep(CONTROL, listener)
    }

    /// Keeps the lock's file.
    ///
    /// # Errors
    /// When the process is out of descriptors.
    pub fn keep_lock(&mut self, file: impl AsFd) -> std::io::Result<()> {
        self.keep(LOCK, file)
    }

    fn keep(&mut self, name: &'static str, it: impl AsFd) -> std::io::Result<()> {
        self.kept.push((name, it.as_fd().try_clone_to_owned()?));
        Ok(())
    }

    /// Lets them survive the next exec, and says what the next image must find in [`VARIABLE`]. No process may be spawned
    /// from here to the exec, or to [`Self::lock_away`].
    ///
    /// # Errors
    /// When the system refuses; some may lie open then.
    pub fn lay_open(&self, held_since_ms: u64) -> std::io::Result<String> {
        let activated = if self.activated { "yes" } else { "no" };
        let (pid, version) = (std::process::id(), env!("CARGO_PKG_VERSION"));
        let mut value = format!("pid={pid},from={version},held={held_since_ms},activated={activated}");
        for (name, kept) in &self.kept {
            fcntl(kept, FcntlArg::F_SETFD(FdFlag::empty()))?;
            value.push_str(&format!(",{name}={}", kept.as_raw_fd()));
        }
        Ok(value)
    }

    /// Undoes [`Self::lay_open`].
    pub fn lock_away(&self) {
        for (name, kept) in &self.kept {
            if let Err(error) = fcntl(kept, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
                tracing::error!(%error, name, "a descriptor stays open for children");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_closed_on_exec(fd: &OwnedFd) -> bool {
        fcntl(fd, FcntlArg::F_GETFD).unwrap() & libc::FD_CLOEXEC != 0
    }

    #[test]
    fn heirlooms_lie_open_only_for_the_exec_and_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let client = UnixListener::bind(folder.path().join("c")).unwrap();
        let mut heirlooms = Heirlooms::new(true);
        heirlooms.keep_client(&client).unwrap();
        heirlooms.keep_lock(std::fs::File::create(folder.path().join("l")).unwrap()).unwrap();
        assert!(heirlooms.kept.iter().all(|(_, fd)| is_closed_on_exec(fd)));
        let value = heirlooms.lay_open(123).unwrap();
        assert!(heirlooms.kept.iter().all(|(_, fd)| !is_closed_on_exec(fd)));
        let will = Will::parse(&value).unwrap();
        assert_eq!((will.pid, will.held, will.activated), (std::process::id(), 123, true));
        let names: Vec<&str> = will.descriptors.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [CLIENT, LOCK]);
        heirlooms.lock_away();
        assert!(heirlooms.kept.iter().all(|(_, fd)| is_closed_on_exec(fd)));
    }

    #[test]
    fn what_is_meant_for_another_process_or_makes_no_sense_is_not_taken() {
        assert!(understand("pid=1,client=7").unwrap().is_none());
        for bad in ["", "pid", "pid=x", "pid=1,client=seven", "pid=1,client=7,control=7"] {
            assert!(understand(bad).is_err(), "{bad}");
        }
    }
}
