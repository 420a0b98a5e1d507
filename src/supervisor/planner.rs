//! Overlap or sequential: the arithmetic of a hand-over.
//!
//! Two workers fit at once when `2·(W+F) + live KV + warm-up` stays within the budget: the machine's memory less what
//! everybody else uses and less `max(8 GiB, 12 %)` (memory facts, cutover arithmetic). W is weights, F what the process
//! and its sequences cost besides; both together are what the serving worker weighed right after loading. What both wire
//! must fit into the device's working set as well: beyond it the GPU unwires one for the other.

use super::memory_gate::spoken_bytes;
use super::verbs::RestartAsked;
use super::{Supervisor, worker_life::Worker};
use crate::config::{Engine, RestartMode};

const GIB: u64 = 1 << 30;

/// Room for the successor's first prefill and token.
const WARM_UP: u64 = GIB / 2;

/// How a hand-over would be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// True for overlap.
    pub overlap: bool,
    /// The arithmetic, in one sentence.
    pub because: String,
    /// Bytes two workers need; `None` when unknown.
    pub needs: Option<u64>,
    /// Bytes they may take; `None` when unknown.
    pub budget: Option<u64>,
}

impl Supervisor {
    /// The plan for a restart asked for in this way; `Err` when what was asked for cannot be had.
    pub(super) fn plan(&self, asked: RestartAsked) -> Result<Plan, String> {
        let fit = self.fit();
        let wants = match (asked, self.config.restart.mode) {
            (RestartAsked::Now, _) => return Ok(sequential("requests in flight are handed on at once".into(), &fit)),
            (RestartAsked::Sequential, _) | (RestartAsked::Auto, RestartMode::Sequential) => {
                return Ok(sequential(
                    "asked for; requests wait while the worker stops and the next one loads".into(),
                    &fit,
                ));
            }
            (RestartAsked::Overlap, _) => true,
            (RestartAsked::Auto, RestartMode::Overlap | RestartMode::Auto) => false,
        };
        match (&fit.verdict, wants) {
            (Ok(because), _) => {
                Ok(Plan { overlap: true, because: because.clone(), needs: fit.needs, budget: fit.budget })
            }
            (Err(because), true) => Err(format!("two workers cannot overlap: {because}; use --mode sequential")),
            (Err(because), false) => Ok(sequential(because.clone(), &fit)),
        }
    }

    fn fit(&self) -> Fit {
        let refuse = |why: &str| Fit { verdict: Err(why.to_owned()), needs: None, budget: None };
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.is_ready()) else {
            return refuse("no worker serves that could go on meanwhile");
        };
        if !self.has_own_addresses() {
            return refuse("worker.command has neither {port} nor {socket}, so both workers would listen at one place");
        }
        if !self.surplus.is_empty() {
            return refuse("a worker that was replaced before is still ending");
        }
        let (Some(machine), Some(each)) = (self.machine, self.need()) else {
            return refuse("what the worker or the machine has is not known yet");
        };
        let prefixes = self.prefix_bytes.unwrap_or(0);
        let kv = live_kv(worker, self.kv_bytes.map(|bytes| bytes.saturating_add(prefixes)));
        let needs = each.saturating_mul(2).saturating_add(kv).saturating_add(WARM_UP);
        let reserve = (machine.total / 100 * 12).max(8 * GIB);
        let held = worker.footprint_bytes.unwrap_or(0);
        let others = machine.total.saturating_sub(machine.available).saturating_sub(held);
        let budget = machine.total.saturating_sub(others).saturating_sub(reserve);
        let sum = format!(
            "2 × {} + {} KV{} + {} to warm up = {}, budget {} = {} − {} used by others − {} reserve",
            spoken_bytes(each),
            spoken_bytes(kv),
            if prefixes > 0 { " and prefix cache" } else { "" },
            spoken_bytes(WARM_UP),
            spoken_bytes(needs),
            spoken_bytes(budget),
            spoken_bytes(machine.total),
            spoken_bytes(others),
            spoken_bytes(reserve)
        );
        let verdict = match (machine.pressed(), too_much_wired(worker)) {
            (Some(level), _) => Err(format!("memory pressure is at level {level}; {sum}")),
            (None, Some(why)) => Err(why),
            (None, None) if needs <= budget => Ok(sum),
            (None, None) => Err(sum),
        };
        Fit { verdict, needs: Some(needs), budget: Some(budget) }
    }

    /// Whether two workers of this configuration listen at different places.
    fn has_own_addresses(&self) -> bool {
        let worker = &self.config.worker;
        let command = worker.command.iter().flatten();
        let substituted = |text: &str| text.contains("{port}") || text.contains("{socket}");
        worker.engine != Engine::OpenAi || command.map(String::as_str).any(substituted)
    }
}

/// Whether two fit.
struct Fit {
    verdict: Result<String, String>,
    needs: Option<u64>,
    budget: Option<u64>,
}

fn sequential(because: String, fit: &Fit) -> Plan {
    Plan { overlap: false, because, needs: fit.needs, budget: fit.budget }
}

/// Why two such workers may not wire at once. That their wired memory leaves the machine its reserve, the budget sees to.
fn too_much_wired(worker: &Worker) -> Option<String> {
    let wiring = worker.facts.as_ref()?.wiring?;
    let both = wiring.limit_bytes.saturating_mul(2);
    (both > wiring.device_bytes).then(|| {
        format!(
            "both would wire 2 × {} = {}, and the device's working set is {}",
            spoken_bytes(wiring.limit_bytes),
            spoken_bytes(both),
            spoken_bytes(wiring.device_bytes)
        )
    })
}

/// Keys and values of live sequences: what the engine reports, else what the footprint has grown since loading.
fn live_kv(worker: &Worker, reported: Option<u64>) -> u64 {
    let grown = || {
        let facts = worker.facts.as_ref()?;
        worker.footprint_bytes?.checked_sub(facts.weights_bytes?.saturating_add(facts.fixed_bytes.unwrap_or(0)))
    };
    reported.or_else(grown).unwrap_or(0)
}
