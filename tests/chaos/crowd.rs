//! Clients that ask until they are told to stop, each in a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::chance::Chance;
use crate::client;
use crate::history::History;
use crate::rig::TOKEN_MS;
use crate::settings::Settings;

/// Some clients at work.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Sends them off. Ids go on from `next_id`.
    pub fn start(settings: &Settings, socket: &Path, history: &Arc<History>, next_id: &Arc<AtomicU64>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let longest = u32::try_from(settings.longest.as_millis()).unwrap_or(u32::MAX) / TOKEN_MS;
        let threads = (0..settings.clients)
            .map(|number| {
                let (stop, history, next_id) = (stop.clone(), history.clone(), next_id.clone());
                let socket = socket.to_owned();
                let longest_plain = settings.engine.longest_plain();
                let mut chance = Chance::of(&[settings.seed, number, next_id.load(Relaxed)]);
                let work = move || {
                    while !stop.load(Relaxed) {
                        let asked = client::ask(&mut chance, longest.max(1), longest_plain);
                        client::request(&socket, next_id.fetch_add(1, Relaxed), asked, &history);
                        std::thread::sleep(Duration::from_millis(u64::from(chance.below(20))));
                    }
                };
                std::thread::spawn(work)
            })
            .collect();
        Self { stop, threads }
    }

    /// Lets everybody finish what they began.
    pub fn finish(self) {
        self.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().expect("a client does not panic");
        }
    }
}
