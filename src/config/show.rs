//! The effective configuration, written out as TOML or JSON.
//!
//! Owns the notation. What it writes as TOML, [`super::parse`] reads to the same values, but for masked secrets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::Config;
use super::effective::{Node, tree};

/// All keys as TOML at their effective values. Values of environment variables that look secret are masked.
#[must_use]
pub fn show(config: &Config) -> String {
    show_with(config, &BTreeMap::new())
}

/// The same with comments behind some keys, by their whole names (`worker.slots`, `rule.NAME.when`): what `auto` comes to.
#[must_use]
pub fn show_with(config: &Config, comments: &BTreeMap<&str, String>) -> String {
    let mut out = String::new();
    for (name, node) in tree(config, true) {
        match node {
            Node::Entries(entries) => {
                for (title, entry) in entries {
                    let built_in =
                        config.rules.iter().any(|rule| name == "rule" && rule.built_in && rule.name == title);
                    let note = if built_in { "  # built in" } else { "" };
                    let _ = writeln!(out, "[[{name}]]{note}");
                    write_keys(&mut out, &format!("{name}.{title}"), &entry, comments);
                    out.push('\n');
                }
            }
            Node::Table(items) => write_table(&mut out, &name, &items, comments),
            _ => {}
        }
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The same facts as JSON: sections as objects, `schedule` and `rule` as arrays, what is not set as `null`.
#[must_use]
pub fn to_json(config: &Config) -> Value {
    let mut all = Map::new();
    for (name, node) in tree(config, true) {
        let mut value = json_of(&node);
        if let (true, Value::Array(rules)) = (name == "rule", &mut value) {
            for (value, rule) in rules.iter_mut().zip(&config.rules) {
                value["built_in"] = rule.built_in.into();
            }
        }
        all.insert(name, value);
    }
    all.insert("hash".to_owned(), config.hash.clone().into());
    Value::Object(all)
}

fn json_of(node: &Node) -> Value {
    match node {
        Node::Text(text) => text.clone().into(),
        Node::Whole(number) => (*number).into(),
        Node::Number(number) => json!(number),
        Node::List(items) => items.iter().map(json_of).collect(),
        Node::Table(items) => {
            items.iter().map(|(key, node)| (key.clone(), json_of(node))).collect::<Map<_, _>>().into()
        }
        Node::Entries(entries) => entries.iter().map(|(_, entry)| json_of(&Node::Table(entry.clone()))).collect(),
        Node::Unset => Value::Null,
    }
}

fn write_table(out: &mut String, name: &str, items: &[(String, Node)], comments: &BTreeMap<&str, String>) {
    let (tables, plain): (Vec<_>, Vec<_>) =
        items.iter().cloned().partition(|(key, node)| matches!(node, Node::Table(_)) && key != "env");
    let _ = writeln!(out, "[{name}]");
    write_keys(out, name, &plain, comments);
    out.push('\n');
    for (key, node) in tables {
        if let Node::Table(items) = node {
            write_table(out, &format!("{name}.{key}"), &items, comments);
        }
    }
}

fn write_keys(out: &mut String, table: &str, items: &[(String, Node)], comments: &BTreeMap<&str, String>) {
    for (key, node) in items {
        let _ = match node {
            Node::Unset => writeln!(out, "# {key} is not set"),
            node => match comments.get(format!("{table}.{key}").as_str()) {
                Some(comment) => writeln!(out, "{key} = {}  # {}", inline(node), comment.replace('\n', " ")),
                None => writeln!(out, "{key} = {}", inline(node)),
            },
        };
    }
}

fn inline(node: &Node) -> String {
    match node {
        Node::Text(text) => quoted(text),
        Node::Whole(number) => number.to_string(),
        // Whole numbers without a decimal point: thresholds of counts read better so.
        Node::Number(number) => number.to_string(),
        Node::List(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Node::Table(items) if items.is_empty() => "{}".to_owned(),
        Node::Table(items) => {
            let set = items.iter().filter(|(_, node)| *node != Node::Unset);
            let items: Vec<String> = set.map(|(key, node)| format!("{} = {}", bare(key), inline(node))).collect();
            format!("{{ {} }}", items.join(", "))
        }
        Node::Entries(_) | Node::Unset => "[]".to_owned(),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn bare(key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if plain { key.to_owned() } else { quoted(key) }
}
