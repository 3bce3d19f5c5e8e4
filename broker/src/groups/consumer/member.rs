//! A member of a consumer group: what it said of itself, and what it owns at present.

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::kafka::messages::records::consumer_group_current_member_assignment::{
    ConsumerGroupCurrentMemberAssignmentValue, TopicPartitions,
};
use ottla_common::kafka::messages::records::consumer_group_member_metadata::{
    ClassicMemberMetadata, ConsumerGroupMemberMetadataValue,
};
use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::TopicId;

use crate::groups::assignors::Assignment;

/// The epoch of a static member that is away and will come back.
pub const LEFT_FOR_A_WHILE: i32 = -2;

/// The epoch with which a member leaves for good.
pub const LEFT: i32 = -1;

/// Partitions by topic, each with the epoch in which it was assigned.
pub type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// Where a member stands on its way to its target. The numbers are those of the record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it was to have by its epoch.
    #[default]
    Stable = 0,
    /// It has to give up partitions first.
    UnrevokedPartitions = 1,
    /// It waits for partitions that others have still to give up.
    UnreleasedPartitions = 2,
}

impl MemberState {
    /// The state of a record. One that nobody knows is one that has to be worked out anew.
    pub fn from_number(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            _ => Self::UnreleasedPartitions,
        }
    }
}

/// A member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: KafkaString,
    /// The id that a static member keeps over its lives.
    pub instance_id: Option<KafkaString>,
    /// Where it stands.
    pub rack_id: Option<KafkaString>,
    /// The client id of its last request.
    pub client_id: KafkaString,
    /// Its address, as Java writes it: `/127.0.0.1`.
    pub client_host: KafkaString,
    /// The topics that it named.
    pub topic_names: BTreeSet<KafkaString>,
    /// The pattern of more topics; empty if there is none.
    pub topic_regex: KafkaString,
    /// For how long it may take to give up partitions.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it would like.
    pub assignor: Option<KafkaString>,
    /// What it said in the classic protocol, if it uses that one.
    pub classic: Option<ClassicMemberMetadata>,

    /// The epoch that it has reached: 0 at first, [`LEFT_FOR_A_WHILE`] while it is away.
    pub epoch: i32,
    /// The epoch that it may still show if it missed the last response.
    pub previous_epoch: i32,
    /// Where it stands.
    pub state: MemberState,
    /// What it owns.
    pub assigned: Owned,
    /// What it has been told to give up.
    pub revoking: Owned,
}

impl Member {
    /// Whether it has come as far as the group's target.
    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// All partitions that nobody else may have.
    pub fn held(&self) -> impl Iterator<Item = (TopicId, i32)> {
        let all = self.assigned.iter().chain(&self.revoking);
        all.flat_map(|(topic, partitions)| partitions.keys().map(|p| (*topic, *p)))
    }

    /// What it owns, without epochs.
    pub fn assignment(&self) -> Assignment {
        let plain =
            |(topic, all): (&TopicId, &BTreeMap<i32, i32>)| (*topic, all.keys().copied().collect());
        self.assigned.iter().map(plain).collect()
    }

    /// Whether what it says of itself is the same.
    pub fn has_same_metadata(&self, other: &Self) -> bool {
        self.instance_id == other.instance_id
            && self.rack_id == other.rack_id
            && (&self.client_id, &self.client_host) == (&other.client_id, &other.client_host)
            && self.topic_names == other.topic_names
            && self.topic_regex == other.topic_regex
            && self.rebalance_timeout_ms == other.rebalance_timeout_ms
            && self.assignor == other.assignor
            && self.classic == other.classic
    }

    /// Whether it is where it was.
    pub fn has_same_progress(&self, other: &Self) -> bool {
        (self.epoch, self.previous_epoch, self.state)
            == (other.epoch, other.previous_epoch, other.state)
            && (&self.assigned, &self.revoking) == (&other.assigned, &other.revoking)
    }

    /// What it says of itself, as a record.
    pub fn metadata_value(&self) -> ConsumerGroupMemberMetadataValue {
        ConsumerGroupMemberMetadataValue {
            instance_id: self.instance_id.clone(),
            rack_id: self.rack_id.clone(),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            subscribed_topic_names: self.topic_names.iter().cloned().collect(),
            subscribed_topic_regex: Some(self.topic_regex.clone()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            server_assignor: self.assignor.clone(),
            classic_member_metadata: self.classic.clone(),
            unknown_tagged_fields: Vec::new(),
        }
    }

    /// Takes over what a record says.
    pub fn set_metadata(&mut self, value: &ConsumerGroupMemberMetadataValue) {
        let detached = |text: &Option<KafkaString>| text.as_ref().map(KafkaString::detached);
        self.instance_id = detached(&value.instance_id);
        self.rack_id = detached(&value.rack_id);
        self.client_id = value.client_id.detached();
        self.client_host = value.client_host.detached();
        let names = value.subscribed_topic_names.iter().map(KafkaString::detached);
        self.topic_names = names.collect();
        self.topic_regex = detached(&value.subscribed_topic_regex).unwrap_or_default();
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.assignor = detached(&value.server_assignor);
        self.classic.clone_from(&value.classic_member_metadata);
    }

    /// Where it is, as a record.
    pub fn progress_value(&self) -> ConsumerGroupCurrentMemberAssignmentValue {
        ConsumerGroupCurrentMemberAssignmentValue {
            member_epoch: self.epoch,
            previous_member_epoch: self.previous_epoch,
            state: self.state as i8,
            assigned_partitions: to_record(&self.assigned),
            partitions_pending_revocation: to_record(&self.revoking),
            unknown_tagged_fields: Vec::new(),
        }
    }

    /// Takes over what a record says.
    pub fn set_progress(&mut self, value: &ConsumerGroupCurrentMemberAssignmentValue) {
        self.epoch = value.member_epoch;
        self.previous_epoch = value.previous_member_epoch;
        self.state = MemberState::from_number(value.state);
        self.assigned = from_record(&value.assigned_partitions, value.member_epoch);
        self.revoking = from_record(&value.partitions_pending_revocation, value.member_epoch);
    }

    /// Takes back what records said of its progress.
    pub fn forget_progress(&mut self) {
        (self.epoch, self.previous_epoch, self.state) = (0, 0, MemberState::Stable);
        self.assigned.clear();
        self.revoking.clear();
    }
}

fn to_record(owned: &Owned) -> Vec<TopicPartitions> {
    let topic = |(topic_id, partitions): (&TopicId, &BTreeMap<i32, i32>)| TopicPartitions {
        topic_id: *topic_id,
        partitions: partitions.keys().copied().collect(),
        assignment_epochs: Some(partitions.values().copied().collect()),
        unknown_tagged_fields: Vec::new(),
    };
    owned.iter().map(topic).collect()
}

/// Records from before assignment epochs have none: then the member's own is the latest that they
/// can be.
fn from_record(topics: &[TopicPartitions], member_epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
        let epochs = epochs.iter().copied().chain(std::iter::repeat(member_epoch));
        let partitions = topic.partitions.iter().copied().zip(epochs);
        owned.entry(topic.topic_id).or_default().extend(partitions);
    }
    owned
}
