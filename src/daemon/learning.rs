//! What rules learn from the machine's own history: the percentiles they name, looked up now and then for the core.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::clock::wall;
use crate::config::Config;
use crate::history::percentile;
use crate::supervisor::Event;

/// Between two looks. A percentile of days changes slowly, and each look reads some megabytes.
const LOOK_EVERY: Duration = Duration::from_secs(300);

/// Tells the core what it should know, at once, after every change of the configuration and every few minutes. Ends with the
/// driver; dropping the future loses nothing.
pub async fn teach(file: PathBuf, mut config: watch::Receiver<Arc<Config>>, events: mpsc::UnboundedSender<Event>) {
    loop {
        let wanted = percentile::named_by(&config.borrow_and_update().rules);
        if !wanted.is_empty() {
            let file = file.clone();
            let looked = tokio::task::spawn_blocking(move || percentile::look_up(&file, &wanted, wall()));
            match looked.await {
                Ok(Ok(percentiles)) => {
                    if events.send(Event::Learned { percentiles }).is_err() {
                        return;
                    }
                }
                // What was known stays known. The writer sees to a damaged file, and tells.
                Ok(Err(error)) => tracing::warn!(%error, "rules learn nothing new from the history"),
                Err(_) => return,
            }
        }
        tokio::select! {
            changed = config.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}
