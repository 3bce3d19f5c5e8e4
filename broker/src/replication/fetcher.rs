//! One fetcher: follows partitions of one leader, over one connection.
//!
//! The leader holds a fetch back while there is nothing to send. When meanwhile something has to be
//! told (more is on disk here, another partition is to be followed), the next request is sent at
//! once; it overtakes the one that is held back, which the leader then answers with nothing. So
//! what is appended is on its way to the disk while more is fetched, and a commit waits for no
//! timer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_common::kafka::client::{ClientError, Connection, Pending};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::fetch::request::ReplicaState;
use ottla_common::kafka::messages::fetch::response::PartitionData;
use ottla_common::kafka::messages::fetch::{FetchRequest, FetchResponse};
use ottla_common::kafka::wire::Records;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::BrokerId;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::assignments::Assignments;
use super::divergence::DivergingEpoch;
use super::fetch_sessions::{INITIAL_EPOCH, NO_SESSION};
use super::follower_session::Key;
use super::partition::following::Fetched;
use super::partition::{FollowError, Partition};
use super::peer::{Dialler, PeerError};
use super::throttle::Throttles;
use crate::metadata::watcher::ImageHandle;
use crate::storage::error::AppendError;

/// How long to wait before a leader that could not be reached is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// Requests under way: one that is held back, and one that overtakes it.
const IN_FLIGHT_MAX: usize = 2;

/// How fetchers fetch.
#[derive(Clone, Debug)]
pub struct FetchRules {
    /// `replica.fetch.min.bytes`.
    pub min_bytes: i32,
    /// `replica.fetch.max.bytes`, of a partition.
    pub partition_max_bytes: i32,
    /// `replica.fetch.response.max.bytes`.
    pub response_max_bytes: i32,
    /// `replica.fetch.wait.max.ms`.
    pub wait_max_ms: i32,
    /// `replica.fetch.backoff.ms`.
    pub backoff: Duration,
}

/// What all fetchers of a broker share.
pub struct Fetching {
    /// How the leaders are reached.
    pub dialler: Dialler,
    /// How they are asked.
    pub rules: FetchRules,
    /// Where they are.
    pub image: ImageHandle,
    /// How fast replicas that move are copied.
    pub throttles: Arc<Throttles>,
    /// In which life this broker is; `None` while it is not registered.
    pub broker_epoch: watch::Receiver<Option<i64>>,
}

/// One fetcher.
pub struct Fetcher {
    leader: BrokerId,
    fetching: Arc<Fetching>,
    assignments: Mutex<Assignments>,
    news: Notify,
}

#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the leader refuses to be fetched from: {0:?}")]
    Refused(ErrorCode),
    #[error("this broker is registered anew")]
    BrokerEpoch,
}

/// One connection's fetch session.
struct Session {
    connection: Connection,
    broker_epoch: i64,
    id: i32,
    epoch: i32,
    /// Each with its number among all requests of this connection.
    in_flight: VecDeque<(u64, Pending<FetchRequest>)>,
    next_number: u64,
}

impl Fetcher {
    /// A fetcher that follows nothing yet.
    pub fn new(leader: BrokerId, fetching: Arc<Fetching>) -> Arc<Self> {
        Arc::new(Self { leader, fetching, assignments: Mutex::default(), news: Notify::new() })
    }

    /// Follows a partition.
    pub fn follow(self: &Arc<Self>, partition: &Arc<Partition>, leader_epoch: i32) {
        let key = key_of(partition);
        if !self.assignments.lock().follow(key, partition, leader_epoch) {
            return;
        }
        let (fetcher, told) = (Arc::downgrade(self), key);
        partition.on_flushed(Some(Arc::new(move || {
            if let Some(fetcher) = fetcher.upgrade() {
                fetcher.assignments.lock().touch(told);
                fetcher.news.notify_one();
            }
        })));
        self.news.notify_one();
    }

    /// Follows it no more.
    pub fn leave(&self, partition: &Partition) {
        if self.assignments.lock().leave(key_of(partition)) {
            self.news.notify_one();
        }
    }

    /// Fetches until the signal is given.
    pub async fn run(self: Arc<Self>, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.stopped() => return,
                () = self.has_work() => {}
            }
            let ended = tokio::select! {
                () = shutdown.stopped() => return,
                ended = self.fetch() => ended,
            };
            let Err(error) = ended else { continue };
            match &error {
                FetchError::Refused(_)
                | FetchError::Peer(PeerError::Handshake(_) | PeerError::Refused { .. }) => {
                    warn!(leader = %self.leader, %error, "cannot follow");
                }
                // As long as the controller has not elected another, this is to be expected.
                FetchError::Peer(_) | FetchError::Client(_) | FetchError::BrokerEpoch => {
                    debug!(leader = %self.leader, %error, "cannot follow");
                }
            }
            tokio::select! {
                () = shutdown.stopped() => return,
                () = tokio::time::sleep(RECONNECT_PAUSE) => {}
            }
        }
    }

    async fn has_work(&self) {
        while self.assignments.lock().is_empty() {
            self.news.notified().await;
        }
    }

    /// Fetches over one connection, until nothing is followed any more.
    async fn fetch(&self) -> Result<(), FetchError> {
        let mut epochs = self.fetching.broker_epoch.clone();
        let registered = epochs.wait_for(Option::is_some).await;
        let broker_epoch = registered.ok().and_then(|epoch| *epoch);
        let broker_epoch = broker_epoch.ok_or(FetchError::BrokerEpoch)?;
        let image = self.fetching.image.load();
        let connection = self.fetching.dialler.connect(&image, self.leader).await?;
        drop(image);
        info!(leader = %self.leader, "following");
        self.assignments.lock().begin_session();
        let (id, epoch, in_flight) = (NO_SESSION, INITIAL_EPOCH, VecDeque::new());
        let next_number = 0;
        let mut session = Session { connection, broker_epoch, id, epoch, in_flight, next_number };
        loop {
            self.send(&mut session).await?;
            let retry_at = self.assignments.lock().next_retry();
            let retry = async {
                match retry_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let has_room = session.in_flight.len() < IN_FLIGHT_MAX && session.id != NO_SESSION;
            let is_asking = !session.in_flight.is_empty();
            let answered = tokio::select! {
                answer = session.answer(), if is_asking => Some(answer?),
                () = self.news.notified(), if has_room || !is_asking => None,
                () = retry, if has_room || !is_asking => None,
                _ = epochs.wait_for(|now| *now != Some(broker_epoch)) => {
                    return Err(FetchError::BrokerEpoch);
                }
            };
            if let Some((number, response)) = answered {
                self.take(&mut session, number, response)?;
            }
            if self.assignments.lock().is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends the next request, if there is something to tell or nothing is being asked.
    async fn send(&self, session: &mut Session) -> Result<(), FetchError> {
        let rules = &self.fetching.rules;
        let now = Instant::now();
        let is_asking = !session.in_flight.is_empty();
        let wanted = {
            let mut assignments = self.assignments.lock();
            if assignments.has_throttled(now) {
                let wait = self.fetching.throttles.follower.count(0);
                if !wait.is_zero() {
                    assignments.hold_up(now + wait, now);
                }
            }
            if is_asking {
                let has_room = session.in_flight.len() < IN_FLIGHT_MAX && session.id != NO_SESSION;
                if !has_room || !assignments.has_news(now) {
                    return Ok(());
                }
            } else if session.id == NO_SESSION {
                // Without a session the leader remembers nothing.
                assignments.begin_session();
            }
            let wanted = assignments.take_news(rules.partition_max_bytes, session.next_number, now);
            if !assignments.asks_for_something() {
                // All of them pause after errors. A session of nothing is given up by the leader.
                (session.id, session.epoch) = (NO_SESSION, INITIAL_EPOCH);
                return Ok(());
            }
            wanted
        };
        let request = FetchRequest {
            replica_state: ReplicaState {
                replica_id: self.fetching.dialler.broker_id.0,
                replica_epoch: session.broker_epoch,
                ..ReplicaState::default()
            },
            max_wait_ms: rules.wait_max_ms,
            min_bytes: rules.min_bytes,
            max_bytes: rules.response_max_bytes,
            session_id: session.id,
            session_epoch: session.epoch,
            topics: wanted.topics,
            forgotten_topics_data: wanted.forgotten,
            ..FetchRequest::default()
        };
        if session.id != NO_SESSION {
            session.epoch = session.epoch.checked_add(1).unwrap_or(1);
        }
        let pending = session.connection.dispatch(i16::MAX, &request).await?;
        session.in_flight.push_back((session.next_number, pending));
        session.next_number += 1;
        Ok(())
    }

    /// Takes a leader's answer.
    fn take(
        &self,
        session: &mut Session,
        number: u64,
        response: FetchResponse,
    ) -> Result<(), FetchError> {
        match ErrorCode::from_code(response.error_code) {
            ErrorCode::None => {}
            ErrorCode::FetchSessionIdNotFound
            | ErrorCode::InvalidFetchSessionEpoch
            | ErrorCode::FetchSessionTopicIdError => {
                // The leader has forgotten the session: all is told anew. What is in flight is
                // answered likewise.
                (session.id, session.epoch) = (NO_SESSION, INITIAL_EPOCH);
                return Ok(());
            }
            error => return Err(FetchError::Refused(error)),
        }
        if session.id == NO_SESSION && response.session_id != NO_SESSION {
            (session.id, session.epoch) = (response.session_id, 1);
        }
        for topic in response.responses {
            for data in topic.partitions {
                self.take_partition((topic.topic_id, data.partition_index), number, data);
            }
        }
        Ok(())
    }

    fn take_partition(&self, key: Key, number: u64, data: PartitionData) {
        let followed = self.assignments.lock().answered(key, number);
        let Some((partition, leader_epoch)) = followed else { return };
        let name = partition.topic_partition().clone();
        let size = match &data.records {
            Some(records) => records.len() as u64,
            None => 0,
        };
        let high_watermark = data.high_watermark;
        let taken = take_data(&partition, leader_epoch, data);
        let mut assignments = self.assignments.lock();
        let Err(problem) = taken else {
            assignments.succeeded(key);
            if partition.is_throttled_as_follower() && partition.log_end_offset() < high_watermark {
                let wait = self.fetching.throttles.follower.count(size);
                assignments.pause(key, wait, Instant::now());
            }
            return;
        };
        match &problem {
            Problem::Leader(error) => {
                debug!(partition = %name, leader = %self.leader, ?error, "cannot be fetched now");
            }
            Problem::Here(FollowError::NotFollowing(_)) => {}
            Problem::Here(error) => {
                warn!(partition = %name, leader = %self.leader, %error, "cannot be followed");
            }
        }
        assignments.failed(key, self.fetching.rules.backoff, Instant::now());
    }
}

impl Session {
    /// The answer to the oldest request under way.
    async fn answer(&mut self) -> Result<(u64, FetchResponse), ClientError> {
        match self.in_flight.front_mut() {
            Some((number, pending)) => {
                let (number, answer) = (*number, pending.await);
                self.in_flight.pop_front();
                answer.map(|response| (number, response))
            }
            None => std::future::pending().await,
        }
    }
}

enum Problem {
    /// The leader has an error for it.
    Leader(ErrorCode),
    /// What the leader sent could not be taken.
    Here(FollowError),
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        Self::Here(error)
    }
}

fn take_data(partition: &Partition, leader_epoch: i32, data: PartitionData) -> Result<(), Problem> {
    match ErrorCode::from_code(data.error_code) {
        ErrorCode::None => {}
        ErrorCode::OffsetOutOfRange if data.log_start_offset >= 0 => {
            // Compared with the log's end of now: what was asked for may be long here.
            if partition.log_end_offset() >= data.log_start_offset {
                return Err(Problem::Leader(ErrorCode::OffsetOutOfRange));
            }
            return Ok(partition.start_over_at(leader_epoch, data.log_start_offset)?);
        }
        error => return Err(Problem::Leader(error)),
    }
    if data.diverging_epoch.epoch >= 0 {
        let at = &data.diverging_epoch;
        let diverging = DivergingEpoch { epoch: at.epoch, end_offset: at.end_offset };
        partition.truncate_diverging(leader_epoch, diverging)?;
        return Ok(());
    }
    let records = match data.records {
        Some(Records::Bytes(bytes)) => bytes,
        _ => Bytes::new(),
    };
    let (high_watermark, log_start_offset) = (data.high_watermark, data.log_start_offset);
    let fetched = Fetched { leader_epoch, records, high_watermark, log_start_offset };
    match partition.append_fetched(fetched) {
        // Another answer has brought these meanwhile.
        Err(FollowError::Append(AppendError::OffsetsOutOfOrder { .. })) => Ok(()),
        taken => Ok(taken?),
    }
}

fn key_of(partition: &Partition) -> Key {
    (partition.topic_id(), partition.topic_partition().partition)
}
