//! Taking over workers of the last daemon: from what [`super::leftover`] found to links like those of our own spawning.

use super::effects::Effects;
use super::leftover::{Leftover, address_of, ended_unseen, family_of, socket_of};
use crate::config::Config;
use crate::link::probe::Readiness;
use crate::link::process::Process;
use crate::link::stderr_tail::StderrTail;
use crate::supervisor::event::Inherited;
use crate::supervisor::{Event, Generation};

impl Effects {
    /// Takes over a worker: from now on it is watched, and its exit closes what the core asks of it. The event is for
    /// the core; `Err` says why there is none.
    ///
    /// # Errors
    /// When the worker ended meanwhile, or it cannot be watched; it is left alone then.
    pub fn adopt(&mut self, leftover: Leftover, config: &Config) -> Result<Event, String> {
        let Leftover { mut record, found, status } = leftover;
        let generation = Generation(record.generation);
        let socket = socket_of(&record, self.home());
        let refused = |why: String| format!("worker {generation} (pid {}) is not adopted: {why}", record.pid);
        let start = record.start.clone().ok_or_else(|| refused("nobody knows when it started".to_owned()))?;
        let tail = StderrTail::from(&self.worker_log(), record.log_from);
        let on_exit = self.on_exit(generation, socket.clone(), tail);
        let process = Process::adopt(record.pid, &start, family_of(&record), on_exit).map_err(|error| {
            // It may have been dying when it was looked at.
            if error.kind() == std::io::ErrorKind::NotFound {
                ended_unseen(&record, "it is gone")
            } else {
                refused(error.to_string())
            }
        })?;
        let readiness = match (&found, status) {
            (Inherited::Ready(_), status) => Readiness::Known(status.map(Box::new)),
            (Inherited::Loading { .. }, _) => Readiness::Asked,
            (Inherited::Silent { .. }, _) => Readiness::Past,
        };
        let address = address_of(&record, self.home(), self.epoch());
        record.socket = Some(socket);
        let (pid, engine) = (record.pid, record.engine);
        self.remember(record);
        self.attach(generation, address, process, readiness, config);
        Ok(Event::Adopted { generation, pid, engine, found })
    }
}
