//! One run: start everything, measure in rounds, print.
//!
//! Every load goes over all contenders before the next one begins, and each round begins with another contender: what
//! the machine does beside this hits all of them alike, and what it hits unevenly shows in the spread.

use std::io;

use crate::contenders::{Bench, Contender};
use crate::figures::{per, quantile};
use crate::load::{self, Answers, Events};
use crate::processes::{cpu_ns, load as machine_load, machine, resident};
use crate::queued;
use crate::say;
use crate::settings::Settings;
use crate::table::{Row, Table};

const MS: f64 = 1e6;
const US: f64 = 1e3;

/// One kind of load, by the name that `BENCH_LOADS` knows it by.
#[derive(Debug, Clone, Copy)]
enum Load {
    OneUnix,
    OneTcp,
    PacedUnix,
    PacedTcp,
    FlatUnix,
    FlatTcp,
    Streams,
    StreamsInStep,
    Flood,
}

const LOADS: [Load; 9] = [
    Load::OneUnix,
    Load::OneTcp,
    Load::PacedUnix,
    Load::PacedTcp,
    Load::FlatUnix,
    Load::FlatTcp,
    Load::Streams,
    Load::StreamsInStep,
    Load::Flood,
];

/// The whole benchmark.
pub fn run() -> io::Result<()> {
    let settings = Settings::read()?;
    // One thread, so that the load costs at most one core.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let bench = Bench::new()?;
        say(&machine());
        compare(&bench, &settings).await?;
        if settings.queued > 0 {
            say("");
            queued::measure(&bench, &settings).await?;
        }
        Ok(())
    })
}

async fn compare(bench: &Bench, settings: &Settings) -> io::Result<()> {
    if settings.rounds == 0 {
        return Ok(());
    }
    let (contenders, missing) = bench.start(|name| settings.wants(name)).await?;
    for word in &missing {
        say(word);
    }
    let mut table = Table::new(contenders.iter().map(|contender| contender.name).collect());
    let wanted = |load: &Load| settings.loads.is_empty() || settings.loads.contains(&format!("{load:?}"));
    for round in 0..settings.rounds {
        for load in LOADS.into_iter().filter(wanted) {
            for turn in 0..contenders.len() {
                let number = (turn + round) % contenders.len();
                let contender = &contenders[number];
                let figures = measure(load, contender, settings)
                    .await
                    .map_err(|why| io::Error::other(format!("{} under {load:?}: {why}", contender.name)))?;
                for (row, value) in figures {
                    table.add(number, row, value);
                }
            }
        }
        for (number, contender) in contenders.iter().enumerate().skip(1) {
            table.add(number, Row::Resident, per(resident(&contender.pids), 1e6));
        }
        say(&format!("round {} of {} done, load {}", round + 1, settings.rounds, machine_load()));
    }
    say("");
    say(&format!(
        "{} rounds of {:?} a load; median (least…most); + is the difference to direct within the round",
        settings.rounds, settings.time
    ));
    table.lines().iter().for_each(|line| say(line));
    say("");
    say("targets, mlxsupd with a native worker");
    table.targets().iter().for_each(|line| say(line));
    Ok(())
}

async fn measure(load: Load, contender: &Contender, settings: &Settings) -> io::Result<Vec<(Row, f64)>> {
    let time = settings.time;
    let before = cpu_ns(&contender.pids);
    Ok(match load {
        Load::OneUnix => latency(load::one_by_one(&contender.unix, time).await?, Row::OneUnixP50, Row::OneUnixP99),
        Load::OneTcp => latency(load::one_by_one(&contender.tcp, time).await?, Row::OneTcpP50, Row::OneTcpP99),
        Load::PacedUnix => latency(load::paced(&contender.unix, time).await?, Row::ManyUnixP50, Row::ManyUnixP99),
        Load::PacedTcp => latency(load::paced(&contender.tcp, time).await?, Row::ManyTcpP50, Row::ManyTcpP99),
        Load::FlatUnix => {
            let answers = load::flat_out(&contender.unix, load::CONNECTIONS, time).await?;
            let mut figures = vec![(Row::RateUnix, rate(answers.latencies.len(), answers.elapsed))];
            cost(&mut figures, Row::CpuRequest, contender, before, answers.latencies.len());
            figures
        }
        Load::FlatTcp => {
            let answers = load::flat_out(&contender.tcp, load::CONNECTIONS, time).await?;
            vec![(Row::RateTcp, rate(answers.latencies.len(), answers.elapsed))]
        }
        Load::Streams => {
            let events = load::streams(&contender.unix, time, false).await?;
            let rows = [Row::GapP50, Row::GapP99, Row::DelayP50, Row::DelayP99];
            event_figures(events, rows, Row::CpuEvent, contender, before)
        }
        Load::StreamsInStep => {
            let events = load::streams(&contender.unix, time, true).await?;
            let rows = [Row::StepGapP50, Row::StepGapP99, Row::StepDelayP50, Row::StepDelayP99];
            event_figures(events, rows, Row::CpuStepEvent, contender, before)
        }
        Load::Flood => {
            let events = load::flood(&contender.unix).await?;
            let mut figures = vec![(Row::Flood, rate(events.delays.len(), events.elapsed))];
            cost(&mut figures, Row::CpuFlood, contender, before, events.delays.len());
            figures
        }
    })
}

fn latency(mut answers: Answers, p50: Row, p99: Row) -> Vec<(Row, f64)> {
    let mut at = |share| per(quantile(&mut answers.latencies, share), MS);
    vec![(p50, at(0.5)), (p99, at(0.99))]
}

fn event_figures(
    mut events: Events,
    [gap_p50, gap_p99, delay_p50, delay_p99]: [Row; 4],
    cpu: Row,
    contender: &Contender,
    before: u64,
) -> Vec<(Row, f64)> {
    let mut figures = vec![
        (gap_p50, per(quantile(&mut events.stretches, 0.5), MS)),
        (gap_p99, per(quantile(&mut events.stretches, 0.99), MS)),
        (delay_p50, per(quantile(&mut events.delays, 0.5), MS)),
        (delay_p99, per(quantile(&mut events.delays, 0.99), MS)),
    ];
    cost(&mut figures, cpu, contender, before, events.delays.len());
    figures
}

/// CPU time of the contender since `before`, for each of so many.
fn cost(figures: &mut Vec<(Row, f64)>, row: Row, contender: &Contender, before: u64, count: usize) {
    if !contender.pids.is_empty() && count > 0 {
        let spent = cpu_ns(&contender.pids).saturating_sub(before);
        figures.push((row, per(spent, US) / per(count as u64, 1.0)));
    }
}

fn rate(count: usize, elapsed: std::time::Duration) -> f64 {
    per(count as u64, 1.0) / elapsed.as_secs_f64()
}
