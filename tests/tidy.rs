//! The repository's rules as a test: what review would otherwise have to repeat.
//!
//! Each test gathers every breach before it fails, so that one run shows the whole list. What the compiler or clippy
//! can check is left to them.

#![allow(clippy::expect_used, reason = "a test: what cannot happen may panic, also outside test functions")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Hard limit; 100 to 400 is the aim.
const FILE_LINES_MAX: usize = 450;
/// An entry point parses, calls and returns a code.
const MAIN_LINES_MAX: usize = 80;

const CODE_ROOTS: [&str; 5] = ["src", "worker", "tests", "benches", "fuzz"];

/// Names that invite everything and explain nothing.
const VAGUE_NAMES: [&str; 10] =
    ["util", "utils", "helper", "helpers", "common", "misc", "manager", "data", "info", "stuff"];

/// Words that may not occur in the decision core's code: it knows no clock, no I/O, no threads, no chance.
const IMPURE_WORDS: [&str; 26] = [
    "async",
    "await",
    "tokio",
    "hyper",
    "nix",
    "libc",
    "sysinfo",
    "tracing",
    "rand",
    "fs",
    "env",
    "net",
    "process",
    "thread",
    "io",
    "Instant",
    "SystemTime",
    "Local",
    "HashMap",
    "HashSet",
    "RandomState",
    "Mutex",
    "RwLock",
    "OnceLock",
    "RefCell",
    "unsafe",
];
/// Modules the decision core may not reach into: they call it, never the other way round.
const OUTER_MODULES: [&str; 7] = ["daemon", "gateway", "link", "control", "ctl", "service", "telemetry"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` that belongs to the repository, relative to its root, in order.
fn files_below(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(dir)];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let kind = entry.file_type().expect("the file system tells a file's type");
            if kind.is_dir() {
                // Built, or not ours: the rules are about what is committed.
                if !["target", ".git", "corpus", "artifacts", "node_modules"].iter().any(|skip| name == *skip) {
                    waiting.push(entry.path());
                }
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(root()).expect("below the root").to_path_buf());
            }
        }
    }
    found.sort();
    found
}

fn rust_files() -> Vec<PathBuf> {
    let mut files: Vec<_> = CODE_ROOTS.iter().flat_map(|dir| files_below(dir)).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    assert!(files.len() > 20, "found only {} source files: is the walk broken?", files.len());
    files
}

/// The text of a file, or nothing if it is not UTF-8 (an image, a binary fixture).
fn text_of(path: &Path) -> Option<String> {
    String::from_utf8(fs::read(root().join(path)).expect("a listed file can be read")).ok()
}

/// Code lines with their numbers: comments cut off, an inline test module at the end left out.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines.windows(2).position(|two| two[0].trim() == "#[cfg(test)]" && two[1].trim_end().ends_with('{'));
    let end = tests.unwrap_or(lines.len());
    let numbered = lines.into_iter().take(end).enumerate();
    numbered
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// Unit tests in a file or folder of their own, beside the code they test.
fn is_unit_test(path: &Path) -> bool {
    let test_name = |part: &str| part == "tests" || part.ends_with("_tests") || part == "stories";
    !path.starts_with("tests")
        && path.with_extension("").components().any(|part| part.as_os_str().to_str().is_some_and(test_name))
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[track_caller]
fn none_of(breaches: &[String], rule: &str) {
    assert!(breaches.is_empty(), "{rule}:\n  {}", breaches.join("\n  "));
}

#[test]
fn the_decision_core_is_pure() {
    let mut breaches = Vec::new();
    for path in files_below("src/supervisor") {
        if is_unit_test(&path) {
            continue;
        }
        let Some(text) = text_of(&path) else { continue };
        for (number, line) in code_lines(&text) {
            // Text in messages may say "process" or "info".
            let line: String = line.split('"').step_by(2).collect::<Vec<_>>().join(" ");
            for word in words(&line) {
                if IMPURE_WORDS.contains(&word) || word.starts_with("Atomic") {
                    breaches.push(format!("{}:{number}: `{word}`", path.display()));
                }
            }
            for outer in OUTER_MODULES {
                // The view is the shared vocabulary of states and causes: types only.
                if line.replace("crate::control::view", "").contains(&format!("crate::{outer}")) {
                    breaches.push(format!("{}:{number}: reaches into `{outer}`", path.display()));
                }
            }
        }
    }
    none_of(&breaches, "src/supervisor decides and does nothing else; time, facts and randomness arrive in events");
}

#[test]
fn the_worker_api_is_types_only() {
    let mut breaches = Vec::new();
    for path in files_below("worker/api/src") {
        let Some(text) = text_of(&path) else { continue };
        for (number, line) in code_lines(&text) {
            for word in words(line).filter(|word| ["tokio", "hyper", "fs", "net", "thread", "Instant"].contains(word)) {
                breaches.push(format!("{}:{number}: `{word}`", path.display()));
            }
        }
    }
    none_of(&breaches, "worker/api is what both processes agree on: types and serde, no runtime, no I/O");
}

#[test]
fn names_say_what_is_inside() {
    let mut breaches = BTreeSet::new();
    for path in rust_files() {
        for part in path.with_extension("").components() {
            let part = part.as_os_str().to_string_lossy().into_owned();
            let vague = |name: &&&str| part == **name || part.ends_with(&format!("_{name}"));
            if let Some(name) = VAGUE_NAMES.iter().find(vague) {
                breaches.insert(format!("{}: `{name}` names nothing; name the thing instead", path.display()));
            }
        }
    }
    none_of(&breaches.into_iter().collect::<Vec<_>>(), "vague module names");
}

#[test]
fn files_stay_readable_in_one_sitting() {
    let mut breaches = Vec::new();
    for path in rust_files() {
        let Some(text) = text_of(&path) else { continue };
        let entry_point = path.starts_with("src/bin") || path.ends_with("worker/src/main.rs");
        let limit = if entry_point { MAIN_LINES_MAX } else { FILE_LINES_MAX };
        let lines = text.lines().count();
        if lines > limit {
            breaches.push(format!("{}: {lines} lines, limit {limit}; split it by question", path.display()));
        }
    }
    none_of(&breaches, "files too long");
}

#[test]
fn every_module_opens_with_its_purpose() {
    let mut breaches = Vec::new();
    for path in rust_files() {
        // The code beside a unit test has said it.
        if is_unit_test(&path) {
            continue;
        }
        let Some(text) = text_of(&path) else { continue };
        let header = text.lines().next().and_then(|line| line.strip_prefix("//!")).unwrap_or_default();
        if header.trim().len() < 10 {
            breaches.push(path.display().to_string());
        }
    }
    none_of(&breaches, "the first line of a file is `//! ` and says what the file owns");
}

#[test]
fn nothing_is_left_for_later() {
    // Spelled in two halves so that this file keeps its own rules.
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("todo", "!("),
        concat!("#[igno", "re]"),
    ];
    let mut breaches = Vec::new();
    for path in rust_files() {
        let Some(text) = text_of(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            for mark in marks.iter().filter(|mark| line.contains(**mark)) {
                breaches.push(format!("{}:{}: {mark}", path.display(), index + 1));
            }
        }
    }
    none_of(&breaches, "finish it, file an issue, or give the ignored test its reason");
}

#[test]
fn exceptions_give_their_reason() {
    let mut breaches = Vec::new();
    for path in rust_files() {
        let Some(text) = text_of(&path) else { continue };
        for opening in [concat!("#[al", "low("), concat!("#![al", "low("), concat!("#[ex", "pect(")] {
            for (at, _) in text.match_indices(opening) {
                let attribute = text[at..].split(")]").next().unwrap_or_default();
                if !attribute.contains("reason") {
                    let number = text[..at].lines().count() + 1;
                    breaches.push(format!("{}:{number}: {attribute})]", path.display()));
                }
            }
        }
    }
    none_of(&breaches, "a lint is switched off with `reason = \"…\"` or not at all");
}

#[test]
fn no_source_file_is_forgotten() {
    let manifests: String =
        ["Cargo.toml", "worker/Cargo.toml", "worker/api/Cargo.toml", "worker/fit/Cargo.toml", "fuzz/Cargo.toml"]
            .iter()
            .filter_map(|path| text_of_optional(path))
            .collect();
    let path_attributes: String = rust_files()
        .iter()
        .filter_map(|path| text_of(path))
        .flat_map(|text| text.lines().filter(|line| line.contains("#[path")).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let mut breaches = Vec::new();
    for path in rust_files() {
        let stem = path.file_stem().expect("has a name").to_string_lossy().into_owned();
        let dir = path.parent().expect("lies in a folder");
        // Roots that Cargo finds by itself or that a manifest names.
        let is_root = ["lib", "main", "build"].contains(&stem.as_str())
            || ["src/bin", "tests", "benches", "worker/tests", "worker/benches", "worker/api/tests"]
                .iter()
                .any(|auto| dir == Path::new(auto))
            || manifests.contains(&format!("{}\"", path.strip_prefix("worker").unwrap_or(&path).display()))
            || manifests.contains(&format!("{}\"", path.strip_prefix("fuzz").unwrap_or(&path).display()));
        if is_root {
            continue;
        }
        let (name, dir) = match stem.as_str() {
            "mod" => (
                dir.file_name().expect("a module folder").to_string_lossy().into_owned(),
                dir.parent().expect("has a parent"),
            ),
            _ => (stem, dir),
        };
        let mut parents: Vec<PathBuf> = ["mod.rs", "lib.rs", "main.rs"].iter().map(|file| dir.join(file)).collect();
        parents.push(dir.with_extension("rs"));
        // A folder of shared test code is declared by the test files beside it.
        parents.extend(files_below(&dir.to_string_lossy()).into_iter().filter(|file| file.parent() == Some(dir)));
        let declared = |parent: &PathBuf| {
            text_of_optional(&parent.to_string_lossy()).is_some_and(|text| {
                text.lines().any(|line| {
                    line.trim_end().ends_with(&format!("mod {name};")) || line.contains(&format!("\"{name}.rs\"]"))
                })
            })
        };
        // Code shared across trees is declared by its path: `#[path = "../tests/sim/settings.rs"]`.
        let by_path = || path_attributes.contains(&format!("/{}\"]", path.display()));
        if !parents.iter().any(declared) && !by_path() {
            breaches.push(format!("{}: no `mod {name};` compiles it", path.display()));
        }
    }
    none_of(&breaches, "source files that nothing builds");
}

fn text_of_optional(path: &str) -> Option<String> {
    fs::read_to_string(root().join(path)).ok()
}

#[test]
fn the_repository_names_no_machine() {
    // In halves again. Paths of one person's machine, and hosts that belong into that machine's own settings.
    let forbidden = [
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/"),
        concat!("arti", "factory"),
        concat!("index.", "crates.io"),
        concat!("static.", "crates.io"),
        concat!("pypi", ".org"),
        concat!("python", "hosted.org"),
    ];
    let mut breaches = Vec::new();
    for path in files_below(".") {
        // The lock file's sources are Cargo's own words; in a linked worktree .git is a file.
        if path.ends_with("Cargo.lock") || path == Path::new(".git") {
            continue;
        }
        let Some(text) = text_of(&path) else { continue };
        for (index, line) in text.lines().enumerate() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                breaches.push(format!("{}:{}: {word}", path.display(), index + 1));
            }
        }
    }
    none_of(&breaches, "machine paths and registry hosts belong into no committed file");
}

#[test]
fn the_files_everyone_expects_are_there() {
    let expected = [
        "etc/mlxsup.toml",
        "etc/setup/mlx.sh",
        ".ci/run",
        "Makefile",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "LICENSE",
        "deny.toml",
    ];
    let missing: Vec<_> =
        expected.iter().filter(|path| !root().join(path).is_file()).map(|path| (*path).to_owned()).collect();
    none_of(&missing, "missing files");
}

#[test]
fn words_about_the_repository_are_true() {
    let makefile = text_of(Path::new("Makefile")).expect("the Makefile is text");
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, rest)| !name.is_empty() && !rest.starts_with('=') && !name.contains([' ', '\t', '#', '.']))
        .map(|(name, _)| name)
        .collect();
    let mut breaches = Vec::new();
    let mut pages = files_below("docs");
    pages.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"].map(PathBuf::from));
    for page in pages.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let Some(text) = text_of_optional(&page.to_string_lossy()) else { continue };
        for (index, line) in text.lines().enumerate() {
            for quoted in line.split('`').skip(1).step_by(2) {
                let claim = format!("{}:{}: `{quoted}`", page.display(), index + 1);
                if let Some(target) = quoted.strip_prefix("make ").and_then(|rest| rest.split(' ').next()) {
                    if !targets.contains(target) {
                        breaches.push(format!("{claim}: the Makefile has no such target"));
                    }
                } else if CODE_ROOTS.iter().chain(&["etc", ".ci"]).any(|dir| quoted.starts_with(&format!("{dir}/"))) {
                    // Patterns and placeholders are for people.
                    let literal = !quoted.contains(['*', '{', '<', '…', ' ', '$']);
                    if literal && !root().join(quoted.trim_end_matches('/')).exists() {
                        breaches.push(format!("{claim}: no such file"));
                    }
                }
            }
        }
    }
    none_of(&breaches, "documentation that the repository has left behind");
}
