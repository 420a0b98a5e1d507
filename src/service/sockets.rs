//! Client listeners that the init system opened for us.
//!
//! Owns which descriptor is which listener. Only client listeners are ever activated: `client` (Unix) and `client-tcp`;
//! the control socket is always the daemon's own. What was handed over is never unlinked by us.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use super::descriptors::{self, Inherited};

/// Descriptors accepted from an init system; more than this is a mistake in the unit.
const MOST: u16 = 16;

/// Listeners received, close-on-exec and non-blocking (ready for an async runtime).
#[derive(Debug, Default)]
pub struct Listeners {
    /// The stable socket.
    pub client: Option<UnixListener>,
    /// TCP, one per address.
    pub client_tcp: Vec<TcpListener>,
}

/// The init system handed over something we cannot serve on.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// A variable of the protocol is no number in range.
    #[error("{name}=`{value}` is not what systemd writes there; start mlxsupd from its unit or without this variable")]
    Variable {
        /// Which variable.
        name: &'static str,
        /// Its content.
        value: String,
    },
    /// The list of names does not match the number of descriptors.
    #[error("the init system passed {descriptors} sockets but {names} names; pass as many names as sockets")]
    Count {
        /// Descriptors.
        descriptors: usize,
        /// Names.
        names: usize,
    },
    /// A name we do not serve.
    #[error("the init system passed a socket named `{name}`; name it `client` (Unix) or `client-tcp`")]
    Name {
        /// The name.
        name: String,
    },
    /// A descriptor that is no listener of the right kind.
    #[error(
        "the socket `{name}` handed over by the init system is {problem}; `client` must be a listening Unix socket, \
             `client-tcp` a listening TCP socket"
    )]
    Kind {
        /// Its name.
        name: &'static str,
        /// What it is.
        problem: String,
    },
    /// More than one Unix socket.
    #[error("the init system passed more than one socket named `client`; keep one `ListenStream=` or `SockPathName`")]
    Twice,
    /// Asked for a second time in this process.
    #[error("the init system's sockets were taken before in this process")]
    TakenBefore,
    /// Making it non-blocking failed, or launchd answered with an error of its own.
    #[error("cannot take over the socket `{name}` from the init system: {source}")]
    System {
        /// Its name.
        name: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    ClientTcp,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ClientTcp => "client-tcp",
        }
    }
}

/// Takes over the listeners that systemd (`LISTEN_FDS`) or launchd passed to this process; `None` when neither did. To be
/// called once, before anything else opens files and before children are spawned.
///
/// # Errors
/// When something was passed that we cannot serve on; nothing is served silently on the wrong socket.
pub fn take_listeners() -> Result<Option<Listeners>, ActivationError> {
    let variable = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let announced =
        Announced { count: variable("LISTEN_FDS"), pid: variable("LISTEN_PID"), names: variable("LISTEN_FDNAMES") };
    if let Some(roles) = announced.roles(std::process::id())? {
        let count = u16::try_from(roles.len()).unwrap_or(MOST);
        let taken = descriptors::take_from_systemd(count).ok_or(ActivationError::TakenBefore)?;
        let mut out = Listeners::default();
        for (role, inherited) in roles.into_iter().zip(taken) {
            out.add(role, inherited)?;
        }
        return Ok(Some(out));
    }
    from_launchd()
}

#[cfg(not(target_os = "macos"))]
fn from_launchd() -> Result<Option<Listeners>, ActivationError> {
    Ok(None)
}

#[cfg(target_os = "macos")]
fn from_launchd() -> Result<Option<Listeners>, ActivationError> {
    use nix::errno::Errno;

    let mut out = Listeners::default();
    let mut any = false;
    for (role, name) in [(Role::Client, c"client"), (Role::ClientTcp, c"client-tcp")] {
        match super::launchd_ffi::activate(name) {
            Ok(taken) => {
                for inherited in taken {
                    any = true;
                    out.add(role, inherited)?;
                }
            }
            Err(Errno::ESRCH) => return Ok(None),
            Err(Errno::ENOENT) => {}
            Err(Errno::EALREADY) => return Err(ActivationError::TakenBefore),
            Err(errno) => return Err(ActivationError::System { name: role.name(), source: errno.into() }),
        }
    }
    Ok(any.then_some(out))
}

impl Listeners {
    fn add(&mut self, role: Role, inherited: Result<Inherited, String>) -> Result<(), ActivationError> {
        let name = role.name();
        let wrong = |problem: &str| ActivationError::Kind { name, problem: problem.to_owned() };
        let system = |source| ActivationError::System { name, source };
        let inherited = inherited.map_err(|problem| wrong(&problem))?;
        match (role, inherited) {
            (Role::Client, Inherited::Unix(owned)) => {
                if self.client.is_some() {
                    return Err(ActivationError::Twice);
                }
                let listener: UnixListener = adopt(owned);
                listener.set_nonblocking(true).map_err(system)?;
                self.client = Some(listener);
                Ok(())
            }
            (Role::ClientTcp, Inherited::Tcp(owned)) => {
                let listener: TcpListener = adopt(owned);
                listener.set_nonblocking(true).map_err(system)?;
                self.client_tcp.push(listener);
                Ok(())
            }
            (Role::Client, Inherited::Tcp(_)) => Err(wrong("a TCP socket")),
            (Role::ClientTcp, Inherited::Unix(_)) => Err(wrong("a Unix socket")),
        }
    }
}

fn adopt<L: From<OwnedFd>>(owned: OwnedFd) -> L {
    L::from(owned)
}

/// What systemd's variables say.
#[derive(Debug, Default)]
struct Announced {
    count: Option<String>,
    pid: Option<String>,
    names: Option<String>,
}

impl Announced {
    /// The role of each descriptor, in order; `None` when nothing was passed to this very process.
    fn roles(&self, own_pid: u32) -> Result<Option<Vec<Role>>, ActivationError> {
        let (Some(count), Some(pid)) = (&self.count, &self.pid) else { return Ok(None) };
        let variable = |name, value: &String| ActivationError::Variable { name, value: value.clone() };
        let pid: u32 = pid.parse().map_err(|_| variable("LISTEN_PID", pid))?;
        if pid != own_pid {
            // Meant for a parent of ours that forgot to clean up.
            return Ok(None);
        }
        let number: u16 = count.parse().map_err(|_| variable("LISTEN_FDS", count))?;
        if number > MOST {
            return Err(variable("LISTEN_FDS", count));
        }
        if number == 0 {
            return Ok(None);
        }
        let number = usize::from(number);
        let names: Vec<&str> = match self.names.as_deref() {
            None | Some("") => vec![""; number],
            Some(list) => list.split(':').collect(),
        };
        if names.len() != number {
            return Err(ActivationError::Count { descriptors: number, names: names.len() });
        }
        names
            .iter()
            .map(|name| match *name {
                "client" => Ok(Role::Client),
                "client-tcp" => Ok(Role::ClientTcp),
                // systemd names a socket after its unit, or `unknown`, unless told otherwise.
                unnamed if number == 1 && is_unnamed(unnamed) => Ok(Role::Client),
                other => Err(ActivationError::Name { name: other.to_owned() }),
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

fn is_unnamed(name: &str) -> bool {
    name.is_empty() || name == "unknown" || name.ends_with(".socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(count: &str, pid: &str, names: Option<&str>) -> Result<Option<Vec<Role>>, String> {
        let own = |text: &str| Some(text.to_owned());
        Announced { count: own(count), pid: own(pid), names: names.map(str::to_owned) }
            .roles(100)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn names_decide() {
        use Role::{Client, ClientTcp};
        assert_eq!(roles("2", "100", Some("client:client-tcp")), Ok(Some(vec![Client, ClientTcp])));
        assert_eq!(
            roles("3", "100", Some("client-tcp:client:client-tcp")),
            Ok(Some(vec![ClientTcp, Client, ClientTcp]))
        );
        for unnamed in [None, Some(""), Some("unknown"), Some("mlxsup.socket")] {
            assert_eq!(roles("1", "100", unnamed), Ok(Some(vec![Client])), "{unnamed:?}");
        }
    }

    #[test]
    fn what_is_not_for_us_is_left_alone() {
        assert_eq!(Announced::default().roles(100).unwrap(), None);
        assert_eq!(roles("1", "99", None), Ok(None));
        assert_eq!(roles("0", "100", None), Ok(None));
    }

    #[test]
    fn mistakes_are_named() {
        let messages = [
            roles("many", "100", None).unwrap_err(),
            roles("99", "100", None).unwrap_err(),
            roles("1", "me", None).unwrap_err(),
            roles("2", "100", Some("client")).unwrap_err(),
            roles("2", "100", None).unwrap_err(),
            roles("1", "100", Some("control")).unwrap_err(),
        ];
        insta::assert_snapshot!(messages.join("\n"), @r"
        LISTEN_FDS=`many` is not what systemd writes there; start mlxsupd from its unit or without this variable
        LISTEN_FDS=`99` is not what systemd writes there; start mlxsupd from its unit or without this variable
        LISTEN_PID=`me` is not what systemd writes there; start mlxsupd from its unit or without this variable
        the init system passed 2 sockets but 1 names; pass as many names as sockets
        the init system passed a socket named ``; name it `client` (Unix) or `client-tcp`
        the init system passed a socket named `control`; name it `client` (Unix) or `client-tcp`
        ");
    }

    #[test]
    fn a_role_takes_only_its_kind_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let unix = |name: &str| Ok(Inherited::Unix(UnixListener::bind(dir.path().join(name)).unwrap().into()));
        let tcp = || Ok(Inherited::Tcp(TcpListener::bind("127.0.0.1:0").unwrap().into()));
        let mut all = Listeners::default();
        all.add(Role::Client, unix("a")).unwrap();
        all.add(Role::ClientTcp, tcp()).unwrap();
        all.add(Role::ClientTcp, tcp()).unwrap();
        assert_eq!(all.client_tcp.len(), 2);
        assert!(matches!(all.add(Role::Client, unix("b")), Err(ActivationError::Twice)));
        assert!(all.add(Role::Client, tcp()).unwrap_err().to_string().contains("is a TCP socket"));
        assert!(all.add(Role::ClientTcp, unix("c")).unwrap_err().to_string().contains("is a Unix socket"));
        assert!(all.add(Role::Client, Err("not open".to_owned())).unwrap_err().to_string().contains("is not open"));
    }
}
