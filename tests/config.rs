//! The configuration as people write it: files that must be read, files that must be refused with words that help.
//!
//! Each file under `tests/config/bad` has its expected diagnostics beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot read its files has failed")]

use std::path::{Path, PathBuf};

use mlxsup::config::{self, Config, LoadError};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All TOML files of a folder with their names and texts, sorted.
fn files(name: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<(String, String)> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {name}");
    files
}

fn parse(text: &str) -> Config {
    config::parse(text, Path::new("mlxsup.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

fn beside(folder_name: &str, check: impl FnOnce()) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder(folder_name));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(check);
}

#[test]
fn bad_files_are_refused_with_all_their_problems() {
    for (name, text) in files("tests/config/bad") {
        let problems = config::parse(&text, Path::new("mlxsup.toml")).expect_err(&name);
        let places: Vec<_> = problems.iter().map(|problem| (problem.line, problem.column)).collect();
        assert!(places.is_sorted(), "{name}: {places:?}");
        beside("tests/config/bad", || insta::assert_snapshot!(name, problems));
    }
}

#[test]
fn good_files_are_read_and_what_is_shown_reads_back_to_the_same() {
    for (name, text) in files("tests/config/good") {
        // Whoever runs the test has a home of their own.
        let text = text.replace("~/", "/home/ada/");
        let read = parse(&text);
        let shown = config::show(&read);
        let again = config::parse(&shown, Path::new("shown.toml"))
            .unwrap_or_else(|problems| panic!("{name}: {problems}\n{shown}"));
        let mut unmasked = again.clone();
        unmasked.worker.env.clone_from(&read.worker.env);
        assert_eq!(config::diff(&read, &unmasked), [], "{name}");
        assert!(!shown.contains("hf_secret") && !config::to_json(&read).to_string().contains("hf_secret"), "{name}");
        beside("tests/config/good", || insta::assert_snapshot!(name, shown));
    }
}

#[test]
fn the_example_file_is_every_key_at_its_default() {
    let text = std::fs::read_to_string(folder("etc/mlxsup.toml")).unwrap();
    let example = config::load(&folder("etc/mlxsup.toml")).unwrap_or_else(|error| panic!("{error}"));
    let minimal = parse(&format!("[worker]\nmodel = {:?}\n", example.worker.model));
    assert_eq!(config::diff(&minimal, &example), []);
    for key in config::known_keys().keys() {
        let name = key.rsplit('.').next().unwrap();
        assert!(text.contains(&format!("{name} = ")), "etc/mlxsup.toml does not show {key}");
    }
}

/// Commented lines that are keys or headers, as against words: `# key = …`, `# [[rule]]`.
fn uncommented(text: &str) -> String {
    let lines = text.lines().map(|line| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with(['[', ']']) || rest.starts_with("  {") => rest,
        Some(rest) => match rest.split_once(" = ") {
            Some((key, _)) if key.chars().all(|letter| letter.is_ascii_lowercase() || letter == '_') => rest,
            Some(_) | None => line,
        },
        None => line,
    });
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_examples_in_the_example_file_are_valid_too() {
    let text = uncommented(&std::fs::read_to_string(folder("etc/mlxsup.toml")).unwrap());
    // Keys of the other engines are shown beside each other and cannot stand together.
    let problems = config::parse(&text, Path::new("mlxsup.toml")).expect_err("keys of three engines");
    let keys: Vec<&str> =
        problems.iter().map(|problem| problem.key.as_deref().unwrap_or_else(|| panic!("{problem}"))).collect();
    assert_eq!(keys, ["worker.python", "worker.upstream", "worker.health_path", "worker.ready_path"], "{problems}");
}

#[test]
fn a_missing_file_says_how_to_make_one() {
    let error = config::load(Path::new("/nowhere/mlxsup.toml")).unwrap_err();
    assert!(matches!(error, LoadError::Missing { .. }));
    insta::assert_snapshot!(error, @r#"
    there is no configuration at /nowhere/mlxsup.toml; write these two lines into it, with your own model:

    [worker]
    model = "mlx-community/Qwen3-30B-A3B-8bit"
    "#);
    parse(config::MINIMAL);
}

#[test]
fn what_is_no_text_or_no_file_is_said_so() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("mlxsup.toml");
    std::fs::write(&file, b"[worker]\nmodel = \"\xff\"\n").unwrap();
    assert!(matches!(config::load(&file), Err(LoadError::NotText { at: 18, .. })));
    std::fs::write(&file, vec![b'#'; 5 << 20]).unwrap();
    assert!(matches!(config::load(&file), Err(LoadError::TooLarge { .. })));
    assert!(matches!(config::load(home.path()), Err(LoadError::Unreadable { .. })));
}

/// Collects the paths of all keys a JSON schema names, in the form of `known_keys`.
fn schema_keys(root: &serde_json::Value, schema: &serde_json::Value, path: &str, keys: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}")),
        None => schema,
    };
    let inner = ["oneOf", "anyOf"].iter().filter_map(|word| schema[word].as_array()).flatten();
    for schema in inner.chain(schema.get("items")) {
        schema_keys(root, schema, path, keys);
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        assert!(schema.get("$ref").is_some() || schema.get("description").is_some(), "{path} has no description");
        keys.push(path.clone());
        schema_keys(root, schema, &path, keys);
    }
}

#[test]
fn the_schema_has_the_keys_of_the_parser() {
    let text = std::fs::read_to_string(folder("etc/mlxsup.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut keys = Vec::new();
    schema_keys(&schema, &schema, "", &mut keys);
    let known = config::known_keys();
    // Tables are implied by their keys.
    keys.retain(|key| {
        known.contains_key(key.as_str()) || !known.keys().any(|known| known.starts_with(&format!("{key}.")))
    });
    keys.sort();
    keys.dedup();
    assert_eq!(keys, known.keys().map(|key| (*key).to_owned()).collect::<Vec<_>>());
}
