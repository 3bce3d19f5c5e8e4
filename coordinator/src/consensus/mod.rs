//! Where commands get their order: what is proposed here becomes durable on a majority of the
//! members, gets a zxid, and is applied on every member in the same order.
//!
//! A command's way: [`Ensemble::propose`] encodes it and lays it into the [`Intake`]. The driver
//! (`driver.rs`; who runs it says `helm.rs`) hands all that waits to the [`Node`](node::Node): the
//! raft core (`raft/`) with what waits on it here. If this member leads, the core gives each
//! command its place in the log and the time; the log's thread (`log_thread.rs`) makes them durable
//! by one flush while other members do the same (`peers/`). If another leads, they are forwarded to
//! it. What is committed is applied by another thread (`apply.rs`), in the order of the log, and
//! the member that proposed a command answers whoever waits for it. A command's zxid is its index
//! in the log.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod apply;
mod config_node;
mod driver;
mod helm;
pub mod intake;
pub mod load;
mod log_thread;
mod mailbox;
pub mod messages;
mod network;
pub mod node;
pub mod peers;
mod progress;
pub mod raft;
mod snapshot_files;
mod snapshotter;
mod start;
pub mod stepped;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ottla_common::clock::Clock;
use ottla_common::types::{MemberId, SessionId, Zxid};
use tokio::sync::{oneshot, watch};

use self::intake::Intake;
use self::load::zxid_of;
use self::messages::{Order, OrderRefused};
pub use self::network::NetworkOptions;
pub use self::progress::{EnsembleStatus, Leadership, Progress};
use self::raft::{Membership, MembershipChange};
use crate::metrics::Metrics;
use crate::seeded_bugs::{MemberBug, has};
use crate::sessions::keeper::{Keeper, SessionConnection};
use crate::storage::StorageError;
use crate::storage::files::Files;
use crate::storage::wal::WalOptions;
use crate::tree::{Command, Outcome};
use crate::watches::LiveState;

/// How a member keeps its log.
#[derive(Clone, Debug)]
pub struct EnsembleOptions {
    /// This member.
    pub member_id: MemberId,
    /// The members of the ensemble, as long as the log does not know them.
    pub membership: Membership,
    /// The shortest time without a leader after which one is elected, in milliseconds.
    pub election_timeout_ms: u64,
    /// How often a leader tells that it is alive, in milliseconds.
    pub heartbeat_interval_ms: u64,
    /// How long a proposal or a read waits for a leader, in milliseconds.
    pub patience_ms: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// How its log is laid out.
    pub wal: WalOptions,
    /// After how many records of the log a snapshot is taken, at the latest.
    pub snapshot_after_records: u64,
    /// After how many bytes of the log a snapshot is taken, at the latest.
    pub snapshot_after_bytes: u64,
    /// How many bytes of applied entries stay in memory for members that lag.
    pub kept_entries_size_max: usize,
    /// How many bytes of entries go in one message to a follower, or one entry that is larger.
    pub append_size_max: usize,
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
    /// The defaults: a member without others; snapshots after at most 100,000 records or 64 MiB.
    pub fn new(member_id: MemberId, folder: impl Into<PathBuf>) -> Self {
        Self {
            member_id,
            membership: Membership::of_voters([member_id]),
            election_timeout_ms: 300,
            heartbeat_interval_ms: 50,
            patience_ms: 5_000,
            folder: folder.into(),
            wal: WalOptions::default(),
            snapshot_after_records: 100_000,
            snapshot_after_bytes: 64 * 1024 * 1024,
            kept_entries_size_max: 8 * 1024 * 1024,
            append_size_max: 1024 * 1024,
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
    /// The system gives no randomness.
    #[error("find randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    /// The disk failed at once.
    #[error("the log cannot be written: {0}")]
    Failed(Arc<str>),
}

/// The way to the ensemble. Clones share it.
#[derive(Clone, Debug)]
pub struct Ensemble {
    member_id: MemberId,
    intake: Arc<Intake>,
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
    /// No leader was found in time. The command was not carried out and will not be.
    #[error("no member leads")]
    Unavailable,
    /// The command was given to a leader, and nobody knows what it did with it: it may have been
    /// carried out, may still be, or never.
    #[error("what became of the proposal is not known")]
    Unknown,
    /// Too much waits already; the command was not taken.
    #[error("too many proposals wait")]
    Busy,
    /// The command is longer than a record of the log may be; it was not taken.
    #[error("the command is too long")]
    TooLong,
}

/// A proposal on its way.
#[derive(Debug)]
pub struct Proposal(Result<Answer, ProposeError>);

type Answer = oneshot::Receiver<Result<Applied, ProposeError>>;

/// The parts that an [`Ensemble`] is a face of. The driver and the simulator make them.
#[derive(Clone, Debug)]
pub struct Parts {
    /// This member.
    pub member_id: MemberId,
    /// Where proposals and questions wait.
    pub intake: Arc<Intake>,
    /// How far everything is.
    pub progress: Arc<Progress>,
    /// The applied state.
    pub live: Arc<LiveState>,
    /// The sessions' deadlines.
    pub keeper: Arc<Keeper>,
    /// What tells the time.
    pub clock: Clock,
}

impl Ensemble {
    /// The face of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { member_id, intake, progress, live, keeper, clock } = parts;
        Self { member_id, intake, progress, live, keeper, clock }
    }

    /// Proposes a command. Its place behind all that was proposed here before is fixed when this
    /// returns, without waiting; the outcome comes when it has been applied here.
    pub fn propose(&self, command: Command) -> Proposal {
        if has(MemberBug::ReplyBeforeCommit) && self.is_leader() {
            return self.reply_before_commit(command);
        }
        Proposal(self.intake.propose(command, None))
    }

    /// A mistake, only made in builds that are to be found out: tells what will come of a command.
    fn reply_before_commit(&self, command: Command) -> Proposal {
        let mut machine = self.live.machine();
        let zxid = zxid_of(machine.zxid().0.unsigned_abs() + 1);
        let (outcome, _) = machine.apply(zxid, self.clock.wall_time_ms(), &command);
        let (done, applied) = oneshot::channel();
        let _ = self.intake.propose(command, None);
        let _ = done.send(Ok(Applied { zxid, outcome }));
        Proposal(Ok(applied))
    }

    /// Proposes a command that this member decided as the leader of a term: it is not done unless
    /// it gets its place in that term.
    pub fn propose_in_term(&self, command: Command, term: u64) -> Proposal {
        let only_term = (!has(MemberBug::ExpiryOutlivesTerm)).then_some(term);
        Proposal(self.intake.propose(command, only_term))
    }

    /// A session was heard from.
    pub fn touch(&self, session_id: SessionId) {
        self.intake.touch(session_id);
    }

    /// A session was heard from, and its client wants to rely on that. Whether the leader has
    /// counted it while nobody else can have led.
    pub async fn confirm_touch(&self, session_id: SessionId) -> bool {
        match self.intake.confirm(session_id) {
            Ok(confirmed) => confirmed.await.unwrap_or(false),
            Err(_) => false,
        }
    }

    /// A session's client left a connection: unless it has come back by now, its session has only
    /// the grace to do so.
    pub fn disconnected(&self, connection: SessionConnection) {
        self.intake.disconnected(connection);
    }

    /// The sessions' deadlines.
    pub fn keeper(&self) -> &Arc<Keeper> {
        &self.keeper
    }

    /// What tells the time.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// This member.
    pub fn member_id(&self) -> MemberId {
        self.member_id
    }

    /// Completes when this member has applied all that any member had acknowledged when it was
    /// asked.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        let reached = self.intake.barrier()?;
        let index = reached.await.unwrap_or(Err(ProposeError::Stopped))?;
        self.until_applied(index).await
    }

    /// Completes when this member has applied an entry.
    async fn until_applied(&self, index: u64) -> Result<(), ProposeError> {
        let mut applied = self.live.progress();
        let reached = applied.wait_for(|zxid| *zxid >= zxid_of(index)).await;
        reached.map(|_| ()).map_err(|_| ProposeError::Stopped)
    }

    /// Changes who the members are, on whichever member leads. Returns the index of the change's
    /// entry once it is in the leader's log; it is in force when it is committed.
    pub async fn change_members(&self, change: MembershipChange) -> Result<u64, OrderRefused> {
        let time_ms = self.clock.wall_time_ms();
        self.order(Order::Change { change, time_ms }).await
    }

    /// Hands leadership over, to a member or to the best one. Returns when that has begun.
    pub async fn transfer_leadership(&self, to: Option<MemberId>) -> Result<(), OrderRefused> {
        self.order(Order::Transfer { to }).await.map(|_| ())
    }

    async fn order(&self, order: Order) -> Result<u64, OrderRefused> {
        let answer = self.intake.order(order).map_err(|_| OrderRefused::Unavailable)?;
        answer.await.unwrap_or(Err(OrderRefused::Unavailable))
    }

    /// Has a snapshot written. Returns when that has been asked for.
    pub fn take_snapshot(&self) {
        if let Some(applier) = self.progress.applier.get() {
            applier.put(apply::ApplyJob::TakeSnapshot);
        }
    }

    /// About how many proposals of this member have no outcome yet.
    pub fn outstanding(&self) -> usize {
        self.intake.outstanding()
    }

    /// The members, as far as this member's log knows them.
    pub fn membership(&self) -> Membership {
        self.progress.membership()
    }

    /// Who leads, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.progress.leadership()
    }

    /// The member that leads, if one is known.
    pub fn leader_id(&self) -> Option<MemberId> {
        self.progress.leader_id()
    }

    /// Whether this member leads.
    pub fn is_leader(&self) -> bool {
        self.leader_id() == Some(self.member_id)
    }

    /// Why the member's log failed, once it has: to be watched.
    pub fn failure(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.progress.failure.subscribe()
    }

    /// How things stand.
    pub fn status(&self) -> EnsembleStatus {
        self.progress.status(self.live.zxid())
    }
}

impl Future for Proposal {
    type Output = Result<Applied, ProposeError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Err(error) => Poll::Ready(Err(*error)),
            Ok(applied) => Pin::new(applied)
                .poll(context)
                .map(|applied| applied.unwrap_or(Err(ProposeError::Stopped))),
        }
    }
}
