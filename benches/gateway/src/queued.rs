//! Ten thousand clients in the queue of one daemon: what they cost while they wait, and after they have left.
//!
//! Owns the daemon for it, whose one slot is taken by a stream that hardly moves. Seen from outside only: enqueueing and
//! dequeueing are bounded from above by all that happens between two clients, sockets included.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::clients::{Client, Place, get, now, post};
use crate::contenders::{Bench, Contender};
use crate::figures::{per, quantile};
use crate::processes::{cpu_ns, resident};
use crate::say;
use crate::settings::Settings;
use crate::table::verdict;

/// Bytes of each client's prompt.
const PROMPT: usize = 1000;
/// Before the first client, to know what idle is.
const IDLE: Duration = Duration::from_secs(10);

/// Measures and prints.
pub async fn measure(bench: &Bench, settings: &Settings) -> io::Result<()> {
    let queue = "[queue]\nmax_waiting = 20000\nmax_bytes = \"1GiB\"\nper_client_share = 1.0\n";
    let daemon = bench.mlxsupd("queue", &bench.native(), queue).await?;
    let wanted = settings.queued.min(affordable(&daemon.pids));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (busy, begun) = (cpu_ns(&daemon.pids), Instant::now());
    tokio::time::sleep(IDLE).await;
    let idle_share = per(cpu_ns(&daemon.pids) - busy, 1e9) / begun.elapsed().as_secs_f64() * 100.0;
    let idle = resident(&daemon.pids);

    let first = wait_in_line(&daemon, wanted).await?;
    let (between, dequeue) = first.answered().await?;
    let second = wait_in_line(&daemon, wanted).await?;
    let body = post(&prompt()).len() as u64;
    let each = second.resident.saturating_sub(idle) / wanted as u64;
    let enqueue = second.enqueue;
    drop(second);
    until_waiting(&daemon, 0).await?;
    let left = resident(&daemon.pids);
    tokio::time::sleep(settings.rest).await;
    let rested = resident(&daemon.pids);

    say(&format!("{wanted} clients in the queue of one mlxsupd (wanted: {})", settings.queued));
    let mb = |bytes: u64| per(bytes, 1e6);
    let kib = |bytes: u64| per(bytes, 1024.0);
    let own = each.saturating_sub(body);
    say(&verdict("idle, resident, MB", Some(mb(idle)), mb(idle) <= 12.0, "≤ 12 MB"));
    say(&verdict("idle, share of a core, %", Some(idle_share), idle_share <= 0.2, "≤ 0.2 %"));
    say(&verdict("each, beyond its request, KiB", Some(kib(own)), own <= 24 * 1024, "≤ 24 KiB"));
    say(&verdict("connect to enqueued, all, mean, µs", Some(enqueue), enqueue <= 50.0, "≤ 50 µs *"));
    say(&verdict("answer to answer, draining, p50, µs", Some(between), between <= 50.0, "≤ 50 µs *"));
    say(&verdict("answer to answer, draining, p99, µs", Some(dequeue), dequeue <= 50.0, "≤ 50 µs *"));
    let times = |bytes: u64| format!("{:.2} × idle", mb(bytes) / mb(idle));
    say(&format!("  resident right after they left: {:.1} MB, {}", mb(left), times(left)));
    let what = format!("{} s after they left, resident, MB", settings.rest.as_secs());
    say(&verdict(&what, Some(mb(rested)), rested <= 2 * idle, &times(2 * idle).replace("2.00", "≤ 2")));
    say(
        "  * of the queue alone; the figure bounds it from above, with sockets, HTTP, clients and the mock engine in it",
    );
    Ok(())
}

fn prompt() -> String {
    let words = "word ".repeat(PROMPT / 5);
    format!(r#"{{"model":"mock","messages":[{{"role":"user","content":"{words}"}}]}}"#)
}

/// How many clients the descriptor limit of the daemon admits, and our own. The daemon keeps two descriptors for each
/// connection, a quarter of them for other peers, and half of that quarter again where they come over TCP.
fn affordable(pids: &[u32]) -> usize {
    let limit = |pid: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = text.lines().find(|line| line.starts_with("Max open files"))?.to_owned();
        line.split_whitespace().nth(3)?.parse::<usize>().ok()
    };
    let daemons = pids.first().and_then(|pid| limit(&pid.to_string())).unwrap_or(1024);
    let ours = limit("self").unwrap_or(1024);
    (daemons / 2).min(ours).saturating_sub(150)
}

/// A full queue.
struct Line {
    clients: Vec<Client>,
    /// Ending it opens the slot.
    holder: Client,
    resident: u64,
    /// Microseconds from the first connect to the last enqueued, for each.
    enqueue: f64,
}

async fn wait_in_line(daemon: &Contender, wanted: usize) -> io::Result<Line> {
    let mut holder = Client::open(&daemon.unix).await?;
    holder
        .send(&post(r#"{"model":"mock","stream":true,"messages":[],"max_tokens":1000,"mock_interval_ms":60000}"#))
        .await?;
    until(daemon, |waiting, active| waiting == 0 && active == 1).await?;
    let request = post(&prompt());
    let begun = Instant::now();
    let mut clients = Vec::with_capacity(wanted);
    for number in 0..wanted {
        // Neither way alone has room for all.
        let place = if number % 2 == 0 { &daemon.unix } else { &daemon.tcp };
        let mut client = Client::open(place).await?;
        client.send(&request).await?;
        clients.push(client);
    }
    until_waiting(daemon, wanted).await?;
    let enqueue = begun.elapsed().as_secs_f64() * 1e6 / per(wanted as u64, 1.0);
    // What was allocated on the way in is given back by and by.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(Line { clients, holder, resident: resident(&daemon.pids), enqueue })
}

impl Line {
    /// Opens the slot and has everybody answered. Median and p99 of the time between two answers, microseconds.
    async fn answered(self) -> io::Result<(f64, f64)> {
        let mut tasks = JoinSet::new();
        for mut client in self.clients {
            tasks.spawn(async move { client.answer().await.map(|_| now()) });
        }
        tokio::task::yield_now().await;
        drop(self.holder);
        let mut ends = Vec::new();
        while let Some(ended) = tasks.join_next().await {
            ends.push(ended.map_err(io::Error::other)??);
        }
        ends.sort_unstable();
        let mut between: Vec<u64> = ends.windows(2).map(|two| two[1] - two[0]).collect();
        Ok((per(quantile(&mut between, 0.5), 1e3), per(quantile(&mut between, 0.99), 1e3)))
    }
}

async fn until_waiting(daemon: &Contender, wanted: usize) -> io::Result<()> {
    until(daemon, |waiting, _| waiting == wanted as u64).await
}

/// Asks the control socket until the queue is as it should be.
async fn until(daemon: &Contender, good: impl Fn(u64, u64) -> bool) -> io::Result<()> {
    let Place::Unix(socket) = &daemon.unix else { return Err(io::Error::other("a daemon has a socket")) };
    let control = Place::Unix(PathBuf::from(socket).with_file_name("control.sock"));
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let status = Client::open(&control).await?.exchange(&get("/v1/status")).await?;
        let status: serde_json::Value = serde_json::from_slice(&status)?;
        let number = |key: &str| status["queue"][key].as_u64().unwrap_or(u64::MAX);
        if good(number("waiting"), number("active")) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("the queue stays at {}", status["queue"])));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
