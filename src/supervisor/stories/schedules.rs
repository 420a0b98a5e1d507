//! Schedules: jitter, quiet moments, and what happens when none comes.

use super::*;
use crate::config::{Action as Asked, IfBusy, RestartMode, Schedule};
use crate::schedule::{Expression, Zone};

const RESTART: Asked = Asked::Restart(RestartMode::Auto);

fn story_with(adjust: impl FnOnce(&mut Schedule)) -> Story {
    let mut schedule = settings::schedule("nightly", RESTART);
    adjust(&mut schedule);
    Story::serving_with(|config| config.schedules = vec![schedule])
}

impl Story {
    fn strikes(&mut self, name: &str) -> Wall {
        let nominal = self.now.wall;
        self.send(Event::ScheduleDue { name: name.to_owned(), nominal });
        nominal
    }

    /// What the next daemon would know of the schedule.
    fn kept(&self, name: &str) -> Option<Wall> {
        self.persisted.as_ref()?.firings.get(name).copied()
    }
}

#[test]
fn a_quiet_service_is_restarted_at_once() {
    let mut story = story_with(|_| {});
    story.strikes("nightly");
    assert_eq!((story.state(), story.worker_actions()), (State::Handover, vec![terminate(1)]));
    story.obeys(1);
    story.becomes_ready(2);
    let reason = story.core.snapshot().last_restart.map(|restart| restart.reason);
    assert_eq!(reason.as_deref(), Some("schedule nightly"));
}

#[test]
fn a_busy_service_is_restarted_when_it_becomes_quiet() {
    let mut story = story_with(|_| {});
    story.submits(1);
    story.strikes("nightly");
    story.strikes("nightly");
    story.pass_s(600);
    assert_eq!(story.worker_actions(), []);
    story.is_answered(1);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.obeys(1);
    story.becomes_ready(2);
    story.forget();
    story.pass_s(10_000);
    assert_eq!(story.worker_actions(), [], "the second firing was the same as the first");
}

#[test]
fn without_a_quiet_moment_it_runs_or_skips_as_configured() {
    for (if_busy, state) in [(IfBusy::Run, State::Handover), (IfBusy::Skip, State::Serving)] {
        let mut story = story_with(|schedule| schedule.if_busy = if_busy);
        story.submits(1);
        story.strikes("nightly");
        story.pass_s(3600);
        assert_eq!(story.state(), state, "{if_busy:?}");
        assert_eq!(story.worker_actions(), []);
    }
}

#[test]
fn jitter_delays_within_its_bound() {
    let mut story = story_with(|schedule| schedule.jitter = Duration::from_secs(600));
    story.strikes("nightly");
    assert_eq!(story.state(), State::Serving, "with this seed the delay is not zero");
    story.pass_s(600);
    assert_eq!(story.worker_actions().first(), Some(&terminate(1)));
}

#[test]
fn a_young_worker_is_left_alone() {
    let mut story = story_with(|schedule| schedule.min_uptime = Duration::from_secs(3600));
    story.pass_s(3599);
    story.strikes("nightly");
    assert!(story.recorded("schedule_skipped"));
    story.pass_s(1);
    story.strikes("nightly");
    assert_eq!(story.state(), State::Handover);
}

#[test]
fn no_schedule_ends_parking_or_wakes_what_sleeps() {
    let mut story = story_with(|_| {});
    let mut config = story.core.config().clone();
    config.worker.idle_unload = Some(Duration::from_secs(60));
    story.send(Event::Reconfigured { config: Box::new(config) });
    story.pass_s(60);
    story.obeys(1);
    story.forget();
    story.strikes("nightly");
    assert_eq!((story.state(), story.worker_actions()), (State::Asleep, vec![]));
    let run = story.asks(Verb::RunSchedule { name: "nightly".to_owned() });
    assert_eq!(story.outcome(run), Some(OutcomeKind::Denied), "{}", story.message(run));
}

#[test]
fn a_schedule_may_load_what_another_unloaded() {
    let evening = settings::schedule("evening", Asked::Unload);
    let morning = settings::schedule("morning", Asked::Load);
    let mut story = Story::serving_with(|config| config.schedules = vec![evening, morning]);
    story.strikes("evening");
    story.obeys(1);
    assert_eq!((story.state(), story.worker_actions()), (State::Unloaded, vec![terminate(1)]));
    story.pass_s(8 * 3600);
    story.strikes("morning");
    assert_eq!((story.state(), story.worker_actions()), (State::Starting, vec![spawn(2)]));
    assert_eq!(story.persisted.map(|persisted| persisted.standing), Some(Standing::Serve));
}

#[test]
fn a_scheduled_load_wakes_what_sleeps_and_it_is_serving_then() {
    let morning = settings::schedule("morning", Asked::Load);
    let mut story = Story::serving_with(|config| {
        config.schedules = vec![morning];
        config.worker.idle_unload = Some(Duration::from_secs(60));
    });
    story.pass_s(60);
    story.obeys(1);
    story.strikes("morning");
    story.becomes_ready(2);
    assert_eq!(story.state(), State::Serving);
}

#[test]
fn run_proves_a_schedule_at_any_hour_and_names_the_known_ones() {
    let mut story = story_with(|schedule| schedule.min_uptime = Duration::from_secs(3600));
    let unknown = story.asks(Verb::RunSchedule { name: "nigthly".to_owned() });
    assert_eq!(story.outcome(unknown), Some(OutcomeKind::Denied));
    assert!(story.message(unknown).contains("nightly"), "{}", story.message(unknown));
    let run = story.asks(Verb::RunSchedule { name: "nightly".to_owned() });
    assert_eq!((story.outcome(run), story.state()), (Some(OutcomeKind::Started), State::Handover));
}

#[test]
fn a_reload_takes_a_removed_schedule_out_of_the_agenda() {
    let mut story = story_with(|_| {});
    story.submits(1);
    story.strikes("nightly");
    story.send(Event::Reconfigured { config: Box::new(settings::defaults()) });
    story.is_answered(1);
    assert_eq!(story.worker_actions(), []);
}

#[test]
fn a_firing_is_kept_when_it_is_done_and_not_while_it_waits() {
    let mut story = story_with(|_| {});
    let begun = story.kept("nightly").expect("a schedule counts from when it was first seen");
    story.submits(1);
    story.pass_s(60);
    story.strikes("nightly");
    assert_eq!(story.kept("nightly"), Some(begun));
    story.pass_s(60);
    let second = story.strikes("nightly");
    assert!(story.recorded("schedule_skipped"), "the two are one, and the events say so");
    story.is_answered(1);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    assert_eq!(story.kept("nightly"), Some(second));
}

#[test]
fn what_is_skipped_is_done_too() {
    let mut story = story_with(|schedule| {
        schedule.if_busy = IfBusy::Skip;
        schedule.min_uptime = Duration::from_secs(60);
    });
    let young = story.strikes("nightly");
    assert_eq!(story.kept("nightly"), Some(young));
    story.submits(1);
    story.pass_s(60);
    let busy = story.strikes("nightly");
    story.pass_s(3600);
    assert_eq!((story.kept("nightly"), story.worker_actions()), (Some(busy), vec![]));
    let left_out = story.now.wall;
    story.send(Event::ScheduleLeftOut { name: "nightly".to_owned(), nominal: left_out });
    story.send(Event::ScheduleLeftOut { name: "another".to_owned(), nominal: left_out });
    assert_eq!((story.kept("nightly"), story.kept("another")), (Some(left_out), None));
}

#[test]
fn a_worker_that_died_while_its_restart_waited_is_young() {
    let mut story = story_with(|schedule| schedule.min_uptime = Duration::from_secs(3600));
    story.pass_s(3600);
    story.submits(1);
    story.strikes("nightly");
    story.pass_s(60);
    story.crashes(1);
    story.pass_s(60);
    story.becomes_ready(2);
    story.forget();
    story.is_answered(1);
    assert_eq!((story.state(), story.worker_actions()), (State::Serving, vec![]));
    assert!(story.recorded("schedule_skipped"));
}

#[test]
fn another_operation_holds_back_what_is_to_run_even_without_a_window() {
    let evening = Schedule { wait_for_idle: Duration::ZERO, ..settings::schedule("evening", Asked::Unload) };
    let mut story = Story::serving_with(|config| config.schedules = vec![evening]);
    story.asks(Verb::Restart { mode: RestartAsked::Auto, plan: false, no_wait: true });
    story.strikes("evening");
    story.obeys(1);
    story.becomes_ready(2);
    assert!(story.worker_actions().contains(&terminate(2)), "unloaded as soon as the restart is over");
}

#[test]
fn a_reload_forgets_what_is_gone_and_counts_a_changed_time_from_now() {
    let mut story = story_with(|_| {});
    let fired = story.strikes("nightly");
    story.obeys(1);
    story.becomes_ready(2);
    story.pass_s(600);
    let with = |crons: &[(&str, &str)]| {
        let mut config = settings::defaults();
        for (name, cron) in crons {
            let when = Expression::parse(cron, Zone::Local).expect("a valid expression");
            config.schedules.push(Schedule { when, ..settings::schedule(name, RESTART) });
        }
        Event::Reconfigured { config: Box::new(config) }
    };
    story.send(with(&[("nightly", "0 4 * * *"), ("other", "0 5 * * *")]));
    assert_eq!((story.kept("nightly"), story.kept("other")), (Some(fired), Some(story.now.wall)));
    story.send(with(&[("nightly", "0 3 * * *")]));
    assert_eq!((story.kept("nightly"), story.kept("other")), (Some(story.now.wall), None));
}
