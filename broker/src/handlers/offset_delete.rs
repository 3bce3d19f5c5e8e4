//! OffsetDelete (key 47), version 0.
//!
//! Behaviour:
//! - Deletes offsets of topics that no member consumes: GROUP_SUBSCRIBED_TO_TOPIC otherwise. An
//!   offset that is not there is deleted already.
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::offset_delete::response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_common::kafka::messages::offset_delete::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::reply_when;
use crate::network::{Close, Reply};

/// Serves a request.
pub fn handle(context: Context, request: OffsetDeleteRequest) -> Result<Reply, Close> {
    let group_id = &request.group_id;
    let refused = |error: ErrorCode| OffsetDeleteResponse {
        error_code: error.code(),
        ..OffsetDeleteResponse::default()
    };
    if !context.is_authorized(Operation::Delete, Resource::Group(group_id)) {
        return context.reply(refused(ErrorCode::GroupAuthorizationFailed));
    }
    if group_id.is_empty() {
        return context.reply(refused(ErrorCode::InvalidGroupId));
    }
    let checks: Vec<Option<ErrorCode>> = check(&context, &request);
    let named = request.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.map(|partition| (topic.name.as_str(), partition.partition_index))
    });
    let deleted = named.zip(&checks).filter(|(_, refused)| refused.is_none());
    let deleted: Vec<(&str, i32)> = deleted.map(|(named, _)| named).collect();
    let pending =
        context.write_group(group_id, |shard, turn| shard.delete_offsets(group_id, &deleted, turn));
    reply_when(&context, pending, move |result| match result.and_then(|deleted| deleted) {
        Err(error) => refused(error),
        Ok(codes) => respond(&request, &checks, &codes),
    })
}

/// What is wrong with each of the request's partitions.
fn check(context: &Context, request: &OffsetDeleteRequest) -> Vec<Option<ErrorCode>> {
    let checked = request.topics.iter().flat_map(|topic| {
        let found = context.image.topic(&topic.name);
        let may_read = context.is_authorized(Operation::Read, Resource::Topic(&topic.name));
        topic.partitions.iter().map(move |partition| {
            let is_there =
                found.is_some_and(|found| found.partition(partition.partition_index).is_some());
            match (may_read, is_there) {
                (false, _) => Some(ErrorCode::TopicAuthorizationFailed),
                (true, false) => Some(ErrorCode::UnknownTopicOrPartition),
                (true, true) => None,
            }
        })
    });
    checked.collect()
}

fn respond(
    request: &OffsetDeleteRequest,
    checks: &[Option<ErrorCode>],
    codes: &[ErrorCode],
) -> OffsetDeleteResponse {
    let (mut checks, mut codes) = (checks.iter(), codes.iter());
    let mut next = || match checks.next() {
        Some(Some(refused)) => *refused,
        _ => codes.next().copied().unwrap_or(ErrorCode::UnknownServerError),
    };
    let topics = request.topics.iter().map(|topic| OffsetDeleteResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| OffsetDeleteResponsePartition {
                partition_index: partition.partition_index,
                error_code: next().code(),
            })
            .collect(),
    });
    OffsetDeleteResponse { topics: topics.collect(), ..OffsetDeleteResponse::default() }
}
