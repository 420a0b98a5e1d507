//! Whose turn it is: counters, classes, caps, shares, and what waiting clients are told.

use super::*;

/// The first worker is ready, with so many slots.
fn serving_with_slots(slots: u32, adjust: impl FnOnce(&mut Config)) -> Story {
    let mut story = Story::asleep_at_first(adjust, &Persistent::default());
    story.send(Event::Tick);
    story.spawned(1);
    story.ready_with(1, "f", slots);
    story.forget();
    story
}

fn one_slot() -> Story {
    serving_with_slots(1, |_| {})
}

fn comes(story: &mut Story, id: u64, principal: &str, class: Class) {
    story.submits_with(id, |submission| {
        submission.principal = principal.to_owned();
        submission.class = class;
    });
}

fn from(story: &mut Story, principal: &str, ids: impl IntoIterator<Item = u64>) {
    ids.into_iter().for_each(|id| comes(story, id, principal, Class::Normal));
}

fn named(story: &mut Story, id: u64, principal: &str, name: &str) {
    story.submits_with(id, |submission| {
        submission.principal = principal.to_owned();
        submission.client = Some(name.to_owned());
    });
}

fn is_answered_with(story: &mut Story, id: u64, prompt_tokens: u64, completion_tokens: u64) {
    story.reports(id, Report::Ended(End::Answered { prompt_tokens, completion_tokens }));
}

/// Answers whatever runs, one after the other, and tells the order in which the others got their turn.
fn served_in_turn(story: &mut Story, answer: impl Fn(u64) -> u64) -> Vec<u64> {
    let mut order = Vec::new();
    let mut running: Vec<u64> = story.assigned().into_iter().map(|(id, _)| id).collect();
    while let Some(id) = running.pop() {
        is_answered_with(story, id, 25, answer(id));
        let next: Vec<u64> = story.assigned().into_iter().map(|(id, _)| id).collect();
        order.extend(&next);
        running.extend(next);
    }
    order
}

#[test]
fn one_that_sends_a_hundred_delays_another_by_one() {
    let mut story = one_slot();
    from(&mut story, "greedy", 1..=100);
    from(&mut story, "modest", [101]);
    is_answered_with(&mut story, 1, 25, 100);
    assert_eq!(story.assigned(), [(1, 1), (101, 1)]);
}

#[test]
fn turns_follow_what_was_given_not_how_often() {
    let mut story = one_slot();
    // The answers of one are four times as long as the other's.
    from(&mut story, "long", 1..=20);
    from(&mut story, "short", 21..=60);
    let order = served_in_turn(&mut story, |id| if id <= 20 { 400 } else { 100 });
    let long = order[..30].iter().filter(|id| **id <= 20).count();
    assert!((5..=8).contains(&long), "{long} of the first thirty: {order:?}");
}

#[test]
fn a_wrong_guess_is_mended_by_progress_while_the_request_runs() {
    let mut story = serving_with_slots(2, |_| {});
    from(&mut story, "one", [1]);
    from(&mut story, "two", [2, 21, 22]);
    from(&mut story, "one", [11, 12]);
    story.reports(1, Report::Progressed { generation: Generation(1), prompt_tokens: 25, completion_tokens: 5_000 });
    is_answered_with(&mut story, 2, 25, 10);
    assert_eq!(story.assigned(), [(1, 1), (2, 1), (21, 1)], "its first has had far more than was charged");
    is_answered_with(&mut story, 21, 25, 10);
    assert_eq!(story.assigned(), [(22, 1)]);
}

#[test]
fn what_was_rejected_costs_nothing_and_what_was_cancelled_what_it_had() {
    let mut story = one_slot();
    from(&mut story, "one", [1, 11, 12]);
    from(&mut story, "two", [2, 21, 22]);
    story.reports(1, Report::Ended(End::Rejected));
    assert_eq!(story.assigned(), [(1, 1), (11, 1)], "as if it had not been there");
    story.hangs_up(11);
    assert_eq!(story.assigned(), [(2, 1)], "its prompt may have been read");
}

#[test]
fn idling_earns_no_credit() {
    let mut story = one_slot();
    from(&mut story, "idler", [1]);
    is_answered_with(&mut story, 1, 25, 100);
    from(&mut story, "busy", 11..=60);
    for id in 11..=40 {
        is_answered_with(&mut story, id, 25, 100);
    }
    story.forget();
    from(&mut story, "idler", 101..=110);
    let mut turns = Vec::new();
    for _ in 0..6 {
        let running = story
            .core
            .requests
            .ids()
            .find(|id| story.core.requests.get(*id).is_some_and(|request| request.runs_on(Generation(1))));
        is_answered_with(&mut story, running.expect("one runs").0, 25, 100);
        turns.extend(story.assigned().into_iter().map(|(id, _)| id > 100));
    }
    assert_eq!(turns[1..], [true, false, true, false, true], "turn by turn, from one request's cost before: {turns:?}");
}

#[test]
fn many_names_do_not_make_a_bigger_part() {
    let mut story = one_slot();
    for id in 1..=30 {
        named(&mut story, id, "crowd", &format!("agent-{}", id % 10));
    }
    from(&mut story, "single", 101..=110);
    let order = served_in_turn(&mut story, |_| 100);
    let single = order[..12].iter().filter(|id| **id > 100).count();
    assert_eq!(single, 6, "every second turn: {order:?}");
    let first_ten: std::collections::BTreeSet<u64> =
        order.iter().filter(|id| **id <= 30).take(9).map(|id| id % 10).chain([1]).collect();
    assert_eq!(first_ten.len(), 10, "and its names take turns at the other: {order:?}");
}

#[test]
fn the_thirty_third_name_shares_an_account_until_one_is_idle() {
    let mut story = one_slot();
    for id in 1..=40 {
        named(&mut story, id, "crowd", &format!("agent-{id}"));
    }
    let labels = |story: &Story| -> Vec<String> {
        let accounts = story.core.requests.queue().accounts();
        let principal = accounts.principal("crowd").expect("it is here");
        principal.names.values().map(|name| name.label.clone()).collect()
    };
    assert_eq!(labels(&story).len(), 33);
    assert_eq!(labels(&story).last().map(String::as_str), Some("other"));
    for id in 1..=40 {
        story.hangs_up(id);
    }
    named(&mut story, 41, "crowd", "agent-41");
    assert!(labels(&story).contains(&"agent-41".to_owned()));
    assert_eq!(labels(&story).len(), 33);
}

#[test]
fn a_class_is_a_price() {
    let mut story = one_slot();
    for id in 1..=30 {
        comes(&mut story, id, "quick", Class::Interactive);
        comes(&mut story, 100 + id, "plain", Class::Normal);
        comes(&mut story, 200 + id, "slow", Class::Batch);
    }
    let order = served_in_turn(&mut story, |_| 256);
    let of = |from: u64| order[..28].iter().filter(|id| (from..from + 100).contains(*id)).count();
    assert_eq!((of(0), of(100), of(200)), (16, 8, 4), "8 : 4 : 2 in {order:?}");
}

#[test]
fn of_three_slots_one_is_kept_for_interactive_requests() {
    let mut story = serving_with_slots(3, |_| {});
    from(&mut story, "plain", 1..=5);
    assert_eq!(story.assigned(), [(1, 1), (2, 1)]);
    comes(&mut story, 10, "quick", Class::Interactive);
    assert_eq!(story.assigned(), [(10, 1)], "at once, in the slot that was kept");
    story.is_answered(1);
    assert_eq!(story.assigned(), [(3, 1)], "an interactive one runs: the others may have the rest");
    story.is_answered(10);
    assert_eq!(story.assigned(), [], "kept again");
    comes(&mut story, 11, "quick", Class::Interactive);
    assert_eq!(story.assigned(), [(11, 1)]);
    story.is_answered(11);
    story.asks_drain();
    assert_eq!(story.assigned(), [(4, 1)], "nobody interactive will come before the line");
}

#[test]
fn the_guard_opens_the_kept_slot_and_overrules_the_counters() {
    let mut story = serving_with_slots(3, |_| {});
    from(&mut story, "plain", 1..=4);
    story.pass_s(449);
    assert_eq!(story.assigned(), [(1, 1), (2, 1)]);
    story.pass_s(1);
    assert_eq!(story.assigned(), [(3, 1)], "a quarter of queue.max_wait at the head");
    story.is_answered(3);
    story.pass_s(449);
    assert_eq!(story.assigned(), [], "the next one stands there since then");
    story.pass_s(1);
    assert_eq!(story.assigned(), [(4, 1)]);

    let mut story = one_slot();
    from(&mut story, "dear", [1, 2]);
    story.reports(1, Report::Progressed { generation: Generation(1), prompt_tokens: 25, completion_tokens: 90_000 });
    story.pass_s(300);
    from(&mut story, "cheap", 11..=20);
    story.pass_s(150);
    story.forget();
    is_answered_with(&mut story, 1, 25, 90_000);
    assert_eq!(story.assigned(), [(2, 1)], "by its counter it would be last");
}

#[test]
fn a_principal_at_its_cap_waits_and_others_overtake() {
    let mut story = serving_with_slots(2, |_| {});
    for id in 1..=4 {
        story.submits_with(id, |submission| {
            submission.principal = "key".to_owned();
            submission.max_active = Some(1);
        });
    }
    from(&mut story, "other", [11]);
    assert_eq!(story.assigned(), [(1, 1), (11, 1)]);
    story.is_answered(11);
    assert_eq!(story.assigned(), [], "one runs");
    story.crashes(1);
    story.loses_link(1, 1, true);
    story.pass_s(2);
    story.becomes_ready(2);
    assert_eq!(story.assigned(), [(1, 2)], "what lost its worker still counts");
    story.is_answered(1);
    assert_eq!(story.assigned(), [(2, 2)]);
}

#[test]
fn a_share_counts_only_while_another_waits() {
    let mut story = Story::serving_with(|config| config.queue.max_waiting = 6);
    from(&mut story, "one", 1..=7);
    assert_eq!(story.refused(), [], "two run, five wait: alone it may");
    from(&mut story, "two", [8]);
    from(&mut story, "one", [9]);
    assert_eq!(story.refused(), [(9, Code::ClientShare)]);
    assert!(story.refusals[&9].retry_after.is_some());
    story.hangs_up(8);
    from(&mut story, "one", [10]);
    assert_eq!(story.code(10), None);
}

#[test]
fn whoever_came_first_shuts_nobody_out() {
    let mut story = Story::serving_with(|config| config.queue.max_waiting = 4);
    from(&mut story, "one", 1..=6);
    from(&mut story, "one", [7]);
    assert_eq!(story.refused(), [(7, Code::QueueFull)]);
    from(&mut story, "two", [8, 9]);
    assert_eq!(story.refused(), [(7, Code::QueueFull), (9, Code::QueueFull)], "a place for its first, not for more");
    story.is_answered(1);
    assert_eq!(story.assigned().last(), Some(&(8, 1)));
}

/// One slot whose requests have taken 10 s for a cost of 1,025 each.
fn measured() -> Story {
    let mut story = one_slot();
    for id in 1..=10 {
        from(&mut story, "one", [id]);
        story.pass_s(10);
        is_answered_with(&mut story, id, 25, 500);
    }
    story.forget();
    story
}

#[test]
fn whoever_waits_is_told_for_about_how_long() {
    let mut story = one_slot();
    from(&mut story, "one", [1, 2]);
    let place = story.core.position(RequestId(2)).expect("it waits");
    assert_eq!((place.ahead, place.wait), (0, None), "nothing was measured");
    let mut story = measured();
    from(&mut story, "one", 101..=104);
    let place = story.core.position(RequestId(104)).expect("it waits");
    assert_eq!((place.ahead, place.wait.map(|wait| wait.as_secs())), (2, Some(30)), "one runs, two wait before it");
    assert_eq!(story.core.position(RequestId(101)), None);
    story.asks_drain();
    assert_eq!(story.core.position(RequestId(104)).expect("it waits").wait, None, "who knows");
}

#[test]
fn a_deadline_that_would_pass_is_refused_at_the_door() {
    let mut story = measured();
    let within = |story: &mut Story, id, seconds| {
        let deadline = story.now.mono + Duration::from_secs(seconds);
        story.submits_with(id, |submission| {
            submission.principal = "hasty".to_owned();
            submission.deadline = Some(deadline);
        });
    };
    within(&mut story, 101, 1);
    assert_eq!(story.assigned(), [(101, 1)], "a slot is free");
    from(&mut story, "one", 102..=104);
    within(&mut story, 105, 5);
    assert_eq!(story.refused(), [(105, Code::QueueTimeout)], "the one that runs takes 10 s");
    let refusal = &story.refusals[&105];
    assert!(refusal.retry_after.is_some() && refusal.message.contains("about 1"), "{refusal:?}");
    within(&mut story, 106, 60);
    from(&mut story, "one", [107]);
    assert_eq!(story.refused().len(), 1, "who has the time, or no deadline of its own, waits");
}
