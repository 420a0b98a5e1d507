//! A steady load of chats whose undisturbed answers are known.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Answer, Connection};

/// Clients at once; the worker has four slots, so some always wait.
const CLIENTS: usize = 6;

/// Longest silence of the daemon.
const PATIENCE: Duration = Duration::from_secs(300);

const PROMPTS: [&str; 4] = [
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Schreibe einen Satz über Käse, Brot und Äpfel.",
    "Tell me a story about a dog who could count.",
];

/// One question in one form.
#[derive(Debug, Clone)]
struct Question {
    body: Value,
    reference: String,
}

/// The questions, and where they are asked.
#[derive(Debug)]
pub struct Load {
    socket: PathBuf,
    questions: Vec<Question>,
}

/// What became of the answers.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Answers that came whole.
    pub answers: u64,
    /// Of these, answers with other words than the undisturbed one.
    pub different: u64,
    /// Errors, before or after the first byte.
    pub failed: u64,
    /// Answers that broke off, or ended without their terminator.
    pub truncated: u64,
    /// What was wrong, the first few.
    pub complaints: Vec<String>,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.different += other.different;
        self.failed += other.failed;
        self.truncated += other.truncated;
        self.complaints.extend(other.complaints.iter().take(3).cloned());
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = self.answers - self.different;
        write!(
            f,
            "{} answers, {same} word for word, {} failed, {} truncated",
            self.answers, self.failed, self.truncated
        )?;
        for complaint in &self.complaints {
            write!(f, "\n  {complaint}")?;
        }
        Ok(())
    }
}

impl Load {
    /// Asks every question once, one after the other, and keeps the answers as what is expected. `tokens` is how long
    /// the shortest may be.
    pub fn with_references(socket: &Path, tokens: u32) -> Self {
        let mut questions = Vec::new();
        for (index, prompt) in PROMPTS.iter().enumerate() {
            for (stream, temperature) in [(true, 0.0), (false, 0.0), (true, 0.8)] {
                let body = json!({
                    "messages": [{"role": "user", "content": prompt}],
                    "max_tokens": tokens + u32::try_from(index).unwrap(),
                    "temperature": temperature,
                    "seed": 7 + index,
                    "stream": stream,
                });
                questions.push(Question { body, reference: String::new() });
            }
        }
        let mut load = Self { socket: socket.to_owned(), questions };
        for index in 0..load.questions.len() {
            let (text, _) = load.ask(index).expect("an undisturbed answer comes whole");
            load.questions[index].reference = text;
        }
        load
    }

    /// Keeps all clients asking while `disturb` runs; then lets them finish what they have begun.
    pub fn during(&self, disturb: impl FnOnce()) -> Tally {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let over = &over;
                    scope.spawn(move || self.client(client, over))
                })
                .collect();
            // A disturbance that fails must not leave the clients running for ever.
            let disturbed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(disturb));
            over.store(true, SeqCst);
            let mut total = Tally::default();
            for client in clients {
                total.add(&client.join().expect("a client does not panic"));
            }
            if let Err(why) = disturbed {
                std::panic::resume_unwind(why);
            }
            total
        })
    }

    fn client(&self, client: usize, over: &AtomicBool) -> Tally {
        let mut tally = Tally::default();
        let mut next = client * 5;
        while !over.load(SeqCst) {
            next = (next + 1) % self.questions.len();
            match self.ask(next) {
                Ok((text, generations)) => {
                    tally.answers += 1;
                    let reference = &self.questions[next].reference;
                    if text != *reference {
                        tally.different += 1;
                        let body = &self.questions[next].body;
                        tally.complaints.push(format!("{body} over {generations}:\n    {text:?}\n    {reference:?}"));
                    }
                }
                Err(Wrong::Failed(why)) => {
                    tally.failed += 1;
                    tally.complaints.push(why);
                }
                Err(Wrong::Truncated(why)) => {
                    tally.truncated += 1;
                    tally.complaints.push(why);
                }
            }
        }
        tally
    }

    /// Text and the workers that had a hand in it.
    fn ask(&self, index: usize) -> Result<(String, String), Wrong> {
        let Some(connection) = Connection::open(&self.socket) else {
            return Err(Wrong::Failed("the stable socket refused a connection".to_owned()));
        };
        let mut connection = connection.patient(PATIENCE);
        let body = &self.questions[index].body;
        connection.send("POST", "/v1/chat/completions", "", &body.to_string());
        let answer = connection.answer();
        if answer.status != 200 || answer.body.contains("event: error") {
            return Err(Wrong::Failed(format!("{answer:?}")));
        }
        let streamed = body["stream"] == true;
        if !answer.complete || streamed && !answer.body.contains("data: [DONE]") {
            return Err(Wrong::Truncated(format!("{answer:?}")));
        }
        let text = if streamed { answer.streamed() } else { answer.text() };
        Ok((text, generations(&answer)))
    }
}

fn generations(answer: &Answer) -> String {
    let trailer = answer.body.split("generations=").nth(1).and_then(|rest| rest.lines().next());
    trailer.or_else(|| answer.header("x-mlxsup-generation")).unwrap_or("-").to_owned()
}

/// What a client must never see.
#[derive(Debug)]
enum Wrong {
    Failed(String),
    Truncated(String),
}
