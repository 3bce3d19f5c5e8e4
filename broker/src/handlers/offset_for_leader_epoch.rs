//! OffsetForLeaderEpoch (key 23), versions 2 to 4.
//!
//! Behaviour:
//! - For each partition the largest leader epoch that is not above the asked one, and where it
//!   ends, so that a reader finds where its log parts from this one (KIP-101, KIP-320); -1 and -1
//!   if unknown.
//!
//! Version notes: 3 replica id; 4 flexible.
//!
//! Missing: nothing that clients use.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::offset_for_leader_epoch::request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_common::kafka::messages::offset_for_leader_epoch::response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_common::kafka::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::authorization::{Operation, Resource};
use super::context::Context;

/// Serves a request.
pub fn handle(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| OffsetForLeaderTopicResult {
        topic: topic.topic.clone(),
        partitions: topic.partitions.iter().map(|asked| respond(context, topic, asked)).collect(),
        ..OffsetForLeaderTopicResult::default()
    });
    OffsetForLeaderEpochResponse {
        topics: topics.collect(),
        ..OffsetForLeaderEpochResponse::default()
    }
}

fn respond(
    context: &Context,
    topic: &OffsetForLeaderTopic,
    asked: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let (code, (leader_epoch, end_offset)) = match find(context, &topic.topic, asked) {
        Ok(found) => (ErrorCode::None, found),
        Err(error) => (error, (-1, -1)),
    };
    EpochEndOffset {
        error_code: code.code(),
        partition: asked.partition,
        leader_epoch,
        end_offset,
        ..EpochEndOffset::default()
    }
}

fn find(
    context: &Context,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    if !context.is_authorized(Operation::Describe, Resource::Topic(topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let partition = context.parts.replicas.partition(topic, asked.partition)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    if !partition.is_leader() {
        return Err(ErrorCode::NotLeaderOrFollower);
    }
    Ok(partition.end_offset_for_leader_epoch(asked.leader_epoch))
}
