//! What differs between two configurations, and what it takes for a change to work.
//!
//! Owns the comparison, key by key. Whether a worker is running is the daemon's affair.

use std::collections::BTreeMap;

use super::Config;
use super::effective::{Node, tree};
use super::keys::{self, When};

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key, for example `drain.grace`; `schedule.NAME` and `rule.NAME` for a whole entry.
    pub key: String,
    /// When it takes effect.
    pub when: When,
}

/// The keys whose effective values differ, in the order of the sections. Where a key stands, and comments, do not count.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let (old, new) = (flat(old), flat(new));
    let mut keys: Vec<&String> = new.iter().map(|(key, _)| key).collect();
    keys.extend(old.iter().map(|(key, _)| key).filter(|key| !new.iter().any(|(other, _)| other == *key)));
    let (old, new): (BTreeMap<_, _>, BTreeMap<_, _>) =
        (old.iter().map(|(key, node)| (key, node)).collect(), new.iter().map(|(key, node)| (key, node)).collect());
    let differs = |key: &&&String| old.get(**key) != new.get(**key);
    keys.iter().filter(differs).map(|key| Change { key: (*key).clone(), when: keys::when(key) }).collect()
}

/// Every key with its effective value; entries of lists by their names.
fn flat(config: &Config) -> Vec<(String, Node)> {
    let mut all = Vec::new();
    for (key, node) in tree(config, false) {
        flatten(key, node, &mut all);
    }
    all
}

fn flatten(key: String, node: Node, all: &mut Vec<(String, Node)>) {
    match node {
        // An environment is compared as a whole: it takes effect as a whole.
        Node::Table(items) if key != "worker.env" => {
            for (name, item) in items {
                flatten(format!("{key}.{name}"), item, all);
            }
        }
        Node::Entries(entries) => {
            all.extend(entries.into_iter().map(|(name, entry)| (format!("{key}.{name}"), Node::Table(entry))));
        }
        node => all.push((key, node)),
    }
}
