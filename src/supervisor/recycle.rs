//! Planned recycling: a worker that is old, has served much, or has become slow is replaced at a quiet moment.
//!
//! What grows over a worker's life (compiled graphs, driver memory, fragmentation) is bounded by ending it; byte metrics
//! alone miss some of it (memory facts, what grows over uptime).

use std::time::Duration;

use super::agenda::Due;
use super::time::Mono;
use super::worker_life::Worker;
use super::{Generation, Supervisor, spoken};
use crate::config::{Action, IfBusy, Recycle};

/// The name under which a recycling stands in agenda and events; no schedule can be called so.
pub const NAME: &str = "(recycle)";

/// How long a quiet moment is looked for.
const WAIT_FOR_IDLE: Duration = Duration::from_secs(3600);

/// The part of a worker's life whose speed later speeds are compared with.
const FIRST_HOUR: Duration = Duration::from_secs(3600);

/// Weight of the newest reading: about the last twenty count.
const NEWEST: f64 = 0.05;

/// Readings before a mean means anything.
const READINGS: u32 = 20;

/// Decode speed of the present worker, then and now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Wear {
    of: Option<Generation>,
    first: Mean,
    recent: Mean,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mean {
    value: f64,
    readings: u32,
}

impl Mean {
    fn take(&mut self, value: f64) {
        self.readings = self.readings.saturating_add(1);
        let weight = if self.readings <= READINGS { 1.0 / f64::from(self.readings) } else { NEWEST };
        self.value += weight * (value - self.value);
    }

    fn known(&self) -> Option<f64> {
        (self.readings >= READINGS && self.value > 0.0).then_some(self.value)
    }
}

impl Wear {
    /// A reading of the decode speed, tokens per second, of a worker ready for `age`.
    pub fn speed(&mut self, of: Generation, tokens_per_second: f64, age: Duration) {
        if self.of != Some(of) {
            *self = Self { of: Some(of), ..Self::default() };
        }
        if age < FIRST_HOUR {
            self.first.take(tokens_per_second);
        }
        self.recent.take(tokens_per_second);
    }

    /// Recent speed over the first hour's.
    #[must_use]
    pub fn ratio(&self, of: Generation) -> Option<f64> {
        if self.of != Some(of) {
            return None;
        }
        Some(self.recent.known()? / self.first.known()?)
    }
}

/// The limit a worker has passed, in words.
fn worn(worker: &Worker, policy: &Recycle, wear: &Wear, now: Mono) -> Option<String> {
    let age = now - worker.ready_at?;
    if let Some(max) = policy.max_age.filter(|max| age >= *max) {
        return Some(format!("it is {} old (max_age {})", spoken(age), spoken(max)));
    }
    if let Some(max) = policy.max_requests.filter(|max| worker.answered >= *max) {
        return Some(format!("it answered {} requests (max_requests {max})", worker.answered));
    }
    if let Some(max) = policy.max_prompt_tokens.filter(|max| worker.prompt_tokens >= *max) {
        return Some(format!("it read {} prompt tokens (max_prompt_tokens {max})", worker.prompt_tokens));
    }
    let (least, ratio) = (policy.min_speed_ratio?, wear.ratio(worker.generation)?);
    (ratio < least).then(|| format!("it decodes at {ratio:.2} of its first hour's speed (min_speed_ratio {least})"))
}

impl Supervisor {
    pub(super) fn recycle_if_worn(&mut self, now: Mono) {
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.is_ready()) else { return };
        if self.retirement.is_some() || self.overlap.is_some() || self.agenda.has(NAME) {
            return;
        }
        // A recycling that was denied is not asked for again at every step.
        if self.recycle_asked.is_some_and(|(generation, again)| generation == worker.generation && now < again) {
            return;
        }
        let Some(why) = worn(worker, &self.config.restart.recycle, &self.wear, now) else { return };
        self.recycle_asked = Some((worker.generation, now + WAIT_FOR_IDLE + WAIT_FOR_IDLE));
        let message = format!("worker {} is to be recycled: {why}", worker.generation);
        self.record("recycle_due", message);
        self.agenda.add(Due {
            name: NAME.to_owned(),
            action: Action::Restart(self.config.restart.mode),
            nominal: super::Wall::default(),
            not_before: now,
            quiet_until: now + WAIT_FOR_IDLE,
            if_busy: IfBusy::Run,
        });
    }

    /// When the present worker reaches its age limit.
    pub(super) fn recycle_deadline(&self) -> Option<Mono> {
        let worker = self.worker.as_ref().filter(|worker| worker.is_ready())?;
        if self.retirement.is_some() || self.overlap.is_some() || self.agenda.has(NAME) {
            return None;
        }
        let at = worker.ready_at? + self.config.restart.recycle.max_age?;
        match self.recycle_asked {
            Some((generation, again)) if generation == worker.generation => Some(at.max(again)),
            _ => Some(at),
        }
    }
}
