//! DeleteTopics (key 20), versions 1 to 6.
//!
//! Behaviour:
//! - Each topic is deleted by itself; the reply comes when this broker's image no longer shows
//!   them. The brokers drop the logs on their own.
//! - A topic that is named twice, or by nothing, or by name and id together, is INVALID_REQUEST.
//! - TOPIC_DELETION_DISABLED if `delete.topic.enable` is false.
//!
//! Version notes: 4 flexible; 5 error messages, quota violations are errors (KIP-599); 6 topics by
//! id (KIP-516).
//!
//! Missing: the timeout is not observed, as in CreateTopics.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::delete_topics::request::DeleteTopicState;
use ottla_common::kafka::messages::delete_topics::response::DeletableTopicResult;
use ottla_common::kafka::messages::delete_topics::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_common::types::TopicId;

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::topics::{UNKNOWN_TOPIC, UNKNOWN_TOPIC_ID};
use crate::controller::admin::AdminError;
use crate::metadata::image::TopicImage;

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 6;

/// The first version that is refused what is beyond its quota.
const STRICT_FROM: i16 = 5;

/// Serves a request.
pub async fn handle(context: Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let asked = if context.version() >= TOPIC_IDS_FROM {
        request.topics
    } else {
        let named = |name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() };
        request.topic_names.into_iter().map(named).collect()
    };
    let counts = count(&context, &asked);
    let mut responses: Vec<DeletableTopicResult> = Vec::with_capacity(asked.len());
    for topic in asked {
        let is_double = counts.get(&identity(&context, &topic)).is_some_and(|count| *count > 1);
        let answered = |result: &DeletableTopicResult| {
            result.name == topic.name && result.topic_id == topic.topic_id
        };
        if is_double && responses.iter().any(answered) {
            continue;
        }
        let deleted = match is_double {
            true => Err(invalid("Duplicate topic name.")),
            false => delete(&context, &topic).await,
        };
        responses.push(match deleted {
            Ok(deleted) => DeletableTopicResult {
                name: Some(deleted.name.clone().into()),
                topic_id: deleted.id,
                ..DeletableTopicResult::default()
            },
            Err(error) => DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
                ..DeletableTopicResult::default()
            },
        });
    }
    DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() }
}

async fn delete(
    context: &Context,
    asked: &DeleteTopicState,
) -> Result<Arc<TopicImage>, AdminError> {
    let topic = find(context, asked)?;
    if !context.is_authorized(Operation::Delete, Resource::Topic(&topic.name)) {
        let code = ErrorCode::TopicAuthorizationFailed;
        return Err(AdminError::new(code, "Authorization failed."));
    }
    if !context.parts.config.topics.delete_topic_enable {
        let text = "Topic deletion is disabled.";
        return Err(AdminError::new(ErrorCode::TopicDeletionDisabled, text));
    }
    context.charge_mutation(topic.partitions.len(), STRICT_FROM)?;
    context.parts.admin.delete_topic(&topic).await?;
    Ok(topic)
}

fn find(context: &Context, asked: &DeleteTopicState) -> Result<Arc<TopicImage>, AdminError> {
    let has_id = !asked.topic_id.is_zero();
    let (found, missing) = match &asked.name {
        Some(_) if has_id => {
            return Err(invalid("You may not specify both topic name and topic id."));
        }
        None if !has_id => return Err(invalid("Neither topic name nor id were specified.")),
        Some(name) => (
            context.image.topic(name),
            AdminError::new(ErrorCode::UnknownTopicOrPartition, UNKNOWN_TOPIC),
        ),
        None => (
            context.image.topic_by_id(asked.topic_id),
            AdminError::new(ErrorCode::UnknownTopicId, UNKNOWN_TOPIC_ID),
        ),
    };
    found.cloned().ok_or(missing)
}

fn invalid(text: &str) -> AdminError {
    AdminError::new(ErrorCode::InvalidRequest, text)
}

/// What a topic of the request is, by name and id as far as they are known.
fn identity(context: &Context, asked: &DeleteTopicState) -> (Option<String>, TopicId) {
    let known = match &asked.name {
        Some(name) => context.image.topic(name),
        None => context.image.topic_by_id(asked.topic_id),
    };
    match known {
        Some(topic) => (Some(topic.name.to_string()), topic.id),
        None => (asked.name.as_ref().map(ToString::to_string), asked.topic_id),
    }
}

fn count(
    context: &Context,
    asked: &[DeleteTopicState],
) -> BTreeMap<(Option<String>, TopicId), usize> {
    let mut counts = BTreeMap::new();
    // What has neither name nor id is no topic and thus none twice.
    let topics = asked.iter().filter(|topic| topic.name.is_some() || !topic.topic_id.is_zero());
    for topic in topics {
        *counts.entry(identity(context, topic)).or_insert(0) += 1;
    }
    counts
}
