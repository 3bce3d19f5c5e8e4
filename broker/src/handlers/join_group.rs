//! JoinGroup (key 11), versions 0 to 9.
//!
//! Behaviour:
//! - The reply waits until all members have joined, or their time is up; the leader of the group is
//!   told of all members, the others of the generation.
//! - What members say of themselves is not looked into.
//!
//! Version notes: 1 rebalance timeout; 4 MEMBER_ID_REQUIRED at the first try (KIP-394); 5 static
//! members (KIP-345); 6 flexible; 7 protocol type in the reply; 8 reason (KIP-800); 9 skip
//! assignment (KIP-814).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::join_group::JoinGroupRequest;

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::reply_when_answered;
use crate::groups::classic::{Joining, join_error};
use crate::groups::shard::Answer;
use crate::network::{Close, Reply};

/// The first version whose reply may say that there is no protocol.
const NO_PROTOCOL_FROM: i16 = 7;

/// Serves a request.
pub fn handle(context: Context, request: JoinGroupRequest) -> Result<Reply, Close> {
    let (group_id, member_id) = (request.group_id.clone(), request.member_id.detached());
    let version = context.version();
    let waiting = if context.is_authorized(Operation::Read, Resource::Group(&group_id)) {
        let client = context.group_client();
        context.ask_group(&group_id, |shard, ticket, turn| {
            shard.join(&Joining { request, version, client, ticket }, turn);
        })
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    };
    reply_when_answered(&context, waiting, move |answer| {
        let mut response = match answer {
            Ok(Answer::Join(response)) => response,
            Ok(Answer::Sync(_)) => unreachable!("a JoinGroup is answered as one"),
            Err(error) => join_error(&member_id, error),
        };
        if version < NO_PROTOCOL_FROM {
            response.protocol_name.get_or_insert_default();
        }
        response
    })
}
