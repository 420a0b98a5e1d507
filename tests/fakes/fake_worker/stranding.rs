//! Memory that a hard kill leaves wired: a ledger shared by all workers of a machine that does not exist.
//!
//! The file is one JSON object with `total`, `available` and `wired` in bytes; a daemon built for tests takes its machine
//! memory from it. A worker enters its bytes when its model is resident and takes them out on an orderly end, so that any
//! other death leaves them there. What the file does not say starts at 0.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde_json::{Map, Value};

/// This worker's entry in the ledger.
#[derive(Debug)]
pub struct Stranding {
    ledger: Option<PathBuf>,
    bytes: u64,
}

impl Stranding {
    /// Nothing is entered yet.
    pub fn of(bytes: u64) -> Self {
        Self { ledger: std::env::var_os("MLXSUP_FAKE_MEMORY").map(PathBuf::from), bytes }
    }

    /// The model is resident.
    pub fn enter(&self) -> Result<(), String> {
        self.change(|wired| wired.saturating_add(self.bytes), |available| available.saturating_sub(self.bytes))
    }

    /// An orderly end: the memory comes back.
    pub fn take_out(&self) -> Result<(), String> {
        self.change(|wired| wired.saturating_sub(self.bytes), |available| available.saturating_add(self.bytes))
    }

    fn change(&self, wired: impl Fn(u64) -> u64, available: impl Fn(u64) -> u64) -> Result<(), String> {
        let Some(ledger) = self.ledger.as_ref().filter(|_| self.bytes > 0) else { return Ok(()) };
        let told = |why: &dyn std::fmt::Display| format!("{}: {why}", ledger.display());
        let lock = File::create(ledger.with_extension("lock")).map_err(|why| told(&why))?;
        let _held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, why)| told(&why))?;
        let mut numbers = read(ledger).map_err(|why| told(&why))?;
        let number = |numbers: &Map<String, Value>, key: &str| numbers.get(key).and_then(Value::as_u64).unwrap_or(0);
        let (now_wired, now_available) = (number(&numbers, "wired"), number(&numbers, "available"));
        numbers.insert("wired".to_owned(), wired(now_wired).into());
        if numbers.contains_key("available") {
            numbers.insert("available".to_owned(), available(now_available).into());
        }
        // Readers must never see half of it.
        let fresh = ledger.with_extension(format!("new-{}", std::process::id()));
        std::fs::write(&fresh, Value::Object(numbers).to_string()).map_err(|why| told(&why))?;
        std::fs::rename(&fresh, ledger).map_err(|why| told(&why))
    }
}

fn read(ledger: &Path) -> Result<Map<String, Value>, String> {
    match std::fs::read_to_string(ledger) {
        Ok(text) => serde_json::from_str(&text).map_err(|why| why.to_string()),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(why) => Err(why.to_string()),
    }
}
