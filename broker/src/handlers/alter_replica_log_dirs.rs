//! AlterReplicaLogDirs (key 34), versions 1 to 2.
//!
//! Behaviour:
//! - Moves replicas of this broker to other log directories of its: each is copied, and the copy
//!   takes its place once it has all of it. The answer comes when the move has begun;
//!   DescribeLogDirs tells how far it is. Another directory named meanwhile begins the move anew,
//!   the replica's own one calls it off.
//! - A replica that is not here yet will be made in the directory: REPLICA_NOT_AVAILABLE, or
//!   UNKNOWN_TOPIC_OR_PARTITION if nobody has it, is answered all the same.
//!
//! Version notes: 2 flexible.
//!
//! Missing: nothing.

use std::path::Path;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::alter_replica_log_dirs::response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use ottla_common::kafka::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse,
};
use ottla_common::types::TopicPartition;

use super::authorization::{Operation, Resource};
use super::context::Context;

/// Serves a request.
pub async fn handle(
    context: Context,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let allowed = context.is_authorized(Operation::Alter, Resource::Cluster);
    let replicas = context.parts.replicas.clone();
    let serve = move || {
        let mut results: Vec<AlterReplicaLogDirTopicResult> = Vec::new();
        for dir in &request.dirs {
            let path = Path::new(&*dir.path);
            for topic in &dir.topics {
                let partitions = topic.partitions.iter().map(|number| {
                    let name = TopicPartition::new(&*topic.name, *number);
                    let moved = match allowed {
                        true => replicas.move_to_dir(&name, path),
                        false => Err(ErrorCode::ClusterAuthorizationFailed),
                    };
                    AlterReplicaLogDirPartitionResult {
                        partition_index: *number,
                        error_code: moved.err().unwrap_or(ErrorCode::None).code(),
                        ..AlterReplicaLogDirPartitionResult::default()
                    }
                });
                let partitions: Vec<_> = partitions.collect();
                match results.iter_mut().find(|result| result.topic_name == topic.name) {
                    Some(result) => result.partitions.extend(partitions),
                    None => results.push(AlterReplicaLogDirTopicResult {
                        topic_name: topic.name.clone(),
                        partitions,
                        ..AlterReplicaLogDirTopicResult::default()
                    }),
                }
            }
        }
        results
    };
    // It makes folders, and may wait for a disk.
    let results = tokio::task::spawn_blocking(serve).await.unwrap_or_default();
    AlterReplicaLogDirsResponse { results, ..AlterReplicaLogDirsResponse::default() }
}
