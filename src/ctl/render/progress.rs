//! One line that says what the daemon is doing now, from its status.

use super::quantity::{Now, plural, size, size_of, span, whole_span};
use crate::control::view::{HandoverView, Status, WorkerView};

/// Cells of the bar of a load.
const BAR: usize = 24;

/// What changes only when something new begins: lines are printed per phase where they cannot be rewritten.
#[must_use]
pub fn phase(status: &Status) -> String {
    let worker = status.worker.as_ref().map(|worker| (worker.generation, worker.phase.as_str()));
    let handover = status.handover.as_ref().map(|handover| handover.phase.as_str());
    format!("{:?}/{worker:?}/{handover:?}", status.state)
}

/// The line, for example `draining: 2 requests in flight, 1 to come, forced in 1 min 12 s`. The bar of a load only
/// makes sense where it moves.
#[must_use]
pub fn line(status: &Status, now: Now, with_bar: bool) -> String {
    let state = status.state.as_str();
    if let Some(drain) = &status.drain {
        let mut text = format!("draining: {} in flight", plural(drain.active as u64, "request", "requests"));
        if drain.waiting > 0 {
            text.push_str(&format!(", {} to come", drain.waiting));
        }
        if let Some(left) = drain.deadline_at.as_deref().and_then(|at| now.seconds_until(at)) {
            text.push_str(&format!(", forced in {}", whole_span(left)));
        }
        return text;
    }
    if let Some(worker) = &status.worker {
        let text = worker_line(worker, with_bar);
        let waiting = match status.queue.waiting {
            0 => String::new(),
            waiting => format!(", {} waiting", plural(waiting as u64, "request", "requests")),
        };
        return match &status.handover {
            Some(HandoverView { strategy, phase, green: Some(green), .. }) if strategy == "overlap" => {
                format!("overlap handover: {phase}, next worker is generation {}; {text}{waiting}", green.generation)
            }
            Some(handover) => format!("{} handover: {text}{waiting}", handover.strategy),
            None => format!("{state}: {text}{waiting}"),
        };
    }
    match &status.cause {
        Some(cause) => format!("{state}: {}", cause.message),
        None => state.to_owned(),
    }
}

fn worker_line(worker: &WorkerView, with_bar: bool) -> String {
    let generation = worker.generation;
    match worker.phase.as_str() {
        "spawning" => format!("starting worker {generation}"),
        "loading" | "downloading" => match load(worker, with_bar) {
            Some(load) => format!("{} {load}", worker.phase),
            None => format!("{} {}", worker.phase, worker.model),
        },
        "warming" => format!("warming up worker {generation}, {}", span(worker.uptime_s as f64)),
        "stopping" => match worker.footprint_bytes {
            Some(bytes) => format!("stopping worker {generation}, {} left", size(bytes as f64)),
            None => format!("stopping worker {generation}"),
        },
        phase => format!("worker {generation} {phase}"),
    }
}

/// `[######------------------] 12.3 of 34.3 GiB (35 %)`, or without the bar; `None` while nothing is known.
#[must_use]
pub fn load(worker: &WorkerView, with_bar: bool) -> Option<String> {
    let load = worker.load?;
    let done = load.bytes_done as f64;
    if load.bytes_total == 0 {
        return (done > 0.0).then(|| size(done));
    }
    let total = load.bytes_total as f64;
    let share = (done / total).clamp(0.0, 1.0);
    let text = format!("{} ({:.0} %)", size_of(done, total), (share * 100.0).floor());
    if !with_bar {
        return Some(text);
    }
    Some(format!("{} {text}", bar(share, BAR)))
}

/// `[####----]`, of this many cells between the brackets.
#[must_use]
pub fn bar(share: f64, cells: usize) -> String {
    // Only what is complete is drawn full: neither bar nor percentage reaches its end before the load does.
    let filled = (share.clamp(0.0, 1.0) * cells as f64).floor() as usize;
    let bar: String = (0..cells).map(|cell| if cell < filled { '#' } else { '-' }).collect();
    format!("[{bar}]")
}
