//! The search for keys nobody reads, and the names tables have in messages.
//!
//! Owns the walk; which keys exist is [`super::keys`]' part.

use toml::de::{DeTable, DeValue};

use super::keys;
use super::report::Report;

/// Reports every key the list of keys does not have.
pub(super) fn report_unknown_keys(report: &Report, path: &str, table: &DeTable<'_>) {
    for (key, value) in table {
        let name = key.get_ref();
        let full = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        if !keys::is_known(&full) {
            let what = match path {
                "" if matches!(value.get_ref(), DeValue::Table(_)) => format!("there is no section `{name}`"),
                "" => format!("unknown key `{name}`"),
                path => format!("unknown key `{name}` in {}", table_name(path)),
            };
            report.fail_at(Some(&full), key.span(), what, Some(keys::suggestion(path, name)));
            continue;
        }
        if !keys::contains_keys(&full) {
            continue;
        }
        match value.get_ref() {
            DeValue::Table(table) => report_unknown_keys(report, &full, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let DeValue::Table(table) = item.get_ref() {
                        report_unknown_keys(report, &format!("{full}[{index}]"), table);
                    }
                }
            }
            _ => {}
        }
    }
}

/// How a message names a table: `[queue]`, `[[rule]]`, `this condition`.
pub(super) fn table_name(path: &str) -> String {
    let (list, inside) = match path.split_once('[') {
        None => return format!("[{path}]"),
        Some((list, rest)) => (list, rest.split_once('.').map(|(_, inside)| inside)),
    };
    match inside {
        None => format!("[[{list}]]"),
        Some(inside) if inside.ends_with(".above") || inside.ends_with(".below") => "this percentile".to_owned(),
        Some(inside) if inside.starts_with("when") => "this condition".to_owned(),
        Some(_) => "this table".to_owned(),
    }
}
