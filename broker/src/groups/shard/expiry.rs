//! Offsets that nobody needs any more go: expired ones, and those of topics that are gone.

use std::sync::Arc;

use ottla_common::types::TopicId;

use super::consumers::carry_out;
use super::offset_requests::{group_key, offset_key};
use super::{Group, GroupShard, GroupTimer, Scene};
use crate::groups::classic::{ClassicGroup, State};
use crate::groups::offsets::CommittedOffset;
use crate::groups::records::GroupRecord;
use crate::internal_topics::Turn;

/// Records of one round, so that a round does not hold up the shard; the rest follows soon.
const RECORDS_PER_ROUND_MAX: usize = 10_000;

/// When the rest follows.
const NEXT_ROUND_MS: u64 = 100;

/// Since when an offset's retention counts.
enum RetainedSince {
    /// Since it was committed.
    Commit,
    /// Since the group has been empty.
    Empty(i64),
}

impl GroupShard {
    /// Removes expired offsets, and groups that have nothing left.
    pub(super) fn expire(&mut self, turn: &mut Turn<Self>) {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        for (id, group) in &self.groups {
            let is_all = self.expire_offsets(id, group, scene);
            match group {
                Group::Classic(group)
                    if is_all && group.is_empty() && !group.has_pending_joins() =>
                {
                    group.cancel_timers(scene);
                    scene.write(&GroupRecord::Classic(group_key(id), None));
                }
                Group::Consumer(group) if is_all && group.is_empty() => {
                    carry_out(id, group.remove_group(), scene.turn);
                }
                Group::Classic(_) | Group::Consumer(_) => {}
            }
            if scene.turn.records().len() >= RECORDS_PER_ROUND_MAX {
                return scene.turn.set_timer_in(GroupTimer::Expiry, NEXT_ROUND_MS);
            }
        }
        let interval_ms = settings.offsets_retention_check_interval_ms;
        scene.turn.set_timer_in(GroupTimer::Expiry, interval_ms);
    }

    /// Returns whether nothing is left of the group's offsets.
    fn expire_offsets(&self, id: &str, group: &Group, scene: &mut Scene<'_>) -> bool {
        let is_open = self.offsets.has_open_transaction(id);
        let Some(topics) = self.offsets.of_group(id) else { return !is_open };
        let since = match group {
            Group::Classic(group) => retained_since(group),
            Group::Consumer(_) => Some(RetainedSince::Commit),
        };
        let Some(since) = since else { return false };
        let now_ms = scene.turn.now().wall_time_ms;
        let retention_ms = scene.settings.offsets_retention_ms;
        let is_expired = |offset: &CommittedOffset| match (offset.expires_at_ms, &since) {
            (Some(at_ms), _) => now_ms >= at_ms,
            (None, RetainedSince::Commit) => now_ms - offset.committed_at_ms >= retention_ms,
            (None, RetainedSince::Empty(at_ms)) => now_ms - at_ms >= retention_ms,
        };
        let mut is_all = true;
        for (topic, partitions) in topics {
            let is_subscribed = match group {
                Group::Classic(group) => group.is_subscribed(topic),
                Group::Consumer(group) => group.is_subscribed(topic),
            };
            for (partition, offset) in partitions {
                let is_needed = is_subscribed || self.offsets.is_pending(id, topic, *partition);
                if is_needed || !is_expired(offset) {
                    is_all = false;
                } else {
                    let key = offset_key(id, topic, *partition);
                    scene.write(&GroupRecord::Offset(key, None));
                }
            }
        }
        is_all && !is_open
    }

    /// Removes the offsets of topics that are gone.
    pub(super) fn forget_topics(&mut self, deleted: &[(Arc<str>, TopicId)], turn: &mut Turn<Self>) {
        if deleted.is_empty() {
            return;
        }
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        for id in self.groups.keys() {
            for (topic, partition) in self.offsets.partitions(id) {
                if deleted.iter().any(|(name, _)| *name == topic) {
                    let key = offset_key(id, &topic, partition);
                    scene.write(&GroupRecord::Offset(key, None));
                }
            }
        }
    }
}

/// Kafka's rules. `None`: offsets of this group do not expire now.
fn retained_since(group: &ClassicGroup) -> Option<RetainedSince> {
    if group.protocol_type().is_none() {
        return Some(RetainedSince::Commit);
    }
    match group.state() {
        State::Empty => {
            Some(group.state_since_ms().map_or(RetainedSince::Commit, RetainedSince::Empty))
        }
        State::Stable if group.is_of_consumers() && group.knows_topics() => {
            Some(RetainedSince::Commit)
        }
        _ => None,
    }
}
