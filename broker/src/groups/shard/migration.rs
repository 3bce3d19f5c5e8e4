//! Groups in which both protocols are spoken: requests of the classic protocol to consumer groups,
//! and groups that change over.

use std::sync::Arc;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_common::kafka::messages::heartbeat::HeartbeatRequest;
use ottla_common::kafka::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use ottla_common::kafka::messages::leave_group::request::MemberIdentity;
use ottla_common::kafka::messages::leave_group::response::MemberResponse;
use ottla_common::kafka::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use ottla_common::kafka::wire::KafkaString;

use super::consumers::{carry_out, change_timers, not_a_consumer_group, not_found, write};
use super::offset_requests::group_key;
use super::{Answer, Group, GroupShard, GroupTimer, Scene as ShardScene};
use crate::groups::classic::{Joining, join_error, leave_response, sync_error};
use crate::groups::consumer::classic::{CONSUMER_PROTOCOL, Joined, Synced};
use crate::groups::consumer::heartbeat::{Client, Heartbeaten};
use crate::groups::consumer::migration::{may_upgrade, upgrade};
use crate::groups::consumer::{ConsumerGroup, Decision, Refusal, Scene};
use crate::groups::records::GroupRecord;
use crate::internal_topics::{Ticket, Turn};
use crate::limits::GROUPS_PER_SHARD_MAX;

/// The first version whose clients join a second time with the id that they were given (KIP-394).
const KNOWN_MEMBERS_FROM: i16 = 4;

impl GroupShard {
    /// A consumer group begins to exist by the first heartbeat of its first member, perhaps in the
    /// place of a classic one, whose members it takes over.
    pub(super) fn found(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        client: Client<'_>,
        (scene, turn): (&Scene<'_>, &mut Turn<Self>),
    ) -> Result<Heartbeaten, Refusal> {
        let id = &request.group_id;
        let mut group = ConsumerGroup::new(id);
        let mut taken_over = Vec::new();
        match self.groups.get(id.as_str()) {
            Some(Group::Classic(classic)) if !classic.is_empty() => {
                if request.member_epoch != 0 || !may_upgrade(classic, scene.settings) {
                    return Err(not_a_consumer_group(id));
                }
                taken_over = upgrade(classic, scene.image).map_err(|error| {
                    let message = format!("Cannot upgrade classic group {id}: {error}.");
                    Refusal::new(ErrorCode::GroupIdNotFound, message)
                })?;
                taken_over.iter().for_each(|record| group.replay(record));
            }
            _ if request.member_epoch != 0 => return Err(not_found(id)),
            None if self.groups.len() >= GROUPS_PER_SHARD_MAX => {
                return Err(ErrorCode::GroupMaxSizeReached.into());
            }
            _ => {}
        }
        let decision = group.heartbeat(request, client, scene)?;
        if let Some(Group::Classic(classic)) = self.groups.get_mut(id.as_str()) {
            let settings = self.settings.clone();
            let is_written = classic.protocol_type().is_some();
            classic.disband(&mut ShardScene { settings: &settings, turn });
            if is_written {
                write(GroupRecord::Classic(group_key(id), None).encode(), turn);
            }
        }
        if !taken_over.is_empty() {
            tracing::info!(group = %id, "a classic group becomes one of consumers");
        }
        let timers = group.loaded(scene);
        carry_out(id, Decision { response: (), records: taken_over, timers }, turn);
        Ok(carry_out(id, decision, turn))
    }

    /// A JoinGroup to a consumer group with members.
    pub(super) fn join_consumers(&mut self, joining: &Joining, turn: &mut Turn<Self>) {
        let joined = self.try_join_consumers(joining, turn);
        let response = match joined {
            Ok(Joined { member_id, generation, protocol }) => JoinGroupResponse {
                generation_id: generation,
                protocol_type: Some(CONSUMER_PROTOCOL.into()),
                protocol_name: Some(protocol),
                member_id,
                ..JoinGroupResponse::default()
            },
            Err((member_id, error)) => join_error(&member_id, error),
        };
        turn.answer(joining.ticket, Answer::Join(response));
    }

    fn try_join_consumers(
        &mut self,
        joining: &Joining,
        turn: &mut Turn<Self>,
    ) -> Result<Joined, (KafkaString, ErrorCode)> {
        let request = &joining.request;
        let refuse = |error| (request.member_id.clone(), error);
        if !joining.is_bounded() {
            return Err(refuse(ErrorCode::InvalidRequest));
        }
        let is_new = joining.is_new();
        let with_id;
        let request = if is_new {
            let member_id: KafkaString = turn.unique_id().to_string().as_str().into();
            with_id = JoinGroupRequest { member_id, ..request.clone() };
            &with_id
        } else {
            request
        };
        let image = turn.image().clone();
        let settings = self.consumer_settings(&request.group_id, &image);
        let scene = Scene { now: turn.now(), image: &image, settings: &settings };
        let Some(Group::Consumer(group)) = self.groups.get_mut(request.group_id.as_str()) else {
            return Err(refuse(ErrorCode::UnknownMemberId));
        };
        let client = Client { id: &joining.client.id, host: &joining.client.host };
        let decided = group.join_classic((request, is_new), client, &scene);
        let decision = decided.map_err(|error| match error {
            ErrorCode::GroupMaxSizeReached => (KafkaString::default(), error),
            error => refuse(error),
        })?;
        if is_new && request.group_instance_id.is_none() && joining.version >= KNOWN_MEMBERS_FROM {
            return Err((request.member_id.clone(), ErrorCode::MemberIdRequired));
        }
        group.heard(&decision);
        group.came(&request.member_id);
        Ok(carry_out(&request.group_id, decision, turn))
    }

    /// A SyncGroup to a consumer group.
    pub(super) fn sync_consumers(
        &mut self,
        request: &SyncGroupRequest,
        ticket: Ticket,
        turn: &mut Turn<Self>,
    ) {
        let image = turn.image().clone();
        let settings = self.consumer_settings(&request.group_id, &image);
        let scene = Scene { now: turn.now(), image: &image, settings: &settings };
        let decided = match self.groups.get(request.group_id.as_str()) {
            Some(Group::Consumer(group)) => group.sync_classic(request, &scene),
            _ => Err(ErrorCode::UnknownMemberId),
        };
        let response = match decided {
            Ok(decision) => {
                let Synced { protocol, assignment } = carry_out(&request.group_id, decision, turn);
                SyncGroupResponse {
                    protocol_type: Some(CONSUMER_PROTOCOL.into()),
                    protocol_name: Some(protocol),
                    assignment,
                    ..SyncGroupResponse::default()
                }
            }
            Err(error) => sync_error(error),
        };
        turn.answer(ticket, Answer::Sync(response));
    }

    /// A Heartbeat to a consumer group.
    pub(super) fn heartbeat_consumers(
        &mut self,
        request: &HeartbeatRequest,
        turn: &mut Turn<Self>,
    ) -> Result<(), ErrorCode> {
        let image = turn.image().clone();
        let settings = self.consumer_settings(&request.group_id, &image);
        let scene = Scene { now: turn.now(), image: &image, settings: &settings };
        let Some(Group::Consumer(group)) = self.groups.get_mut(request.group_id.as_str()) else {
            return Err(ErrorCode::UnknownMemberId);
        };
        let decision = group.heartbeat_classic(request, &scene)?;
        let is_alone = settings.may_downgrade && group.is_classic_without(&[]);
        let result = carry_out(&request.group_id, decision, turn);
        if is_alone {
            // The last of the others came back as a member of the classic protocol.
            self.downgrade(&request.group_id, &[], turn);
            return Err(ErrorCode::RebalanceInProgress);
        }
        result
    }

    /// A LeaveGroup to a consumer group.
    pub(super) fn leave_consumers(
        &mut self,
        group_id: &str,
        members: &[MemberIdentity],
        turn: &mut Turn<Self>,
    ) -> Vec<MemberResponse> {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else { return Vec::new() };
        let mut gone: Vec<KafkaString> = Vec::new();
        let results = members.iter().map(|identity| {
            let instance_id = identity.group_instance_id.as_deref();
            let left = group.leaving(&identity.member_id, instance_id);
            let left = left.map(|member| member.id.clone());
            if let Ok(id) = &left
                && !gone.contains(id)
            {
                gone.push(id.clone());
            }
            leave_response(identity, left.err())
        });
        let results = results.collect();
        self.remove_members(group_id, &gone, turn);
        results
    }

    /// Members are gone. If only members of the classic protocol are left, the group is one of
    /// theirs from now on.
    pub(super) fn remove_members(
        &self,
        group_id: &str,
        gone: &[KafkaString],
        turn: &mut Turn<Self>,
    ) {
        let image = turn.image().clone();
        let settings = self.consumer_settings(group_id, &image);
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else { return };
        if settings.may_downgrade && group.is_classic_without(gone) {
            return self.downgrade(group_id, gone, turn);
        }
        let scene = Scene { now: turn.now(), image: &image, settings: &settings };
        // Each goes from what the others before have left.
        let mut rest = group.clone();
        for id in gone {
            if let Some(decision) = rest.remove(id, &scene) {
                decision.records.iter().for_each(|record| rest.replay(record));
                carry_out(group_id, decision, turn);
            }
        }
    }

    fn downgrade(&self, group_id: &str, gone: &[KafkaString], turn: &mut Turn<Self>) {
        let Some(Group::Consumer(group)) = self.groups.get(group_id) else { return };
        let image = turn.image().clone();
        match group.downgrade(gone, (turn.now().wall_time_ms, &image)) {
            Ok((records, value)) => {
                tracing::info!(group = group_id, "a group of consumers becomes a classic one");
                change_timers(group_id, group.no_timers(), turn);
                records.iter().for_each(|record| write(record.encode(), turn));
                write(GroupRecord::Classic(group_key(group_id), Some(value)).encode(), turn);
                let id: Arc<str> = group_id.into();
                turn.set_timer_in(GroupTimer::Downgraded(id), 0);
            }
            Err(error) => tracing::error!(%error, "a group of consumers cannot become classic"),
        }
    }
}
