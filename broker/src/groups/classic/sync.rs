//! How the leader's assignments reach the members.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::member::{Member, MemberId};
use super::{ClassicGroup, State};
use crate::groups::shard::{Answer, GroupTimer, Scene};
use crate::internal_topics::Ticket;

/// A SyncGroup that failed.
pub fn sync_error(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() }
}

/// Answers a member's SyncGroup with an error, if it waits.
pub(super) fn answer_error(member: &mut Member, error: ErrorCode, scene: &mut Scene<'_>) {
    if let Some(ticket) = member.syncing.take() {
        scene.turn.answer(ticket, Answer::Sync(sync_error(error)));
    }
}

impl ClassicGroup {
    /// A member asks what it is assigned; the leader brings what it has assigned.
    pub fn sync(&mut self, request: &SyncGroupRequest, ticket: Ticket, scene: &mut Scene<'_>) {
        if let Err(error) = self.check_sync(request) {
            return scene.turn.answer(ticket, Answer::Sync(sync_error(error)));
        }
        let id = request.member_id.as_str();
        self.pending_syncs.remove(id);
        if self.pending_syncs.is_empty() {
            scene.turn.cancel_timer(GroupTimer::Sync(self.id.clone()));
        }
        let Some(member) = self.members.get_mut(id) else { return };
        if self.state == State::Stable {
            let assignment = member.assignment.clone();
            let member = member.clone();
            self.expect_heartbeat(&member, scene);
            let response = self.sync_response(assignment);
            return scene.turn.answer(ticket, Answer::Sync(response));
        }
        answer_error(member, ErrorCode::RebalanceInProgress, scene);
        member.syncing = Some(ticket);
        if self.leader.as_deref() == Some(id) {
            self.assign(request, scene);
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: Option<&str>, known: &Option<String>| {
            said.zip(known.as_deref()).is_some_and(|(said, known)| said != known)
        };
        if differs(request.protocol_type.as_deref(), &self.protocol_type)
            || differs(request.protocol_name.as_deref(), &self.protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// Writes what the leader has assigned, and tells everyone who waits, once it is written. If it
    /// cannot be, they are told that, and nothing has changed: they ask again.
    fn assign(&mut self, request: &SyncGroupRequest, scene: &mut Scene<'_>) {
        let given = request.assignments.iter();
        let given: BTreeMap<&str, Bytes> = given
            .map(|given| (given.member_id.as_str(), Bytes::copy_from_slice(&given.assignment)))
            .collect();
        let assignment = |member: &Member| given.get(&*member.id).cloned().unwrap_or_default();
        let now_ms = scene.turn.now().wall_time_ms;
        scene.write_classic(&self.id, Some(self.to_record(now_ms, assignment)));
        let waiting = self.members.values().filter(|member| member.syncing.is_some());
        let waiting: Vec<MemberId> = waiting.map(|member| member.id.clone()).collect();
        for id in waiting {
            let Some(member) = self.members.get_mut(&id) else { continue };
            let (ticket, assignment) = (member.syncing.take(), assignment(member));
            let member = member.clone();
            self.expect_heartbeat(&member, scene);
            if let Some(ticket) = ticket {
                let response = self.sync_response(assignment);
                scene.turn.answer(ticket, Answer::Sync(response));
            }
        }
    }

    fn sync_response(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.as_deref().map(Into::into),
            protocol_name: self.protocol.as_deref().map(Into::into),
            assignment,
            ..SyncGroupResponse::default()
        }
    }

    /// Tells everyone who waits for an assignment that there will be none.
    pub(super) fn fail_syncs(&mut self, error: ErrorCode, scene: &mut Scene<'_>) {
        let waiting = self.members.values().filter(|member| member.syncing.is_some());
        let waiting: Vec<MemberId> = waiting.map(|member| member.id.clone()).collect();
        for id in waiting {
            let Some(member) = self.members.get_mut(&id) else { continue };
            answer_error(member, error, scene);
            let member = member.clone();
            self.expect_heartbeat(&member, scene);
        }
    }

    /// The time to send SyncGroup is up: those who have not are removed.
    pub fn sync_timeout(&mut self, scene: &mut Scene<'_>) {
        let is_under_way = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !is_under_way || self.pending_syncs.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_syncs) {
            self.remove_member(&id, scene);
        }
        self.prepare_rebalance(scene);
    }
}
