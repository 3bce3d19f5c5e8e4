//! CreateTopics (key 19), versions 2 to 7.
//!
//! Behaviour:
//! - Each topic is judged and created by itself; a name that is there twice is refused.
//! - -1 partitions or replicas mean the broker's defaults; with an assignment both must be -1.
//! - The reply comes when this broker's image shows the topics.
//!
//! Version notes: 4 defaults (KIP-464); 5 flexible, and the response tells partitions, replicas and
//! configs (KIP-525); 7 topic ids (KIP-516).
//!
//! Missing: the timeout is not observed, since a write to the coordinator either succeeds soon or
//! is reported as unknown by itself.

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::create_topics::request::CreatableTopic;
use ottla_common::kafka::messages::create_topics::response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use ottla_common::kafka::messages::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::BrokerId;

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::config::Overrides;
use crate::config::describe::describe_topic;
use crate::controller::admin::{AdminError, CreatedTopic, TopicSpec};
use crate::limits::PARTITIONS_PER_TOPIC_MAX;

/// What KRaft keeps its log in; no client may take it.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// The first version whose response tells of partitions, replicas and configs.
const DETAILS_FROM: i16 = 5;

/// The first version that is refused what is beyond its quota.
const STRICT_FROM: i16 = 6;

/// Serves a request.
pub async fn handle(context: Context, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let doubles = doubles(&request.topics);
    let is_excessive = partitions_in_all(&request.topics) > PARTITIONS_PER_TOPIC_MAX;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        if doubles.contains(&name) {
            if !topics.iter().any(|result: &CreatableTopicResult| result.name == name) {
                let text = "Duplicate topic name.";
                topics.push(refusal(name, &AdminError::new(ErrorCode::InvalidRequest, text)));
            }
            continue;
        }
        let configs = configs_of(&topic);
        let created = match is_excessive {
            true => Err(excessive()),
            false => create(&context, topic, configs.clone(), request.validate_only).await,
        };
        topics.push(match created {
            Ok(created) => success(&context, (name, configs), created),
            Err(error) => refusal(name, &error),
        });
    }
    CreateTopicsResponse { topics, ..CreateTopicsResponse::default() }
}

async fn create(
    context: &Context,
    topic: CreatableTopic,
    configs: Vec<(String, Option<String>)>,
    validate_only: bool,
) -> Result<CreatedTopic, AdminError> {
    if !context.is_authorized(Operation::Create, Resource::Topic(&topic.name)) {
        let code = ErrorCode::TopicAuthorizationFailed;
        return Err(AdminError::new(code, "Authorization failed."));
    }
    let invalid = |text: String| AdminError::new(ErrorCode::InvalidRequest, text);
    if &*topic.name == CLUSTER_METADATA_TOPIC {
        return Err(invalid(format!("Creation of internal topic {} is prohibited.", topic.name)));
    }
    if !topic.assignments.is_empty() {
        let assigned = "A manual partition assignment was specified, but";
        if topic.replication_factor != -1 {
            return Err(invalid(format!("{assigned} replication factor was not set to -1.")));
        }
        if topic.num_partitions != -1 {
            return Err(invalid(format!("{assigned} numPartitions was not set to -1.")));
        }
    }
    let nulls = configs.iter().filter(|(_, value)| value.is_none());
    let nulls: Vec<&str> = nulls.map(|(name, _)| name.as_str()).collect();
    if !nulls.is_empty() {
        let text = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(AdminError::new(ErrorCode::InvalidConfig, text));
    }
    let mut assignments = BTreeMap::new();
    for assignment in &topic.assignments {
        let brokers = assignment.broker_ids.iter().copied().map(BrokerId).collect();
        if assignments.insert(assignment.partition_index, brokers).is_some() {
            let text = "Found multiple manual partition assignments for one partition.";
            return Err(AdminError::new(ErrorCode::InvalidReplicaAssignment, text));
        }
    }
    let spec = TopicSpec {
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments,
        configs,
    };
    let admin = &context.parts.admin;
    if context.limits_mutations() {
        // What cannot be made is not charged for.
        let checked = admin.create_topic(spec.clone(), true).await?;
        context.charge_mutation(usize::try_from(checked.partitions).unwrap_or(0), STRICT_FROM)?;
    }
    admin.create_topic(spec, validate_only).await
}

fn success(
    context: &Context,
    (name, configs): (KafkaString, Vec<(String, Option<String>)>),
    created: CreatedTopic,
) -> CreatableTopicResult {
    let result = CreatableTopicResult {
        name,
        topic_id: created.id,
        error_message: None,
        ..CreatableTopicResult::default()
    };
    if context.version() < DETAILS_FROM {
        return result;
    }
    let set: Overrides =
        configs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let image = context.parts.image.load();
    let own = image.broker_overrides(context.parts.broker_id);
    let all = image.default_broker_overrides();
    let entries = describe_topic(&set, &context.parts.config.layers(&own, &all));
    let configs = entries.into_iter().map(|entry| CreatableTopicConfigs {
        name: entry.name.into(),
        value: entry.value.map(Into::into),
        read_only: entry.read_only,
        config_source: entry.source.code(),
        is_sensitive: entry.sensitive,
        ..CreatableTopicConfigs::default()
    });
    CreatableTopicResult {
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs.collect()),
        ..result
    }
}

fn refusal(name: KafkaString, error: &AdminError) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: error.code.code(),
        error_message: Some(error.message.as_str().into()),
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}

fn excessive() -> AdminError {
    let text = "Excessively large number of partitions per request.";
    AdminError::new(ErrorCode::PolicyViolation, text)
}

/// The configs of a topic; of a key that is there more than once, the last value.
fn configs_of(topic: &CreatableTopic) -> Vec<(String, Option<String>)> {
    let configs = topic.configs.iter().map(|config| {
        let value = config.value.as_ref().map(ToString::to_string);
        (config.name.to_string(), value)
    });
    configs.collect::<BTreeMap<_, _>>().into_iter().collect()
}

/// The names that are there more than once.
fn doubles(topics: &[CreatableTopic]) -> BTreeSet<KafkaString> {
    let mut seen = BTreeSet::new();
    let names = topics.iter().map(|topic| topic.name.clone());
    names.filter(|name| !seen.insert(name.clone())).collect()
}

/// How many partitions a request asks for, defaults counted as one.
fn partitions_in_all(topics: &[CreatableTopic]) -> usize {
    let counts = topics.iter().map(|topic| {
        usize::try_from(topic.num_partitions).unwrap_or(topic.assignments.len()).max(1)
    });
    counts.fold(0, usize::saturating_add)
}
