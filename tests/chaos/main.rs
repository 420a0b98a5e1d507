//! Kill, upgrade and replace everything under load, and check from the clients' own records that nobody noticed.
//!
//! The short form is an ordinary test; `make chaos` is the same with large numbers: see [`settings`].

#![cfg(all(feature = "fake-worker", target_os = "linux"))]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test whose surroundings fail, fails right there"
)]

#[path = "../fakes/fake_worker/chance.rs"]
#[allow(dead_code, reason = "the fake worker draws probabilities as well")]
mod chance;
#[path = "../daemon/http.rs"]
#[allow(dead_code, reason = "what the launchd rig asks with; clients here survive more than it does")]
mod http;
#[path = "../launchd/rig.rs"]
#[allow(dead_code, reason = "shared with the tests of the fake launchd; this needs less of it")]
mod launchd;

mod answer;
mod answer_tests;
mod checker;
mod checker_tests;
mod client;
mod crowd;
mod daemon_deaths;
mod daemon_log;
mod engine;
mod exit_watch;
mod figures;
mod handovers;
mod history;
mod phase;
mod rig;
mod settings;
mod upgrades;
mod worker_deaths;

use engine::Engine;
use settings::Settings;

#[test]
fn whatever_happens_a_client_notices_nothing_but_time() {
    unleash(&Settings::from_env());
}

#[test]
fn an_openai_server_loses_nothing_that_has_not_begun() {
    unleash(&Settings::brief(Engine::OpenAi));
}

#[test]
fn mlx_lm_loses_nothing_that_has_not_begun() {
    unleash(&Settings::brief(Engine::MlxLm));
}

fn unleash(settings: &Settings) {
    settings.announce();
    let reports = [
        worker_deaths::run(settings),
        daemon_deaths::run(settings),
        handovers::run(settings, "sequential"),
        handovers::run(settings, "overlap"),
        upgrades::run(settings),
    ];
    figures::print(&reports);
    let violations: Vec<String> = reports.iter().flat_map(phase::Report::violations).collect();
    let shown = violations.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
    assert!(violations.is_empty(), "seed {}: {} violations:\n  {shown}", settings.seed, violations.len());
}
