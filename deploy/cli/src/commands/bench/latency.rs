//! `ottla bench latency`: single records at an even rate, each with the time at which it should
//! have been sent, and a consumer that waits for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use ottla_common::clock;
use ottla_common::kafka::client::{ClientOptions, Connection};
use ottla_common::kafka::cluster::TopicMetadata;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::fetch::FetchRequest;
use ottla_common::kafka::messages::fetch::request::{FetchPartition, FetchTopic};
use ottla_common::kafka::messages::produce::ProduceRequest;
use ottla_common::kafka::messages::produce::request::{PartitionProduceData, TopicProduceData};
use ottla_common::kafka::record_batch::batches;
use ottla_common::kafka::records::{BatchBuilder, BatchOptions, RecordLimits};
use ottla_common::kafka::wire::Records;
use serde_json::json;
use tokio::sync::mpsc;

use super::LatencyArguments;
use super::histogram::Histogram;
use super::report::{Counters, Progress, Summary};
use crate::commands::topics;
use crate::context::Context;
use crate::output::misuse;

/// Bytes of a record that tell when it should have been sent, and in which run.
const STAMP_SIZE: usize = 16;
/// How long it runs if nobody says.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// How long the last records may take to arrive.
const ARRIVAL_PATIENCE: Duration = Duration::from_secs(10);
/// How many requests may be without an answer.
const IN_FLIGHT_MAX: usize = 1024;

/// Runs the benchmark.
pub async fn run(context: &Context, arguments: &LatencyArguments) -> anyhow::Result<()> {
    if arguments.record_size < STAMP_SIZE || arguments.acks == 0 || arguments.rate == 0 {
        let wants =
            format!("--record-size of at least {STAMP_SIZE}, --acks 1 or all, --rate over 0");
        return Err(misuse(format!("the latency benchmark needs {wants}")));
    }
    let cluster = context.cluster().await?;
    let topic = topics::ensure(&cluster, &arguments.topic.new_topic()?).await?;
    let partition = 0;
    let leader = cluster.leader(&topic.name, partition).await?;
    let address = cluster.connection(leader).await?.address().to_owned();
    let mut options = ClientOptions::named("ottla-bench");
    options.in_flight_max = IN_FLIGHT_MAX;
    let run = Run {
        topic,
        partition,
        id: fastrand::u64(..),
        started: Instant::now(),
        counters: Arc::new(Counters::default()),
    };
    let (run, arguments) = (Arc::new(run), Arc::new(arguments.clone()));
    let duration = arguments.extent.duration.unwrap_or(DEFAULT_DURATION);
    let by_time = (duration.as_secs_f64() * arguments.rate as f64).ceil() as u64;
    let records = match (arguments.extent.records, arguments.extent.duration) {
        (Some(records), None) => records,
        (Some(records), Some(_)) => records.min(by_time),
        (None, _) => by_time,
    };

    let consumer = Connection::connect(&address, &options).await?;
    let mut offset = end_offset(&consumer, &run).await?;
    let producer = Connection::connect(&address, &options).await?;
    let progress = Progress::start(Arc::clone(&run.counters), Some(records));
    let sending = tokio::spawn(send(Arc::clone(&run), Arc::clone(&arguments), producer, records));
    let mut arrived = Histogram::default();
    let mut last_arrival = Instant::now();
    let mut left = records;
    while left > 0 {
        let got = receive(&consumer, &run, &mut offset, &mut arrived).await?;
        left = left.saturating_sub(got);
        if got > 0 {
            last_arrival = Instant::now();
        } else if sending.is_finished() && last_arrival.elapsed() > ARRIVAL_PATIENCE {
            bail!("{left} records did not arrive within {ARRIVAL_PATIENCE:?}");
        }
    }
    let elapsed = run.started.elapsed();
    let acknowledged = sending.await.context("the sender ended")??;
    drop(progress);
    let settings = json!({
        "topic": arguments.topic.topic,
        "record_size": arguments.record_size,
        "acks": arguments.acks,
        "rate": arguments.rate,
    });
    Summary::new("latency", elapsed, &run.counters, settings)
        .with_latency("acknowledged_after", acknowledged.percentiles())
        .with_latency("received_after", arrived.percentiles())
        .print(context.output)
}

/// What both ends know.
struct Run {
    topic: Arc<TopicMetadata>,
    partition: i32,
    /// Tells this run's records from those of others.
    id: u64,
    started: Instant,
    counters: Arc<Counters>,
}

/// Where the partition ends now.
async fn end_offset(connection: &Connection, run: &Run) -> anyhow::Result<i64> {
    let response = connection.send(&fetch_request(run, 0, 0)).await?;
    let data = response.responses.iter().flat_map(|topic| &topic.partitions).next();
    let data = data.context("the broker left the partition out of its answer")?;
    match ErrorCode::from_code(data.error_code) {
        ErrorCode::None | ErrorCode::OffsetOutOfRange => Ok(data.high_watermark.max(0)),
        error => bail!("{} partition {}: {error}", run.topic.name, run.partition),
    }
}

fn fetch_request(run: &Run, fetch_offset: i64, max_wait_ms: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        topics: vec![FetchTopic {
            topic: run.topic.name.as_ref().into(),
            topic_id: run.topic.id,
            partitions: vec![FetchPartition {
                partition: run.partition,
                fetch_offset,
                partition_max_bytes: if max_wait_ms == 0 { 1 } else { 1 << 20 },
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    }
}

/// Sends the records, each when it is due.
async fn send(
    run: Arc<Run>,
    arguments: Arc<LatencyArguments>,
    connection: Connection,
    records: u64,
) -> anyhow::Result<Histogram> {
    let (answers, mut waiting) = mpsc::channel(IN_FLIGHT_MAX);
    let topic = run.topic.name.clone();
    let acknowledged = tokio::spawn(async move {
        let mut latency = Histogram::default();
        while let Some((pending, due)) = waiting.recv().await {
            let pending: ottla_common::kafka::client::Pending<ProduceRequest> = pending;
            let due: Instant = due;
            let response = pending.await?;
            for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
                let error = ErrorCode::from_code(answer.error_code);
                if error != ErrorCode::None {
                    bail!("{topic} partition {}: {error}", answer.index);
                }
            }
            latency.add(due.elapsed(), 1);
        }
        Ok(latency)
    });
    let mut value = vec![b'x'; arguments.record_size];
    for number in 0..records {
        let since_start = Duration::from_secs_f64(number as f64 / arguments.rate as f64);
        let due = run.started + since_start;
        tokio::time::sleep_until(due.into()).await;
        let stamp = u64::try_from(since_start.as_nanos())?;
        value[..8].copy_from_slice(&run.id.to_be_bytes());
        value[8..STAMP_SIZE].copy_from_slice(&stamp.to_be_bytes());
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(clock::wall_time_ms(), None, Some(&value), &[])?;
        let request = produce_request(&run, arguments.acks, builder.build()?);
        let pending = connection.dispatch(i16::MAX, &request).await?;
        if answers.send((pending, due)).await.is_err() {
            break;
        }
    }
    drop(answers);
    acknowledged.await.context("the sender ended")?
}

fn produce_request(run: &Run, acks: i16, batch: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: run.topic.name.as_ref().into(),
            topic_id: run.topic.id,
            partition_data: vec![PartitionProduceData {
                index: run.partition,
                records: Some(Records::Bytes(batch)),
                ..PartitionProduceData::default()
            }],
            ..TopicProduceData::default()
        }],
        ..ProduceRequest::default()
    }
}

/// Waits for records. Returns how many of this run came.
async fn receive(
    connection: &Connection,
    run: &Run,
    offset: &mut i64,
    latency: &mut Histogram,
) -> anyhow::Result<u64> {
    let response = connection.send(&fetch_request(run, *offset, 500)).await?;
    let now = run.started.elapsed();
    let mut count = 0;
    for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        let error = ErrorCode::from_code(data.error_code);
        if error != ErrorCode::None {
            bail!("{} partition {}: {error}", run.topic.name, run.partition);
        }
        let bytes = data.records.as_ref().and_then(|records| records.as_bytes()).cloned();
        for batch in batches(bytes.unwrap_or_default()) {
            let batch = batch?;
            for view in batch.record_buffer(RecordLimits::default())?.views() {
                let view = view?;
                if view.offset < *offset {
                    continue;
                }
                if let Some(due) = stamp(run, view.value.unwrap_or_default()) {
                    latency.add(now.saturating_sub(due), 1);
                    count += 1;
                }
            }
            *offset = batch.header.next_offset();
            run.counters.add(0, batch.bytes.len() as u64);
        }
    }
    run.counters.add(count, 0);
    Ok(count)
}

/// When a record should have been sent, if it is one of this run.
fn stamp(run: &Run, value: &[u8]) -> Option<Duration> {
    let id: &[u8; 8] = value.first_chunk()?;
    let stamp: &[u8; 8] = value.get(8..)?.first_chunk()?;
    (*id == run.id.to_be_bytes()).then(|| Duration::from_nanos(u64::from_be_bytes(*stamp)))
}
