//! Starting mlx-lm: its bridge script, kept in the home, and the Python that runs it.

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Runs mlx-lm's server as a worker. It travels inside this program, so that the two always fit each other.
const BRIDGE: &str = include_str!("../../etc/mlx_lm_worker.py");

/// Looks through `PATH` for a Python that has mlx-lm, and becomes it: the pid stays the worker's own.
const SEARCH: &str = r#"
IFS=:
for folder in $PATH; do
    python=$folder/python3
    if [ -x "$python" ] && "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("mlx_lm") is None)'; then
        exec "$python" "$@"
    fi
done
echo "no python3 in PATH ($PATH) has mlx-lm; pip install mlx-lm, or set worker.python to one that has it" >&2
exit 1
"#;

/// Program and arguments. Without `python` the first `python3` in `PATH` that has mlx-lm is taken.
#[must_use]
pub fn command(python: Option<&Path>, bridge: &Path) -> Vec<OsString> {
    let mut command = match python {
        Some(python) => vec![python.into()],
        None => ["/bin/sh", "-c", SEARCH, "sh"].map(OsString::from).to_vec(),
    };
    command.push(bridge.into());
    command
}

/// Puts this program's own bridge at `path`, unless it is there already. A running worker has read its own long ago.
///
/// # Errors
/// When it cannot be written.
pub fn put_bridge(path: &Path) -> io::Result<()> {
    if std::fs::read(path).is_ok_and(|present| present == BRIDGE.as_bytes()) {
        return Ok(());
    }
    let fresh = path.with_extension("py.new");
    std::fs::write(&fresh, BRIDGE)?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bridge_is_written_once_and_brought_up_to_date() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("mlx_lm_worker.py");
        put_bridge(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), BRIDGE);
        let written = std::fs::metadata(&path).unwrap().modified().unwrap();
        put_bridge(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), written);
        std::fs::write(&path, "an older one").unwrap();
        put_bridge(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), BRIDGE);
    }

    #[test]
    fn without_a_python_the_path_is_searched_and_the_remedy_told() {
        let nothing = tempfile::tempdir().unwrap();
        let words = command(None, Path::new("bridge.py"));
        let run = |path: &Path| {
            let mut it = std::process::Command::new(&words[0]);
            it.args(&words[1..]).env_clear().env("PATH", path).output().unwrap()
        };
        let failed = run(nothing.path());
        let said = String::from_utf8(failed.stderr).unwrap();
        assert!(failed.status.code() == Some(1) && said.contains("worker.python"), "{said}");

        // One that has it: asked with -c it says yes, then it is given the script.
        let python = nothing.path().join("python3");
        std::fs::write(&python, "#!/bin/sh\n[ \"$1\" = -c ] && exit 0\necho \"runs $1\"\n").unwrap();
        std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let ran = run(nothing.path());
        assert_eq!(String::from_utf8(ran.stdout).unwrap(), "runs bridge.py\n");
    }
}
