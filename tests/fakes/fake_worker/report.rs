//! What the fake says on `/status`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mlxsup_worker_api::{Counters, EngineFacts, MemoryFacts, ModelFacts, PROTOCOL, Phase, WorkerStatus, settings};

use crate::faults::Faults;
use crate::footprint::Footprint;

const WEIGHTS: u64 = 1 << 30;

/// Counters behind `/status`.
pub struct Board {
    generation: u64,
    nonce: String,
    started: Instant,
    phase: Mutex<(Phase, Option<String>)>,
    bytes_done: AtomicU64,
    steps: AtomicU64,
    last_step_ms: AtomicU64,
    active: AtomicU32,
    requests: AtomicU64,
    cancelled: AtomicU64,
    cache_clears: AtomicU64,
    cache_bytes: AtomicU64,
    /// `None`: it keeps no prefix cache.
    prefix_cache_bytes: Option<AtomicU64>,
    footprint: Footprint,
    slots: u32,
    wedged: AtomicBool,
    loaded: AtomicBool,
    heard_ms: AtomicU64,
}

/// A sequence in work; dropping it takes it off the board.
pub struct Active<'a>(&'a Board);

impl Board {
    /// From the environment a daemon gives.
    pub fn from_env(faults: &Faults) -> Result<Self, String> {
        let generation = crate::variable(settings::env::GENERATION)?;
        Ok(Self {
            generation: generation.parse().map_err(|why| format!("generation `{generation}`: {why}"))?,
            nonce: crate::variable(settings::env::NONCE)?,
            started: Instant::now(),
            phase: Mutex::new((Phase::Loading, None)),
            bytes_done: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            last_step_ms: AtomicU64::new(0),
            active: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            cache_clears: AtomicU64::new(0),
            cache_bytes: AtomicU64::new(faults.cache_bytes),
            prefix_cache_bytes: faults.prefix_cache_bytes.map(AtomicU64::new),
            footprint: Footprint::of(faults),
            slots: faults.slots.unwrap_or(4),
            wedged: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
            heard_ms: AtomicU64::new(0),
        })
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn loaded(&self, step: u32, of: u32) {
        self.bytes_done.store(WEIGHTS / u64::from(of) * u64::from(step), Relaxed);
    }

    pub fn set_phase(&self, phase: Phase) {
        if let Ok(mut now) = self.phase.lock() {
            now.0 = phase;
        }
    }

    pub fn fail(&self, message: &str) {
        if let Ok(mut now) = self.phase.lock() {
            *now = (Phase::Failed, Some(message.to_owned()));
        }
    }

    /// The model is resident, whatever the phase says.
    pub fn set_loaded(&self) {
        self.loaded.store(true, Relaxed);
    }

    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Relaxed)
    }

    pub fn footprint(&self) -> &Footprint {
        &self.footprint
    }

    /// A daemon spoke.
    pub fn hear(&self) {
        self.heard_ms.store(self.age_ms(), Relaxed);
    }

    /// Since a daemon last spoke.
    pub fn silence(&self) -> Duration {
        Duration::from_millis(self.age_ms().saturating_sub(self.heard_ms.load(Relaxed)))
    }

    pub fn is_idle(&self) -> bool {
        self.active.load(Relaxed) == 0
    }

    pub fn wedge(&self) {
        self.wedged.store(true, Relaxed);
    }

    pub fn is_wedged(&self) -> bool {
        self.wedged.load(Relaxed)
    }

    /// A sequence begins; with it comes its number, counted from 0.
    pub fn begin(&self) -> (u64, Active<'_>) {
        self.active.fetch_add(1, Relaxed);
        (self.requests.fetch_add(1, Relaxed), Active(self))
    }

    pub fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
        self.last_step_ms.store(self.age_ms(), Relaxed);
    }

    pub fn cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    pub fn clear_cache(&self) {
        self.cache_clears.fetch_add(1, Relaxed);
        self.cache_bytes.store(0, Relaxed);
    }

    pub fn trim_prefix_cache(&self) {
        if let Some(prefixes) = &self.prefix_cache_bytes {
            prefixes.store(0, Relaxed);
        }
    }

    pub fn memory(&self) -> MemoryFacts {
        let cache = self.cache_bytes.load(Relaxed);
        let prefixes = self.prefix_cache_bytes.as_ref().map(|bytes| bytes.load(Relaxed));
        MemoryFacts {
            mlx_active_bytes: Some(WEIGHTS),
            mlx_cache_bytes: Some(cache),
            mlx_peak_bytes: Some(WEIGHTS + cache),
            footprint_bytes: Some(self.footprint.bytes() + cache + prefixes.unwrap_or(0)),
            kv_bytes: Some(0),
            prefix_cache_bytes: prefixes,
            ..MemoryFacts::default()
        }
    }

    pub fn status(&self, faults: &Faults) -> WorkerStatus {
        let (phase, failure) = self.phase.lock().map_or((Phase::Failed, None), |now| now.clone());
        let steps = if faults.frozen_steps { 0 } else { self.steps.load(Relaxed) };
        WorkerStatus {
            protocol: PROTOCOL,
            pid: std::process::id(),
            generation: self.generation,
            nonce: if faults.status_lies { "0".repeat(32) } else { self.nonce.clone() },
            fingerprint: faults.fingerprint.clone().unwrap_or_else(|| "fake".to_owned()),
            phase,
            failure,
            bytes_done: self.bytes_done.load(Relaxed),
            bytes_total: WEIGHTS,
            model: Some(ModelFacts {
                name: "fake".to_owned(),
                architecture: "fake".to_owned(),
                precision: "words".to_owned(),
                device: "cpu".to_owned(),
                weights_bytes: WEIGHTS,
                kv_bytes_per_token: 1024,
                fixed_bytes_per_sequence: 0,
                context_tokens: 8192,
            }),
            engine: EngineFacts {
                steps,
                last_step_age_ms: (steps > 0).then(|| self.age_ms() - self.last_step_ms.load(Relaxed)),
                pending_prefill_tokens: 0,
                active: self.active.load(Relaxed),
                waiting: 0,
                slots: self.slots,
            },
            memory: self.memory(),
            counters: Counters {
                requests: self.requests.load(Relaxed),
                completion_tokens: steps,
                cancelled: self.cancelled.load(Relaxed),
                cache_clears: self.cache_clears.load(Relaxed),
                ..Counters::default()
            },
        }
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}
