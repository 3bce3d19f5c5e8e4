//! The requests of one connection, in their order: writes may be on their way together, a read
//! waits for all writes before it, and a write for all reads before it; replies leave in the order
//! of the requests.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ottla_common::coordination::protocol::{CoordinationError, Request};
use ottla_common::types::{SessionId, Zxid};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::sasl::Exchange;
use super::tasks::RunningTask;
use super::{Ask, Service};
use crate::consensus::{Applied, Proposal, ProposeError};
use crate::limits::{
    REQUEST_BYTES_IN_FLIGHT_MAX, REQUESTS_IN_FLIGHT_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX,
};
use crate::metrics::RequestKind;
use crate::tree::{Action, Command, Effect, Identity};
use crate::watches::{
    Answer, Closed, ConnectionId, ConnectionKind, Outbox, Outgoing, Subscription,
};

/// A request as a front end hands it over.
#[derive(Debug)]
pub struct Submission {
    /// The number that the reply will carry.
    pub xid: u64,
    /// What is asked.
    pub ask: Ask,
    /// About how many bytes it takes in memory.
    pub size: usize,
    /// The place that it takes among the requests in flight, if the front end counts them, given
    /// back with the reply.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Answers the requests of one connection.
///
/// A front end hands requests over with [`Conversation::submit`] and lets [`Conversation::advance`]
/// go on while there are some that wait; or it leaves both to [`Conversation::run`]. What is
/// answered goes into the outbox.
#[derive(Debug)]
pub struct Conversation {
    pub(super) service: Arc<Service>,
    pub(super) session_id: SessionId,
    pub(super) connection_epoch: u64,
    pub(super) connection_id: ConnectionId,
    pub(super) kind: ConnectionKind,
    pub(super) identities: Arc<[Identity]>,
    pub(super) outbox: Outbox,
    pub(super) queue: RequestQueue,
    /// Whether nothing is answered before the client has authenticated by SASL.
    pub(super) must_authenticate: bool,
    pub(super) sasl: Option<Exchange>,
}

/// The requests that are not answered yet, and what else a conversation has running.
#[derive(Debug, Default)]
pub(super) struct RequestQueue {
    steps: VecDeque<Step>,
    /// How many of the steps are not writes on their way. While there are some, later requests wait
    /// behind them.
    others: usize,
    size: usize,
    subscriptions: BTreeMap<u64, RunningTask>,
}

/// A request that is not answered yet.
struct Step {
    xid: u64,
    size: usize,
    kind: RequestKind,
    since_micros: u64,
    task: Task,
    _permit: Option<OwnedSemaphorePermit>,
}

/// What is to be done for it.
enum Task {
    /// It waits for those before it.
    Wait(Ask),
    /// A read that waits until this member has caught up, or something else is done.
    Barrier(Ask, Barrier),
    /// A write on its way.
    Write { is_close: bool, proposal: Proposal },
}

type Barrier = Pin<Box<dyn Future<Output = Result<(), CoordinationError>> + Send>>;

impl Conversation {
    /// The session that it speaks for.
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// Whether it can only read.
    pub fn is_read_only(&self) -> bool {
        self.kind == ConnectionKind::ReadOnly
    }

    /// The connection's number on this member.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection_id
    }

    /// Answers requests until no more come, the session ends, or the outbox is closed. Returns
    /// whether the client closed its session.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Submission>) -> bool {
        loop {
            let (has_place, is_busy) = (self.has_place(), self.is_busy());
            tokio::select! {
                biased;
                ended = self.advance(), if is_busy => {
                    if let Some(is_closed) = ended {
                        return is_closed;
                    }
                }
                submission = requests.recv(), if has_place => match submission {
                    Some(submission) => self.submit(submission),
                    None => break,
                },
            }
        }
        while self.is_busy() {
            if let Some(is_closed) = self.advance().await {
                return is_closed;
            }
        }
        false
    }

    /// Whether requests wait for their answers.
    pub fn is_busy(&self) -> bool {
        !self.queue.steps.is_empty()
    }

    /// Whether one more request may be handed over.
    pub fn has_place(&self) -> bool {
        self.queue.steps.len() < REQUESTS_IN_FLIGHT_MAX
            && self.queue.size < REQUEST_BYTES_IN_FLIGHT_MAX
    }

    /// How many requests wait for their answers.
    pub fn waiting(&self) -> usize {
        self.queue.steps.len()
    }

    /// Gives back the memory of the queue if no request waits.
    pub fn rest(&mut self) {
        if self.queue.steps.is_empty() {
            self.queue.steps = VecDeque::new();
        }
    }

    /// Takes a request. It is answered at once if that needs no waiting.
    pub fn submit(&mut self, submission: Submission) {
        let Submission { xid, ask, size, permit } = submission;
        let (kind, since_micros) = (ask.kind(), self.service.ensemble.clock().monotonic_micros());
        let mut task = Task::Wait(ask);
        if self.is_read_only() {
            task = only_read(task);
        }
        if self.queue.others == 0 {
            task = self.propose_if_write(task);
        }
        self.queue.others += usize::from(!task.is_write());
        self.queue.size += size;
        self.queue.steps.push_back(Step { xid, size, kind, since_micros, task, _permit: permit });
        if self.queue.steps.len() == 1 {
            self.settle();
        }
    }

    /// Waits until the first of the requests that wait can be answered, and answers it. Some if the
    /// connection ends; whether because the client closed its session. What has been waited for is
    /// not lost if this is given up.
    pub async fn advance(&mut self) -> Option<bool> {
        let step = self.queue.steps.front_mut()?;
        let ended = match &mut step.task {
            Task::Write { proposal, .. } => {
                let applied = proposal.await;
                let step = self.pop()?;
                self.finish_write(&step, applied)
            }
            Task::Barrier(_, barrier) => {
                let reached = barrier.await;
                if !self.outbox.room().await {
                    return Some(false);
                }
                if let Some(Step { xid, task: Task::Barrier(ask, _), .. }) = self.pop() {
                    match reached {
                        Ok(()) => self.read(xid, ask),
                        Err(error) => self.reply(xid, Err(error)),
                    }
                }
                None
            }
            Task::Wait(_) => (!self.outbox.room().await).then_some(false),
        };
        if ended.is_none() {
            self.settle();
        }
        ended
    }

    fn pop(&mut self) -> Option<Step> {
        let step = self.queue.steps.pop_front()?;
        self.queue.others -= usize::from(!step.task.is_write());
        self.queue.size -= step.size;
        let now_micros = self.service.ensemble.clock().monotonic_micros();
        let took_micros = now_micros.saturating_sub(step.since_micros);
        self.service.options.metrics.requests(step.kind).observe_micros(took_micros);
        Some(step)
    }

    /// Does what can be done without waiting for the requests at the front.
    fn settle(&mut self) {
        let is_read_only = self.is_read_only();
        while let Some(step) = self.queue.steps.front_mut() {
            match &step.task {
                Task::Wait(ask) if ask.is_write() && !is_read_only => {
                    return self.propose_first();
                }
                Task::Wait(_) if self.outbox.is_full() => return,
                Task::Wait(ask) if ask.needs_barrier() && !self.must_authenticate => {
                    let service = Arc::clone(&self.service);
                    return self.wait_first(async move {
                        let reached = service.ensemble.read_barrier().await;
                        reached.map_err(|_| CoordinationError::Unavailable)
                    });
                }
                Task::Wait(Ask::ConfirmedPing) => {
                    let (service, session_id) = (Arc::clone(&self.service), self.session_id);
                    return self.wait_first(async move {
                        let lives = service.ensemble.confirm_touch(session_id).await;
                        lives.then_some(()).ok_or(CoordinationError::Unavailable)
                    });
                }
                Task::Wait(Ask::Reconfigure(wanted)) if !self.must_authenticate => {
                    let (service, wanted) = (Arc::clone(&self.service), wanted.clone());
                    let identities = Arc::clone(&self.identities);
                    return self.wait_first(async move {
                        service.reconfigure(&wanted, &identities).await
                    });
                }
                Task::Barrier(..) | Task::Write { .. } => return,
                Task::Wait(_) => {
                    if let Some(Step { xid, task: Task::Wait(ask), .. }) = self.pop() {
                        self.answer(xid, ask);
                    }
                }
            }
        }
    }

    /// Lets the first request wait for something.
    fn wait_first(
        &mut self,
        barrier: impl Future<Output = Result<(), CoordinationError>> + Send + 'static,
    ) {
        let Some(step) = self.queue.steps.front_mut() else { return };
        let waiting = Task::Wait(Ask::WhoAmI);
        if let Task::Wait(ask) = std::mem::replace(&mut step.task, waiting) {
            step.task = Task::Barrier(ask, Box::pin(barrier));
        }
    }

    /// Proposes the writes at the front, up to the first request that is none.
    fn propose_first(&mut self) {
        let mut steps = std::mem::take(&mut self.queue.steps);
        for step in &mut steps {
            let waiting = Task::Wait(Ask::WhoAmI);
            step.task = self.propose_if_write(std::mem::replace(&mut step.task, waiting));
            if !step.task.is_write() {
                break;
            }
            self.queue.others -= 1;
        }
        self.queue.steps = steps;
    }

    fn propose_if_write(&self, task: Task) -> Task {
        let Task::Wait(ask) = task else { return task };
        if self.is_read_only() {
            return Task::Wait(ask);
        }
        if self.must_authenticate && !ask.is_for_all() {
            return Task::Wait(Ask::Refused(CoordinationError::SaslRequired));
        }
        let (is_close, action) = match ask {
            Ask::Common(Request::Write(op)) => (false, Action::Write(op)),
            Ask::Common(Request::Multi(ops)) => (false, Action::Multi(ops)),
            Ask::Common(Request::CloseSession) => (true, Action::CloseSession),
            ask => return Task::Wait(ask),
        };
        let command = Command {
            session_id: self.session_id,
            connection_epoch: self.connection_epoch,
            identities: if is_close { Vec::new() } else { self.identities.to_vec() },
            enforces_quota: self.service.options.enforces_quota,
            action,
        };
        Task::Write { is_close, proposal: self.service.ensemble.propose(command) }
    }

    /// Answers a write. Some if the connection ends.
    fn finish_write(&self, step: &Step, applied: Result<Applied, ProposeError>) -> Option<bool> {
        let Task::Write { is_close, .. } = step.task else { return None };
        let Applied { zxid, outcome } = match applied {
            Ok(applied) => applied,
            Err(error @ ProposeError::TooLong) => {
                let limit = error.to_string();
                self.reply(step.xid, Err(CoordinationError::LimitReached { limit }));
                return None;
            }
            Err(_) => {
                // Whether it was done is not known, nor what became of those after it.
                self.reply(step.xid, Err(CoordinationError::Unavailable));
                self.outbox.close(Closed::Because(CoordinationError::Unavailable));
                return Some(false);
            }
        };
        let is_over = match &outcome {
            Ok(_) => is_close.then_some(Closed::Quietly),
            Err(error @ (CoordinationError::SessionExpired | CoordinationError::SessionMoved)) => {
                Some(Closed::Because(error.clone()))
            }
            Err(_) => None,
        };
        let result = outcome.map(|effect| match effect {
            Effect::Written(result) => Answer::Written(result),
            Effect::Multi(results) => Answer::Multi(results),
            _ => Answer::Done,
        });
        self.reply_at(step.xid, zxid, result);
        is_over.map(|closed| {
            self.outbox.close(closed);
            is_close
        })
    }

    /// Answers a request that changes nothing in the tree.
    fn answer(&mut self, xid: u64, ask: Ask) {
        match ask {
            ask if self.must_authenticate && !ask.is_for_all() => {
                self.reply(xid, Err(CoordinationError::SaslRequired));
                self.outbox.close(Closed::Because(CoordinationError::SaslRequired));
            }
            Ask::Refused(error) => self.reply(xid, Err(error)),
            Ask::Sasl(token) => self.authenticate_by_sasl(xid, &token),
            Ask::Common(Request::Auth { scheme, credential }) => {
                self.authenticate(xid, &scheme, &credential);
            }
            Ask::Common(Request::Subscribe { prefix, from_zxid }) => {
                self.subscribe(xid, &prefix, from_zxid);
            }
            Ask::Common(Request::CloseSession) => {
                self.reply(xid, Ok(Answer::Done));
                self.outbox.close(Closed::Quietly);
            }
            Ask::Common(Request::Unsubscribe { subscription }) => {
                self.queue.subscriptions.remove(&subscription);
                self.reply(xid, Ok(Answer::Done));
            }
            ask => self.read(xid, ask),
        }
    }

    fn subscribe(&mut self, xid: u64, prefix: &str, from: Option<Zxid>) {
        self.queue.subscriptions.retain(|_, task| !task.is_finished());
        if self.queue.subscriptions.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
            let limit = format!("{SUBSCRIPTIONS_PER_CONNECTION_MAX} subscriptions of a connection");
            return self.reply(xid, Err(CoordinationError::LimitReached { limit }));
        }
        let view = self.service.live.view();
        let identities = Arc::clone(&self.identities);
        let subscription = match Subscription::begin(&view, xid, prefix, from, identities) {
            Ok(subscription) => subscription,
            Err(error) => return self.reply_at(xid, view.zxid(), Err(error)),
        };
        drop(view);
        let resumed = subscription.is_resumed();
        self.reply_at(xid, subscription.zxid(), Ok(Answer::Subscribed { resumed }));
        let (live, outbox) = (Arc::clone(&self.service.live), self.outbox.clone());
        let task = self.service.options.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = outbox.until_closed() => {}
                () = subscription.run(&live, &outbox) => {}
            }
        });
        self.queue.subscriptions.insert(xid, task);
    }

    /// Puts an answer that belongs to the state as it is now into the outbox.
    pub(super) fn reply(&self, xid: u64, result: Result<Answer, CoordinationError>) {
        self.reply_at(xid, self.service.live.zxid(), result);
    }

    /// Puts an answer into the outbox.
    pub(super) fn reply_at(&self, xid: u64, zxid: Zxid, result: Result<Answer, CoordinationError>) {
        self.outbox.put(Outgoing::Reply { xid, zxid, result });
    }
}

/// What a member without a leader can do of a request.
fn only_read(task: Task) -> Task {
    match task {
        Task::Wait(Ask::Common(Request::CloseSession)) => task,
        Task::Wait(ask)
            if ask.is_write() || ask.needs_barrier() || matches!(ask, Ask::Reconfigure(_)) =>
        {
            Task::Wait(Ask::Refused(CoordinationError::ReadOnly))
        }
        task => task,
    }
}

impl Task {
    fn is_write(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("xid", &self.xid).finish_non_exhaustive()
    }
}
