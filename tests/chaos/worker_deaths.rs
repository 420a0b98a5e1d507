//! Workers that end in every way: killed, crashed in mid-token, hung, stopped.

use std::time::Duration;

use nix::sys::signal::{self, Signal};

use crate::chance::Chance;
use crate::engine::Engine;
use crate::exit_watch::ExitWatch;
use crate::phase::{self, Act, Phase, Report};
use crate::rig::{SLOTS, patiently};
use crate::settings::Settings;

/// A fault that was ordered and does not come within this time is helped along.
const FAULT_PATIENCE: Duration = Duration::from_secs(8);

/// Between a signal and the same again, if the first was not enough.
const SECOND_SHOT: Duration = Duration::from_millis(20);

/// One way to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Segv,
    Stop,
    Crash,
    HalfFrame,
    Wedge,
    SelfStop,
    Stall,
}

impl Kind {
    /// Quick ends are many, as those that must be found out by waiting take seconds.
    fn draw(chance: &mut Chance) -> Self {
        match chance.below(40) {
            0..14 => Self::Kill,
            14..20 => Self::Segv,
            20..28 => Self::Crash,
            28..36 => Self::HalfFrame,
            36 => Self::Stop,
            37 => Self::Wedge,
            38 => Self::SelfStop,
            _ => Self::Stall,
        }
    }

    /// What the worker is told when it is born.
    fn order(self, chance: &mut Chance, spared: usize) -> String {
        // From the second token on: whoever ends a worker twice before its first is taken for the cause.
        let token = 2 + chance.below(10);
        let fault = match self {
            Self::Kill | Self::Segv | Self::Stop => return String::new(),
            Self::Crash => format!("\"crash_at_token\":{token},\"exit_code\":3"),
            Self::HalfFrame => format!("\"half_frame_at_token\":{token}"),
            Self::Wedge => format!("\"wedge_at_token\":{token}"),
            Self::SelfStop => format!("\"stop_at_token\":{token}"),
            Self::Stall => format!("\"stall_at_token\":{token}"),
        };
        format!("{fault},\"spared_requests\":{spared}")
    }

    fn signal(self) -> Option<Signal> {
        match self {
            Self::Kill => Some(Signal::SIGKILL),
            Self::Segv => Some(Signal::SIGSEGV),
            Self::Stop => Some(Signal::SIGSTOP),
            Self::Crash | Self::HalfFrame | Self::Wedge | Self::SelfStop | Self::Stall => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL",
            Self::Segv => "SIGSEGV",
            Self::Stop => "SIGSTOP",
            Self::Crash => "crash",
            Self::HalfFrame => "half frame",
            Self::Wedge => "wedge",
            Self::SelfStop => "self-stop",
            Self::Stall => "stall",
        }
    }
}

pub fn run(settings: &Settings) -> Report {
    let mut kind = Kind::Kill;
    let mut past = 0;
    // A request that is alone with two workers that happen to be killed before its first token is failed by design.
    let spared = spared(settings.engine);
    phase::run(settings, "worker deaths", settings.kills, true, |phase| {
        let ended = if std::mem::take(&mut phase.orders_withdrawn) { Kind::Kill } else { kind };
        kind = Kind::draw(&mut phase.chance);
        let next_orders = kind.order(&mut phase.chance, spared);
        past = end_one(phase, past, ended, &next_orders, 3 + spared)?;
        Ok(Act::Did(ended.word()))
    })
}

/// How many requests a worker is left in peace for, whatever becomes of it later.
///
/// Of a plain request of another engine nothing is seen before its end, so each one that loses its worker is a suspect, and
/// the next worker is given them first, one by one. Whoever ends that one meanwhile makes a poisoned request of an innocent one.
fn spared(engine: Engine) -> usize {
    if engine.continues() { 0 } else { SLOTS + 1 }
}

/// Ends the worker after generation `past` and returns its generation; the next one is born with `orders`. A signal is
/// not sent before `answers` more answers are there.
fn end_one(phase: &mut Phase, past: u64, kind: Kind, orders: &str, answers: usize) -> Result<u64, String> {
    let serving = phase.rig.serving(|serving| serving.generation > past)?;
    phase.rig.order(orders);
    let Some(watch) = ExitWatch::start(serving.pid) else {
        // It was quicker than us.
        return Ok(serving.generation);
    };
    if let Some(deadly) = kind.signal() {
        // Some progress first: a worker killed under a lone suspect is the suspect's second, and that one fails by design.
        let answered = phase.history.answered();
        let _ = patiently(|| (watch.has_ended() || phase.history.answered() >= answered + answers).then_some(()));
        let pause = Duration::from_millis(u64::from(phase.chance.below(80)));
        // Rust's own handler takes the first SIGSEGV for a full stack, finds that it is none, and lets the next one kill.
        for pause in [pause, SECOND_SHOT, SECOND_SHOT] {
            if watch.wait(pause).is_none() {
                let _ = signal::kill(serving.pid, deadly);
            }
        }
    }
    let exit = watch.wait(FAULT_PATIENCE).map_or_else(
        || {
            let _ = signal::kill(serving.pid, Signal::SIGKILL);
            *phase.done.entry(format!("{} that did not come", kind.word())).or_default() += 1;
            watch.wait(FAULT_PATIENCE).ok_or("a killed worker does not end")
        },
        Ok,
    )?;
    phase.exits.insert(serving.generation, exit);
    Ok(serving.generation)
}
