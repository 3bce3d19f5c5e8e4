//! What is asked of the consensus here, until who runs the [`Node`](super::node::Node) takes it,
//! and who waits for the answers. The face of a member towards its requests, for the driver and the
//! simulator alike.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use ottla_common::types::{MemberId, SessionId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::messages::{Order, OrderRefused};
use super::node::{Effect, Failure, Input, Proposed};
use super::{Applied, ProposeError};
use crate::limits::{PROPOSAL_BYTES_MAX, PROPOSALS_MAX, QUESTIONS_MAX};
use crate::sessions::keeper::SessionConnection;
use crate::storage::wal_record::PAYLOAD_SIZE_MAX;
use crate::tree::{Command, Origin};

/// Memory for proposals is counted in units of so many bytes.
const PERMIT_SIZE: usize = 1024;

/// Tells who runs the node that something waits, and how much does.
type Wake = Box<dyn Fn(usize) + Send + Sync>;

/// See the module.
pub struct Intake {
    member_id: MemberId,
    memory: Arc<Semaphore>,
    proposals: Mutex<Proposals>,
    questions: Mutex<Questions>,
    heard: Mutex<Heard>,
    wake: Wake,
}

/// The proposals that have no outcome yet.
#[derive(Debug)]
struct Proposals {
    /// The number of the first of those that wait.
    first: u64,
    waiting: VecDeque<Option<Waiting>>,
    fresh: Vec<Proposed>,
    closed: bool,
}

/// A proposal that waits for its outcome. The command is kept so that it need not be decoded.
#[derive(Debug)]
pub struct Waiting {
    /// What was proposed.
    pub command: Command,
    done: oneshot::Sender<Result<Applied, ProposeError>>,
    _memory: OwnedSemaphorePermit,
}

type Barrier = oneshot::Sender<Result<u64, ProposeError>>;

/// Everything else that gets an answer.
#[derive(Debug, Default)]
struct Questions {
    next_id: u64,
    fresh_barriers: Vec<u64>,
    barriers: BTreeMap<u64, Barrier>,
    fresh_confirms: Vec<(u64, SessionId)>,
    confirms: BTreeMap<u64, oneshot::Sender<bool>>,
    fresh_orders: Vec<(u64, Order)>,
    orders: BTreeMap<u64, oneshot::Sender<Result<u64, OrderRefused>>>,
    closed: bool,
}

/// What gets none.
#[derive(Debug, Default)]
struct Heard {
    sessions: BTreeSet<SessionId>,
    disconnected: Vec<SessionConnection>,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").field("member_id", &self.member_id).finish_non_exhaustive()
    }
}

impl Waiting {
    /// Tells who proposed.
    pub fn done(self, result: Result<Applied, ProposeError>) {
        // Nobody waits any more if the connection has ended.
        let _ = self.done.send(result);
    }
}

impl Intake {
    /// Nothing is asked yet. Proposals are numbered from `first_number`; `wake` is called when
    /// something waits to be collected.
    pub fn new(
        member_id: MemberId,
        first_number: u64,
        wake: impl Fn(usize) + Send + Sync + 'static,
    ) -> Self {
        let proposals = Proposals {
            first: first_number,
            waiting: VecDeque::new(),
            fresh: Vec::new(),
            closed: false,
        };
        Self {
            member_id,
            memory: Arc::new(Semaphore::new(PROPOSAL_BYTES_MAX / PERMIT_SIZE)),
            proposals: Mutex::new(proposals),
            questions: Mutex::default(),
            heard: Mutex::default(),
            wake: Box::new(wake),
        }
    }

    /// About how many proposals have no outcome yet.
    pub fn outstanding(&self) -> usize {
        self.proposals.lock().waiting.len()
    }

    /// Takes a proposal. Its place behind all that were taken before is fixed when this returns.
    pub fn propose(
        &self,
        command: Command,
        only_term: Option<u64>,
    ) -> Result<oneshot::Receiver<Result<Applied, ProposeError>>, ProposeError> {
        let mut payload = command.to_payload(Origin { member_id: self.member_id, number: 0 });
        if payload.len() > PAYLOAD_SIZE_MAX {
            return Err(ProposeError::TooLong);
        }
        let permits = u32::try_from(payload.len().div_ceil(PERMIT_SIZE)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory).try_acquire_many_owned(permits);
        let memory = memory.map_err(|_| ProposeError::Busy)?;
        let (done, applied) = oneshot::channel();
        let mut proposals = self.proposals.lock();
        if proposals.closed {
            return Err(ProposeError::Stopped);
        }
        if proposals.waiting.len() >= PROPOSALS_MAX {
            return Err(ProposeError::Busy);
        }
        let number = proposals.first + proposals.waiting.len() as u64;
        Origin { member_id: self.member_id, number }.put_into(&mut payload);
        proposals.waiting.push_back(Some(Waiting { command, done, _memory: memory }));
        let is_first = proposals.fresh.is_empty();
        proposals.fresh.push(Proposed { number, payload: payload.into(), only_term });
        let waiting = proposals.waiting.len();
        drop(proposals);
        if is_first {
            (self.wake)(waiting);
        }
        Ok(applied)
    }

    /// Asks how far this member must apply to have all that was acknowledged by now.
    pub fn barrier(&self) -> Result<oneshot::Receiver<Result<u64, ProposeError>>, ProposeError> {
        let (done, reached) = oneshot::channel();
        self.ask(|questions, id| {
            questions.fresh_barriers.push(id);
            questions.barriers.insert(id, done);
        })?;
        Ok(reached)
    }

    /// Asks whether a session lives, and counts it as heard from.
    pub fn confirm(&self, session_id: SessionId) -> Result<oneshot::Receiver<bool>, ProposeError> {
        let (done, confirmed) = oneshot::channel();
        self.ask(|questions, id| {
            questions.fresh_confirms.push((id, session_id));
            questions.confirms.insert(id, done);
        })?;
        Ok(confirmed)
    }

    /// Asks for something that only a leader can do.
    pub fn order(
        &self,
        order: Order,
    ) -> Result<oneshot::Receiver<Result<u64, OrderRefused>>, ProposeError> {
        let (done, answer) = oneshot::channel();
        self.ask(|questions, id| {
            questions.fresh_orders.push((id, order));
            questions.orders.insert(id, done);
        })?;
        Ok(answer)
    }

    fn ask(&self, put: impl FnOnce(&mut Questions, u64)) -> Result<(), ProposeError> {
        let mut questions = self.questions.lock();
        if questions.closed {
            return Err(ProposeError::Stopped);
        }
        if questions.barriers.len() + questions.confirms.len() >= QUESTIONS_MAX {
            return Err(ProposeError::Busy);
        }
        questions.next_id += 1;
        let id = questions.next_id;
        put(&mut questions, id);
        let waiting = questions.barriers.len() + questions.confirms.len();
        drop(questions);
        (self.wake)(waiting);
        Ok(())
    }

    /// A session was heard from. Collected with the next tick.
    pub fn touch(&self, session_id: SessionId) {
        self.heard.lock().sessions.insert(session_id);
    }

    /// A session's client left a connection.
    pub fn disconnected(&self, connection: SessionConnection) {
        let mut heard = self.heard.lock();
        heard.disconnected.push(connection);
        let waiting = heard.disconnected.len();
        drop(heard);
        (self.wake)(waiting);
    }

    /// What was proposed since the last time.
    pub fn collect_proposals(&self) -> Option<Input> {
        let fresh = std::mem::take(&mut self.proposals.lock().fresh);
        (!fresh.is_empty()).then_some(Input::Propose(fresh))
    }

    /// What else was asked, and with a tick what was heard.
    pub fn collect_questions(&self, is_tick: bool) -> Vec<Input> {
        let mut inputs = Vec::new();
        let mut heard = self.heard.lock();
        if is_tick && !heard.sessions.is_empty() || !heard.disconnected.is_empty() {
            let Heard { sessions, disconnected } = std::mem::take(&mut *heard);
            let sessions = sessions.into_iter().collect();
            inputs.push(Input::Touch { sessions, disconnected });
        }
        drop(heard);
        let mut questions = self.questions.lock();
        let barriers = std::mem::take(&mut questions.fresh_barriers);
        let confirms = std::mem::take(&mut questions.fresh_confirms);
        let orders = std::mem::take(&mut questions.fresh_orders);
        drop(questions);
        if !barriers.is_empty() {
            inputs.push(Input::Barriers(barriers));
        }
        if !confirms.is_empty() {
            inputs.push(Input::Confirm(confirms));
        }
        inputs.extend(orders.into_iter().map(|(id, order)| Input::Order(id, order)));
        inputs
    }

    /// Takes out who waits for a proposal of this member that is being applied.
    pub fn take(&self, number: u64) -> Option<Waiting> {
        self.proposals.lock().take(number)
    }

    /// Takes out those who wait for these proposals, whose numbers ascend.
    pub fn take_all(&self, numbers: impl Iterator<Item = u64>) -> VecDeque<(u64, Waiting)> {
        let mut proposals = self.proposals.lock();
        numbers.filter_map(|number| Some((number, proposals.take(number)?))).collect()
    }

    /// Answers those that an effect is for; returns the effect if it is none of these.
    pub fn answer(&self, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Failed(number, failure) => {
                if let Some(waiting) = self.take(number) {
                    waiting.done(Err(match failure {
                        Failure::NotDone => ProposeError::Unavailable,
                        Failure::Unknown => ProposeError::Unknown,
                    }));
                }
            }
            Effect::BarrierDone(id, index) => {
                if let Some(done) = self.questions.lock().barriers.remove(&id) {
                    let _ = done.send(index.ok_or(ProposeError::Unavailable));
                }
            }
            Effect::Confirmed(id, lives) => {
                if let Some(done) = self.questions.lock().confirms.remove(&id) {
                    let _ = done.send(lives);
                }
            }
            Effect::OrderDone(id, result) => {
                if let Some(done) = self.questions.lock().orders.remove(&id) {
                    let _ = done.send(result);
                }
            }
            other => return Some(other),
        }
        None
    }

    /// The member stops: whoever waits is told so, and who comes later.
    pub fn close(&self) {
        let mut proposals = self.proposals.lock();
        proposals.closed = true;
        let waiting = std::mem::take(&mut proposals.waiting);
        proposals.first += waiting.len() as u64;
        proposals.fresh.clear();
        drop(proposals);
        for waiting in waiting.into_iter().flatten() {
            waiting.done(Err(ProposeError::Stopped));
        }
        let mut questions = self.questions.lock();
        *questions = Questions { closed: true, ..Questions::default() };
    }
}

impl Proposals {
    fn take(&mut self, number: u64) -> Option<Waiting> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let waiting = self.waiting.get_mut(place)?.take();
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
        waiting
    }
}

impl Origin {
    /// Takes the place of the origin in a payload whose own was not known yet.
    fn put_into(self, payload: &mut [u8]) {
        let own = self.member_id.0.to_le_bytes().into_iter().chain(self.number.to_le_bytes());
        for (place, byte) in payload.iter_mut().zip(own) {
            *place = byte;
        }
    }
}
