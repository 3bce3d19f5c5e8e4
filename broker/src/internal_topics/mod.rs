//! Replicated state machines over the partitions of internal topics: what Kafka calls coordinators.
//!
//! A *shard* owns one partition of an internal topic and serves while this broker leads the
//! partition. It holds a [`StateMachine`], which is pure. A request is a closure that is called
//! with the machine and a [`Turn`]: it decides records and a reply. The records are appended as
//! one write, at once, under the shard's lock; `replay` applies them; the reply is parked until
//! they are committed. So the order of effects is fixed when the call returns, and there is never
//! a state without the records that made it.
//!
//! ```text
//!   handler ── write(partition, |machine, turn| reply) ──► decide ─► append ─► replay ─┐
//!   timer ──── due(timer, turn) ─────────────────────────► decide ─► append ─► replay ─┤
//!                                     reply ◄── when the partition has committed ◄─────┘
//! ```
//!
//! A reply waits for the commit of what its own turn appended. One of a [`read`](Runtime::read)
//! waits for all that was appended before it: nobody is told of what a new leader may not have. If
//! the partition does not commit in time the reply is an error and the records stay: they may be
//! committed later, as the client expects of an unknown outcome.
//!
//! On becoming leader the shard replays its partition on a blocking thread. Until it is done all
//! requests are answered with COORDINATOR_LOAD_IN_PROGRESS at once: nobody waits behind a load.
//! When the leadership is lost the machine is dropped, whoever waits is told NOT_COORDINATOR, and
//! appends of a former leadership are refused by their leader epoch.
//!
//! # How a state machine plugs in
//!
//! - Implement [`StateMachine`] and start a [`Runtime`] with a function that makes an empty one for
//!   a partition. All groups of a partition live in *one* machine, `groups::shard::GroupShard`; a
//!   kind of group is a part of it, with the same shape: `fn some_request(&mut self, request, turn)
//!   -> reply`, `replay` of its own record types, `due` for its own timers. It decides by reading
//!   `&self` and calling `turn.record(..)`; it changes what records stand for only in `replay`,
//!   which is called right after the decision has returned.
//! - What no record stands for (who has joined, who waits, liveness) may be changed while deciding.
//!   Since an append may fail, it must be such that the client's next try finds a way.
//! - Time: `turn.now()`. Timers have names ([`StateMachine::Timer`]), one deadline each:
//!   `turn.set_timer_in(Timer::…, delay_ms)` sets or moves one, `turn.cancel_timer(Timer::…)`
//!   forgets it. They live as long as the shard does; [`StateMachine::loaded`] sets those that
//!   follow from the log. One whose turn could not be appended fires again after half a second.
//! - Randomness: `turn.unique_id()`. The cluster: `turn.image()`.
//! - A request that is answered later: [`Runtime::ask`] gives the machine a [`Ticket`]; it answers
//!   in this turn or any later one with `turn.answer(ticket, answer)`.
//! - Records: [`Record::new`] with the generated messages of `ottla_common::kafka::messages::
//!   records`. The buffers of records given to `replay` are their own; to keep parts is fine.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod loader;
pub mod machine;
pub mod runtime;
pub mod timers;

mod batches;
mod shard;

pub use machine::{Ids, Now, Place, Producer, Record, StateMachine, Ticket, TopicChanges, Turn};
pub use runtime::{Runtime, RuntimeSettings};
pub use shard::{Committing, Waiting};

/// The topic of groups and committed offsets.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// The topic of transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// The partition that a group or transactional id belongs to, of `partitions` (at least 1).
pub fn partition_for(id: &str, partitions: i32) -> i32 {
    let hash = java_hash(id);
    // As in Kafka: the smallest number has no absolute value and counts as 0.
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

/// `String.hashCode` of Java, over UTF-16 units.
fn java_hash(text: &str) -> i32 {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    text.encode_utf16().fold(0, add)
}

#[cfg(test)]
mod tests;
