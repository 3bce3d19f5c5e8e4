//! The classic protocol: all members join, the leader assigns, all fetch what they were assigned.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::range::{self, Assignments};
use super::{Beat, Membership};
use crate::kafka::client::ClientError;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::ApiKey;
use crate::kafka::messages::heartbeat::HeartbeatRequest;
use crate::kafka::messages::join_group::request::JoinGroupRequestProtocol;
use crate::kafka::messages::join_group::response::JoinGroupResponseMember;
use crate::kafka::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::kafka::messages::leave_group::LeaveGroupRequest;
use crate::kafka::messages::leave_group::request::MemberIdentity;
use crate::kafka::messages::records::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedTopic,
};
use crate::kafka::messages::records::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::kafka::messages::sync_group::SyncGroupRequest;
use crate::kafka::messages::sync_group::request::SyncGroupRequestAssignment;
use crate::kafka::wire::{Decode, Encode, KafkaString, Reader, WireError};
use crate::types::TopicPartition;

/// What members of consumer groups call their protocol.
const PROTOCOL_TYPE: KafkaString = KafkaString::from_static("consumer");
/// The one assignor that is offered. Every client knows it.
const ASSIGNOR: KafkaString = KafkaString::from_static("range");

impl Membership {
    /// Joins, again and again while others come and go.
    pub(super) async fn join_classic(&mut self) -> Result<(), ClientError> {
        loop {
            let joined = self.join_group().await?;
            match ErrorCode::from_code(joined.error_code) {
                ErrorCode::None => {}
                ErrorCode::MemberIdRequired => {
                    self.id = joined.member_id.detached();
                    continue;
                }
                ErrorCode::UnknownMemberId if !self.id.is_empty() => {
                    self.id = KafkaString::new();
                    continue;
                }
                ErrorCode::RebalanceInProgress => continue,
                refused => return self.check("JoinGroup", refused, None),
            }
            self.id = joined.member_id.detached();
            self.epoch = joined.generation_id;
            if self.sync_group(&joined).await? {
                return Ok(());
            }
        }
    }

    async fn join_group(&self) -> Result<JoinGroupResponse, ClientError> {
        let subscription = ConsumerProtocolSubscription {
            topics: self.options.topics.iter().map(|topic| topic.as_str().into()).collect(),
            ..ConsumerProtocolSubscription::default()
        };
        let metadata = subscription.to_prefixed_bytes(0, 0);
        let metadata = metadata.map_err(|error| self.wire_error(ApiKey::JoinGroup, error))?;
        let request = JoinGroupRequest {
            group_id: self.group(),
            session_timeout_ms: self.options.session_timeout_ms,
            rebalance_timeout_ms: self.options.rebalance_timeout_ms,
            member_id: self.id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: PROTOCOL_TYPE,
            protocols: vec![JoinGroupRequestProtocol {
                name: ASSIGNOR,
                metadata,
                ..JoinGroupRequestProtocol::default()
            }],
            ..JoinGroupRequest::default()
        };
        self.connection.send(&request).await
    }

    /// Fetches the assignment; a leader brings all of them. False if the group joins again already.
    async fn sync_group(&mut self, joined: &JoinGroupResponse) -> Result<bool, ClientError> {
        let is_leader = joined.leader == self.id && !joined.skip_assignment;
        let assignments = match is_leader {
            true => self.assign(&joined.members).await?,
            false => Vec::new(),
        };
        let request = SyncGroupRequest {
            group_id: self.group(),
            generation_id: self.epoch,
            member_id: self.id.clone(),
            group_instance_id: self.instance_id(),
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: joined.protocol_name.clone(),
            assignments,
            ..SyncGroupRequest::default()
        };
        let answer = self.connection.send(&request).await?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => return Ok(false),
            ErrorCode::UnknownMemberId => {
                self.id = KafkaString::new();
                return Ok(false);
            }
            refused => self.check("SyncGroup", refused, None)?,
        }
        let assignment = read_assignment(answer.assignment);
        self.assignment = assignment.map_err(|e| self.wire_error(ApiKey::SyncGroup, e))?;
        Ok(true)
    }

    /// What the leader assigns to each.
    async fn assign(
        &self,
        members: &[JoinGroupResponseMember],
    ) -> Result<Vec<SyncGroupRequestAssignment>, ClientError> {
        let mut subscriptions = BTreeMap::new();
        let mut counts = BTreeMap::new();
        for member in members {
            let topics = subscribed_topics(member.metadata.clone());
            let topics = topics.map_err(|error| self.wire_error(ApiKey::JoinGroup, error))?;
            for topic in &topics {
                // A topic that does not exist has no partitions to assign.
                if !counts.contains_key(topic)
                    && let Ok(found) = self.cluster.topic(topic).await
                {
                    counts.insert(topic.clone(), found.partitions_count());
                }
            }
            subscriptions.insert(member.member_id.to_string(), topics);
        }
        let assigned = write_assignments(range::assign(&subscriptions, &counts));
        assigned.map_err(|error| self.wire_error(ApiKey::SyncGroup, error))
    }

    pub(super) async fn heartbeat_classic(&mut self) -> Result<Beat, ClientError> {
        let request = HeartbeatRequest {
            group_id: self.group(),
            generation_id: self.epoch,
            member_id: self.id.clone(),
            group_instance_id: self.instance_id(),
            ..HeartbeatRequest::default()
        };
        let answer = self.connection.send(&request).await?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => Ok(Beat::Steady),
            ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration => Ok(Beat::Rejoin),
            ErrorCode::UnknownMemberId => {
                self.id = KafkaString::new();
                Ok(self.forgotten())
            }
            refused => self.check("Heartbeat", refused, None).map(|()| Beat::Steady),
        }
    }

    pub(super) async fn leave_classic(&mut self) -> Result<(), ClientError> {
        let version = self.connection.version_of::<LeaveGroupRequest>(i16::MAX)?;
        let mut request =
            LeaveGroupRequest { group_id: self.group(), ..LeaveGroupRequest::default() };
        if version >= 3 {
            request.members = vec![MemberIdentity {
                member_id: self.id.clone(),
                group_instance_id: self.instance_id(),
                ..MemberIdentity::default()
            }];
        } else {
            request.member_id = self.id.clone();
        }
        let answer = self.connection.send(&request).await?;
        self.id = KafkaString::new();
        let member = answer.members.first().map_or(0, |member| member.error_code);
        self.check("LeaveGroup", ErrorCode::from_code(answer.error_code), None)?;
        self.check("LeaveGroup", ErrorCode::from_code(member), None)
    }

    fn wire_error(&self, key: ApiKey, error: WireError) -> ClientError {
        let address = self.connection.address().to_owned();
        ClientError::Wire { address, api: key.name(), error }
    }
}

fn subscribed_topics(metadata: Bytes) -> Result<Vec<String>, WireError> {
    let mut reader = Reader::new(metadata);
    let version = reader.i16()?.min(ConsumerProtocolSubscription::MAX_VERSION);
    let subscription = ConsumerProtocolSubscription::decode(&mut reader, version)?;
    Ok(subscription.topics.iter().map(ToString::to_string).collect())
}

/// Empty bytes are the assignment of a member that the leader left out.
fn read_assignment(bytes: Bytes) -> Result<Vec<TopicPartition>, WireError> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?.min(ConsumerProtocolAssignment::MAX_VERSION);
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, version)?;
    let topics = assignment.assigned_partitions.iter();
    let partitions = topics.flat_map(|topic| {
        let name: std::sync::Arc<str> = topic.topic.as_str().into();
        topic.partitions.iter().map(move |number| TopicPartition::new(name.clone(), *number))
    });
    Ok(partitions.collect())
}

fn write_assignments(assigned: Assignments) -> Result<Vec<SyncGroupRequestAssignment>, WireError> {
    let of_member = |(member, topics): (String, BTreeMap<String, Vec<i32>>)| {
        let topics = topics.into_iter();
        let assigned_partitions = topics
            .map(|(topic, partitions)| AssignedTopic { topic: topic.as_str().into(), partitions });
        let value = ConsumerProtocolAssignment {
            assigned_partitions: assigned_partitions.collect(),
            ..ConsumerProtocolAssignment::default()
        };
        Ok(SyncGroupRequestAssignment {
            member_id: member.as_str().into(),
            assignment: value.to_prefixed_bytes(0, 0)?,
            ..SyncGroupRequestAssignment::default()
        })
    };
    assigned.into_iter().map(of_member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_reads_what_the_leader_wrote() {
        let topics = BTreeMap::from([("t".to_owned(), vec![3, 4]), ("u".to_owned(), vec![0])]);
        let written = write_assignments(BTreeMap::from([("member".to_owned(), topics)])).unwrap();
        let read = read_assignment(written[0].assignment.clone()).unwrap();
        let names: Vec<String> = read.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["t-3", "t-4", "u-0"]);
        assert_eq!(read_assignment(Bytes::new()), Ok(Vec::new()));
    }
}
