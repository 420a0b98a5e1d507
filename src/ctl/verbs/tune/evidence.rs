//! What the history says about this machine: the 99th percentiles of a week.

use std::time::Duration;

use mlxsup_fit::Observed;
use mlxsup_fit::observed::LEAST_SECONDS;

use crate::ctl::failure::Failure;
use crate::ctl::home::Home;
use crate::ctl::terminal::Terminal;
use crate::daemon::clock::wall;
use crate::history::percentile::{self, Wanted};
use crate::memory::Metric;
use crate::supervisor::Wall;

/// How much history counts.
const WEEK: Duration = Duration::from_secs(7 * 86_400);

const PERCENTILE: f64 = 99.0;

/// A history that cannot be read is none, and said so.
pub fn observed(home: &Home, terminal: &mut Terminal) -> Result<Observed, Failure> {
    match look_up(home, wall()) {
        Ok(observed) => Ok(observed),
        Err(error) => {
            terminal.say(&format!("{} {error}", terminal.err_paint.warn("warning:")))?;
            Ok(Observed::default())
        }
    }
}

fn look_up(home: &Home, now: Wall) -> Result<Observed, crate::history::HistoryError> {
    let wanted = |metric| Wanted { metric, percentile: PERCENTILE, of: WEEK };
    let metrics = [
        Metric::KvBytes,
        Metric::MlxCache,
        Metric::WorkerFootprint,
        Metric::WorkerCompressed,
        Metric::SystemUsed,
        Metric::RequestsActive,
    ];
    let learned = percentile::look_up(&home.history(), &metrics.map(wanted), now)?;
    let found = |metric| learned.iter().find(|learned| learned.metric == metric);
    // A worker that ran for an hour of this week says little about it, however long the machine was watched.
    let enough = |metric| found(metric).filter(|learned| learned.recorded.as_secs() >= LEAST_SECONDS);
    let value = |metric| enough(metric).and_then(|learned| learned.value);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of one machine, rounded")]
    let bytes = |metric| value(metric).map(|bytes| bytes.max(0.0) as u64);
    Ok(Observed {
        // The machine is recorded whenever anything is.
        seconds: found(Metric::SystemUsed).map_or(0, |learned| learned.recorded.as_secs()),
        kv_bytes: bytes(Metric::KvBytes),
        cache_bytes: bytes(Metric::MlxCache),
        footprint_bytes: bytes(Metric::WorkerFootprint),
        compressed_bytes: bytes(Metric::WorkerCompressed),
        used_bytes: bytes(Metric::SystemUsed),
        active: value(Metric::RequestsActive),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::home::Source;
    use crate::history::store::Store;
    use crate::memory::Sample;

    #[test]
    fn a_week_of_history_is_evidence_and_none_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { path: folder.path().to_owned(), source: Source::Flag };
        let now = Wall(1_800_000_000_000);
        assert_eq!(look_up(&home, now).unwrap(), Observed::default());
        let mut store = Store::open(&home.history()).unwrap();
        let samples: Vec<_> = (1..=9000_u32)
            .map(|step| {
                let mut sample = Sample::default();
                sample.set(Metric::SystemUsed, Some(f64::from(step)));
                sample.set(Metric::RequestsActive, Some(2.0));
                sample.set(Metric::MlxCache, (step < 360).then_some(1e9));
                (Wall(now.0 - u64::from(9001 - step) * 10_000), sample)
            })
            .collect();
        store.write(&samples, &[]).unwrap();
        store.settle().unwrap();
        let observed = look_up(&home, now).unwrap();
        assert_eq!((observed.seconds, observed.used_bytes, observed.active), (90_000, Some(8910), Some(2.0)));
        assert!(observed.is_evidence() && observed.kv_bytes.is_none());
        assert_eq!(observed.cache_bytes, None, "recorded for an hour only");
    }
}
