use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    Action, Change, Engine, RestartMode, Threshold, When, builtin, check_home, diff, footprint_over_budget,
    longest_socket_path,
};
use super::*;

fn config(text: &str) -> Config {
    parse_for(text, Path::new("mlxsup.toml"), Some(PathBuf::from("/home/ada")))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn with(text: &str) -> Config {
    config(&format!("worker.model = \"m\"\n{text}"))
}

#[test]
fn the_model_alone_is_a_complete_configuration() {
    let minimal = config(MINIMAL);
    assert_eq!(minimal.worker.engine, Engine::Native);
    assert_eq!(minimal.queue.max_wait, Duration::from_secs(1800));
    assert!(minimal.rules.iter().all(|rule| rule.built_in));
    assert_eq!(minimal.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), builtin::NAMES);
    assert_eq!(minimal.hash.len(), 16);
    assert_ne!(minimal.hash, config("[worker]\nmodel = \"other\"\n").hash);
}

#[test]
fn the_users_home_is_expanded_and_no_other() {
    assert_eq!(config("worker.model = \"~/m\"").worker.model, "/home/ada/m");
    assert!(parse_for("worker.model = \"~/m\"", Path::new("f"), None).is_err());
    assert!(parse_for("worker.model = \"~bob/m\"", Path::new("f"), Some("/home/ada".into())).is_err());
}

#[test]
fn a_rule_named_like_a_built_in_one_changes_what_it_says() {
    let changed = with("[[rule]]\nname = \"cold-weights\"\naction = \"warn\"\n");
    let rule = changed.rules.iter().find(|rule| rule.name == "cold-weights").unwrap();
    assert_eq!((rule.actions.as_slice(), rule.built_in), (&[Action::Warn][..], false));
    assert_eq!(rule.cooldown, Duration::from_secs(1800));
    assert_eq!(changed.rules.len(), builtin::NAMES.len());
    assert_eq!(changed.rules[0].name, "cold-weights");
}

#[test]
fn restart_means_the_configured_mode_unless_it_names_one() {
    let changed = with(
        "restart.mode = \"sequential\"\n[[schedule]]\nname = \"a\"\ncron = \"0 4 * * *\"\naction = \"restart\"\n\
         [[schedule]]\nname = \"b\"\ncron = \"0 4 * * *\"\naction = { action = \"restart\", mode = \"overlap\" }\n",
    );
    let actions: Vec<Action> = changed.schedules.iter().map(|schedule| schedule.action).collect();
    assert_eq!(actions, [Action::Restart(RestartMode::Sequential), Action::Restart(RestartMode::Overlap)]);
}

#[test]
fn a_known_memory_limit_becomes_the_footprints_budget() {
    let rule = footprint_over_budget(40 << 30, 1 << 30, RestartMode::Auto);
    assert_eq!(rule.when[0].threshold, Threshold::Fixed((42u64 << 30) as f64));
    let limited = with("worker.memory = { memory_limit = \"40GiB\", cache_limit = \"1GiB\" }");
    assert!(limited.rules.contains(&rule));
}

#[test]
fn a_change_says_what_it_takes() {
    let old = with("drain.grace = \"1m\"\n");
    let new = with(
        "drain.grace = \"60s\"\nqueue.max_waiting = 9\nlisten.socket = \"/run/x.sock\"\nworker.env = { A = \"b\" }\n\
         [[rule]]\nname = \"swap-rate\"\ncooldown = \"1h\"\n",
    );
    let change = |key: &str, when| Change { key: key.to_owned(), when };
    assert_eq!(
        diff(&old, &new),
        [
            change("listen.socket", When::NeedsInstall),
            change("worker.env", When::NextWorker),
            change("queue.max_waiting", When::Applied),
            change("rule.swap-rate", When::Applied),
        ]
    );
    let gone =
        with("[[rule]]\nname = \"mine\"\nwhen = [{ metric = \"kv.bytes\", above = \"1GiB\" }]\naction = \"warn\"");
    assert_eq!(diff(&gone, &with("drain.grace = \"2m\"")), [change("rule.mine", When::Applied)]);
}

#[test]
fn sockets_must_fit_the_platform_and_be_reachable() {
    let home = Path::new("/home/ada/.mlxsup");
    assert_eq!(check_home(&config(MINIMAL), home), []);
    let deep = format!("/{}", "d".repeat(longest_socket_path()));
    let mut said = String::new();
    let shared = "listen = { socket = \"/home/ada/.mlxsup/x.sock\", mode = \"0666\", allow_uids = [501] }";
    let long = format!("listen.socket = \"{deep}\"");
    for (config, home) in [
        (config(MINIMAL), Path::new(&deep)),
        (with(shared), home),
        (with(&long), home),
        (with(shared), Path::new("/srv")),
    ] {
        for problem in check_home(&config, home) {
            let _ = writeln!(said, "{problem}");
        }
        said.push_str("----\n");
    }
    let said = said.replace("macOS takes 103", "PLATFORM").replace("Linux takes 107", "PLATFORM");
    if cfg!(target_os = "linux") {
        insta::assert_snapshot!(said);
    }
}

#[test]
fn of_very_many_problems_the_first_hundred_are_shown() {
    let mut text = String::new();
    for index in 0..250 {
        let _ = writeln!(text, "key{index} = 1");
    }
    let problems = parse(&text, Path::new("mlxsup.toml")).unwrap_err();
    assert_eq!((problems.iter().count(), problems.len()), (100, 251));
    assert!(problems.to_string().ends_with("251 problems in mlxsup.toml, the first 100 shown"));
}

#[test]
fn a_problem_fits_one_line_for_logs() {
    let problems = parse("[worker]\nmodel = 5\n", Path::new("mlxsup.toml")).unwrap_err();
    let lines: Vec<String> = problems.iter().map(super::super::Problem::one_line).collect();
    assert_eq!(lines, ["mlxsup.toml:2:9: `model` must be text, not the number 5; put it in quotes"]);
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_problems(text in "\\PC{0,80}") {
        let _ = parse(&text, Path::new("f")).map_err(|problems| problems.to_string());
    }

    /// Damage to a complete file: bytes cut, doubled or replaced, wherever they fall.
    #[test]
    fn damaged_files_never_panic(at in 0usize..2000, cut in 0usize..40, put in "[\\[\\]{}=\"'#\\n.,a-z0-9é]{0,6}") {
        let text = include_str!("../../tests/config/good/night.toml");
        let boundary = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
        let damaged = format!("{}{put}{}", &text[..boundary(at)], &text[boundary(at + cut)..]);
        if let Err(problems) = parse(&damaged, Path::new("f")) {
            prop_assert!(!problems.to_string().is_empty());
        }
    }
}
