//! ListGroups (key 16), versions 0 to 5.
//!
//! Behaviour:
//! - Lists the groups that this broker keeps; tools ask all brokers. While some are being loaded:
//!   COORDINATOR_LOAD_IN_PROGRESS, since the list would not be whole.
//! - Filters do not look at upper and lower case; a state or type that nobody knows matches none.
//!
//! Version notes: 3 flexible; 4 states (KIP-518); 5 types (KIP-848).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::list_groups::response::ListedGroup as GroupResponse;
use ottla_common::kafka::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use ottla_common::kafka::wire::KafkaString;

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::{Pending, reply_when_all};
use crate::groups::shard::ListedGroup;
use crate::network::{Close, Reply};

/// Serves a request.
pub fn handle(context: Context, request: ListGroupsRequest) -> Result<Reply, Close> {
    let groups = &context.parts.groups;
    let partitions = groups.partitions().into_iter();
    let looking = partitions.map(|partition| {
        let pending = groups.read(partition, |shard| {
            let mut listed = shard.list();
            listed.retain(|group| is_shown(&context, &request, group));
            listed
        });
        ((), pending)
    });
    let looking: Vec<((), Pending<Vec<ListedGroup>>)> = looking.collect();
    reply_when_all(&context, looking, |seen| {
        let mut response = ListGroupsResponse::default();
        for ((), result) in seen {
            match result {
                Ok(listed) => response.groups.extend(listed.into_iter().map(row)),
                // Another broker has them, and is asked too.
                Err(ErrorCode::NotCoordinator) => {}
                Err(error) => {
                    let error_code = error.code();
                    return ListGroupsResponse { error_code, ..ListGroupsResponse::default() };
                }
            }
        }
        response
    })
}

fn is_shown(context: &Context, request: &ListGroupsRequest, group: &ListedGroup) -> bool {
    let passes = |filter: &[KafkaString], text: &str| {
        filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(text))
    };
    passes(&request.states_filter, group.state)
        && passes(&request.types_filter, group.kind)
        && (context.is_authorized(Operation::Describe, Resource::Cluster)
            || context.is_authorized(Operation::Describe, Resource::Group(&group.id)))
}

fn row(group: ListedGroup) -> GroupResponse {
    GroupResponse {
        group_id: (&*group.id).into(),
        protocol_type: group.protocol_type.as_str().into(),
        group_state: group.state.into(),
        group_type: group.kind.into(),
        ..GroupResponse::default()
    }
}
