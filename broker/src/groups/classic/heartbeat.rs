//! Members' signs of life, and what happens without them.

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::heartbeat::HeartbeatRequest;

use super::{ClassicGroup, State};
use crate::groups::shard::Scene;

impl ClassicGroup {
    /// A member is alive. It is told if it is to join again.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        scene: &mut Scene<'_>,
    ) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_deref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        if self.state == State::Empty {
            return Err(ErrorCode::UnknownMemberId);
        }
        self.saw(&request.member_id, scene);
        match self.state {
            State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    /// A member has shown itself.
    pub fn saw(&self, member_id: &str, scene: &mut Scene<'_>) {
        if let Some(member) = self.members.get(member_id) {
            self.expect_heartbeat(member, scene);
        }
    }

    /// A member has been silent for too long, or one that was given an id has not come back.
    pub fn session_timeout(&mut self, member_id: &str, scene: &mut Scene<'_>) {
        if self.members.get(member_id).is_some_and(|member| member.is_excused()) {
            // It waits; its time begins anew when it is answered.
            return;
        }
        let is_known =
            self.members.contains_key(member_id) || self.pending_joins.contains(member_id);
        if is_known {
            let was_member = self.members.contains_key(member_id);
            self.remove_member(member_id, scene);
            self.someone_left(was_member, scene);
        }
    }

    /// What follows when members, or only ids that were given out, are gone.
    pub(super) fn someone_left(&mut self, was_member: bool, scene: &mut Scene<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance if was_member => {
                self.prepare_rebalance(scene);
            }
            State::PreparingRebalance => self.maybe_complete_join(scene),
            _ => {}
        }
    }
}
