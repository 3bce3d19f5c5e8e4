//! LeaveGroup (key 13), versions 0 to 5.
//!
//! Behaviour:
//! - Members leave, several at a time; a static member may be named by its name alone, as
//!   operators do.
//!
//! Version notes: before 3 one member, whose error is that of the reply; 3 several (KIP-345); 4
//! flexible; 5 reason (KIP-800).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::leave_group::request::MemberIdentity;
use ottla_common::kafka::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::reply_when;
use crate::network::{Close, Reply};

/// The first version that names several members.
const SEVERAL_FROM: i16 = 3;

/// Serves a request.
pub fn handle(context: Context, request: LeaveGroupRequest) -> Result<Reply, Close> {
    let group_id = &request.group_id;
    let names_several = context.version() >= SEVERAL_FROM;
    let members = if names_several {
        request.members
    } else {
        vec![MemberIdentity { member_id: request.member_id, ..MemberIdentity::default() }]
    };
    let pending = if context.is_authorized(Operation::Read, Resource::Group(group_id)) {
        context.write_group(group_id, |shard, turn| shard.leave(group_id, &members, turn))
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    };
    reply_when(&context, pending, move |result| match result.and_then(|left| left) {
        Err(error) => {
            LeaveGroupResponse { error_code: error.code(), ..LeaveGroupResponse::default() }
        }
        Ok(members) if names_several => {
            LeaveGroupResponse { members, ..LeaveGroupResponse::default() }
        }
        Ok(members) => LeaveGroupResponse {
            error_code: members.first().map_or(0, |member| member.error_code),
            ..LeaveGroupResponse::default()
        },
    })
}
