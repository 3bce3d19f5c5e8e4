//! What is asked of the brokers that keep consumer groups: lists, descriptions, offsets.

use std::collections::BTreeMap;

use super::{Admin, Results, check};
use crate::kafka::client::{ClientError, Connection};
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use crate::kafka::messages::consumer_group_describe::response as described;
use crate::kafka::messages::delete_groups::DeleteGroupsRequest;
use crate::kafka::messages::describe_groups::DescribeGroupsRequest;
use crate::kafka::messages::describe_groups::response::DescribedGroupMember;
use crate::kafka::messages::find_coordinator::FindCoordinatorRequest;
use crate::kafka::messages::list_groups::ListGroupsRequest;
use crate::kafka::messages::offset_commit::OffsetCommitRequest;
use crate::kafka::messages::offset_commit::request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use crate::kafka::messages::offset_delete::OffsetDeleteRequest;
use crate::kafka::messages::offset_delete::request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use crate::kafka::messages::offset_fetch::OffsetFetchRequest;
use crate::kafka::messages::offset_fetch::request::OffsetFetchRequestGroup;
use crate::kafka::messages::records::consumer_protocol_assignment::ConsumerProtocolAssignment;
use crate::kafka::wire::{Decode, Reader};
use crate::types::{BrokerId, TopicPartition};

/// The last version of OffsetFetch and OffsetCommit in which topics have names.
const TOPIC_NAMES_UNTIL: i16 = 9;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListedGroup {
    /// Its id.
    pub id: String,
    /// `classic`, `consumer`, or empty if the broker is too old to say.
    pub kind: String,
    /// What its members use it for: `consumer`, or anything else.
    pub protocol_type: String,
    /// Its state, as the broker writes it.
    pub state: String,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its id.
    pub id: String,
    /// `classic` or `consumer`.
    pub kind: &'static str,
    /// Its state, as the broker writes it.
    pub state: String,
    /// How its partitions are assigned.
    pub assignor: String,
    /// Who keeps it.
    pub coordinator: BrokerId,
    /// Its epoch, in the consumer protocol.
    pub epoch: Option<i32>,
    /// The epoch of the assignment that its members go to, in the consumer protocol.
    pub assignment_epoch: Option<i32>,
    /// Its members.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id.
    pub id: String,
    /// Its name, if it is static.
    pub instance_id: Option<String>,
    /// Its client's id.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// What it is assigned.
    pub assignment: Vec<TopicPartition>,
    /// What it goes to, in the consumer protocol.
    pub target: Vec<TopicPartition>,
    /// Its epoch, in the consumer protocol.
    pub epoch: Option<i32>,
    /// Whether it speaks the consumer protocol itself, in a group of that protocol, if the broker
    /// tells.
    pub is_upgraded: Option<bool>,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record that the group wants.
    pub offset: i64,
    /// The epoch of the leader of the record before it, if the member told.
    pub leader_epoch: Option<i32>,
    /// What the member wrote beside it.
    pub metadata: String,
}

impl Admin {
    /// All groups of all brokers, in the order of their ids.
    ///
    /// # Errors
    /// If a broker does not answer, or it refuses.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>, ClientError> {
        let metadata = self.cluster.refresh_all().await?;
        let mut groups = Vec::new();
        for broker in metadata.brokers.keys() {
            let request = ListGroupsRequest::default();
            let response = self.cluster.retry(|| async {
                let response = self.cluster.connection(*broker).await?.send(&request).await?;
                check(&format!("the groups of broker {broker}"), response.error_code, None)?;
                Ok(response)
            });
            groups.extend(response.await?.groups.into_iter().map(|group| ListedGroup {
                id: group.group_id.to_string(),
                kind: group.group_type.to_lowercase(),
                protocol_type: group.protocol_type.to_string(),
                state: group.group_state.to_string(),
            }));
        }
        groups.sort();
        Ok(groups)
    }

    /// Who keeps a group.
    ///
    /// # Errors
    /// If no broker answers, or none keeps groups yet, which may pass.
    pub async fn group_coordinator(&self, group: &str) -> Result<BrokerId, ClientError> {
        let connection = self.cluster.any_connection().await?;
        let is_batched = connection.version_of::<FindCoordinatorRequest>(i16::MAX)? >= 4;
        let mut request = FindCoordinatorRequest::default();
        match is_batched {
            true => request.coordinator_keys = vec![group.into()],
            false => request.key = group.into(),
        }
        let mut response = connection.send(&request).await?;
        let subject = format!("the coordinator of group {group}");
        match response.coordinators.pop() {
            Some(found) => {
                check(&subject, found.error_code, found.error_message.as_ref())?;
                Ok(BrokerId(found.node_id))
            }
            None => {
                check(&subject, response.error_code, response.error_message.as_ref())?;
                Ok(BrokerId(response.node_id))
            }
        }
    }

    /// Does `attempt` with the broker that keeps the group, again while that may help.
    async fn with_coordinator<T>(
        &self,
        group: &str,
        attempt: impl AsyncFn(Connection, BrokerId) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.cluster
            .retry(|| async {
                let coordinator = self.group_coordinator(group).await?;
                attempt(self.cluster.connection(coordinator).await?, coordinator).await
            })
            .await
    }

    /// A group of either protocol.
    ///
    /// # Errors
    /// If there is no such group, or its broker does not answer.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        self.with_coordinator(group, async |connection, coordinator| {
            let described = describe_consumer_group(&connection, group).await?;
            let described = match described {
                Some(described) => described,
                None => describe_classic_group(&connection, group).await?,
            };
            Ok(GroupDescription { id: group.to_owned(), coordinator, ..described })
        })
        .await
    }

    /// What a group has committed.
    ///
    /// # Errors
    /// If the group's broker does not answer, or it refuses.
    pub async fn group_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ClientError> {
        self.with_coordinator(group, async |connection, _| {
            let version = connection.version_of::<OffsetFetchRequest>(TOPIC_NAMES_UNTIL)?;
            let mut request = OffsetFetchRequest::default();
            if version >= 8 {
                let all = OffsetFetchRequestGroup {
                    group_id: group.into(),
                    topics: None,
                    ..OffsetFetchRequestGroup::default()
                };
                request.groups = vec![all];
            } else {
                (request.group_id, request.topics) = (group.into(), None);
            }
            let answer = connection.dispatch(TOPIC_NAMES_UNTIL, &request).await?.await?;
            let subject = format!("the offsets of group {group}");
            check(&subject, answer.error_code, None)?;
            let mut offsets = BTreeMap::new();
            let mut add = |topic: &str, partition: i32, (offset, epoch): (i64, i32), metadata| {
                let metadata: Option<String> = metadata;
                if offset >= 0 {
                    let metadata = metadata.unwrap_or_default();
                    let leader_epoch = Some(epoch).filter(|epoch| *epoch >= 0);
                    let committed = CommittedOffset { offset, leader_epoch, metadata };
                    offsets.insert(TopicPartition::new(topic, partition), committed);
                }
            };
            for topic in answer.topics {
                for at in topic.partitions {
                    let metadata = at.metadata.map(|text| text.to_string());
                    let offset = (at.committed_offset, at.committed_leader_epoch);
                    add(&topic.name, at.partition_index, offset, metadata);
                }
            }
            for group in answer.groups {
                check(&subject, group.error_code, None)?;
                for topic in group.topics {
                    for at in topic.partitions {
                        let metadata = at.metadata.map(|text| text.to_string());
                        let offset = (at.committed_offset, at.committed_leader_epoch);
                        add(&topic.name, at.partition_index, offset, metadata);
                    }
                }
            }
            Ok(offsets)
        })
        .await
    }

    /// Sets what a group without members has committed.
    ///
    /// # Errors
    /// If the group's broker does not answer. A group with members refuses each partition.
    pub async fn set_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, i64>,
    ) -> Result<Results<TopicPartition, ()>, ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (name, offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: name.partition,
                committed_offset: *offset,
                committed_metadata: Some("".into()),
                ..OffsetCommitRequestPartition::default()
            };
            match topics.last_mut().filter(|topic| topic.name.as_str() == &*name.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetCommitRequestTopic {
                    name: (*name.topic).into(),
                    partitions: vec![partition],
                    ..OffsetCommitRequestTopic::default()
                }),
            }
        }
        let request = OffsetCommitRequest {
            group_id: group.into(),
            topics,
            ..OffsetCommitRequest::default()
        };
        self.with_coordinator(group, async |connection, _| {
            let answer = connection.dispatch(TOPIC_NAMES_UNTIL, &request).await?.await?;
            let mut results = Vec::new();
            for topic in answer.topics {
                for at in topic.partitions {
                    let name = TopicPartition::new(topic.name.as_str(), at.partition_index);
                    let result = check(&format!("{name} of group {group}"), at.error_code, None);
                    // The whole commit is tried again if its broker has changed.
                    if matches!(&result, Err(error) if error.is_retriable()) {
                        result?;
                        continue;
                    }
                    results.push((name, result));
                }
            }
            Ok(results)
        })
        .await
    }

    /// Forgets a group without members, with its offsets.
    ///
    /// # Errors
    /// If there is no such group, it has members, or its broker does not answer.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        let request =
            DeleteGroupsRequest { groups_names: vec![group.into()], ..Default::default() };
        self.with_coordinator(group, async |connection, _| {
            let answer = connection.send(&request).await?;
            for result in answer.results {
                let message = result.error_message.as_ref();
                check(&format!("group {group}"), result.error_code, message)?;
            }
            Ok(())
        })
        .await
    }

    /// Forgets what a group has committed of these partitions, which it does not read now.
    ///
    /// # Errors
    /// If the group's broker does not answer, or refuses as a whole.
    pub async fn delete_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Results<TopicPartition, ()>, ClientError> {
        let topics = partitions.iter().map(|name| OffsetDeleteRequestTopic {
            name: (*name.topic).into(),
            partitions: vec![OffsetDeleteRequestPartition { partition_index: name.partition }],
        });
        let request = OffsetDeleteRequest { group_id: group.into(), topics: topics.collect() };
        self.with_coordinator(group, async |connection, _| {
            let answer = connection.send(&request).await?;
            check(&format!("group {group}"), answer.error_code, None)?;
            let mut results = Vec::new();
            for topic in answer.topics {
                for at in topic.partitions {
                    let name = TopicPartition::new(topic.name.as_str(), at.partition_index);
                    let result = check(&format!("{name} of group {group}"), at.error_code, None);
                    results.push((name, result));
                }
            }
            Ok(results)
        })
        .await
    }
}

/// The group, if the broker knows it as one of the consumer protocol (KIP-848).
async fn describe_consumer_group(
    connection: &Connection,
    group: &str,
) -> Result<Option<GroupDescription>, ClientError> {
    if connection.version_of::<ConsumerGroupDescribeRequest>(i16::MAX).is_err() {
        return Ok(None);
    }
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![group.into()],
        ..ConsumerGroupDescribeRequest::default()
    };
    let mut answer = connection.send(&request).await?;
    let Some(found) = answer.groups.pop() else { return Ok(None) };
    if ErrorCode::from_code(found.error_code) == ErrorCode::GroupIdNotFound {
        return Ok(None);
    }
    check(&format!("group {group}"), found.error_code, found.error_message.as_ref())?;
    let members = found.members.into_iter().map(|member| GroupMember {
        id: member.member_id.to_string(),
        instance_id: member.instance_id.map(|name| name.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: assigned(&member.assignment.topic_partitions),
        target: assigned(&member.target_assignment.topic_partitions),
        epoch: Some(member.member_epoch),
        is_upgraded: (member.member_type >= 0).then_some(member.member_type == 1),
    });
    Ok(Some(GroupDescription {
        kind: "consumer",
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        epoch: Some(found.group_epoch),
        assignment_epoch: Some(found.assignment_epoch),
        members: members.collect(),
        ..GroupDescription::default()
    }))
}

fn assigned(topics: &[described::TopicPartitions]) -> Vec<TopicPartition> {
    let partitions = topics.iter().flat_map(|topic| {
        let name: std::sync::Arc<str> = topic.topic_name.as_str().into();
        topic.partitions.iter().map(move |number| TopicPartition::new(name.clone(), *number))
    });
    partitions.collect()
}

async fn describe_classic_group(
    connection: &Connection,
    group: &str,
) -> Result<GroupDescription, ClientError> {
    let request =
        DescribeGroupsRequest { groups: vec![group.into()], ..DescribeGroupsRequest::default() };
    let mut answer = connection.send(&request).await?;
    let subject = format!("group {group}");
    let found = answer.groups.pop();
    let message = found.as_ref().and_then(|found| found.error_message.clone());
    let Some(found) = found.filter(|found| found.group_state.as_str() != "Dead") else {
        return check(&subject, ErrorCode::GroupIdNotFound.code(), message.as_ref())
            .map(|()| GroupDescription::default());
    };
    check(&subject, found.error_code, found.error_message.as_ref())?;
    Ok(GroupDescription {
        kind: "classic",
        state: found.group_state.to_string(),
        assignor: found.protocol_data.to_string(),
        members: found.members.into_iter().map(classic_member).collect(),
        ..GroupDescription::default()
    })
}

fn classic_member(member: DescribedGroupMember) -> GroupMember {
    let mut bytes = Reader::new(member.member_assignment);
    // Members that are no consumers have assignments of their own kinds, which nobody else reads.
    let assignment = bytes
        .i16()
        .ok()
        .and_then(|version| ConsumerProtocolAssignment::decode(&mut bytes, version.min(3)).ok());
    let topics = assignment.map(|found| found.assigned_partitions).unwrap_or_default();
    let partitions = topics.iter().flat_map(|topic| {
        let name: std::sync::Arc<str> = topic.topic.as_str().into();
        topic.partitions.iter().map(move |number| TopicPartition::new(name.clone(), *number))
    });
    GroupMember {
        assignment: partitions.collect(),
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|name| name.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        ..GroupMember::default()
    }
}
