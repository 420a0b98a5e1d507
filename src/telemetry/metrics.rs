//! `/metrics`: what Prometheus scrapes.
//!
//! Owns the names, labels and buckets. Requests are counted from their records, once each, when they end; the state and the
//! memory metrics are read from the last published status at every scrape. Nothing here is touched per token.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::recent_latency::{Latencies, RecentLatency};
use super::token_gaps::TokenGaps;
use crate::control::view::{STATES, Status};
use crate::gateway::RequestRecord;
use crate::memory::{METRICS, Unit};

/// Client labels told apart; the rest are `other`, so that nobody can fill a monitoring system with names.
const CLIENTS: usize = 50;

/// Upper bounds of waits and durations, seconds: from a token to the longest wait that the queue allows by default.
const SECONDS: [f64; 16] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    client: String,
    class: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cause {
    cause: String,
}

/// Everything counted since the daemon started.
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    queue: Histogram,
    time_to_first_token: Histogram,
    token_gaps: SharedGaps,
    duration: Histogram,
    tokens: Family<Kind, Counter>,
    restarts: Family<Cause, Counter>,
    continued: Counter,
    recent: Mutex<RecentLatency>,
    clients: Mutex<BTreeSet<String>>,
}

impl Metrics {
    /// Nothing counted yet. `status` is what the driver publishes.
    #[must_use]
    pub fn new(status: watch::Receiver<Arc<Status>>) -> Self {
        let mut registry = Registry::with_prefix("mlxsup");
        let seconds = || Histogram::new(SECONDS);
        let metrics = Self {
            requests: Family::default(),
            queue: seconds(),
            time_to_first_token: seconds(),
            token_gaps: SharedGaps::default(),
            duration: seconds(),
            tokens: Family::default(),
            restarts: Family::default(),
            continued: Counter::default(),
            recent: Mutex::default(),
            clients: Mutex::default(),
            registry: Registry::default(),
        };
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running mlxsupd", version);
        registry.register("requests", "Requests that have ended", metrics.requests.clone());
        registry.register("queue_seconds", "Wait for the first worker", metrics.queue.clone());
        let help = "Arrival to first token";
        registry.register("time_to_first_token_seconds", help, metrics.time_to_first_token.clone());
        let help = "Time between two tokens of an answer, counted when it ends";
        registry.register("inter_token_latency_seconds", help, metrics.token_gaps.clone());
        registry.register("request_duration_seconds", "Arrival to end", metrics.duration.clone());
        registry.register("tokens", "Tokens of ended requests", metrics.tokens.clone());
        registry.register("worker_restarts", "Workers replaced", metrics.restarts.clone());
        registry.register("requests_continued", "Answers carried to another worker", metrics.continued.clone());
        registry.register_collector(Box::new(Facts { status }));
        Self { registry, ..metrics }
    }

    /// Counts a request that has ended.
    pub fn count(&self, record: &RequestRecord) {
        let labels = Request {
            client: self.client(&record.client),
            class: record.class.as_str(),
            code: record.code.clone().unwrap_or_else(|| "ok".to_owned()),
        };
        self.requests.get_or_create(&labels).inc();
        let observe = |histogram: &Histogram, ms: Option<u64>| {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a request, far below 2^52")]
            if let Some(ms) = ms {
                histogram.observe(ms as f64 / 1000.0);
            }
        };
        observe(&self.queue, record.queue_ms);
        observe(&self.time_to_first_token, record.ttft_ms);
        observe(&self.duration, Some(record.total_ms));
        self.token_gaps.add(&record.token_gaps);
        if let Some(ms) = record.ttft_ms {
            let gaps = &record.token_gaps;
            #[expect(clippy::cast_precision_loss, reason = "milliseconds and tokens of a request, far below 2^52")]
            let (first, gap) =
                (ms as f64 / 1000.0, (gaps.count() > 0).then(|| gaps.sum_seconds() / gaps.count() as f64));
            self.recent().add(first, gap, Instant::now());
        }
        for (kind, count) in [("prompt", record.prompt_tokens), ("completion", record.completion_tokens)] {
            self.tokens.get_or_create(&Kind { kind }).inc_by(count);
        }
        if record.generations.len() > 1 {
            self.continued.inc();
        }
    }

    /// How fast answers came in the last five minutes.
    #[must_use]
    pub fn latencies(&self) -> Latencies {
        self.recent().latencies(Instant::now())
    }

    fn recent(&self) -> MutexGuard<'_, RecentLatency> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a worker that was replaced. The first word of `reason` (`operator`, `schedule`, `rule`, `crash` …) is the cause.
    pub fn count_restart(&self, reason: &str) {
        let cause = reason.split([' ', ':']).next().unwrap_or_default().to_owned();
        self.restarts.get_or_create(&Cause { cause }).inc();
    }

    /// The text of a scrape.
    ///
    /// # Errors
    /// Only if writing to memory fails.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn client(&self, name: &str) -> String {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if !clients.contains(name) {
            if clients.len() >= CLIENTS {
                return "other".to_owned();
            }
            clients.insert(name.to_owned());
        }
        name.to_owned()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Gaps of all answers together.
#[derive(Debug, Clone, Default)]
struct SharedGaps(Arc<Mutex<TokenGaps>>);

impl SharedGaps {
    fn add(&self, gaps: &TokenGaps) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).add(gaps);
    }
}

impl EncodeMetric for SharedGaps {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let gaps = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let buckets: Vec<(f64, u64)> = gaps.buckets().collect();
        encoder.encode_histogram::<[(&str, &str); 0]>(gaps.sum_seconds(), gaps.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// What is true at the moment of a scrape.
#[derive(Debug)]
struct Facts {
    status: watch::Receiver<Arc<Status>>,
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = self.status.borrow().clone();
        {
            let mut states = encoder.encode_descriptor("state", "1 for the present state", None, MetricType::Gauge)?;
            for state in STATES {
                let present = ConstGauge::new(i64::from(status.state == *state));
                present.encode(states.encode_family(&[("state", state.as_str())])?)?;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful of problems")]
        let problems = status.config.problems.len() as f64;
        let problem_help = "Problems of the configuration file that is not in force";
        let one = ("config_problems".to_owned(), problem_help.to_owned(), problems);
        let memory = METRICS.iter().filter_map(|(_, name, unit)| {
            let value = status.memory.get(*name)?;
            Some((gauge_name(name, *unit), format!("{name} of the last sample"), *value))
        });
        for (name, help, value) in std::iter::once(one).chain(memory) {
            let gauge = encoder.encode_descriptor(&name, &help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}

/// `worker.footprint` in bytes is `worker_footprint_bytes`.
fn gauge_name(name: &str, unit: Unit) -> String {
    let name = name.replace('.', "_");
    let unit = match unit {
        Unit::Bytes => "_bytes",
        Unit::BytesPerSecond => "_bytes_per_second",
        Unit::Percent => "_percent",
        Unit::Seconds => "_seconds",
        Unit::PerSecond => "_per_second",
        Unit::Count => "",
    };
    if name.ends_with(unit) { name } else { name + unit }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::control::view::State;
    use crate::daemon::publish;

    fn record(client: &str, code: Option<&str>) -> RequestRecord {
        let mut gaps = TokenGaps::default();
        gaps.note(Duration::from_millis(30), 2);
        RequestRecord {
            client: client.to_owned(),
            code: code.map(str::to_owned),
            prompt_tokens: 10,
            completion_tokens: 3,
            queue_ms: Some(40),
            ttft_ms: Some(90),
            total_ms: 2_000,
            generations: vec![1, 2],
            token_gaps: gaps,
            ..RequestRecord::opened("r".to_owned(), client.to_owned())
        }
    }

    fn metrics(adjust: impl FnOnce(&mut Status)) -> Metrics {
        let mut status = publish::initial();
        adjust(&mut status);
        Metrics::new(watch::channel(Arc::new(status)).1)
    }

    #[test]
    fn ended_requests_are_counted_under_the_fixed_names() {
        let metrics = metrics(|_| {});
        metrics.count(&record("uid:501", None));
        metrics.count(&record("uid:501", Some("queue_full")));
        metrics.count_restart("rule cold-weights");
        metrics.count_restart("crash: signal 9");
        let text = metrics.text().unwrap();
        for line in [
            "mlxsup_requests_total{client=\"uid:501\",class=\"normal\",code=\"ok\"} 1",
            "mlxsup_requests_total{client=\"uid:501\",class=\"normal\",code=\"queue_full\"} 1",
            "mlxsup_queue_seconds_bucket{le=\"0.05\"} 2",
            "mlxsup_time_to_first_token_seconds_sum 0.18",
            "mlxsup_inter_token_latency_seconds_count 4",
            "mlxsup_inter_token_latency_seconds_bucket{le=\"0.01\"} 0",
            "mlxsup_inter_token_latency_seconds_bucket{le=\"0.02\"} 4",
            "mlxsup_inter_token_latency_seconds_bucket{le=\"+Inf\"} 4",
            "mlxsup_request_duration_seconds_count 2",
            "mlxsup_tokens_total{kind=\"completion\"} 6",
            "mlxsup_worker_restarts_total{cause=\"rule\"} 1",
            "mlxsup_worker_restarts_total{cause=\"crash\"} 1",
            "mlxsup_requests_continued_total 2",
        ] {
            assert!(text.lines().any(|present| present == line), "{line}\n{text}");
        }
        assert!(text.contains("mlxsup_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn state_and_memory_are_those_of_the_moment() {
        let text = metrics(|status| {
            status.state = State::Parked;
            status.memory.insert("worker.footprint".to_owned(), 5e9);
            status.memory.insert("kv.bytes".to_owned(), 7.0);
            status.config.problems.push("a key".to_owned());
        })
        .text()
        .unwrap();
        for line in [
            "mlxsup_state{state=\"parked\"} 1",
            "mlxsup_state{state=\"serving\"} 0",
            "mlxsup_worker_footprint_bytes 5000000000.0",
            "mlxsup_kv_bytes 7.0",
            "mlxsup_config_problems 1.0",
        ] {
            assert!(text.lines().any(|present| present == line), "{line}\n{text}");
        }
        assert!(!text.contains("mlx_cache"), "what nobody reports is not there:\n{text}");
    }

    #[test]
    fn the_alert_rules_name_metrics_that_exist() {
        let metrics = metrics(|status| {
            status.memory.extend(METRICS.iter().map(|(_, name, _)| ((*name).to_owned(), 1.0)));
        });
        metrics.count(&record("uid:501", None));
        metrics.count_restart("operator");
        let text = metrics.text().unwrap();
        let rules = include_str!("../../etc/prometheus/mlxsup.rules.yml");
        let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let named = rules.split(|letter| !is_of_name(letter)).filter(|word| word.starts_with("mlxsup_"));
        let missing: Vec<&str> = named.filter(|name| !text.contains(&format!("\n{name}"))).collect();
        assert_eq!(missing, Vec::<&str>::new(), "{text}");
    }

    #[test]
    fn the_names_of_clients_are_bounded() {
        let metrics = metrics(|_| {});
        for number in 0..100 {
            metrics.count(&record(&format!("client-{number}"), None));
        }
        let text = metrics.text().unwrap();
        let clients = text.lines().filter(|line| line.starts_with("mlxsup_requests_total{")).count();
        assert_eq!(clients, CLIENTS + 1);
        assert!(text.contains("client=\"other\",class=\"normal\",code=\"ok\"} 50"), "{text}");
    }
}
