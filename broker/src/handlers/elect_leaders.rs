//! ElectLeaders (key 43), versions 0 to 2.
//!
//! Behaviour:
//! - Gives partitions back to their preferred leaders, or gives those that nobody leads to any
//!   replica that lives, though records may be lost.
//! - A null list of partitions stands for all; of those, only what was elected or failed is told.
//! - This broker writes the elections itself, whether or not it is the controller; when it answers,
//!   its own image shows them.
//!
//! Version notes: 1 the election's type and an error for the whole; 2 flexible.
//!
//! Missing: the timeout is not observed, as in CreateTopics.

use std::collections::BTreeMap;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::elect_leaders::response::{
    PartitionResult, ReplicaElectionResult,
};
use ottla_common::kafka::messages::elect_leaders::{ElectLeadersRequest, ElectLeadersResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::controller::movements::{PerPartition, Wanted};
use crate::metadata::image::MetadataImage;

/// The types of elections on the wire.
const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Serves a request.
pub async fn handle(context: Context, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let refused = |code: ErrorCode| ElectLeadersResponse {
        error_code: code.code(),
        ..ElectLeadersResponse::default()
    };
    if !context.is_authorized(Operation::Alter, Resource::Cluster) {
        return refused(ErrorCode::ClusterAuthorizationFailed);
    }
    let wanted = match request.election_type {
        PREFERRED => Wanted::Preferred,
        UNCLEAN => Wanted::Unclean,
        _ => return refused(ErrorCode::InvalidRequest),
    };
    // The newest image: the request before this one may have changed something.
    let image = context.parts.image.load();
    let names_all = request.topic_partitions.is_none();
    let asked = match request.topic_partitions {
        None => all_partitions(&image),
        Some(topics) => {
            let mut asked = PerPartition::new();
            for topic in topics {
                let numbers = topic.partitions.into_iter().map(|number| (number, ()));
                asked.entry(topic.topic.as_str().into()).or_default().extend(numbers);
            }
            asked
        }
    };
    let outcomes = context.parts.admin.elect_leaders(wanted, asked).await;
    let elected = outcomes.values().flat_map(|of_topic| of_topic.values());
    let count = u64::try_from(elected.filter(|outcome| outcome.is_ok()).count()).unwrap_or(0);
    context.parts.metrics.leader_elections.add(count);
    if wanted == Wanted::Unclean {
        context.parts.metrics.unclean_leader_elections.add(count);
    }
    let results = outcomes.into_iter().map(|(topic, partitions)| {
        let told = partitions.into_iter().filter_map(|(partition_id, outcome)| {
            let error = outcome.err();
            let code = error.as_ref().map_or(ErrorCode::None, |error| error.code);
            let message = error.map(|error| error.message).filter(|text| !text.is_empty());
            let is_told = !(names_all && code == ErrorCode::ElectionNotNeeded);
            is_told.then(|| PartitionResult {
                partition_id,
                error_code: code.code(),
                error_message: message.map(Into::into),
                ..PartitionResult::default()
            })
        });
        ReplicaElectionResult {
            topic: (&*topic).into(),
            partition_result: told.collect(),
            ..ReplicaElectionResult::default()
        }
    });
    ElectLeadersResponse {
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    }
}

fn all_partitions(image: &MetadataImage) -> PerPartition<()> {
    let topics = image.topics.values().map(|topic| {
        let numbers = (0_i32..).take(topic.partitions.len()).map(|number| (number, ()));
        (topic.name.clone(), numbers.collect::<BTreeMap<_, _>>())
    });
    topics.collect()
}
