//! Heartbeat (key 12), versions 0 to 4.
//!
//! Behaviour:
//! - Tells a member whether it is to join again. Never waits.
//! - While the group is being loaded the answer is that all is well, as in Kafka: the member has
//!   its whole session timeout when the load is done.
//!
//! Version notes: 3 static members (KIP-345); 4 flexible.
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::reply_when;
use crate::network::{Close, Reply};

/// Serves a request.
pub fn handle(context: Context, request: HeartbeatRequest) -> Result<Reply, Close> {
    let group_id = &request.group_id;
    let pending = if context.is_authorized(Operation::Read, Resource::Group(group_id)) {
        context.write_group(group_id, |shard, turn| shard.heartbeat(&request, turn))
    } else {
        Err(ErrorCode::GroupAuthorizationFailed)
    };
    reply_when(&context, pending, |result| {
        let error = match result {
            Ok(Ok(())) | Err(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
            Ok(Err(error)) | Err(error) => error,
        };
        HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() }
    })
}
