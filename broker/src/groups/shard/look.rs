//! What may be seen of groups: lists, descriptions, offsets.

use std::sync::Arc;

use bytes::Bytes;
use ottla_common::types::TopicPartition;

use ottla_common::kafka::error_code::ErrorCode;

use super::{Group, GroupShard};
use crate::groups::classic::State;
use crate::groups::offsets::CommittedOffset;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub id: Arc<str>,
    /// What kind of group it is in its clients' words; empty if it only has offsets.
    pub protocol_type: String,
    /// Its state's name.
    pub state: &'static str,
    /// The protocol that it runs: `classic` or `consumer`.
    pub kind: &'static str,
}

/// A group, described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Its state's name.
    pub state: &'static str,
    /// What kind of group it is in its clients' words.
    pub protocol_type: String,
    /// What its members have agreed on, if it is stable.
    pub protocol: String,
    /// Its members.
    pub members: Vec<DescribedMember>,
}

/// A member, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub id: Arc<str>,
    /// Its name, if it is static.
    pub instance_id: Option<Arc<str>>,
    /// Its client's id.
    pub client_id: String,
    /// Its client's address.
    pub client_host: String,
    /// What it has joined with, if the group is stable.
    pub metadata: Bytes,
    /// What it is assigned.
    pub assignment: Bytes,
}

/// What is known of a partition's offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchedOffset {
    /// It was committed.
    Committed(CommittedOffset),
    /// None was.
    Missing,
    /// An open transaction may change it.
    Unstable,
}

impl GroupShard {
    /// Whether a member may fetch its group's offsets in this epoch; -1 is no member's.
    ///
    /// # Errors
    /// What it is told instead.
    pub fn check_fetch(
        &self,
        group_id: &str,
        member_id: Option<&str>,
        member_epoch: i32,
    ) -> Result<(), ErrorCode> {
        match self.groups.get(group_id) {
            Some(Group::Consumer(group)) => group.check_fetch(member_id, member_epoch),
            Some(Group::Classic(_)) | None => Ok(()),
        }
    }

    /// All groups.
    pub fn list(&self) -> Vec<ListedGroup> {
        let listed = self.groups.iter().map(|(id, group)| match group {
            Group::Classic(group) => ListedGroup {
                id: id.clone(),
                protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
                state: group.state().name(),
                kind: "classic",
            },
            Group::Consumer(group) => ListedGroup {
                id: id.clone(),
                protocol_type: "consumer".to_owned(),
                state: group.state().name(),
                kind: "consumer",
            },
        });
        listed.collect()
    }

    /// A classic group. `None` if there is none such.
    pub fn describe(&self, id: &str) -> Option<DescribedGroup> {
        let Some(Group::Classic(group)) = self.groups.get(id) else { return None };
        let is_stable = group.state() == State::Stable;
        let protocol = group.protocol().filter(|_| is_stable).unwrap_or_default();
        let members = group.members().map(|member| DescribedMember {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client.id.clone(),
            client_host: member.client.host.clone(),
            metadata: if is_stable { member.metadata(protocol) } else { Bytes::new() },
            assignment: member.assignment.clone(),
        });
        Some(DescribedGroup {
            state: group.state().name(),
            protocol_type: group.protocol_type().unwrap_or_default().to_owned(),
            protocol: protocol.to_owned(),
            members: members.collect(),
        })
    }

    /// A group's offset of a partition, as a reader sees it who does or does not want to wait for
    /// open transactions.
    pub fn fetch_offset(
        &self,
        group_id: &str,
        (topic, partition): (&str, i32),
        require_stable: bool,
    ) -> FetchedOffset {
        if require_stable && self.offsets.is_pending(group_id, topic, partition) {
            return FetchedOffset::Unstable;
        }
        match self.offsets.get(group_id, topic, partition) {
            Some(offset) => FetchedOffset::Committed(offset.clone()),
            None => FetchedOffset::Missing,
        }
    }

    /// What every group has committed: group, partition, offset.
    pub fn committed_offsets(&self) -> Vec<(Arc<str>, TopicPartition, i64)> {
        let mut all = Vec::new();
        for group in self.offsets.groups() {
            for (topic, partitions) in self.offsets.of_group(group).into_iter().flatten() {
                for (partition, committed) in partitions {
                    let name = TopicPartition::new(topic.clone(), *partition);
                    all.push((group.clone(), name, committed.offset));
                }
            }
        }
        all
    }

    /// All partitions of which a group has an offset, by topic and number.
    pub fn partitions_with_offsets(&self, group_id: &str) -> Vec<(Arc<str>, i32)> {
        self.offsets.partitions(group_id)
    }
}
