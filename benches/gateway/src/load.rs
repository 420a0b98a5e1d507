//! The loads, each the same for every contender.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::clients::{Client, Place, now, post};

/// Connections of the loads with many.
pub const CONNECTIONS: usize = 64;
/// Requests per second over all of them, where latency is measured: far below what any contender can do, or it would
/// be the throughput in other words.
const PACED_PER_S: u64 = 1000;
/// Streams at once.
pub const STREAMS: u32 = 32;
/// Between two tokens of a stream: with as many streams, one event a millisecond, the resolution of the mock's timer.
const TOKEN_MS: u32 = 32;
/// Tokens of a stream that comes as fast as it can.
const FLOOD_TOKENS: u32 = 4000;

/// What came of a load of requests.
#[derive(Debug, Default)]
pub struct Answers {
    /// From sending to the last byte, nanoseconds each.
    pub latencies: Vec<u64>,
    /// How long all of it took.
    pub elapsed: Duration,
}

/// What came of a load of streams.
#[derive(Debug, Default)]
pub struct Events {
    /// From being made to being read, nanoseconds each.
    pub delays: Vec<u64>,
    /// By how much the time since the previous event of the stream differs between engine and client, nanoseconds each.
    pub stretches: Vec<u64>,
    /// How long all of it took.
    pub elapsed: Duration,
}

/// A plain request, as small as a chat begins.
fn plain() -> Vec<u8> {
    post(
        r#"{"model":"mock","messages":[{"role":"system","content":"You are a helpful assistant."},{"role":"user","content":"What is the capital of France, and how many people live there?"}],"max_tokens":16,"temperature":0.7}"#,
    )
}

fn streamed(tokens: u32, interval_ms: u32, in_step: bool) -> Vec<u8> {
    post(&format!(
        r#"{{"model":"mock","stream":true,"messages":[{{"role":"user","content":"Tell me a story."}}],"max_tokens":{tokens},"mock_interval_ms":{interval_ms},"mock_in_step":{in_step}}}"#
    ))
}

/// Waits until a plain request is answered.
pub async fn until_served(place: &Place, within: Duration) -> io::Result<()> {
    let until = Instant::now() + within;
    loop {
        let once = async { Client::open(place).await?.exchange(&plain()).await };
        match tokio::time::timeout(Duration::from_secs(2), once).await.unwrap_or_else(|why| Err(why.into())) {
            Ok(_) => return Ok(()),
            Err(why) if Instant::now() > until => return Err(io::Error::other(format!("{place:?}: {why}"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// One connection, one request after the other.
pub async fn one_by_one(place: &Place, time: Duration) -> io::Result<Answers> {
    flat_out(place, 1, time).await
}

/// Many connections, each asking again as soon as it has its answer.
pub async fn flat_out(place: &Place, connections: usize, time: Duration) -> io::Result<Answers> {
    let request = Arc::new(plain());
    let mut clients = Vec::new();
    for _ in 0..connections {
        let mut client = Client::open(place).await?;
        // The first answer of a connection pays for what is set up once.
        client.exchange(&request).await?;
        clients.push(client);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        let request = request.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while begun.elapsed() < time {
                let sent = now();
                client.exchange(&request).await?;
                latencies.push(now() - sent);
            }
            io::Result::Ok(latencies)
        });
    }
    gather(tasks, begun).await
}

/// Many connections that ask at a fixed rate. Whoever is still waiting when its next turn comes counts from that turn:
/// a stall costs all that it delays.
pub async fn paced(place: &Place, time: Duration) -> io::Result<Answers> {
    let request = Arc::new(plain());
    let interval = Duration::from_micros(1_000_000 * CONNECTIONS as u64 / PACED_PER_S);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..CONNECTIONS {
        let (place, request) = (place.clone(), request.clone());
        tasks.spawn(async move {
            let mut client = Client::open(&place).await?;
            client.exchange(&request).await?;
            let mut due = Instant::now() + interval.mul_f64(number as f64 / CONNECTIONS as f64);
            let mut latencies = Vec::new();
            while begun.elapsed() < time {
                let late = Instant::now().saturating_duration_since(due);
                if late.is_zero() {
                    tokio::time::sleep_until(due.into()).await;
                }
                let sent = now() - u64::try_from(late.as_nanos()).unwrap_or(0);
                client.exchange(&request).await?;
                latencies.push(now() - sent);
                due += interval;
            }
            io::Result::Ok(latencies)
        });
    }
    gather(tasks, begun).await
}

async fn gather(mut tasks: JoinSet<io::Result<Vec<u64>>>, begun: Instant) -> io::Result<Answers> {
    let mut latencies = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        latencies.extend(ended.map_err(io::Error::other)??);
    }
    Ok(Answers { latencies, elapsed: begun.elapsed() })
}

/// Streams at the pace of a model: all tokens of a step at once as a batch makes them, or each at its own time.
pub async fn streams(place: &Place, time: Duration, in_step: bool) -> io::Result<Events> {
    let tokens = u32::try_from(time.as_millis()).unwrap_or(u32::MAX) / TOKEN_MS;
    let request = streamed(tokens, TOKEN_MS, in_step);
    many_streams(place, request, Duration::from_millis(u64::from(TOKEN_MS / STREAMS))).await
}

/// Streams as fast as they come.
pub async fn flood(place: &Place) -> io::Result<Events> {
    many_streams(place, streamed(FLOOD_TOKENS, 0, false), Duration::ZERO).await
}

async fn many_streams(place: &Place, request: Vec<u8>, apart: Duration) -> io::Result<Events> {
    let request = Arc::new(request);
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        clients.push(Client::open(place).await?);
    }
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, mut client) in (0..).zip(clients) {
        let request = request.clone();
        tasks.spawn(async move {
            tokio::time::sleep(apart * number).await;
            let (mut delays, mut stretches) = (Vec::new(), Vec::new());
            client
                .stream(&request, |made, read| {
                    let delay = read.saturating_sub(made);
                    if let Some(before) = delays.last() {
                        stretches.push(delay.abs_diff(*before));
                    }
                    delays.push(delay);
                })
                .await?;
            io::Result::Ok((delays, stretches))
        });
    }
    let mut events = Events::default();
    while let Some(ended) = tasks.join_next().await {
        let (delays, stretches) = ended.map_err(io::Error::other)??;
        events.delays.extend(delays);
        events.stretches.extend(stretches);
    }
    events.elapsed = begun.elapsed();
    Ok(events)
}
