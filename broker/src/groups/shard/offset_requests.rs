//! Offsets are committed and deleted, groups are deleted.

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::records::group_metadata::GroupMetadataKey;
use ottla_common::kafka::messages::records::offset_commit::{OffsetCommitKey, OffsetCommitValue};
use ottla_common::types::TopicId;

use super::consumers::{carry_out, check_consumer_commit};
use super::{Group, GroupShard, Scene};
use crate::groups::classic::{ClassicGroup, State};
use crate::groups::records::GroupRecord;
use crate::internal_topics::Turn;
use crate::limits::GROUPS_PER_SHARD_MAX;
use crate::metadata::image::MetadataImage;

/// Offsets to commit, all of one group.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The group.
    pub group_id: &'a str,
    /// The generation of the member; -1 if it is not one.
    pub generation: i32,
    /// The member; empty if it is not one.
    pub member_id: &'a str,
    /// Its name, if it is static.
    pub instance_id: Option<&'a str>,
    /// The version of the request, where it matters whether it can tell an epoch.
    pub api_version: i16,
    /// How long the offsets are to be kept; -1 for the broker's rule.
    pub retention_ms: i64,
    /// What is committed.
    pub offsets: &'a [OffsetToCommit<'a>],
}

/// One partition's offset.
#[derive(Clone, Copy, Debug)]
pub struct OffsetToCommit<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its identity, or zero.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The leader epoch of the record before it, or -1.
    pub leader_epoch: i32,
    /// What the client wants to find again.
    pub metadata: &'a str,
}

impl GroupShard {
    /// Commits offsets. A result for each.
    ///
    /// # Errors
    /// If nothing of it may be committed by this client now.
    pub fn commit(
        &mut self,
        commit: &Commit<'_>,
        turn: &mut Turn<Self>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let checked = self.check_commit(commit, turn.image())?;
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        if let Some(Group::Classic(group)) = self.groups.get(commit.group_id)
            && matches!(group.state(), State::Stable | State::PreparingRebalance)
        {
            group.saw(commit.member_id, scene);
        }
        let now_ms = scene.turn.now().wall_time_ms;
        let expire_timestamp = match commit.retention_ms {
            -1 => -1,
            retention_ms => now_ms.saturating_add(retention_ms),
        };
        let metadata_size_max = settings.offset_metadata_max_bytes;
        let results = (0..).zip(commit.offsets).map(|(number, offset)| {
            if let Some(Err(error)) = checked.as_ref().and_then(|checked| checked.get(number)) {
                return *error;
            }
            if offset.metadata.len() > metadata_size_max {
                return ErrorCode::OffsetMetadataTooLarge;
            }
            let key = offset_key(commit.group_id, offset.topic, offset.partition);
            let value = OffsetCommitValue {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata.into(),
                commit_timestamp: now_ms,
                expire_timestamp,
                topic_id: offset.topic_id,
                ..OffsetCommitValue::default()
            };
            scene.write(&GroupRecord::Offset(key, Some(value)));
            ErrorCode::None
        });
        Ok(results.collect())
    }

    /// A result for all, and perhaps one for each.
    fn check_commit(
        &self,
        commit: &Commit<'_>,
        image: &MetadataImage,
    ) -> Result<Option<Vec<Result<(), ErrorCode>>>, ErrorCode> {
        match self.groups.get(commit.group_id) {
            Some(Group::Classic(group)) => check_classic_commit(group, commit).map(|()| None),
            Some(Group::Consumer(group)) => check_consumer_commit(group, commit, image).map(Some),
            // Without a group, anyone may keep offsets who does not say to be a member.
            None if commit.generation >= 0 => Err(ErrorCode::IllegalGeneration),
            None if self.groups.len() >= GROUPS_PER_SHARD_MAX => {
                Err(ErrorCode::GroupMaxSizeReached)
            }
            None => Ok(None),
        }
    }

    /// Deletes offsets of a group. A result for each partition.
    ///
    /// # Errors
    /// If there is no such group, or it is not one whose members can be told from topics.
    pub fn delete_offsets(
        &mut self,
        group_id: &str,
        partitions: &[(&str, i32)],
        turn: &mut Turn<Self>,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        let group = self.groups.get(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        match group {
            Group::Classic(group) if !group.is_empty() && !group.is_of_consumers() => {
                return Err(ErrorCode::NonEmptyGroup);
            }
            Group::Classic(_) | Group::Consumer(_) => {}
        }
        let results = partitions.iter().map(|(topic, partition)| {
            let is_subscribed = match group {
                Group::Classic(group) => group.is_subscribed(topic),
                Group::Consumer(group) => group.is_subscribed(topic),
            };
            if is_subscribed {
                return ErrorCode::GroupSubscribedToTopic;
            }
            let is_held = self.offsets.get(group_id, topic, *partition).is_some()
                || self.offsets.is_pending(group_id, topic, *partition);
            if is_held {
                let key = offset_key(group_id, topic, *partition);
                scene.write(&GroupRecord::Offset(key, None));
            }
            ErrorCode::None
        });
        Ok(results.collect())
    }

    /// Deletes a group without members, and its offsets.
    ///
    /// # Errors
    /// If there is no such group, or it has members.
    pub fn delete_group(&mut self, group_id: &str, turn: &mut Turn<Self>) -> Result<(), ErrorCode> {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        let group = self.groups.get(group_id).ok_or(ErrorCode::GroupIdNotFound)?;
        let is_empty = match group {
            Group::Classic(group) => group.is_empty(),
            Group::Consumer(group) => group.is_empty(),
        };
        if !is_empty {
            return Err(ErrorCode::NonEmptyGroup);
        }
        for (topic, partition) in self.offsets.partitions(group_id) {
            let key = offset_key(group_id, &topic, partition);
            scene.write(&GroupRecord::Offset(key, None));
        }
        match group {
            Group::Classic(group) => {
                group.cancel_timers(scene);
                scene.write(&GroupRecord::Classic(group_key(group_id), None));
            }
            Group::Consumer(group) => carry_out(group_id, group.remove_group(), scene.turn),
        }
        Ok(())
    }
}

/// Kafka's rules of who may commit.
fn check_classic_commit(group: &ClassicGroup, commit: &Commit<'_>) -> Result<(), ErrorCode> {
    if commit.generation < 0 && group.is_empty() {
        // An operator's tool, or a consumer that assigns its partitions itself.
        return Ok(());
    }
    let is_anonymous =
        commit.generation < 0 && commit.member_id.is_empty() && commit.instance_id.is_none();
    if is_anonymous {
        return Err(ErrorCode::UnknownMemberId);
    }
    group.check_member(commit.member_id, commit.instance_id)?;
    if commit.generation != group.generation() {
        return Err(ErrorCode::IllegalGeneration);
    }
    match group.state() {
        State::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
        _ => Ok(()),
    }
}

pub(super) fn offset_key(group: &str, topic: &str, partition: i32) -> OffsetCommitKey {
    OffsetCommitKey { group: group.into(), topic: topic.into(), partition }
}

pub(super) fn group_key(group: &str) -> GroupMetadataKey {
    GroupMetadataKey { group: group.into() }
}
