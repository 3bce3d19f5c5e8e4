//! CreatePartitions (key 37), versions 0 to 3.
//!
//! Behaviour:
//! - Grows each topic to a number of partitions, placed by the broker or as the request says.
//! - A topic that is named twice is INVALID_REQUEST.
//!
//! Version notes: 2 flexible; 3 quota violations are errors.
//!
//! Missing: the timeout is not observed, as in CreateTopics.

use std::collections::BTreeSet;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::create_partitions::request::CreatePartitionsTopic;
use ottla_common::kafka::messages::create_partitions::response::CreatePartitionsTopicResult;
use ottla_common::kafka::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse,
};
use ottla_common::types::BrokerId;

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::controller::admin::AdminError;

/// The first version that is refused what is beyond its quota.
const STRICT_FROM: i16 = 3;

/// Serves a request.
pub async fn handle(
    context: Context,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut seen = BTreeSet::new();
    let names = request.topics.iter().map(|topic| topic.name.clone());
    let doubles: BTreeSet<_> = names.filter(|name| !seen.insert(name.clone())).collect();
    let mut results: Vec<CreatePartitionsTopicResult> = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let is_double = doubles.contains(&topic.name);
        if is_double && results.iter().any(|result| result.name == topic.name) {
            continue;
        }
        let grown = match is_double {
            true => Err((ErrorCode::InvalidRequest, Some("Duplicate topic name.".to_owned()))),
            false => grow(&context, &topic, request.validate_only).await,
        };
        let (code, message) = grown.err().unwrap_or((ErrorCode::None, None));
        results.push(CreatePartitionsTopicResult {
            name: topic.name,
            error_code: code.code(),
            error_message: message.map(Into::into),
            ..CreatePartitionsTopicResult::default()
        });
    }
    CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() }
}

async fn grow(
    context: &Context,
    asked: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), (ErrorCode, Option<String>)> {
    if !context.is_authorized(Operation::Alter, Resource::Topic(&asked.name)) {
        return Err((ErrorCode::TopicAuthorizationFailed, None));
    }
    // The newest image: the request before this one may have created the topic.
    let image = context.parts.image.load();
    let Some(topic) = image.topic(&asked.name) else {
        return Err((ErrorCode::UnknownTopicOrPartition, None));
    };
    let placed = asked.assignments.as_ref().map(|assignments| {
        let brokers = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect();
        assignments.iter().map(|assignment| brokers(&assignment.broker_ids)).collect()
    });
    let refused = |AdminError { code, message }| (code, Some(message));
    let admin = &context.parts.admin;
    if context.limits_mutations() {
        // What cannot be made is not charged for.
        let checked = admin.create_partitions(topic, asked.count, placed.clone(), true).await;
        checked.map_err(refused)?;
        let total = usize::try_from(asked.count).unwrap_or(0);
        let added = total.saturating_sub(topic.partitions.len());
        context.charge_mutation(added, STRICT_FROM).map_err(refused)?;
    }
    let grown = admin.create_partitions(topic, asked.count, placed, validate_only).await;
    grown.map_err(refused)
}
