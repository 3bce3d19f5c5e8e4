//! What a state machine over a partition of an internal topic looks like, and what it is given.
//!
//! Pure: no clock, no I/O, no randomness of its own. A machine is called for one [`Turn`] at a
//! time. What it decides goes into the turn; the runtime carries it out when the call returns.

use std::sync::Arc;

use bytes::Bytes;
use ottla_common::kafka::wire::{Encode, WireError};
use ottla_common::types::{TopicId, Uuid};

use crate::metadata::image::MetadataImage;

/// A request that waits for its answer: the number that the machine answers it by. Numbers are
/// not used twice in the life of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// The time of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back: for timeouts.
    pub monotonic_ms: u64,
    /// Milliseconds since 1970: for what is stored. May jump.
    pub wall_time_ms: i64,
}

/// A record of an internal topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The key, which begins with the record's type (two bytes).
    pub key: Bytes,
    /// The value, which begins with its version (two bytes); `None` is a tombstone.
    pub value: Option<Bytes>,
}

impl Record {
    /// A record from the messages of `records/` of the schema. `kind` is the key's `TYPE`,
    /// `version` that of the value.
    ///
    /// # Errors
    /// A text of more than 32,767 bytes; requests cannot carry one.
    pub fn new(
        (kind, key): (i16, &impl Encode),
        (version, value): (i16, &impl Encode),
    ) -> Result<Self, WireError> {
        let value = value.to_prefixed_bytes(version, version)?;
        Ok(Self { key: key.to_prefixed_bytes(kind, 0)?, value: Some(value) })
    }

    /// The record that removes what another of the same key said.
    ///
    /// # Errors
    /// As for [`Record::new`].
    pub fn tombstone((kind, key): (i16, &impl Encode)) -> Result<Self, WireError> {
        Ok(Self { key: key.to_prefixed_bytes(kind, 0)?, value: None })
    }

    /// Bytes of key and value.
    pub fn size_bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The producer of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// Where a record stands that is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its offset.
    pub offset: i64,
    /// When it was written, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The producer, if the record is part of a transaction, which takes effect with its end.
    pub transaction: Option<Producer>,
}

/// What differs between two images that a machine is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicChanges {
    /// Topics that came, or whose partitions, replicas or leaders changed.
    pub changed: Vec<Arc<str>>,
    /// Topics that are gone. One that was made anew under the same name is in both lists.
    pub deleted: Vec<(Arc<str>, TopicId)>,
}

impl TopicChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.deleted.is_empty()
    }
}

/// A state machine over one partition of an internal topic. `internal_topics` tells how it works.
pub trait StateMachine: Send + Sized + 'static {
    /// Names a timer. A timer that is set again has the new deadline alone.
    type Timer: Clone + Ord + Send + 'static;

    /// The answer to a request that waits.
    type Answer: Send + 'static;

    /// Applies a record: one of the log while the shard loads, one of its own turns when it was
    /// just appended. Nothing else changes what the log stands for. Must take any record: unknown
    /// types and versions, and whatever an older broker has written.
    fn replay(&mut self, record: &Record, place: Place);

    /// Applies the end of a transaction.
    fn replay_end_of_transaction(&mut self, producer: Producer, is_committed: bool);

    /// All of the log is replayed and the shard is about to serve: set timers, and the like.
    fn loaded(&mut self, turn: &mut Turn<Self>);

    /// A timer's deadline has passed. It is not set any more.
    fn due(&mut self, timer: Self::Timer, turn: &mut Turn<Self>);

    /// The cluster's topics changed. `turn.image()` shows them.
    fn topics_changed(&mut self, changes: &TopicChanges, turn: &mut Turn<Self>);
}

/// What a machine wants done about a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerChange<T> {
    /// Fire at this time of the monotonic clock.
    Set(T, u64),
    /// Do not fire.
    Cancel(T),
}

/// Where the ids of a turn come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// The system's randomness.
    Random,
    /// Numbers from this one on, for tests.
    Counted(u64),
}

/// One call of a machine: what it may look at, and what it wants done.
///
/// When the call returns, all records are appended as one write, then replayed, in order. If the
/// append fails, none is replayed and every answer of the turn becomes an error; timers are set in
/// either case.
pub struct Turn<M: StateMachine> {
    now: Now,
    image: Arc<MetadataImage>,
    ids: Ids,
    pub(super) records: Vec<Record>,
    pub(super) transaction: Option<Producer>,
    pub(super) answers: Vec<(Ticket, M::Answer)>,
    pub(super) timers: Vec<TimerChange<M::Timer>>,
}

impl<M: StateMachine> Turn<M> {
    /// A turn at this time, with this view of the cluster.
    pub fn new(now: Now, image: Arc<MetadataImage>, ids: Ids) -> Self {
        let (records, answers, timers) = (Vec::new(), Vec::new(), Vec::new());
        Self { now, image, ids, records, transaction: None, answers, timers }
    }

    /// The time.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The cluster.
    pub fn image(&self) -> &Arc<MetadataImage> {
        &self.image
    }

    /// An id that nobody else has.
    pub fn unique_id(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        match &mut self.ids {
            Ids::Random => match Uuid::random() {
                Ok(id) => return id,
                // Not secret, only different from all others.
                Err(_) => fastrand::fill(&mut bytes),
            },
            Ids::Counted(next) => {
                bytes[8..].copy_from_slice(&next.to_be_bytes());
                *next += 1;
            }
        }
        Uuid(bytes)
    }

    /// The next of counted ids, for tests.
    pub fn ids_used(&self) -> Option<u64> {
        match self.ids {
            Ids::Counted(next) => Some(next),
            Ids::Random => None,
        }
    }

    /// Wants a record written.
    pub fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Wants the turn's records written as part of a transaction.
    pub fn in_transaction(&mut self, producer: Producer) {
        self.transaction = Some(producer);
    }

    /// Answers a request that waits, once the turn's records are committed. A ticket that was
    /// answered before is passed over.
    pub fn answer(&mut self, ticket: Ticket, answer: M::Answer) {
        self.answers.push((ticket, answer));
    }

    /// Calls [`StateMachine::due`] at `deadline_ms` of the monotonic clock, instead of when the
    /// timer was due before.
    pub fn set_timer(&mut self, timer: M::Timer, deadline_ms: u64) {
        self.timers.push(TimerChange::Set(timer, deadline_ms));
    }

    /// Calls [`StateMachine::due`] in so many milliseconds.
    pub fn set_timer_in(&mut self, timer: M::Timer, delay_ms: u64) {
        self.set_timer(timer, self.now.monotonic_ms.saturating_add(delay_ms));
    }

    /// Forgets a timer, if it is set.
    pub fn cancel_timer(&mut self, timer: M::Timer) {
        self.timers.push(TimerChange::Cancel(timer));
    }

    /// The records so far; for tests of machines, and for what bounds them.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What the turn wants done besides its records, for tests of machines: answers and timers.
    #[expect(clippy::type_complexity, reason = "two plain lists")]
    pub fn into_parts(self) -> (Vec<Record>, Vec<(Ticket, M::Answer)>, Vec<TimerChange<M::Timer>>) {
        (self.records, self.answers, self.timers)
    }
}
