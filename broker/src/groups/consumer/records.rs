//! The records of consumer groups in `__consumer_offsets`: how decisions write them and how they
//! are applied. Nothing else changes a group.

use ottla_common::kafka::messages::records::consumer_group_current_member_assignment::{
    ConsumerGroupCurrentMemberAssignmentKey as ProgressKey,
    ConsumerGroupCurrentMemberAssignmentValue as ProgressValue,
};
use ottla_common::kafka::messages::records::consumer_group_member_metadata::{
    ConsumerGroupMemberMetadataKey as MemberKey, ConsumerGroupMemberMetadataValue as MemberValue,
};
use ottla_common::kafka::messages::records::consumer_group_metadata::{
    ConsumerGroupMetadataKey as GroupKey, ConsumerGroupMetadataValue as GroupValue,
};
use ottla_common::kafka::messages::records::consumer_group_partition_metadata as partition_metadata;
use ottla_common::kafka::messages::records::consumer_group_regular_expression::{
    ConsumerGroupRegularExpressionKey as RegexKey,
    ConsumerGroupRegularExpressionValue as RegexValue,
};
use ottla_common::kafka::messages::records::consumer_group_target_assignment_member::{
    ConsumerGroupTargetAssignmentMemberKey as TargetKey,
    ConsumerGroupTargetAssignmentMemberValue as TargetValue, TopicPartition,
};
use ottla_common::kafka::messages::records::consumer_group_target_assignment_metadata::{
    ConsumerGroupTargetAssignmentMetadataKey as AssignmentKey,
    ConsumerGroupTargetAssignmentMetadataValue as AssignmentValue,
};
use ottla_common::kafka::wire::{Decode, Encode, KafkaString, Reader, WireError};

use partition_metadata::ConsumerGroupPartitionMetadataKey as PartitionsKey;

use super::ConsumerGroup;
use super::member::Member;
use super::subscription::ResolvedRegex;
use crate::groups::assignors::Assignment;
use crate::internal_topics::Record;

/// The version of all values.
const VERSION: i16 = 0;

/// One record, decoded. A value that is `None` is a tombstone.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "lives for one request, in short lists")]
pub enum ConsumerGroupRecord {
    /// What a member says of itself.
    Member(MemberKey, Option<MemberValue>),
    /// The group's epoch.
    Group(GroupKey, Option<GroupValue>),
    /// Metadata of topics, from before Kafka 4.1. Only told apart.
    Partitions(PartitionsKey),
    /// What a pattern stands for.
    Regex(RegexKey, Option<RegexValue>),
    /// What a member is to own.
    Target(TargetKey, Option<TargetValue>),
    /// The epoch of what members are to own.
    Assignment(AssignmentKey, Option<AssignmentValue>),
    /// What a member owns.
    Progress(ProgressKey, Option<ProgressValue>),
}

impl ConsumerGroupRecord {
    /// Decodes a record. `None` if it is not one of a consumer group.
    ///
    /// # Errors
    /// It is damaged, or of a later version.
    pub fn decode(record: &Record) -> Result<Option<Self>, WireError> {
        let mut key = Reader::new(record.key.clone());
        let kind = key.i16()?;
        let value = record.value.as_ref();
        Ok(Some(match kind {
            MemberKey::TYPE => Self::Member(MemberKey::decode(&mut key, 0)?, read(value)?),
            GroupKey::TYPE => Self::Group(GroupKey::decode(&mut key, 0)?, read(value)?),
            PartitionsKey::TYPE => Self::Partitions(PartitionsKey::decode(&mut key, 0)?),
            RegexKey::TYPE => Self::Regex(RegexKey::decode(&mut key, 0)?, read(value)?),
            TargetKey::TYPE => Self::Target(TargetKey::decode(&mut key, 0)?, read(value)?),
            AssignmentKey::TYPE => {
                Self::Assignment(AssignmentKey::decode(&mut key, 0)?, read(value)?)
            }
            ProgressKey::TYPE => Self::Progress(ProgressKey::decode(&mut key, 0)?, read(value)?),
            _ => return Ok(None),
        }))
    }

    /// The record as it is written.
    ///
    /// # Errors
    /// A text that is too long.
    pub fn encode(&self) -> Result<Record, WireError> {
        match self {
            Self::Member(key, value) => write((MemberKey::TYPE, key), value.as_ref()),
            Self::Group(key, value) => write((GroupKey::TYPE, key), value.as_ref()),
            Self::Partitions(key) => write((PartitionsKey::TYPE, key), None::<&GroupValue>),
            Self::Regex(key, value) => write((RegexKey::TYPE, key), value.as_ref()),
            Self::Target(key, value) => write((TargetKey::TYPE, key), value.as_ref()),
            Self::Assignment(key, value) => write((AssignmentKey::TYPE, key), value.as_ref()),
            Self::Progress(key, value) => write((ProgressKey::TYPE, key), value.as_ref()),
        }
    }

    /// The group that it is of.
    pub fn group_id(&self) -> &KafkaString {
        match self {
            Self::Member(key, _) => &key.group_id,
            Self::Group(key, _) => &key.group_id,
            Self::Partitions(key) => &key.group_id,
            Self::Regex(key, _) => &key.group_id,
            Self::Target(key, _) => &key.group_id,
            Self::Assignment(key, _) => &key.group_id,
            Self::Progress(key, _) => &key.group_id,
        }
    }

    /// Whether it takes something away.
    pub fn is_tombstone(&self) -> bool {
        match self {
            Self::Member(_, value) => value.is_none(),
            Self::Group(_, value) => value.is_none(),
            Self::Partitions(_) => true,
            Self::Regex(_, value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Assignment(_, value) => value.is_none(),
            Self::Progress(_, value) => value.is_none(),
        }
    }
}

fn read<V: Decode>(value: Option<&bytes::Bytes>) -> Result<Option<V>, WireError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value.clone());
    let version = reader.i16()?;
    V::decode(&mut reader, version).map(Some)
}

fn write(key: (i16, &impl Encode), value: Option<&impl Encode>) -> Result<Record, WireError> {
    match value {
        Some(value) => Record::new(key, (VERSION, value)),
        None => Record::tombstone(key),
    }
}

/// The records that a decision wants written, by what they say.
#[derive(Debug)]
pub struct Draft {
    group_id: KafkaString,
    /// What is wanted so far.
    pub records: Vec<ConsumerGroupRecord>,
}

impl Draft {
    /// Nothing yet.
    pub fn new(group_id: &KafkaString) -> Self {
        Self { group_id: group_id.clone(), records: Vec::new() }
    }

    /// What a member says of itself.
    pub fn member(&mut self, member: &Member) {
        let key = MemberKey { group_id: self.group_id.clone(), member_id: member.id.clone() };
        self.records.push(ConsumerGroupRecord::Member(key, Some(member.metadata_value())));
    }

    /// What a member owns.
    pub fn progress(&mut self, member: &Member) {
        let key = ProgressKey { group_id: self.group_id.clone(), member_id: member.id.clone() };
        self.records.push(ConsumerGroupRecord::Progress(key, Some(member.progress_value())));
    }

    /// What a member is to own.
    pub fn target(&mut self, member_id: &KafkaString, target: &Assignment) {
        let key = TargetKey { group_id: self.group_id.clone(), member_id: member_id.clone() };
        let topics = target.iter().map(|(topic_id, partitions)| TopicPartition {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
            unknown_tagged_fields: Vec::new(),
        });
        let value = TargetValue { topic_partitions: topics.collect(), ..TargetValue::default() };
        self.records.push(ConsumerGroupRecord::Target(key, Some(value)));
    }

    /// That a member is gone.
    pub fn gone(&mut self, member_id: &KafkaString) {
        let (group_id, member_id) = (self.group_id.clone(), member_id.clone());
        let key = ProgressKey { group_id: group_id.clone(), member_id: member_id.clone() };
        self.records.push(ConsumerGroupRecord::Progress(key, None));
        let key = TargetKey { group_id: group_id.clone(), member_id: member_id.clone() };
        self.records.push(ConsumerGroupRecord::Target(key, None));
        self.records.push(ConsumerGroupRecord::Member(MemberKey { group_id, member_id }, None));
    }

    /// The group's epoch.
    pub fn epoch(&mut self, epoch: i32, metadata_hash: i64) {
        let value = GroupValue { epoch, metadata_hash, ..GroupValue::default() };
        let key = GroupKey { group_id: self.group_id.clone() };
        self.records.push(ConsumerGroupRecord::Group(key, Some(value)));
    }

    /// The epoch of what members are to own.
    pub fn assignment_epoch(&mut self, assignment_epoch: i32, assignment_timestamp: i64) {
        let rest = AssignmentValue::default();
        let value = AssignmentValue { assignment_epoch, assignment_timestamp, ..rest };
        let key = AssignmentKey { group_id: self.group_id.clone() };
        self.records.push(ConsumerGroupRecord::Assignment(key, Some(value)));
    }

    /// What a pattern stands for; `None` if nobody has it any more.
    pub fn regex(&mut self, regex: &KafkaString, resolved: Option<&ResolvedRegex>) {
        let group_id = self.group_id.clone();
        let key = RegexKey { group_id, regular_expression: regex.clone() };
        let value = resolved.map(|resolved| RegexValue {
            topics: resolved.topics.iter().cloned().collect(),
            version: resolved.version,
            timestamp: resolved.timestamp_ms,
            unknown_tagged_fields: Vec::new(),
        });
        self.records.push(ConsumerGroupRecord::Regex(key, value));
    }

    /// That the group, which has no members, is gone.
    pub fn group_gone(&mut self) {
        let key = AssignmentKey { group_id: self.group_id.clone() };
        self.records.push(ConsumerGroupRecord::Assignment(key, None));
        let key = GroupKey { group_id: self.group_id.clone() };
        self.records.push(ConsumerGroupRecord::Group(key, None));
    }
}

impl ConsumerGroup {
    /// Applies a record of this group.
    pub fn replay(&mut self, record: &ConsumerGroupRecord) {
        match record {
            ConsumerGroupRecord::Member(key, Some(value)) => {
                self.change(&key.member_id, |member| member.set_metadata(value));
            }
            ConsumerGroupRecord::Member(key, None) => self.forget(&key.member_id),
            ConsumerGroupRecord::Progress(key, Some(value)) => {
                self.change(&key.member_id, |member| member.set_progress(value));
            }
            ConsumerGroupRecord::Progress(key, None) => {
                // The member itself goes, or went, with its other record.
                if self.members.contains_key(&key.member_id) {
                    self.change(&key.member_id, Member::forget_progress);
                }
            }
            ConsumerGroupRecord::Group(_, Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
                self.has_stale_topics = false;
            }
            ConsumerGroupRecord::Assignment(_, Some(value)) => {
                self.assignment_epoch = value.assignment_epoch;
                self.assigned_at_ms = value.assignment_timestamp;
            }
            ConsumerGroupRecord::Target(key, Some(value)) => {
                let mut target = Assignment::new();
                for topic in value.topic_partitions.iter().filter(|t| !t.partitions.is_empty()) {
                    let partitions = target.entry(topic.topic_id).or_default();
                    partitions.extend(&topic.partitions);
                }
                self.targets.insert(key.member_id.detached(), target);
            }
            ConsumerGroupRecord::Target(key, None) => {
                self.targets.remove(&key.member_id);
            }
            ConsumerGroupRecord::Regex(key, Some(value)) => {
                let resolved = ResolvedRegex {
                    topics: value.topics.iter().map(KafkaString::detached).collect(),
                    version: value.version,
                    timestamp_ms: value.timestamp,
                };
                self.regexes.insert(key.regular_expression.detached(), resolved);
            }
            ConsumerGroupRecord::Regex(key, None) => {
                self.regexes.remove(&key.regular_expression);
            }
            // The group goes with these; metadata of topics is not kept.
            ConsumerGroupRecord::Group(_, None)
            | ConsumerGroupRecord::Assignment(_, None)
            | ConsumerGroupRecord::Partitions(_) => {}
        }
    }

    /// Changes a member, which is new if there is none, and keeps the indexes true.
    fn change(&mut self, id: &KafkaString, change: impl FnOnce(&mut Member)) {
        let known = self.take(id);
        let new = || Member { id: id.detached(), ..Member::default() };
        let mut member = known.unwrap_or_else(new);
        change(&mut member);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        for partition in member.held() {
            self.holders.insert(partition, member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    fn forget(&mut self, id: &KafkaString) {
        self.take(id);
        self.called.remove(id);
    }

    /// Takes a member out. What has gone over to another meanwhile stays there.
    fn take(&mut self, id: &KafkaString) -> Option<Member> {
        let member = self.members.remove(id)?;
        for partition in member.held() {
            if self.holders.get(&partition) == Some(id) {
                self.holders.remove(&partition);
            }
        }
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id) == Some(id)
        {
            self.static_members.remove(instance_id);
        }
        Some(member)
    }
}
