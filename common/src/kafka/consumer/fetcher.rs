//! The task that fetches. It alone knows the positions; everything slow is a future in `work` that
//! ends in an [`Event`]. Each broker has one fetch in flight at most.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fetched::FetchedPartition;
use super::{Buffered, ConsumerOptions, Position};
use crate::kafka::client::ClientError;
use crate::kafka::cluster::{
    Backoff, Cluster, ClusterMetadata, EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, OffsetAnswer,
};
use crate::kafka::messages::fetch::request::{FetchPartition, FetchTopic};
use crate::kafka::messages::fetch::{FetchRequest, FetchResponse};
use crate::types::{BrokerId, TopicPartition};

/// The last version of Fetch that names topics; later ones have their ids.
const LAST_VERSION_BY_NAME: i16 = 12;
/// How long the task sleeps when there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(3_600);

/// What the consumer wants.
pub(super) enum Command {
    Read { partition: TopicPartition, generation: u64, position: Position },
    Stop { partition: TopicPartition },
}

/// What the consumer gets.
pub(super) struct Outcome {
    pub partition: TopicPartition,
    pub generation: u64,
    /// What it counts for in [`Buffered`].
    pub bytes: usize,
    pub result: Result<FetchedPartition, ClientError>,
}

/// What the task waits for.
enum Event {
    Fetched(BrokerId, Vec<Asked>, Result<FetchResponse, ClientError>),
    Listed(Vec<(TopicPartition, u64)>, Vec<OffsetAnswer>),
    Refreshed(Result<Arc<ClusterMetadata>, ClientError>),
}

/// A partition in a fetch.
struct Asked {
    partition: TopicPartition,
    generation: u64,
    position: i64,
}

/// A partition that is read.
struct Reading {
    generation: u64,
    place: Place,
    /// The end of a pause after a failure.
    not_before: Option<Instant>,
    backoff: Backoff,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The next fetch begins here.
    At(i64),
    /// It is to be asked where this is.
    Unknown(Position),
    /// And was.
    Asking(Position),
    /// It cannot be read; the consumer was told.
    Resting,
}

pub(super) struct Fetcher {
    cluster: Cluster,
    options: ConsumerOptions,
    buffered: Arc<Buffered>,
    outcomes: mpsc::UnboundedSender<Outcome>,
    reading: BTreeMap<TopicPartition, Reading>,
    /// Brokers that a fetch is in flight to.
    fetching: BTreeSet<BrokerId>,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    refresh_wanted: bool,
    refreshing: bool,
    refresh_not_before: Instant,
    refresh_backoff: Backoff,
    /// Counts fetches, so that no partition always comes first.
    rotation: usize,
}

impl Fetcher {
    pub fn new(
        cluster: Cluster,
        options: ConsumerOptions,
        buffered: Arc<Buffered>,
        outcomes: mpsc::UnboundedSender<Outcome>,
    ) -> Self {
        let refresh_backoff = cluster.backoff();
        Self {
            cluster,
            options,
            buffered,
            outcomes,
            reading: BTreeMap::new(),
            fetching: BTreeSet::new(),
            work: FuturesUnordered::new(),
            refresh_wanted: false,
            refreshing: false,
            refresh_not_before: Instant::now(),
            refresh_backoff,
            rotation: 0,
        }
    }

    pub async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        stop: CancellationToken,
    ) {
        let buffered = Arc::clone(&self.buffered);
        loop {
            let now = Instant::now();
            let next = self.start(now).unwrap_or(now + IDLE);
            tokio::select! {
                () = stop.cancelled() => return,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(event) = self.work.next(), if !self.work.is_empty() => self.handle(event),
                () = buffered.polled.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
            while let Ok(command) = commands.try_recv() {
                self.obey(command);
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop { partition } => {
                self.reading.remove(&partition);
            }
            Command::Read { partition, generation, position } => {
                let place = match position {
                    Position::Offset(offset) => Place::At(offset),
                    position => Place::Unknown(position),
                };
                let backoff = self.cluster.backoff();
                let reading = Reading { generation, place, not_before: None, backoff };
                self.reading.insert(partition, reading);
            }
        }
    }

    /// Starts what can be started now. Returns when there may be more, if time alone decides that.
    fn start(&mut self, now: Instant) -> Option<Instant> {
        self.start_listing(now);
        let mut next = self.start_fetches(now);
        for reading in self.reading.values() {
            let pause = reading.not_before.filter(|&time| time > now);
            next = next.into_iter().chain(pause).min();
        }
        if self.refresh_wanted && !self.refreshing {
            if self.refresh_not_before <= now {
                self.start_refresh();
            } else {
                next = next.into_iter().chain([self.refresh_not_before]).min();
            }
        }
        next
    }

    /// Asks where the partitions begin that have no offset yet.
    fn start_listing(&mut self, now: Instant) {
        let mut wanted = Vec::new();
        let mut asked = Vec::new();
        for (partition, reading) in &mut self.reading {
            let Place::Unknown(position) = reading.place else {
                continue;
            };
            if reading.not_before.is_some_and(|time| time > now) {
                continue;
            }
            let timestamp = match position {
                Position::Earliest => EARLIEST_TIMESTAMP,
                Position::Latest => LATEST_TIMESTAMP,
                Position::Timestamp(timestamp) => timestamp.max(0),
                Position::Offset(offset) => {
                    reading.place = Place::At(offset);
                    continue;
                }
            };
            reading.place = Place::Asking(position);
            wanted.push((partition.clone(), timestamp));
            asked.push((partition.clone(), reading.generation));
        }
        if wanted.is_empty() {
            return;
        }
        let (cluster, isolation) = (self.cluster.clone(), self.options.isolation);
        self.work.push(Box::pin(async move {
            Event::Listed(asked, cluster.list_offsets(&wanted, isolation).await)
        }));
    }

    /// Fetches from each broker that leads something that is read and has no fetch in flight.
    fn start_fetches(&mut self, now: Instant) -> Option<Instant> {
        if self.buffered.bytes.load(Ordering::Acquire) >= self.options.prefetch_bytes {
            return None;
        }
        let metadata = self.cluster.metadata();
        let mut fetches: BTreeMap<BrokerId, Vec<Asked>> = BTreeMap::new();
        for (partition, reading) in &self.reading {
            let Place::At(position) = reading.place else {
                continue;
            };
            if reading.not_before.is_some_and(|time| time > now) {
                continue;
            }
            let topic = metadata.topic(&partition.topic);
            match topic.and_then(|topic| topic.leader(partition.partition).ok()) {
                Some(leader) if self.fetching.contains(&leader) => {}
                Some(leader) => fetches.entry(leader).or_default().push(Asked {
                    partition: partition.clone(),
                    generation: reading.generation,
                    position,
                }),
                None => self.refresh_wanted = true,
            }
        }
        for (broker, mut asked) in fetches {
            self.rotation = self.rotation.wrapping_add(1);
            let begin = self.rotation.checked_rem(asked.len()).unwrap_or(0);
            asked.rotate_left(begin);
            self.start_fetch(broker, asked, &metadata);
        }
        None
    }

    fn start_fetch(&mut self, broker: BrokerId, asked: Vec<Asked>, metadata: &ClusterMetadata) {
        let (request, version_max) = self.fetch_request(&asked, metadata);
        let cluster = self.cluster.clone();
        self.fetching.insert(broker);
        self.work.push(Box::pin(async move {
            let answer = async {
                let connection = cluster.connection(broker).await?;
                connection.dispatch(version_max, &request).await?.await
            };
            let answer = answer.await;
            Event::Fetched(broker, asked, answer)
        }));
    }

    fn fetch_request(&self, asked: &[Asked], metadata: &ClusterMetadata) -> (FetchRequest, i16) {
        let mut version_max = i16::MAX;
        let mut topics: Vec<FetchTopic> = Vec::new();
        for Asked { partition, position, .. } in asked {
            let topic = metadata.topic(&partition.topic);
            let known = topic.and_then(|topic| topic.partition(partition.partition).ok());
            let entry = FetchPartition {
                partition: partition.partition,
                current_leader_epoch: known.map_or(-1, |known| known.leader_epoch),
                fetch_offset: *position,
                partition_max_bytes: self.options.partition_fetch_bytes,
                ..FetchPartition::default()
            };
            if let Some(open) = topics.last_mut().filter(|open| *open.topic == *partition.topic) {
                open.partitions.push(entry);
                continue;
            }
            let topic_id = topic.map(|topic| topic.id).unwrap_or_default();
            if topic_id.is_zero() {
                version_max = LAST_VERSION_BY_NAME;
            }
            topics.push(FetchTopic {
                topic: (*partition.topic).into(),
                topic_id,
                partitions: vec![entry],
                ..FetchTopic::default()
            });
        }
        let request = FetchRequest {
            max_wait_ms: self.options.fetch_max_wait_ms,
            min_bytes: self.options.fetch_min_bytes,
            max_bytes: self.options.fetch_max_bytes,
            isolation_level: self.options.isolation.wire(),
            topics,
            rack_id: self.options.rack.as_str().into(),
            ..FetchRequest::default()
        };
        (request, version_max)
    }

    fn start_refresh(&mut self) {
        self.refreshing = true;
        self.refresh_wanted = false;
        let cluster = self.cluster.clone();
        let topics: BTreeSet<Arc<str>> =
            self.reading.keys().map(|partition| Arc::clone(&partition.topic)).collect();
        self.work.push(Box::pin(async move {
            let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            Event::Refreshed(cluster.refresh(&topics).await)
        }));
    }
}
