//! Where commands get their order: what is proposed here becomes durable, gets a zxid, and is
//! applied on every member in the same order.
//!
//! A command's way: [`Ensemble::propose`] encodes it and puts it into a bounded queue. The driver
//! (`driver.rs`, a thread of its own, since it waits for the disk) takes all that waits, gives each
//! its place in the log and the time, and makes them durable by one flush. The applier (`apply.rs`,
//! another thread) applies them in that order and answers the proposers, while the driver flushes
//! the next ones. A command's zxid is its index in the log.
//!
//! For now an ensemble has one member: what is durable here is committed. With several, the driver
//! gives the raft core its clock, disk and network, and hands the applier what the core says is
//! committed; nothing above this module will notice.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod apply;
mod driver;
mod load;
pub mod peers;
pub mod raft;
mod snapshotter;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use ottla_common::clock::Clock;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{MemberId, SessionId, Zxid};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use self::apply::Applier;
use self::driver::Driver;
use self::load::{Loaded, zxid_of};
use self::snapshotter::Snapshotter;
use crate::limits::{PROPOSAL_BYTES_MAX, PROPOSALS_MAX};
use crate::metrics::Metrics;
use crate::sessions::keeper::{Keeper, SessionConnection};
use crate::storage::StorageError;
use crate::storage::files::Files;
use crate::storage::wal::{Wal, WalOptions};
use crate::storage::wal_record::PAYLOAD_SIZE_MAX;
use crate::tree::{Command, Origin, Outcome};
use crate::watches::LiveState;

/// Memory for proposals is counted in units of so many bytes.
const PERMIT_SIZE: usize = 1024;

/// How a member keeps its log.
#[derive(Clone, Debug)]
pub struct EnsembleOptions {
    /// This member.
    pub member_id: MemberId,
    /// Its folder.
    pub folder: PathBuf,
    /// How its log is laid out.
    pub wal: WalOptions,
    /// After how many records of the log a snapshot is taken.
    pub snapshot_after_records: u64,
    /// After how many bytes of the log a snapshot is taken.
    pub snapshot_after_bytes: u64,
    /// The way to the file system.
    pub files: Files,
    /// What tells the time.
    pub clock: Clock,
    /// The sessions' deadlines.
    pub keeper: Arc<Keeper>,
    /// What the member counts.
    pub metrics: Arc<Metrics>,
}

impl EnsembleOptions {
    /// The defaults: snapshots after 100,000 records or 64 MiB.
    pub fn new(member_id: MemberId, folder: impl Into<PathBuf>) -> Self {
        Self {
            member_id,
            folder: folder.into(),
            wal: WalOptions::default(),
            snapshot_after_records: 100_000,
            snapshot_after_bytes: 64 * 1024 * 1024,
            files: Files::default(),
            clock: Clock::system(),
            keeper: Arc::new(Keeper::new(50, 500)),
            metrics: Arc::default(),
        }
    }
}

/// Why a member cannot take up its state.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its files cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A record of the log is whole but not a command that this build knows.
    #[error(
        "the record {index} of the log cannot be read by this build: {reason}. Start the build \
         that wrote it, or a newer one"
    )]
    UnknownRecord {
        /// Its index.
        index: u64,
        /// Why.
        reason: String,
    },
    /// The system gives no thread.
    #[error("start a thread: {0}")]
    Thread(std::io::Error),
}

/// The way to the ensemble. Clones share it.
#[derive(Clone, Debug)]
pub struct Ensemble {
    member_id: MemberId,
    events: mpsc::Sender<Event>,
    memory: Arc<Semaphore>,
    progress: Arc<Progress>,
    live: Arc<LiveState>,
    keeper: Arc<Keeper>,
    clock: Clock,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The command's place in the order of all.
    pub zxid: Zxid,
    /// What came of it.
    pub outcome: Outcome,
}

/// Why a proposal has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The member stops, or its disk has failed. The command may have been carried out, may still
    /// be, or never.
    #[error("the member stops")]
    Stopped,
    /// Too much waits already; the command was not taken.
    #[error("too many proposals wait")]
    Busy,
    /// The command is longer than a record of the log may be; it was not taken.
    #[error("the command is too long")]
    TooLong,
}

/// A proposal on its way.
#[derive(Debug)]
pub struct Proposal(Result<oneshot::Receiver<Applied>, ProposeError>);

/// A command that waits for its place in the log.
#[derive(Debug)]
struct Waiting {
    command: Command,
    payload: Bytes,
    done: oneshot::Sender<Applied>,
    _memory: OwnedSemaphorePermit,
}

/// What the driver is told.
#[derive(Debug)]
enum Event {
    Propose(Waiting),
    /// No snapshot that is kept needs the log before this index.
    Forget(u64),
    Stop,
}

/// What the parts tell each other of how far they are.
#[derive(Debug)]
struct Progress {
    /// The newest index that is durable and thus, with one member, committed.
    committed: AtomicU64,
    /// Why the log failed, once it has.
    failure: watch::Sender<Option<Arc<str>>>,
    term: u64,
    first_index: AtomicU64,
    snapshot_index: AtomicU64,
    flushes: AtomicU64,
    flush_micros_total: AtomicU64,
    flush_micros_last: AtomicU64,
    metrics: Arc<Metrics>,
}

/// The figures of a member's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleStatus {
    /// The member that leads, if one is known.
    pub leader_id: Option<MemberId>,
    /// The term.
    pub term: u64,
    /// The oldest record that is kept.
    pub first_index: u64,
    /// The newest record that is committed.
    pub committed_index: u64,
    /// The newest record that is applied.
    pub applied_index: u64,
    /// The record that the newest snapshot stands behind; 0 if there is none.
    pub snapshot_index: u64,
    /// How often the log was flushed since the start.
    pub flushes: u64,
    /// How long that took in all, in microseconds.
    pub flush_micros_total: u64,
    /// How long the last time, in microseconds.
    pub flush_micros_last: u64,
    /// Why the log takes nothing more, if it has failed.
    pub failure: Option<Arc<str>>,
}

impl Ensemble {
    /// Reads the member's state from its folder and takes commands from then on, until `shutdown`
    /// is told to stop, which waits until all is on disk. If the disk fails, the member tells
    /// `shutdown` itself. Blocks while it reads; must be called within a tokio runtime.
    pub fn start(
        options: EnsembleOptions,
        shutdown: &Shutdown,
    ) -> Result<(Self, Arc<LiveState>), StartError> {
        let Loaded { live, wal, snapshots, term, snapshot_index, lock } = load::load(&options)?;
        let live = Arc::new(live);
        let (events, arriving) = mpsc::channel(PROPOSALS_MAX);
        let progress =
            Arc::new(Progress::new(&wal, (term, snapshot_index), Arc::clone(&options.metrics)));
        let ensemble = Self {
            member_id: options.member_id,
            events: events.clone(),
            memory: Arc::new(Semaphore::new(PROPOSAL_BYTES_MAX / PERMIT_SIZE)),
            progress: Arc::clone(&progress),
            live: Arc::clone(&live),
            keeper: Arc::clone(&options.keeper),
            clock: options.clock.clone(),
        };
        options.keeper.lead(term, live.view().machine(), options.clock.monotonic_ms());
        let records = wal.last_index() - snapshot_index;
        let told = (Arc::clone(&progress), events.clone());
        let snapshotter = Snapshotter::new(&options, snapshots, told, records);
        let told = (Arc::clone(&live), Arc::clone(&options.keeper), options.clock.clone());
        let applier = Applier::start(told, snapshotter);
        let applier = applier.map_err(StartError::Thread)?;
        let (ended, end) = oneshot::channel();
        let driver = Driver::new((wal, lock), applier, (Arc::clone(&progress), options.clock));
        let thread = std::thread::Builder::new().name("coordinator-log".to_owned());
        let running = thread.spawn(move || {
            driver.run(arriving);
            let _ = ended.send(());
        });
        running.map_err(StartError::Thread)?;
        shutdown.spawn(stop_with(shutdown.clone(), events, progress, end));
        Ok((ensemble, live))
    }

    /// Proposes a command. Its place behind all that was proposed before is fixed when this
    /// returns, without waiting; the outcome comes when it has been applied here.
    pub fn propose(&self, command: Command) -> Proposal {
        Proposal(self.enqueue(command))
    }

    /// Proposes a command that this member decided as the leader of a term: it is not done unless
    /// it gets its place in that term.
    pub fn propose_in_term(&self, command: Command, term: u64) -> Proposal {
        if term != self.progress.term {
            return Proposal(Err(ProposeError::Stopped));
        }
        self.propose(command)
    }

    fn enqueue(&self, command: Command) -> Result<oneshot::Receiver<Applied>, ProposeError> {
        let payload = command.to_payload(Origin { member_id: self.member_id, number: 0 });
        if payload.len() > PAYLOAD_SIZE_MAX {
            return Err(ProposeError::TooLong);
        }
        let permits = u32::try_from(payload.len().div_ceil(PERMIT_SIZE)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(permits);
        let memory = memory.map_err(|_| ProposeError::Busy)?;
        let (done, applied) = oneshot::channel();
        let waiting = Waiting { command, payload, done, _memory: memory };
        match self.events.try_send(Event::Propose(waiting)) {
            Ok(()) => Ok(applied),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ProposeError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ProposeError::Stopped),
        }
    }

    /// A session was heard from.
    pub fn touch(&self, session_id: SessionId) {
        let _ = self.keeper.touch(&[session_id], self.clock.monotonic_ms());
    }

    /// A session's client left a connection: unless it has come back by now, its session has only
    /// the grace to do so.
    pub fn disconnected(&self, connection: SessionConnection) {
        self.keeper.disconnected(&[connection], self.clock.monotonic_ms());
    }

    /// The sessions' deadlines.
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// What tells the time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Completes when this member has applied all that any member had acknowledged when it was
    /// asked.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::Stopped);
        }
        let committed = self.progress.committed.load(Ordering::Acquire);
        let mut applied = self.live.progress();
        let reached = applied.wait_for(|zxid| *zxid >= zxid_of(committed)).await;
        reached.map(|_| ()).map_err(|_| ProposeError::Stopped)
    }

    /// The member that leads, if one is known.
    pub fn leader_id(&self) -> Option<MemberId> {
        let serves = !self.events.is_closed() && self.progress.failure.borrow().is_none();
        serves.then_some(self.member_id)
    }

    /// Whether this member leads: then it keeps the sessions' deadlines.
    pub fn is_leader(&self) -> bool {
        self.leader_id() == Some(self.member_id)
    }

    /// Why the member's log failed, once it has: to be watched.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.progress.failure.subscribe()
    }

    /// The figures of the log.
    pub fn status(&self) -> EnsembleStatus {
        let progress = &self.progress;
        EnsembleStatus {
            leader_id: self.leader_id(),
            term: progress.term,
            first_index: progress.first_index.load(Ordering::Relaxed),
            committed_index: progress.committed.load(Ordering::Acquire),
            applied_index: self.live.zxid().0.unsigned_abs(),
            snapshot_index: progress.snapshot_index.load(Ordering::Relaxed),
            flushes: progress.flushes.load(Ordering::Relaxed),
            flush_micros_total: progress.flush_micros_total.load(Ordering::Relaxed),
            flush_micros_last: progress.flush_micros_last.load(Ordering::Relaxed),
            failure: progress.failure.borrow().clone(),
        }
    }
}

impl Progress {
    fn new(wal: &Wal, (term, snapshot_index): (u64, u64), metrics: Arc<Metrics>) -> Self {
        Self {
            committed: AtomicU64::new(wal.last_index()),
            failure: watch::Sender::new(None),
            term,
            first_index: AtomicU64::new(wal.first_index()),
            snapshot_index: AtomicU64::new(snapshot_index),
            flushes: AtomicU64::new(0),
            flush_micros_total: AtomicU64::new(0),
            flush_micros_last: AtomicU64::new(0),
            metrics,
        }
    }
}

/// Stops the driver with the member, and the member with its disk. Ends when all is on disk.
async fn stop_with(
    shutdown: Shutdown,
    events: mpsc::Sender<Event>,
    progress: Arc<Progress>,
    mut end: oneshot::Receiver<()>,
) {
    let mut failure = progress.failure.subscribe();
    tokio::select! {
        () = shutdown.stopped() => {}
        _ = failure.wait_for(Option::is_some) => shutdown.stop(),
    }
    // The driver is gone already if the disk has failed.
    tokio::select! {
        _ = events.send(Event::Stop) => {}
        _ = &mut end => return,
    }
    let _ = end.await;
}

impl Future for Proposal {
    type Output = Result<Applied, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Err(error) => Poll::Ready(Err(*error)),
            Ok(applied) => Pin::new(applied)
                .poll(context)
                .map(|applied| applied.map_err(|_| ProposeError::Stopped)),
        }
    }
}
