//! Memory rules as pure functions of samples: dwell, hysteresis, cooldown, a ladder of actions, and a sentence for every
//! evaluation.
//!
//! ```text
//! Inactive ── all conditions hold ──▶ Pending ── for `for` ──▶ Firing ── acts ──▶ Cooldown
//!    ▲  ▲ ◀── one lets go ───────────────┘                                          │ still holds: next step
//!    │  └──────────────────── cleared past `clear_*` ───────────────────────────────┘
//! Off: a condition can never hold, its metric is not reported, or its last action was in vain; `explain` says which.
//! ```
//! An action was in vain when the rule still holds one cooldown later. Then the ladder's next step is taken; when the last
//! one was in vain for the third time, the rule is parked until it clears or is changed: what did not help three times
//! only costs.
//! What a rule has loaded or unloaded, no rule undoes within the first one's cooldown.

use std::time::Duration;

use super::conditions::{self, Known, Learned};
use super::time::Mono;
use crate::config::{Action, Rule, action_name};
use crate::control::view::RuleState;
use crate::memory::{Metric, Sample};

/// Samples farther apart than this restart every dwell: nobody knows what happened in between.
const SAMPLE_GAP: Duration = Duration::from_secs(5);

/// How often in a row the last step of a ladder is taken before the rule is parked.
const VAIN_MOST: u32 = 3;

/// A rule that acts now.
#[derive(Debug, Clone, PartialEq)]
pub struct Fired {
    /// The rule's name.
    pub rule: String,
    /// The ladder step.
    pub action: Action,
    /// The evaluation in words.
    pub why: String,
    /// How long after its action streams that cannot be continued may be ended; `None`: never.
    pub break_streams_after: Option<Duration>,
}

/// A rule that will not act again before it has cleared.
#[derive(Debug, Clone, PartialEq)]
pub struct Parked {
    /// The rule's name.
    pub rule: String,
    /// Why, in words.
    pub why: String,
}

/// All rules and where each stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RuleBook {
    standings: Vec<Standing>,
    /// Rules parked since this was last asked for.
    parked: Vec<Parked>,
    known: Known,
    last_sample: Option<Mono>,
    /// The last load or unload that a rule had done, and until when no rule may undo it.
    switched: Option<(Action, Mono)>,
}

#[derive(Debug, Clone, PartialEq)]
struct Standing {
    rule: Rule,
    holding_since: Option<Mono>,
    engaged: bool,
    last_fired: Option<Mono>,
    step: usize,
    /// How often the last step was taken since the rule began to hold.
    last_steps: u32,
    /// Both before the last firing.
    before: (usize, u32),
    parked: bool,
    state: RuleState,
    explain: String,
}

impl RuleBook {
    /// A book of these rules; rules unchanged since `old` keep their standing.
    #[must_use]
    pub fn new(rules: &[Rule], old: &Self) -> Self {
        let standings = rules
            .iter()
            .map(|rule| match old.standings.iter().find(|standing| standing.rule == *rule) {
                Some(standing) => standing.clone(),
                None => Standing {
                    rule: rule.clone(),
                    holding_since: None,
                    engaged: false,
                    last_fired: None,
                    step: 0,
                    last_steps: 0,
                    before: (0, 0),
                    parked: false,
                    state: RuleState::Inactive,
                    explain: "no sample yet".to_owned(),
                },
            })
            .collect();
        let (last_sample, switched, known) = (old.last_sample, old.switched, old.known.clone());
        Self { standings, parked: Vec::new(), known, last_sample, switched }
    }

    /// The same for a worker whose MLX cache is limited to this many bytes: a rule that waits for more says so.
    #[must_use]
    pub fn with_cache_limit(mut self, bytes: u64) -> Self {
        self.known.cache_limit = Some(bytes);
        self
    }

    /// What the machine's history says about the percentiles that rules compare with, in place of what it said before.
    pub fn learn(&mut self, learned: Vec<Learned>) {
        self.known.learned = learned;
    }

    /// Evaluates every rule against one sample and returns those that act.
    pub fn evaluate(&mut self, sample: &Sample, now: Mono) -> Vec<Fired> {
        let gap = self.last_sample.is_none_or(|last| now - last > SAMPLE_GAP);
        self.last_sample = Some(now);
        let mut fired = Vec::new();
        for standing in &mut self.standings {
            let before = standing.parked;
            fired.extend(standing.evaluate(sample, &self.known, gap, now));
            if standing.parked && !before {
                self.parked.push(Parked { rule: standing.rule.name.clone(), why: standing.explain.clone() });
            }
        }
        fired
    }

    /// The rules parked since the last call.
    pub fn take_parked(&mut self) -> Vec<Parked> {
        std::mem::take(&mut self.parked)
    }

    /// True when a rule did the opposite less than its cooldown ago: two rules must not load and unload in turn.
    #[must_use]
    pub fn would_undo(&self, action: Action, now: Mono) -> bool {
        let Some((done, until)) = self.switched else { return false };
        now < until && matches!((done, action), (Action::Load, Action::Unload) | (Action::Unload, Action::Load))
    }

    /// What a rule asked for was begun.
    pub fn acted(&mut self, rule: &str, action: Action, now: Mono) {
        let cooldown = self.standings.iter().find(|standing| standing.rule.name == rule);
        if let Some(standing) = cooldown
            && matches!(action, Action::Load | Action::Unload)
        {
            self.switched = Some((action, now + standing.rule.cooldown));
        }
    }

    /// What a rule asked for was not possible then: the same step is due again one cooldown later, and nothing was in vain.
    pub fn skipped(&mut self, rule: &str) {
        if let Some(standing) = self.standings.iter_mut().find(|standing| standing.rule.name == rule) {
            (standing.step, standing.last_steps) = standing.before;
        }
    }

    /// Name, state and last evaluation of every rule.
    pub fn views(&self) -> impl Iterator<Item = (&str, RuleState, &str)> {
        self.standings.iter().map(|standing| (standing.rule.name.as_str(), standing.state, standing.explain.as_str()))
    }

    /// The rule that currently refuses new requests, if one does.
    #[must_use]
    pub fn refusing(&self) -> Option<&str> {
        self.standings
            .iter()
            .find(|standing| {
                standing.engaged
                    && standing.last_fired.is_some()
                    && standing.rule.actions[..standing.step.min(standing.rule.actions.len())].contains(&Action::Refuse)
            })
            .map(|standing| standing.rule.name.as_str())
    }
}

impl Standing {
    fn evaluate(&mut self, sample: &Sample, known: &Known, gap: bool, now: Mono) -> Option<Fired> {
        let mut holds = true;
        let mut words = Vec::with_capacity(self.rule.when.len());
        for condition in &self.rule.when {
            let judged = conditions::judge(condition, sample, known, self.engaged);
            words.push(judged.words);
            match judged.holds {
                Some(held) => holds &= held,
                None => {
                    self.let_go(RuleState::Off, words.pop().unwrap_or_default());
                    return None;
                }
            }
        }
        let words = words.join(" and ");
        if !holds {
            let never = self.rule.when.iter().find_map(|condition| conditions::unreachable(condition, known));
            let (state, outlook) = match never {
                Some(why) => (RuleState::Off, format!("can never act: {why}")),
                None => {
                    let dwell = conditions::lasting(self.rule.dwell);
                    (RuleState::Inactive, format!("would act after {dwell}: {}", ladder(&self.rule.actions)))
                }
            };
            self.let_go(state, format!("{words}; {outlook}"));
            return None;
        }
        if gap || self.holding_since.is_none() {
            self.holding_since = Some(now);
        }
        self.engaged = true;
        self.pass_over(sample);
        let held = self.holding_since.map_or(Duration::ZERO, |since| now - since);
        if held < self.rule.dwell {
            self.state = RuleState::Pending;
            let (held, left) = (conditions::lasting(held), conditions::lasting(self.rule.dwell - held));
            self.explain = format!("{words} for {held}; acts in {left}: {}", self.next_step());
            return None;
        }
        if let Some(fired) = self.last_fired
            && now - fired < self.rule.cooldown
        {
            self.state = RuleState::Cooldown;
            let left = conditions::lasting(self.rule.cooldown - (now - fired));
            self.explain = match self.is_vain() {
                true => format!("{words}; acted, gives up in {left} unless it clears"),
                false => format!("{words}; acted, may act again in {left}: {}", self.next_step()),
            };
            return None;
        }
        let action = self.next()?;
        if self.is_vain() {
            self.parked = true;
            self.state = RuleState::Off;
            let vain = match action {
                Action::Warn => format!("warned {VAIN_MOST} times in a row"),
                action => format!("{} did not help {VAIN_MOST} times in a row", action_name(action)),
            };
            self.explain = format!("{words}; parked: {vain}; acts again once it has cleared");
            return None;
        }
        self.before = (self.step, self.last_steps);
        self.step = (self.step + 1).min(self.rule.actions.len());
        self.last_steps = (self.last_steps + u32::from(self.step == self.rule.actions.len())).min(VAIN_MOST);
        self.last_fired = Some(now);
        self.state = RuleState::Firing;
        self.explain = format!("{words} for {}", conditions::lasting(held));
        Some(Fired {
            rule: self.rule.name.clone(),
            action,
            why: self.explain.clone(),
            break_streams_after: self.rule.break_streams_after,
        })
    }

    /// Goes to the first step that has anything to do. One without would be skipped and stay due, and none after it would
    /// ever be taken.
    fn pass_over(&mut self, sample: &Sample) {
        let is_pointless = |action: &Action| {
            *action == Action::TrimPrefixCache && sample.get(Metric::PrefixCacheBytes).is_none_or(|bytes| bytes <= 0.0)
        };
        while self.step + 1 < self.rule.actions.len() && self.rule.actions.get(self.step).is_some_and(is_pointless) {
            self.step += 1;
        }
    }

    /// What is done next.
    fn next(&self) -> Option<Action> {
        self.rule.actions.get(self.step).or(self.rule.actions.last()).copied()
    }

    fn next_step(&self) -> &'static str {
        self.next().map_or("nothing", action_name)
    }

    /// True when the last step was taken as often as it is tried. A refusal goes on until the rule clears.
    fn is_vain(&self) -> bool {
        self.last_steps == VAIN_MOST && self.next() != Some(Action::Refuse)
    }

    fn let_go(&mut self, state: RuleState, explain: String) {
        self.holding_since = None;
        self.engaged = false;
        self.step = 0;
        self.last_steps = 0;
        self.parked = false;
        self.state = state;
        self.explain = explain;
    }
}

/// Every step by name, in order.
fn ladder(actions: &[Action]) -> String {
    if actions.is_empty() {
        return "nothing, it only watches".to_owned();
    }
    actions.iter().map(|action| action_name(*action)).collect::<Vec<_>>().join(", then ")
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
