use std::os::unix::fs::PermissionsExt;

use super::*;

const US: u32 = 501;

fn good() -> Home {
    let file = |name: &str, mode| FileFacts { name: name.to_owned(), owner: US, mode, written: None };
    Home {
        path: PathBuf::from("/h"),
        there: There::Folder { owner: US, mode: 0o700, readable: true },
        us: US,
        files: vec![file("api.key", 0o600), file("mlxsup.toml", 0o644)],
        disk: Some(Disk { available: 90 << 30, files_left: None, read_only: false }),
        logs: vec![("mlxsupd.log".to_owned(), 3 * MIB)],
        rotation: Some(rotation()),
    }
}

fn rotation() -> Log {
    crate::config::parse(crate::config::MINIMAL, Path::new("t.toml")).unwrap().log
}

fn bad(home: &Home) -> Vec<(Level, &'static str)> {
    let findings = judge(home).into_iter().filter(|finding| finding.level != Level::Ok);
    findings.map(|finding| (finding.level, finding.code)).collect()
}

#[test]
fn a_good_home_is_good() {
    assert_eq!(bad(&good()), []);
}

#[test]
fn a_home_that_is_not_there_or_not_ours_says_so_alone() {
    assert_eq!(bad(&Home { there: There::Nothing, ..good() }), [(Level::Warning, "no_home")]);
    assert_eq!(bad(&Home { there: There::NoFolder, ..good() }), [(Level::Problem, "home_no_folder")]);
    let closed = There::Folder { owner: 0, mode: 0o700, readable: false };
    assert_eq!(bad(&Home { there: closed, ..good() }), [(Level::Problem, "home_closed")]);
}

#[test]
fn owners_and_modes_are_looked_at() {
    let mut home = good();
    home.there = There::Folder { owner: US, mode: 0o755, readable: true };
    home.files[0].mode = 0o640;
    home.files.push(FileFacts { name: "state.json".to_owned(), owner: 0, mode: 0o600, written: None });
    home.files.push(FileFacts { name: "state.json.bad-7".to_owned(), owner: US, mode: 0o600, written: None });
    home.files.push(FileFacts { name: "history.db.corrupt-1".to_owned(), owner: US, mode: 0o600, written: None });
    let expected = [
        (Level::Warning, "home_open"),
        (Level::Problem, "files_foreign"),
        (Level::Problem, "key_open"),
        (Level::Note, "history_aside"),
        (Level::Note, "state_aside"),
    ];
    assert_eq!(bad(&home), expected);
    assert_eq!(judge(&home)[1].mend.as_deref(), Some("sudo chown -R 501 /h"));
    assert_eq!(bad(&Home { us: 502, ..good() }), [(Level::Warning, "home_foreign")]);
    // Root looks into every home.
    assert_eq!(bad(&Home { us: 0, ..good() }), []);
}

#[test]
fn a_disk_without_room_is_noticed_before_and_when_it_is_full() {
    let with = |available: u64, files_left, read_only| {
        bad(&Home { disk: Some(Disk { available, files_left, read_only }), ..good() })
    };
    assert_eq!(with(500 * MIB, None, false), [(Level::Warning, "disk_little")]);
    assert_eq!(with(MIB, None, false), [(Level::Problem, "disk_full")]);
    assert_eq!(with(90 << 30, Some(0), false), [(Level::Problem, "disk_full")]);
    assert_eq!(with(90 << 30, Some(9), true), [(Level::Problem, "disk_read_only")]);
}

#[test]
fn logs_that_do_not_rotate_are_noticed() {
    let most = rotation().rotate_at * (u64::from(rotation().keep) + 2);
    let logs = vec![("mlxsupd.stderr.log".to_owned(), rotation().rotate_at + 1), ("worker.log".to_owned(), most + 1)];
    let home = Home { logs, ..good() };
    assert_eq!(bad(&home), [(Level::Warning, "log_large"), (Level::Warning, "log_large")]);
}

#[test]
fn a_real_home_is_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::create_dir(folder.path().join("logs")).unwrap();
    for (name, bytes) in [("logs/worker.log", 10), ("logs/worker.log.1", 20), ("logs/notes", 5), ("state.json", 1)] {
        std::fs::write(folder.path().join(name), vec![b'x'; bytes]).unwrap();
    }
    let home = gather(folder.path(), None);
    assert_eq!(home.logs, [("worker.log".to_owned(), 30)]);
    assert!(home.last_written().is_some() && home.disk.is_some());
    assert_eq!(bad(&Home { disk: None, ..home }), []);
    assert_eq!(gather(&folder.path().join("none"), None).there, There::Nothing);
    assert_eq!(gather(&folder.path().join("state.json"), None).there, There::NoFolder);
}
