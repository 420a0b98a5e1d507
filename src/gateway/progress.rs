//! What a request has produced so far: the record from which the next worker goes on.
//!
//! Owns the token ids, who has ended, and what the client must not see twice. Recorded before anything is written to
//! the client, so that a token can be neither repeated nor lost at a seam.

use bytes::{BufMut, Bytes, BytesMut};
use mlxsup_worker_api::{Choice, Envelope, EventId};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::intake::MAX_CHOICES;

/// Token counts of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of all choices together.
    pub completion_tokens: u64,
}

/// Why a worker's event cannot be true.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Inconsistent {
    /// Its `id:` line is not one.
    #[error("its id line is malformed")]
    Id,
    /// It belongs to a choice that nobody asked for.
    #[error("it belongs to choice {0}, which nobody asked for")]
    Choice(u32),
    /// Tokens were left out or repeated.
    #[error("it counts {counted} tokens in choice {choice}, where {recorded} are recorded")]
    Count {
        /// Which choice.
        choice: u32,
        /// As the event says.
        counted: u32,
        /// As the daemon knows.
        recorded: usize,
    },
}

/// What to do with an event's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// True when the client gets it; false for what an earlier worker has already sent.
    pub relay: bool,
    /// Tokens that are new with this event.
    pub new_tokens: usize,
}

#[derive(Debug, Default)]
struct Lane {
    choice: Choice,
    /// The chunk before the first token (the role) was relayed.
    opened: bool,
}

/// The record of one request.
#[derive(Debug)]
pub(super) struct Progress {
    lanes: Vec<Lane>,
    usage: Option<Usage>,
    usage_relayed: bool,
    wants_usage: bool,
    prompt_tokens: u64,
    /// Chunks of an engine that tells no ids: nearly all of them are one token.
    chunks: u64,
    /// Choices of such an engine that have ended.
    finished: usize,
    finish: Option<String>,
}

impl Progress {
    /// An empty record for so many choices.
    pub fn new(choices: u32, wants_usage: bool) -> Self {
        let lanes = (0..choices.clamp(1, MAX_CHOICES)).map(|_| Lane::default()).collect();
        Self {
            lanes,
            usage: None,
            usage_relayed: false,
            wants_usage,
            prompt_tokens: 0,
            chunks: 0,
            finished: 0,
            finish: None,
        }
    }

    /// Records an event and says whether its data goes to the client.
    pub fn record(&mut self, id: Option<&[u8]>, data: Option<&[u8]>) -> Result<Verdict, Inconsistent> {
        let id: Option<EventId> = match id {
            None => None,
            Some(id) => {
                let text = std::str::from_utf8(id).map_err(|_| Inconsistent::Id)?;
                Some(text.parse().map_err(|_| Inconsistent::Id)?)
            }
        };
        let mut relay = data.is_some();
        let mut new_tokens = 0;
        if let Some(id) = &id {
            let lane = self.lanes.get_mut(id.choice as usize).ok_or(Inconsistent::Choice(id.choice))?;
            let recorded = lane.choice.ids.len();
            if id.tokens as usize != recorded + id.new_ids.len() {
                return Err(Inconsistent::Count { choice: id.choice, counted: id.tokens, recorded });
            }
            lane.choice.ids.extend_from_slice(&id.new_ids);
            new_tokens = id.new_ids.len();
            if let Some(data) = data {
                // A worker that starts again with no token recorded cannot know that the role was already sent.
                let opening = id.tokens == 0;
                relay &= !(opening && lane.opened);
                lane.opened |= opening;
                if let Some(reason) = finish_reason(data) {
                    relay &= lane.choice.finish_reason.is_none();
                    self.finish = Some(reason.clone());
                    lane.choice.finish_reason = Some(reason);
                }
            }
        }
        if let Some(usage) = data.and_then(usage) {
            self.usage = Some(usage);
            if data.is_some_and(has_no_choices) {
                relay &= !self.usage_relayed;
                self.usage_relayed = true;
            }
        }
        Ok(Verdict { relay, new_tokens })
    }

    /// Takes notice of a chunk that passes unchanged.
    pub fn note(&mut self, chunk: &[u8]) {
        if let Some(reason) = finish_reason(chunk) {
            self.finished += 1;
            self.finish = Some(reason);
        } else if !has_no_choices(chunk) {
            self.chunks += 1;
        }
        let data = chunk.strip_prefix(b"data:").unwrap_or(chunk);
        self.usage = usage(data).or(self.usage);
    }

    /// True when an engine whose chunks pass unchanged has ended every choice.
    pub fn is_finished(&self) -> bool {
        self.finished >= self.lanes.len()
    }

    /// Reads counts and the finish reason from a plain answer.
    pub fn record_result(&mut self, result: &[u8]) {
        #[derive(Deserialize)]
        struct Peek {
            usage: Option<Usage>,
            choices: Option<Vec<Ended>>,
        }
        #[derive(Deserialize)]
        struct Ended {
            finish_reason: Option<String>,
        }
        if let Ok(peek) = serde_json::from_slice::<Peek>(result) {
            self.usage = peek.usage.or(self.usage);
            self.finish = peek.choices.and_then(|choices| choices.into_iter().next()?.finish_reason);
        }
    }

    /// Notes how long the prompt is, as the link's prefill comments tell it: every choice reads it for itself.
    pub fn note_prefill(&mut self, total: u64) {
        // After a change of worker the total includes the replayed tokens; the first one is the prompt alone.
        if self.prompt_tokens == 0 && self.recorded() == 0 {
            self.prompt_tokens = total / self.lanes.len() as u64;
        }
    }

    /// Tokens recorded over all choices.
    pub fn recorded(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.choice.ids.len() as u64).sum::<u64>() + self.chunks
    }

    /// The best counts known: the worker's own, else what the link showed.
    pub fn usage(&self) -> Usage {
        self.usage.unwrap_or(Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.recorded() })
    }

    /// Why the last choice ended.
    pub fn finish(&self) -> Option<&str> {
        self.finish.as_deref()
    }

    /// True when a stream lacks nothing but its end: no other worker is needed for that.
    pub fn is_complete(&self) -> bool {
        self.lanes.iter().all(|lane| lane.choice.finish_reason.is_some()) && (self.usage_relayed || !self.wants_usage)
    }

    /// The envelope for the next worker in three parts, of which the second is the client's body, never copied.
    pub fn envelope(&self, id: &str, created: u64, seed: u64, body: &Bytes) -> [Bytes; 3] {
        let generated = if self.recorded() == 0 && self.finish.is_none() {
            Vec::new()
        } else {
            self.lanes.iter().map(|lane| lane.choice.clone()).collect()
        };
        let request = RawValue::NULL.to_owned();
        let envelope = Envelope { id: id.to_owned(), created, seed, generated, request };
        let mut head = BytesMut::new().writer();
        // Writing numbers and strings to memory cannot fail; the empty head of a failure would be refused by the worker.
        let _ = serde_json::to_writer(&mut head, &envelope);
        let mut head = head.into_inner();
        // `request` is the last field: a test below holds it to that.
        head.truncate(head.len().saturating_sub("null}".len()));
        [head.freeze(), body.clone(), Bytes::from_static(b"}")]
    }
}

/// The value of the first `"finish_reason": "…"`. An unescaped quote cannot occur inside a JSON string, so the words of
/// an answer can never look like this.
fn finish_reason(data: &[u8]) -> Option<String> {
    let rest = value_of(data, b"\"finish_reason\"")?.strip_prefix(b"\"")?;
    let end = rest.iter().position(|byte| *byte == b'"')?;
    String::from_utf8(rest[..end].to_vec()).ok()
}

fn usage(data: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Peek {
        usage: Option<Usage>,
    }
    value_of(data, b"\"usage\"")?.strip_prefix(b"{")?;
    serde_json::from_slice::<Peek>(data).ok()?.usage
}

fn has_no_choices(data: &[u8]) -> bool {
    value_of(data, b"\"choices\"").is_some_and(|value| value.starts_with(b"[]"))
}

/// What follows the first `"key":`, blanks skipped.
fn value_of<'a>(data: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let start = data.windows(key.len()).position(|window| window == key)?;
    let rest = data[start + key.len()..].trim_ascii_start().strip_prefix(b":")?;
    Some(rest.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(progress: &mut Progress, id: &str, data: Option<&str>) -> Result<Verdict, Inconsistent> {
        progress.record(Some(id.as_bytes()), data.map(str::as_bytes))
    }

    fn envelope(progress: &Progress, body: &'static str) -> Envelope {
        let parts = progress.envelope("chatcmpl-1", 7, u64::MAX, &Bytes::from_static(body.as_bytes()));
        serde_json::from_slice(&parts.concat()).expect("an envelope")
    }

    #[test]
    fn the_envelope_is_the_contracts_own() {
        let mut progress = Progress::new(2, false);
        let fresh = envelope(&progress, "{ \"messages\": [] }");
        assert_eq!((fresh.id.as_str(), fresh.created, fresh.seed), ("chatcmpl-1", 7, u64::MAX));
        assert!(fresh.generated.is_empty());
        assert_eq!(fresh.request.get(), "{ \"messages\": [] }");

        record(&mut progress, "1:2:5,6", None).expect("recorded");
        let finish = r#"{"choices":[{"index":1,"finish_reason":"stop"}]}"#;
        record(&mut progress, "1:3:9", Some(finish)).expect("recorded");
        let next = envelope(&progress, "{}");
        assert_eq!(next.generated[0], Choice::default());
        assert_eq!(next.generated[1], Choice { ids: vec![5, 6, 9], finish_reason: Some("stop".into()) });
    }

    #[test]
    fn tokens_left_out_or_repeated_are_noticed() {
        let mut progress = Progress::new(1, false);
        record(&mut progress, "0:1:5", None).expect("recorded");
        assert_eq!(
            record(&mut progress, "0:1:5", None),
            Err(Inconsistent::Count { choice: 0, counted: 1, recorded: 1 })
        );
        assert_eq!(
            record(&mut progress, "0:3:7", None),
            Err(Inconsistent::Count { choice: 0, counted: 3, recorded: 1 })
        );
        assert_eq!(record(&mut progress, "1:1:7", None), Err(Inconsistent::Choice(1)));
        assert_eq!(record(&mut progress, "nonsense", None), Err(Inconsistent::Id));
        assert_eq!(progress.recorded(), 1);
    }

    #[test]
    fn what_an_earlier_worker_sent_is_not_relayed_again() {
        let mut progress = Progress::new(1, true);
        let role = r#"{"choices":[{"delta":{"role":"assistant"}}]}"#;
        let finish = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
        for (id, data) in [("0:0:", role), ("0:1:5", finish), ("0:1:", usage)] {
            assert!(record(&mut progress, id, Some(data)).expect("recorded").relay);
        }
        assert!(progress.is_complete());
        for (id, data) in [("0:1:", finish), ("0:1:", usage)] {
            assert!(!record(&mut progress, id, Some(data)).expect("recorded").relay);
        }
        assert_eq!(progress.usage(), Usage { prompt_tokens: 3, completion_tokens: 1 });

        let mut unstarted = Progress::new(1, false);
        assert!(record(&mut unstarted, "0:0:", Some(role)).expect("recorded").relay);
        assert!(!record(&mut unstarted, "0:0:", Some(role)).expect("recorded").relay);
        assert!(envelope(&unstarted, "{}").generated.is_empty());
    }

    #[test]
    fn the_prompt_is_counted_once_for_all_choices() {
        let mut progress = Progress::new(3, false);
        progress.note_prefill(30);
        record(&mut progress, "2:1:5", None).expect("recorded");
        progress.note_prefill(31);
        assert_eq!(progress.usage(), Usage { prompt_tokens: 10, completion_tokens: 1 });
    }

    #[test]
    fn words_that_look_like_a_finish_reason_are_only_words() {
        let mut progress = Progress::new(1, false);
        let words = r#"{"choices":[{"delta":{"content":"\"finish_reason\":\"stop\""},"finish_reason":null}]}"#;
        record(&mut progress, "0:1:5", Some(words)).expect("recorded");
        assert!(!progress.is_complete());
        assert_eq!(progress.finish(), None);
    }

    #[test]
    fn chunks_without_ids_are_counted_and_their_end_is_seen() {
        let mut progress = Progress::new(2, true);
        progress.note(b"data: {\"choices\": [{\"delta\": {\"content\": \"a\"}, \"finish_reason\": null}]}\n\n");
        progress.note(b"data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}\n\n");
        assert!(!progress.is_finished());
        progress.note(b"data: {\"choices\":[{\"index\":1,\"finish_reason\":\"length\"}]}\n\n");
        assert!(progress.is_finished());
        assert_eq!((progress.recorded(), progress.finish()), (1, Some("length")));
        progress.note(b"data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 9, \"completion_tokens\": 4}}\n\n");
        assert_eq!(progress.usage(), Usage { prompt_tokens: 9, completion_tokens: 4 });
    }
}
