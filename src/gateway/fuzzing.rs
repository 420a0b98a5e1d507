//! Entries for fuzzing what the gateway reads of clients and of its key file; [`crate::fuzzing`] tells more.

use std::path::Path;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::identity;
use super::intake::{Asked, MAX_CHOICES, Wishes};
use super::keys::KeyRing;

/// The first line is the value of each of our headers, the rest a body. What is accepted is a JSON object with facts in
/// range; what is refused is told in a few words.
pub fn intake(bytes: &[u8]) {
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (value, body) = bytes.split_at(line);
    if let Ok(value) = HeaderValue::from_bytes(value) {
        for name in ["x-mlxsup-priority", "x-mlxsup-timeout", "x-mlxsup-client", "x-stainless-read-timeout"] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), value.clone());
            match Wishes::from_headers(&headers) {
                Ok(wishes) => {
                    assert!(wishes.client.is_none_or(|client| identity::is_well_formed(&client)));
                }
                Err(refusal) => assert!((1..400).contains(&refusal.message.len()), "{}", refusal.message),
            }
        }
    }
    match Asked::from_body(body) {
        Ok(asked) => {
            assert!((1..=MAX_CHOICES).contains(&asked.choices));
            assert!(serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok(), "this is no JSON");
            assert!(body.trim_ascii_start().starts_with(b"{"), "this is no object");
        }
        Err(refusal) => assert!((1..1000).contains(&refusal.message.len()), "{}", refusal.message),
    }
}

/// The key file. Every problem is told; what is accepted knows only whole keys.
pub fn keys(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match KeyRing::parse(&text, Path::new("api.key")) {
        Ok(ring) => {
            let keys: Vec<&str> = text
                .lines()
                .filter_map(|line| line.split_whitespace().take_while(|word| !word.starts_with('#')).nth(1))
                .collect();
            assert_eq!(keys.len(), ring.len());
            for key in keys {
                assert!(ring.find(key.as_bytes()).is_some_and(|principal| identity::is_well_formed(&principal.name)));
                assert!(ring.find(&key.as_bytes()[..key.len() - 1]).is_none_or(|other| {
                    // Another key may be this one's beginning.
                    ring.find(key.as_bytes()) != Some(other)
                }));
            }
            assert!(ring.find(b"").is_none());
        }
        Err(faults) => assert!(!faults.is_empty()),
    }
}
