//! Ten thousand wait: what coming and going costs then.

use std::time::{Duration, Instant};

use mlxsup::supervisor::request::{Class, Outcome, Report, Submission};
use mlxsup::supervisor::{Action, Event, Mono, Now, RequestId, Wall};

use crate::crowd::Crowd;
use crate::sweep;

const WAITING: u64 = 10_000;

/// Of so many steps of a hundred the slowest is told; the design's 50 µs are meant for optimised code on a quiet machine.
const PERCENT: usize = 99;

fn percentile(of: &mut [Duration], percent: usize) -> Duration {
    of.sort();
    of[of.len() * percent / 100]
}

#[test]
fn ten_thousand_wait_while_others_come_and_go() {
    let mut core = Crowd::new(1, 4, Duration::from_secs(86_400), Vec::new()).core;
    let mut clock = 0;
    let mut timed = |event: Event| {
        clock += 1;
        let now = Now { mono: Mono(clock), wall: Wall(clock) };
        let before = Instant::now();
        let actions = core.step(event, now);
        (before.elapsed(), actions)
    };
    let submission = |id: u64| Submission {
        principal: format!("uid {}", id % 40),
        client: Some(format!("agent-{}", id % 7)),
        class: [Class::Interactive, Class::Normal, Class::Normal, Class::Batch][id as usize % 4],
        body_bytes: 400 + id % 1_000,
        deadline: None,
        max_active: None,
    };
    let mut running: Vec<RequestId> = Vec::new();
    let assigned = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::Assign { id, .. } => Some(id),
            _ => None,
        })
    };
    let mut coming = Vec::new();
    for id in 1..=WAITING + 4 {
        let (took, actions) = timed(Event::Submitted { id: RequestId(id), submission: submission(id) });
        coming.push(took);
        running.extend(assigned(actions));
    }
    let mut going = Vec::new();
    for id in WAITING + 5..WAITING * 2 {
        // One ends, the next gets its slot, another one comes: ten thousand wait all the time.
        let Some(over) = running.pop() else { panic!("nobody runs") };
        let outcome = Outcome::Answered { prompt_tokens: 100, completion_tokens: 50 + id % 300 };
        let (took, actions) = timed(Event::Reported { id: over, report: Report::Ended(outcome) });
        going.push(took);
        running.extend(assigned(actions));
        let (took, actions) = timed(Event::Submitted { id: RequestId(id), submission: submission(id) });
        coming.push(took);
        running.extend(assigned(actions));
    }
    let (enqueue, dequeue) = (percentile(&mut coming, PERCENT), percentile(&mut going, PERCENT));
    sweep::say(&format!(
        "{WAITING} wait: a step with an arrival {enqueue:?}, with a dispatch {dequeue:?} (p{PERCENT})"
    ));
    // One of the slots is kept free for interactive requests at times.
    assert_eq!(core.snapshot().waiting + running.len(), usize::try_from(WAITING).unwrap_or(usize::MAX) + 4);
}
