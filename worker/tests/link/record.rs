//! What the daemon keeps of an answer, and how it has another worker go on with it.
//!
//! The same rules as in the daemon's own record, written a second time, so that a mistake in one of them shows.

use std::collections::BTreeMap;

use mlxsup_worker_api::{Choice, envelope::event};
use serde_json::{Value, json};

use crate::wire::{Event, Link, events};

/// A request with what the daemon adds to it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: &'static str,
    pub request: Value,
    pub seed: u64,
}

impl Asked {
    /// The events of a worker that goes on from `generated`.
    pub async fn events(&self, link: &Link, generated: &Value) -> Vec<Event> {
        let envelope = json!({"id": "chatcmpl-1", "created": 1_700_000_000, "seed": self.seed,
            "generated": generated, "request": self.request});
        let (status, reply) = link.send("POST", self.path, &[], &envelope).await;
        assert_eq!(status, 200, "{reply}\nto {envelope}");
        events(&reply)
    }

    /// The answer when the connection broke after `before`, and another worker went on.
    pub async fn carried(&self, link: &Link, before: &[Event]) -> Record {
        let mut record = Record::of(self, before);
        let rest = self.events(link, &record.generated()).await;
        record.take(&rest);
        record
    }

    /// Cuts the answer after every event and has it continued, side by side; each must come out as `whole` did.
    pub async fn survives_every_cut(&self, link: &Link, whole: &[Event]) {
        self.survives(link, whole, 0..whole.len()).await;
    }

    /// The same for some numbers of events.
    pub async fn survives(&self, link: &Link, whole: &[Event], cuts: impl IntoIterator<Item = usize>) {
        let undisturbed = Record::of(self, whole);
        assert!(undisturbed.ended, "the undisturbed answer has no end");
        let mut running = tokio::task::JoinSet::new();
        for cut in cuts {
            let (asked, link, before) = (self.clone(), link.clone(), whole[..cut].to_vec());
            running.spawn(async move { (cut, asked.carried(&link, &before).await) });
        }
        while let Some(carried) = running.join_next().await {
            let (cut, carried) = carried.expect("a continued answer");
            let what = format!("cut after {cut} of {} events of {self:?}", whole.len());
            carried.assert_same(&undisturbed, &what);
        }
    }
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Lane {
    choice: Choice,
    opened: bool,
}

/// One answer as its client saw it.
#[derive(Debug, Clone)]
pub struct Record {
    lanes: Vec<Lane>,
    streams: bool,
    usage_relayed: bool,
    /// What the client got, by choice; usage has none.
    relayed: BTreeMap<Option<u64>, Vec<String>>,
    result: Option<String>,
    ended: bool,
}

impl Record {
    pub fn of(asked: &Asked, events: &[Event]) -> Self {
        let choices = asked.request["n"].as_u64().unwrap_or(1) as usize;
        let mut record = Self {
            lanes: vec![Lane::default(); choices],
            streams: asked.request["stream"].as_bool().unwrap_or(false),
            usage_relayed: false,
            relayed: BTreeMap::new(),
            result: None,
            ended: false,
        };
        record.take(events);
        record
    }

    fn take(&mut self, events: &[Event]) {
        for event in events {
            assert!(!self.ended, "something came after the end: {event:?}");
            match event.name.as_str() {
                "" => self.record(event),
                event::END if self.streams => self.ended = true,
                event::RESULT if !self.streams => {
                    self.ended = true;
                    self.result.clone_from(&event.data);
                }
                other => panic!("`{other}`: {:?}", event.data),
            }
        }
    }

    fn record(&mut self, event: &Event) {
        let mut relay = self.streams;
        let chunk = event.data.as_ref().map(|data| serde_json::from_str::<Value>(data).expect("a chunk"));
        if let Some(id) = &event.id {
            let lane = &mut self.lanes[id.choice as usize];
            let counted = lane.choice.ids.len() + id.new_ids.len();
            assert_eq!(id.tokens as usize, counted, "tokens were repeated or left out: {event:?}");
            lane.choice.ids.extend(&id.new_ids);
            if chunk.is_some() && id.tokens == 0 {
                relay &= !lane.opened;
                lane.opened = true;
            }
            if let Some(reason) = chunk.as_ref().and_then(|chunk| chunk["choices"][0]["finish_reason"].as_str()) {
                relay &= lane.choice.finish_reason.is_none();
                lane.choice.finish_reason = Some(reason.to_owned());
            }
        }
        let Some(chunk) = chunk else { return };
        let choice = chunk["choices"][0]["index"].as_u64();
        if choice.is_none() {
            relay &= !self.usage_relayed;
            self.usage_relayed = true;
        }
        if relay {
            self.relayed.entry(choice).or_default().push(event.data.clone().unwrap_or_default());
        }
    }

    /// What the next worker is told.
    fn generated(&self) -> Value {
        let fresh = self.lanes.iter().all(|lane| lane.choice == Choice::default());
        if fresh { json!([]) } else { json!(self.lanes.iter().map(|lane| &lane.choice).collect::<Vec<_>>()) }
    }

    /// The ids of one choice.
    pub fn ids(&self, choice: usize) -> &[u32] {
        &self.lanes[choice].choice.ids
    }

    /// Everything that one choice of a stream said.
    pub fn text(&self, choice: u64) -> String {
        let chunks = self.relayed.get(&Some(choice)).into_iter().flatten();
        let chunks = chunks.map(|data| serde_json::from_str::<Value>(data).expect("a chunk"));
        let text = |chunk: Value| {
            let choice = &chunk["choices"][0];
            choice["text"].as_str().or(choice["delta"]["content"].as_str()).unwrap_or_default().to_owned()
        };
        chunks.map(text).collect()
    }

    /// The JSON of a plain answer.
    pub fn result(&self) -> Value {
        serde_json::from_str(self.result.as_deref().expect("a result")).expect("JSON")
    }

    /// Byte for byte, except that log probabilities may differ in their last digits.
    pub fn assert_same(&self, other: &Self, what: &str) {
        assert!(self.ended, "no end: {what}");
        // Ids that came with a lost result are known to nobody: only a stream has them all.
        if self.streams {
            assert_eq!(self.lanes, other.lanes, "{what}");
        }
        assert_eq!(self.relayed.keys().collect::<Vec<_>>(), other.relayed.keys().collect::<Vec<_>>(), "{what}");
        for (choice, told) in &self.relayed {
            let expected = &other.relayed[choice];
            assert_eq!(told.len(), expected.len(), "{what}:\n{told:#?}\nis not\n{expected:#?}");
            for (told, expected) in told.iter().zip(expected) {
                assert_same_document(told, expected, what);
            }
        }
        match (&self.result, &other.result) {
            (Some(told), Some(expected)) => assert_same_document(told, expected, what),
            (told, expected) => assert_eq!(told, expected, "{what}"),
        }
    }
}

fn assert_same_document(told: &str, expected: &str, what: &str) {
    if told != expected {
        let parse = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert!(is_close(&parse(told), &parse(expected)), "{what}:\n{told}\nis not\n{expected}");
    }
}

/// Equal, with fractions (only log probabilities are any) within 1e-3.
fn is_close(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            (a.as_f64().unwrap_or(f64::NAN) - b.as_f64().unwrap_or(f64::NAN)).abs() <= 1e-3
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((a, x), (b, y))| a == b && is_close(x, y))
        }
        (a, b) => a == b,
    }
}
