//! Help, wrong arguments, completions.

use insta::assert_snapshot;

use super::screen::Home;

#[test]
fn help() {
    assert_snapshot!(Home::new().run(&["--help"]));
}

#[test]
fn help_of_a_verb() {
    assert_snapshot!(Home::new().run(&["restart", "--help"]));
}

#[test]
fn help_of_upgrade() {
    assert_snapshot!(Home::new().run(&["upgrade", "--help"]));
}

#[test]
fn help_of_top() {
    assert_snapshot!(Home::new().run(&["top", "--help"]));
}

#[cfg(feature = "top")]
#[test]
fn top_without_a_terminal() {
    assert_snapshot!(Home::new().run(&["top"]));
}

#[cfg(not(feature = "top"))]
#[test]
fn top_where_it_was_left_out() {
    assert_snapshot!(Home::new().run(&["top"]));
}

#[test]
fn top_too_often() {
    assert_snapshot!(Home::new().run(&["top", "--interval", "50ms"]));
}

#[test]
fn help_of_chat() {
    assert_snapshot!(Home::new().run(&["chat", "--help"]));
}

#[test]
fn no_verb() {
    let screen = Home::new().run(&[]);
    assert!(screen.ends_with("--- exit 2\n"), "{screen}");
}

#[test]
fn a_misspelt_verb() {
    assert_snapshot!(Home::new().run(&["statsu"]));
}

#[test]
fn a_duration_without_a_unit() {
    assert_snapshot!(Home::new().run(&["drain", "--deadline", "90"]));
}

#[test]
fn version() {
    assert_snapshot!(Home::new().run(&["--version"]));
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish"] {
        let screen = Home::new().run(&["completions", shell]);
        for verb in ["init", "status", "top", "drain", "clear-cache", "tune", "models", "completions"] {
            assert!(screen.contains(verb), "{shell} {verb}");
        }
        assert!(screen.ends_with("--- exit 0\n"));
    }
}
