//! DescribeGroups (key 15), versions 0 to 6.
//!
//! Behaviour:
//! - Tells of classic groups: state, protocol, members. What members have joined with is told of
//!   stable groups only, as in Kafka.
//! - A group that is not there, or is of the consumer protocol, is in state Dead; those are told
//!   of by ConsumerGroupDescribe.
//!
//! Version notes: 3 authorized operations; 4 static members; 5 flexible; 6 GROUP_ID_NOT_FOUND, with
//! messages (KIP-1043).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_groups::response::{
    DescribedGroup as GroupResponse, DescribedGroupMember as MemberResponse,
};
use ottla_common::kafka::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse,
};
use ottla_common::kafka::wire::KafkaString;

use super::authorization::{GROUP_OPERATIONS, Operation, Resource};
use super::context::Context;
use super::groups::{Pending, reply_when_all};
use crate::groups::shard::{DescribedGroup, DescribedMember};
use crate::network::{Close, Reply};

/// The first version that can say that there is no such group.
const NOT_FOUND_FROM: i16 = 6;

/// Serves a request.
pub fn handle(context: Context, request: DescribeGroupsRequest) -> Result<Reply, Close> {
    let version = context.version();
    let operations =
        if request.include_authorized_operations { GROUP_OPERATIONS } else { i32::MIN };
    let looking = request.groups.iter().map(|id| {
        let pending = if context.is_authorized(Operation::Describe, Resource::Group(id)) {
            context.read_group(id, |shard| (shard.describe(id), shard.group(id).is_some()))
        } else {
            Err(ErrorCode::GroupAuthorizationFailed)
        };
        (id.detached(), pending)
    });
    let looking: Vec<(KafkaString, Pending<_>)> = looking.collect();
    reply_when_all(&context, looking, move |seen| {
        let groups = seen.into_iter().map(|(id, result)| {
            let group = match result {
                Ok((Some(group), _)) => described(group),
                Ok((None, is_there)) => missing(&id, version, is_there),
                Err(error) => {
                    GroupResponse { error_code: error.code(), ..GroupResponse::default() }
                }
            };
            let is_known = group.error_code == 0;
            let authorized_operations = if is_known { operations } else { i32::MIN };
            GroupResponse { group_id: id, authorized_operations, ..group }
        });
        DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() }
    })
}

fn described(group: DescribedGroup) -> GroupResponse {
    GroupResponse {
        group_state: group.state.into(),
        protocol_type: group.protocol_type.as_str().into(),
        protocol_data: group.protocol.as_str().into(),
        members: group.members.into_iter().map(described_member).collect(),
        ..GroupResponse::default()
    }
}

fn described_member(member: DescribedMember) -> MemberResponse {
    MemberResponse {
        member_id: (&*member.id).into(),
        group_instance_id: member.instance_id.as_deref().map(Into::into),
        client_id: member.client_id.as_str().into(),
        client_host: member.client_host.as_str().into(),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
        ..MemberResponse::default()
    }
}

fn missing(id: &KafkaString, version: i16, is_there: bool) -> GroupResponse {
    let dead = GroupResponse { group_state: "Dead".into(), ..GroupResponse::default() };
    if version < NOT_FOUND_FROM {
        return dead;
    }
    let what = if is_there { "is not a classic group" } else { "not found" };
    GroupResponse {
        error_code: ErrorCode::GroupIdNotFound.code(),
        error_message: Some(format!("Group {id} {what}.").into()),
        ..dead
    }
}
