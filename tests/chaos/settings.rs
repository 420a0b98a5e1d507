//! How much chaos: from the environment, with small numbers where it says nothing.

use std::time::Duration;

use crate::phase::say;

/// Numbers of one run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What every choice is drawn from (`CHAOS_SEED`); the kernel's timing is not in it.
    pub seed: u64,
    /// `CHAOS_KILLS`: workers ended, in mixed ways.
    pub kills: u64,
    /// `CHAOS_DAEMON_KILLS`: SIGKILLs of the daemon.
    pub daemon_kills: u64,
    /// `CHAOS_UPGRADES`.
    pub upgrades: u64,
    /// `CHAOS_HANDOVERS`: of each strategy.
    pub handovers: u64,
    /// `CHAOS_CLIENTS`.
    pub clients: u64,
    /// `CHAOS_LONGEST_MS`: longest stream, counted as tokens at their pace.
    pub longest: Duration,
    /// `drain.grace`: short, so that streams outlast it and are carried over.
    pub grace: String,
    /// `CHAOS_LIMIT_S`: a phase that takes longer has failed.
    pub limit: Duration,
}

impl Settings {
    pub fn from_env() -> Self {
        let number = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().unwrap_or_else(|why| panic!("{name}={text}: {why}")),
            Err(_) => default,
        };
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Self {
            seed: number("CHAOS_SEED", u64::from(clock.subsec_nanos())),
            kills: number("CHAOS_KILLS", 14),
            daemon_kills: number("CHAOS_DAEMON_KILLS", 5),
            upgrades: number("CHAOS_UPGRADES", 4),
            handovers: number("CHAOS_HANDOVERS", 4),
            clients: number("CHAOS_CLIENTS", 16),
            longest: Duration::from_millis(number("CHAOS_LONGEST_MS", 1500)),
            grace: "300ms".to_owned(),
            limit: Duration::from_secs(number("CHAOS_LIMIT_S", 60)),
        }
    }

    pub fn announce(&self) {
        say(&format!(
            "CHAOS_SEED={} CHAOS_KILLS={} CHAOS_DAEMON_KILLS={} CHAOS_UPGRADES={} CHAOS_HANDOVERS={} CHAOS_CLIENTS={} \
             CHAOS_LONGEST_MS={} CHAOS_LIMIT_S={}",
            self.seed,
            self.kills,
            self.daemon_kills,
            self.upgrades,
            self.handovers,
            self.clients,
            self.longest.as_millis(),
            self.limit.as_secs()
        ));
    }
}
