//! The table `mlxsupctl status` prints: first what a request would meet now, then everything that explains it.

use std::collections::BTreeMap;
use std::path::Path;

use super::quantity::{Now, count, keyed, phase_order, plural, size, size_of, span, whole_span};
use super::table::Sheet;
use super::{metric, progress};
use crate::control::view::{Cause, RestartView, RuleState, State, Status, WorkerView};
use crate::ctl::terminal::Paint;
use crate::memory::Metric;

/// The whole table.
#[must_use]
pub fn table(status: &Status, home: &Path, now: Now, paint: Paint, columns: Option<usize>) -> String {
    let mut sheet = Sheet::new(paint, columns);
    cause(&mut sheet, status, now);
    daemon(&mut sheet, status, home);
    worker(&mut sheet, status);
    if let Some(worker) = &status.worker {
        worker_memory(&mut sheet, worker, &status.memory);
    }
    speed(&mut sheet, status);
    limits(&mut sheet, status);
    transition(&mut sheet, status, now);
    queue(&mut sheet, status);
    memory(&mut sheet, &status.memory);
    schedules(&mut sheet, status, now);
    rules(&mut sheet, status);
    if let Some(restart) = &status.last_restart {
        last_restart(&mut sheet, restart, now);
    }
    failure(&mut sheet, status, now);
    ledger(&mut sheet, status);
    config(&mut sheet, status);
    format!("{}\n\n{}", headline(status, paint), sheet.finish())
}

/// State, and what it means for a request that comes now.
fn headline(status: &Status, paint: Paint) -> String {
    let word = status.state.as_str();
    let word = match tone(status.state) {
        Tone::Good => paint.good(word),
        Tone::Warn => paint.warn(word),
        Tone::Bad => paint.bad(word),
    };
    format!("{word}: {}", meaning(status))
}

/// How a state is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// On its way, or to be watched.
    Warn,
    /// Somebody has to act.
    Bad,
}

/// How this state is to be taken.
#[must_use]
pub const fn tone(state: State) -> Tone {
    match state {
        State::Serving | State::Handover | State::Asleep => Tone::Good,
        State::Starting | State::Draining | State::Drained => Tone::Warn,
        State::Unloaded | State::Parked | State::Stranded | State::Stopping => Tone::Bad,
    }
}

/// What a request that comes now would meet.
#[must_use]
pub fn meaning(status: &Status) -> &'static str {
    let refusing = status.drain.as_ref().is_some_and(|drain| drain.refusing);
    let sequential = status.handover.as_ref().is_some_and(|handover| handover.strategy == "sequential");
    match status.state {
        State::Serving => "requests are answered",
        State::Handover if sequential => "requests wait for the next worker",
        State::Handover => "requests are answered while the next worker comes",
        State::Asleep => "the next request loads the model",
        State::Starting => "requests wait for the worker",
        State::Draining | State::Drained if refusing => "new requests are refused",
        State::Draining | State::Drained => "new requests wait",
        State::Unloaded | State::Parked | State::Stranded | State::Stopping => "requests are refused",
    }
}

/// Why the state is what it is, since when, what comes next.
pub fn cause(sheet: &mut Sheet, status: &Status, now: Now) {
    let Some(Cause { code, message, since, retry_at, next }) = &status.cause else { return };
    sheet.row("cause", format!("{code}: {message}"));
    let mut times = format!("since {}", now.clock_and_distance(since));
    if let Some(retry) = retry_at {
        times.push_str(&format!("; next try {}", now.clock_and_distance(retry)));
    }
    sheet.row("", times);
    if let Some(next) = next {
        sheet.row("next", next);
    }
}

/// The daemon's row.
pub fn daemon(sheet: &mut Sheet, status: &Status, home: &Path) {
    let daemon = &status.daemon;
    let uptime = whole_span(daemon.uptime_s as f64);
    sheet
        .row("daemon", format!("mlxsupd {}, pid {}, up {uptime}, home {}", daemon.version, daemon.pid, home.display()));
}

/// The model, the worker's row, and how far its load is.
pub fn worker(sheet: &mut Sheet, status: &Status) {
    let Some(worker) = &status.worker else {
        sheet.row("worker", "none");
        return;
    };
    sheet.row("model", format!("{} ({})", worker.model, worker.engine));
    let uptime = whole_span(worker.uptime_s as f64);
    sheet.row("worker", format!("generation {}, {}, pid {}, up {uptime}", worker.generation, worker.phase, worker.pid));
    if let Some(load) = progress::load(worker, true) {
        sheet.row("", load);
    }
}

fn worker_memory(sheet: &mut Sheet, worker: &WorkerView, memory: &BTreeMap<String, f64>) {
    let mut facts = Vec::new();
    if let Some(footprint) = worker.footprint_bytes {
        facts.push(format!("footprint {}", size(footprint as f64)));
    }
    for (metric, name) in [
        ("worker.compressed", "compressed"),
        ("mlx.active", "MLX active"),
        ("mlx.cache", "MLX cache"),
        ("kv.bytes", "KV cache"),
        ("prefix_cache.bytes", "prefix cache"),
    ] {
        if let Some(bytes) = memory.get(metric) {
            facts.push(format!("{name} {}", size(*bytes)));
        }
    }
    if !facts.is_empty() {
        sheet.row("", facts.join(", "));
    }
}

/// How many tokens a request may use, and how fast they come.
pub fn speed(sheet: &mut Sheet, status: &Status) {
    let Some(worker) = &status.worker else { return };
    let mut speed = Vec::new();
    if let Some(tokens) = worker.context_tokens {
        speed.push(format!("context {} tokens", count(u64::from(tokens))));
    }
    if let Some(rate) = status.memory.get("speed.decode") {
        speed.push(format!("decoding {rate:.1} tokens/s"));
    }
    if !speed.is_empty() {
        sheet.row("", speed.join(", "));
    }
}

/// What the worker may take, and below it the sums that led to it.
fn limits(sheet: &mut Sheet, status: &Status) {
    let Some(limits) = &status.limits else { return };
    let mut words = Vec::new();
    if let Some(slots) = limits.slots {
        words.push(plural(u64::from(slots), "slot", "slots"));
    }
    for (name, bytes) in [
        ("wired", limits.wired_limit_bytes),
        ("memory", limits.memory_limit_bytes),
        ("cache", limits.cache_limit_bytes),
    ] {
        words.extend(bytes.map(|bytes| format!("{name} {}", size(bytes as f64))));
    }
    sheet.row("limits", words.join(", "));
    for key in [
        "weights",
        "worker.slots",
        "worker.context",
        "worker.memory.wired_limit",
        "worker.memory.memory_limit",
        "verdict",
        "problem",
    ] {
        if let Some(sum) = limits.explain.get(key) {
            sheet.row("", sum);
        }
    }
}

/// A drain or a hand-over under way, and when it is cut short.
pub fn transition(sheet: &mut Sheet, status: &Status, now: Now) {
    if let Some(drain) = &status.drain
        && status.state == State::Draining
    {
        let mut text = format!("{} in flight, {} to come", drain.active, drain.waiting);
        if let Some(deadline) = &drain.deadline_at {
            text.push_str(&format!("; forced {}", now.distance(deadline)));
        }
        sheet.row("drain", text);
    }
    if let Some(handover) = &status.handover {
        let mut text = format!("{}, {}", handover.strategy, handover.phase);
        if let Some(green) = &handover.green {
            text.push_str(&format!(", next worker is generation {}, pid {}", green.generation, green.pid));
        }
        if let Some(deadline) = &handover.deadline_at {
            text.push_str(&format!("; given up {}", now.distance(deadline)));
        }
        sheet.row("handover", text);
    }
}

/// Requests running and waiting.
pub fn queue(sheet: &mut Sheet, status: &Status) {
    let queue = &status.queue;
    let active = match queue.slots {
        0 => format!("{} active", queue.active),
        slots => format!("{} active of {}", queue.active, plural(u64::from(slots), "slot", "slots")),
    };
    let mut text = format!("{active}, {} waiting", count(queue.waiting as u64));
    if let Some(oldest) = queue.oldest_wait_s {
        text.push_str(&format!(", the oldest for {}", span(oldest)));
    }
    sheet.row("queue", text);
}

/// The machine in Activity Monitor's words.
pub fn memory(sheet: &mut Sheet, memory: &BTreeMap<String, f64>) {
    let mut words = Vec::new();
    if let Some(used) = memory.get("system.used") {
        words.push(match memory.get("system.total") {
            Some(total) if *total > 0.0 => {
                format!("Memory Used {} ({:.0} %)", size_of(*used, *total), used / total * 100.0)
            }
            _ => format!("Memory Used {}", size(*used)),
        });
    }
    for (metric, name) in
        [("system.wired", "Wired"), ("system.compressed", "Compressed"), ("system.swap_used", "Swap Used")]
    {
        if let Some(bytes) = memory.get(metric) {
            words.push(format!("{name} {}", size(*bytes)));
        }
    }
    if let Some(level) = memory.get("system.pressure") {
        words.push(format!("{} {}", metric::words(Metric::SystemPressure), metric::pressure(*level)));
    }
    if !words.is_empty() {
        sheet.row("memory", words.join(", "));
    }
}

fn schedules(sheet: &mut Sheet, status: &Status, now: Now) {
    let lines: Vec<_> = status
        .schedules
        .iter()
        .map(|schedule| {
            let next = schedule.next_at.as_deref().map_or("never again".to_owned(), |at| now.clock_and_distance(at));
            vec![schedule.name.clone(), next]
        })
        .collect();
    sheet.grid("schedules", &lines);
}

fn rules(sheet: &mut Sheet, status: &Status) {
    let lines: Vec<_> = status
        .rules
        .iter()
        .map(|rule| vec![rule.name.clone(), rule_state(rule.state).to_owned(), rule.explain.clone()])
        .collect();
    sheet.grid("rules", &lines);
}

/// The word for a rule's state, as in JSON.
#[must_use]
pub fn rule_state(state: RuleState) -> &'static str {
    match state {
        RuleState::Inactive => "inactive",
        RuleState::Pending => "pending",
        RuleState::Firing => "firing",
        RuleState::Cooldown => "cooldown",
        RuleState::Off => "off",
    }
}

fn last_restart(sheet: &mut Sheet, restart: &RestartView, now: Now) {
    sheet.row(
        "restart",
        format!("{}: {}; took {}", now.clock_and_distance(&restart.at), restart.reason, span(restart.took_s)),
    );
    if !restart.cost.is_empty() {
        let mut cost: Vec<_> = restart.cost.iter().collect();
        cost.sort_by_key(|(key, _)| phase_order(key));
        let parts = cost.into_iter().map(|(key, number)| keyed(key, *number));
        sheet.row("", parts.map(|(name, number)| format!("{name} {number}")).collect::<Vec<_>>().join(", "));
    }
}

/// The last failure of a worker.
pub fn failure(sheet: &mut Sheet, status: &Status, now: Now) {
    let Some(failure) = &status.last_failure else { return };
    let (class, message) = (failure.class.replace('_', " "), &failure.message);
    sheet.row("failure", format!("{}: {class}: the worker {message}", now.clock_and_distance(&failure.at)));
}

/// What became of the requests.
pub fn ledger(sheet: &mut Sheet, status: &Status) {
    let ledger = &status.ledger;
    sheet.row(
        "ledger",
        format!(
            "{} answered, {} carried across {}, {} lost, longest wait {}",
            count(ledger.answered),
            count(ledger.carried),
            plural(ledger.restarts, "restart", "restarts"),
            count(ledger.lost),
            span(ledger.longest_wait_s),
        ),
    );
}

fn config(sheet: &mut Sheet, status: &Status) {
    let config = &status.config;
    let hash: String = config.hash.chars().take(12).collect();
    if config.problems.is_empty() {
        sheet.row("config", if hash.is_empty() { "none" } else { &hash });
    } else {
        let problems = plural(config.problems.len() as u64, "problem", "problems");
        sheet.row("config", format!("{hash} still in force; the file on disk was rejected for {problems}:"));
        for problem in &config.problems {
            for line in problem.lines() {
                sheet.row("", line);
            }
        }
        sheet.row("", "mend it, see `mlxsupctl config check`, then `mlxsupctl reload`");
    }
    if !config.pending.is_empty() {
        sheet.row("", format!("at the next worker (`mlxsupctl restart`): {}", config.pending.join(", ")));
    }
}
