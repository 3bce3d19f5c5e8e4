//! What is answered: the APIs that need no more than the tree.

use std::collections::BTreeSet;

use ottla_common::cluster_tree::Endpoint;
use ottla_common::kafka::messages::api_versions::response::ApiVersion;
use ottla_common::kafka::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_common::kafka::messages::describe_cluster::response::DescribeClusterBroker;
use ottla_common::kafka::messages::describe_cluster::{
    DescribeClusterRequest, DescribeClusterResponse,
};
use ottla_common::kafka::messages::find_coordinator::response::Coordinator;
use ottla_common::kafka::messages::find_coordinator::{
    FindCoordinatorRequest, FindCoordinatorResponse,
};
use ottla_common::kafka::messages::init_producer_id::{
    InitProducerIdRequest, InitProducerIdResponse,
};
use ottla_common::kafka::messages::metadata::request::MetadataRequestTopic;
use ottla_common::kafka::messages::metadata::response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_common::kafka::messages::metadata::{MetadataRequest, MetadataResponse};
use ottla_common::kafka::wire::KafkaString;
use ottla_common::kafka::{ApiKey, ErrorCode};
use ottla_common::types::BrokerId;

use super::APIS;
use super::directory::{Directory, Partition, Topic};

/// Authorized operations as bits, as a broker without an authorizer tells them.
const TOPIC_OPERATIONS: i32 = 3576;
const CLUSTER_OPERATIONS: i32 = 8096;

/// The endpoint types of KIP-919.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// The listener that is told unless another is configured.
const USUAL_LISTENER: &str = "PLAINTEXT";

/// One request's look at the cluster.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The cluster.
    pub directory: &'a Directory,
    /// `kafka.listener.name`
    pub listener: Option<&'a str>,
    /// The version of the request.
    pub version: i16,
}

impl View<'_> {
    /// ApiVersions. A client that means a broker by this address must look for it again (KIP-1242).
    pub fn api_versions(&self, request: &ApiVersionsRequest) -> ApiVersionsResponse {
        let error = match (&request.cluster_id, request.node_id) {
            (None, -1) => ErrorCode::None,
            (None, _) | (_, ..0) => ErrorCode::InvalidRequest,
            (Some(_), _) => ErrorCode::RebootstrapRequired,
        };
        if error != ErrorCode::None {
            return ApiVersionsResponse {
                error_code: error.code(),
                ..ApiVersionsResponse::default()
            };
        }
        let all = APIS.iter().map(|api| range(*api));
        ApiVersionsResponse { api_keys: all.collect(), ..ApiVersionsResponse::default() }
    }

    /// Metadata, as a broker answers it, but that no topic is ever created for it.
    pub fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let topics = match &request.topics {
            Some(topics) if !(topics.is_empty() && self.version == 0) => {
                let mut seen = BTreeSet::new();
                let distinct = topics.iter();
                let distinct = distinct.filter(|topic| seen.insert((&topic.name, topic.topic_id)));
                distinct.map(|topic| self.asked_topic(topic, request)).collect()
            }
            _ => self.directory.topics.values().map(|topic| self.topic(topic, request)).collect(),
        };
        let brokers = self.endpoints().map(|(id, endpoint, rack)| MetadataResponseBroker {
            node_id: id.0,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack: rack.map(Into::into),
            ..MetadataResponseBroker::default()
        });
        let wants_cluster = request.include_cluster_authorized_operations;
        MetadataResponse {
            brokers: brokers.collect(),
            cluster_id: self.directory.cluster_id.as_deref().map(Into::into),
            controller_id: self.controller_id(),
            topics,
            cluster_authorized_operations: if wants_cluster {
                CLUSTER_OPERATIONS
            } else {
                i32::MIN
            },
            ..MetadataResponse::default()
        }
    }

    fn asked_topic(
        &self,
        asked: &MetadataRequestTopic,
        request: &MetadataRequest,
    ) -> MetadataResponseTopic {
        /// The first version that may ask by topic id, and that may be answered without a name.
        const TOPIC_IDS_FROM: i16 = 12;
        let by_id = !asked.topic_id.is_zero();
        let found = match &asked.name {
            _ if self.version < TOPIC_IDS_FROM && (by_id || asked.name.is_none()) => {
                Err(ErrorCode::InvalidRequest)
            }
            _ if by_id => {
                self.directory.topic_by_id(asked.topic_id).ok_or(ErrorCode::UnknownTopicId)
            }
            None => Err(ErrorCode::InvalidRequest),
            Some(name) => match self.directory.topics.get(name.as_str()) {
                None if !is_valid_name(name) => Err(ErrorCode::InvalidTopicException),
                found => found.ok_or(ErrorCode::UnknownTopicOrPartition),
            },
        };
        let error = match found {
            Ok(topic) => return self.topic(topic, request),
            Err(error) => error,
        };
        let is_named = error != ErrorCode::UnknownTopicId;
        MetadataResponseTopic {
            error_code: error.code(),
            name: is_named.then(|| asked.name.clone().unwrap_or_default()),
            topic_id: asked.topic_id,
            topic_authorized_operations: topic_operations(request),
            ..MetadataResponseTopic::default()
        }
    }

    fn topic(&self, topic: &Topic, request: &MetadataRequest) -> MetadataResponseTopic {
        let partitions = (0_i32..).zip(&topic.partitions);
        MetadataResponseTopic {
            name: Some(topic.name.as_str().into()),
            topic_id: topic.id,
            is_internal: topic.is_internal(),
            partitions: partitions.map(|(index, part)| self.partition(index, part)).collect(),
            topic_authorized_operations: topic_operations(request),
            ..MetadataResponseTopic::default()
        }
    }

    fn partition(&self, index: i32, partition: &Partition) -> MetadataResponsePartition {
        let is_here = |id: &BrokerId| self.directory.brokers.contains_key(id);
        let (error, leader_id) = match partition.state.leader.filter(is_here) {
            None => (ErrorCode::LeaderNotAvailable, -1),
            Some(id) if self.endpoint(id).is_some() => (ErrorCode::None, id.0),
            // Not known to clients before version 6.
            Some(_) if self.version < 6 => (ErrorCode::LeaderNotAvailable, -1),
            Some(_) => (ErrorCode::ListenerNotFound, -1),
        };
        let offline = partition.replicas.iter().filter(|id| !is_here(id));
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: index,
            leader_id,
            leader_epoch: partition.state.leader_epoch,
            replica_nodes: partition.replicas.iter().map(|id| id.0).collect(),
            isr_nodes: partition.state.isr.iter().map(|id| id.0).collect(),
            offline_replicas: offline.map(|id| id.0).collect(),
            ..MetadataResponsePartition::default()
        }
    }

    /// DescribeCluster, as a broker answers it.
    pub fn describe_cluster(&self, request: &DescribeClusterRequest) -> DescribeClusterResponse {
        let refused = |error: ErrorCode, message: String| DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(message.into()),
            ..DescribeClusterResponse::default()
        };
        match request.endpoint_type {
            BROKERS => {}
            CONTROLLERS => {
                let text = "Brokers are known here, and no controllers of their own";
                return refused(ErrorCode::MismatchedEndpointType, text.to_owned());
            }
            other => {
                let text = format!("Unsupported endpoint type {other}");
                return refused(ErrorCode::UnsupportedEndpointType, text);
            }
        }
        let brokers = self.endpoints().map(|(id, endpoint, rack)| DescribeClusterBroker {
            broker_id: id.0,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack: rack.map(Into::into),
            ..DescribeClusterBroker::default()
        });
        let wants_operations = request.include_cluster_authorized_operations;
        DescribeClusterResponse {
            cluster_id: self.directory.cluster_id.as_deref().unwrap_or_default().into(),
            controller_id: self.controller_id(),
            brokers: brokers.collect(),
            cluster_authorized_operations: if wants_operations {
                CLUSTER_OPERATIONS
            } else {
                i32::MIN
            },
            ..DescribeClusterResponse::default()
        }
    }

    /// FindCoordinator: who leads the partition of the internal topic that the key belongs to.
    /// While the topic is not there the answer is to ask again, and by then the client knows the
    /// brokers, which make such topics.
    pub fn find_coordinator(&self, request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
        let many = self.version >= 4;
        let keys = if many {
            request.coordinator_keys.as_slice()
        } else {
            std::slice::from_ref(&request.key)
        };
        let found = keys.iter().map(|key| {
            let mut found = Coordinator { key: key.clone(), ..Coordinator::default() };
            match self.coordinator_of(request.key_type, key) {
                Ok((id, endpoint)) => {
                    found.node_id = id.0;
                    found.host = endpoint.host.as_str().into();
                    found.port = i32::from(endpoint.port);
                }
                Err(error) => {
                    (found.node_id, found.port, found.error_code) = (-1, -1, error.code());
                }
            }
            found
        });
        let mut found: Vec<Coordinator> = found.collect();
        if many {
            let coordinators = found;
            return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
        }
        let Coordinator { node_id, host, port, error_code, .. } = found.pop().unwrap_or_default();
        FindCoordinatorResponse {
            node_id,
            host,
            port,
            error_code,
            ..FindCoordinatorResponse::default()
        }
    }

    fn coordinator_of(&self, key_type: i8, key: &str) -> Result<(BrokerId, &Endpoint), ErrorCode> {
        let topic = match key_type {
            0 => "__consumer_offsets",
            1 => "__transaction_state",
            2 => "__share_group_state",
            _ => return Err(ErrorCode::InvalidRequest),
        };
        let found = || {
            let partitions = &self.directory.topics.get(topic)?.partitions;
            let count = u32::try_from(partitions.len()).ok().filter(|count| *count > 0)?;
            let partition = java_hash(key) % count;
            let leader = partitions.get(usize::try_from(partition).ok()?)?.state.leader?;
            Some((leader, self.endpoint(leader)?))
        };
        found().ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// InitProducerId: ask again. A producer may ask the first address that it was given before it
    /// knows any broker; by the next time it does, and asks one.
    pub fn init_producer_id(&self, _: &InitProducerIdRequest) -> InitProducerIdResponse {
        InitProducerIdResponse {
            error_code: ErrorCode::CoordinatorLoadInProgress.code(),
            producer_id: -1,
            ..InitProducerIdResponse::default()
        }
    }

    /// Whether there is a broker that clients can reach.
    pub fn knows_brokers(&self) -> bool {
        self.endpoints().next().is_some()
    }

    fn controller_id(&self) -> i32 {
        let controller = self.directory.controller;
        controller.filter(|id| self.endpoint(*id).is_some()).map_or(-1, |id| id.0)
    }

    /// Where clients reach a broker.
    fn endpoint(&self, id: BrokerId) -> Option<&Endpoint> {
        let endpoints = &self.directory.brokers.get(&id)?.endpoints;
        let named = |name: &str| endpoints.iter().find(|endpoint| endpoint.listener == name);
        match self.listener {
            Some(name) => named(name),
            None => named(USUAL_LISTENER).or(endpoints.first()),
        }
    }

    /// The brokers that clients can reach: where, and their racks.
    fn endpoints(&self) -> impl Iterator<Item = (BrokerId, &Endpoint, Option<&str>)> {
        self.directory
            .brokers
            .iter()
            .filter_map(|(id, broker)| Some((*id, self.endpoint(*id)?, broker.rack.as_deref())))
    }
}

/// The answer to an ApiVersions request of a version that nobody knows yet, in a body of version 0
/// (KIP-511).
pub fn unknown_api_versions() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|(key, _)| *key == ApiKey::ApiVersions);
    ApiVersionsResponse {
        error_code: ErrorCode::UnsupportedVersion.code(),
        api_keys: own.map(|api| range(*api)).collect(),
        ..ApiVersionsResponse::default()
    }
}

fn range((key, (min_version, max_version)): (ApiKey, (i16, i16))) -> ApiVersion {
    ApiVersion { api_key: key.code(), min_version, max_version, ..ApiVersion::default() }
}

fn topic_operations(request: &MetadataRequest) -> i32 {
    if request.include_topic_authorized_operations { TOPIC_OPERATIONS } else { i32::MIN }
}

/// Whether a name can be a topic's.
fn is_valid_name(name: &KafkaString) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let name = name.as_str();
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.bytes().all(is_legal)
}

/// Java's `String.hashCode`, made positive as Kafka does to choose a partition.
fn java_hash(text: &str) -> u32 {
    let units = text.encode_utf16();
    let hash = units.fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    if hash == i32::MIN { 0 } else { hash.unsigned_abs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_belongs_to_the_partition_that_kafka_puts_it_to() {
        // As `"...".hashCode()` has them.
        assert_eq!(java_hash(""), 0);
        assert_eq!(java_hash("my-group"), 1_906_497_762, "the sign goes");
        assert_eq!(java_hash("group-1"), 293_427_299);
        assert_eq!(java_hash("polygenelubricants"), 0, "the smallest number has no absolute value");
    }
}
