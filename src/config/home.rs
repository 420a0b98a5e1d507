//! What can only be judged once the home is known: lengths of socket paths, sockets others must reach.
//!
//! Owns no I/O: the home need not exist.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::combinations::inside_home;
use super::{Config, Problem};

/// Sockets of the daemon's own with the longest name first; generations get ten digits before anyone sees more.
const OWN_SOCKETS: &[&str] = &["worker-9999999999.sock", "control.sock"];

/// Most bytes of a Unix socket's path on this platform; the closing NUL takes one more.
#[must_use]
pub const fn longest_socket_path() -> usize {
    if cfg!(target_os = "macos") { 103 } else { 107 }
}

/// Problems of this configuration in this home; empty when it can be used there.
#[must_use]
pub fn check_home(config: &Config, home: &Path) -> Vec<Problem> {
    let limit = longest_socket_path();
    let mut problems = Vec::new();
    let socket = home.join(&config.listen.socket);
    let length = socket.as_os_str().as_bytes().len();
    if length > limit {
        let hint = if config.listen.socket.is_relative() {
            "choose a shorter home (--home, MLXSUP_HOME), or an absolute path for the socket"
        } else {
            "choose a shorter path"
        };
        problems.push(config.source.problem("listen.socket", too_long(&socket, length), hint));
    }
    let own = OWN_SOCKETS.iter().map(|name| home.join(name)).find(|path| path.as_os_str().as_bytes().len() > limit);
    if let Some(path) = own {
        let what = too_long(&path, path.as_os_str().as_bytes().len());
        let hint = "choose a shorter home (--home, MLXSUP_HOME)".to_owned();
        problems.push(Problem::without_place(home, "home", what, hint));
    }
    // A relative socket was judged with the file.
    if config.listen.socket.is_absolute() && socket.starts_with(home) {
        let found = inside_home(config).into_iter();
        problems.extend(found.map(|(key, what, hint)| config.source.problem(key, what, hint)));
    }
    problems
}

fn too_long(path: &Path, length: usize) -> String {
    let system = if cfg!(target_os = "macos") { "macOS" } else { "Linux" };
    let limit = longest_socket_path();
    format!("the socket path {} has {length} bytes; {system} takes {limit}", path.display())
}
