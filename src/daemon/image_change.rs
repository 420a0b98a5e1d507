//! The edge of an upgrade: trying the image, holding clients back, and the exec itself. When, the core decides.
//!
//! ```text
//! VetImage ─▶ a thread runs the image ─▶ ImageVetted          PauseAccepting, ResumeAccepting ─▶ the gateway's door
//! Exec ─▶ the last connection ends ─▶ Request::Exec ─▶ driver ─▶ signals wait ─▶ descriptors lie open ─▶ execve
//! ```
//! Everything before `execve` is undone when it fails, and this image serves on.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::clock::wall;
use super::door::{Door, Porter};
use super::driver::Request;
use super::exec::exec;
use super::program::Program;
use super::signals::SignalGate;
use super::vetting::{self, Candidate};

use crate::service::inheritance::Heirlooms;
use crate::service::{Notifier, NotifyError};
use crate::supervisor::{Event, Wall};

/// For connections to end that no admitted request keeps: answers on their way out, requests on their way in. Below the
/// core's own deadline for an exec.
const LAST_CONNECTIONS: Duration = Duration::from_secs(8);

/// For facts that somebody is reading off the control socket.
const LAST_FACTS: Duration = Duration::from_millis(200);

/// What an image change works with.
#[derive(Debug)]
pub struct Tools {
    /// `--home`.
    pub home: PathBuf,
    /// `--config`, if given.
    pub config: Option<PathBuf>,
    /// Lets clients in.
    pub porter: Arc<Porter>,
    /// Lets `mlxsupctl` in.
    pub control_porter: Arc<Porter>,
    /// For the next image.
    pub heirlooms: Heirlooms,
    /// Keeps signals back.
    pub signals: SignalGate,
    /// News for the core.
    pub events: mpsc::UnboundedSender<Event>,
    /// To the driver, which alone may exec.
    pub requests: mpsc::Sender<Request>,
}

/// Why this image is still there.
enum Obstacle {
    /// Something came that this image has to do first.
    News,
    /// It cannot be replaced.
    Failure(String),
}

/// At most one image change is under way.
#[derive(Debug)]
pub struct ImageChange {
    tools: Tools,
    held_since: Option<Wall>,
    candidate: Option<(PathBuf, Program)>,
    leaving: Option<JoinHandle<()>>,
}

impl ImageChange {
    /// None under way.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        Self { tools, held_since: None, candidate: None, leaving: None }
    }

    /// Tries an image; closes with `ImageVetted`.
    pub fn vet(&mut self, to: Option<PathBuf>) {
        let result = self.begin_vetting(to);
        if let Err(why) = result {
            let _ = self.tools.events.send(Event::ImageVetted { result: Err(why) });
        }
    }

    fn begin_vetting(&mut self, to: Option<PathBuf>) -> Result<(), String> {
        self.candidate = None;
        let image = to.map_or_else(vetting::installed_image, Ok)?;
        if !image.is_absolute() {
            return Err(format!("{} is not an absolute path", image.display()));
        }
        let program = Program::at(&image)
            .ok_or_else(|| format!("there is no program (a regular, executable file) at {}", image.display()))?;
        let candidate =
            Candidate { image: image.clone(), home: self.tools.home.clone(), config: self.tools.config.clone() };
        self.candidate = Some((image, program));
        let events = self.tools.events.clone();
        vetting::try_in_background(candidate, move |result| {
            let _ = events.send(Event::ImageVetted { result });
        })
        .map_err(|error| format!("no thread to try the image: {error}"))
    }

    /// New clients wait in the backlog from now on. An exec that waits for the last connection is put off.
    pub fn hold(&mut self) {
        self.held_since.get_or_insert_with(wall);
        self.stop_leaving();
        self.tools.porter.set(Door::Held);
        self.tools.control_porter.set(Door::Open);
    }

    /// Clients come in again; an exec that waits for the last connection is off.
    pub fn resume(&mut self) {
        self.held_since = None;
        self.stop_leaving();
        self.tools.porter.set(Door::Open);
        self.tools.control_porter.set(Door::Open);
    }

    /// Waits for the last connection; then `Request::Exec` comes, or `ExecFailed`.
    pub fn leave(&mut self) {
        self.stop_leaving();
        let (requests, events) = (self.tools.requests.clone(), self.tools.events.clone());
        let (porter, control_porter) = (Arc::clone(&self.tools.porter), Arc::clone(&self.tools.control_porter));
        self.leaving = Some(tokio::spawn(async move {
            if tokio::time::timeout(LAST_CONNECTIONS, porter.empty()).await.is_ok() {
                control_porter.set(Door::Held);
                let _ = tokio::time::timeout(LAST_FACTS, control_porter.empty()).await;
                let _ = requests.send(Request::Exec).await;
                return;
            }
            let why = format!(
                "{} connections neither brought a request nor ended within {} s; try again",
                porter.inside(),
                LAST_CONNECTIONS.as_secs()
            );
            let _ = events.send(Event::ExecFailed { why });
        }));
    }

    fn stop_leaving(&mut self) {
        if let Some(leaving) = self.leaving.take() {
            leaving.abort();
        }
    }

    /// True from [`Self::leave`] to [`Self::resume`] or the exec.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Replaces this image. `saved`: whether the state is on disk. `is_quiet`: whether nothing waits for the driver that an
    /// exec would lose; if something does, `Request::Exec` comes again after it. Returns why it failed.
    pub fn exec(&mut self, saved: Result<(), String>, is_quiet: impl Fn() -> bool) -> Option<String> {
        match saved.map_err(Obstacle::Failure).and_then(|()| self.replace(is_quiet)) {
            Ok(never) => match never {},
            Err(Obstacle::News) => {
                let _ = self.tools.requests.try_send(Request::Exec);
                None
            }
            Err(Obstacle::Failure(why)) => {
                self.leaving = None;
                Some(why)
            }
        }
    }

    fn replace(&mut self, is_quiet: impl Fn() -> bool) -> Result<Infallible, Obstacle> {
        let (image, program) =
            self.candidate.clone().ok_or_else(|| Obstacle::Failure("no image was tried".to_owned()))?;
        if Program::at(&image) != Some(program) {
            let why = format!("{} was replaced after it had been tried; try again", image.display());
            return Err(Obstacle::Failure(why));
        }
        if !is_quiet() {
            return Err(Obstacle::News);
        }
        let notifier = Notifier::from_env().ok();
        let tell = |result: Option<Result<(), NotifyError>>| {
            if let Some(Err(error)) = result {
                tracing::warn!(%error, "the init system was not told");
            }
        };
        tell(notifier.as_ref().map(Notifier::reloading));
        let result = self.replace_by(&image, is_quiet);
        tell(notifier.as_ref().map(Notifier::ready));
        result
    }

    fn replace_by(&mut self, image: &Path, is_quiet: impl Fn() -> bool) -> Result<Infallible, Obstacle> {
        // From here on signals wait. What one before has asked of the driver is still to be done by this image.
        let result = if self.tools.signals.shut() && is_quiet() {
            let held_since = self.held_since.unwrap_or_else(wall);
            match self.tools.heirlooms.lay_open(held_since.0) {
                Ok(inherited) => {
                    tracing::info!(image = %image.display(), "another image takes this one's place");
                    Err(Obstacle::Failure(exec(image, &inherited).to_string()))
                }
                Err(error) => {
                    Err(Obstacle::Failure(format!("the listeners cannot be left to the next image: {error}")))
                }
            }
        } else {
            Err(Obstacle::News)
        };
        self.tools.heirlooms.lock_away();
        self.tools.signals.open();
        result
    }
}
