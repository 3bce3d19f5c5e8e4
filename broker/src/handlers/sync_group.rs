//! SyncGroup (key 14), versions 0 to 5.
//!
//! Behaviour:
//! - The leader brings what it has assigned; the replies to all wait until that is written.
//!
//! Version notes: 3 static members (KIP-345); 4 flexible; 5 protocol type and name, which must be
//! said, and are echoed (KIP-559).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::sync_group::SyncGroupRequest;

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::reply_when_answered;
use crate::groups::classic::sync_error;
use crate::groups::shard::Answer;
use crate::network::{Close, Reply};

/// The first version that must say protocol type and name.
const PROTOCOL_FROM: i16 = 5;

/// Serves a request.
pub fn handle(context: Context, request: SyncGroupRequest) -> Result<Reply, Close> {
    let group_id = &request.group_id;
    let says_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    let waiting = if !context.is_authorized(Operation::Read, Resource::Group(group_id)) {
        Err(ErrorCode::GroupAuthorizationFailed)
    } else if context.version() >= PROTOCOL_FROM && !says_protocol {
        Err(ErrorCode::InconsistentGroupProtocol)
    } else {
        context.ask_group(group_id, |shard, ticket, turn| shard.sync(&request, ticket, turn))
    };
    reply_when_answered(&context, waiting, |answer| match answer {
        Ok(Answer::Sync(response)) => response,
        Ok(Answer::Join(_)) => unreachable!("a SyncGroup is answered as one"),
        Err(error) => sync_error(error),
    })
}
