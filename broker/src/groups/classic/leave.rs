//! How members leave, by themselves or by an operator's order.

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::leave_group::request::MemberIdentity;
use ottla_common::kafka::messages::leave_group::response::MemberResponse;

use super::ClassicGroup;
use crate::groups::shard::Scene;

impl ClassicGroup {
    /// Members leave, several together. Each gets its own result.
    pub fn leave(
        &mut self,
        members: &[MemberIdentity],
        scene: &mut Scene<'_>,
    ) -> Vec<MemberResponse> {
        let mut has_left = false;
        let results = members.iter().map(|identity| {
            let left = self.leave_one(identity, scene);
            has_left |= left == Ok(true);
            leave_response(identity, left.err())
        });
        let results = results.collect();
        if has_left {
            self.someone_left(true, scene);
        }
        results
    }

    /// Returns whether it had joined.
    fn leave_one(
        &mut self,
        identity: &MemberIdentity,
        scene: &mut Scene<'_>,
    ) -> Result<bool, ErrorCode> {
        let id = identity.member_id.as_str();
        let instance_id = identity.group_instance_id.as_deref();
        if id.is_empty() {
            // An operator removes a static member by the name that he knows.
            let found = instance_id.and_then(|name| self.static_members.get(name)).cloned();
            let id = found.ok_or(ErrorCode::UnknownMemberId)?;
            self.remove_member(&id, scene);
            return Ok(true);
        }
        if self.pending_joins.contains(id) {
            self.remove_member(id, scene);
            // The others may have waited for it.
            self.maybe_complete_join(scene);
            return Ok(false);
        }
        self.check_member(id, instance_id)?;
        self.remove_member(id, scene);
        Ok(true)
    }
}

/// One member's result.
pub fn leave_response(identity: &MemberIdentity, error: Option<ErrorCode>) -> MemberResponse {
    MemberResponse {
        member_id: identity.member_id.clone(),
        group_instance_id: identity.group_instance_id.clone(),
        error_code: error.unwrap_or(ErrorCode::None).code(),
        ..MemberResponse::default()
    }
}
