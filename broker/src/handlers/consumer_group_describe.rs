//! ConsumerGroupDescribe (key 69), versions 0 to 1 (KIP-848).
//!
//! Behaviour:
//! - Tells of groups of the consumer protocol: state, epochs, assignor, and of each member what it
//!   subscribes to, owns and is to own. Any other group is GROUP_ID_NOT_FOUND.
//! - A group with a topic that the client may not see is TOPIC_AUTHORIZATION_FAILED as a whole.
//!
//! Version notes: 1 tells whether a member uses the classic protocol (KIP-1099).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::consumer_group_describe::response::DescribedGroup;
use ottla_common::kafka::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use ottla_common::kafka::wire::KafkaString;

use super::authorization::{GROUP_OPERATIONS, Operation, Resource};
use super::context::Context;
use super::groups::{Pending, reply_when_all};
use crate::groups::consumer::Refusal;
use crate::metadata::features::GROUP_VERSION;
use crate::network::{Close, Reply};

/// Serves a request.
pub fn handle(context: Context, request: ConsumerGroupDescribeRequest) -> Result<Reply, Close> {
    let operations =
        if request.include_authorized_operations { GROUP_OPERATIONS } else { i32::MIN };
    let looking = request.group_ids.iter().map(|id| {
        let pending = if context.image.features.level(GROUP_VERSION) < 1 {
            Err(ErrorCode::UnsupportedVersion)
        } else if id.is_empty() {
            Err(ErrorCode::InvalidGroupId)
        } else if !context.is_authorized(Operation::Describe, Resource::Group(id)) {
            Err(ErrorCode::GroupAuthorizationFailed)
        } else {
            context.read_group(id, |shard| {
                let described = shard.describe_consumers(id, &context.image)?;
                if may_see(&context, &described) { Ok(described) } else { Err(hidden()) }
            })
        };
        (id.detached(), pending)
    });
    let looking: Vec<(KafkaString, Pending<_>)> = looking.collect();
    reply_when_all(&context, looking, move |seen| {
        let groups = seen.into_iter().map(|(group_id, result)| {
            match result.map_err(Refusal::from).and_then(|described| described) {
                Ok(group) => DescribedGroup { authorized_operations: operations, ..group },
                Err(Refusal { code, message }) => DescribedGroup {
                    error_code: code.code(),
                    error_message: message.map(Into::into),
                    group_id,
                    ..DescribedGroup::default()
                },
            }
        });
        ConsumerGroupDescribeResponse {
            groups: groups.collect(),
            ..ConsumerGroupDescribeResponse::default()
        }
    })
}

fn may_see(context: &Context, group: &DescribedGroup) -> bool {
    let assignments = group.members.iter().flat_map(|m| [&m.assignment, &m.target_assignment]);
    let assigned = assignments.flat_map(|a| &a.topic_partitions).map(|topic| &topic.topic_name);
    let subscribed = group.members.iter().flat_map(|member| &member.subscribed_topic_names);
    let mut topics = assigned.chain(subscribed);
    topics.all(|topic| context.is_authorized(Operation::Describe, Resource::Topic(topic)))
}

fn hidden() -> Refusal {
    let text = "The group has described topic(s) that the client is not authorized to describe.";
    Refusal::new(ErrorCode::TopicAuthorizationFailed, text)
}
