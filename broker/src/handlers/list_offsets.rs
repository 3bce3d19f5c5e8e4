//! ListOffsets (key 2), versions 1 to 11.
//!
//! Behaviour:
//! - Finds the first offset at or after a timestamp, or what one of the special timestamps stands
//!   for; -1 is the end of what the isolation level lets a reader see.
//! - No such offset is offset -1 without an error.
//! - A partition that is asked for twice is INVALID_REQUEST.
//!
//! Version notes: 2 isolation level; 4 leader epochs; 5 OFFSET_NOT_AVAILABLE; 6 flexible; 7 largest
//! timestamp -3 (KIP-734); 8 earliest local -4 (KIP-405); 9 latest tiered -5 (KIP-1005); 10
//! timeout; 11 earliest pending upload -6 (KIP-1023). A special timestamp below its version is
//! UNSUPPORTED_VERSION.
//!
//! Missing: tiered storage, hence -5 and -6 find nothing.

use std::collections::BTreeSet;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::list_offsets::request::{
    ListOffsetsPartition, ListOffsetsTopic,
};
use ottla_common::kafka::messages::list_offsets::response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_common::kafka::messages::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::replication::partition::{FoundOffset, Isolation};

/// The special timestamps from the second on, with the versions that have them.
const SPECIAL_TIMESTAMPS: [(i64, i16); 6] = [(-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)];

/// The first version in which a new leader says that it does not know yet what is committed.
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;

/// Serves a request.
pub fn handle(context: &Context, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = Isolation::from_wire(request.isolation_level);
    let doubles = doubles(&request.topics);
    let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|asked| {
                let is_double = doubles.contains(&(topic.name.as_str(), asked.partition_index));
                let found = match is_double {
                    true => Err(ErrorCode::InvalidRequest),
                    false => find(context, &topic.name, asked, isolation),
                };
                respond(asked.partition_index, found, context.version())
            })
            .collect(),
        ..ListOffsetsTopicResponse::default()
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

fn find(
    context: &Context,
    topic: &str,
    asked: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<FoundOffset>, ErrorCode> {
    if !context.is_authorized(Operation::Describe, Resource::Topic(topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    if asked.timestamp < 0 {
        let special = SPECIAL_TIMESTAMPS.iter().find(|(at, _)| *at == asked.timestamp);
        if special.is_none_or(|(_, from)| context.version() < *from) {
            return Err(ErrorCode::UnsupportedVersion);
        }
    }
    let partition = context.parts.replicas.partition(topic, asked.partition_index)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    partition.list_offset(asked.timestamp, isolation).map_err(|error| match error {
        // Clients of earlier versions know this one to mean: ask again (KIP-207).
        ErrorCode::OffsetNotAvailable if context.version() < OFFSET_NOT_AVAILABLE_FROM => {
            ErrorCode::LeaderNotAvailable
        }
        error => error,
    })
}

fn respond(
    partition_index: i32,
    found: Result<Option<FoundOffset>, ErrorCode>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    let response =
        ListOffsetsPartitionResponse { partition_index, ..ListOffsetsPartitionResponse::default() };
    match found {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp,
            offset: found.offset,
            // Version 4 began to tell it (KIP-320).
            leader_epoch: if version >= 4 { found.leader_epoch } else { -1 },
            ..response
        },
        Ok(None) => response,
        Err(error) => ListOffsetsPartitionResponse { error_code: error.code(), ..response },
    }
}

/// The partitions that are asked for more than once.
fn doubles(topics: &[ListOffsetsTopic]) -> BTreeSet<(&str, i32)> {
    let mut seen = BTreeSet::new();
    let asked = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|asked| (topic.name.as_str(), asked.partition_index))
    });
    asked.filter(|key| !seen.insert(*key)).collect()
}
