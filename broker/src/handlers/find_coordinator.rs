//! FindCoordinator (key 10), versions 0 to 6.
//!
//! Behaviour:
//! - A group's shard is where the partition of `__consumer_offsets` is led that its id belongs to.
//!   The topic is made when somebody first asks; the reply waits a moment for it.
//! - While nobody leads that partition: COORDINATOR_NOT_AVAILABLE, which clients try again.
//!
//! Version notes: 1 types of keys and messages; 3 flexible; 4 several keys (KIP-699); 6 share
//! groups (KIP-932).
//!
//! Missing: transactional ids (TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which clients take as final)
//! and share groups (INVALID_REQUEST, as of a Kafka that does not offer them).

use std::time::Duration;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::find_coordinator::response::Coordinator;
use ottla_common::kafka::messages::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use ottla_common::kafka::wire::KafkaString;

use super::Served;
use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::internal_topics::{CONSUMER_OFFSETS, partition_for};

/// The first version that asks for several keys.
const BATCHES_FROM: i16 = 4;

/// Types of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

/// How long a reply waits for the topic of groups to be made.
const CREATION_PATIENCE: Duration = Duration::from_secs(3);

/// Serves a request.
pub fn handle(context: Context, request: FindCoordinatorRequest) -> Served {
    let wants_groups = request.key_type == GROUP;
    if !wants_groups || context.image.topic(CONSUMER_OFFSETS).is_some() {
        return Served::Now(context.reply(respond(&context, &request)));
    }
    Served::Later(Box::pin(async move {
        let ensuring = context.parts.admin.ensure_offsets_topic(CONSUMER_OFFSETS);
        // What was begun goes on or not, and the client asks again.
        if let Ok(Err(error)) = tokio::time::timeout(CREATION_PATIENCE, ensuring).await {
            tracing::warn!(%error, "the topic of groups cannot be made");
        }
        let context = Context { image: context.parts.image.load(), ..context };
        context.reply(respond(&context, &request))
    }))
}

fn respond(context: &Context, request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    if context.version() >= BATCHES_FROM {
        let keys = request.coordinator_keys.iter();
        return FindCoordinatorResponse {
            coordinators: keys.map(|key| find(context, request.key_type, key)).collect(),
            ..FindCoordinatorResponse::default()
        };
    }
    let found = find(context, request.key_type, &request.key);
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

fn find(context: &Context, key_type: i8, key: &KafkaString) -> Coordinator {
    match leader(context, key_type, key) {
        Ok(found) => Coordinator { key: key.clone(), ..found },
        Err((error, message)) => Coordinator {
            key: key.clone(),
            node_id: -1,
            port: -1,
            error_code: error.code(),
            error_message: Some(message.into()),
            ..Coordinator::default()
        },
    }
}

fn leader(
    context: &Context,
    key_type: i8,
    key: &str,
) -> Result<Coordinator, (ErrorCode, &'static str)> {
    match key_type {
        GROUP => {}
        TRANSACTION => {
            let text = "Transactional Id authorization failed: there are no transactions yet.";
            return Err((ErrorCode::TransactionalIdAuthorizationFailed, text));
        }
        _ => return Err((ErrorCode::InvalidRequest, "There are no coordinators of this type.")),
    }
    if !context.is_authorized(Operation::Describe, Resource::Group(key)) {
        return Err((ErrorCode::GroupAuthorizationFailed, "Group authorization failed."));
    }
    let available = || {
        let topic = context.image.topic(CONSUMER_OFFSETS)?;
        let partitions = i32::try_from(topic.partitions.len()).ok()?;
        let leader = topic.partition(partition_for(key, partitions))?.leader?;
        context.reachable_broker(leader)
    };
    let text = "The coordinator is not available.";
    let (broker, endpoint) = available().ok_or((ErrorCode::CoordinatorNotAvailable, text))?;
    Ok(Coordinator {
        node_id: broker.id.0,
        host: endpoint.host.as_str().into(),
        port: i32::from(endpoint.port),
        ..Coordinator::default()
    })
}
