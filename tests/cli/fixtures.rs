//! What a daemon might say: documents with plausible numbers, times relative to now with half a minute of slack, so
//! that distances in minutes come out the same.

use std::collections::BTreeMap;

use chrono::{Local, TimeDelta};
use mlxsup::control::view::{
    Cause, ClientView, ConfigView, DaemonView, DrainView, EventView, GreenView, HandoverView, Ledger, LoadView,
    QueueView, RestartView, RuleState, RuleView, ScheduleView, ServedView, State, Status, VerbReply, VerbResult,
    WaitingView, WorkerView,
};

const GIB: f64 = (1u64 << 30) as f64;
const MINUTE: i64 = 60;
const HOUR: i64 = 3600;

/// RFC 3339, this many seconds from now.
pub fn from_now(seconds: i64) -> String {
    let slack = if seconds.abs() < MINUTE { 0 } else { 30 };
    (Local::now() + TimeDelta::seconds(seconds + slack)).to_rfc3339()
}

/// RFC 3339, this many seconds ago; the slack makes whole minutes.
pub fn ago(seconds: i64) -> String {
    (Local::now() - TimeDelta::seconds(seconds)).to_rfc3339()
}

/// A machine in the middle of an ordinary afternoon.
pub fn serving() -> Status {
    let memory = [
        ("system.total", 96.0),
        ("system.used", 61.2),
        ("system.wired", 42.7),
        ("system.compressed", 1.9),
        ("system.swap_used", 0.0),
        ("worker.footprint", 38.1),
        ("worker.compressed", 0.0),
        ("mlx.active", 35.4),
        ("mlx.cache", 0.4),
        ("kv.bytes", 1.1),
    ];
    let mut memory: BTreeMap<_, _> = memory.iter().map(|(name, gib)| ((*name).to_owned(), gib * GIB)).collect();
    memory.insert("speed.decode".to_owned(), 61.3);
    Status {
        schema: 1,
        state: State::Serving,
        cause: None,
        daemon: DaemonView { pid: 812, version: "0.1.0".to_owned(), uptime_s: 273_600, epoch: 12 },
        worker: Some(worker("ready")),
        queue: QueueView { waiting: 1, active: 2, slots: 4, oldest_wait_s: Some(3.2) },
        handover: None,
        memory,
        schedules: vec![
            ScheduleView {
                name: "nightly".to_owned(),
                next_at: Some(from_now(5 * HOUR + 30 * MINUTE)),
                upcoming: vec![],
            },
            ScheduleView { name: "spring-clean".to_owned(), next_at: None, upcoming: vec![] },
        ],
        last_restart: Some(RestartView {
            reason: "schedule nightly".to_owned(),
            at: ago(18 * HOUR + 30),
            took_s: 14.2,
            cost: BTreeMap::from([
                ("stop_s".to_owned(), 2.1),
                ("load_s".to_owned(), 10.4),
                ("warm_up_s".to_owned(), 1.3),
                ("tokens_replayed".to_owned(), 0.0),
            ]),
        }),
        last_failure: None,
        rules: rules(),
        ledger: Ledger { answered: 12_480, carried: 37, lost: 0, restarts: 5, longest_wait_s: 14.2 },
        config: ConfigView { hash: "3f9a1c0de1b24f77".to_owned(), pending: vec![], problems: vec![] },
        drain: None,
        limits: None,
    }
}

pub fn daemon(pid: u32) -> DaemonView {
    DaemonView { pid, ..serving().daemon }
}

pub fn worker(phase: &str) -> WorkerView {
    WorkerView {
        pid: 9123,
        generation: 4,
        phase: phase.to_owned(),
        uptime_s: 25_920,
        model: "Qwen3-30B-A3B-8bit".to_owned(),
        engine: "native".to_owned(),
        footprint_bytes: Some((38.1 * GIB) as u64),
        load: None,
        context_tokens: Some(32_768),
    }
}

/// The worker that replaces the one above, having read this many GiB.
pub fn loading(gib: f64) -> WorkerView {
    WorkerView {
        pid: 9377,
        generation: 5,
        phase: "loading".to_owned(),
        uptime_s: 3,
        footprint_bytes: Some((gib * GIB) as u64),
        load: Some(LoadView { bytes_done: (gib * GIB) as u64, bytes_total: (34.3 * GIB) as u64 }),
        context_tokens: None,
        ..worker("")
    }
}

pub fn cause(code: &str, message: &str, next: Option<&str>) -> Option<Cause> {
    Some(Cause {
        code: code.to_owned(),
        message: message.to_owned(),
        since: ago(4 * MINUTE),
        retry_at: None,
        next: next.map(str::to_owned),
    })
}

pub fn rules() -> Vec<RuleView> {
    let rule =
        |name: &str, state, explain: &str| RuleView { name: name.to_owned(), state, explain: explain.to_owned() };
    vec![
        rule("cold-weights", RuleState::Inactive, "worker.compressed 0.0 GiB, acts above 2.0 GiB for 60 s"),
        rule("mlx-cache", RuleState::Off, "cache_limit is 512 MiB, so mlx.cache never exceeds 1 GiB"),
        rule("system-used", RuleState::Pending, "system.used 95.1 % above 94 % for 12 s of 60 s"),
    ]
}

pub fn clients() -> Vec<ClientView> {
    let client = |name: Option<&str>, waiting, active, prompt_tokens, completion_tokens| ClientView {
        name: name.map(str::to_owned),
        waiting,
        active,
        max_active: None,
        served: ServedView { prompt_tokens, completion_tokens },
        counter: 0,
        mean_answer_tokens: (completion_tokens > 0).then_some(312.4),
        share: 0.25,
        clients: vec![],
    };
    let waiting = |interactive, normal, batch| WaitingView { interactive, normal, batch };
    let names = vec![
        ClientView { share: 0.75, counter: 18_400, ..client(Some("agent-7"), waiting(0, 3, 12), 1, 901_233, 140_020) },
        client(None, waiting(1, 0, 0), 0, 20_004, 9_100),
    ];
    vec![
        ClientView { max_active: Some(4), counter: 2_310, ..client(Some("laptop"), waiting(0, 0, 0), 1, 80_000, 0) },
        ClientView { share: 0.75, clients: names, ..client(Some("uid:501"), waiting(1, 3, 12), 1, 921_237, 149_120) },
    ]
}

pub fn schedules() -> Vec<ScheduleView> {
    const DAY: i64 = 24 * HOUR;
    vec![
        ScheduleView {
            name: "nightly".to_owned(),
            next_at: Some(from_now(30 * DAY)),
            upcoming: vec![from_now(30 * DAY), from_now(31 * DAY)],
        },
        ScheduleView { name: "spring-clean".to_owned(), next_at: None, upcoming: vec![] },
    ]
}

pub fn starting() -> Status {
    Status {
        state: State::Starting,
        worker: Some(loading(12.3)),
        cause: cause("loading", "the first worker is loading", None),
        queue: QueueView { waiting: 3, active: 0, slots: 0, oldest_wait_s: Some(3.2) },
        last_restart: None,
        last_failure: None,
        ..serving()
    }
}

pub fn draining() -> Status {
    Status {
        state: State::Draining,
        cause: cause("operator", "drain was ordered", Some("mlxsupctl resume")),
        drain: Some(DrainView { active: 2, waiting: 1, deadline_at: Some(from_now(90 * MINUTE)), refusing: false }),
        ..serving()
    }
}

pub fn handover(phase: &str, worker: WorkerView) -> Status {
    Status {
        state: State::Handover,
        cause: cause("operator", "restart was ordered", None),
        handover: Some(HandoverView {
            strategy: "sequential".to_owned(),
            phase: phase.to_owned(),
            green: (worker.generation == 5).then_some(GreenView { pid: 9377, generation: 5 }),
            deadline_at: Some(from_now(9 * MINUTE)),
        }),
        worker: Some(worker),
        ..serving()
    }
}

pub fn without_worker(state: State, code: &str, message: &str, next: &str) -> Status {
    Status { state, cause: cause(code, message, Some(next)), worker: None, queue: QueueView::default(), ..serving() }
}

pub fn event(kind: &str, message: &str) -> EventView {
    EventView { at: ago(40 * 24 * HOUR), kind: kind.to_owned(), message: message.to_owned() }
}

pub fn reply(result: VerbResult, state: State, message: &str, facts: &[(&str, serde_json::Value)]) -> VerbReply {
    let facts = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    VerbReply { result, message: message.to_owned(), state, facts }
}
