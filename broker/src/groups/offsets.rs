//! Committed offsets of all groups of a shard, those of open transactions apart. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_common::kafka::messages::records::offset_commit::{OffsetCommitKey, OffsetCommitValue};
use ottla_common::types::TopicId;

use crate::internal_topics::{Place, Producer};

/// An offset that was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset that the group will read.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 if it was not said.
    pub leader_epoch: i32,
    /// What the client wants to find again.
    pub metadata: Arc<str>,
    /// When it was committed, in wall time.
    pub committed_at_ms: i64,
    /// When it expires by itself, as old clients may say.
    pub expires_at_ms: Option<i64>,
    /// The topic's identity; zero if it was not known.
    pub topic_id: TopicId,
    /// Where the record stands that says so.
    record_offset: i64,
}

impl CommittedOffset {
    fn new(value: &OffsetCommitValue, record_offset: i64) -> Self {
        Self {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.as_str().into(),
            committed_at_ms: value.commit_timestamp,
            expires_at_ms: Some(value.expire_timestamp).filter(|at_ms| *at_ms != -1),
            topic_id: value.topic_id,
            record_offset,
        }
    }
}

/// The offsets of one group: topic → partition → offset.
pub type Topics = BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>;

/// The offsets of a shard's groups.
#[derive(Debug, Default)]
pub struct Offsets {
    committed: BTreeMap<Arc<str>, Topics>,
    /// Offsets of open transactions: producer id → group → topic → partition.
    pending: BTreeMap<i64, BTreeMap<Arc<str>, Topics>>,
}

impl Offsets {
    /// Applies a record. Without a value the offset is forgotten.
    pub fn replay(
        &mut self,
        key: &OffsetCommitKey,
        value: Option<&OffsetCommitValue>,
        place: Place,
    ) {
        let names = (key.group.as_str(), key.topic.as_str(), key.partition);
        let groups = match place.transaction {
            Some(producer) => self.pending.entry(producer.id).or_default(),
            None => &mut self.committed,
        };
        if let Some(value) = value {
            return insert(groups, names, CommittedOffset::new(value, place.offset));
        }
        remove(groups, names);
        if place.transaction.is_none() {
            // A deleted offset is not to come back with the end of a transaction.
            self.pending.values_mut().for_each(|groups| remove(groups, names));
        }
        self.pending.retain(|_, groups| !groups.is_empty());
    }

    /// Applies the end of a transaction.
    pub fn end_transaction(&mut self, producer: Producer, is_committed: bool) {
        let Some(groups) = self.pending.remove(&producer.id) else { return };
        if !is_committed {
            return;
        }
        for (group, topics) in groups {
            for (topic, partitions) in topics {
                for (partition, offset) in partitions {
                    // What was committed after it, outside of the transaction, is newer.
                    let known = self.get(&group, &topic, partition);
                    if known.is_none_or(|known| known.record_offset < offset.record_offset) {
                        insert(&mut self.committed, (&group, &topic, partition), offset);
                    }
                }
            }
        }
    }

    /// A group's offset of a partition.
    pub fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.committed.get(group)?.get(topic)?.get(&partition)
    }

    /// All offsets of a group.
    pub fn of_group(&self, group: &str) -> Option<&Topics> {
        self.committed.get(group)
    }

    /// The groups that have offsets, those of open transactions included.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.committed.keys().chain(self.pending.values().flat_map(BTreeMap::keys))
    }

    /// Whether an open transaction has an offset of this partition.
    pub fn is_pending(&self, group: &str, topic: &str, partition: i32) -> bool {
        let mut groups = self.pending.values().filter_map(|groups| groups.get(group));
        groups.any(|topics| topics.get(topic).is_some_and(|p| p.contains_key(&partition)))
    }

    /// Whether an open transaction has an offset of this group.
    pub fn has_open_transaction(&self, group: &str) -> bool {
        self.pending.values().any(|groups| groups.contains_key(group))
    }

    /// All partitions of a group that have an offset, committed or of an open transaction, each
    /// once.
    pub fn partitions(&self, group: &str) -> Vec<(Arc<str>, i32)> {
        let pending = self.pending.values().filter_map(|groups| groups.get(group));
        let topics = self.committed.get(group).into_iter().chain(pending);
        let mut partitions: Vec<_> = topics
            .flatten()
            .flat_map(|(topic, partitions)| partitions.keys().map(|p| (topic.clone(), *p)))
            .collect();
        partitions.sort_unstable();
        partitions.dedup();
        partitions
    }
}

fn insert(
    groups: &mut BTreeMap<Arc<str>, Topics>,
    (group, topic, partition): (&str, &str, i32),
    offset: CommittedOffset,
) {
    let topics = match groups.get_mut(group) {
        Some(topics) => topics,
        None => groups.entry(group.into()).or_default(),
    };
    let partitions = match topics.get_mut(topic) {
        Some(partitions) => partitions,
        None => topics.entry(topic.into()).or_default(),
    };
    partitions.insert(partition, offset);
}

fn remove(groups: &mut BTreeMap<Arc<str>, Topics>, (group, topic, partition): (&str, &str, i32)) {
    let Some(topics) = groups.get_mut(group) else { return };
    if let Some(partitions) = topics.get_mut(topic) {
        partitions.remove(&partition);
        if partitions.is_empty() {
            topics.remove(topic);
        }
    }
    if topics.is_empty() {
        groups.remove(group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: i64, producer: Option<i64>) -> Place {
        let transaction = producer.map(|id| Producer { id, epoch: 0 });
        Place { offset, timestamp_ms: 0, transaction }
    }

    fn key(partition: i32) -> OffsetCommitKey {
        OffsetCommitKey { group: "g".into(), topic: "t".into(), partition }
    }

    fn value(offset: i64) -> OffsetCommitValue {
        OffsetCommitValue { offset, ..OffsetCommitValue::default() }
    }

    fn offset(offsets: &Offsets, partition: i32) -> Option<i64> {
        offsets.get("g", "t", partition).map(|offset| offset.offset)
    }

    #[test]
    fn an_offset_of_a_transaction_counts_when_that_is_committed() {
        let mut offsets = Offsets::default();
        offsets.replay(&key(0), Some(&value(5)), place(0, None));
        offsets.replay(&key(0), Some(&value(7)), place(1, Some(9)));
        assert_eq!(offset(&offsets, 0), Some(5));
        assert!(offsets.is_pending("g", "t", 0) && offsets.has_open_transaction("g"));
        offsets.end_transaction(Producer { id: 9, epoch: 0 }, true);
        assert_eq!(offset(&offsets, 0), Some(7));
        assert!(!offsets.has_open_transaction("g"));
    }

    #[test]
    fn a_transaction_does_not_take_back_what_was_committed_after_it() {
        let mut offsets = Offsets::default();
        offsets.replay(&key(0), Some(&value(7)), place(1, Some(9)));
        offsets.replay(&key(0), Some(&value(8)), place(2, None));
        offsets.end_transaction(Producer { id: 9, epoch: 0 }, true);
        assert_eq!(offset(&offsets, 0), Some(8));
        offsets.replay(&key(0), Some(&value(9)), place(3, Some(9)));
        offsets.end_transaction(Producer { id: 9, epoch: 0 }, false);
        assert_eq!(offset(&offsets, 0), Some(8));
    }

    #[test]
    fn a_deleted_offset_leaves_nothing() {
        let mut offsets = Offsets::default();
        offsets.replay(&key(0), Some(&value(5)), place(0, None));
        offsets.replay(&key(1), Some(&value(6)), place(1, Some(9)));
        assert_eq!(offsets.partitions("g"), [("t".into(), 0), ("t".into(), 1)]);
        offsets.replay(&key(0), None, place(2, None));
        offsets.replay(&key(1), None, place(3, None));
        assert!(offsets.partitions("g").is_empty() && offsets.groups().next().is_none());
        assert!(!offsets.has_open_transaction("g"));
    }
}
