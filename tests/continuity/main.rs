//! The promise with the real model: whatever happens to the worker, every answer comes whole and with the same words.
//!
//! A steady load of chats, greedy and seeded, plain and streamed, runs against `mlxsupd` with the real `mlxsup-worker`.
//! Meanwhile workers are killed at random moments and handed over in both ways, by an operator, a schedule and a rule.
//! Each answer is compared with the one an undisturbed daemon gave to the same request.
//!
//! `make continuity` runs the long form: `CONTINUITY_KILLS`, `CONTINUITY_RESTARTS` (of each strategy),
//! `CONTINUITY_TOKENS` (of the shortest answer) and `CONTINUITY_SEED` choose its size. Needs what `make setup` fetches.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test whose surroundings fail, fails right there"
)]

#[path = "../daemon/http.rs"]
#[allow(dead_code, reason = "shared with the tests of the daemon, which need more of it")]
mod http;

mod chats;
mod service;

use std::time::{Duration, Instant};

use chats::{Load, Tally};
use nix::sys::signal::{Signal, killpg};
use service::{SLOTS, Service};

/// A number from the environment, for the long form.
fn count(name: &str, short: u32) -> u32 {
    std::env::var(name).map_or(short, |text| text.parse().unwrap_or_else(|why| panic!("{name}: {why}")))
}

fn say(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("continuity: {text}\n").as_bytes());
}

#[test]
fn nothing_that_happens_to_the_worker_reaches_a_client() {
    let mut service = Service::serving();
    let mut dice = Dice(u64::from(count("CONTINUITY_SEED", 1)));
    say("asking every question once, undisturbed");
    let load = Load::with_references(&service.client_socket(), count("CONTINUITY_TOKENS", 12));

    let mut total = Tally::default();
    let kills = count("CONTINUITY_KILLS", 3);
    let tally = load.during(|| {
        for done in 1..=kills {
            // A request that loses two workers without a token, the second one alone, is ended as poisoned, by design:
            // let those under suspicion since the last kill have their turn. There are no more of them than slots.
            let answered = service.answered();
            service.wait_until("suspects had their turn", |status| {
                status["state"] == "serving" && status["ledger"]["answered"].as_u64() >= Some(answered + SLOTS)
            });
            // Anywhere in an answer.
            dice.wait(Duration::from_millis(1500));
            killpg(service.worker_pid(), Signal::SIGKILL).expect("a worker that serves can be killed");
            say(&format!("kill -9: {done} of {kills}"));
        }
        service.wait_for("serving");
    });
    say(&format!("under kill -9: {tally}"));
    total.add(&tally);

    for mode in ["overlap", "sequential"] {
        let restarts = count("CONTINUITY_RESTARTS", 1);
        let tally = load.during(|| {
            for done in 1..=restarts {
                service.wait_until("weighed", |status| status["worker"]["footprint_bytes"].is_number());
                dice.wait(Duration::from_millis(500));
                let said = service.ctl(&["restart", "--mode", mode]);
                assert_eq!(said.code, Some(0), "restart --mode {mode}: {} {}", said.out, said.err);
                say(&format!("restart --mode {mode}: {done} of {restarts}"));
            }
        });
        say(&format!("under restart --mode {mode}: {tally}"));
        total.add(&tally);
    }

    let tally = load.during(|| {
        let asked = service.ctl(&["schedule", "run", "nightly"]);
        assert_eq!(asked.code, Some(0), "{} {}", asked.out, asked.err);
        say(&service.wait_for_event("restart_done", "schedule nightly"));
        service.arm_rule();
        say(&service.wait_for_event("rule_fired", "heavy"));
        say(&service.wait_for_event("restart_done", "rule heavy"));
    });
    say(&format!("under a schedule and a rule: {tally}"));
    total.add(&tally);

    let ledger = service.settled()["ledger"].clone();
    say(&format!("in all: {total}; the daemon's own ledger: {ledger}"));
    assert_eq!((total.failed, total.truncated), (0, 0), "{total}");
    assert_eq!(ledger["lost"], 0, "{ledger}");
    assert!(ledger["carried"].as_u64().is_some_and(|carried| carried > 0), "nothing was disturbed: {ledger}");
    // Near-ties: at most 1 in 200 of the answers may differ, and in a short run none but a single one.
    let allowed = (total.answers / 200).max(1);
    assert!(total.different <= allowed, "{total}");
}

/// SplitMix64: which moment a worker is hit at, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Lets a random part of `most` pass: the moment is what is random here, nothing is waited for.
    fn wait(&mut self, most: Duration) {
        let share = u32::try_from(self.roll() % 1000).expect("below 1000");
        let until = Instant::now() + most * share / 1000;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
    }
}
