//! Where clients of a home connect.

use std::path::{Path, PathBuf};

use crate::ctl::home::{Home, SYSTEM_CLIENT_SOCKET, Source};

const DEFAULT_SOCKET: &str = "mlxsup.sock";

/// The flag, else the socket of the home. The system's home is closed to ordinary users, so its public socket is known
/// by name.
pub fn of_clients(flag: Option<&Path>, home: &Home) -> PathBuf {
    if let Some(path) = flag {
        return path.to_owned();
    }
    let public = Path::new(SYSTEM_CLIENT_SOCKET);
    if matches!(home.source, Source::System(_)) && public.exists() {
        return public.to_owned();
    }
    home.path.join(DEFAULT_SOCKET)
}
