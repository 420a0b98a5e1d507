//! `mlxsupctl rules --replay 7d`: the rules of the configuration, as the file has them now, against what was recorded.
//!
//! Nothing is carried out. What an action would have changed is not in the record, so a rule that would have helped goes on
//! firing here once per cooldown, until it is parked like one that does not help.

use std::time::Duration;

use serde::Serialize;

use super::in_force;
use crate::config::{self, Config, action_name};
use crate::ctl::args::Facts;
use crate::ctl::control::Control;
use crate::ctl::failure::{ExitStatus, Failure, Kind};
use crate::ctl::home::Home;
use crate::ctl::render::quantity::{Now, plural};
use crate::ctl::render::{json, table};
use crate::ctl::terminal::Terminal;
use crate::ctl::verbs::history::unreadable;
use crate::daemon::clock::{rfc3339, wall};
use crate::history::{HistoryError, Reader, Resolution, Span, percentile, playback};
use crate::supervisor::rules::RuleBook;
use crate::supervisor::{Mono, Wall};

/// Firings listed for people, the newest.
const LISTED: usize = 40;

#[derive(Serialize)]
struct Replay {
    schema: u32,
    since: String,
    until: String,
    /// Seconds of it that were recorded.
    recorded_s: u64,
    rules: Vec<Outcome>,
    fired: Vec<Firing>,
}

#[derive(Serialize)]
struct Outcome {
    name: String,
    fired: usize,
    /// The last evaluation in words.
    explain: String,
}

#[derive(Serialize)]
struct Firing {
    at: String,
    rule: String,
    action: &'static str,
    why: String,
}

/// Prints when which rule would have acted.
pub async fn run(
    since: Wall,
    facts: Facts,
    home: &Home,
    control: &Control,
    terminal: &mut Terminal,
) -> Result<ExitStatus, Failure> {
    let mut config = config::load(&home.config_file())
        .map_err(|error| Failure::new(Kind::Configuration, error.to_string().trim_end()))?;
    let now = wall();
    let begins = Wall(now.0.saturating_sub(crate::supervisor::time::millis(Resolution::TenSeconds.kept())));
    let span = Span { from: since.max(begins), until: Wall(now.0 + 1) };
    let Some(reader) = Reader::open(&home.history()).map_err(unreadable)? else {
        return Err(Failure::new(Kind::Usage, format!("nothing is recorded in `{}`", home.path.display()))
            .hint("no daemon has run in this home; name another with --home"));
    };
    if since < begins {
        terminal.say("Samples are kept finely enough for 8 days; the replay begins there")?;
    }
    config.rules = in_force::rules(&config, control).await;
    let replay = replay(&reader, &config, span, now).map_err(unreadable)?;
    if facts.json {
        let text = serde_json::to_vec(&replay)
            .map_err(|error| Failure::new(Kind::Internal, "cannot write the replay as JSON").caused_by(error))?;
        terminal.print(json::pretty(&text))?;
    } else {
        let text = told(&replay, Now::of_machine());
        terminal.print(text)?;
    }
    Ok(ExitStatus::Ok)
}

fn replay(reader: &Reader, config: &Config, span: Span, now: Wall) -> Result<Replay, HistoryError> {
    let rules = &config.rules;
    let mut book = RuleBook::new(rules, &RuleBook::default()).with_cache_limit(config.worker.memory.cache_limit);
    // Percentiles stand for what they are today.
    let wanted = percentile::named_by(rules);
    book.learn(wanted.into_iter().map(|wanted| percentile::percentile(reader, wanted, now)).collect::<Result<_, _>>()?);
    let mut fired = Vec::new();
    let (mut recorded, mut last) = (Duration::ZERO, None);
    playback::play(reader, span, |at, sample| {
        // A clock that was set back has recorded some instants twice, in order all the same.
        let mono = Mono(at.0);
        let step = last.map_or(Duration::ZERO, |last| mono - last);
        recorded += step.min(Duration::from_secs(5));
        last = Some(mono);
        for firing in book.evaluate(sample, mono) {
            book.acted(&firing.rule, firing.action, mono);
            let (rule, why) = (firing.rule, firing.why);
            fired.push(Firing { at: rfc3339(at), rule, action: action_name(firing.action), why });
        }
    })?;
    let outcome = |(name, _, explain): (&str, _, &str)| Outcome {
        name: name.to_owned(),
        fired: fired.iter().filter(|firing| firing.rule == name).count(),
        explain: explain.to_owned(),
    };
    Ok(Replay {
        schema: 1,
        since: rfc3339(span.from),
        until: rfc3339(span.until),
        recorded_s: recorded.as_secs(),
        rules: book.views().map(outcome).collect(),
        fired,
    })
}

fn told(replay: &Replay, now: Now) -> String {
    let recorded = crate::ctl::render::quantity::whole_span(replay.recorded_s as f64);
    let mut text = format!("{recorded} of the time since {} are recorded; ", now.clock(&replay.since));
    text.push_str("nothing is carried out, so what would have helped goes on here\n\n");
    let line = |rule: &Outcome| match rule.fired {
        0 => vec![rule.name.clone(), "never".to_owned(), rule.explain.clone()],
        times => vec![rule.name.clone(), plural(times as u64, "time", "times"), String::new()],
    };
    let lines: Vec<_> = replay.rules.iter().map(line).collect();
    text.extend(table::grid(&lines).into_iter().map(|line| line + "\n"));
    let skipped = replay.fired.len().saturating_sub(LISTED);
    if !replay.fired.is_empty() {
        text.push('\n');
    }
    if skipped > 0 {
        text.push_str(&format!("{} before; --json has them all\n", plural(skipped as u64, "firing", "firings")));
    }
    let firing = |firing: &Firing| {
        vec![now.stamp(&firing.at), firing.rule.clone(), firing.action.to_owned(), firing.why.clone()]
    };
    let lines: Vec<_> = replay.fired[skipped..].iter().map(firing).collect();
    text.extend(table::grid(&lines).into_iter().map(|line| line + "\n"));
    text
}
