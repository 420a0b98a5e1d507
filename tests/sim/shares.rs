//! Fair shares, as properties of the whole core: what clients get when all goes well.

use std::time::Duration;

use mlxsup::supervisor::request::Class;
use proptest::prelude::*;

use crate::crowd::{Client, Crowd, price};
use crate::sweep;

/// So long that the ageing guard has nothing to say.
const FOR_EVER: Duration = Duration::from_secs(7 * 86_400);

const MINUTE: u64 = 60_000;

fn client(principal: &str, class: Class, depth: usize, answer: (u64, u64)) -> Client {
    Client {
        principal: principal.to_owned(),
        name: None,
        class,
        depth,
        busy: vec![(0, u64::MAX)],
        prompt: (20, 4_000),
        answer,
    }
}

fn any_class() -> impl Strategy<Value = Class> {
    prop_oneof![Just(Class::Interactive), Just(Class::Normal), Just(Class::Batch)]
}

fn any_answer() -> impl Strategy<Value = (u64, u64)> {
    (1..400_u64, 1..600_u64).prop_map(|(least, more)| (least, least + more))
}

/// Two clients, the second busy in some spans only. In every stretch in which both wait all the time, what they are
/// given at the price of their classes differs by `4 · slots · R` at most: their counters may be `slots · R` apart at
/// either end, and each running request may have been charged for what it has not had yet.
fn judge_two(seed: u64, slots: u32, clients: &[Client; 2]) -> Result<(), TestCaseError> {
    let prices = [price(clients[0].class), price(clients[1].class)];
    let mut crowd = Crowd::new(seed, slots, FOR_EVER, clients.to_vec());
    let mut from: Option<[u64; 2]> = None;
    while crowd.now < 60 * MINUTE {
        crowd.passes();
        let both_wait = crowd.waiting(0) > 0 && crowd.waiting(1) > 0;
        if both_wait {
            let counters: Vec<u64> = crowd.core.clients().iter().map(|client| client.counter).collect();
            let (apart, bound) = (counters[0].abs_diff(counters[1]), u64::from(slots) * crowd.dearest);
            prop_assert!(apart <= bound, "shares: counters are {apart} apart at {} ms, at most {bound}", crowd.now);
        }
        let given = [prices[0] * crowd.served[0], prices[1] * crowd.served[1]];
        let Some(start) = from.filter(|_| both_wait) else {
            from = both_wait.then_some(given);
            continue;
        };
        let (one, two) = (given[0] - start[0], given[1] - start[1]);
        let bound = 4 * u64::from(slots) * crowd.dearest;
        prop_assert!(
            one.abs_diff(two) <= bound,
            "shares: {one} and {two} at {} ms differ by more than {bound}",
            crowd.now
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: sweep::number("SIM_SHARES").map_or(10, |cases| u32::try_from(cases).unwrap_or(u32::MAX)),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn shares_of_two_busy_clients_differ_by_no_more_than_a_bound(
        seed: u64, slots in 1..3_u32, classes in (any_class(), any_class()), depth in 3..30_usize,
        answers in (any_answer(), any_answer()),
    ) {
        let one = client("one", classes.0, depth, answers.0);
        let two = client("two", classes.1, 3, answers.1);
        judge_two(seed, slots, &[one, two])?;
    }

    #[test]
    fn shares_are_not_saved_up_by_idling(
        seed: u64, slots in 1..3_u32, classes in (any_class(), any_class()),
        answers in (any_answer(), any_answer()), idle in (1..20_u64, 1..20_u64),
    ) {
        let one = client("one", classes.0, 4, answers.0);
        let two = client("two", classes.1, 4, answers.1);
        let back = idle.0 * MINUTE;
        let again = back + 10 * MINUTE + idle.1 * MINUTE;
        let busy = vec![(back, back + 10 * MINUTE), (again, u64::MAX)];
        judge_two(seed, slots, &[one, Client { busy, ..two }])?;
    }

    #[test]
    fn shares_of_a_principal_are_divided_among_its_names_alone(
        seed: u64, slots in 1..3_u32, names in 2..8_usize, answers in any_answer(),
    ) {
        let named = |index: usize| Client {
            name: Some(format!("agent-{index}")), ..client("many", Class::Normal, 3, answers)
        };
        let mut clients: Vec<Client> = (0..names).map(named).collect();
        clients.push(client("one", Class::Normal, 3, answers));
        let mut crowd = Crowd::new(seed, slots, FOR_EVER, clients);
        while crowd.now < 60 * MINUTE {
            crowd.passes();
        }
        let many: u64 = crowd.served[..names].iter().sum();
        let bound = 2 * u64::from(slots) * crowd.dearest / price(Class::Normal);
        prop_assert!(many.abs_diff(crowd.served[names]) <= bound, "shares: {many} and {}", crowd.served[names]);
        let (least, most) = (crowd.served[..names].iter().min(), crowd.served[..names].iter().max());
        prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= bound), "shares: {:?}", crowd.served);
    }

    #[test]
    fn shares_starve_nobody_and_leave_no_slot_idle(
        seed: u64, slots in 1..6_u32, crowd in prop::collection::vec((any_class(), 0..3_u8, 1..6_usize, any_answer()), 2..9),
    ) {
        let asks = |(index, (class, principal, depth, answer)): (usize, (Class, u8, usize, (u64, u64)))| Client {
            name: Some(format!("agent-{index}")), ..client(&format!("p{principal}"), class, depth, answer)
        };
        let clients: Vec<Client> = crowd.into_iter().enumerate().map(asks).collect();
        let max_wait = Duration::from_secs(1_200);
        let mut crowd = Crowd::new(seed, slots, max_wait, clients);
        // Nine lanes at most, each with one request before, and none takes longer than 25 s.
        let work = 10 * 25_000;
        let mut heads = std::collections::BTreeMap::new();
        while crowd.now < 40 * MINUTE {
            crowd.passes();
            let before = std::mem::take(&mut heads);
            for (id, job) in crowd.jobs.iter().filter(|(_, job)| job.began.is_none()) {
                let Client { principal, class, .. } = &crowd.clients[job.client];
                heads.entry((principal.clone(), *class)).or_insert((*id, crowd.now));
            }
            for (lane, head) in &mut heads {
                if let Some(same) = before.get(lane).filter(|same| same.0 == head.0) {
                    *head = *same;
                }
                let part = match lane.1 { Class::Interactive => 8, Class::Normal => 4, Class::Batch => 2 };
                let most = max_wait.as_millis() as u64 / part + work;
                prop_assert!(crowd.now - head.1 <= most, "shares: {lane:?} has been passed over for {} ms", crowd.now - head.1);
            }
            let interactive = heads.keys().any(|(_, class)| *class == Class::Interactive);
            let used = if slots < 3 || interactive { slots } else { slots - 1 };
            prop_assert!(heads.is_empty() || crowd.running() >= used as usize, "shares: a slot idles");
        }
    }
}

/// Twelve agents that always have a next request, one of them with sixty waiting, in half an hour; who is who to the core
/// decides whether they take turns or are served as they come.
fn twelve(take_turns: bool) -> Crowd {
    let agent = |index: usize| {
        let principal = if take_turns { format!("agent-{index:02}") } else { "everybody".to_owned() };
        let depth = if index == 12 { 60 } else { 1 };
        Client { prompt: (200, 3_000), ..client(&principal, Class::Normal, depth, (100, 500)) }
    };
    Crowd::new(12, 2, FOR_EVER, (1..=12).map(agent).collect())
}

/// `make fairness` draws what this writes: what each of the twelve was given, minute by minute.
#[test]
fn shares_of_twelve_clients_one_of_them_greedy() {
    let mut csv = String::from("order,minute,client,cost,median_wait_s\n");
    for take_turns in [false, true] {
        let mut crowd = twelve(take_turns);
        for minute in 0..=30 {
            while crowd.now < minute * MINUTE {
                crowd.passes();
            }
            for (client, given) in crowd.served.iter().enumerate() {
                let mut waits = crowd.waits[client].clone();
                waits.sort_unstable();
                let median = waits.get(waits.len() / 2).map_or(0, |wait| wait / 1_000);
                let order = if take_turns { "turns" } else { "arrival" };
                csv.push_str(&format!("{order},{minute},{},{given},{median}\n", client + 1));
            }
        }
        let all: u64 = crowd.served.iter().sum();
        let greedy = crowd.served[11] as f64 / all as f64;
        let expected = if take_turns { 0.07..0.10 } else { 0.75..0.95 };
        assert!(expected.contains(&greedy), "shares: the greedy one got {greedy:.3} of all");
    }
    if let Some(file) = std::env::var_os("FAIRNESS_CSV") {
        std::fs::write(file, csv).expect("the file can be written");
    }
}
