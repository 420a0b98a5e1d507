//! Random identities: of requests, of answers, and the seed of a request that brings none.
//!
//! Unpredictable where the system provides it; never a reason for a request to fail.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

/// Numbers asked of the system at once: a request needs three, and each would be a system call of its own.
const STORED: usize = 64;

thread_local! {
    static STORE: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

/// 128 random bits.
pub(super) fn random() -> u128 {
    let stored = STORE.with_borrow_mut(|store| {
        if store.is_empty() {
            let mut fresh = [[0; 16]; STORED];
            getrandom::fill(fresh.as_flattened_mut()).ok()?;
            store.extend_from_slice(&fresh);
        }
        // Taken out, so that nothing is given twice.
        store.pop()
    });
    if let Some(bytes) = stored {
        return u128::from_ne_bytes(bytes);
    }
    // Unique is what matters here; the standard library keeps per-process keys for its hash maps.
    (u128::from(RandomState::new().hash_one(1u8)) << 64) | u128::from(RandomState::new().hash_one(2u8))
}

/// Thirty-two hexadecimal digits.
pub(super) fn random_hex() -> String {
    format!("{:032x}", random())
}

/// True for `[A-Za-z0-9._-]{1,64}`.
pub(super) fn is_well_formed(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_name_byte)
}

/// A client's name made safe for logs and labels; `None` when nothing is left of it.
pub(super) fn client_name(text: &str) -> Option<String> {
    let name: String = text
        .trim()
        .chars()
        .take(MAX_NAME)
        .map(|c| if c.is_ascii() && is_name_byte(c as u8) { c } else { '_' })
        .collect();
    (!name.is_empty()).then_some(name)
}

const MAX_NAME: usize = 64;

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_are_well_formed_and_differ() {
        let (one, two) = (random_hex(), random_hex());
        assert!(is_well_formed(&one) && one.len() == 32);
        assert_ne!(one, two);
    }

    #[test]
    fn client_names_lose_what_logs_cannot_bear() {
        assert_eq!(client_name("agent-7"), Some("agent-7".into()));
        assert_eq!(client_name("a b\"=ü"), Some("a_b___".into()));
        assert_eq!(client_name("  "), None);
        assert_eq!(client_name(&"x".repeat(80)).map(|name| name.len()), Some(64));
    }
}
