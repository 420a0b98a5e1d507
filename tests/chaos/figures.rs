//! The table at the end.

use std::fmt::Write as _;

use crate::phase::{Report, say};

/// Prints one row per phase.
pub fn print(reports: &[Report]) {
    let head = [
        "phase",
        "acts",
        "requests",
        "complete",
        "refused",
        "errors",
        "broken",
        "lost",
        "double",
        "truncated",
        "altered",
        "cut",
        "kept",
        "adoption",
        "notice",
        "decision",
        "fds",
        "RSS KiB",
        "took",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for report in reports {
        rows.push(row(report));
    }
    let mut widths = [0; 19];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        say(line.trim_end());
    }
    for line in [
        "broken: streams that had begun when their worker died, ended by an error event: only where the engine is not native.",
        "cut: by a SIGKILL of the daemon. Both are counted apart. kept: worker pids that stayed. adoption: daemon start to",
        "worker; notice, decision: kernel's exit of a worker to the daemon's word of it and of the next; p50/p99.",
    ] {
        say(line);
    }
    for report in reports {
        let Report { name, done, verdict, carried, .. } = report;
        say(&format!("{name}: {done:?} errors {:?} carried {carried}", verdict.errors));
        if let Some(why) = &report.skipped {
            say(&format!("{}: SKIPPED, the daemon cannot do it: {why}", report.name));
        }
    }
}

fn row(report: &Report) -> [String; 19] {
    let verdict = &report.verdict;
    let acts: u64 = report.done.values().sum();
    let kept = match report.kept {
        (_, 0) => "-".to_owned(),
        (kept, of) => format!("{:.0} %", 100.0 * f64::from(u32::try_from(kept).unwrap()) / of as f64),
    };
    let (descriptors, resident) =
        report.drift.map_or(("-".to_owned(), "-".to_owned()), |(fds, kib)| (format!("{fds:+}"), format!("{kib:+}")));
    [
        report.name.clone(),
        acts.to_string(),
        verdict.requests.to_string(),
        verdict.complete.to_string(),
        verdict.refused.to_string(),
        verdict.errors.values().sum::<u64>().to_string(),
        verdict.broken.to_string(),
        verdict.lost.to_string(),
        verdict.double.to_string(),
        verdict.truncated.to_string(),
        verdict.altered.to_string(),
        verdict.cut_by_kill.to_string(),
        kept,
        percentiles(&report.adoption_us),
        percentiles(&report.notice_us),
        percentiles(&report.decision_us),
        descriptors,
        resident,
        format!("{:.0?}", report.took),
    ]
}

/// `p50/p99 ms`.
fn percentiles(microseconds: &[u64]) -> String {
    if microseconds.is_empty() {
        return "-".to_owned();
    }
    let mut sorted = microseconds.to_vec();
    sorted.sort_unstable();
    // The smallest value that at least so many percent do not exceed.
    let at = |percent: usize| {
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        f64::from(u32::try_from(sorted[rank - 1]).unwrap_or(u32::MAX)) / 1000.0
    };
    format!("{:.2}/{:.2} ms", at(50), at(99))
}
