//! Runs the program in a home of its own and renders what it printed as one text, volatile parts replaced by name.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A home for one test. Its path is short, as socket paths have a limit.
pub struct Home {
    folder: TempDir,
}

impl Home {
    pub fn new() -> Self {
        Self { folder: tempfile::Builder::new().prefix("ctl").tempdir_in("/tmp").unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn control_socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    pub fn client_socket(&self) -> PathBuf {
        self.path().join("mlxsup.sock")
    }

    /// The program, hermetic: no variable of the surroundings reaches it, and this home is the one it finds.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mlxsupctl"));
        command.args(arguments).env_clear().env("MLXSUP_HOME", self.path()).env("HOME", self.path()).env("TZ", "UTC");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        self.screen(arguments, &output)
    }

    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        self.finish(arguments, child)
    }

    pub fn finish(&self, arguments: &[&str], child: Child) -> String {
        let output = child.wait_with_output().unwrap();
        self.screen(arguments, &output)
    }

    pub fn screen(&self, arguments: &[&str], output: &Output) -> String {
        let mut text = format!("$ mlxsupctl {}\n", arguments.join(" "));
        text.push_str(&String::from_utf8_lossy(&output.stdout));
        if !output.stderr.is_empty() {
            text.push_str("--- stderr\n");
            text.push_str(&String::from_utf8_lossy(&output.stderr));
        }
        match output.status.code() {
            Some(code) => text.push_str(&format!("--- exit {code}\n")),
            None => text.push_str("--- killed\n"),
        }
        named_filters(&text, self.path())
    }
}

/// `[HOME]` for the home, `[clock]` for times of day with what says which day, `[version]` for the package's version.
fn named_filters(text: &str, home: &Path) -> String {
    let text = text.replace(home.to_str().unwrap(), "[HOME]").replace(env!("CARGO_PKG_VERSION"), "[version]");
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        out.push_str(&clock_filter(line));
    }
    out
}

fn clock_filter(line: &str) -> String {
    let mut out: Vec<char> = Vec::new();
    let chars: Vec<char> = line.chars().collect();
    let shape = |at: usize, pattern: &str| {
        pattern.chars().enumerate().all(|(offset, wanted)| {
            chars
                .get(at + offset)
                .is_some_and(|found| if wanted == '9' { found.is_ascii_digit() } else { *found == wanted })
        })
    };
    let mut at = 0;
    while at < chars.len() {
        let length = if shape(at, "99:99:99") { 8 } else { 5 };
        if !shape(at, "99:99") {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        let before: String = out.iter().collect();
        let day = before.rsplit([' ', '(']).nth(1).unwrap_or("");
        let is_date = day.len() == 10 && day.as_bytes()[4] == b'-';
        if before.ends_with(' ')
            && (is_date || ["tomorrow", "yesterday", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].contains(&day))
        {
            out.truncate(out.len() - day.chars().count() - 1);
        }
        out.extend("[clock]".chars());
        at += length;
    }
    out.into_iter().collect()
}

#[test]
fn filters_replace_only_what_is_volatile() {
    assert_eq!(clock_filter("since tomorrow 04:00, in 5 h (Tue 11:30)"), "since [clock], in 5 h ([clock])");
    assert_eq!(clock_filter("2026-03-05 04:00:01  x 12:1"), "[clock]  x 12:1");
}
