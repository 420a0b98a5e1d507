use mlxsup_worker_api::{Counters, EngineFacts, MemoryFacts, PROTOCOL, Phase};

use super::*;

fn report() -> WorkerStatus {
    WorkerStatus {
        protocol: PROTOCOL,
        pid: std::process::id(),
        generation: 3,
        nonce: "n".to_owned(),
        fingerprint: "f".to_owned(),
        phase: Phase::Ready,
        failure: None,
        bytes_done: 10,
        bytes_total: 10,
        model: None,
        engine: EngineFacts::default(),
        memory: MemoryFacts {
            mlx_active_bytes: Some(100),
            mlx_cache_bytes: Some(20),
            mlx_peak_bytes: Some(130),
            kv_bytes: Some(7),
            prefix_cache_bytes: None,
            ..MemoryFacts::default()
        },
        counters: Counters::default(),
    }
}

fn own(status: Option<&WorkerStatus>, uptime_s: u64) -> WorkerReading<'_> {
    WorkerReading { pid: std::process::id(), status, uptime: Duration::from_secs(uptime_s) }
}

#[test]
fn the_machine_is_read_without_a_worker() {
    let mut probe = Probe::new().unwrap();
    let sample = probe.sample(None, Mono(0));
    let total = sample.get(Metric::SystemTotal).unwrap();
    assert!(sample.get(Metric::SystemUsed).unwrap() < total);
    assert!(sample.get(Metric::SystemAvailable).unwrap() <= total);
    assert!(sample.get(Metric::SystemWired).is_some());
    assert!(sample.get(Metric::SystemSwapUsed).is_some());
    assert!((0.0..=100.0).contains(&sample.get(Metric::SystemFreePercent).unwrap()));
    for (metric, _) in sample.present() {
        assert!(metric.name().starts_with("system."), "{metric} without a worker");
    }
}

#[test]
fn rates_come_with_the_second_sample() {
    let mut probe = Probe::new().unwrap();
    let first = probe.sample(None, Mono(0));
    assert_eq!(first.get(Metric::SystemSwapinRate), None);
    let second = probe.sample(None, Mono(1_000));
    assert!(second.get(Metric::SystemSwapinRate).unwrap() >= 0.0);
    assert!(second.get(Metric::SystemSwapoutRate).unwrap() >= 0.0);
    if let Some(stall) = second.get(Metric::SystemStall) {
        assert!((0.0..=100.0).contains(&stall));
    }
}

#[test]
fn the_worker_is_kernel_facts_plus_its_own_report() {
    let mut probe = Probe::new().unwrap();
    let status = report();
    let sample = probe.sample(Some(own(Some(&status), 5)), Mono(0));
    assert!(sample.get(Metric::WorkerFootprint).unwrap() > 0.0);
    assert!(sample.get(Metric::WorkerFootprintMax).unwrap() >= sample.get(Metric::WorkerFootprint).unwrap());
    assert_eq!(sample.get(Metric::WorkerUptime), Some(5.0));
    assert_eq!(sample.get(Metric::MlxActive), Some(100.0));
    assert_eq!(sample.get(Metric::MlxCache), Some(20.0));
    assert_eq!(sample.get(Metric::MlxPeak), Some(130.0));
    assert_eq!(sample.get(Metric::KvBytes), Some(7.0));
    assert_eq!(sample.get(Metric::PrefixCacheBytes), None, "not told is absent, never 0");
    assert_eq!(sample.get(Metric::RequestsActive), None, "the driver's to fill in");
}

#[test]
fn without_a_report_only_kernel_facts_remain() {
    let mut probe = Probe::new().unwrap();
    let sample = probe.sample(Some(own(None, 5)), Mono(0));
    assert!(sample.get(Metric::WorkerFootprint).is_some());
    assert_eq!(sample.get(Metric::MlxActive), None);
}

#[test]
fn a_dead_worker_falls_back_to_what_it_said_last() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let mut status = report();
    status.memory.footprint_bytes = Some(4096);
    let reading = WorkerReading { pid: child.id(), status: Some(&status), uptime: Duration::ZERO };
    let sample = Probe::new().unwrap().sample(Some(reading), Mono(0));
    assert_eq!(sample.get(Metric::WorkerFootprint), Some(4096.0));
}

#[test]
fn another_worker_starts_its_own_history() {
    let mut probe = Probe::new().unwrap();
    let held = std::hint::black_box(vec![1_u8; 64 << 20]);
    let high = probe.sample(Some(own(None, 100)), Mono(0)).get(Metric::WorkerFootprintMax).unwrap();
    drop(held);
    let kept = probe.sample(Some(own(None, 101)), Mono(1_000)).get(Metric::WorkerFootprintMax).unwrap();
    assert!(kept >= high, "the peak of one worker is kept");
    for second in 2..12 {
        probe.sample(Some(own(None, 100 + second)), Mono(second * 1_000));
    }
    let grown = probe.sample(Some(own(None, 112)), Mono(12_000));
    assert!(grown.get(Metric::WorkerGrowthRate).is_some());
    let fresh = probe.sample(Some(own(None, 1)), Mono(13_000));
    assert_eq!(fresh.get(Metric::WorkerGrowthRate), None, "a younger worker under the same pid has no past");
}
