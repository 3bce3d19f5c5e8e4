//! DescribeQuorum (key 55), versions 0 to 2.
//!
//! Behaviour:
//! - Tells of the coordinators' ensemble, which keeps here what Kafka keeps in the log
//!   `__cluster_metadata-0`: its members are the voters, its learners and the brokers the
//!   observers. Offsets are records of the ensemble's log, epochs its terms.
//! - Any other partition is UNKNOWN_TOPIC_OR_PARTITION. An ensemble that does not answer is
//!   COORDINATOR_NOT_AVAILABLE.
//! - A voter's log end offset is what the leader knows it to have; -1 if nothing is known.
//!
//! Version notes: 1 times; 2 where the voters listen, and messages.
//!
//! Missing: when a voter last fetched, which is -1 but for the leader; directory ids.

use std::time::Duration;

use ottla_common::clock::wall_time_ms;
use ottla_common::coordination::protocol::admin::MemberInfo;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_quorum::response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use ottla_common::kafka::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse,
};
use ottla_common::types::MemberId;

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::metadata::ensemble::{Ensemble, ask};

/// The topic that the protocol means.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the address of a member is called.
const LISTENER: &str = "COORDINATOR";

/// The first version that has where the voters listen.
const NODES_FROM: i16 = 2;

/// Serves a request.
pub async fn handle(context: Context, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let refused = |code: ErrorCode| DescribeQuorumResponse {
        error_code: code.code(),
        ..DescribeQuorumResponse::default()
    };
    if !context.is_authorized(Operation::Describe, Resource::Cluster) {
        return refused(ErrorCode::ClusterAuthorizationFailed);
    }
    let is_it = |name: &str, partitions: &[i32]| name == METADATA_TOPIC && partitions == [0];
    let asked: Vec<(&str, Vec<i32>)> = request
        .topics
        .iter()
        .map(|topic| {
            let numbers = topic.partitions.iter().map(|partition| partition.partition_index);
            (&*topic.topic_name, numbers.collect())
        })
        .collect();
    if !matches!(asked.as_slice(), [(name, numbers)] if is_it(name, numbers)) {
        return unknown(&asked);
    }
    match ask(&context.parts.config.coordinator.addresses, PATIENCE).await {
        Ok(ensemble) => describe(&context, &ensemble),
        Err(error) => {
            tracing::warn!(%error, "the coordinators do not tell of themselves");
            refused(ErrorCode::CoordinatorNotAvailable)
        }
    }
}

fn unknown(asked: &[(&str, Vec<i32>)]) -> DescribeQuorumResponse {
    let topics = asked.iter().map(|(name, numbers)| {
        let partitions = numbers.iter().map(|number| PartitionData {
            partition_index: *number,
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            ..PartitionData::default()
        });
        let (topic_name, partitions) = ((*name).into(), partitions.collect());
        TopicData { topic_name, partitions, ..TopicData::default() }
    });
    DescribeQuorumResponse { topics: topics.collect(), ..DescribeQuorumResponse::default() }
}

fn replica_id(id: MemberId) -> i32 {
    i32::try_from(id.0).unwrap_or(i32::MAX)
}

fn describe(context: &Context, ensemble: &Ensemble) -> DescribeQuorumResponse {
    let Ensemble { members, status } = ensemble;
    let now_ms = wall_time_ms();
    let state = |(id, member): (&MemberId, &MemberInfo)| {
        let is_leader = members.leader_id == Some(*id);
        let known = member.acknowledged.map(|zxid| zxid.0);
        let time_ms = if is_leader { now_ms } else { -1 };
        ReplicaState {
            replica_id: replica_id(*id),
            log_end_offset: known.unwrap_or(if is_leader { status.zxid.0 } else { -1 }),
            last_fetch_timestamp: time_ms,
            last_caught_up_timestamp: time_ms,
            ..ReplicaState::default()
        }
    };
    let voters = members.members.iter().filter(|(_, member)| !member.is_learner).map(state);
    let learners = members.members.iter().filter(|(_, member)| member.is_learner).map(state);
    let brokers = context.image.brokers.keys().map(|id| ReplicaState {
        replica_id: id.0,
        log_end_offset: -1,
        ..ReplicaState::default()
    });
    let partition = PartitionData {
        partition_index: 0,
        leader_id: members.leader_id.map_or(-1, replica_id),
        leader_epoch: i32::try_from(status.figures.term).unwrap_or(i32::MAX),
        high_watermark: status.figures.committed.0.max(status.zxid.0),
        current_voters: voters.collect(),
        observers: learners.chain(brokers).collect(),
        ..PartitionData::default()
    };
    let topic = TopicData {
        topic_name: METADATA_TOPIC.into(),
        partitions: vec![partition],
        ..TopicData::default()
    };
    let told = members.members.iter().filter(|_| context.version() >= NODES_FROM);
    let nodes = told.map(|(id, member)| node(*id, &member.client_address));
    DescribeQuorumResponse {
        topics: vec![topic],
        nodes: nodes.collect(),
        ..DescribeQuorumResponse::default()
    }
}

fn node(id: MemberId, address: &str) -> Node {
    let listener = address.rsplit_once(':').and_then(|(host, port)| {
        let (name, host, port) = (LISTENER.into(), host.into(), port.parse().ok()?);
        Some(Listener { name, host, port, ..Listener::default() })
    });
    let listeners = listener.into_iter().collect();
    Node { node_id: replica_id(id), listeners, ..Node::default() }
}
