//! Judges a history: does every request end once, whole or with a word about why not?
//!
//! Knows the fake worker's only answer (token `p` is the word `w<p> `) and the [`Grounds`] on which a request may end
//! otherwise than whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::history::{Asked, Dispatch, Event, Id, Outcome, Seen};

/// The daemon's word of a worker's death may come so much later than what clients see of it.
const WORD: Duration = Duration::from_secs(1);

/// A client on a busy machine may read a token so much later than the daemon tells of the death of the worker that made it.
const READ_LATE: Duration = Duration::from_millis(250);

/// What may be forgiven, and to whom.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// Instants of daemon SIGKILLs: a request under way may be cut.
    pub daemon_kills: &'a [Instant],
    /// Deaths of workers that were meant to die. Two under one request, and no token between, may poison it; one ends a
    /// stream that has begun, where nobody can go on with it.
    pub worker_deaths: &'a [Instant],
    /// The next worker goes on with a stream.
    pub continues: bool,
}

/// The sums, and every breach in words.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub requests: u64,
    pub complete: u64,
    /// Connects that nobody took.
    pub refused: u64,
    /// Streams that had begun when their worker died, ended by an error event.
    pub broken: u64,
    /// Other typed errors, by code.
    pub errors: BTreeMap<String, u64>,
    /// Neither whole nor ended with a typed error, and no daemon was killed meanwhile.
    pub lost: u64,
    /// Given to a worker anew although tokens had come, or answered twice.
    pub double: u64,
    /// Shorter than asked, or without its terminator, and yet ended cleanly.
    pub truncated: u64,
    /// Text that is no prefix of the right one.
    pub altered: u64,
    /// Under way when a daemon was killed.
    pub cut_by_kill: u64,
    pub violations: Vec<String>,
}

/// What is known of one request.
#[derive(Debug, Default)]
struct Track<'h> {
    invoked: Option<(Instant, Asked)>,
    first_byte: Option<Instant>,
    ends: Vec<(Instant, &'h Seen)>,
}

/// Judges.
pub fn check(events: &[Event], dispatches: &[Dispatch], grounds: &Grounds<'_>) -> Verdict {
    let mut tracks: BTreeMap<Id, Track<'_>> = BTreeMap::new();
    let mut verdict = Verdict::default();
    for event in events {
        match event {
            Event::Invoked { id, at, asked } => {
                let track = tracks.entry(*id).or_default();
                if track.invoked.replace((*at, *asked)).is_some() {
                    verdict.violations.push(format!("request {id}: invoked twice; the harness is wrong"));
                }
            }
            Event::FirstByte { id, at } => tracks.entry(*id).or_default().first_byte = Some(*at),
            Event::Ended { id, at, seen } => tracks.entry(*id).or_default().ends.push((*at, seen)),
        }
    }
    for (id, track) in &tracks {
        verdict.requests += 1;
        judge(*id, track, grounds, &mut verdict);
    }
    judge_dispatches(dispatches, &mut verdict);
    verdict
}

fn judge(id: Id, track: &Track<'_>, grounds: &Grounds<'_>, verdict: &mut Verdict) {
    let Some((invoked, asked)) = track.invoked else {
        verdict.violations.push(format!("request {id}: an end without a beginning"));
        return;
    };
    let [(ended, seen)] = track.ends.as_slice() else {
        let count = track.ends.len();
        *(if count == 0 { &mut verdict.lost } else { &mut verdict.double }) += 1;
        verdict.violations.push(format!("request {id}: {count} ends"));
        return;
    };
    let mut breach = |why: String| verdict.violations.push(format!("request {id} ({asked:?}): {why}"));
    match &seen.outcome {
        Outcome::Complete => verdict.complete += 1,
        Outcome::Error { status, code } => {
            let deaths_from = |start: Instant| {
                grounds.worker_deaths.iter().filter(|death| (start..=*ended + WORD).contains(death)).count()
            };
            let deaths = deaths_from(invoked);
            let in_vain = deaths_from(seen.last_piece.map_or(invoked, |last| invoked.max(last - READ_LATE)));
            // Comments say nothing of an answer.
            let begun = asked.stream && !seen.identities.is_empty();
            match code.as_str() {
                "engine_error" if begun && deaths > 0 && !grounds.continues => verdict.broken += 1,
                "poisoned" if in_vain > 1 && (grounds.continues || !begun) => {
                    *verdict.errors.entry(code.clone()).or_default() += 1;
                }
                _ => {
                    *verdict.errors.entry(code.clone()).or_default() += 1;
                    breach(format!("error {status} {code}, begun: {begun}, workers that died meanwhile: {deaths}"));
                }
            }
        }
        Outcome::Cut if grounds.daemon_kills.iter().any(|kill| (invoked..=*ended).contains(kill)) => {
            verdict.cut_by_kill += 1;
        }
        Outcome::Cut | Outcome::Silent | Outcome::Garbled { .. } => {
            verdict.lost += 1;
            let first = track.first_byte.map(|first| first - invoked);
            breach(format!("lost: {:?} after {:?}, first byte after {first:?}", seen.outcome, *ended - invoked));
        }
        Outcome::Unterminated => {
            verdict.truncated += 1;
            breach("ended cleanly without its terminator".to_owned());
        }
        Outcome::Refused { why } => {
            verdict.refused += 1;
            breach(format!("refused: {why}"));
        }
    }
    if seen.identities.len() > 1 {
        verdict.double += 1;
        breach(format!("two answers in one: {:?}", seen.identities));
    }
    for choice in 0..asked.choices as usize {
        let text = seen.texts.get(choice).map_or("", String::as_str);
        match compare(text, asked.tokens) {
            Text::Whole => {}
            Text::Prefix if seen.outcome != Outcome::Complete => {}
            Text::Prefix => {
                verdict.truncated += 1;
                breach(format!("complete, and yet short: {} of {} tokens", text.matches(' ').count(), asked.tokens));
            }
            Text::Repeated(word) => {
                verdict.double += 1;
                breach(format!("{word} came twice"));
            }
            Text::Altered(word) => {
                verdict.altered += 1;
                breach(format!("{word} instead of the right token"));
            }
        }
    }
}

enum Text {
    Whole,
    Prefix,
    Repeated(String),
    Altered(String),
}

fn compare(text: &str, tokens: u32) -> Text {
    let mut position = 0;
    for word in text.split_inclusive(' ') {
        position += 1;
        if word != format!("w{position} ") {
            let number = word.trim().strip_prefix('w').and_then(|number| number.parse::<u32>().ok());
            return match number {
                Some(number) if number < position => Text::Repeated(word.to_owned()),
                _ => Text::Altered(word.to_owned()),
            };
        }
    }
    match position.cmp(&tokens) {
        std::cmp::Ordering::Less => Text::Prefix,
        std::cmp::Ordering::Equal => Text::Whole,
        std::cmp::Ordering::Greater => Text::Altered(format!("w{position} ")),
    }
}

/// A worker that is given an answer anew gets at least the tokens that the one before got.
fn judge_dispatches(dispatches: &[Dispatch], verdict: &mut Verdict) {
    let mut latest: BTreeMap<&str, &Dispatch> = BTreeMap::new();
    for dispatch in dispatches {
        if let Some(before) = latest.insert(&dispatch.answer, dispatch)
            && before.replayed > dispatch.replayed
        {
            verdict.double += 1;
            verdict
                .violations
                .push(format!("{before:?} was followed by {dispatch:?}: delivered tokens were forgotten"));
        }
    }
}
