use std::os::unix::fs::PermissionsExt;

use super::*;

const LONG: &str = "0123456789abcdef0123456789abcdef";

fn parse(text: &str) -> Result<KeyRing, Vec<String>> {
    KeyRing::parse(text, Path::new("api.key"))
        .map_err(|faults| faults.into_iter().map(|fault| format!("{}; {}", fault.what, fault.hint)).collect())
}

#[test]
fn lines_become_principals() {
    let text = format!(
        "# who may come in\n\nlaptop {LONG}a\r\n  cron.1 {LONG}b max_active=2 max_class=batch # at night\n\
         desk {LONG}c max_class=normal\n"
    );
    let ring = parse(&text).unwrap();
    assert_eq!(ring.len(), 3);
    let laptop = ring.find(format!("{LONG}a").as_bytes()).unwrap();
    assert_eq!(laptop, &Principal::named("laptop".into()));
    assert_eq!(laptop.capped(Class::Interactive), Class::Interactive);
    let cron = ring.find(format!("{LONG}b").as_bytes()).unwrap();
    assert_eq!((cron.name.as_str(), cron.max_active, cron.max_class), ("cron.1", Some(2), Some(Class::Batch)));
    let desk = ring.find(format!("{LONG}c").as_bytes()).unwrap();
    for (claimed, gets) in
        [(Class::Interactive, Class::Normal), (Class::Normal, Class::Normal), (Class::Batch, Class::Batch)]
    {
        assert_eq!(desk.capped(claimed), gets);
    }
}

#[test]
fn only_the_whole_key_is_found() {
    let longest = "k".repeat(KEY_MAX);
    let ring = parse(&format!("a {LONG}\nb {longest}\nc 0123456789abcdef\n")).unwrap();
    let name = |key: &str| ring.find(key.as_bytes()).map(|principal| principal.name.as_str());
    assert_eq!((name(LONG), name(&longest), name("0123456789abcdef")), (Some("a"), Some("b"), Some("c")));
    let padded = format!("{LONG}\0");
    for wrong in ["", "0", "0123456789abcdeF", &LONG[..31], &padded, &format!("{longest}k"), &longest[1..]] {
        assert_eq!(name(wrong), None, "{wrong:?}");
    }
}

#[test]
fn every_bad_line_is_told_with_its_number_and_without_its_words() {
    let long = LONG;
    let text = format!(
        "sk-lonely-secret-{long}\n\
         bad/name {long}1\n\
         short secret\n\
         umlaut secretsecretsecreté\n\
         a {long}\n\
         a {long}2\n\
         b {long}\n\
         c {long}3 max_class=urgent\n\
         d {long}4 max_active=0\n\
         e {long}5 max_active=1 max_active=2\n\
         f {long}6 secret-tail\n\
         g {}\n",
        "x".repeat(257)
    );
    let faults = parse(&text).unwrap_err();
    assert!(faults.iter().all(|fault| !fault.contains("secret") && !fault.contains(long)), "{faults:#?}");
    let told: Vec<&str> = faults.iter().filter_map(|fault| fault.split("; ").next()).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    line 1 of api.key: one word is not enough
    line 2 of api.key: the first word is no name
    line 3 of api.key: the key has 6 characters
    line 4 of api.key: the key has other characters than visible ASCII
    line 6 of api.key: line 5 has the same name
    line 7 of api.key: line 5 has the same key
    line 8 of api.key: max_class is none of interactive, normal and batch
    line 9 of api.key: max_active is no whole number from 1 on
    line 10 of api.key: the same is said twice
    line 11 of api.key: something that is neither max_class=… nor max_active=… follows the key
    line 12 of api.key: the key has 257 characters
    ");
    assert!(parse("# nothing\n").unwrap_err()[0].contains("has 0 keys"));
}

#[test]
fn a_ring_shown_for_debugging_keeps_its_keys() {
    let shown = format!("{:?}", Access::Keys(parse(&format!("laptop {LONG}\n")).unwrap()));
    assert!(shown.contains("laptop") && !shown.contains("0123") && !shown.contains("48, 49"), "{shown}");
}

#[test]
fn the_file_must_be_private_and_a_file() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("api.key");
    let told = |path: &Path| {
        let fault = KeyRing::read(path).unwrap_err().remove(0);
        format!("{}; {}", fault.what, fault.hint).replace(&home.path().display().to_string(), "~")
    };
    assert!(told(&path).starts_with("there is no key file at ~/api.key; make one: (umask 077;"), "{}", told(&path));
    std::fs::write(&path, format!("a {LONG}\n")).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o644] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let expected = format!("others than its owner can get at ~/api.key (mode {mode:04o}); chmod 600 ~/api.key");
        assert_eq!(told(&path), expected);
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(KeyRing::read(&path).unwrap().len(), 1);
    std::fs::write(&path, vec![b'#'; 2 << 20]).unwrap();
    assert!(told(&path).contains("larger than 1 MiB"));
    assert!(told(home.path()).contains("no regular file"));
    let pipe = home.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(told(&pipe).contains("no regular file"), "{}", told(&pipe));
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        assert!(told(&path).contains("belongs to uid 12345"));
    }
}

#[test]
fn what_the_configuration_asks_for() {
    let home = tempfile::tempdir().unwrap();
    let access = |listen: &str| {
        let text = format!("[listen]\n{listen}\n[worker]\nmodel = \"m\"\n");
        Access::load(&crate::config::parse(&text, Path::new("mlxsup.toml")).unwrap(), home.path())
    };
    assert_eq!(access(""), Ok(Access::Closed));
    assert_eq!(access("tcp = \"127.0.0.1:1\"\napi_key_file = \"none\""), Ok(Access::Keyless));
    let keyed = "tcp = \"127.0.0.1:1\"\napi_key_file = \"api.key\"";
    let problem = access(keyed).unwrap_err().remove(0);
    assert_eq!((problem.line, problem.key.as_deref()), (3, Some("listen.api_key_file")));
    std::fs::write(home.path().join("api.key"), format!("a {LONG}\n")).unwrap();
    std::fs::set_permissions(home.path().join("api.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(access(keyed), Ok(Access::Keys(ring)) if ring.len() == 1));
}
