//! One partition's machine: its turns, and who waits for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::records::BatchOptions;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::batches;
use super::machine::{Ids, Now, Place, Record, StateMachine, Ticket, TimerChange, Turn};
use super::timers::Timers;
use crate::limits::{RECORDS_PER_TURN_SIZE_MAX, WAITING_REQUESTS_PER_SHARD_MAX};
use crate::metadata::image::MetadataImage;
use crate::replication::partition::Partition;

/// A timer whose turn could not be appended fires again after this long.
const TIMER_RETRY_MS: u64 = 500;

/// What a turn needs besides the machine.
pub(super) struct Surroundings {
    /// The time.
    pub now: Now,
    /// The cluster.
    pub image: Arc<MetadataImage>,
    /// What batches look like.
    pub batch: BatchOptions,
    /// How long replies wait for a commit.
    pub commit_timeout: Duration,
}

/// One partition of an internal topic, in one leadership.
pub(super) struct Shard<M: StateMachine> {
    /// The partition.
    pub partition: Arc<Partition>,
    /// The leadership that it was loaded for.
    pub leader_epoch: i32,
    state: Mutex<State<M>>,
    /// The next deadline has changed, or the shard is closed.
    pub changed: Notify,
}

enum State<M: StateMachine> {
    Loading,
    Active(Box<Active<M>>),
    Closed,
}

struct Active<M: StateMachine> {
    machine: M,
    timers: Timers<M::Timer>,
    waiting: HashMap<Ticket, oneshot::Sender<Answered<M::Answer>>>,
    next_ticket: u64,
    /// The offset after the last record that the machine has seen.
    end_offset: i64,
}

type Answered<A> = Result<Committing<A>, ErrorCode>;

/// A reply that waits for records to be committed.
#[derive(Debug)]
#[must_use]
pub struct Committing<T> {
    reply: T,
    commit: Option<Commit>,
}

#[derive(Clone)]
struct Commit {
    partition: Arc<Partition>,
    offset: i64,
    /// The leadership of the shard.
    leader_epoch: i32,
    timeout: Duration,
}

impl std::fmt::Debug for Commit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} up to {}", self.partition.topic_partition(), self.offset)
    }
}

impl<T> Committing<T> {
    /// The reply, if there is nothing to wait for.
    pub fn ready(self) -> Result<T, Self> {
        match &self.commit {
            None => Ok(self.reply),
            Some(commit) => {
                match commit.partition.is_committed(commit.offset, commit.leader_epoch) {
                    Ok(true) => Ok(self.reply),
                    Ok(false) | Err(_) => Err(self),
                }
            }
        }
    }

    /// The reply, once everything is committed that it follows from.
    ///
    /// # Errors
    /// What clients are to be told; see [`reply_error`].
    pub async fn wait(self) -> Result<T, ErrorCode> {
        if let Some(Commit { partition, offset, leader_epoch, timeout }) = self.commit {
            let end = (offset, leader_epoch);
            let committed = partition.committed(end, Instant::now() + timeout);
            committed.await.map_err(reply_error)?;
        }
        Ok(self.reply)
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
#[must_use]
pub struct Waiting<A> {
    receiver: oneshot::Receiver<Answered<A>>,
}

impl<A> Waiting<A> {
    /// The answer, if it was given at once and there is nothing to wait for.
    pub fn ready(mut self) -> Result<Result<A, ErrorCode>, Self> {
        match self.receiver.try_recv() {
            Ok(Ok(committing)) => match committing.ready() {
                Ok(answer) => Ok(Ok(answer)),
                Err(committing) => {
                    let (sender, receiver) = oneshot::channel();
                    // The receiver stands right here.
                    let _ = sender.send(Ok(committing));
                    Err(Self { receiver })
                }
            },
            Ok(Err(error)) => Ok(Err(error)),
            Err(oneshot::error::TryRecvError::Closed) => Ok(Err(ErrorCode::NotCoordinator)),
            Err(oneshot::error::TryRecvError::Empty) => Err(self),
        }
    }

    /// The answer, whenever the machine gives it.
    ///
    /// # Errors
    /// NOT_COORDINATOR if the shard is closed meanwhile; see [`reply_error`].
    pub async fn wait(self) -> Result<A, ErrorCode> {
        match self.receiver.await {
            Ok(answered) => answered?.wait().await,
            Err(_) => Err(ErrorCode::NotCoordinator),
        }
    }
}

/// What clients of a shard are told when its partition does not take or commit its records: in
/// words that make them try again, here or at the new leader.
pub fn reply_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => ErrorCode::UnknownServerError,
        other => other,
    }
}

impl<M: StateMachine> Shard<M> {
    /// A shard that is being loaded.
    pub fn new(partition: Arc<Partition>, leader_epoch: i32) -> Self {
        let state = Mutex::new(State::Loading);
        Self { partition, leader_epoch, state, changed: Notify::new() }
    }

    /// Whether this is still the leadership that the partition is in.
    pub fn is_current(&self) -> bool {
        self.partition.leadership() == Some(self.leader_epoch)
    }

    /// Whether it serves.
    pub fn is_active(&self) -> bool {
        matches!(&*self.state.lock(), State::Active(_))
    }

    /// Whether it was given up.
    pub fn is_closed(&self) -> bool {
        matches!(&*self.state.lock(), State::Closed)
    }

    /// Begins to serve with what was loaded, unless it was closed meanwhile.
    pub fn activate(&self, machine: M, end_offset: i64, around: &Surroundings) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Loading) {
            *state = State::Active(Box::new(Active {
                machine,
                timers: Timers::default(),
                waiting: HashMap::new(),
                next_ticket: 0,
                end_offset,
            }));
            drop(state);
            // Its records are not what the load depends on: the machine tries again by its timers.
            let _ = self.turn(around, |machine, turn| machine.loaded(turn));
        }
    }

    /// Drops the machine; whoever waits is told to look elsewhere.
    pub fn close(&self) {
        let closed = std::mem::replace(&mut *self.state.lock(), State::Closed);
        drop(closed);
        self.changed.notify_one();
    }

    /// Lets the machine decide, and carries out what it decides.
    pub fn turn<T>(
        &self,
        around: &Surroundings,
        decide: impl FnOnce(&mut M, &mut Turn<M>) -> T,
    ) -> Result<Committing<T>, ErrorCode> {
        self.with_active(|active| active.turn(self, around, decide))
    }

    /// Lets the machine decide about a request that it may answer later.
    pub fn ask(
        &self,
        around: &Surroundings,
        decide: impl FnOnce(&mut M, Ticket, &mut Turn<M>),
    ) -> Result<Waiting<M::Answer>, ErrorCode> {
        let (sender, receiver) = oneshot::channel();
        self.with_active(|active| {
            active.forget_leavers();
            if active.waiting.len() >= WAITING_REQUESTS_PER_SHARD_MAX {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
            let ticket = Ticket(active.next_ticket);
            active.next_ticket += 1;
            active.waiting.insert(ticket, sender);
            active.turn(self, around, |machine, turn| decide(machine, ticket, turn)).map(drop)
        })?;
        Ok(Waiting { receiver })
    }

    /// Looks at the machine. The reply waits for all that it has seen.
    pub fn read<T>(
        &self,
        commit_timeout: Duration,
        look: impl FnOnce(&M) -> T,
    ) -> Result<Committing<T>, ErrorCode> {
        self.with_active(|active| {
            let reply = look(&active.machine);
            let (partition, offset) = (self.partition.clone(), active.end_offset);
            let (leader_epoch, timeout) = (self.leader_epoch, commit_timeout);
            let commit = Commit { partition, offset, leader_epoch, timeout };
            Ok(Committing { reply, commit: Some(commit) })
        })
    }

    /// When the next timer is due. `None` if the shard is closed; the far future if none is set.
    pub fn next_deadline(&self) -> Option<u64> {
        match &*self.state.lock() {
            State::Active(active) => Some(active.timers.next_deadline().unwrap_or(u64::MAX)),
            State::Loading => Some(u64::MAX),
            State::Closed => None,
        }
    }

    /// Fires the timer that is due first. Returns whether there was one.
    pub fn fire_due(&self, around: &Surroundings) -> bool {
        let now_ms = around.now.monotonic_ms;
        let fired = self.with_active(|active| {
            let Some(timer) = active.timers.take_due(now_ms) else { return Ok(false) };
            let fired = timer.clone();
            if let Err(error) = active.turn(self, around, |m, turn| m.due(timer, turn)) {
                let partition = self.partition.topic_partition();
                tracing::warn!(%partition, %error, "a timer's records could not be appended");
                let again_ms = now_ms.saturating_add(TIMER_RETRY_MS);
                active.timers.change(TimerChange::Set(fired, again_ms));
            }
            Ok(true)
        });
        fired.unwrap_or(false)
    }

    fn with_active<T>(
        &self,
        work: impl FnOnce(&mut Active<M>) -> Result<T, ErrorCode>,
    ) -> Result<T, ErrorCode> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Active(active) => {
                let before = active.timers.next_deadline();
                let result = work(active);
                if active.timers.next_deadline() != before {
                    self.changed.notify_one();
                }
                result
            }
            State::Loading => Err(ErrorCode::CoordinatorLoadInProgress),
            State::Closed => Err(ErrorCode::NotCoordinator),
        }
    }
}

impl<M: StateMachine> Active<M> {
    fn turn<T>(
        &mut self,
        shard: &Shard<M>,
        around: &Surroundings,
        decide: impl FnOnce(&mut M, &mut Turn<M>) -> T,
    ) -> Result<Committing<T>, ErrorCode> {
        let mut turn = Turn::new(around.now, around.image.clone(), Ids::Random);
        let reply = decide(&mut self.machine, &mut turn);
        for change in turn.timers.drain(..) {
            self.timers.change(change);
        }
        let commit = if turn.records.is_empty() {
            Ok(None)
        } else {
            self.append(shard, around, &turn).map(Some)
        };
        for (ticket, answer) in turn.answers {
            if let Some(sender) = self.waiting.remove(&ticket) {
                let commit = commit.clone();
                // A client that is gone has stopped waiting.
                let _ = sender.send(commit.map(|commit| Committing { reply: answer, commit }));
            }
        }
        commit.map(|commit| Committing { reply, commit })
    }

    /// Appends a turn's records and applies them.
    fn append(
        &mut self,
        shard: &Shard<M>,
        around: &Surroundings,
        turn: &Turn<M>,
    ) -> Result<Commit, ErrorCode> {
        let size: usize = turn.records.iter().map(Record::size_bytes).sum();
        if size > RECORDS_PER_TURN_SIZE_MAX {
            return Err(reply_error(ErrorCode::MessageTooLarge));
        }
        let mut options = around.batch;
        if let Some(producer) = turn.transaction {
            options.transactional = true;
            (options.producer_id, options.producer_epoch) = (producer.id, producer.epoch);
        }
        let partition = &shard.partition;
        let size_max = partition.log().config().max_message_bytes;
        let size_max = usize::try_from(size_max).unwrap_or(usize::MAX);
        let timestamp_ms = around.now.wall_time_ms;
        let encoded = batches::encode(&turn.records, options, (timestamp_ms, size_max));
        let records = encoded.map_err(|_| reply_error(ErrorCode::MessageTooLarge))?;
        let appended = partition.append_own(records, shard.leader_epoch).map_err(|refused| {
            let (code, message) = (refused.code, refused.message.unwrap_or_default());
            let partition = partition.topic_partition();
            tracing::warn!(%partition, %code, message, "records of a shard were not appended");
            reply_error(code)
        })?;
        for (offset, record) in (appended.base_offset..).zip(&turn.records) {
            let transaction = turn.transaction;
            self.machine.replay(record, Place { offset, timestamp_ms, transaction });
        }
        self.end_offset = appended.last_offset + 1;
        Ok(Commit {
            partition: partition.clone(),
            offset: self.end_offset,
            leader_epoch: shard.leader_epoch,
            timeout: around.commit_timeout,
        })
    }

    /// Makes room of clients that are gone, when there is need.
    fn forget_leavers(&mut self) {
        if self.waiting.len() >= WAITING_REQUESTS_PER_SHARD_MAX {
            self.waiting.retain(|_, sender| !sender.is_closed());
        }
    }
}
