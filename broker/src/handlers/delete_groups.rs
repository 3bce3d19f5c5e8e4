//! DeleteGroups (key 42), versions 0 to 3.
//!
//! Behaviour:
//! - Deletes groups without members, with their offsets; each has its own result.
//!
//! Version notes: 2 flexible; 3 messages.
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::delete_groups::response::DeletableGroupResult;
use ottla_common::kafka::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use ottla_common::kafka::wire::KafkaString;

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::{Pending, reply_when_all};
use crate::network::{Close, Reply};

/// Serves a request.
pub fn handle(context: Context, request: DeleteGroupsRequest) -> Result<Reply, Close> {
    let deleting = request.groups_names.iter().map(|id| {
        let pending = if context.is_authorized(Operation::Delete, Resource::Group(id)) {
            context.write_group(id, |shard, turn| shard.delete_group(id, turn))
        } else {
            Err(ErrorCode::GroupAuthorizationFailed)
        };
        (id.detached(), pending)
    });
    let deleting: Vec<(KafkaString, Pending<_>)> = deleting.collect();
    reply_when_all(&context, deleting, |deleted| {
        let results = deleted.into_iter().map(|(group_id, result)| {
            let error = result.and_then(|deleted| deleted).err();
            let message = match error {
                Some(ErrorCode::GroupIdNotFound) => Some(format!("Group {group_id} not found.")),
                Some(ErrorCode::NonEmptyGroup) => Some("The group is not empty.".to_owned()),
                _ => None,
            };
            DeletableGroupResult {
                group_id,
                error_code: error.unwrap_or(ErrorCode::None).code(),
                error_message: message.map(Into::into),
                ..DeletableGroupResult::default()
            }
        });
        DeleteGroupsResponse { results: results.collect(), ..DeleteGroupsResponse::default() }
    })
}
