//! What a caller may change, by `BENCH_…` variables.

use std::time::Duration;

/// How long and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Rounds over all contenders.
    pub rounds: usize,
    /// Of one measurement.
    pub time: Duration,
    /// Clients that wait at once in the queue part; 0 leaves it out.
    pub queued: usize,
    /// After these have left.
    pub rest: Duration,
    /// Columns wanted, empty for all.
    pub only: Vec<String>,
    /// Loads wanted, empty for all.
    pub loads: Vec<String>,
}

impl Settings {
    /// From the environment.
    pub fn read() -> std::io::Result<Self> {
        Ok(Self {
            rounds: number("BENCH_ROUNDS", 7)?,
            time: Duration::from_millis(number("BENCH_MS", 2000)?),
            queued: number("BENCH_QUEUED", 10_000)?,
            rest: Duration::from_secs(number("BENCH_REST_S", 60)?),
            only: words("BENCH_ONLY"),
            loads: words("BENCH_LOADS"),
        })
    }

    /// True when this column is wanted; the first one always is, as the others are differences to it.
    pub fn wants(&self, name: &str) -> bool {
        name == "direct" || self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn words(name: &str) -> Vec<String> {
    let text = std::env::var(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> std::io::Result<T> {
    match std::env::var(name) {
        Err(_) => Ok(default),
        Ok(text) => text.parse().map_err(|_| std::io::Error::other(format!("{name} is `{text}`; write a number"))),
    }
}
