//! OffsetCommit (key 8), versions 2 to 10.
//!
//! Behaviour:
//! - Each partition has its own result; those of topics that are not there are refused, the others
//!   are written together.
//! - A client that is not a member (generation -1) may commit while the group has no members; the
//!   group may have an empty id.
//!
//! Version notes: 2 to 4 retention time; 6 leader epochs (KIP-320); 7 static members (KIP-345); 8
//! flexible; 9 members of the new protocol; 10 topics by id (KIP-848).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::offset_commit::request::OffsetCommitRequestTopic;
use ottla_common::kafka::messages::offset_commit::response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_common::kafka::messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::reply_when;
use super::topics::find_topic;
use crate::groups::shard::{Commit, OffsetToCommit};
use crate::metadata::image::TopicImage;
use crate::network::{Close, Reply};

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;

/// Serves a request.
pub fn handle(context: Context, request: OffsetCommitRequest) -> Result<Reply, Close> {
    if !context.is_authorized(Operation::Read, Resource::Group(&request.group_id)) {
        let refused = respond(&request, |_| ErrorCode::GroupAuthorizationFailed);
        return context.reply(refused);
    }
    let checked = check(&context, &request);
    let offsets: Vec<OffsetToCommit<'_>> = checked.iter().filter_map(|c| c.ok()).collect();
    let commit = Commit {
        group_id: &request.group_id,
        generation: request.generation_id_or_member_epoch,
        member_id: &request.member_id,
        instance_id: request.group_instance_id.as_deref(),
        api_version: context.version(),
        retention_ms: request.retention_time_ms,
        offsets: &offsets,
    };
    let checks: Vec<Option<ErrorCode>> = checked.iter().map(|checked| checked.err()).collect();
    if offsets.is_empty() {
        let code = |index: usize| checks.get(index).copied().flatten().unwrap_or(ErrorCode::None);
        return context.reply(respond(&request, code));
    }
    let pending = context.write_group(&request.group_id, |shard, turn| shard.commit(&commit, turn));
    reply_when(&context, pending, move |result| {
        let result = result.and_then(|committed| committed);
        let mut committed = result.as_ref().map(|codes| codes.iter().copied());
        let codes = checks.into_iter().map(|refused| match (refused, &mut committed) {
            (Some(error), _) => error,
            (None, Ok(codes)) => codes.next().unwrap_or(ErrorCode::UnknownServerError),
            (None, Err(error)) => **error,
        });
        let codes: Vec<ErrorCode> = codes.collect();
        respond(&request, |index| {
            codes.get(index).copied().unwrap_or(ErrorCode::UnknownServerError)
        })
    })
}

/// What is to be committed, and what cannot be, in the order of the request.
fn check<'a>(
    context: &'a Context,
    request: &'a OffsetCommitRequest,
) -> Vec<Result<OffsetToCommit<'a>, ErrorCode>> {
    let checked = request.topics.iter().flat_map(|topic| {
        let found = check_topic(context, topic);
        topic.partitions.iter().map(move |partition| {
            let found = found?;
            let number = partition.partition_index;
            found.partition(number).ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(OffsetToCommit {
                topic: &found.name,
                topic_id: found.id,
                partition: number,
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_deref().unwrap_or_default(),
            })
        })
    });
    checked.collect()
}

fn check_topic<'a>(
    context: &'a Context,
    topic: &OffsetCommitRequestTopic,
) -> Result<&'a TopicImage, ErrorCode> {
    let by_id = context.version() >= TOPIC_IDS_FROM;
    let found = find_topic(context, by_id, (&topic.name, topic.topic_id));
    // A name is not given away to who may not know it.
    let name = found.map_or(topic.name.as_str(), |found| &found.name);
    if !context.is_authorized(Operation::Read, Resource::Topic(name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    found.map(|found| &**found)
}

/// The response that has these codes for the request's partitions, counted through.
fn respond(
    request: &OffsetCommitRequest,
    code: impl Fn(usize) -> ErrorCode,
) -> OffsetCommitResponse {
    let mut index = 0;
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let error_code = code(index).code();
            index += 1;
            OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code,
                ..OffsetCommitResponsePartition::default()
            }
        });
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: partitions.collect(),
            ..OffsetCommitResponseTopic::default()
        }
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}
