//! The system call that puts another image in this process's place.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::service::inheritance;

/// Variables by which an init system passes sockets: they were taken, and reach the next image by inheritance. `LISTEN_PID`
/// stays: it still says whose child we are.
const TAKEN: [&str; 3] = ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"];

/// Runs `image` in this process with our arguments and environment; `inherited` is what it must find in
/// [`inheritance::VARIABLE`]. Returns only when that fails, with everything as it was.
///
/// Not by `Command::exec`, which changes the disposition of SIGPIPE before it tries.
pub fn exec(image: &Path, inherited: &str) -> io::Error {
    match prepare(image, inherited) {
        Ok((image, arguments, environment)) => match nix::unistd::execve(&image, &arguments, &environment) {
            Ok(never) => match never {},
            Err(errno) => errno.into(),
        },
        Err(error) => error,
    }
}

type Prepared = (CString, Vec<CString>, Vec<CString>);

fn prepare(image: &Path, inherited: &str) -> io::Result<Prepared> {
    let arguments = std::env::args_os().map(c_string).collect::<io::Result<_>>()?;
    let kept = std::env::vars_os()
        .filter(|(name, _)| name != inheritance::VARIABLE && !TAKEN.iter().any(|taken| name == taken));
    let ours = (OsString::from(inheritance::VARIABLE), OsString::from(inherited));
    let environment = kept.chain([ours]).map(|(name, value)| assignment(name, &value)).collect::<io::Result<_>>()?;
    Ok((c_string(image.as_os_str().to_owned())?, arguments, environment))
}

fn assignment(mut name: OsString, value: &OsString) -> io::Result<CString> {
    name.push("=");
    name.push(value);
    c_string(name)
}

fn c_string(text: OsString) -> io::Result<CString> {
    debug_assert!(!text.as_bytes().contains(&0), "the system gave us these");
    CString::new(text.into_vec()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_exec_returns() {
        let error = exec(Path::new("/no/such/image"), "pid=1");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_next_image_finds_our_environment_and_its_inheritance_once() {
        let (_, arguments, environment) = prepare(Path::new("/x"), "pid=1").unwrap();
        assert_eq!(arguments.len(), std::env::args_os().len());
        let named = |name: &str| environment.iter().filter(|it| it.to_bytes().starts_with(name.as_bytes())).count();
        assert_eq!((named("MLXSUP_INHERITED=pid=1"), named("LISTEN_FDS="), named("PATH=")), (1, 0, 1));
    }
}
