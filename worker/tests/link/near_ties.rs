//! How good a seam is in numbers: the real model's answers are cut at random places, continued, and judged.
//!
//! After a seam every greedy token must be within 1e-3 logits of the best one of a reference pass over the exact prefix,
//! and at least 99.5 % of the greedy answers must be the ones nothing had disturbed. `MLXSUP_SEAMS=RUNS` makes it long
//! (`make seams`) and prints the table.

use std::collections::HashMap;
use std::fmt;
use std::io::Write;
use std::sync::Arc;

use mlxsup_worker::board::Board;
use mlxsup_worker::engine::sequence::{SequenceEvent, SequenceRequest};
use mlxsup_worker::engine::{self, EngineHandle};
use mlxsup_worker::model::{self, KvCache, Model, Precision, Segment};
use mlxsup_worker::sampling::Sampling;
use mlxsup_worker::text::{Codec, TemplateInput};
use mlxsup_worker_api::settings::Device;
use mlxsup_worker_api::{Settings, WiredLimit};
use serde_json::json;
use tokio::sync::mpsc;

use crate::real_model;

/// How far below the best logit of the reference a greedy token may be.
const TOLERANCE: f32 = 1e-3;
/// Share of greedy answers that must be the undisturbed ones.
const IDENTICAL_GREEDY: f64 = 0.995;
/// The same for drawn ones. A draw that falls between two ways of rounding a probability changes every continuation of
/// its answer at once, so a few hundred runs say little about the true share: this only finds what is broken.
const IDENTICAL_SAMPLED: f64 = 0.8;
/// Sequences decoded together.
const SLOTS: usize = 4;
/// Continuations of one answer.
const CUTS: usize = 4;
/// Runs and tokens per answer in `make test`.
const SHORT: (usize, u32) = (16, 10);
/// Tokens per answer in the long form.
const LONG_ANSWER: u32 = 48;

const TOPICS: [&str; 8] = ["crabs", "the sea at night", "prime numbers", "tea", "a lost key", "Mars", "rain", "bread"];
const FORMS: [&str; 6] = [
    "Write two sentences about",
    "Explain to a child what is special about",
    "Tell me a short story about",
    "List three facts about",
    "Write a poem with many rare words about",
    "Argue in one paragraph against",
];

/// One answer that nothing disturbs.
struct Undisturbed {
    prompt: Vec<u32>,
    greedy: bool,
    seed: u64,
    ids: Vec<u32>,
}

/// One continuation of an answer.
struct Continued {
    answer: usize,
    cut: usize,
    /// Decoded together with others.
    company: bool,
    ids: Vec<u32>,
}

#[tokio::test]
async fn a_seam_is_as_good_as_no_seam() {
    let long = std::env::var("MLXSUP_SEAMS").ok().map(|runs| runs.parse().expect("MLXSUP_SEAMS is a number of runs"));
    let (runs, max_tokens) = long.map_or(SHORT, |runs| (runs, LONG_ANSWER));
    let (answers, continued) = run(runs, max_tokens).await;
    let table = judge(&answers, &continued);
    if long.is_some() {
        writeln!(std::io::stdout(), "{table}").expect("a place for the table");
    }
    for row in &table.rows {
        assert!(row.worst_gap.is_none_or(|gap| gap <= TOLERANCE), "a greedy token is too far from the best:\n{table}");
    }
    assert!(table.identical(true) >= IDENTICAL_GREEDY, "too many greedy answers changed at a seam:\n{table}");
    assert!(table.identical(false) >= IDENTICAL_SAMPLED, "too many drawn answers changed at a seam:\n{table}");
}

/// Lets the engine answer undisturbed, then from random cuts; it is gone afterwards.
async fn run(runs: usize, max_tokens: u32) -> (Vec<Undisturbed>, Vec<Continued>) {
    let settings = Settings {
        model: real_model().display().to_string(),
        device: Device::Cpu,
        wired_limit: WiredLimit::Off,
        slots: Some(SLOTS as u32),
        ..Settings::default()
    };
    let started = engine::start(&settings, &Arc::new(Board::default())).expect("the engine");
    let codec = Codec::open(&started.source).expect("the text side");
    let (handle, stop_ids) = (&started.handle, codec.stop_ids.to_vec());
    let mut answers = Vec::new();
    for index in 0..runs.div_ceil(CUTS) {
        let greedy = index % 2 == 0;
        let mut answer = Undisturbed { prompt: prompt(&codec, index / 2), greedy, seed: index as u64, ids: Vec::new() };
        answer.ids = collect(submit(handle, &answer, 0, max_tokens, &stop_ids)).await;
        answers.push(answer);
    }
    let mut random = Random(1);
    let cuts = (0..runs).map(|run| {
        let answer = run % answers.len();
        (answer, 1 + random.below(answers[answer].ids.len() - 1))
    });
    let cuts: Vec<(usize, usize)> = cuts.collect();
    let mut continued = Vec::new();
    let (alone, together) = cuts.split_at(cuts.len() / 2);
    for group in alone.chunks(1).chain(together.chunks(SLOTS)) {
        let events: Vec<_> =
            group.iter().map(|&(answer, cut)| submit(handle, &answers[answer], cut, max_tokens, &stop_ids)).collect();
        for (&(answer, cut), events) in group.iter().zip(events) {
            continued.push(Continued { answer, cut, company: group.len() > 1, ids: collect(events).await });
        }
    }
    drop(started.handle);
    started.thread.join().expect("the engine ends");
    (answers, continued)
}

fn prompt(codec: &Codec, index: usize) -> Vec<u32> {
    let (form, topic) = (FORMS[index % FORMS.len()], TOPICS[index / FORMS.len() % TOPICS.len()]);
    let count = index / FORMS.len() / TOPICS.len();
    let text = if count == 0 { format!("{form} {topic}.") } else { format!("{form} {topic}, for the {count}. time.") };
    let messages = [json!({"role": "user", "content": text})];
    let template = codec.template.as_ref().expect("a template");
    let text = template.render(&TemplateInput { messages: &messages, ..TemplateInput::default() }).expect("a prompt");
    codec.tokenizer.encode_rendered(&text).expect("ids")
}

fn submit(
    engine: &EngineHandle,
    answer: &Undisturbed,
    cut: usize,
    max_tokens: u32,
    stop_ids: &[u32],
) -> mpsc::UnboundedReceiver<SequenceEvent> {
    let (events, receiver) = mpsc::unbounded_channel();
    let request = SequenceRequest {
        prompt: answer.prompt.clone(),
        generated: answer.ids[..cut].to_vec(),
        choice: 0,
        seed: answer.seed,
        sampling: Sampling { temperature: if answer.greedy { 0.0 } else { 1.0 }, ..Sampling::default() },
        max_tokens,
        stop_ids: stop_ids.to_vec(),
        logprobs: None,
        replay_logprobs: false,
        events,
    };
    engine.submit(request).expect("taken");
    receiver
}

async fn collect(mut events: mpsc::UnboundedReceiver<SequenceEvent>) -> Vec<u32> {
    let mut ids = Vec::new();
    while let Some(event) = events.recv().await {
        match event {
            SequenceEvent::Token { id, .. } => ids.push(id),
            SequenceEvent::Failed(why) => panic!("the engine failed: {why}"),
            _ => {}
        }
    }
    ids
}

/// Compares, and measures greedy tokens against a pass over everything before them.
fn judge(answers: &[Undisturbed], continued: &[Continued]) -> Table {
    let mut reference = Reference::load();
    let mut table = Table::default();
    for run in continued {
        let answer = &answers[run.answer];
        let whole: Vec<u32> = answer.ids[..run.cut].iter().chain(&run.ids).copied().collect();
        let row = table.row(answer.greedy, run.company);
        row.runs += 1;
        row.tokens += run.ids.len();
        row.identical += usize::from(whole == answer.ids);
        if answer.greedy {
            let gaps = reference.gaps(&answer.prompt, &whole);
            let worst = gaps[run.cut..].iter().copied().fold(0.0, f32::max);
            row.worst_gap = Some(row.worst_gap.unwrap_or(0.0).max(worst));
        }
    }
    table
}

/// The same weights, asked for whole answers at once.
struct Reference {
    model: Model,
    known: HashMap<Vec<u32>, Vec<f32>>,
}

impl Reference {
    fn load() -> Self {
        mlx_rs::Device::set_default(&mlx_rs::Device::cpu());
        let opened = model::open(&real_model().display().to_string()).expect("a model");
        let model = Model::load(&opened, Precision::Float32, &mut |_| {}).expect("weights");
        Self { model, known: HashMap::new() }
    }

    /// For every token of an answer, how far its logit is below the best one.
    fn gaps(&mut self, prompt: &[u32], ids: &[u32]) -> Vec<f32> {
        let tokens: Vec<u32> = prompt.iter().chain(ids).copied().collect();
        if let Some(known) = self.known.get(&tokens) {
            return known.clone();
        }
        let mut cache = KvCache::default();
        // The row after the last token predicts nothing that is judged.
        let segment = Segment { tokens: &tokens[..tokens.len() - 1], cache: &mut cache, logits_from: prompt.len() - 1 };
        let logits = self.model.step(&mut [segment]).expect("a pass").remove(0).expect("logits");
        let rows = logits.chunks(self.model.shape().vocabulary as usize);
        let best = |row: &[f32]| row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let gaps: Vec<f32> = rows.zip(ids).map(|(row, &id)| best(row) - row[id as usize]).collect();
        self.known.insert(tokens, gaps.clone());
        gaps
    }
}

#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

struct Row {
    greedy: bool,
    company: bool,
    runs: usize,
    identical: usize,
    /// Generated after seams.
    tokens: usize,
    worst_gap: Option<f32>,
}

impl Table {
    fn row(&mut self, greedy: bool, company: bool) -> &mut Row {
        let found = self.rows.iter().position(|row| (row.greedy, row.company) == (greedy, company));
        let index = found.unwrap_or_else(|| {
            self.rows.push(Row { greedy, company, runs: 0, identical: 0, tokens: 0, worst_gap: None });
            self.rows.len() - 1
        });
        &mut self.rows[index]
    }

    fn identical(&self, greedy: bool) -> f64 {
        let rows = || self.rows.iter().filter(|row| row.greedy == greedy);
        let sum = |part: fn(&Row) -> usize| rows().map(part).sum::<usize>() as f64;
        sum(|row| row.identical) / sum(|row| row.runs)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<20} {:>6} {:>8} {:>11} {:>12}", "continued", "runs", "tokens", "identical", "worst gap")?;
        for row in &self.rows {
            let how = format!(
                "{}, {}",
                if row.greedy { "greedy" } else { "sampled" },
                if row.company { "in company" } else { "alone" }
            );
            let gap = row.worst_gap.map_or_else(|| "-".to_owned(), |gap| format!("{gap:.7}"));
            let identical = 100.0 * row.identical as f64 / row.runs as f64;
            writeln!(f, "{how:<20} {:>6} {:>8} {identical:>9.2} % {gap:>12}", row.runs, row.tokens)?;
        }
        Ok(())
    }
}

/// Xorshift: the same cuts every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % (limit.max(1) as u64)) as usize
    }
}
