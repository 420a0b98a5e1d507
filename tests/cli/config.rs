//! `config check|show`: files good, bad and missing, judged without a daemon.

use insta::assert_snapshot;

use super::screen::Home;

const GOOD: &str = "[worker]\nmodel = \"/models/tiny\"\n\n[drain]\ngrace = \"90s\"\n";
const BAD: &str = "[worker]\nmodel = \"/models/tiny\"\nslotz = 4\n\n[drain]\ngrace = 5\n";

fn home_with(text: &str) -> Home {
    let home = Home::new();
    std::fs::write(home.path().join("mlxsup.toml"), text).unwrap();
    home
}

#[test]
fn a_good_file() {
    assert_snapshot!(home_with(GOOD).run(&["config", "check"]));
}

#[test]
fn a_good_file_as_json() {
    assert_snapshot!(home_with(GOOD).run(&["config", "check", "--json"]));
}

#[test]
fn every_problem_of_a_bad_file() {
    assert_snapshot!(home_with(BAD).run(&["config", "check"]));
}

#[test]
fn every_problem_as_json() {
    assert_snapshot!(home_with(BAD).run(&["config", "check", "--json"]));
}

#[test]
fn a_file_somewhere_else() {
    let home = home_with(BAD);
    let other = home.path().join("other.toml");
    std::fs::write(&other, GOOD).unwrap();
    assert_snapshot!(home.run(&["config", "check", other.to_str().unwrap()]));
}

#[test]
fn no_file() {
    assert_snapshot!(Home::new().run(&["config", "check"]));
}

#[test]
fn shown_with_every_default() {
    // The defaults are the configuration's own to test.
    let screen = home_with(GOOD).run(&["config", "show"]);
    for line in ["model = \"/models/tiny\"", "grace = \"90s\"", "[queue]", "--- exit 0"] {
        assert!(screen.lines().any(|shown| shown == line), "{line}: {screen}");
    }
}

#[test]
fn shown_as_json() {
    let screen = home_with(GOOD).run(&["config", "show", "--json"]);
    assert!(screen.contains("\"grace\": \"90s\"") && screen.ends_with("}\n--- exit 0\n"), "{screen}");
}

#[test]
fn a_home_too_long_for_sockets() {
    let home = Home::new();
    let long = home.path().join("x".repeat(110));
    std::fs::create_dir(&long).unwrap();
    std::fs::write(long.join("mlxsup.toml"), GOOD).unwrap();
    let screen = home.run(&["--home", long.to_str().unwrap(), "config", "check"]);
    assert!(screen.contains("choose a shorter home") && screen.ends_with("--- exit 2\n"), "{screen}");
}

#[test]
fn a_bad_file_cannot_be_shown() {
    assert_snapshot!(home_with(BAD).run(&["config", "show"]));
}

#[cfg(feature = "fake-worker")]
#[test]
fn what_auto_comes_to_is_a_comment() {
    let shop = super::hub::Shop::stocked();
    shop.configure("[worker]\nmodel = \"mlx-community/Llama-3.2-3B-8bit\"\ncontext = 4096\n");
    let screen = shop.run(&["config", "show"]);
    let worker: Vec<&str> = screen.lines().filter(|line| line.contains("  # ") && !line.contains("built in")).collect();
    assert_snapshot!(worker.join("\n"));
    // It is still a configuration, and the same one.
    let text = screen.split_once('\n').unwrap().1.split("--- exit").next().unwrap().to_owned();
    let read = mlxsup::config::parse(&text, std::path::Path::new("shown")).unwrap();
    assert_eq!((read.worker.slots, read.worker.context), (None, Some(4096)));
    let document = shop.json(&["config", "show", "--json"]);
    assert_eq!(document["worker"]["slots"], "auto");
    assert_eq!(document["resolved"]["budget"]["slots"], 8);
    let terms = document["resolved"]["footprint_over_budget"]["terms"].as_array().unwrap();
    assert_eq!(terms.len(), 3, "{document}");
}

#[cfg(feature = "fake-worker")]
#[test]
fn the_rule_on_the_footprint_says_what_it_will_act_on() {
    let shop = super::hub::Shop::stocked();
    let shown = |text: &str| {
        shop.configure(text);
        let screen = shop.run(&["config", "show"]);
        let line = screen.lines().find(|line| line.contains("worker.footprint")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{screen}"))
    };
    let model = "[worker]\nmodel = \"mlx-community/Llama-3.2-3B-8bit\"\n";
    assert_snapshot!(shown(model));
    assert_snapshot!(shown("[worker]\nmodel = \"some/absent\"\n"));
    // A limit that is set, or a rule of one's own, says itself what it comes to.
    let set = shown(&format!("{model}memory.memory_limit = \"40GiB\"\n"));
    assert!(!set.contains('#') && set.contains("above = \"42496MiB\""), "{set}");
    let own =
        "[[rule]]\nname = \"footprint-over-budget\"\nwhen = [{ metric = \"worker.footprint\", above = \"30GiB\" }]\n";
    assert!(!shown(&format!("{model}{own}")).contains('#'));
}
