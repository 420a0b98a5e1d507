//! What the last daemon left: its workers, its parking, its wishes; and another image in this one's place.

use super::*;
use crate::supervisor::event::Inherited;

impl Story {
    fn adopts(&mut self, generation: u64, found: Inherited) {
        let pid = 200 + u32::try_from(generation).unwrap();
        self.send(Event::Adopted { generation: Generation(generation), pid, engine: None, found });
    }

    fn facts() -> WorkerFacts {
        WorkerFacts {
            model: "m".to_owned(),
            context_tokens: None,
            slots: 2,
            fingerprint: "f".to_owned(),
            weights_bytes: None,
            fixed_bytes: None,
            wiring: None,
        }
    }

    fn started_anew() -> Self {
        Self::asleep_at_first(|_| {}, &Persistent { generation: 5, ..Persistent::default() })
    }
}

#[test]
fn a_ready_worker_serves_at_once_and_shows_that_it_can() {
    let mut story = Story::started_anew();
    story.adopts(5, Inherited::Ready(Story::facts()));
    story.submits(1);
    assert_eq!((story.worker_actions(), story.assigned()), (vec![], vec![(1, 5)]));
    assert!(story.asked.contains(&Action::Canary { generation: Generation(5) }));
}

#[test]
fn a_loading_worker_keeps_its_deadline() {
    let mut story = Story::started_anew();
    story.adopts(5, Inherited::Loading { remaining: Duration::from_secs(60) });
    story.submits(1);
    assert_eq!(story.worker_actions(), []);
    story.ready(5);
    assert_eq!(story.assigned(), [(1, 5)]);
    let mut late = Story::started_anew();
    late.adopts(5, Inherited::Loading { remaining: Duration::from_secs(60) });
    late.pass_s(60);
    assert_eq!(late.worker_actions(), [terminate(5)]);
}

#[test]
fn a_silent_worker_is_ended_before_the_next_is_started() {
    let mut story = Story::started_anew();
    story.adopts(5, Inherited::Silent { why: "no answer".to_owned() });
    assert_eq!(story.worker_actions(), [terminate(5)], "one model at a time");
    story.pass_s(10);
    assert_eq!(story.worker_actions(), [kill(5)]);
    story.crashes(5);
    assert_eq!(story.worker_actions(), [spawn(6)]);
}

#[test]
fn of_two_the_newest_ready_one_serves() {
    let mut story = Story::started_anew();
    story.adopts(4, Inherited::Ready(Story::facts()));
    story.adopts(5, Inherited::Ready(Story::facts()));
    assert_eq!(story.worker_actions(), [terminate(4)]);
    let mut mid_load = Story::started_anew();
    mid_load.adopts(4, Inherited::Ready(Story::facts()));
    mid_load.adopts(5, Inherited::Loading { remaining: Duration::from_secs(60) });
    assert_eq!(mid_load.worker_actions(), [terminate(5)]);
    mid_load.submits(1);
    assert_eq!(mid_load.assigned(), [(1, 4)]);
}

#[test]
fn what_was_unloaded_or_parked_stays_so() {
    let unloaded = Persistent { standing: Standing::Unloaded, generation: 5, ..Persistent::default() };
    let mut story = Story::asleep_at_first(|_| {}, &unloaded);
    story.adopts(5, Inherited::Ready(Story::facts()));
    assert_eq!((story.worker_actions(), story.state()), (vec![terminate(5)], State::Unloaded));
    let parked = Persistent { parked: Some("it crashed too often".to_owned()), ..Persistent::default() };
    let mut story = Story::asleep_at_first(|_| {}, &parked);
    story.submits(1);
    assert_eq!((story.state(), story.code(1)), (State::Parked, Some(Code::Parked)));
    story.pass_s(1800);
    assert_eq!(story.worker_actions(), [spawn(1)], "one try every retry_parked");
    story.becomes_ready(1);
    assert_eq!(story.persisted.as_ref().and_then(|kept| kept.parked.clone()), None);
}

#[test]
fn without_a_configuration_nothing_starts_until_there_is_one() {
    let mut story = Story::asleep_at_first(|_| {}, &Persistent::default());
    story.send(Event::Unconfigured { why: "line 3: no such key".to_owned() });
    story.submits(1);
    assert_eq!(
        (story.state(), story.cause(), story.code(1)),
        (State::Parked, Some("config_error"), Some(Code::ConfigError))
    );
    let restart = story.asks_restart(RestartAsked::Auto);
    assert_eq!((story.outcome(restart), story.worker_actions()), (Some(OutcomeKind::Denied), vec![]));
    story.send(Event::Reconfigured { config: Box::new(settings::defaults()) });
    assert_eq!(story.worker_actions(), [spawn(1)]);
}

fn upgrade() -> Verb {
    Verb::Upgrade { to: None, no_wait: false }
}

#[test]
fn an_upgrade_lets_everybody_finish_and_then_execs() {
    let mut story = Story::serving();
    story.submits(1);
    let operation = story.asks(upgrade());
    assert_eq!(story.worker_actions(), [Action::VetImage { to: None }]);
    story.send(Event::ImageVetted { result: Ok("2.0.0".to_owned()) });
    assert_eq!(story.worker_actions(), [Action::PauseAccepting]);
    assert_eq!((story.state(), story.cause()), (State::Draining, Some("upgrade")));
    // It was on its way when the door closed.
    story.submits(2);
    story.is_answered(1);
    assert_eq!(story.worker_actions(), []);
    story.is_answered(2);
    assert_eq!((story.worker_actions(), story.outcome(operation)), (vec![Action::Exec { to: None }], None));
    // So was this one, and the exec had not happened yet.
    story.submits(3);
    assert_eq!(story.worker_actions(), [Action::PauseAccepting]);
    story.is_answered(3);
    assert_eq!((story.worker_actions(), story.outcome(operation)), (vec![Action::Exec { to: None }], None));
}

#[test]
fn every_failed_upgrade_leaves_this_image_serving() {
    let mut story = Story::serving();
    let bad = story.asks(upgrade());
    story.send(Event::ImageVetted { result: Err("exit code 1".to_owned()) });
    assert_eq!((story.outcome(bad), story.state()), (Some(OutcomeKind::Failed), State::Serving));

    let silent = story.asks(upgrade());
    let second = story.asks(upgrade());
    assert_eq!(story.outcome(second), Some(OutcomeKind::Denied), "one at a time");
    story.pass_s(30);
    assert_eq!(story.outcome(silent), Some(OutcomeKind::Failed));

    story.submits(1);
    let long = story.asks(upgrade());
    story.send(Event::ImageVetted { result: Ok("2".to_owned()) });
    story.forget();
    story.pass_s(120);
    assert_eq!(
        (story.outcome(long), story.worker_actions()),
        (Some(OutcomeKind::Deadline), vec![Action::ResumeAccepting])
    );
    story.is_answered(1);

    let failing = story.asks(upgrade());
    story.send(Event::ImageVetted { result: Ok("2".to_owned()) });
    story.forget();
    story.send(Event::ExecFailed { why: "text file busy".to_owned() });
    assert_eq!(
        (story.outcome(failing), story.worker_actions()),
        (Some(OutcomeKind::Failed), vec![Action::ResumeAccepting])
    );
    assert_eq!((story.state(), story.refused()), (State::Serving, vec![]));
}
