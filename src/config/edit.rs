//! Changing single values of a configuration's text: comments, order and everything else stay as they are, but for what
//! `mlxsupctl init` wrote behind a value about `auto`, which goes with that value.
//!
//! Owns how a key's place is found or made. Which values to write is the caller's part, and writes to no file.

use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, RawString, Table, TableLike, Value};

/// How the comments begin that `mlxsupctl init` writes behind keys; the number and its sum follow.
pub const AUTO_IS: &str = "# auto is ";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A value of a table: `worker.memory.wired_limit`.
    Set {
        /// The key, with the tables it lies in.
        key: String,
        /// What it becomes.
        to: Written,
    },
    /// The condition of a rule, which is made where it is missing.
    Rule {
        /// Its name.
        name: String,
        /// What it looks at.
        metric: String,
        /// It acts above this.
        above: String,
        /// It lets go below this.
        clear_below: String,
    },
}

/// A value as a file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// In quotes.
    Text(String),
    /// A number.
    Whole(u64),
}

/// Why a text was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is no TOML.
    #[error("it is no TOML: {0}")]
    Syntax(#[from] toml_edit::TomlError),
    /// The key's place is taken by something else.
    #[error("`{0}` stands there in a form that is not changed here; change it by hand")]
    Shape(String),
}

/// The text with these changes.
///
/// # Errors
/// When the text is no TOML, or a place is taken by something that is no table.
pub fn edit(text: &str, edits: &[Edit]) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse()?;
    for edit in edits {
        match edit {
            Edit::Set { key, to } => set(document.as_table_mut(), key, to)?,
            Edit::Rule { name, metric, above, clear_below } => {
                let mut condition = InlineTable::new();
                for (key, text) in [("metric", metric), ("above", above), ("clear_below", clear_below)] {
                    condition.insert(key, text.as_str().into());
                }
                rule(document.as_table_mut(), name, condition)?;
            }
        }
    }
    Ok(document.to_string())
}

fn set(root: &mut Table, key: &str, to: &Written) -> Result<(), EditError> {
    let shape = || EditError::Shape(key.to_owned());
    let mut parts: Vec<&str> = key.split('.').collect();
    let name = parts.pop().ok_or_else(shape)?;
    let mut table: &mut dyn TableLike = root;
    for part in parts {
        let item = table.entry(part).or_insert_with(|| Item::Table(Table::new()));
        table = item.as_table_like_mut().ok_or_else(shape)?;
    }
    let mut value = match to {
        Written::Text(text) => Value::from(text.as_str()),
        Written::Whole(number) => Value::from(i64::try_from(*number).map_err(|_| shape())?),
    };
    match table.get_mut(name) {
        Some(Item::Value(old)) => {
            // Blanks and the comment behind it.
            *value.decor_mut() = old.decor().clone();
            let behind = old.decor().suffix().and_then(RawString::as_str).unwrap_or_default();
            if is_about_auto(behind) {
                value.decor_mut().set_suffix("");
            }
            *old = value;
        }
        Some(_) => return Err(shape()),
        None => drop(table.insert(name, Item::Value(value))),
    }
    Ok(())
}

/// True for a comment as `init` writes it: `off`, or a number and behind it its sum or its reason. Whoever says something
/// else about `auto` keeps it.
fn is_about_auto(behind: &str) -> bool {
    let Some(told) = behind.trim().strip_prefix(AUTO_IS) else { return false };
    let has_sum =
        told.starts_with(|first: char| first.is_ascii_digit()) && (told.contains(" = ") || told.contains(": "));
    has_sum || told == "off" || told.starts_with("off: ")
}

fn rule(root: &mut Table, name: &str, condition: InlineTable) -> Result<(), EditError> {
    let shape = || EditError::Shape("rule".to_owned());
    let rules = root.entry("rule").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    let rules = rules.as_array_of_tables_mut().ok_or_else(shape)?;
    let mut when = Array::new();
    when.push(Value::InlineTable(condition));
    let at = rules.iter().position(|table| table.get("name").and_then(Item::as_str) == Some(name));
    match at.and_then(|at| rules.get_mut(at)) {
        Some(table) => match table.get_mut("when") {
            Some(Item::Value(old)) => {
                let mut value = Value::Array(when);
                *value.decor_mut() = old.decor().clone();
                *old = value;
            }
            Some(_) => return Err(shape()),
            None => drop(table.insert("when", Item::Value(Value::Array(when)))),
        },
        None => {
            let mut table = Table::new();
            table.insert("name", Item::Value(name.into()));
            table.insert("when", Item::Value(Value::Array(when)));
            rules.push(table);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(key: &str, value: &str) -> Edit {
        Edit::Set { key: key.to_owned(), to: Written::Text(value.to_owned()) }
    }

    #[test]
    fn comments_and_order_stay() {
        let before = "# mine\n[worker] # the one\nslots = 4   # four\nmodel = \"m\"\n\n[worker.memory]\n# pinned\nwired_limit = \"45GiB\" # a guess\n\n[drain]\ngrace = \"90s\"\n";
        let edits = [
            text("worker.memory.wired_limit", "36.25GiB"),
            Edit::Set { key: "worker.slots".to_owned(), to: Written::Whole(8) },
            text("worker.memory.memory_limit", "49GiB"),
        ];
        let expected = "# mine\n[worker] # the one\nslots = 8   # four\nmodel = \"m\"\n\n[worker.memory]\n# pinned\nwired_limit = \"36.25GiB\" # a guess\nmemory_limit = \"49GiB\"\n\n[drain]\ngrace = \"90s\"\n";
        assert_eq!(edit(before, &edits).unwrap(), expected);
    }

    #[test]
    fn only_what_init_wrote_about_auto_goes_with_the_value() {
        let changed = |comment: &str| {
            let before =
                format!("[worker]\n# auto is 8: mine\nslots = 4   {comment}\nmodel = \"m\"  # auto is 2: mine\n");
            let edits = [Edit::Set { key: "worker.slots".to_owned(), to: Written::Whole(8) }];
            let after = edit(&before, &edits).unwrap();
            let line = after.lines().find(|line| line.starts_with("slots")).unwrap().to_owned();
            assert_eq!(after, before.replace(&format!("slots = 4   {comment}"), &line), "nothing else changes");
            line
        };
        for written in [
            "# auto is 8: 8 requests of 60,672 tokens each fit at once",
            "# auto is 167,168 of the model's 262,144: more does not fit",
            "# auto is 34.8 of 51.8 GiB = weights 34.3 + state 0.5",
            "# auto is off: wired memory brought this machine down within 30 days",
            "# auto is off",
        ] {
            assert_eq!(changed(written), "slots = 8", "{written}");
        }
        for own in ["# auto is too much for us", "# auto is official policy", "# four; auto is 8: too many", ""] {
            assert_eq!(changed(own), format!("slots = 8   {own}"));
        }
    }

    #[test]
    fn a_missing_table_is_made_where_it_belongs() {
        let edits = [text("worker.memory.wired_limit", "2GiB")];
        for before in [
            "[worker]\nmodel = \"m\"\n\n[drain]\ngrace = \"90s\"\n",
            "worker.model = \"m\"\n",
            "worker = { model = \"m\" }\n",
        ] {
            let after = edit(before, &edits).unwrap();
            let config = crate::config::parse(&after, std::path::Path::new("x")).unwrap();
            assert_eq!(config.worker.memory.wired_limit, crate::config::WiredLimit::Bytes(2 << 30), "{after}");
            assert_eq!(config.worker.model, "m", "{after}");
        }
        let dotted = edit("[worker]\nmodel = \"m\"\nmemory.cache_limit = \"1GiB\"\n", &edits).unwrap();
        assert!(dotted.contains("memory.wired_limit = \"2GiB\"\n"), "{dotted}");
    }

    #[test]
    fn a_rule_is_changed_or_made() {
        let edits = [Edit::Rule {
            name: "cold-weights".to_owned(),
            metric: "worker.compressed".to_owned(),
            above: "5GiB".to_owned(),
            clear_below: "2560MiB".to_owned(),
        }];
        let made = edit("[worker]\nmodel = \"m\"\n", &edits).unwrap();
        let config = crate::config::parse(&made, std::path::Path::new("x")).unwrap();
        assert!(config.rules.iter().any(|rule| rule.name == "cold-weights" && !rule.built_in), "{made}");
        let again = edit(&made.replace("5GiB", "3GiB"), &edits).unwrap();
        assert_eq!(again, made);
    }

    #[test]
    fn what_is_no_table_is_left_alone() {
        assert!(matches!(edit("worker = 1\n", &[text("worker.model", "m")]), Err(EditError::Shape(_))));
        assert!(matches!(edit("worker = [\n", &[]), Err(EditError::Syntax(_))));
        assert!(matches!(edit("[worker.slots]\na = 1\n", &[text("worker.slots", "m")]), Err(EditError::Shape(_))));
    }

    proptest! {
        #[test]
        fn nothing_asked_changes_nothing(comment in "[ -~]{0,40}", grace in 1u32..1000) {
            let text = format!("# {comment}\n[worker]\nmodel = \"m\" # {comment}\n\n\n[drain]\n  grace = \"{grace}s\"\n#{comment}");
            prop_assert_eq!(edit(&text, &[]).unwrap(), text);
        }
    }
}
