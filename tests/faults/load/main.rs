//! Writes to a topic while somebody does harm to the brokers, remembers what was acknowledged, and
//! then reads everything and judges it.
//!
//! It takes words from its input, a line each, and answers each with a line of JSON:
//!
//! - `mark`: how many records were acknowledged so far, and the longest time since the last mark in
//!   which a partition had none, also if that goes on;
//! - `pulse`: how many partitions have acknowledged something since it was last asked, which ones
//!   have not, and why their writers gave up a record last, if they did;
//! - `stop`: writes no more, once everything under way has an outcome;
//! - `check`: reads the topic from its beginning to its end, and says what is wrong.
//!
//! Meanwhile readers read: one that goes on where it was, one that begins anew again and again, and
//! one that asks for the ends.

mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use ottla_common::kafka::cluster::{Cluster, ClusterOptions};
use ottla_common::telemetry;
use ottla_tests::history::readings::Readings;
use ottla_tests::history::records::{Placed, judge};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// How long the cluster may stand still in the end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes to a topic and judges what is there.
#[derive(Parser)]
struct Arguments {
    /// Brokers to begin with: HOST:PORT,HOST:PORT…
    #[arg(long, value_delimiter = ',', required = true)]
    bootstrap_server: Vec<String>,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// How many partitions it has.
    #[arg(long)]
    partitions: i32,
    /// Pause behind each record of a partition, in microseconds.
    #[arg(long, default_value_t = 2_000)]
    pause_us: u64,
}

/// What came of the writing so far.
#[derive(Default)]
struct Outcomes {
    acknowledged: Vec<Placed>,
    unknown: u64,
    /// When each partition acknowledged something last.
    last_at: BTreeMap<i32, Instant>,
    longest_gap: Duration,
    alive: BTreeSet<i32>,
    /// Why a record of each partition was given up last.
    problems: BTreeMap<i32, String>,
}

impl Outcomes {
    fn acknowledge(&mut self, placed: Placed) {
        let now = Instant::now();
        if let Some(last) = self.last_at.insert(placed.partition, now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
        self.alive.insert(placed.partition);
        self.acknowledged.push(placed);
    }

    /// Which partitions have acknowledged nothing since it was asked last.
    fn take_pulse(&mut self, partitions: i32) -> serde_json::Value {
        let alive = std::mem::take(&mut self.alive);
        let silent = (0..partitions).filter(|number| !alive.contains(number));
        let silent: BTreeMap<_, _> =
            silent.map(|number| (number, self.problems.get(&number))).collect();
        json!({"partitions": alive.len(), "silent": silent})
    }

    /// The longest time without an acknowledgement in a partition, since it was asked last.
    fn take_longest_gap(&mut self) -> Duration {
        let now = Instant::now();
        let lasting = self.last_at.values().map(|last| now - *last).max().unwrap_or_default();
        std::mem::take(&mut self.longest_gap).max(lasting)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arc::new(Arguments::parse());
    telemetry::start(telemetry::LogFormat::Text, "warn,ottla_common::kafka=debug")?;
    let (outcomes, stopping) = (Arc::new(Mutex::new(Outcomes::default())), Arc::default());
    let mut writers = Vec::new();
    for partition in 0..arguments.partitions {
        let (arguments, outcomes) = (Arc::clone(&arguments), Arc::clone(&outcomes));
        writers.push(tokio::spawn(write::write(
            arguments,
            partition,
            outcomes,
            Arc::clone(&stopping),
        )));
    }
    let readings = Arc::new(Mutex::new(Readings::default()));
    let readers = read::start(&arguments, &readings);
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match line.trim() {
            "mark" => {
                let mut outcomes = outcomes.lock();
                let gap = outcomes.take_longest_gap();
                json!({
                    "acknowledged": outcomes.acknowledged.len(),
                    "longest_gap_ms": gap.as_secs_f64() * 1_000.0,
                })
            }
            "pulse" => outcomes.lock().take_pulse(arguments.partitions),
            "stop" => {
                stopping.store(true, Ordering::SeqCst);
                for writer in writers.drain(..) {
                    writer.await??;
                }
                let outcomes = outcomes.lock();
                json!({
                    "acknowledged": outcomes.acknowledged.len(), "unknown": outcomes.unknown,
                })
            }
            "check" => {
                readers.iter().for_each(tokio::task::JoinHandle::abort);
                let read = read::everything(&arguments).await?;
                let verdict = judge(&outcomes.lock().acknowledged, &read);
                let readings = readings.lock();
                let oddities = readings.judge(&read);
                json!({
                    "read": read.len(),
                    "read_meanwhile": readings.count(),
                    "oddities": oddities.len(),
                    "first_oddity": format!("{:?}", oddities.first()),
                    "missing": verdict.missing.len(),
                    "changed": verdict.changed.len(),
                    "doubled": verdict.doubled.len(),
                    "out_of_order": verdict.out_of_order.len(),
                    "behind_gaps": verdict.behind_gaps.len(),
                    "is_good": verdict.is_good() && oddities.is_empty(),
                    "first": format!("{:?}", [
                        verdict.missing.first(), verdict.changed.first(), verdict.doubled.first(),
                        verdict.out_of_order.first(), verdict.behind_gaps.first(),
                    ]),
                })
            }
            other => anyhow::bail!("no such word: {other}"),
        };
        writeln!(std::io::stdout(), "{answer}")?;
    }
    Ok(())
}

async fn connect(arguments: &Arguments) -> anyhow::Result<Cluster> {
    let servers: Vec<&str> = arguments.bootstrap_server.iter().map(String::as_str).collect();
    Ok(Cluster::connect(&servers, ClusterOptions::default()).await?)
}
