//! What a driver is given, and finds, before its first step.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Driver;
use crate::daemon::boot_config::Verdict;
use crate::daemon::image_change::ImageChange;
use crate::daemon::leftover::Leftover;
use crate::daemon::panic_report::PanicReport;
use crate::daemon::recording::{Beginning, Recorder};
use crate::history::{HistoryWriter, Note};
use crate::supervisor::{Event, Persistent};
use crate::telemetry::Metrics;

impl Driver {
    /// Writes down everything from here on. Before the first step; `kept` and `seed` are what it was made from.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn record(&mut self, file: &Path, kept: &Persistent, seed: u64) -> std::io::Result<()> {
        let now = self.core.snapshot().started;
        let beginning = Beginning { config: self.core.config().clone(), kept: kept.clone(), seed, now };
        self.recorder = Some(Recorder::begin(file, &beginning)?);
        Ok(())
    }

    /// Gives it the means to replace its own image. Before [`Self::run`].
    pub fn set_image_change(&mut self, change: ImageChange) {
        self.image_change = Some(change);
    }

    /// Has restarts counted. Before [`Self::run`].
    pub fn set_metrics(&mut self, metrics: Arc<Metrics>) {
        self.metrics = Some(metrics);
    }

    /// Has samples and events kept for good from now on; `notes` are the writer's.
    pub fn set_history(&mut self, writer: HistoryWriter, notes: mpsc::UnboundedReceiver<Note>) {
        self.journal.keep_in(writer.history().clone());
        self.history = Some(writer);
        self.history_notes = notes;
    }

    /// The machine went down since the last daemon ran.
    pub fn found_panic(&mut self, report: &PanicReport) {
        self.note("kernel_panic", report.message());
        self.found_at_boot = Some(report.view());
    }

    /// Takes over workers of the last daemon, in this order. Before [`Self::run`].
    pub fn adopt(&mut self, workers: Vec<Leftover>) {
        self.effects.begin_epoch();
        for leftover in workers {
            match self.effects.adopt(leftover, self.core.config()) {
                Ok(event) => {
                    self.step(event);
                }
                Err(why) => self.note("leftover_worker", why),
            }
        }
        self.effects.strike_the_gone();
    }

    /// Takes over what was found of the configuration, before the first step.
    pub fn begin_with(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Accepted => {}
            Verdict::WithoutKeys { problems } => {
                let message =
                    format!("nobody comes in over TCP: {}; mend it, then `mlxsupctl reload`", problems.join("; "));
                self.note("keys_rejected", message);
                self.problems = problems;
            }
            Verdict::LastGood { problems } => {
                let message = format!("the last accepted configuration is served instead: {}", problems.join("; "));
                self.note("config_rejected", message);
                self.problems = problems;
            }
            Verdict::Unconfigured { why, problems } => {
                self.problems = problems;
                self.step(Event::Unconfigured { why });
            }
        }
    }
}
