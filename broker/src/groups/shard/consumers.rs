//! Groups of the consumer protocol (KIP-848) in a shard: their requests, their timers.

use std::sync::Arc;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::consumer_group_describe::response::DescribedGroup;
use ottla_common::kafka::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_common::kafka::wire::KafkaString;

use super::offset_requests::Commit;
use super::{Group, GroupShard, GroupTimer};
use crate::groups::consumer::heartbeat::{Client, Heartbeaten};
use crate::groups::consumer::leave::is_leaving;
use crate::groups::consumer::member::LEFT;
use crate::groups::consumer::records::ConsumerGroupRecord;
use crate::groups::consumer::requests::{Committer, validate};
use crate::groups::consumer::{
    ConsumerGroup, ConsumerGroupSettings, Decision, MemberTimer, Refusal, Scene,
};
use crate::internal_topics::Turn;
use crate::internal_topics::machine::TimerChange;
use crate::metadata::image::MetadataImage;

impl GroupShard {
    /// A ConsumerGroupHeartbeat of an api version.
    ///
    /// # Errors
    /// What the member is told instead.
    pub fn consumer_heartbeat(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        (api_version, client): (i16, Client<'_>),
        turn: &mut Turn<Self>,
    ) -> Result<Heartbeaten, Refusal> {
        let image = turn.image().clone();
        let settings = self.consumer_settings(&request.group_id, &image);
        validate(request, api_version, &settings)?;
        let scene = Scene { now: turn.now(), image: &image, settings: &settings };
        if is_leaving(request.member_epoch) {
            let group = self.consumer_group(&request.group_id)?;
            let decision = group.leave(request, &scene)?;
            let gone = [decision.response.member_id.clone()];
            if request.member_epoch == LEFT && group.is_classic_without(&gone) {
                self.remove_members(&request.group_id, &gone, turn);
                return Ok(decision.response);
            }
            return Ok(carry_out(&request.group_id, decision, turn));
        }
        let with_id;
        let request = if request.member_id.is_empty() {
            let member_id = turn.unique_id().to_string().as_str().into();
            with_id = ConsumerGroupHeartbeatRequest { member_id, ..request.clone() };
            &with_id
        } else {
            request
        };
        let Some(Group::Consumer(group)) = self.groups.get_mut(request.group_id.as_str()) else {
            return self.found(request, client, (&scene, turn));
        };
        let decision = group.heartbeat(request, client, &scene)?;
        group.heard(&decision);
        Ok(carry_out(&request.group_id, decision, turn))
    }

    /// A group as ConsumerGroupDescribe tells it.
    ///
    /// # Errors
    /// If it is not one of consumers.
    pub fn describe_consumers(
        &self,
        group_id: &KafkaString,
        image: &MetadataImage,
    ) -> Result<DescribedGroup, Refusal> {
        let group = self.consumer_group(group_id)?;
        let settings = self.consumer_settings(group_id, image);
        Ok(group.describe(&settings, image))
    }

    /// The group of an id, if it is one of consumers.
    pub(super) fn consumer_group(&self, group_id: &KafkaString) -> Result<&ConsumerGroup, Refusal> {
        match self.groups.get(group_id.as_str()) {
            Some(Group::Consumer(group)) => Ok(group),
            Some(Group::Classic(_)) => Err(not_a_consumer_group(group_id)),
            None => Err(not_found(group_id)),
        }
    }

    /// The settings of a group: its own where it has any, else the broker's.
    pub(super) fn consumer_settings(
        &self,
        group_id: &str,
        image: &MetadataImage,
    ) -> ConsumerGroupSettings {
        let mut settings = (*self.consumer_settings).clone();
        // The one that brokers can be told at run time.
        let interval = "group.consumer.assignment.interval.ms";
        let own = self.broker_id.map(|id| image.broker_overrides(id)).unwrap_or_default();
        let all = image.default_broker_overrides();
        let set = [own, all].iter().find_map(|layer| layer.get(interval)?.parse().ok());
        settings.assignment_interval_ms = set.unwrap_or(settings.assignment_interval_ms);
        settings.apply(&image.group_overrides(group_id));
        settings
    }

    /// Applies a record of a consumer group.
    pub(super) fn replay_consumers(&mut self, record: &ConsumerGroupRecord) {
        let id = record.group_id();
        if let ConsumerGroupRecord::Group(_, None) = record {
            if matches!(self.groups.get(id.as_str()), Some(Group::Consumer(_))) {
                self.groups.remove(id.as_str());
            }
            return;
        }
        match self.groups.get_mut(id.as_str()) {
            Some(Group::Consumer(group)) => group.replay(record),
            // What is left of a group that is gone.
            _ if record.is_tombstone() => {}
            _ => {
                let mut group = ConsumerGroup::new(id);
                group.replay(record);
                self.groups.insert(id.as_str().into(), Group::Consumer(group));
            }
        }
    }

    /// All of the log has been replayed: sets the members' timers.
    pub(super) fn consumers_loaded(&mut self, turn: &mut Turn<Self>) {
        let image = turn.image().clone();
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for id in ids {
            let settings = self.consumer_settings(&id, &image);
            if let Some(Group::Consumer(group)) = self.groups.get_mut(&id) {
                let scene = Scene { now: turn.now(), image: &image, settings: &settings };
                change_timers(&id, group.loaded(&scene), turn);
            }
        }
    }

    /// A timer of a consumer group is due.
    pub(super) fn consumer_due(&self, id: &Arc<str>, timer: &MemberTimer, turn: &mut Turn<Self>) {
        let Some(Group::Consumer(group)) = self.groups.get(id) else { return };
        if let Some(member) = group.due(timer) {
            tracing::info!(group = %id, ?timer, "a member of a consumer group is removed");
            let gone = [member.clone()];
            self.remove_members(id, &gone, turn);
        }
    }
}

/// Whether offsets of a consumer group may be committed: a result for each, or one for all.
pub(super) fn check_consumer_commit(
    group: &ConsumerGroup,
    commit: &Commit<'_>,
    image: &MetadataImage,
) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
    let committer = Committer {
        member_id: commit.member_id,
        member_epoch: commit.generation,
        api_version: commit.api_version,
    };
    let committable = group.check_commit(&committer)?;
    let check = commit.offsets.iter().map(|offset| {
        let id = if offset.topic_id.is_zero() {
            image.topic(offset.topic).map_or(offset.topic_id, |topic| topic.id)
        } else {
            offset.topic_id
        };
        committable.check(id, offset.partition)
    });
    Ok(check.collect())
}

pub(super) fn not_found(group_id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {group_id} not found."))
}

pub(super) fn not_a_consumer_group(group_id: &str) -> Refusal {
    let message = format!("Group {group_id} is not a consumer group.");
    Refusal::new(ErrorCode::GroupIdNotFound, message)
}

/// Has done what a group has decided.
pub(super) fn carry_out<R>(
    group_id: &str,
    decision: Decision<R>,
    turn: &mut Turn<GroupShard>,
) -> R {
    for record in &decision.records {
        write(record.encode(), turn);
    }
    change_timers(group_id, decision.timers, turn);
    decision.response
}

pub(super) fn write(
    record: Result<crate::internal_topics::Record, ottla_common::kafka::wire::WireError>,
    turn: &mut Turn<GroupShard>,
) {
    match record {
        Ok(record) => turn.record(record),
        // Texts come from requests, which have no longer ones than records can.
        Err(error) => tracing::error!(%error, "a record of a group cannot be encoded"),
    }
}

pub(super) fn change_timers(
    group_id: &str,
    changes: Vec<TimerChange<MemberTimer>>,
    turn: &mut Turn<GroupShard>,
) {
    let id: Arc<str> = group_id.into();
    for change in changes {
        match change {
            TimerChange::Set(timer, at_ms) => {
                turn.set_timer(GroupTimer::Consumer(id.clone(), timer), at_ms);
            }
            TimerChange::Cancel(timer) => {
                turn.cancel_timer(GroupTimer::Consumer(id.clone(), timer));
            }
        }
    }
}
