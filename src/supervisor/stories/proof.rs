//! Proof of life: canaries, workers that refuse everything, looks at the end of the health window.

use super::*;

impl Story {
    fn canaries(&self) -> usize {
        self.asked.iter().filter(|action| matches!(action, Action::Canary { .. })).count()
    }

    fn answers_canary(&mut self, generation: u64, result: Result<Vec<u32>, &str>) {
        let result = result.map_err(str::to_owned);
        self.send(Event::CanaryAnswered { generation: Generation(generation), result });
    }

    fn fails(&mut self, id: u64) {
        self.reports(id, Report::Ended(End::Failed));
    }
}

#[test]
fn a_canary_is_asked_only_when_no_real_work_has_proved_life() {
    let mut story = Story::serving();
    story.pass_s(299);
    assert_eq!(story.canaries(), 0);
    story.submits(1);
    story.gains_token(1, 1);
    story.is_answered(1);
    story.pass_s(299);
    assert_eq!(story.canaries(), 0, "the answer proved it");
    story.pass_s(1);
    assert_eq!(story.canaries(), 1);
    story.answers_canary(1, Ok(vec![7]));
    story.pass_s(299);
    assert_eq!(story.canaries(), 1);
}

#[test]
fn one_strange_token_is_asked_again_and_two_are_a_failure() {
    let mut story = Story::serving();
    story.pass_s(300);
    story.answers_canary(1, Ok(vec![7]));
    story.pass_s(300);
    story.answers_canary(1, Ok(vec![8]));
    assert_eq!((story.worker_actions(), story.state()), (vec![], State::Serving), "it may be a near-tie");
    story.pass_s(5);
    assert_eq!(story.canaries(), 3);
    story.answers_canary(1, Ok(vec![8]));
    assert_eq!(story.worker_actions(), [terminate(1)]);
    let failure = |story: &Story| story.core.snapshot().last_failure.map(|(failure, _)| failure.class.as_str());
    story.obeys(1);
    assert_eq!(failure(&story), Some("canary"));
}

#[test]
fn a_worker_that_waits_for_a_slow_reader_is_not_dead() {
    let mut story = Story::serving();
    story.submits(1);
    story.gains_token(1, 1);
    for second in 1..=600 {
        story.pass_s(1);
        if second % 5 == 0 {
            let answer = Some(Answer { steps: 1, sequences: Some(0), ..Answer::default() });
            story.probed(1, Vitals { answer, ..Vitals::default() });
        }
        if story.canaries() > 0 {
            story.asked.clear();
            story.answers_canary(1, Ok(vec![7]));
        }
    }
    assert_eq!(story.worker_actions(), [], "the engine finished long ago, the client has not read to the end");
}

#[test]
fn a_worker_that_lost_what_it_was_given_is_asked_a_canary_and_found() {
    let mut story = Story::serving();
    story.submits(1);
    for second in 1..=300 {
        story.pass_s(1);
        if second % 5 == 0 {
            let answer = Some(Answer { steps: 1, sequences: Some(0), ..Answer::default() });
            story.probed(1, Vitals { answer, ..Vitals::default() });
        }
    }
    assert_eq!(story.canaries(), 1);
    assert_eq!(story.worker_actions().first(), Some(&terminate(1)), "the canary is not answered either");
}

#[test]
fn a_wrong_first_answer_does_not_condemn_every_worker_after_it() {
    let mut story = Story::serving();
    story.pass_s(300);
    story.answers_canary(1, Ok(vec![8]));
    story.crashes(1);
    story.pass_s(2);
    story.becomes_ready(2);
    for wait in [300, 5] {
        story.pass_s(wait);
        story.answers_canary(2, Ok(vec![7]));
    }
    assert!(story.recorded("worker_dead"), "nobody knows which of the two was right");
    story.obeys(2);
    story.pass_s(5);
    story.becomes_ready(3);
    story.forget();
    for wait in [300, 300] {
        story.pass_s(wait);
        story.answers_canary(3, Ok(vec![7]));
    }
    assert_eq!(story.worker_actions(), [], "two agree");
}

#[test]
fn a_wedged_idle_worker_is_found_by_its_canary() {
    let mut story = Story::serving();
    story.pass_s(300);
    assert_eq!(story.canaries(), 1);
    story.pass_s(120);
    let probes = |story: &Story| story.asked.iter().filter(|action| matches!(action, Action::Probe { .. })).count();
    assert_eq!(probes(&story), 1, "a look at the end of the window, before any verdict");
    story.answers_probe(1, 0);
    assert_eq!(story.worker_actions(), [terminate(1)]);
}

#[test]
fn a_worker_that_refuses_everything_must_prove_itself() {
    let mut story = Story::serving();
    for id in 1..=3 {
        story.submits(id);
        story.fails(id);
    }
    assert_eq!(story.canaries(), 1);
    story.answers_canary(1, Ok(vec![7]));
    assert_eq!(story.worker_actions(), [], "the requests were to blame");
    for id in 4..=6 {
        story.submits(id);
        story.fails(id);
    }
    story.answers_canary(1, Err("the GPU is gone"));
    assert_eq!(story.worker_actions(), [terminate(1)]);
}

#[test]
fn movement_seen_at_the_last_look_saves_a_worker() {
    let mut story = Story::serving();
    story.submits(1);
    story.pass_s(120);
    story.probed(1, Vitals { missed: Some("no answer in 2 s".into()), page_ins: Some(9), ..Vitals::default() });
    assert_eq!(story.worker_actions(), [], "it swaps in");
    story.pass_s(120);
    story.probed(1, Vitals { missed: Some("no answer in 2 s".into()), page_ins: Some(9), ..Vitals::default() });
    assert_eq!(story.worker_actions(), [terminate(1)]);
}
