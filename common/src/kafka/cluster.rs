//! A cluster as a client sees it: the bootstrap servers, a cache of metadata, one connection to
//! each broker, who leads what, and when to try again.
//!
//! A request that fails with something that may pass (a broker that is gone, a leader that moved)
//! is tried again after a pause that grows, with new metadata, until `api_timeout_ms` is over.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod backoff;
mod metadata;
mod offsets;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::client::{ClientError, ClientOptions, Connection};
use super::error_code::ErrorCode;
use super::messages::metadata::request::MetadataRequestTopic;
use super::messages::metadata::{MetadataRequest, MetadataResponse};
use super::request::Request;
use crate::types::BrokerId;

pub use backoff::Backoff;
pub use metadata::{BrokerNode, ClusterMetadata, PartitionMetadata, TopicMetadata};
pub use offsets::{EARLIEST_TIMESTAMP, Isolation, LATEST_TIMESTAMP, ListedOffset, OffsetAnswer};

/// How long a server may take to be reached until the next one is tried as well.
const STAGGER: Duration = Duration::from_millis(500);

/// How a client deals with a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterOptions {
    /// How its connections behave.
    pub client: ClientOptions,
    /// The first pause before another attempt, in milliseconds; it doubles with each.
    pub retry_backoff_ms: u64,
    /// The longest pause, in milliseconds.
    pub retry_backoff_max_ms: u64,
    /// Patience with an operation and all its attempts, in milliseconds.
    pub api_timeout_ms: u64,
    /// Whether asking for a topic may create it, if the brokers do that.
    pub allow_auto_topic_creation: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            client: ClientOptions::default(),
            retry_backoff_ms: 100,
            retry_backoff_max_ms: 1_000,
            api_timeout_ms: 60_000,
            allow_auto_topic_creation: false,
        }
    }
}

/// A cluster. Clones share the connections and the cache.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    bootstrap: Vec<String>,
    options: ClusterOptions,
    metadata: ArcSwap<ClusterMetadata>,
    slots: Mutex<HashMap<BrokerId, Arc<tokio::sync::Mutex<Option<Connection>>>>>,
    /// Held while metadata are asked for, so that not everyone does at once.
    refreshing: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cluster").field(&self.inner.bootstrap).finish()
    }
}

impl Cluster {
    /// Asks the bootstrap servers (`host:port`), one after another, who the brokers are.
    ///
    /// # Errors
    /// `NoBootstrapServer`, if none answers.
    pub async fn connect(
        bootstrap: &[impl AsRef<str>],
        options: ClusterOptions,
    ) -> Result<Self, ClientError> {
        let inner = Inner {
            bootstrap: bootstrap.iter().map(|address| address.as_ref().to_owned()).collect(),
            options,
            metadata: ArcSwap::default(),
            slots: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        let cluster = Self { inner: Arc::new(inner) };
        cluster.refresh(&[]).await?;
        Ok(cluster)
    }

    /// The options it was made with.
    pub fn options(&self) -> &ClusterOptions {
        &self.inner.options
    }

    /// What is known of the cluster now.
    pub fn metadata(&self) -> Arc<ClusterMetadata> {
        self.inner.metadata.load_full()
    }

    /// Asks for the brokers and these topics. Other topics stay as they were known.
    ///
    /// # Errors
    /// If no broker answers. What is wrong with a topic is in the metadata.
    pub async fn refresh(&self, topics: &[&str]) -> Result<Arc<ClusterMetadata>, ClientError> {
        let wanted = topics.iter().map(|&topic| MetadataRequestTopic {
            name: Some(topic.into()),
            ..MetadataRequestTopic::default()
        });
        self.ask(Some(wanted.collect())).await
    }

    /// Asks for the brokers and all topics.
    ///
    /// # Errors
    /// If no broker answers.
    pub async fn refresh_all(&self) -> Result<Arc<ClusterMetadata>, ClientError> {
        self.ask(None).await
    }

    async fn ask(
        &self,
        topics: Option<Vec<MetadataRequestTopic>>,
    ) -> Result<Arc<ClusterMetadata>, ClientError> {
        let all_topics = topics.is_none();
        let request = MetadataRequest {
            topics,
            allow_auto_topic_creation: self.inner.options.allow_auto_topic_creation,
            ..MetadataRequest::default()
        };
        let _one_at_a_time = self.inner.refreshing.lock().await;
        let response: MetadataResponse = self.any_connection().await?.send(&request).await?;
        let error = ErrorCode::from_code(response.error_code);
        ClientError::check(|| "Metadata".to_owned(), error, None::<&str>)?;
        let metadata = Arc::new(self.metadata().updated(&response, all_topics));
        self.inner.metadata.store(Arc::clone(&metadata));
        Ok(metadata)
    }

    /// A topic, from the cache or, if it is not there, from the cluster.
    ///
    /// # Errors
    /// `UnknownTopic` or what else the cluster says of it.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>, ClientError> {
        if let Some(topic) = self.metadata().topic(name) {
            return Ok(Arc::clone(topic));
        }
        let auto_create = self.inner.options.allow_auto_topic_creation;
        self.retry(|| async {
            let metadata = self.refresh(&[name]).await?;
            if let Some(topic) = metadata.topic(name) {
                return Ok(Arc::clone(topic));
            }
            let code = metadata.topic_error(name).unwrap_or(ErrorCode::UnknownTopicOrPartition);
            if code == ErrorCode::UnknownTopicOrPartition && !auto_create {
                return Err(ClientError::UnknownTopic { topic: name.to_owned() });
            }
            Err(ClientError::Refused { subject: format!("topic {name:?}"), code, message: None })
        })
        .await
    }

    /// The leader of a partition, from the cache or from the cluster.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, or `NoLeader`, which may pass.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<BrokerId, ClientError> {
        if let Ok(leader) = self.topic(topic).await?.leader(partition) {
            return Ok(leader);
        }
        let metadata = self.refresh(&[topic]).await?;
        match metadata.topic(topic) {
            Some(topic) => topic.leader(partition),
            None => Err(ClientError::UnknownTopic { topic: topic.to_owned() }),
        }
    }

    /// The connection to a broker, made anew if it has ended.
    ///
    /// # Errors
    /// `UnknownBroker`, or what connecting failed with.
    pub async fn connection(&self, broker: BrokerId) -> Result<Connection, ClientError> {
        let metadata = self.metadata();
        let node = metadata.brokers.get(&broker);
        let address = node.ok_or(ClientError::UnknownBroker { broker: broker.0 })?.address();
        let slot = Arc::clone(self.inner.slots.lock().entry(broker).or_default());
        let mut slot = slot.lock().await;
        if let Some(connection) = &*slot
            && !connection.is_closed()
            && connection.address() == address
        {
            return Ok(connection.clone());
        }
        let connection = Connection::connect(&address, &self.inner.options.client).await?;
        Ok(slot.insert(connection).clone())
    }

    /// A connection to some broker: to one that there is already, if possible; else to the first
    /// that answers. They are tried one after the other, and the next one as well when the one
    /// before takes long.
    ///
    /// # Errors
    /// `NoBootstrapServer`, if neither the known brokers nor the bootstrap servers can be reached.
    pub async fn any_connection(&self) -> Result<Connection, ClientError> {
        let metadata = self.metadata();
        for broker in metadata.brokers.keys() {
            let slot = self.inner.slots.lock().get(broker).map(Arc::clone);
            if let Some(slot) = slot
                && let Ok(slot) = slot.try_lock()
                && let Some(connection) = &*slot
                && !connection.is_closed()
            {
                return Ok(connection.clone());
            }
        }
        let known = metadata.brokers.keys().map(|&broker| self.connection(broker).boxed());
        let options = &self.inner.options.client;
        let bootstrap = self.inner.bootstrap.iter();
        let bootstrap = bootstrap.map(|address| Connection::connect(address, options).boxed());
        let mut attempts = known.chain(bootstrap);
        let mut under_way = FuturesUnordered::new();
        let mut reason = "none was given".to_owned();
        // A server that stands still must not keep us from the others.
        loop {
            let more = attempts.next();
            let is_last = more.is_none();
            under_way.extend(more);
            let ended = async {
                let ended = under_way.next();
                if is_last { Some(ended.await) } else { timeout(STAGGER, ended).await.ok() }
            };
            match ended.await {
                Some(Some(Ok(connection))) => return Ok(connection),
                Some(Some(Err(error @ ClientError::InvalidAddress { .. }))) => return Err(error),
                Some(Some(Err(error))) => reason = error.to_string(),
                Some(None) if is_last => break,
                Some(None) | None => {}
            }
        }
        Err(ClientError::NoBootstrapServer { reason })
    }

    /// The connection to the controller, or to any broker if none is known: brokers forward.
    ///
    /// # Errors
    /// If no broker can be reached.
    pub async fn controller_connection(&self) -> Result<Connection, ClientError> {
        match self.metadata().controller {
            Some(controller) => match self.connection(controller).await {
                Ok(connection) => Ok(connection),
                Err(_) => self.any_connection().await,
            },
            None => self.any_connection().await,
        }
    }

    /// Sends a request to any broker, again and again while that may help.
    ///
    /// # Errors
    /// The last failure. Error codes inside of answers are data.
    pub async fn send_to_any<R: Request + Sync>(
        &self,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.retry(|| async { self.any_connection().await?.send(request).await }).await
    }

    /// Sends a request to this broker, again and again while that may help.
    ///
    /// # Errors
    /// As [`Cluster::send_to_any`].
    pub async fn send_to<R: Request + Sync>(
        &self,
        broker: BrokerId,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        self.retry(|| async { self.connection(broker).await?.send(request).await }).await
    }

    /// Does `attempt` until it succeeds, fails for good, or `api_timeout_ms` is over. Before
    /// another attempt there is a pause, and the brokers' addresses are asked for.
    ///
    /// # Errors
    /// The last failure.
    pub async fn retry<T, F, A>(&self, mut attempt: F) -> Result<T, ClientError>
    where
        F: FnMut() -> A,
        A: Future<Output = Result<T, ClientError>>,
    {
        let deadline = Instant::now() + Duration::from_millis(self.inner.options.api_timeout_ms);
        let mut backoff = self.backoff();
        loop {
            let error = match attempt().await {
                Err(error) if error.is_retriable() => error,
                result => return result,
            };
            let pause = backoff.next(fastrand::f64());
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, pause_ms = pause.as_millis(), "retrying");
            tokio::time::sleep(pause).await;
            if let Err(error) = self.refresh(&[]).await {
                tracing::debug!(%error, "the metadata could not be refreshed");
            }
        }
    }

    /// The pauses between attempts.
    pub fn backoff(&self) -> Backoff {
        let ClusterOptions { retry_backoff_ms, retry_backoff_max_ms, .. } = self.inner.options;
        Backoff::new(retry_backoff_ms, retry_backoff_max_ms)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::kafka::fake_cluster::FakeCluster;

    #[tokio::test]
    async fn a_broker_that_stands_still_keeps_nobody_from_the_others() {
        // Connections to it are made, and nobody says a word.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = FakeCluster::start(1, 1).await;
        let bootstrap = [silent.local_addr().unwrap().to_string(), fake.address()];
        let client = ClientOptions { connect_timeout_ms: 600_000, ..ClientOptions::default() };
        let options = ClusterOptions { client, ..ClusterOptions::default() };
        let connecting = Cluster::connect(&bootstrap, options);
        let reached = timeout(Duration::from_secs(60), connecting).await;
        assert!(reached.expect("the second is tried while the first is waited for").is_ok());
    }
}
