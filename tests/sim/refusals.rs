//! Whom an error may reach, and which: nobody is failed because another one killed a worker.

use mlxsup::control::view::State;
use mlxsup::supervisor::{Code, Mono, RequestId, Supervisor};

use crate::model::Model;
use crate::world::Verdict;

impl Model {
    pub fn judge_refusal(&mut self, id: RequestId, code: Code, core: &Supervisor, now: Mono) -> Verdict {
        let Some(request) = self.requests.remove(&id) else {
            return Err(format!("(1) {id} is ended ({}), and it had ended", code.as_str()));
        };
        let serving = core.serving_generation().and_then(|generation| self.workers.get(&generation));
        let deserved = match code {
            Code::QueueTimeout => !request.assigned && now >= request.expires_at,
            Code::Poisoned => request.poisoned,
            Code::EngineError => request.broken > 2 || request.cut,
            Code::ModelChanged => {
                request.fingerprint.is_some()
                    && serving.is_some_and(|worker| {
                        request.fingerprint.as_ref() != Some(&worker.fingerprint) || !worker.continues
                    })
            }
            _ => return self.judge_refusal_by_state(id, code, core),
        };
        match deserved {
            true => Ok(()),
            false => Err(format!("{id} is ended with {} and did nothing for it: {request:?}", code.as_str())),
        }
    }

    pub fn judge_refusal_by_state(&self, id: RequestId, code: Code, core: &Supervisor) -> Verdict {
        let state = core.state();
        let was_or_is = |wanted: State| state == wanted || self.state_before == wanted;
        let right = match code {
            Code::Stopping => was_or_is(State::Stopping),
            Code::Unloaded => was_or_is(State::Unloaded),
            Code::ConfigError => self.unconfigured,
            Code::Parked => was_or_is(State::Parked),
            Code::Stranded => was_or_is(State::Stranded),
            _ => false,
        };
        match right {
            true => Ok(()),
            false => Err(format!("{id} is refused with {} while {}", code.as_str(), state.as_str())),
        }
    }
}
