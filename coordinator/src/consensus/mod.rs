//! Where commands get their order: what is proposed here becomes durable, gets a zxid, and is applied on
//! every member in the same order.
//!
//! For now the order is that of one member's memory; the log comes beneath this same face.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ottla_common::clock;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::{MemberId, Zxid};
use tokio::sync::{mpsc, oneshot};

use crate::limits::PROPOSALS_MAX;
use crate::tree::{Command, Outcome};
use crate::watches::LiveState;

/// The way to the ensemble. Clones share it.
#[derive(Clone, Debug)]
pub struct Ensemble {
    member_id: MemberId,
    proposals: mpsc::Sender<Waiting>,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The command's place in the order of all.
    pub zxid: Zxid,
    /// What came of it.
    pub outcome: Outcome,
}

/// A proposal's outcome is not known: it may have been carried out, may still be, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The member stops.
    #[error("the member stops")]
    Stopped,
    /// Too much waits already; it was not taken.
    #[error("too many proposals wait")]
    Busy,
}

/// A proposal on its way.
#[derive(Debug)]
pub struct Proposal(Result<oneshot::Receiver<Applied>, ProposeError>);

#[derive(Debug)]
struct Waiting {
    command: Command,
    done: oneshot::Sender<Applied>,
}

impl Ensemble {
    /// An ensemble of one member that applies to `live`.
    pub fn in_memory(member_id: MemberId, live: Arc<LiveState>, shutdown: &Shutdown) -> Self {
        let (proposals, mut arriving) = mpsc::channel::<Waiting>(PROPOSALS_MAX);
        let stop = shutdown.clone();
        shutdown.spawn(async move {
            loop {
                let next = tokio::select! {
                    next = arriving.recv() => next,
                    () = stop.stopped() => None,
                };
                let Some(Waiting { command, done }) = next else { break };
                let zxid = Zxid(live.zxid().0 + 1);
                let outcome = live.apply(zxid, clock::wall_time_ms(), &command);
                let _ = done.send(Applied { zxid, outcome });
            }
        });
        Self { member_id, proposals }
    }

    /// Proposes a command. Its place behind all that was proposed before is fixed when this returns,
    /// without waiting; the outcome comes when it has been applied here.
    pub fn propose(&self, command: Command) -> Proposal {
        let (done, applied) = oneshot::channel();
        match self.proposals.try_send(Waiting { command, done }) {
            Ok(()) => Proposal(Ok(applied)),
            Err(mpsc::error::TrySendError::Full(_)) => Proposal(Err(ProposeError::Busy)),
            Err(mpsc::error::TrySendError::Closed(_)) => Proposal(Err(ProposeError::Stopped)),
        }
    }

    /// Completes when this member has applied all that any member had acknowledged when it was asked.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        let nothing = Command::by_ensemble(crate::tree::Action::Nothing);
        self.propose(nothing).await.map(|_| ())
    }

    /// The member that leads, if one is known.
    pub fn leader_id(&self) -> Option<MemberId> {
        Some(self.member_id)
    }

    /// Whether this member leads: then it keeps the sessions' deadlines.
    pub fn is_leader(&self) -> bool {
        self.leader_id() == Some(self.member_id)
    }
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
