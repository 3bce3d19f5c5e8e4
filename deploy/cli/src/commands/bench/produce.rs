//! `ottla bench produce`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ottla_common::kafka::client::{ClientError, Pending};
use ottla_common::kafka::cluster::{Cluster, TopicMetadata};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::init_producer_id::InitProducerIdRequest;
use ottla_common::kafka::messages::produce::request::{PartitionProduceData, TopicProduceData};
use ottla_common::kafka::messages::produce::{ProduceRequest, ProduceResponse};
use ottla_common::kafka::record_batch::increment_sequence;
use ottla_common::kafka::wire::Records;
use serde_json::json;
use tokio::task::JoinSet;

use super::histogram::Histogram;
use super::lanes::{self, Budget, Lane};
use super::load::{Load, LoadOptions, ProducerIdentity};
use super::report::{Counters, Progress, Summary};
use super::{ExtentArguments, ProduceArguments, SendArguments, positive};
use crate::commands::topics;

/// How long a leader may wait for its followers.
const REPLICATION_TIMEOUT_MS: i32 = 30_000;
/// How long it runs if nobody says.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);

/// Runs the benchmark.
pub async fn run(cluster: &Cluster, arguments: &ProduceArguments) -> anyhow::Result<Summary> {
    let ProduceArguments { topic: wanted, send, connections, .. } = arguments;
    let topic = topics::ensure(cluster, &wanted.new_topic()?).await?;
    let lanes =
        lanes::open(cluster, &topic, positive("--connections", *connections)?, true).await?;
    positive("--in-flight", send.in_flight)?;
    let load = Arc::new(Load::build(load_options(send, lanes.len()))?);

    let mut extent = arguments.extent;
    if extent.records.is_none() && extent.duration.is_none() {
        extent.duration = Some(DEFAULT_DURATION);
    }
    let counters = Arc::new(Counters::default());
    let pause = (send.rate > 0).then(|| {
        Duration::from_secs_f64((load.batch_records() * lanes.len()) as f64 / send.rate as f64)
    });
    let mut senders = Vec::new();
    for lane in lanes {
        let identity = if send.idempotent { Some(identify(cluster, &lane).await?) } else { None };
        senders.push(Sender {
            sequences: vec![0; lane.partitions.len()],
            lane,
            topic: Arc::clone(&topic),
            load: Arc::clone(&load),
            identity,
            acks: send.acks,
            in_flight_max: send.in_flight,
            counters: Arc::clone(&counters),
            pause,
            turn: 0,
        });
    }
    let settings = settings(arguments, &load, senders.len());
    let (elapsed, latency) = send_all(senders, &extent, &counters).await?;
    let summary = Summary::new("produce", elapsed, &counters, settings);
    let answered = send.acks != 0;
    Ok(if answered {
        summary.with_latency("acknowledged_after", latency.percentiles())
    } else {
        summary
    })
}

fn load_options(send: &SendArguments, lanes: usize) -> LoadOptions {
    let fitting = (send.batch_size / (send.record_size + 12)).max(1);
    let gathered = (send.rate as f64 / lanes as f64 * send.linger_ms as f64 / 1000.0) as usize;
    LoadOptions {
        record_bytes: send.record_size,
        batch_records: if send.rate == 0 { fitting } else { fitting.min(gathered.max(1)) },
        compression: send.compression,
        seed: send.seed,
    }
}

fn settings(arguments: &ProduceArguments, load: &Load, lanes: usize) -> serde_json::Value {
    let send = &arguments.send;
    json!({
        "topic": arguments.topic.topic,
        "record_size": send.record_size,
        "acks": send.acks,
        "batch_records": load.batch_records(),
        "compression": send.compression.name(),
        "idempotent": send.idempotent,
        "rate": send.rate,
        "connections": lanes,
        "in_flight": send.in_flight,
    })
}

async fn identify(cluster: &Cluster, lane: &Lane) -> Result<ProducerIdentity, ClientError> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        producer_id: -1,
        producer_epoch: -1,
        transaction_timeout_ms: 60_000,
        ..InitProducerIdRequest::default()
    };
    let identified = cluster.retry(|| async {
        let response = lane.connection.send(&request).await?;
        let code = ErrorCode::from_code(response.error_code);
        ClientError::check(|| "get a producer id".to_owned(), code, None::<&str>)?;
        Ok(ProducerIdentity { id: response.producer_id, epoch: response.producer_epoch })
    });
    identified.await
}

/// Runs the senders until the extent is reached.
async fn send_all(
    senders: Vec<Sender>,
    extent: &ExtentArguments,
    counters: &Arc<Counters>,
) -> anyhow::Result<(Duration, Histogram)> {
    let progress = Progress::start(Arc::clone(counters), extent.records);
    let budget = Budget::new(extent);
    let started = Instant::now();
    let mut running = JoinSet::new();
    for sender in senders {
        running.spawn(sender.run(Arc::clone(&budget)));
    }
    let mut latency = Histogram::default();
    while let Some(ended) = running.join_next().await {
        latency.merge(&ended.context("a sender ended")??);
    }
    let elapsed = started.elapsed();
    drop(progress);
    Ok((elapsed, latency))
}

/// Sends on one lane.
struct Sender {
    lane: Lane,
    topic: Arc<TopicMetadata>,
    load: Arc<Load>,
    identity: Option<ProducerIdentity>,
    /// The next sequence of each of the lane's partitions.
    sequences: Vec<i32>,
    acks: i16,
    in_flight_max: usize,
    counters: Arc<Counters>,
    /// Between two requests, if there is a rate.
    pause: Option<Duration>,
    turn: usize,
}

/// A request that was sent.
struct InFlight {
    pending: Pending<ProduceRequest>,
    records: usize,
    /// When it should have been sent.
    due: Instant,
    bytes: u64,
}

impl Sender {
    async fn run(mut self, budget: Arc<Budget>) -> anyhow::Result<Histogram> {
        let mut latency = Histogram::default();
        let mut waiting: VecDeque<InFlight> = VecDeque::with_capacity(self.in_flight_max);
        let mut next = self.next(Instant::now(), &budget);
        while next.is_some() || !waiting.is_empty() {
            let may_send = next.is_some() && waiting.len() < self.in_flight_max;
            let (at, records) = next.unwrap_or_else(|| (Instant::now(), 0));
            tokio::select! {
                biased;
                response = first(&mut waiting), if !waiting.is_empty() => {
                    if let Some(sent) = waiting.pop_front() {
                        self.acknowledged(&response?, &sent, &mut latency)?;
                    }
                }
                () = tokio::time::sleep_until(at.into()), if may_send => {
                    let now = Instant::now();
                    let due_at = if self.pause.is_some() { at } else { now };
                    waiting.extend(self.send(due_at, records).await?);
                    next = self.next(at, &budget);
                }
            }
        }
        Ok(latency)
    }

    /// When the next request is to be sent and how many records it has; `None` if there is none.
    fn next(&self, before: Instant, budget: &Budget) -> Option<(Instant, usize)> {
        let records = usize::try_from(budget.take(self.load.batch_records() as u64)).ok()?;
        (records > 0).then(|| (before + self.pause.unwrap_or_default(), records))
    }

    async fn send(&mut self, due: Instant, records: usize) -> anyhow::Result<Option<InFlight>> {
        let index = self.turn % self.lane.partitions.len();
        let sequence = self.sequences[index];
        let identity = self.identity.map(|identity| (identity, sequence));
        let batch = self.load.batch(self.turn, records, identity)?;
        self.turn += 1;
        self.sequences[index] = increment_sequence(sequence, i32::try_from(records)?);
        let bytes = batch.len() as u64;
        let request = ProduceRequest {
            acks: self.acks,
            timeout_ms: REPLICATION_TIMEOUT_MS,
            topic_data: vec![TopicProduceData {
                name: self.topic.name.as_ref().into(),
                topic_id: self.topic.id,
                partition_data: vec![PartitionProduceData {
                    index: self.lane.partitions[index],
                    records: Some(Records::Bytes(batch)),
                    ..PartitionProduceData::default()
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        if self.acks == 0 {
            self.lane.connection.dispatch_unanswered(i16::MAX, &request).await?;
            self.counters.add(records as u64, bytes);
            return Ok(None);
        }
        let pending = self.lane.connection.dispatch(i16::MAX, &request).await?;
        Ok(Some(InFlight { pending, records, due, bytes }))
    }

    fn acknowledged(
        &self,
        response: &ProduceResponse,
        sent: &InFlight,
        latency: &mut Histogram,
    ) -> anyhow::Result<()> {
        for partition in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            let error = ErrorCode::from_code(partition.error_code);
            if error != ErrorCode::None {
                let message = partition.error_message.as_deref().unwrap_or("no message");
                bail!("{} partition {}: {error}: {message}", self.topic.name, partition.index);
            }
        }
        self.counters.add(sent.records as u64, sent.bytes);
        latency.add(sent.due.elapsed(), sent.records as u64);
        Ok(())
    }
}

/// The answer to the oldest request.
async fn first(waiting: &mut VecDeque<InFlight>) -> anyhow::Result<ProduceResponse> {
    match waiting.front_mut() {
        Some(sent) => Ok((&mut sent.pending).await?),
        None => std::future::pending().await,
    }
}
