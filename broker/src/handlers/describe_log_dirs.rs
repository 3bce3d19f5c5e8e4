//! DescribeLogDirs (key 35), versions 1 to 5.
//!
//! Behaviour:
//! - Each log directory of this broker with the partitions asked for that lie in it (all if null),
//!   their sizes in bytes, and the size and usable rest of its volume. A failed directory is
//!   KAFKA_STORAGE_ERROR.
//! - Future replicas are copies that AlterReplicaLogDirs makes; their lag is how much of the
//!   replica they have not got yet.
//!
//! Version notes: 2 flexible; 3 an error for the whole response; 4 volumes (KIP-827); 5 whether a
//! directory takes no new replicas.
//!
//! Missing: cordoned directories.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_log_dirs::request::DescribableLogDirTopic;
use ottla_common::kafka::messages::describe_log_dirs::response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use ottla_common::kafka::messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse,
};

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::storage::log::Log;
use crate::storage::log_dirs::LogDir;

/// Serves a request.
pub fn handle(context: &Context, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    if !context.is_authorized(Operation::Describe, Resource::Cluster) {
        return DescribeLogDirsResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..DescribeLogDirsResponse::default()
        };
    }
    let asked = request.topics.as_deref().map(asked_partitions);
    let is_asked = |log: &&Arc<Log>| {
        let partition = log.topic_partition();
        asked.as_ref().is_none_or(|asked| asked.contains(&(&partition.topic, partition.partition)))
    };
    let manager = context.parts.replicas.logs();
    let (logs, futures) = (manager.logs(), manager.futures());
    let results = manager.dirs().iter().map(|dir| {
        let is_here = |log: &&Arc<Log>| log.dir().path() == dir.path() && is_asked(log);
        let current = logs.iter().filter(is_here).map(|log| (log, describe_log(log)));
        let futures = futures.iter().filter(is_here).map(|log| {
            let of = manager.any_log(log.topic_partition());
            (log, describe_future(log, of.as_deref()))
        });
        describe(dir, current.chain(futures))
    });
    DescribeLogDirsResponse { results: results.collect(), ..DescribeLogDirsResponse::default() }
}

fn asked_partitions(topics: &[DescribableLogDirTopic]) -> BTreeSet<(&str, i32)> {
    let partitions = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.topic.as_str(), *partition))
    });
    partitions.collect()
}

fn describe_log(log: &Log) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition {
        partition_index: log.topic_partition().partition,
        partition_size: i64::try_from(log.size_bytes()).unwrap_or(i64::MAX),
        offset_lag: (log.high_watermark() - log.log_end_offset()).max(0),
        ..DescribeLogDirsPartition::default()
    }
}

fn describe_future(future: &Log, of: Option<&Log>) -> DescribeLogDirsPartition {
    let end_offset = of.map_or(future.log_end_offset(), Log::log_end_offset);
    DescribeLogDirsPartition {
        offset_lag: (end_offset - future.log_end_offset()).max(0),
        is_future_key: true,
        ..describe_log(future)
    }
}

fn describe<'a>(
    dir: &LogDir,
    logs: impl Iterator<Item = (&'a Arc<Log>, DescribeLogDirsPartition)>,
) -> DescribeLogDirsResult {
    let result = DescribeLogDirsResult {
        log_dir: dir.path().to_string_lossy().into_owned().into(),
        ..DescribeLogDirsResult::default()
    };
    if dir.offline_reason().is_some() {
        let error_code = ErrorCode::KafkaStorageError.code();
        return DescribeLogDirsResult { error_code, ..result };
    }
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for (log, described) in logs {
        topics.entry(&log.topic_partition().topic).or_default().push(described);
    }
    let volume = dir.volume_bytes();
    let size = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let topics = topics.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.partition_index);
        DescribeLogDirsTopic { name: name.into(), partitions, ..DescribeLogDirsTopic::default() }
    });
    DescribeLogDirsResult {
        topics: topics.collect(),
        total_bytes: volume.map_or(-1, |(total, _)| size(total)),
        usable_bytes: volume.map_or(-1, |(_, usable)| size(usable)),
        ..result
    }
}
