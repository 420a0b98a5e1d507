//! What must not leave the machine is taken out of a text: keys, names of people and machines, home folders, addresses.
//!
//! Pure. Two ways, one after the other: what is known to be private here is looked for as it is, then everything that looks
//! like a key, an address or somebody's folder. Once a part is replaced it is never looked at again, so that no replacement
//! makes or hides another.

use std::net::IpAddr;

use serde_json::Value;

/// What is known to be private on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Private {
    /// Keys and other secrets, replaced wherever they stand.
    pub secrets: Vec<String>,
    /// The home of the daemon, by all its paths.
    pub homes: Vec<String>,
    /// The home folder of the person, by all its paths.
    pub user_homes: Vec<String>,
    /// Names of this machine.
    pub hosts: Vec<String>,
    /// Names of the person and of the daemon's account.
    pub users: Vec<String>,
}

/// Shorter ones would take ordinary words apart.
const SECRET_MIN: usize = 6;

/// Names that say nothing about anybody.
const NOBODY: [&str; 5] = ["root", "mlxsup", "localhost", "daemon", "nobody"];

/// Beginnings by which keys of well-known services are told.
const KEY_STARTS: [&str; 7] = ["sk-", "hf_", "ghp_", "gho_", "github_pat_", "xoxb-", "AKIA"];

/// So many hexadecimal digits in a row are a key or a digest.
const HEX_MIN: usize = 32;

/// A stretch of text.
enum Piece<'t> {
    /// Not replaced so far.
    Open(&'t str),
    /// What stands there now.
    Closed(&'static str),
}

/// The text without anything private.
#[must_use]
pub fn redact(text: &str, private: &Private) -> String {
    let mut pieces = vec![Piece::Open(text)];
    let escaped = |secret: &String| [secret.clone(), secret.escape_default().to_string()];
    let secrets: Vec<String> =
        private.secrets.iter().filter(|secret| secret.len() >= SECRET_MIN).flat_map(escaped).collect();
    replace_all(&mut pieces, &secrets, "[secret]", false);
    replace_all(&mut pieces, &folders(&private.homes), "[home]", false);
    replace_all(&mut pieces, &folders(&private.user_homes), "~", false);
    replace_all(&mut pieces, &names(&private.hosts), "[host]", true);
    replace_all(&mut pieces, &names(&private.users), "[user]", true);
    let mut out = String::with_capacity(text.len());
    for piece in pieces {
        match piece {
            Piece::Open(text) => mask(text, &mut out),
            Piece::Closed(name) => out.push_str(name),
        }
    }
    out
}

/// The same for every text of a document, so that no escaping hides anything.
pub fn redact_value(value: &mut Value, private: &Private) {
    match value {
        Value::String(text) => *text = redact(text, private),
        Value::Array(items) => items.iter_mut().for_each(|item| redact_value(item, private)),
        Value::Object(members) => members.values_mut().for_each(|member| redact_value(member, private)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// `/` is nobody's home.
fn folders(paths: &[String]) -> Vec<String> {
    paths.iter().map(|path| path.trim_end_matches('/').to_owned()).filter(|path| path.len() > 1).collect()
}

fn names(names: &[String]) -> Vec<String> {
    names.iter().filter(|name| name.len() > 1 && !NOBODY.contains(&name.as_str())).cloned().collect()
}

/// Longest first, so that nothing is left of a long one because a short one is part of it.
fn replace_all(pieces: &mut Vec<Piece<'_>>, needles: &[String], by: &'static str, whole_words: bool) {
    let mut needles: Vec<&String> = needles.iter().filter(|needle| !needle.is_empty()).collect();
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
    needles.dedup();
    for needle in needles {
        let mut next = Vec::with_capacity(pieces.len());
        for piece in pieces.drain(..) {
            match piece {
                Piece::Open(text) => split(text, needle, by, whole_words, &mut next),
                closed @ Piece::Closed(_) => next.push(closed),
            }
        }
        *pieces = next;
    }
}

fn split<'t>(text: &'t str, needle: &str, by: &'static str, whole_words: bool, out: &mut Vec<Piece<'t>>) {
    let is_letter = |letter: Option<char>| letter.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    let mut from = 0;
    let mut open = 0;
    while let Some(at) = text[from..].find(needle).map(|at| from + at) {
        let end = at + needle.len();
        let inside =
            whole_words && (is_letter(text[..at].chars().next_back()) || is_letter(text[end..].chars().next()));
        if inside {
            // On to the next character: the same name may begin inside this one.
            from = at + text[at..].chars().next().map_or(1, char::len_utf8);
            continue;
        }
        out.push(Piece::Open(&text[open..at]));
        out.push(Piece::Closed(by));
        (from, open) = (end, end);
    }
    out.push(Piece::Open(&text[open..]));
}

/// Copies a text word by word, masking words that look private.
fn mask(text: &str, out: &mut String) {
    let in_word = |letter: char| letter.is_alphanumeric() || "._:@+%-".contains(letter);
    let mut rest = text;
    let mut after_bearer = false;
    while let Some(first) = rest.chars().next() {
        if !in_word(first) {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let end = rest.find(|letter| !in_word(letter)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let in_homes = out.ends_with("/Users/") || out.ends_with("/home/");
        if after_bearer {
            out.push_str("[secret]");
        } else if in_homes && !NOBODY.contains(&word) && word != "Shared" {
            out.push_str("[user]");
        } else {
            mask_word(word, out);
        }
        after_bearer = word.eq_ignore_ascii_case("bearer");
        rest = after;
    }
}

fn mask_word(word: &str, out: &mut String) {
    let bare = word.trim_end_matches(['.', ':']);
    if bare.matches(':').count() > 1 && is_foreign(bare) {
        out.push_str("[address]");
        out.push_str(&word[bare.len()..]);
        return;
    }
    for (index, part) in word.split(':').enumerate() {
        if index > 0 {
            out.push(':');
        }
        let bare = part.trim_end_matches('.');
        let masked = if is_foreign(bare) {
            "[address]"
        } else if KEY_STARTS.iter().any(|start| bare.starts_with(start)) && bare.len() > 12 {
            "[secret]"
        } else if bare.len() >= HEX_MIN && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            "[digest]"
        } else if bare.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.')) {
            "[mail]"
        } else {
            out.push_str(part);
            continue;
        };
        out.push_str(masked);
        out.push_str(&part[bare.len()..]);
    }
}

/// An address that says where somebody is.
fn is_foreign(word: &str) -> bool {
    word.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback() && !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn private() -> Private {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Private {
            secrets: list(&["abcdef0123456789", "p\"w\\d!xyz"]),
            homes: list(&["/Users/ann/.mlxsup"]),
            user_homes: list(&["/Users/ann", "/"]),
            hosts: list(&["anns-mbp.local", "anns-mbp"]),
            users: list(&["ann", "root"]),
        }
    }

    #[test]
    fn what_is_known_is_replaced_by_what_it_is() {
        let told = |text: &str| redact(text, &private());
        assert_eq!(told("home=/Users/ann/.mlxsup/logs /Users/ann/x"), "home=[home]/logs ~/x");
        assert_eq!(told("ann on anns-mbp.local, not annual or joann"), "[user] on [host], not annual or joann");
        assert_eq!(told("key abcdef0123456789abc, p\"w\\d!xyz"), "key [secret]abc, [secret]");
        assert_eq!(told("escaped: p\\\"w\\\\d!xyz"), "escaped: [secret]");
        assert_eq!(told("run by root in / and /etc"), "run by root in / and /etc");
    }

    #[test]
    fn what_looks_private_is_masked_too() {
        let told = |text: &str| redact(text, &Private::default());
        assert_eq!(told("/Users/bob/x /home/carol"), "/Users/[user]/x /home/[user]");
        assert_eq!(
            told("tcp:192.168.1.17, 10.0.0.1:80. 127.0.0.1:11535"),
            "tcp:[address], [address]:80. 127.0.0.1:11535"
        );
        assert_eq!(told("fe80::1 ::1 12:34:56 0.32.2"), "[address] ::1 12:34:56 0.32.2");
        assert_eq!(told("Authorization: Bearer whatever-it-is"), "Authorization: Bearer [secret]");
        assert_eq!(told("token hf_abcdefghijklmnop"), "token [secret]");
        assert_eq!(told("hash 3f9a1c0de1b24f77"), "hash 3f9a1c0de1b24f77");
        assert_eq!(told(&format!("rev {}", "0a".repeat(20))), "rev [digest]");
        assert_eq!(told("mail ann@example.org, mlx@3"), "mail [mail], mlx@3");
    }

    #[test]
    fn documents_are_redacted_inside() {
        let mut value = serde_json::json!({ "a": ["/Users/ann", 7], "b": { "c": "p\"w\\d!xyz" } });
        redact_value(&mut value, &private());
        assert_eq!(value, serde_json::json!({ "a": ["~", 7], "b": { "c": "[secret]" } }));
    }

    /// True when a name stands there as a word of its own.
    fn has_word(text: &str, name: &str) -> bool {
        text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name)
    }

    proptest! {
        #[test]
        fn nothing_private_remains(
            noise in proptest::collection::vec("[ -~äß\n]{0,12}", 1..8),
            key in "[A-Za-z0-9+/=_-]{16,40}",
            user in "[a-z][a-z0-9]{2,8}",
            host in "[a-z][a-z0-9-]{3,9}[a-z]",
            order in proptest::collection::vec(0usize..5, 1..12),
        ) {
            // The words that stand for something may not be names themselves.
            prop_assume!(!["user", "host", "home", "secret", "digest", "address", "mail", "users", "mlxsup"].contains(&user.as_str()));
            prop_assume!(user != host);
            let folder = format!("/Users/{user}");
            let private = Private {
                secrets: vec![key.clone()],
                homes: vec![format!("{folder}/.mlxsup")],
                user_homes: vec![folder.clone()],
                hosts: vec![host.clone(), format!("{host}.local")],
                users: vec![user.clone()],
            };
            let parts = [key.clone(), user.clone(), format!("{host}.local"), format!("{folder}/.mlxsup/x"), folder.clone()];
            let mut text = String::new();
            for (index, which) in order.iter().enumerate() {
                text.push_str(&noise[index % noise.len()]);
                text.push_str(&parts[*which]);
            }
            let told = redact(&text, &private);
            prop_assert!(!told.contains(&key), "key in {told:?}");
            prop_assert!(!told.contains(&folder), "home in {told:?}");
            prop_assert!(!has_word(&told, &user), "user in {told:?}");
            prop_assert!(NOBODY.contains(&host.as_str()) || !told.contains(&format!(" {host} ")), "host in {told:?}");
            prop_assert_eq!(redact(&told, &private), told, "once is enough");
        }
    }
}
