//! From headers to a model that has produced a token: limits, weights, residency, warm-up.

use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use mlxsup_worker_api::{MemoryFacts, ModelFacts, Phase, Settings};

use super::EngineError;
use crate::board::Board;
use mlxsup_fit::{Budget, Machine};

use crate::limits::{self, Limits};
use crate::model::{KvCache, Model, OpenedModel, Plan, Precision, Segment};

/// Largest accepted `slots`.
const MOST_SLOTS: u32 = 256;
/// Smallest accepted `context`: one token of prompt and one of answer.
const LEAST_CONTEXT: u32 = 2;
/// Tokens of the warm-up prompt: enough to meet the kernels of a prefill.
const WARM_UP_TOKENS: u32 = 64;

/// A model ready to serve.
pub(super) struct Loaded {
    pub(super) model: Model,
    pub(super) slots: u32,
    pub(super) context: u32,
    pub(super) on_gpu: bool,
    pub(super) weights_bytes: u64,
    pub(super) memory_limit: u64,
    /// What saved prompts may have at most.
    pub(super) prefix_cache_bytes: u64,
}

/// Tokens one request may use at most: as configured, within what the model was made for. Memory may allow less, which
/// is known once the device is.
///
/// # Errors
/// When `slots` or `context` are outside what the engine can do.
pub(super) fn context(settings: &Settings, model: &OpenedModel) -> Result<u32, EngineError> {
    let refuse = |what: String| Err(EngineError::Settings(what));
    let own = model.shape.context;
    match (settings.slots, settings.context) {
        (Some(slots), _) if slots == 0 || slots > MOST_SLOTS => {
            refuse(format!("`slots` is {slots}; it must be from 1 to {MOST_SLOTS}"))
        }
        (_, Some(wanted)) if wanted < LEAST_CONTEXT => {
            refuse(format!("`context` is {wanted}; it must be at least {LEAST_CONTEXT}"))
        }
        (_, Some(wanted)) if wanted > own => {
            tracing::warn!(wanted, model = own, "`context` is longer than the model's own; lowered to it");
            Ok(own)
        }
        (_, wanted) => Ok(wanted.unwrap_or(own)),
    }
}

pub(super) fn load(settings: &Settings, opened: &OpenedModel, board: &Board) -> Result<Loaded, EngineError> {
    let started = Instant::now();
    let machine = limits::select(settings.device)?;
    let budget = limits::budget(settings, &machine, &opened.costs);
    let (slots, context) = (budget.slots, budget.context);
    let costs = &opened.costs;
    let plan = Plan::new(costs.stored_bytes, costs.unpacked_bytes, !machine.gpu, budget.memory_limit.bytes);
    let limits = Limits::new(settings, &budget);
    limits.apply(&machine)?;
    publish_limits(board, &limits, &machine);
    board.bytes_total.store(plan.stored_bytes, Relaxed);
    board.slots.store(slots, Relaxed);
    tracing::info!(
        model = %opened.source.path().display(), device = device_name(&machine), stored_bytes = plan.stored_bytes,
        weights_bytes = plan.weights_bytes, memory_limit = limits.memory_bytes, cache_limit = limits.cache_bytes,
        wired_limit = limits.wired_bytes, slots, context,
        prefix_cache = budget.prefix_cache_bytes(), "loading"
    );
    tell(&budget);

    let model = Model::load(opened, plan.precision, &mut |bytes| {
        // Scales that the file packs into its blocks count a little more in MLX's layout.
        let done = board.bytes_done.load(Relaxed).saturating_add(bytes).min(plan.stored_bytes);
        board.bytes_done.store(done, Relaxed);
        publish_counters(board, 0, 0);
    })?;
    board.bytes_done.store(plan.stored_bytes, Relaxed);
    // What unpacking left behind is of no use to the sizes that decoding needs.
    if let Err(error) = mlx_rs::memory::clear_cache() {
        tracing::warn!("MLX's cache could not be cleared after loading: {}", error.what());
    }
    let weights_bytes = model.arrays().map(|array| array.nbytes() as u64).sum();
    if let Some(locked) = limits.lock(&machine, model.arrays()) {
        facts(board, |facts| facts.wired_bytes = Some(locked));
    }
    let _ = board.model.set(ModelFacts {
        name: opened.name.clone(),
        architecture: model.shape().architecture.clone(),
        precision: precision_name(opened, &model, plan.precision),
        device: device_name(&machine).to_owned(),
        weights_bytes,
        kv_bytes_per_token: model.kv_bytes_per_token(),
        fixed_bytes_per_sequence: 0,
        context_tokens: context,
    });
    let loaded_in = started.elapsed();

    board.phase.send_replace((Phase::Warming, None));
    warm_up(&model, context).map_err(|error| EngineError::WarmUp(error.what().to_owned()))?;
    publish_counters(board, 0, 0);
    tracing::info!(load_ms = loaded_in.as_millis(), warm_up_ms = (started.elapsed() - loaded_in).as_millis(), "ready");
    let (memory_limit, prefix_cache_bytes) = (limits.memory_bytes, budget.prefix_cache_bytes());
    Ok(Loaded { model, slots, context, on_gpu: machine.gpu, weights_bytes, memory_limit, prefix_cache_bytes })
}

/// The sums behind the limits, one line each.
fn tell(budget: &Budget) {
    tracing::info!("{}", budget.memory_limit);
    if let Some(wired) = &budget.wired_limit {
        tracing::info!("{wired}");
    }
    tracing::info!("{}", budget.pool);
    if budget.too_big_by.is_some() {
        tracing::warn!("the model is too big for its memory limit: {}", budget.need);
    }
}

/// A prefill and a token, which compile kernels where the backend does that on first use.
fn warm_up(model: &Model, context: u32) -> Result<(), mlx_rs::error::Exception> {
    let prompt = vec![0; WARM_UP_TOKENS.min(context.saturating_sub(1)).max(1) as usize];
    let mut cache = KvCache::default();
    model.step(&mut [Segment { tokens: &prompt, cache: &mut cache, logits_from: prompt.len() - 1 }])?;
    model.step(&mut [Segment { tokens: &[0], cache: &mut cache, logits_from: 0 }])?;
    Ok(())
}

fn device_name(machine: &Machine) -> &'static str {
    if machine.gpu { "gpu" } else { "cpu" }
}

fn precision_name(opened: &OpenedModel, model: &Model, precision: Precision) -> String {
    let was_packed = opened.tensors.iter().any(|tensor| tensor.quantised);
    match (precision, model.quantisation()) {
        (_, Some((bits, group))) => format!("{bits}-bit affine, group {group}"),
        (Precision::Float32, None) if was_packed => "f32 (dequantised)".to_owned(),
        _ => format!("{:?}", model.dtype()).to_lowercase(),
    }
}

/// Changes the board's memory facts.
pub(super) fn facts(board: &Board, change: impl FnOnce(&mut MemoryFacts)) -> MemoryFacts {
    let mut facts = board.memory.lock().unwrap_or_else(PoisonError::into_inner);
    change(&mut facts);
    *facts
}

fn publish_limits(board: &Board, limits: &Limits, machine: &Machine) {
    facts(board, |facts| {
        facts.wired_limit_bytes = limits.wired_bytes;
        facts.cache_limit_bytes = Some(limits.cache_bytes);
        facts.memory_limit_bytes = Some(limits.memory_bytes);
        facts.recommended_working_set_bytes = machine.working_set_bytes();
    });
}

/// Publishes MLX's counters, the bytes of live caches and those of saved prompts.
pub(super) fn publish_counters(board: &Board, kv_bytes: u64, prefix_cache_bytes: u64) -> MemoryFacts {
    facts(board, |facts| {
        limits::read_counters(facts);
        facts.kv_bytes = Some(kv_bytes);
        facts.prefix_cache_bytes = Some(prefix_cache_bytes);
    })
}
