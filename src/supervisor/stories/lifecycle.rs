//! From the first start to readiness, and the ladder under a worker that does not get there.

use super::*;

#[test]
fn the_first_tick_starts_the_worker_and_requests_wait_for_it() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    assert_eq!(story.worker_actions(), [spawn(1)]);
    assert_eq!(story.persisted.as_ref().map(|persistent| persistent.generation), Some(1));
    assert_eq!((story.state(), story.cause()), (State::Starting, Some("loading")));
    for id in 1..=3 {
        story.submits(id);
    }
    story.spawned(1);
    assert!(story.assigned().is_empty());
    story.ready(1);
    assert_eq!(story.assigned(), [(1, 1), (2, 1)], "two slots");
    assert_eq!(story.state(), State::Serving);
    story.is_answered(1);
    assert_eq!(story.assigned(), [(3, 1)]);
}

#[test]
fn generations_go_on_where_the_last_daemon_ended() {
    let persistent = Persistent { generation: 41, ..Persistent::default() };
    let mut story = Story::asleep_at_first(|_| {}, &persistent);
    story.send(Event::Tick);
    assert_eq!(story.worker_actions(), [spawn(42)]);
}

#[test]
fn an_unloaded_service_stays_unloaded_across_daemons() {
    let persistent = Persistent { standing: Standing::Unloaded, ..Persistent::default() };
    let mut story = Story::asleep_at_first(|_| {}, &persistent);
    story.send(Event::Tick);
    assert_eq!((story.worker_actions(), story.state()), (vec![], State::Unloaded));
    story.submits(1);
    assert_eq!(story.code(1), Some(Code::Unloaded));
    assert_eq!(story.core.next_deadline(story.now.mono), None);
}

#[test]
fn a_drained_service_comes_back_drained_until_resume() {
    let persistent = Persistent { standing: Standing::Drained, ..Persistent::default() };
    let mut story = Story::asleep_at_first(|_| {}, &persistent);
    story.send(Event::Tick);
    story.becomes_ready(1);
    story.submits(1);
    assert_eq!((story.state(), story.assigned()), (State::Drained, vec![]));
    let resume = story.asks(Verb::Resume);
    assert_eq!(story.outcome(resume), Some(OutcomeKind::Done));
    assert_eq!((story.state(), story.assigned()), (State::Serving, vec![(1, 1)]));
    assert_eq!(story.persisted.as_ref().map(|persistent| persistent.standing), Some(Standing::Serve));
}

#[test]
fn a_hanging_load_is_terminated_then_killed_and_counts_as_a_crash() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    story.spawned(1);
    story.forget();
    story.pass_s(599);
    assert_eq!(story.worker_actions(), []);
    story.pass_s(1);
    assert_eq!(story.worker_actions(), [terminate(1)]);
    story.pass_s(9);
    assert_eq!(story.worker_actions(), [], "10 s of patience after TERM");
    story.pass_s(1);
    assert_eq!(story.worker_actions(), [kill(1)]);
    story.pass_s(29);
    assert_eq!(story.worker_actions(), []);
    story.pass_s(3571);
    let again = story.worker_actions();
    assert!(
        again.iter().all(|action| *action == kill(1)),
        "nothing starts beside a worker that is not gone: {again:?}"
    );
    assert!((1..10).contains(&again.len()), "told again, ever more rarely: {}", again.len());
    story.crashes(1);
    assert_eq!((story.state(), story.cause()), (State::Starting, Some("crash_backoff")));
    story.pass_s(2);
    assert_eq!(story.worker_actions(), [spawn(2)]);
}

#[test]
fn downloading_is_outside_the_start_timeout() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    story.spawned(1);
    story.forget();
    for _ in 0..20 {
        story.pass_s(300);
        let answer = Some(Answer { phase: "downloading".to_owned(), ..Answer::default() });
        story.probed(1, Vitals { answer, ..Vitals::default() });
    }
    assert_eq!(story.worker_actions(), []);
    story.pass_s(600);
    assert_eq!(story.worker_actions(), [terminate(1)]);
}

#[test]
fn ready_before_spawned_and_ready_after_term_are_both_understood() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Tick);
    story.ready(1);
    story.spawned(1);
    assert_eq!(story.state(), State::Serving, "reports may overtake each other");
    let operation = story.asks_restart(RestartAsked::Now);
    story.ready(1);
    story.submits(1);
    assert_eq!(story.assigned(), [], "a worker under TERM is not revived by a late newline");
    story.obeys(1);
    story.becomes_ready(2);
    assert_eq!((story.assigned(), story.outcome(operation)), (vec![(1, 2)], Some(OutcomeKind::Done)));
}

#[test]
fn news_of_a_generation_that_is_gone_changes_nothing() {
    let mut story = Story::serving();
    story.submits(1);
    story.crashes(1);
    story.loses_link(1, 1, true);
    story.pass_s(2);
    story.becomes_ready(2);
    story.forget();
    let before = story.core.snapshot();
    story.ready(1);
    story.spawned(1);
    story.misses_probe(1);
    story.crashes(1);
    story.send(Event::SpawnFailed { generation: Generation(1), why: "late".to_owned() });
    story.gains_token(1, 1);
    story.loses_link(1, 1, false);
    let cleared = Err("late".to_owned());
    let cache = crate::supervisor::event::CacheKind::Buffers;
    story.send(Event::CacheCleared { generation: Generation(1), cache, result: cleared });
    assert_eq!((story.core.snapshot(), story.worker_actions()), (before, vec![]));
}

#[test]
fn one_missed_probe_holds_new_work_back_until_the_next_answer() {
    let mut story = Story::serving();
    story.misses_probe(1);
    story.submits(1);
    assert_eq!((story.assigned(), story.state(), story.cause()), (vec![], State::Serving, Some("suspect")));
    story.answers_probe(1, 1);
    assert_eq!((story.assigned(), story.cause()), (vec![(1, 1)], None));
}

#[test]
fn a_stalled_worker_is_replaced_and_its_requests_go_on() {
    let mut story = Story::serving();
    story.submits(1);
    story.gains_token(1, 1);
    for _ in 0..24 {
        story.pass_s(5);
        story.misses_probe(1);
    }
    assert_eq!(story.worker_actions(), [terminate(1)]);
    assert!(story.recorded("worker_dead"));
    story.obeys(1);
    story.loses_link(1, 1, true);
    story.pass_s(2);
    assert_eq!(story.worker_actions(), [spawn(2)]);
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 1), (1, 2)]);
    story.is_answered(1);
    let ledger = story.core.snapshot().ledger;
    assert_eq!((ledger.answered, ledger.carried, ledger.lost, ledger.restarts), (1, 1, 0, 1));
}
