//! What a handler is given besides its request: the parts of the broker, the connection, the
//! header, and one image of the cluster, so that no reply mixes two states of it.

use std::sync::Arc;

use ottla_common::clock::Clock;
use ottla_common::cluster_tree::Endpoint;
use ottla_common::kafka::frame::EncodedFrame;
use ottla_common::kafka::request::RequestHeader;
use ottla_common::kafka::response::{Response, encode_response};
use ottla_common::types::BrokerId;

use super::authorization::{Operation, Resource};
use super::charging::Charge;
use crate::config::BrokerConfig;
use crate::controller::admin::ClusterAdmin;
use crate::controller::producer_ids::ProducerIds;
use crate::groups::Groups;
use crate::metadata::image::{BrokerImage, MetadataImage};
use crate::metadata::watcher::ImageHandle;
use crate::metrics::Metrics;
use crate::network::{Close, ConnectionInfo, Reply};
use crate::quotas::Quotas;
use crate::replication::fetch_sessions::{FetchSessions, SessionLimits};
use crate::replication::replica_manager::ReplicaManager;
use crate::security::inter_broker::Secret;
use crate::telemetry::ClientTelemetry;

/// The parts of a broker that answer requests.
pub struct Parts {
    /// What the broker was started with.
    pub config: Arc<BrokerConfig>,
    /// Its number.
    pub broker_id: BrokerId,
    /// What it knows of the cluster.
    pub image: ImageHandle,
    /// The partitions that it holds.
    pub replicas: Arc<ReplicaManager>,
    /// Writes to the coordinator's tree.
    pub admin: Arc<ClusterAdmin>,
    /// Ids for idempotent producers.
    pub producer_ids: Arc<ProducerIds>,
    /// What consumers fetch.
    pub fetch_sessions: FetchSessions,
    /// The groups that this broker keeps.
    pub groups: Groups,
    /// What brokers prove to know.
    pub secret: Secret,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What clients tell of themselves.
    pub telemetry: ClientTelemetry,
    /// What clients are held to.
    pub quotas: Arc<Quotas>,
}

impl Parts {
    /// The parts, with no fetch session yet.
    pub fn new(
        config: Arc<BrokerConfig>,
        image: ImageHandle,
        replicas: Arc<ReplicaManager>,
        (admin, producer_ids, groups, secret): (
            Arc<ClusterAdmin>,
            Arc<ProducerIds>,
            Groups,
            Secret,
        ),
    ) -> Self {
        let slots = config.network.max_incremental_fetch_session_cache_slots;
        let limits = SessionLimits {
            sessions_max: usize::try_from(slots).unwrap_or(usize::MAX),
            ..SessionLimits::default()
        };
        let telemetry_size_max = config.network.telemetry_max_bytes;
        let telemetry_size_max = usize::try_from(telemetry_size_max).unwrap_or(usize::MAX);
        Self {
            broker_id: config.broker_id,
            quotas: Arc::new(Quotas::new(&config.quotas)),
            config,
            image,
            replicas,
            admin,
            producer_ids,
            fetch_sessions: FetchSessions::new(limits),
            groups,
            secret,
            metrics: Arc::default(),
            telemetry: ClientTelemetry::new(Clock::system(), telemetry_size_max),
        }
    }
}

/// What a handler is given besides its request.
#[derive(Clone)]
pub struct Context {
    /// The broker.
    pub parts: Arc<Parts>,
    /// The client.
    pub connection: Arc<ConnectionInfo>,
    /// The request's header.
    pub header: RequestHeader,
    /// The cluster, as it was when the request came.
    pub image: Arc<MetadataImage>,
    /// What the request uses of the client's quotas, if it is held to any.
    pub charge: Option<Arc<Charge>>,
}

impl Context {
    /// The version of the request.
    pub fn version(&self) -> i16 {
        self.header.api_version
    }

    /// What the response to the request is encoded with.
    pub fn answer(&self) -> Answer {
        Answer {
            version: self.header.api_version,
            correlation_id: self.header.correlation_id,
            charge: self.charge.clone(),
        }
    }

    /// Answers the request at once.
    pub fn reply<R: Response>(&self, response: R) -> Result<Reply, Close> {
        self.answer().encode(response).map(Reply::Now)
    }

    /// Whether the client may do this. Everyone may do everything as yet: there is no authorizer,
    /// which in Kafka means the same.
    pub fn is_authorized(&self, _operation: Operation, _resource: Resource<'_>) -> bool {
        true
    }

    /// Where clients of this connection's listener reach a broker.
    pub fn endpoint<'a>(&self, broker: &'a BrokerImage) -> Option<&'a Endpoint> {
        broker.endpoint(&self.connection.listener)
    }

    /// A broker that lives and that clients of this connection's listener reach.
    pub fn reachable_broker(&self, id: BrokerId) -> Option<(&BrokerImage, &Endpoint)> {
        let broker = self.image.brokers.get(&id)?;
        Some((broker, self.endpoint(broker)?))
    }

    /// Who leads a partition and since which leader epoch, for clients that asked the wrong broker
    /// (KIP-951).
    pub fn leader_of(&self, topic: &str, partition: i32) -> Option<(BrokerId, i32)> {
        let partition = self.image.topic(topic)?.partition(partition)?;
        Some((partition.leader?, partition.leader_epoch))
    }
}

/// What a response is encoded with.
#[derive(Clone)]
pub struct Answer {
    /// The version of the request.
    pub version: i16,
    /// What the client knows its request by.
    pub correlation_id: i32,
    /// What is charged for it.
    pub charge: Option<Arc<Charge>>,
}

impl Answer {
    /// The response as it goes out. It says how long the client has to wait before its next request
    /// is read, and from now on the connection is muted for as long.
    pub fn encode<R: Response>(&self, mut response: R) -> Result<EncodedFrame, Close> {
        let throttle_ms = self.charge.as_ref().map_or(0, |charge| charge.settle());
        if let Some(told) = response.throttle_time_ms_mut().filter(|_| throttle_ms > 0) {
            *told = throttle_ms;
        }
        Ok(encode_response(self.version, self.correlation_id, &response)?)
    }
}
