//! Taking ownership of descriptors that another process opened for us.
//!
//! Owns the `unsafe` step from a number to an owned socket, and the checks around it. What the sockets are for is
//! [`super::sockets`]'s affair.
#![allow(unsafe_code, reason = "an inherited descriptor is only a number until somebody vouches for it")]

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};
use std::os::fd::AsRawFd;

/// The first descriptor of the systemd protocol.
const FIRST: RawFd = 3;

/// What an inherited descriptor turned out to be.
#[derive(Debug)]
pub(super) enum Inherited {
    /// A listening Unix stream socket.
    Unix(OwnedFd),
    /// A listening TCP socket.
    Tcp(OwnedFd),
}

/// Takes over the `count` descriptors that systemd passed, or says of each what is wrong with it. `None` when they were
/// taken before in this process.
pub(super) fn take_from_systemd(count: u16) -> Option<Vec<Result<Inherited, String>>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY: the caller has checked that `LISTEN_PID` names this process, so systemd opened exactly these numbers before
    // our first instruction; nothing of ours can have been given one of them, and the flag above lets them be taken once.
    Some((0..RawFd::from(count)).map(|index| unsafe { take(FIRST + index) }).collect())
}

/// Takes over descriptors that the image before this one left open, in this very process; `None` when that was done before.
/// Each is marked close-on-exec.
pub(super) fn take_from_last_image(numbers: &[RawFd]) -> Option<Vec<Result<OwnedFd, String>>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return None;
    }
    // SAFETY: the caller has checked that the list names this process and each number once; the last image kept them open
    // over the exec, so nothing of ours can have been given one of them, and the flag above lets them be taken once.
    Some(numbers.iter().map(|number| unsafe { take_open(*number) }).collect())
}

/// Takes over one descriptor: marks it close-on-exec and checks that it is a listening stream socket.
///
/// # Errors
/// What it is instead. An open descriptor that is refused is closed.
///
/// # Safety
/// The number, if it is open, belongs to nobody else in this process.
pub(super) unsafe fn take(raw: RawFd) -> Result<Inherited, String> {
    // SAFETY: passed on to the caller.
    classify(unsafe { take_open(raw)? })
}

/// # Safety
/// The number, if it is open, belongs to nobody else in this process.
unsafe fn take_open(raw: RawFd) -> Result<OwnedFd, String> {
    if raw < 0 {
        return Err("no descriptor at all".to_owned());
    }
    {
        // SAFETY: borrowed for one call, which answers EBADF if the number is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(raw) };
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|errno| match errno {
            Errno::EBADF => "not open".to_owned(),
            other => format!("not usable: {other}"),
        })?;
    }
    // SAFETY: it is open, as the call above showed, and ours alone by this function's contract.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// What a descriptor is.
///
/// # Errors
/// What it is instead of a listening stream socket; it is closed then.
pub(super) fn classify(owned: OwnedFd) -> Result<Inherited, String> {
    let kind = getsockopt(&owned.as_fd(), sockopt::SockType).map_err(|_| "no socket".to_owned())?;
    if kind != SockType::Stream {
        return Err("a socket, but no stream socket".to_owned());
    }
    if !getsockopt(&owned.as_fd(), sockopt::AcceptConn).unwrap_or(false) {
        return Err("a connection, not a listening socket (`Accept=yes` is not supported)".to_owned());
    }
    let address: SockaddrStorage =
        getsockname(owned.as_raw_fd()).map_err(|errno| format!("a socket without an address: {errno}"))?;
    match address.family() {
        Some(AddressFamily::Unix) => Ok(Inherited::Unix(owned)),
        Some(AddressFamily::Inet | AddressFamily::Inet6) => Ok(Inherited::Tcp(owned)),
        _ => Err("a socket that is neither Unix nor TCP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use super::*;

    fn give(fd: impl IntoRawFd) -> Result<Inherited, String> {
        // SAFETY: `into_raw_fd` has just given up ownership.
        unsafe { take(fd.into_raw_fd()) }
    }

    #[test]
    fn listening_sockets_are_taken_and_closed_on_exec() {
        let dir = tempfile::tempdir().unwrap();
        let unix = UnixListener::bind(dir.path().join("s")).unwrap();
        fcntl(&unix, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let Ok(Inherited::Unix(owned)) = give(unix) else { panic!("a Unix listener") };
        assert_eq!(fcntl(&owned, FcntlArg::F_GETFD).unwrap() & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(give(tcp), Ok(Inherited::Tcp(_))));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (stream, _other) = UnixStream::pair().unwrap();
        assert!(give(stream).unwrap_err().starts_with("a connection"));
        assert!(give(UnixDatagram::unbound().unwrap()).unwrap_err().contains("no stream"));
        assert_eq!(give(File::create(dir.path().join("f")).unwrap()).unwrap_err(), "no socket");
        // SAFETY: far above any limit, so open in nobody's name.
        assert_eq!(unsafe { take(1 << 30) }.unwrap_err(), "not open");
        // SAFETY: not a descriptor.
        assert_eq!(unsafe { take(-1) }.unwrap_err(), "no descriptor at all");
    }
}
