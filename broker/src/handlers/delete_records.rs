//! DeleteRecords (key 21), versions 0 to 2.
//!
//! Behaviour:
//! - Moves a partition's log start offset forward, to at most the high watermark; -1 means up to
//!   there. The low watermark of the response is where the log starts then.
//! - Internal topics are INVALID_TOPIC_EXCEPTION; a compacted topic that does not also delete is
//!   POLICY_VIOLATION.
//!
//! Version notes: 2 flexible.
//!
//! Missing: waiting for the followers' low watermarks, as there are no followers yet.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::delete_records::request::DeleteRecordsTopic;
use ottla_common::kafka::messages::delete_records::response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_common::kafka::messages::delete_records::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::replication::partition::Partition;

/// Serves a request.
pub fn handle(context: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| delete_from_topic(context, topic));
    DeleteRecordsResponse { topics: topics.collect(), ..DeleteRecordsResponse::default() }
}

fn delete_from_topic(context: &Context, topic: &DeleteRecordsTopic) -> DeleteRecordsTopicResult {
    let checked = check_topic(context, &topic.name);
    let partitions = topic.partitions.iter().map(|asked| {
        let deleted = checked.and_then(|()| {
            let partition = context.parts.replicas.partition(&topic.name, asked.partition_index)?;
            if is_only_compacted(&partition) {
                return Err(ErrorCode::PolicyViolation);
            }
            partition.delete_records_before(asked.offset)
        });
        let (low_watermark, error) = match deleted {
            Ok(log_start_offset) => (log_start_offset, ErrorCode::None),
            Err(error) => (-1, error),
        };
        DeleteRecordsPartitionResult {
            partition_index: asked.partition_index,
            low_watermark,
            error_code: error.code(),
            ..DeleteRecordsPartitionResult::default()
        }
    });
    DeleteRecordsTopicResult {
        name: topic.name.clone(),
        partitions: partitions.collect(),
        ..DeleteRecordsTopicResult::default()
    }
}

fn check_topic(context: &Context, name: &str) -> Result<(), ErrorCode> {
    if !context.is_authorized(Operation::Delete, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = context.image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if topic.is_internal() { Err(ErrorCode::InvalidTopicException) } else { Ok(()) }
}

/// Whether nothing is ever deleted from the partition's log by its age or size.
fn is_only_compacted(partition: &Partition) -> bool {
    let config = partition.log().config();
    config.cleanup_compact && !config.cleanup_delete
}
