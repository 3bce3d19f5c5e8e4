//! Progress while a benchmark runs, and its figures at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::{Map, Value};

use super::histogram::Percentiles;
use crate::output::{Output, count_text, size_text};

/// What was done so far, by all connections together.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records acknowledged, or received.
    pub records: AtomicU64,
    /// Their bytes on the wire.
    pub bytes: AtomicU64,
}

impl Counters {
    /// Counts some more.
    pub fn add(&self, records: u64, bytes: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Shows the rate of the last second on standard error, if that is a terminal.
pub struct Progress {
    task: tokio::task::JoinHandle<()>,
    bar: ProgressBar,
}

impl Progress {
    /// Begins to show. `records` is how many there will be, if that is known.
    pub fn start(counters: Arc<Counters>, records: Option<u64>) -> Self {
        let template = "{elapsed_precise} {wide_bar} {msg}";
        let bar = match records {
            Some(records) => ProgressBar::new(records).with_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            ),
            None => ProgressBar::new_spinner(),
        };
        let shown = bar.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(500));
            let (mut before, mut before_bytes, mut since) = (0, 0, Instant::now());
            loop {
                ticks.tick().await;
                let records = counters.records.load(Ordering::Relaxed);
                let bytes = counters.bytes.load(Ordering::Relaxed);
                let seconds = since.elapsed().as_secs_f64().max(1e-3);
                shown.set_position(records);
                shown.set_message(format!(
                    "{} records, {} records/s, {}/s",
                    count_text(records),
                    count_text(((records - before) as f64 / seconds) as u64),
                    size_text((bytes - before_bytes) as f64 / seconds),
                ));
                (before, before_bytes, since) = (records, bytes, Instant::now());
            }
        });
        Self { task, bar }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}

/// The figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// What ran: `produce`, `consume`, `latency`.
    pub benchmark: &'static str,
    /// How long it took.
    pub seconds: f64,
    /// Records acknowledged, or received.
    pub records: u64,
    /// Bytes on the wire, compressed as they were.
    pub bytes: u64,
    /// Records a second.
    pub records_per_second: f64,
    /// Megabytes (10^6) a second.
    pub megabytes_per_second: f64,
    /// What latencies were measured, each with its name.
    #[serde(flatten)]
    pub latencies: Map<String, Value>,
    /// What was asked for.
    pub settings: Map<String, Value>,
}

impl Summary {
    /// The figures of what was counted.
    pub fn new(
        benchmark: &'static str,
        elapsed: Duration,
        counters: &Counters,
        settings: Value,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        let records = counters.records.load(Ordering::Relaxed);
        let bytes = counters.bytes.load(Ordering::Relaxed);
        Self {
            benchmark,
            seconds,
            records,
            bytes,
            records_per_second: records as f64 / seconds,
            megabytes_per_second: bytes as f64 / seconds / 1e6,
            latencies: Map::new(),
            settings: settings.as_object().cloned().unwrap_or_default(),
        }
    }

    /// With latencies under a name.
    pub fn with_latency(mut self, name: &str, latency: Percentiles) -> Self {
        let value = serde_json::to_value(latency).unwrap_or_default();
        self.latencies.insert(name.to_owned(), value);
        self
    }

    /// Prints the figures.
    pub fn print(&self, output: Output) -> anyhow::Result<()> {
        if output.json {
            return output.value(self);
        }
        output.line(format_args!(
            "{} records in {:.2} s: {} records/s, {}/s",
            count_text(self.records),
            self.seconds,
            count_text(self.records_per_second as u64),
            size_text(self.megabytes_per_second * 1e6),
        ))?;
        for (name, latency) in &self.latencies {
            let figure = |key: &str| latency.get(key).and_then(Value::as_f64).unwrap_or_default();
            output.line(format_args!(
                "{:<20} avg {:.2}  p50 {:.2}  p95 {:.2}  p99 {:.2}  p99.9 {:.2}  max {:.2} ms",
                name.replace('_', " "),
                figure("avg_ms"),
                figure("p50_ms"),
                figure("p95_ms"),
                figure("p99_ms"),
                figure("p999_ms"),
                figure("max_ms"),
            ))?;
        }
        Ok(())
    }
}
