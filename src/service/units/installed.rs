//! Reading back what an installed unit says: which home it serves, how long it waits for the daemon to stop.
//!
//! Understands the files this program writes, not every plist or unit: a file that somebody rewrote by hand may be
//! unreadable here, and is then treated as somebody else's.

use std::path::PathBuf;
use std::time::Duration;

/// What an installed unit says about its daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The daemon it starts.
    pub program: PathBuf,
    /// The home it serves.
    pub home: PathBuf,
    /// The account that a service of the machine runs as.
    pub user: Option<String>,
    /// From SIGTERM to SIGKILL; `None` when the file does not say.
    pub stop_timeout: Option<Duration>,
}

/// Reads a launchd job of ours; `None` when it names no home.
#[must_use]
pub fn read_plist(text: &str) -> Option<Installed> {
    let strings: Vec<String> = text
        .split("<string>")
        .skip(1)
        .filter_map(|rest| rest.split_once("</string>"))
        .map(|(value, _)| value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        .collect();
    let timeout = text
        .split_once("<key>ExitTimeOut</key>")
        .and_then(|(_, rest)| rest.split_once("<integer>")?.1.split_once("</integer>"))
        .map(|(number, _)| number);
    let user = text
        .split_once("<key>UserName</key>")
        .and_then(|(_, rest)| rest.split_once("<string>")?.1.split_once("</string>"))
        .map(|(name, _)| name);
    // The first string is the label.
    installed(strings.get(1..)?, timeout, user)
}

/// Reads a `mlxsup.service` of ours; `None` when it names no home.
#[must_use]
pub fn read_systemd_service(text: &str) -> Option<Installed> {
    let setting = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    installed(&words(setting("ExecStart")?), setting("TimeoutStopSec"), setting("User"))
}

fn installed(arguments: &[String], timeout: Option<&str>, user: Option<&str>) -> Option<Installed> {
    let program = PathBuf::from(arguments.first()?);
    let home = arguments.iter().skip_while(|argument| *argument != "--home").nth(1)?;
    let stop_timeout = timeout.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    Some(Installed { program, home: PathBuf::from(home), user: user.map(str::to_owned), stop_timeout })
}

/// The words of a systemd command line, specifiers and variables undone.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(letters.next()),
            ' ' if !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words.into_iter().map(|word| word.replace("%%", "%").replace("$$", "$")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::units::{UnitFacts, plist, systemd_service};

    fn facts(home: &str) -> UnitFacts {
        UnitFacts {
            label: "l".to_owned(),
            daemon_path: PathBuf::from("/opt/a --home b/\"q\"/mlxsupd"),
            home: PathBuf::from(home),
            config: None,
            socket: PathBuf::from("/s"),
            mode: 0o600,
            owner: None,
            grace: Duration::from_secs(30),
            machine_bytes: 0,
            tcp: None,
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        for home in ["/home/ann/.mlxsup", "/a & b/<x>/100%/$HOME/\"q\"/it's\\&amp;", "/with space"] {
            let facts = facts(home);
            let expected = Installed {
                program: facts.daemon_path.clone(),
                home: PathBuf::from(home),
                user: None,
                stop_timeout: Some(Duration::from_secs(90)),
            };
            assert_eq!(read_plist(&plist(&facts).unwrap()), Some(expected.clone()), "{home}");
            assert_eq!(read_systemd_service(&systemd_service(&facts).unwrap()), Some(expected), "{home}");
        }
    }

    #[test]
    fn the_account_of_a_machines_service_is_read() {
        let owner = crate::service::Owner { user: "ann".to_owned(), group: None, uid: 501, gid: 20 };
        let facts = UnitFacts { owner: Some(owner), ..facts("/h") };
        let user = |installed: Option<Installed>| installed.unwrap().user;
        assert_eq!(user(read_plist(&plist(&facts).unwrap())).as_deref(), Some("ann"));
        assert_eq!(user(read_systemd_service(&systemd_service(&facts).unwrap())).as_deref(), Some("ann"));
    }

    #[test]
    fn somebody_elses_files_name_no_home() {
        for text in ["", "ExecStart=/bin/true\n", "<string>--home</string>", "ExecStart=mlxsupd --home"] {
            assert_eq!(read_plist(text), None, "{text}");
            assert_eq!(read_systemd_service(text), None, "{text}");
        }
    }

    #[test]
    fn a_large_machine_gets_a_longer_stop() {
        let seconds = |gib: u64| UnitFacts { machine_bytes: gib << 30, ..facts("/h") }.stop_timeout().as_secs();
        assert_eq!(seconds(16), 30 + 60);
        assert_eq!(seconds(96), 30 + 64, "40 s, and 1 s per 4 GiB");
        assert_eq!(seconds(512), 30 + 168);
    }
}
