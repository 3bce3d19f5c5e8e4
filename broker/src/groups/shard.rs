//! The groups of one partition of `__consumer_offsets`, of all kinds, with their offsets: the one
//! machine that the runtime drives. Requests find their group here.

mod consumers;
mod expiry;
mod look;
mod migration;
mod offset_requests;

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::heartbeat::HeartbeatRequest;
use ottla_common::kafka::messages::join_group::JoinGroupResponse;
use ottla_common::kafka::messages::leave_group::request::MemberIdentity;
use ottla_common::kafka::messages::leave_group::response::MemberResponse;
use ottla_common::kafka::messages::records::group_metadata::{
    GroupMetadataKey, GroupMetadataValue,
};
use ottla_common::kafka::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use ottla_common::types::BrokerId;

use self::consumers::carry_out;
use super::classic::{ClassicGroup, Joining, MemberId, leave_response, sync_error};
use super::consumer::{ConsumerGroup, ConsumerGroupSettings, MemberTimer};
use super::offsets::Offsets;
use super::records::GroupRecord;
use super::settings::GroupSettings;
use crate::internal_topics::{Place, Producer, Record, StateMachine, Ticket, TopicChanges, Turn};
use crate::limits::GROUPS_PER_SHARD_MAX;

pub use look::{DescribedGroup, DescribedMember, FetchedOffset, ListedGroup};
pub use offset_requests::{Commit, OffsetToCommit};

/// What fires. Names carry the group, so that no two are alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupTimer {
    /// A member of a classic group was silent for too long, or did not use the id that it was
    /// given.
    Session(Arc<str>, MemberId),
    /// The time to join a classic group is up.
    Join(Arc<str>),
    /// The time to send SyncGroup is up.
    Sync(Arc<str>),
    /// A consumer group has become a classic one: its members are to join it.
    Downgraded(Arc<str>),
    /// A member of a consumer group is out of time.
    Consumer(Arc<str>, MemberTimer),
    /// Expired offsets are looked for.
    Expiry,
}

/// The answers that may come later.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To JoinGroup.
    Join(JoinGroupResponse),
    /// To SyncGroup.
    Sync(SyncGroupResponse),
}

/// What a group is given besides a request.
pub struct Scene<'a> {
    /// Bounds and times.
    pub settings: &'a GroupSettings,
    /// The turn.
    pub turn: &'a mut Turn<GroupShard>,
}

impl Scene<'_> {
    /// Wants the record of a classic group written, or that the group is gone.
    pub fn write_classic(&mut self, id: &str, value: Option<GroupMetadataValue>) {
        let key = GroupMetadataKey { group: id.into() };
        self.write(&GroupRecord::Classic(key, value));
    }

    /// Wants a record written.
    pub fn write(&mut self, record: &GroupRecord) {
        match record.encode() {
            Ok(record) => self.turn.record(record),
            // Texts come from requests, which have no longer ones than records can.
            Err(error) => tracing::error!(%error, "a record of a group cannot be encoded"),
        }
    }
}

/// A group of any kind.
#[derive(Clone, Debug)]
pub enum Group {
    /// Of the classic protocol, or one that only has offsets.
    Classic(ClassicGroup),
    /// Of the consumer protocol.
    Consumer(ConsumerGroup),
}

/// The groups of one partition.
pub struct GroupShard {
    settings: Arc<GroupSettings>,
    consumer_settings: Arc<ConsumerGroupSettings>,
    /// On which broker it is, whose dynamic configs then hold.
    broker_id: Option<BrokerId>,
    groups: BTreeMap<Arc<str>, Group>,
    offsets: Offsets,
    /// All of the log has been replayed.
    is_loaded: bool,
}

impl GroupShard {
    /// A shard without groups.
    pub fn new(settings: Arc<GroupSettings>) -> Self {
        let (groups, offsets) = (BTreeMap::new(), Offsets::default());
        let consumer_settings = Arc::default();
        Self { settings, consumer_settings, broker_id: None, groups, offsets, is_loaded: false }
    }

    /// The same with other settings of consumer groups.
    #[must_use]
    pub fn with_consumer_settings(self, consumer_settings: Arc<ConsumerGroupSettings>) -> Self {
        Self { consumer_settings, ..self }
    }

    /// The same on this broker.
    #[must_use]
    pub fn on_broker(self, broker_id: BrokerId) -> Self {
        Self { broker_id: Some(broker_id), ..self }
    }

    /// A group.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = (&Arc<str>, &Group)> {
        self.groups.iter()
    }

    /// The committed offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// A JoinGroup. It is answered by its ticket.
    pub fn join(&mut self, joining: &Joining, turn: &mut Turn<Self>) {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        let request = &joining.request;
        let timeouts = settings.min_session_timeout_ms..=settings.max_session_timeout_ms;
        if request.group_id.is_empty() {
            return joining.refuse(ErrorCode::InvalidGroupId, scene);
        }
        if !timeouts.contains(&request.session_timeout_ms) {
            return joining.refuse(ErrorCode::InvalidSessionTimeout, scene);
        }
        let group_id = request.group_id.as_str();
        if let Some(Group::Consumer(group)) = self.groups.get(group_id) {
            if !group.is_empty() {
                return self.join_consumers(joining, scene.turn);
            }
            // It makes room for a classic one.
            carry_out(group_id, group.remove_group(), scene.turn);
            let (id, now_ms): (Arc<str>, _) = (group_id.into(), scene.turn.now().wall_time_ms);
            self.groups.insert(id.clone(), Group::Classic(ClassicGroup::new(id, now_ms)));
        }
        if !self.groups.contains_key(group_id) {
            if !joining.is_new() {
                return joining.refuse(ErrorCode::UnknownMemberId, scene);
            }
            if self.groups.len() >= GROUPS_PER_SHARD_MAX {
                return joining.refuse(ErrorCode::GroupMaxSizeReached, scene);
            }
            let (id, now_ms): (Arc<str>, _) = (group_id.into(), scene.turn.now().wall_time_ms);
            self.groups.insert(id.clone(), Group::Classic(ClassicGroup::new(id, now_ms)));
        }
        match self.groups.get_mut(group_id) {
            Some(Group::Classic(group)) => group.join(joining, scene),
            // One with members has got them above.
            Some(Group::Consumer(_)) | None => {}
        }
    }

    /// A SyncGroup. It is answered by its ticket.
    pub fn sync(&mut self, request: &SyncGroupRequest, ticket: Ticket, turn: &mut Turn<Self>) {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        let refuse = |error, scene: &mut Scene<'_>| {
            scene.turn.answer(ticket, Answer::Sync(sync_error(error)));
        };
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId, scene);
        }
        match self.groups.get_mut(request.group_id.as_str()) {
            Some(Group::Classic(group)) => group.sync(request, ticket, scene),
            Some(Group::Consumer(_)) => self.sync_consumers(request, ticket, scene.turn),
            None => refuse(ErrorCode::UnknownMemberId, scene),
        }
    }

    /// A Heartbeat.
    ///
    /// # Errors
    /// What the member is told.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        turn: &mut Turn<Self>,
    ) -> Result<(), ErrorCode> {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        if request.group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        match self.groups.get_mut(request.group_id.as_str()) {
            Some(Group::Classic(group)) => group.heartbeat(request, scene),
            Some(Group::Consumer(_)) => self.heartbeat_consumers(request, scene.turn),
            None => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// A LeaveGroup: a result for each member.
    ///
    /// # Errors
    /// If there is no such group at all.
    pub fn leave(
        &mut self,
        group_id: &str,
        members: &[MemberIdentity],
        turn: &mut Turn<Self>,
    ) -> Result<Vec<MemberResponse>, ErrorCode> {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        if group_id.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let unknown = Some(ErrorCode::UnknownMemberId);
        Ok(match self.groups.get_mut(group_id) {
            Some(Group::Classic(group)) => group.leave(members, scene),
            Some(Group::Consumer(_)) => self.leave_consumers(group_id, members, scene.turn),
            None => members.iter().map(|member| leave_response(member, unknown)).collect(),
        })
    }

    /// A group without members stands behind offsets that nobody has joined for.
    fn ensure_group(&mut self, id: &str, now_ms: i64) {
        if !self.groups.contains_key(id) {
            let id: Arc<str> = id.into();
            self.groups.insert(id.clone(), Group::Classic(ClassicGroup::new(id, now_ms)));
        }
    }

    /// The records of a classic group in the place of a consumer group were written.
    fn downgraded(&mut self, id: &str, turn: &mut Turn<Self>) {
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        if let Some(Group::Classic(group)) = self.groups.get_mut(id) {
            group.meet(scene);
        }
    }

    fn replay_classic(&mut self, id: &str, value: Option<&GroupMetadataValue>) {
        let Some(value) = value else {
            // A consumer group in its place has records of its own.
            if matches!(self.groups.get(id), Some(Group::Classic(_))) {
                self.groups.remove(id);
            }
            return;
        };
        match self.groups.get_mut(id) {
            Some(Group::Classic(group)) if self.is_loaded => group.confirm(value),
            _ => {
                let id: Arc<str> = id.into();
                let group = ClassicGroup::from_record(id.clone(), value);
                self.groups.insert(id, Group::Classic(group));
            }
        }
    }
}

impl StateMachine for GroupShard {
    type Timer = GroupTimer;
    type Answer = Answer;

    fn replay(&mut self, record: &Record, place: Place) {
        match GroupRecord::decode(record) {
            Ok(GroupRecord::Offset(key, value)) => {
                if value.is_some() {
                    self.ensure_group(&key.group, place.timestamp_ms);
                }
                self.offsets.replay(&key, value.as_ref(), place);
            }
            Ok(GroupRecord::Classic(key, value)) => {
                self.replay_classic(&key.group, value.as_ref());
            }
            Ok(GroupRecord::Consumer(record)) => self.replay_consumers(&record),
            Ok(GroupRecord::Other { kind }) => {
                tracing::debug!(kind, offset = place.offset, "a record of an unknown type");
            }
            Err(error) => {
                let offset = place.offset;
                tracing::error!(%error, offset, "a record of a group cannot be read");
            }
        }
    }

    fn replay_end_of_transaction(&mut self, producer: Producer, is_committed: bool) {
        self.offsets.end_transaction(producer, is_committed);
    }

    fn loaded(&mut self, turn: &mut Turn<Self>) {
        self.is_loaded = true;
        let groups: Vec<Arc<str>> = self.offsets.groups().cloned().collect();
        for id in groups {
            // Its own record may have been removed when it had expired.
            self.ensure_group(&id, turn.now().wall_time_ms);
        }
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        for group in self.groups.values_mut() {
            match group {
                Group::Classic(group) => group.loaded(scene),
                Group::Consumer(_) => {}
            }
        }
        self.consumers_loaded(turn);
        turn.set_timer_in(GroupTimer::Expiry, settings.offsets_retention_check_interval_ms);
    }

    fn due(&mut self, timer: GroupTimer, turn: &mut Turn<Self>) {
        match &timer {
            GroupTimer::Expiry => return self.expire(turn),
            GroupTimer::Downgraded(id) => return self.downgraded(id, turn),
            GroupTimer::Consumer(id, timer) => return self.consumer_due(id, timer, turn),
            _ => {}
        }
        let settings = self.settings.clone();
        let scene = &mut Scene { settings: &settings, turn };
        let (GroupTimer::Session(id, _) | GroupTimer::Join(id) | GroupTimer::Sync(id)) = &timer
        else {
            return;
        };
        let Some(Group::Classic(group)) = self.groups.get_mut(id) else { return };
        match &timer {
            GroupTimer::Session(_, member) => group.session_timeout(member, scene),
            GroupTimer::Join(_) => group.join_timeout(scene),
            GroupTimer::Sync(_) => group.sync_timeout(scene),
            GroupTimer::Expiry | GroupTimer::Downgraded(_) | GroupTimer::Consumer(..) => {}
        }
    }

    fn topics_changed(&mut self, changes: &TopicChanges, turn: &mut Turn<Self>) {
        self.forget_topics(&changes.deleted, turn);
        for group in self.groups.values_mut() {
            if let Group::Consumer(group) = group {
                let deleted = changes.deleted.iter().map(|(name, _)| &**name);
                group.topics_changed(changes.changed.iter().map(|name| &**name).chain(deleted));
            }
        }
    }
}
