//! ListPartitionReassignments (key 46), version 0.
//!
//! Behaviour:
//! - The partitions whose replicas are being moved, among those that the request names, or all if
//!   it names none. One that is unknown or not being moved is left out.
//!
//! Version notes: 0 is flexible already.
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::list_partition_reassignments::response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use ottla_common::kafka::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use ottla_common::types::BrokerId;

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::controller::reassignment::is_under_way;
use crate::metadata::image::TopicImage;

/// Serves a request.
pub fn handle(
    context: &Context,
    request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    if !context.is_authorized(Operation::Describe, Resource::Cluster) {
        return ListPartitionReassignmentsResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..ListPartitionReassignmentsResponse::default()
        };
    }
    let image = &context.image;
    let moving = match request.topics {
        None => image.topics.values().filter_map(|topic| moving_of(topic, |_| true)).collect(),
        Some(topics) => topics
            .iter()
            .filter_map(|asked| {
                let topic = image.topic(asked.name.as_str())?;
                moving_of(topic, |number| asked.partition_indexes.contains(&number))
            })
            .collect(),
    };
    ListPartitionReassignmentsResponse {
        topics: moving,
        ..ListPartitionReassignmentsResponse::default()
    }
}

fn moving_of(topic: &TopicImage, asked: impl Fn(i32) -> bool) -> Option<OngoingTopicReassignment> {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|broker| broker.0).collect();
    let numbered = (0_i32..).zip(&topic.partitions);
    let moving = numbered.filter(|(number, partition)| asked(*number) && is_under_way(partition));
    let partitions: Vec<_> = moving
        .map(|(partition_index, partition)| OngoingPartitionReassignment {
            partition_index,
            replicas: ids(&partition.replicas),
            adding_replicas: ids(&partition.adding),
            removing_replicas: ids(&partition.removing),
            ..OngoingPartitionReassignment::default()
        })
        .collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name: (&*topic.name).into(),
        partitions,
        ..OngoingTopicReassignment::default()
    })
}
