//! Metadata (key 3), versions 0 to 13.
//!
//! Behaviour:
//! - Tells the live brokers under the addresses of the listener that the client came through, and
//!   the topics asked for, by name or id, in the order of the request; all topics by name.
//! - A topic that is not there is created if client and broker want it; the reply waits a moment
//!   for it, and says LEADER_NOT_AVAILABLE if it takes longer.
//! - A partition without a leader is LEADER_NOT_AVAILABLE with leader -1; its leader epoch stays.
//!
//! Version notes: 0 an empty list means all topics; 1 null means all, empty none; 4 the client may
//! forbid creation; 5 offline replicas; 7 leader epochs; 8 authorized operations; 9 flexible; 10
//! topic ids in the response; 11 no cluster operations any more; 12 topics by id (KIP-516); 13 an
//! error for the whole response (KIP-1102), never needed here.
//!
//! Missing: nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::metadata::request::MetadataRequestTopic;
use ottla_common::kafka::messages::metadata::response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_common::kafka::messages::metadata::{MetadataRequest, MetadataResponse};
use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::TopicId;

use super::Served;
use super::authorization::{CLUSTER_OPERATIONS, Operation, Resource, TOPIC_OPERATIONS};
use super::context::Context;
use super::topics::{PartitionView, is_valid_name};
use crate::limits;
use crate::metadata::image::{PartitionImage, TopicImage, is_internal_name};

/// The first version that may ask by topic id.
const TOPIC_IDS_FROM: i16 = 12;

/// How long a reply waits for topics that it creates.
const CREATION_PATIENCE: Duration = Duration::from_secs(2);

/// Serves a request.
pub fn handle(context: Context, request: MetadataRequest) -> Served {
    let missing = topics_to_create(&context, &request);
    if missing.is_empty() {
        return Served::Now(context.reply(respond(&context, &request, &Created::default())));
    }
    Served::Later(Box::pin(async move {
        let created = create(&context, missing).await;
        let context = Context { image: context.parts.image.load(), ..context };
        context.reply(respond(&context, &request, &created))
    }))
}

/// What became of the topics that a request wanted created.
#[derive(Default)]
struct Created {
    /// Names that are being created.
    coming: BTreeSet<KafkaString>,
    /// Names whose creation was refused, and why.
    refused: Vec<(KafkaString, ErrorCode)>,
}

/// The names that are to be created for a request.
fn topics_to_create(context: &Context, request: &MetadataRequest) -> Vec<KafkaString> {
    let is_wanted = request.allow_auto_topic_creation || context.version() < 4;
    if !is_wanted || !context.parts.config.topics.auto_create_topics_enable {
        return Vec::new();
    }
    let names = request.topics.iter().flatten().filter(|topic| topic.topic_id.is_zero());
    let names: BTreeSet<_> = names.filter_map(|topic| topic.name.as_ref()).collect();
    let is_missing = |name: &&&KafkaString| context.image.topic(name).is_none();
    let missing = names.iter().filter(is_missing).filter(|name| {
        // The broker makes internal topics itself, when it needs them.
        let may_create = context.is_authorized(Operation::Create, Resource::Topic(name));
        is_valid_name(name) && !is_internal_name(name) && may_create
    });
    missing.take(limits::AUTO_CREATED_TOPICS_MAX).map(|name| name.detached()).collect()
}

/// Creates topics, at most as long as a client should wait.
async fn create(context: &Context, names: Vec<KafkaString>) -> Created {
    let mut created = Created { coming: names.iter().cloned().collect(), refused: Vec::new() };
    let creating = async {
        for name in names {
            match context.parts.admin.auto_create_topic(&name).await {
                Ok(_) => {}
                Err(error) if error.code == ErrorCode::TopicAlreadyExists => {}
                Err(error) if error.code == ErrorCode::RequestTimedOut => {}
                Err(error) => {
                    tracing::info!(topic = %name, %error, "topic not created on demand");
                    created.coming.remove(&name);
                    created.refused.push((name, error.code));
                }
            }
        }
    };
    // What was begun goes on or not, and the client asks again.
    let _ = tokio::time::timeout(CREATION_PATIENCE, creating).await;
    created
}

fn respond(context: &Context, request: &MetadataRequest, created: &Created) -> MetadataResponse {
    let image = &context.image;
    let version = context.version();
    let brokers = image.brokers.values().filter_map(|broker| {
        let endpoint = context.endpoint(broker)?;
        Some(MetadataResponseBroker {
            node_id: broker.id.0,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Into::into),
            ..MetadataResponseBroker::default()
        })
    });
    let view = View { context, request, created };
    let topics = match &request.topics {
        Some(topics) if !(topics.is_empty() && version == 0) => {
            let mut seen = BTreeSet::new();
            let distinct = topics.iter().filter(|topic| seen.insert((&topic.name, topic.topic_id)));
            distinct.map(|topic| view.asked_topic(topic)).collect()
        }
        _ => image.topics.values().map(|topic| view.topic(topic)).collect(),
    };
    let wants_cluster = request.include_cluster_authorized_operations;
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: image.cluster_id.as_deref().map(Into::into),
        controller_id: image.controller.map_or(-1, |id| id.0),
        topics,
        cluster_authorized_operations: if wants_cluster { CLUSTER_OPERATIONS } else { i32::MIN },
        ..MetadataResponse::default()
    }
}

struct View<'a> {
    context: &'a Context,
    request: &'a MetadataRequest,
    created: &'a Created,
}

impl View<'_> {
    fn asked_topic(&self, asked: &MetadataRequestTopic) -> MetadataResponseTopic {
        let has_id = !asked.topic_id.is_zero();
        if self.context.version() < TOPIC_IDS_FROM && (has_id || asked.name.is_none()) {
            // Null cannot be answered before version 12.
            let name = asked.name.clone().unwrap_or_default();
            return self.missing(ErrorCode::InvalidRequest, Some(name), asked.topic_id);
        }
        if has_id {
            return match self.context.image.topic_by_id(asked.topic_id) {
                Some(topic) => self.topic(topic),
                None => self.missing(ErrorCode::UnknownTopicId, None, asked.topic_id),
            };
        }
        let Some(name) = &asked.name else {
            let (error, name) = (ErrorCode::InvalidRequest, KafkaString::default());
            return self.missing(error, Some(name), TopicId::ZERO);
        };
        match self.context.image.topic(name) {
            Some(topic) => self.topic(topic),
            None => self.missing(self.why_missing(name), Some(name.clone()), TopicId::ZERO),
        }
    }

    fn why_missing(&self, name: &KafkaString) -> ErrorCode {
        if !is_valid_name(name) {
            return ErrorCode::InvalidTopicException;
        }
        let refused = self.created.refused.iter().find(|(refused, _)| refused == name);
        match refused {
            Some((_, error)) => *error,
            None if self.created.coming.contains(name) => ErrorCode::LeaderNotAvailable,
            None => ErrorCode::UnknownTopicOrPartition,
        }
    }

    fn missing(
        &self,
        error: ErrorCode,
        name: Option<KafkaString>,
        topic_id: TopicId,
    ) -> MetadataResponseTopic {
        MetadataResponseTopic {
            error_code: error.code(),
            name,
            topic_id,
            topic_authorized_operations: self.topic_operations(),
            ..MetadataResponseTopic::default()
        }
    }

    fn topic(&self, topic: &Arc<TopicImage>) -> MetadataResponseTopic {
        let numbered = (0_i32..).zip(&topic.partitions);
        MetadataResponseTopic {
            name: Some(topic.name.clone().into()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions: numbered.map(|(index, image)| self.partition(index, image)).collect(),
            topic_authorized_operations: self.topic_operations(),
            ..MetadataResponseTopic::default()
        }
    }

    fn partition(&self, index: i32, image: &PartitionImage) -> MetadataResponsePartition {
        let view = PartitionView::new(self.context, image);
        let error = match view.error {
            // Not known to clients before version 6.
            ErrorCode::ListenerNotFound if self.context.version() < 6 => {
                ErrorCode::LeaderNotAvailable
            }
            error => error,
        };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: index,
            leader_id: view.leader_id,
            leader_epoch: view.leader_epoch,
            replica_nodes: view.replicas,
            isr_nodes: view.isr,
            offline_replicas: view.offline,
            ..MetadataResponsePartition::default()
        }
    }

    fn topic_operations(&self) -> i32 {
        if self.request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { i32::MIN }
    }
}
