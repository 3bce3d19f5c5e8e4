//! The APIs. One file each, named as the API is; [`APIS`] is the only list of them, from which
//! requests are dispatched and ApiVersions is answered. `not_offered.md` says what is missing, and
//! why.
//!
//! A handler authorizes, validates, calls one part of the broker and fills the response. What the
//! protocol can say is data in the response; `Err` closes the connection. Handlers that are done
//! when they return are plain functions; those that write to the coordinator's tree are futures,
//! which the connection's next request waits for.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod authorization;
pub mod charging;
pub mod context;
pub mod groups;
pub mod topics;

mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod alter_replica_log_dirs;
mod api_versions;
mod config_resources;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod find_coordinator;
mod get_telemetry_subscriptions;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod push_telemetry;
mod sasl_authenticate;
mod sasl_handshake;
mod sync_group;
mod unregister_broker;
mod update_features;

use std::sync::Arc;
use std::time::Instant;

use ottla_common::kafka::ApiKey;
use ottla_common::kafka::request::{Request, RequestHeader};
use ottla_common::kafka::wire::Reader;

use charging::{Charge, working};
use context::{Context, Parts};

use crate::network::reply::BoxFuture;
use crate::network::{Close, ConnectionInfo, Dispatch, Reply};

/// One API that is served.
pub struct Api {
    /// Which one.
    pub key: ApiKey,
    /// The lowest version that ApiVersions tells.
    pub advertised_min: i16,
    /// The lowest version that is served.
    pub min: i16,
    /// The highest version that is served.
    pub max: i16,
    serve: fn(Context, Reader) -> Served,
}

/// How far a handler got by being called.
enum Served {
    Now(Result<Reply, Close>),
    Later(BoxFuture<Result<Reply, Close>>),
}

const fn api(key: ApiKey, (min, max): (i16, i16), serve: fn(Context, Reader) -> Served) -> Api {
    Api { key, advertised_min: min, min, max, serve }
}

/// Produce is told from version 0 although 0 to 2 are refused: old clients of librdkafka take a
/// higher one to mean that the broker knows no compression (KAFKA-18659).
const PRODUCE: Api = Api {
    advertised_min: 0,
    ..api(ApiKey::Produce, (3, 13), |c, b| staged(c, b, produce::handle))
};

/// All APIs that are served, by key.
pub const APIS: &[Api] = &[
    PRODUCE,
    api(ApiKey::Fetch, (4, 18), |c, b| staged(c, b, fetch::handle)),
    api(ApiKey::ListOffsets, (1, 11), |c, b| plain(c, b, list_offsets::handle)),
    api(ApiKey::Metadata, (0, 13), |c, b| staged_later(c, b, metadata::handle)),
    api(ApiKey::OffsetCommit, (2, 10), |c, b| staged(c, b, offset_commit::handle)),
    api(ApiKey::OffsetFetch, (1, 10), |c, b| staged(c, b, offset_fetch::handle)),
    api(ApiKey::FindCoordinator, (0, 6), |c, b| staged_later(c, b, find_coordinator::handle)),
    api(ApiKey::JoinGroup, (0, 9), |c, b| staged(c, b, join_group::handle)),
    api(ApiKey::Heartbeat, (0, 4), |c, b| staged(c, b, heartbeat::handle)),
    api(ApiKey::LeaveGroup, (0, 5), |c, b| staged(c, b, leave_group::handle)),
    api(ApiKey::SyncGroup, (0, 5), |c, b| staged(c, b, sync_group::handle)),
    api(ApiKey::DescribeGroups, (0, 6), |c, b| staged(c, b, describe_groups::handle)),
    api(ApiKey::ListGroups, (0, 5), |c, b| staged(c, b, list_groups::handle)),
    api(ApiKey::SaslHandshake, (0, 1), |c, b| plain(c, b, sasl_handshake::handle)),
    api(ApiKey::ApiVersions, (0, 5), |c, b| plain(c, b, api_versions::handle)),
    api(ApiKey::CreateTopics, (2, 7), |c, b| later(c, b, create_topics::handle)),
    api(ApiKey::DeleteTopics, (1, 6), |c, b| later(c, b, delete_topics::handle)),
    api(ApiKey::DeleteRecords, (0, 2), |c, b| plain(c, b, delete_records::handle)),
    api(ApiKey::InitProducerId, (0, 5), |c, b| later(c, b, init_producer_id::handle)),
    api(ApiKey::OffsetForLeaderEpoch, (2, 4), |c, b| plain(c, b, offset_for_leader_epoch::handle)),
    api(ApiKey::DescribeConfigs, (1, 4), |c, b| plain(c, b, describe_configs::handle)),
    api(ApiKey::AlterConfigs, (0, 2), |c, b| later(c, b, alter_configs::handle)),
    api(ApiKey::AlterReplicaLogDirs, (1, 2), |c, b| later(c, b, alter_replica_log_dirs::handle)),
    api(ApiKey::DescribeLogDirs, (1, 5), |c, b| plain(c, b, describe_log_dirs::handle)),
    api(ApiKey::SaslAuthenticate, (0, 2), |c, b| plain(c, b, sasl_authenticate::handle)),
    api(ApiKey::CreatePartitions, (0, 3), |c, b| later(c, b, create_partitions::handle)),
    api(ApiKey::DeleteGroups, (0, 3), |c, b| staged(c, b, delete_groups::handle)),
    api(ApiKey::ElectLeaders, (0, 2), |c, b| later(c, b, elect_leaders::handle)),
    api(ApiKey::IncrementalAlterConfigs, (0, 1), |c, b| {
        later(c, b, incremental_alter_configs::handle)
    }),
    api(ApiKey::AlterPartitionReassignments, (0, 1), |c, b| {
        later(c, b, alter_partition_reassignments::handle)
    }),
    api(ApiKey::ListPartitionReassignments, (0, 0), |c, b| {
        plain(c, b, list_partition_reassignments::handle)
    }),
    api(ApiKey::OffsetDelete, (0, 0), |c, b| staged(c, b, offset_delete::handle)),
    api(ApiKey::DescribeClientQuotas, (0, 1), |c, b| plain(c, b, describe_client_quotas::handle)),
    api(ApiKey::AlterClientQuotas, (0, 1), |c, b| later(c, b, alter_client_quotas::handle)),
    api(ApiKey::DescribeQuorum, (0, 2), |c, b| later(c, b, describe_quorum::handle)),
    api(ApiKey::UpdateFeatures, (0, 2), |c, b| later(c, b, update_features::handle)),
    api(ApiKey::DescribeCluster, (0, 2), |c, b| plain(c, b, describe_cluster::handle)),
    api(ApiKey::DescribeProducers, (0, 0), |c, b| plain(c, b, describe_producers::handle)),
    api(ApiKey::UnregisterBroker, (0, 0), |c, b| later(c, b, unregister_broker::handle)),
    api(ApiKey::ConsumerGroupHeartbeat, (0, 1), |c, b| {
        staged(c, b, consumer_group_heartbeat::handle)
    }),
    api(ApiKey::ConsumerGroupDescribe, (0, 1), |c, b| {
        staged(c, b, consumer_group_describe::handle)
    }),
    api(ApiKey::GetTelemetrySubscriptions, (0, 0), |c, b| {
        plain(c, b, get_telemetry_subscriptions::handle)
    }),
    api(ApiKey::PushTelemetry, (0, 0), |c, b| plain(c, b, push_telemetry::handle)),
    api(ApiKey::ListConfigResources, (0, 1), |c, b| plain(c, b, list_config_resources::handle)),
    api(ApiKey::DescribeTopicPartitions, (0, 0), |c, b| {
        plain(c, b, describe_topic_partitions::handle)
    }),
];

/// The API of a request, if it is served in the request's version.
fn find(key: ApiKey, version: i16) -> Option<&'static Api> {
    let api = APIS.iter().find(|api| api.key == key)?;
    (api.min..=api.max).contains(&version).then_some(api)
}

/// A handler that is done when it returns.
fn plain<R: Request>(
    context: Context,
    mut body: Reader,
    handle: fn(&Context, R) -> R::Response,
) -> Served {
    let request = R::decode(&mut body, context.version()).map_err(Close::from);
    Served::Now(request.and_then(|request| context.reply(handle(&context, request))))
}

/// A handler that decides by itself when to reply.
fn staged<R: Request>(
    context: Context,
    mut body: Reader,
    handle: fn(Context, R) -> Result<Reply, Close>,
) -> Served {
    let request = R::decode(&mut body, context.version()).map_err(Close::from);
    Served::Now(request.and_then(|request| handle(context, request)))
}

/// A handler that may or may not have to wait before it is done.
fn staged_later<R: Request>(
    context: Context,
    mut body: Reader,
    handle: fn(Context, R) -> Served,
) -> Served {
    match R::decode(&mut body, context.version()) {
        Ok(request) => handle(context, request),
        Err(error) => Served::Now(Err(error.into())),
    }
}

/// A handler that is done when its future is.
fn later<R, F>(context: Context, mut body: Reader, handle: fn(Context, R) -> F) -> Served
where
    R: Request,
    F: Future<Output = R::Response> + Send + 'static,
{
    match R::decode(&mut body, context.version()) {
        Ok(request) => Served::Later(Box::pin(async move {
            let answer = context.answer();
            answer.encode(handle(context, request).await).map(Reply::Now)
        })),
        Err(error) => Served::Now(Err(error.into())),
    }
}

/// Looks at each request before its handler does, and may answer in its place. For tests.
pub type Intercept =
    Arc<dyn Fn(&RequestHeader, &Arc<ConnectionInfo>) -> Option<Result<Reply, Close>> + Send + Sync>;

/// Serves requests by [`APIS`].
pub struct Handlers {
    parts: Arc<Parts>,
    intercept: Option<Intercept>,
}

impl Handlers {
    /// Serves requests with these parts.
    pub fn new(parts: Arc<Parts>) -> Self {
        Self { parts, intercept: None }
    }

    /// Lets `intercept` see each request first.
    pub fn with_intercept(self, intercept: Intercept) -> Self {
        Self { intercept: Some(intercept), ..self }
    }

    fn serve(
        &self,
        connection: &Arc<ConnectionInfo>,
        (header, charge): (RequestHeader, Option<&Arc<Charge>>),
        body: Reader,
    ) -> Served {
        if let Some(intercept) = &self.intercept
            && let Some(answer) = intercept(&header, connection)
        {
            return Served::Now(answer);
        }
        if header.unsupported_api_versions {
            return Served::Now(api_versions::refuse_version(&header));
        }
        let (key, version) = (header.api_key, header.api_version);
        let Some(api) = find(key, version) else {
            return Served::Now(Err(Close::UnsupportedVersion { key: key.code(), version }));
        };
        let context = Context {
            parts: Arc::clone(&self.parts),
            connection: Arc::clone(connection),
            header,
            image: self.parts.image.load(),
            charge: charge.cloned(),
        };
        match charge {
            Some(charge) => charge.work(|| (api.serve)(context, body)),
            None => (api.serve)(context, body),
        }
    }
}

impl Dispatch for Handlers {
    async fn dispatch(
        &self,
        connection: &Arc<ConnectionInfo>,
        header: RequestHeader,
        body: Reader,
    ) -> Result<Reply, Close> {
        let (key, began) = (header.api_key, Instant::now());
        let charge = Charge::of(&self.parts, connection, header.client_id.as_deref());
        if let Some(charge) = charge.as_ref().filter(|_| key == ApiKey::Produce) {
            charge.produced(body.remaining() as u64);
        }
        let reply = match self.serve(connection, (header, charge.as_ref()), body) {
            Served::Now(result) => result,
            Served::Later(future) => working(future, charge.as_deref()).await,
        }?;
        let metrics = Arc::clone(&self.parts.metrics);
        let observe = move || {
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            if let Some(took) = metrics.requests(key) {
                took.observe_micros(micros);
            }
        };
        let finish = |charge: Option<&Charge>| charge.into_iter().for_each(Charge::finish);
        Ok(match reply {
            Reply::Later(waiting) => Reply::Later(Box::pin(async move {
                let frame = working(waiting, charge.as_deref()).await;
                finish(charge.as_deref());
                observe();
                frame
            })),
            reply => {
                finish(charge.as_deref());
                observe();
                reply
            }
        })
    }
}

#[cfg(test)]
mod tests;
