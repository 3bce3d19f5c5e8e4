//! AlterPartitionReassignments (key 45), versions 0 to 1.
//!
//! Behaviour:
//! - Begins to move each partition's replicas to the brokers that the request names, from wherever
//!   an earlier move has come; null replicas end the move that is under way.
//! - A topic's partitions begin together. The controller ends each move when all new replicas are
//!   in sync.
//!
//! Version notes: 1 whether the number of replicas may change; before, it may.
//!
//! Missing: the timeout is not observed, as in CreateTopics.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::alter_partition_reassignments::response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use ottla_common::kafka::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use ottla_common::types::BrokerId;

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::controller::movements::{Move, PerPartition};

/// Serves a request.
pub async fn handle(
    context: Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let may_resize = request.allow_replication_factor_change;
    let answer = |error: ErrorCode| AlterPartitionReassignmentsResponse {
        error_code: error.code(),
        allow_replication_factor_change: may_resize,
        ..AlterPartitionReassignmentsResponse::default()
    };
    if !context.is_authorized(Operation::Alter, Resource::Cluster) {
        return answer(ErrorCode::ClusterAuthorizationFailed);
    }
    let mut moves: PerPartition<Move> = PerPartition::new();
    for topic in request.topics {
        let of_topic = moves.entry(topic.name.as_str().into()).or_default();
        for partition in topic.partitions {
            let brokers = |ids: Vec<i32>| ids.into_iter().map(BrokerId).collect();
            of_topic.insert(partition.partition_index, partition.replicas.map(brokers));
        }
    }
    let outcomes = context.parts.admin.reassign(moves, may_resize).await;
    let responses = outcomes.into_iter().map(|(topic, partitions)| {
        let partitions = partitions.into_iter().map(|(partition_index, outcome)| {
            let error = outcome.err();
            ReassignablePartitionResponse {
                partition_index,
                error_code: error.as_ref().map_or(ErrorCode::None, |error| error.code).code(),
                error_message: error.map(|error| error.message.into()),
                ..ReassignablePartitionResponse::default()
            }
        });
        ReassignableTopicResponse {
            name: (&*topic).into(),
            partitions: partitions.collect(),
            ..ReassignableTopicResponse::default()
        }
    });
    AlterPartitionReassignmentsResponse {
        responses: responses.collect(),
        ..answer(ErrorCode::None)
    }
}
