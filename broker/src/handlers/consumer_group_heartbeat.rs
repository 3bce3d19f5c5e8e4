//! ConsumerGroupHeartbeat (key 68), versions 0 to 1 (KIP-848).
//!
//! Behaviour:
//! - A member joins, stays and leaves by it, says what it subscribes to and owns, and is told what
//!   it is to own. Never waits for other members; the reply is sent once its records are committed.
//!
//! Version notes: 1 patterns, and member ids that clients make (KIP-1082).
//!
//! Missing: nothing.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::consumer_group_heartbeat::response::{
    Assignment as AssignmentResponse, TopicPartitions,
};
use ottla_common::kafka::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::reply_when;
use crate::groups::assignors::Assignment;
use crate::groups::consumer::Refusal;
use crate::groups::consumer::heartbeat::{Client, Heartbeaten};
use crate::metadata::features::GROUP_VERSION;
use crate::network::{Close, Reply};

/// Serves a request.
pub fn handle(context: Context, request: ConsumerGroupHeartbeatRequest) -> Result<Reply, Close> {
    let version = context.version();
    let client = context.group_client();
    let pending = authorize(&context, &request).and_then(|()| {
        context.write_group(&request.group_id, |shard, turn| {
            let client = Client { id: &client.id, host: &client.host };
            shard.consumer_heartbeat(&request, (version, client), turn)
        })
    });
    reply_when(&context, pending, |result| match result {
        Ok(Ok(heartbeaten)) => respond(heartbeaten),
        Ok(Err(Refusal { code, message })) => ConsumerGroupHeartbeatResponse {
            error_code: code.code(),
            error_message: message.map(Into::into),
            ..ConsumerGroupHeartbeatResponse::default()
        },
        Err(error) => ConsumerGroupHeartbeatResponse {
            error_code: error.code(),
            ..ConsumerGroupHeartbeatResponse::default()
        },
    })
}

fn authorize(context: &Context, request: &ConsumerGroupHeartbeatRequest) -> Result<(), ErrorCode> {
    if context.image.features.level(GROUP_VERSION) < 1 {
        return Err(ErrorCode::UnsupportedVersion);
    }
    if !context.is_authorized(Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let mut topics = request.subscribed_topic_names.iter().flatten();
    if !topics.all(|topic| context.is_authorized(Operation::Describe, Resource::Topic(topic))) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    Ok(())
}

fn respond(heartbeaten: Heartbeaten) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        member_id: Some(heartbeaten.member_id),
        member_epoch: heartbeaten.member_epoch,
        heartbeat_interval_ms: heartbeaten.heartbeat_interval_ms,
        assignment: heartbeaten.assignment.map(assignment),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn assignment(assignment: Assignment) -> AssignmentResponse {
    let topics = assignment.into_iter().map(|(topic_id, partitions)| TopicPartitions {
        topic_id,
        partitions: partitions.into_iter().collect(),
        ..TopicPartitions::default()
    });
    AssignmentResponse { topic_partitions: topics.collect(), ..AssignmentResponse::default() }
}
