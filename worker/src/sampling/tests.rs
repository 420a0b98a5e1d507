use proptest::prelude::*;

use super::*;

/// The obvious implementation: sort everything, filter, draw.
fn reference(logits: &[f32], sampling: &Sampling, uniform: f64) -> u32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut ranked: Vec<(f64, f32, u32)> = (0_u32..)
        .zip(logits)
        .map(|(id, &l)| (f64::from(exponential::weight((l - highest) * sampling.temperature.recip())), l, id))
        .collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.2.cmp(&b.2)));
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k as usize);
    }
    let total: f64 = ranked.iter().map(|c| c.0).sum();
    let mut kept = 0;
    let mut mass = 0.0;
    for candidate in &ranked {
        if candidate.0 < f64::from(sampling.min_p) {
            break;
        }
        kept += 1;
        mass += candidate.0;
        if sampling.top_p < 1.0 && mass >= f64::from(sampling.top_p) * total {
            break;
        }
    }
    ranked.truncate(kept);
    let mut cumulative = 0.0;
    for candidate in &ranked {
        cumulative += candidate.0;
        if cumulative > uniform * mass {
            return candidate.2;
        }
    }
    ranked.last().map_or(0, |c| c.2)
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    (0.05_f32..3.0, prop_oneof![Just(1.0_f32), 0.0_f32..1.0], 0_u32..60, prop_oneof![Just(0.0_f32), 0.0_f32..=1.0])
        .prop_map(|(temperature, top_p, top_k, min_p)| Sampling {
            temperature,
            top_p,
            top_k,
            min_p,
            ..Sampling::default()
        })
}

proptest! {
    #[test]
    fn partial_ranking_equals_the_full_sort(
        mut logits in prop::collection::vec(-30.0_f32..30.0, 1..300),
        sampling in any_sampling(),
        uniform in 0.0_f64..0.999_999,
    ) {
        let expected = reference(&logits, &sampling, uniform);
        prop_assert_eq!(choose(&mut logits, &sampling, &[], 0, uniform), expected);
    }

    #[test]
    fn hostile_logits_never_panic(
        mut logits in prop::collection::vec(
            prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), any::<f32>()], 0..50),
        sampling in any_sampling(),
        history in prop::collection::vec(0_u32..80, 0..40),
        from in 0_usize..60,
        uniform in 0.0_f64..1.0,
    ) {
        let size = logits.len().max(1);
        let sampling = Sampling { repetition_penalty: 1.3, presence_penalty: 0.5, frequency_penalty: -0.5, ..sampling };
        prop_assert!((choose(&mut logits, &sampling, &history, from, uniform) as usize) < size);
    }

    #[test]
    fn uniform_numbers_stay_in_range(seed: u64, choice: u32, position: u32) {
        let u = uniform(seed, choice, position);
        prop_assert!((0.0..1.0).contains(&u));
    }
}

fn sampling(change: impl FnOnce(&mut Sampling)) -> Sampling {
    let mut sampling = Sampling::default();
    change(&mut sampling);
    sampling
}

#[test]
fn greedy_takes_the_lowest_id_of_equals() {
    let greedy = sampling(|s| s.temperature = 0.0);
    assert_eq!(choose(&mut [1.0, 7.0, 7.0, 2.0], &greedy, &[], 0, 0.99), 1);
    assert_eq!(choose(&mut [f32::NAN, -3.0, f32::NAN], &greedy, &[], 0, 0.0), 1);
}

#[test]
fn draws_follow_the_distribution() {
    let logits: Vec<f32> = [0.5_f32, 0.3, 0.2].iter().map(|p| p.ln()).collect();
    let mut counts = [0_u32; 3];
    for position in 0..20_000 {
        let id = choose(&mut logits.clone(), &Sampling::default(), &[], 0, uniform(42, 0, position));
        counts[id as usize] += 1;
    }
    for (count, expected) in counts.iter().zip([10_000.0, 6_000.0, 4_000.0]) {
        assert!((f64::from(*count) - expected).abs() < 300.0, "{counts:?}");
    }
}

#[test]
fn filters_cut_the_tail() {
    let logits: Vec<f32> = [0.4_f32, 0.3, 0.2, 0.1].iter().map(|p| p.ln()).collect();
    let last = |s: Sampling| choose(&mut logits.clone(), &s, &[], 0, 0.999_999);
    assert_eq!(last(Sampling::default()), 3);
    assert_eq!(last(sampling(|s| s.top_k = 2)), 1);
    // 0.4 + 0.3 reaches 0.65: the candidate that crosses the mass stays.
    assert_eq!(last(sampling(|s| s.top_p = 0.65)), 1);
    assert_eq!(last(sampling(|s| s.min_p = 0.45)), 2);
    assert_eq!(last(sampling(|s| s.top_p = 0.0)), 0);
    // Of the two that top-k keeps, the best alone has 4/7 of the mass.
    assert_eq!(
        last(sampling(|s| {
            s.top_k = 2;
            s.top_p = 0.5;
        })),
        0
    );
}

#[test]
fn penalties_touch_what_they_should() {
    let base = [1.0_f32, -1.0, 0.5, 0.25];
    let after = |s: &Sampling| {
        let mut logits = base;
        penalise(&mut logits, s, &[1, 0, 0, 2, 0, 9], 2);
        logits
    };
    assert_eq!(after(&sampling(|s| s.repetition_penalty = 2.0)), [0.5, -2.0, 0.25, 0.25]);
    assert_eq!(after(&sampling(|s| s.presence_penalty = 0.5)), [0.5, -1.0, 0.0, 0.25]);
    assert_eq!(after(&sampling(|s| s.frequency_penalty = 0.5)), [0.0, -1.0, 0.0, 0.25]);
}

#[test]
fn a_bias_decides() {
    let biased = sampling(|s| {
        s.temperature = 0.0;
        s.logit_bias = vec![(2, 100.0), (77, 100.0)];
    });
    assert_eq!(choose(&mut [5.0, 4.0, 3.0], &biased, &[], 0, 0.0), 2);
}

#[test]
fn a_flat_vocabulary_of_150_000_is_drawn_evenly() {
    let mut logits = vec![1.5_f32; 150_000];
    assert_eq!(choose(&mut logits, &Sampling::default(), &[], 0, 0.5), 75_000);
}

#[test]
fn positions_and_choices_have_their_own_numbers() {
    let numbers = [uniform(1, 0, 0), uniform(1, 0, 1), uniform(1, 1, 0), uniform(2, 0, 0), uniform(1 << 32, 0, 0)];
    for (index, number) in numbers.iter().enumerate() {
        assert!(!numbers[..index].contains(number), "{numbers:?}");
    }
    assert_eq!(uniform(0, 0, 0), f64::from(0x6627_e8d5_u32 >> 5) / f64::from(1 << 27) + low_part());
}

/// The lower 26 bits of the first known answer.
fn low_part() -> f64 {
    f64::from(0xe169_c58d_u32 >> 6) / (1_u64 << 53) as f64
}
