//! DescribeProducers (key 61), version 0 (KIP-664).
//!
//! Behaviour:
//! - The producers whose sequences a partition's log remembers, and the open transaction of each.
//!
//! Missing: nothing; without transactions none is open.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_producers::response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use ottla_common::kafka::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse,
};

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::topics::UNKNOWN_TOPIC;

/// Serves a request.
pub fn handle(context: &Context, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.iter().map(|topic| TopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| respond(*index, producers(context, &topic.name, *index)))
            .collect(),
        ..TopicResponse::default()
    });
    DescribeProducersResponse { topics: topics.collect(), ..DescribeProducersResponse::default() }
}

fn producers(
    context: &Context,
    topic: &str,
    index: i32,
) -> Result<Vec<ProducerState>, (ErrorCode, Option<&'static str>)> {
    if !context.is_authorized(Operation::Read, Resource::Topic(topic)) {
        return Err((ErrorCode::TopicAuthorizationFailed, None));
    }
    if context.image.topic(topic).is_none() {
        return Err((ErrorCode::UnknownTopicOrPartition, Some(UNKNOWN_TOPIC)));
    }
    let partition = context.parts.replicas.partition(topic, index).map_err(|code| (code, None))?;
    if !partition.is_leader() {
        return Err((ErrorCode::NotLeaderOrFollower, None));
    }
    let producers = partition.active_producers().into_iter().map(|producer| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.producer_epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.current_txn_start_offset,
        ..ProducerState::default()
    });
    Ok(producers.collect())
}

fn respond(
    partition_index: i32,
    found: Result<Vec<ProducerState>, (ErrorCode, Option<&'static str>)>,
) -> PartitionResponse {
    let response = PartitionResponse { partition_index, ..PartitionResponse::default() };
    match found {
        Ok(active_producers) => PartitionResponse { active_producers, ..response },
        Err((error, message)) => PartitionResponse {
            error_code: error.code(),
            error_message: message.map(Into::into),
            ..response
        },
    }
}
