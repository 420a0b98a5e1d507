//! How much chaos: from the environment, with small numbers where it says nothing.

use std::str::FromStr;
use std::time::Duration;

use crate::engine::Engine;
use crate::phase::say;

/// `drain.grace` where streams are carried over, and at least where they are waited for.
const CARRIED_GRACE: Duration = Duration::from_millis(300);
const AWAITED_GRACE: Duration = Duration::from_secs(1);

/// Numbers of one run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `CHAOS_ENGINE`.
    pub engine: Engine,
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
    /// `drain.grace`.
    pub grace: String,
    /// `CHAOS_LIMIT_S`: a phase that takes longer has failed.
    pub limit: Duration,
}

impl Settings {
    pub fn from_env() -> Self {
        let engine = std::env::var("CHAOS_ENGINE").unwrap_or_else(|_| Engine::Native.word().to_owned());
        let engine =
            Engine::parse(&engine).unwrap_or_else(|| panic!("CHAOS_ENGINE={engine}: native, openai or mlx_lm"));
        let longest = Duration::from_millis(number("CHAOS_LONGEST_MS", 1500));
        Self {
            engine,
            seed: number("CHAOS_SEED", by_clock()),
            kills: number("CHAOS_KILLS", 14),
            daemon_kills: number("CHAOS_DAEMON_KILLS", 5),
            upgrades: number("CHAOS_UPGRADES", 4),
            handovers: number("CHAOS_HANDOVERS", 4),
            clients: number("CHAOS_CLIENTS", 16),
            longest,
            grace: grace(engine, longest),
            limit: Duration::from_secs(number("CHAOS_LIMIT_S", 60)),
        }
    }

    /// A few seconds of each act. The announced numbers in the environment make a run of their own of it.
    pub fn brief(engine: Engine) -> Self {
        let longest = Duration::from_millis(800);
        Self {
            engine,
            seed: number("CHAOS_SEED", by_clock()),
            kills: 4,
            daemon_kills: 2,
            upgrades: 1,
            handovers: 2,
            clients: 12,
            longest,
            grace: grace(engine, longest),
            limit: Duration::from_secs(60),
        }
    }

    pub fn announce(&self) {
        say(&format!(
            "CHAOS_ENGINE={} CHAOS_SEED={} CHAOS_KILLS={} CHAOS_DAEMON_KILLS={} CHAOS_UPGRADES={} CHAOS_HANDOVERS={} \
             CHAOS_CLIENTS={} CHAOS_LONGEST_MS={} CHAOS_LIMIT_S={}",
            self.engine.word(),
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

/// Short, so that streams outlast it and are carried over; where they cannot be, so long that hand-overs happen and are
/// postponed, both.
fn grace(engine: Engine, longest: Duration) -> String {
    let grace = if engine.continues() { CARRIED_GRACE } else { AWAITED_GRACE.max(longest / 2) };
    format!("{}ms", grace.as_millis())
}

fn number<T: FromStr<Err: std::fmt::Display>>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|why| panic!("{name}={text}: {why}")),
        Err(_) => default,
    }
}

fn by_clock() -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::from(clock.subsec_nanos())
}
