//! `ottla bench consume`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ottla_common::kafka::cluster::{Cluster, TopicMetadata};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::fetch::request::{FetchPartition, FetchTopic};
use ottla_common::kafka::messages::fetch::response::PartitionData;
use ottla_common::kafka::messages::fetch::{FetchRequest, FetchResponse};
use ottla_common::kafka::messages::list_offsets::ListOffsetsRequest;
use ottla_common::kafka::messages::list_offsets::request::{
    ListOffsetsPartition, ListOffsetsTopic,
};
use ottla_common::kafka::record_batch::batches;
use ottla_common::kafka::records::RecordLimits;
use serde_json::json;
use tokio::task::JoinSet;

use super::histogram::Histogram;
use super::lanes::{self, Budget, Lane};
use super::report::{Counters, Progress, Summary};
use super::{ConsumeArguments, positive};

/// How long a broker may wait for more records.
const MAX_WAIT_MS: i32 = 500;
/// How long to wait for records that were asked for, unless told to follow.
const PATIENCE: Duration = Duration::from_secs(10);
/// ListOffsets: the first offset.
const EARLIEST: i64 = -2;

/// Runs the benchmark.
pub async fn run(cluster: &Cluster, arguments: &ConsumeArguments) -> anyhow::Result<Summary> {
    let topic = cluster.topic(&arguments.topic).await?;
    let connections = positive("--connections", arguments.connections)?;
    let lanes = lanes::open(cluster, &topic, connections, false).await?;
    let counters = Arc::new(Counters::default());
    let mut readers = Vec::new();
    for lane in lanes {
        let offsets = first_offsets(&lane, &topic).await?;
        readers.push(Reader {
            offsets,
            lane,
            topic: Arc::clone(&topic),
            arguments: arguments.clone(),
            counters: Arc::clone(&counters),
        });
    }
    let settings = json!({
        "topic": arguments.topic,
        "connections": readers.len(),
        "fetch_size": arguments.fetch_size,
        "partition_fetch_size": arguments.partition_fetch_size,
        "checked": !arguments.no_check,
    });
    let progress = Progress::start(Arc::clone(&counters), arguments.extent.records);
    let budget = Budget::new(&arguments.extent);
    let started = Instant::now();
    let mut running = JoinSet::new();
    for reader in readers {
        running.spawn(reader.run(Arc::clone(&budget)));
    }
    let mut latency = Histogram::default();
    while let Some(ended) = running.join_next().await {
        latency.merge(&ended.context("a reader ended")??);
    }
    let elapsed = started.elapsed();
    drop(progress);
    let summary = Summary::new("consume", elapsed, &counters, settings);
    if summary.records == 0 {
        bail!("{} has no records; `ottla bench produce {0}` makes some", arguments.topic);
    }
    Ok(summary.with_latency("fetch_answered_after", latency.percentiles()))
}

async fn first_offsets(lane: &Lane, topic: &TopicMetadata) -> anyhow::Result<BTreeMap<i32, i64>> {
    let partitions = lane.partitions.iter().map(|&partition_index| ListOffsetsPartition {
        partition_index,
        timestamp: EARLIEST,
        ..ListOffsetsPartition::default()
    });
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic.name.as_ref().into(),
            partitions: partitions.collect(),
            ..ListOffsetsTopic::default()
        }],
        ..ListOffsetsRequest::default()
    };
    let response = lane.connection.send(&request).await?;
    let mut offsets = BTreeMap::new();
    for partition in response.topics.iter().flat_map(|topic| &topic.partitions) {
        check(topic, partition.partition_index, partition.error_code)?;
        offsets.insert(partition.partition_index, partition.offset);
    }
    Ok(offsets)
}

fn check(topic: &TopicMetadata, partition: i32, error_code: i16) -> anyhow::Result<()> {
    match ErrorCode::from_code(error_code) {
        ErrorCode::None => Ok(()),
        error => bail!("{} partition {partition}: {error}", topic.name),
    }
}

/// Reads on one lane.
struct Reader {
    lane: Lane,
    topic: Arc<TopicMetadata>,
    arguments: ConsumeArguments,
    counters: Arc<Counters>,
    /// The next offset of each partition that is not at its end.
    offsets: BTreeMap<i32, i64>,
}

impl Reader {
    async fn run(mut self, budget: Arc<Budget>) -> anyhow::Result<Histogram> {
        let mut latency = Histogram::default();
        let mut last_record = Instant::now();
        while !budget.is_over() && !self.offsets.is_empty() {
            // Who asks for a number waits for it: what was appended last may not be readable yet.
            if !self.arguments.follow && last_record.elapsed() > PATIENCE {
                break;
            }
            let sent = Instant::now();
            let response = self.lane.connection.send(&self.request()?).await?;
            let records = self.take(response)?;
            if records > 0 {
                latency.add(sent.elapsed(), 1);
                budget.take(records);
                last_record = Instant::now();
            }
        }
        Ok(latency)
    }

    fn request(&self) -> anyhow::Result<FetchRequest> {
        let partition_max_bytes = i32::try_from(self.arguments.partition_fetch_size)?;
        let partitions = self.offsets.iter().map(|(&partition, &fetch_offset)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes,
            ..FetchPartition::default()
        });
        Ok(FetchRequest {
            max_wait_ms: MAX_WAIT_MS,
            min_bytes: 1,
            max_bytes: i32::try_from(self.arguments.fetch_size)?,
            topics: vec![FetchTopic {
                topic: self.topic.name.as_ref().into(),
                topic_id: self.topic.id,
                partitions: partitions.collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        })
    }

    /// Counts what came, and returns how many records that were.
    fn take(&mut self, response: FetchResponse) -> anyhow::Result<u64> {
        check(&self.topic, -1, response.error_code)?;
        let mut records = 0;
        for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
            check(&self.topic, data.partition_index, data.error_code)?;
            records += self.take_partition(data)?;
        }
        Ok(records)
    }

    fn take_partition(&mut self, data: PartitionData) -> anyhow::Result<u64> {
        let Some(next) = self.offsets.get_mut(&data.partition_index) else { return Ok(0) };
        let from = *next;
        let bytes = data.records.as_ref().and_then(|records| records.as_bytes()).cloned();
        let (mut count, mut size) = (0, 0);
        for batch in batches(bytes.unwrap_or_default()) {
            let batch = batch?;
            size += batch.bytes.len() as u64;
            *next = batch.header.next_offset();
            if self.arguments.no_check {
                count += u64::try_from(batch.header.records_count)?;
                continue;
            }
            batch.validate()?;
            for view in batch.record_buffer(RecordLimits::default())?.views() {
                count += u64::from(view?.offset >= from);
            }
        }
        let waits = self.arguments.follow || self.arguments.extent.records.is_some();
        if *next >= data.high_watermark && !waits {
            self.offsets.remove(&data.partition_index);
        }
        self.counters.add(count, size);
        Ok(count)
    }
}
