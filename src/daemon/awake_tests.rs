use super::*;

/// Longest wait for another thread; nothing here takes so long.
const SOON: Duration = Duration::from_secs(20);

/// A hold that tells when it is taken and released.
struct Told(Sender<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send("released");
    }
}

fn keeper(linger: Duration) -> (Keeper, Receiver<&'static str>) {
    let (tell, told) = channel();
    let take = move || {
        let _ = tell.send("taken");
        Some(Told(tell.clone()))
    };
    (Keeper::start(linger, take).unwrap(), told)
}

#[test]
fn a_hold_is_taken_once_and_released_after_the_work() {
    let (keeper, told) = keeper(Duration::ZERO);
    for _ in 0..2 {
        keeper.wishes.send(true).unwrap();
        keeper.wishes.send(true).unwrap();
        assert_eq!(told.recv_timeout(SOON), Ok("taken"));
        keeper.wishes.send(false).unwrap();
        assert_eq!(told.recv_timeout(SOON), Ok("released"));
    }
    assert!(told.try_recv().is_err());
}

#[test]
fn a_series_of_short_requests_is_one_hold_that_ends_with_the_daemon() {
    let (keeper, told) = keeper(Duration::from_secs(3600));
    for _ in 0..100 {
        keeper.wishes.send(true).unwrap();
        keeper.wishes.send(false).unwrap();
    }
    drop(Awake { wanted: false, keeper: Some(keeper) });
    assert_eq!(told.iter().collect::<Vec<_>>(), ["taken", "released"]);
}

#[test]
fn set_returns_whatever_the_system_says() {
    let mut awake = Awake::new();
    awake.set(false);
    assert!(awake.keeper.is_none(), "nothing is started for nothing");
    awake.set(true);
    awake.set(false);
    awake.set(true);
}

#[cfg(not(target_os = "macos"))]
mod systemd_inhibit {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::inhibitor::{Inhibitor, Inhibitors};

    /// A folder with a `systemd-inhibit`; what it writes to descriptor 3 is kept in the file `said` beside it.
    fn fake(body: &str) -> (tempfile::TempDir, Inhibitors) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("systemd-inhibit");
        fs::write(&program, format!("#!/bin/sh\nexec 3>>\"${{0%/*}}/said\"\n{body}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let inhibitors = Inhibitors::new(folder.path().into());
        (folder, inhibitors)
    }

    fn said(folder: &tempfile::TempDir) -> Vec<String> {
        let text = fs::read_to_string(folder.path().join("said")).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Lets go, and waits until the child is gone.
    fn release(Inhibitor { pipe, reaper }: Inhibitor) {
        assert!(!reaper.is_finished(), "the child ended before the hold");
        drop(pipe);
        reaper.join().unwrap();
    }

    #[test]
    fn the_child_lives_as_long_as_the_hold() {
        // As the real one does: runs the command that follows its own options, and ends with it.
        let (folder, mut inhibitors) = fake(
            "echo \"$*\" >&3; while case $1 in --*) true;; *) false;; esac; do shift; done; \"$@\"; echo over >&3",
        );
        for round in 1..=2 {
            release(inhibitors.take().unwrap());
            let said = said(&folder);
            assert_eq!(said.len(), 2 * round);
            assert_eq!(said[0], "--what=idle:sleep --who=mlxsup --why=requests run or wait --mode=block cat");
            assert_eq!(said[1], "over");
        }
    }

    #[test]
    fn without_the_right_to_hold_off_sleep_the_idle_action_is_held_off() {
        let (folder, mut inhibitors) =
            fake("echo \"$1\" >&3; case $1 in *sleep*) echo 'Access denied' >&2; exit 1;; esac; cat; echo over >&3");
        release(inhibitors.take().unwrap());
        assert_eq!(said(&folder), ["--what=idle:sleep", "--what=idle", "over"]);
        assert!(inhibitors.take().is_some(), "one of the two was granted");
    }

    #[test]
    fn after_a_refusal_it_is_left_alone() {
        let (folder, mut inhibitors) = fake("echo \"$1\" >&3; echo 'Access denied' >&2; exit 1");
        inhibitors.take().unwrap().reaper.join().unwrap();
        assert_eq!(said(&folder), ["--what=idle:sleep", "--what=idle"]);
        assert!(inhibitors.take().is_none());
    }

    #[test]
    fn where_there_is_none_nothing_happens() {
        let folder = tempfile::tempdir().unwrap();
        let mut inhibitors = Inhibitors::new(folder.path().into());
        assert!(inhibitors.take().is_none());
        // A file that cannot be run is none.
        fs::write(folder.path().join("systemd-inhibit"), "").unwrap();
        assert!(inhibitors.take().is_none());
    }
}
