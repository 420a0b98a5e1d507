use std::path::PathBuf;
use std::time::Duration;

use insta::assert_snapshot;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use serde_json::{Value, json};

use super::asking::Reading;
use super::draw::{Look, draw};
use super::input::Key;
use super::view::{Next, View};
use crate::ctl::failure::{Failure, Kind};
use crate::ctl::render::quantity::Now;
use crate::history::view::HistoryView;

const GIB: f64 = (1u64 << 30) as f64;
const NOW: &str = "2026-03-04T14:03:22+01:00";

/// A machine in the middle of an ordinary afternoon, as the daemon tells it, with `changes` to its members.
fn status(changes: Value) -> Value {
    let mut status = json!({
        "schema": 1, "state": "serving", "cause": null,
        "daemon": { "pid": 812, "version": "0.1.0", "uptime_s": 273_600, "epoch": 12 },
        "worker": {
            "pid": 9123, "generation": 4, "phase": "ready", "uptime_s": 25_920, "model": "Qwen3-30B-A3B-8bit",
            "engine": "native", "footprint_bytes": 38.1 * GIB, "context_tokens": 32_768,
        },
        "queue": { "waiting": 1, "active": 2, "slots": 4, "oldest_wait_s": 3.2 },
        "handover": null,
        "memory": {
            "system.total": 96.0 * GIB, "system.used": 61.2 * GIB, "system.wired": 42.7 * GIB,
            "system.compressed": 1.9 * GIB, "system.swap_used": 0.0, "system.pressure": 1.0,
            "worker.footprint": 38.1 * GIB, "worker.compressed": 0.0, "worker.wired": 35.4 * GIB,
            "mlx.active": 35.4 * GIB, "mlx.cache": 0.4 * GIB, "mlx.peak": 36.9 * GIB, "kv.bytes": 1.1 * GIB,
            "speed.decode": 61.3,
        },
        "schedules": [], "last_restart": null,
        "rules": [
            rule("cold-weights", "inactive", "worker.compressed 0 B, not above 2.0 GiB; would act after 60 s"),
            rule("mlx-cache", "off", "can never act: cache_limit is 512 MiB, so mlx.cache never exceeds 1 GiB"),
            rule("system-used", "pending", "system.used 95.1 % above 94 % for 12 s; acts in 48 s"),
        ],
        "ledger": { "answered": 12_480, "carried": 37, "lost": 0, "restarts": 5, "longest_wait_s": 14.2 },
        "config": { "hash": "3f9a", "pending": [], "problems": [] },
        "limits": {
            "source": "worker", "slots": 4, "wired_limit_bytes": 45.0 * GIB, "memory_limit_bytes": 48.0 * GIB,
            "cache_limit_bytes": 0.5 * GIB,
        },
    });
    // Sizes are whole bytes.
    for member in ["wired_limit_bytes", "memory_limit_bytes", "cache_limit_bytes"] {
        status["limits"][member] = json!(status["limits"][member].as_f64().unwrap() as u64);
    }
    status["worker"]["footprint_bytes"] = json!((38.1 * GIB) as u64);
    let Value::Object(changes) = changes else { panic!("members") };
    status.as_object_mut().unwrap().extend(changes);
    status
}

fn rule(name: &str, state: &str, explain: &str) -> Value {
    json!({ "name": name, "state": state, "explain": explain })
}

fn reading(status: Value) -> Reading {
    let now = Now::fixed(NOW);
    let event = |second: u32, kind: &str, message: &str| json!({ "at": format!("2026-03-04T14:02:{second:02}+01:00"), "kind": kind, "message": message });
    let events = json!([
        event(1, "worker_spawned", "generation 4, pid 9123"),
        event(11, "worker_ready", "generation 4 after 10.4 s"),
        event(12, "restart_done", "schedule nightly: restarted in 14.20 s (drain 0.40 s, load 10.40 s, stop 2.10 s)"),
        event(40, "cache_cleared", "0 B of 1.4 GiB left"),
    ]);
    let clients = json!([{
        "name": "uid:501", "waiting": { "interactive": 1, "normal": 0, "batch": 2 }, "active": 1,
        "served": { "prompt_tokens": 921_237, "completion_tokens": 149_120 }, "counter": 2310,
        "mean_answer_tokens": 312.4, "share": 0.75,
    }]);
    // The article's afternoon: what grows is compressed, and then it is swapped out.
    let at = now.unix_ms() / 1000;
    let points = |from: f64, until: f64| -> Value {
        (0..600).map(|second| from + (until - from) * f64::from(second) / 600.0).zip(at - 600..).map(point).collect()
    };
    let curves = [("worker.footprint", 35.0, 38.0), ("worker.compressed", 0.0, 0.0), ("system.compressed", 0.2, 1.9)];
    let metrics: Vec<_> = curves.map(|(name, from, until)| curve(name, &points(from, until))).into();
    let past = json!({
        "schema": 1, "since": "", "until": "", "step_s": 1, "recorded_since": null, "metrics": metrics, "events": [],
    });
    Reading {
        now,
        status: serde_json::from_value(status).unwrap(),
        clients: serde_json::from_value(clients).unwrap(),
        events: serde_json::from_value(events).unwrap(),
        past: Some(serde_json::from_value::<HistoryView>(past).unwrap()),
    }
}

fn point((gib, at): (f64, i64)) -> Value {
    json!([at, gib * GIB, gib * GIB, gib * GIB])
}

fn curve(name: &str, points: &Value) -> Value {
    json!({ "metric": name, "unit": "bytes", "points": points })
}

fn unread() -> View {
    View::new(PathBuf::from("/home/a/.mlxsup/control.sock"), PathBuf::from("/home/a/.mlxsup"), Duration::from_secs(1))
}

fn view(changes: Value) -> View {
    let mut view = unread();
    view.answered(Ok(reading(status(changes))));
    view
}

fn unreachable() -> Failure {
    Failure::new(Kind::Unreachable, "cannot reach the daemon").hint("is it running? start it with `mlxsupd`")
}

fn terminal(view: &mut View, (width, height): (u16, u16), colour: bool) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let mut scroll = 0;
    terminal.draw(|frame| scroll = draw(frame, view, Look { colour })).unwrap();
    view.drawn(scroll);
    terminal
}

/// The picture as text.
fn screen(view: &mut View, size: (u16, u16)) -> String {
    let terminal = terminal(view, size, true);
    let buffer = terminal.backend().buffer();
    let rows = buffer.content().chunks(usize::from(size.0));
    let text = |row: &[ratatui::buffer::Cell]| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>();
    rows.map(|row| format!("|{}\n", text(row).trim_end())).collect()
}

const COMMON: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);
const SMALLEST: (u16, u16) = (60, 16);

#[test]
fn serving() {
    assert_snapshot!(screen(&mut view(json!({})), COMMON));
}

#[test]
fn serving_on_a_large_terminal() {
    assert_snapshot!(screen(&mut view(json!({})), LARGE));
}

#[test]
fn serving_on_the_smallest_terminal() {
    assert_snapshot!(screen(&mut view(json!({})), SMALLEST));
}

#[test]
fn too_small() {
    assert_snapshot!(screen(&mut view(json!({})), (59, 30)));
}

#[test]
fn before_the_first_answer() {
    assert_snapshot!(screen(&mut unread(), SMALLEST));
}

#[test]
fn no_daemon_from_the_beginning() {
    let mut view = unread();
    view.answered(Err(unreachable()));
    assert_snapshot!(screen(&mut view, SMALLEST));
}

#[test]
fn the_daemon_goes_away_over_the_last_picture_and_comes_back() {
    let mut view = view(json!({}));
    view.answered(Err(unreachable()));
    assert_snapshot!(screen(&mut view, COMMON));
    let mut again = reading(status(json!({})));
    again.events.clear();
    view.answered(Ok(again));
    assert!(screen(&mut view, COMMON).starts_with("|serving: requests are answered"));
    assert_eq!(view.known.unwrap().events.len(), 4, "what happened before is not forgotten");
}

#[test]
fn loading_the_first_worker() {
    let worker = json!({
        "pid": 9377, "generation": 5, "phase": "loading", "uptime_s": 3, "model": "Qwen3-30B-A3B-8bit",
        "engine": "native", "footprint_bytes": 13_200_000_000u64,
        "load": { "bytes_done": 13_200_000_000u64, "bytes_total": 36_800_000_000u64 },
    });
    let cause = json!({
        "code": "loading", "message": "the first worker is loading", "since": "2026-03-04T14:03:19+01:00",
        "retry_at": null, "next": null,
    });
    let queue = json!({ "waiting": 3, "active": 0, "slots": 0, "oldest_wait_s": 2.8 });
    let changes = json!({ "state": "starting", "worker": worker, "cause": cause, "queue": queue });
    assert_snapshot!(screen(&mut view(changes), COMMON));
}

#[test]
fn draining() {
    let cause = json!({
        "code": "operator", "message": "drain was ordered", "since": "2026-03-04T13:59:22+01:00", "retry_at": null,
        "next": "mlxsupctl resume",
    });
    let drain = json!({ "active": 2, "waiting": 1, "deadline_at": "2026-03-04T14:04:52+01:00", "refusing": false });
    let changes = json!({ "state": "draining", "cause": cause, "drain": drain });
    assert_snapshot!(screen(&mut view(changes), COMMON));
}

#[test]
fn parked_after_failures() {
    let cause = json!({
        "code": "crash_loop", "message": "the worker crashed 5 times in 30 min", "since": "2026-03-04T13:59:22+01:00",
        "retry_at": "2026-03-04T14:29:22+01:00", "next": "mlxsupctl restart",
    });
    let failure = json!({
        "class": "out_of_memory", "message": "was killed by signal 9 while it was loading",
        "at": "2026-03-04T13:59:20+01:00",
    });
    let changes = json!({
        "state": "parked", "cause": cause, "worker": null, "last_failure": failure,
        "queue": { "waiting": 0, "active": 0, "slots": 0 },
        "memory": { "system.total": 96.0 * GIB, "system.used": 24.1 * GIB, "system.pressure": 4.0 },
    });
    assert_snapshot!(screen(&mut view(changes), COMMON));
}

#[test]
fn rules_that_fire() {
    let rules = json!([
        rule("cold-weights", "firing", "worker.compressed 6.1 GiB above 2.0 GiB for 60 s"),
        rule("mlx-cache", "cooldown", "mlx.cache 1.4 GiB above 1.0 GiB; acted, may act again in 212 s"),
    ]);
    let mut view = view(json!({ "rules": rules }));
    view.key(Key::NextPanel);
    assert_snapshot!(screen(&mut view, (100, 36)));
}

#[test]
fn clients_while_the_picture_stands_still() {
    let mut view = view(json!({}));
    view.key(Key::Pause);
    view.key(Key::PreviousPanel);
    assert_snapshot!(screen(&mut view, COMMON));
}

#[test]
fn help_lies_on_top_until_escape() {
    let mut view = view(json!({}));
    view.key(Key::Help);
    assert_snapshot!(screen(&mut view, SMALLEST));
    assert_eq!(view.key(Key::Escape), Next::Stay);
    assert!(!screen(&mut view, SMALLEST).contains("It only looks"));
    assert_eq!(view.key(Key::Escape), Next::Quit);
}

#[test]
fn events_are_scrolled_from_their_end_and_stay_there_while_new_ones_come() {
    let mut view = view(json!({}));
    view.key(Key::Scroll(i32::MIN));
    let first = screen(&mut view, SMALLEST);
    assert!(first.contains("worker_spawned") && !first.contains("cache_cleared"), "{first}");
    view.answered(Ok(reading(status(json!({})))));
    let later = screen(&mut view, SMALLEST);
    let shown = |screen: &str| screen.lines().find(|line| line.contains("14:02:")).map(str::to_owned);
    assert_eq!(shown(&first), shown(&later), "{later}");
    view.key(Key::Scroll(i32::MAX));
    assert_eq!(view.scroll, 0);
    assert!(screen(&mut view, SMALLEST).contains("cache_cleared"));
    view.key(Key::Scroll(1));
    assert_eq!(view.scroll, 0, "nothing lies below the newest");
}

#[test]
fn without_colour_there_is_none() {
    let mut view = view(json!({}));
    for (silent, help) in [(false, false), (true, true)] {
        view.shows_help = help;
        if silent {
            view.answered(Err(unreachable()));
        }
        let coloured = |terminal: &Terminal<TestBackend>| {
            let cells = terminal.backend().buffer().content();
            cells.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
        };
        assert_eq!(coloured(&terminal(&mut view, LARGE, false)), 0);
        assert!(coloured(&terminal(&mut view, LARGE, true)) > 0);
    }
}

#[test]
fn every_size_of_terminal_can_be_drawn() {
    let states = [
        view(json!({})),
        unread(),
        view(json!({ "worker": null, "memory": {}, "rules": [], "limits": null })),
        view(json!({ "cause": {
            "code": "wordy", "message": "one word after another ".repeat(40), "since": NOW, "retry_at": null, "next": null,
        } })),
    ];
    for mut view in states {
        for width in [1, 59, 60, 61, 99, 100, 101, 300] {
            for height in (1..60).chain([200]) {
                for _ in 0..3 {
                    view.key(Key::NextPanel);
                    screen(&mut view, (width, height));
                }
            }
        }
    }
}
