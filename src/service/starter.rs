//! Who started this process: an init system that will start it again, or somebody who reads what it says.
//!
//! Owns the reading of the variables by which launchd and systemd mark their direct children. All of them are inherited
//! by grandchildren too (a terminal may itself be a service), so each is believed only with a sign that it is meant for
//! this very process.

/// True when launchd or systemd started this very process: nobody watches its stderr, and it is started again when it
/// ends.
#[must_use]
pub fn is_started_by_init() -> bool {
    let own = Process { pid: std::process::id(), parent: std::os::unix::process::parent_id() };
    started_by_init(own, |name| std::env::var(name).ok())
}

#[derive(Debug, Clone, Copy)]
struct Process {
    pid: u32,
    parent: u32,
}

fn started_by_init(own: Process, variable: impl Fn(&str) -> Option<String>) -> bool {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let names = |name: &str, pid: u32| set(name).is_some_and(|value| value == pid.to_string());
    let is_child_of_init = own.parent == 1 || names("MANAGERPID", own.parent);
    // systemd: sockets handed to us, readiness awaited from us, or (since 248) our pid by name.
    let systemd = names("LISTEN_PID", own.pid)
        || set("NOTIFY_SOCKET").is_some()
        || match set("SYSTEMD_EXEC_PID") {
            Some(_) => names("SYSTEMD_EXEC_PID", own.pid),
            None => set("INVOCATION_ID").is_some() && is_child_of_init,
        };
    // launchd: the job's label; `0` in a shell, `application.…` below a program with windows.
    let launchd = own.parent == 1
        && set("XPC_SERVICE_NAME").is_some_and(|label| label != "0" && !label.starts_with("application."));
    systemd || launchd
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: u32 = 500;

    fn judge(parent: u32, variables: &[(&str, &str)]) -> bool {
        started_by_init(Process { pid: 700, parent }, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn init_systems_are_known_by_what_they_say_to_their_own_child() {
        for variables in [
            &[("LISTEN_PID", "700"), ("LISTEN_FDS", "1")][..],
            &[("NOTIFY_SOCKET", "/run/systemd/notify")],
            &[("INVOCATION_ID", "abc"), ("SYSTEMD_EXEC_PID", "700")],
            &[("INVOCATION_ID", "abc"), ("MANAGERPID", "500")],
        ] {
            assert!(judge(SHELL, variables), "{variables:?}");
        }
        assert!(judge(1, &[("INVOCATION_ID", "abc")]));
        assert!(judge(1, &[("XPC_SERVICE_NAME", "io.github.mlxsup.mlxsupd")]));
    }

    #[test]
    fn what_a_shell_inherited_does_not_count() {
        for variables in [
            &[][..],
            &[("LISTEN_PID", "500"), ("LISTEN_FDS", "1")],
            &[("NOTIFY_SOCKET", "")],
            &[("INVOCATION_ID", "abc")],
            &[("INVOCATION_ID", "abc"), ("SYSTEMD_EXEC_PID", "400"), ("MANAGERPID", "1")],
            &[("XPC_SERVICE_NAME", "io.github.mlxsup.mlxsupd")],
        ] {
            assert!(!judge(SHELL, variables), "{variables:?}");
        }
        assert!(!judge(1, &[("XPC_SERVICE_NAME", "0")]));
        assert!(!judge(1, &[("XPC_SERVICE_NAME", "application.com.apple.Terminal.1")]));
    }
}
