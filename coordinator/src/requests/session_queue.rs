//! The requests of one connection, in their order: writes may be on their way together, a read
//! waits for all writes before it, and a write for all reads before it; replies leave in the order
//! of the requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ottla_common::coordination::protocol::{CoordinationError, Request};
use ottla_common::types::{SessionId, Zxid};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::Service;
use crate::consensus::{Applied, Proposal, ProposeError};
use crate::limits::{IDENTITIES_MAX, REQUESTS_IN_FLIGHT_MAX, SUBSCRIPTIONS_PER_CONNECTION_MAX};
use crate::tree::{Action, Command, Effect, Identity, acl};
use crate::watches::{Answer, Closed, ConnectionId, Outbox, Outgoing, Subscription};

/// A request as a front end hands it over.
#[derive(Debug)]
pub struct Submission {
    /// The number that the reply will carry.
    pub xid: u64,
    /// What is asked; none if this member does not know such a request.
    pub request: Option<Request>,
    /// The place that it takes among the requests in flight, given back with the reply.
    pub permit: OwnedSemaphorePermit,
}

/// Answers the requests of one connection.
#[derive(Debug)]
pub struct Conversation {
    pub(super) service: Arc<Service>,
    pub(super) session_id: SessionId,
    pub(super) connection_epoch: u64,
    pub(super) connection_id: ConnectionId,
    pub(super) identities: Arc<[Identity]>,
    pub(super) outbox: Outbox,
}

/// A write on its way.
struct Write {
    xid: u64,
    is_close: bool,
    proposal: Proposal,
    _permit: OwnedSemaphorePermit,
}

/// What a conversation has running.
#[derive(Default)]
struct Running {
    writes: VecDeque<Write>,
    subscriptions: BTreeMap<u64, AbortOnDropHandle<()>>,
}

impl Conversation {
    /// The session that it speaks for.
    pub fn session_id(&self) -> SessionId {
        self.session_id
    }

    /// The connection's number on this member.
    pub fn connection_id(&self) -> ConnectionId {
        self.connection_id
    }

    /// Answers requests until no more come, the session ends, or the outbox is closed. Returns
    /// whether the client closed its session.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Submission>) -> bool {
        let mut running = Running::default();
        loop {
            let has_place = running.writes.len() < REQUESTS_IN_FLIGHT_MAX;
            let first = running.writes.front_mut().map(|write| &mut write.proposal);
            let submission = tokio::select! {
                biased;
                Some(applied) = until(first) => {
                    match self.finish_write(&mut running, applied) {
                        None => continue,
                        Some(is_closed) => return is_closed,
                    }
                }
                submission = requests.recv(), if has_place => submission,
            };
            let Some(submission) = submission else { break };
            let is_write = matches!(
                submission.request,
                Some(Request::Write(_) | Request::Multi(_) | Request::CloseSession)
            );
            if is_write {
                running.writes.push_back(self.propose(submission));
            } else {
                if let Some(is_closed) = self.finish_writes(&mut running).await {
                    return is_closed;
                }
                if !self.outbox.room().await {
                    return false;
                }
                self.answer(&mut running, submission).await;
            }
        }
        self.finish_writes(&mut running).await.unwrap_or(false)
    }

    /// Waits for all writes and answers them. Some if the connection ends; whether because the
    /// client closed its session.
    async fn finish_writes(&self, running: &mut Running) -> Option<bool> {
        while let Some(write) = running.writes.front_mut() {
            let applied = (&mut write.proposal).await;
            if let Some(is_closed) = self.finish_write(running, applied) {
                return Some(is_closed);
            }
        }
        None
    }

    /// Answers the first of the writes. Some if the connection ends.
    fn finish_write(
        &self,
        running: &mut Running,
        applied: Result<Applied, ProposeError>,
    ) -> Option<bool> {
        let write = running.writes.pop_front()?;
        let Applied { zxid, outcome } = match applied {
            Ok(applied) => applied,
            Err(error @ ProposeError::TooLong) => {
                let limit = error.to_string();
                self.reply(write.xid, Err(CoordinationError::LimitReached { limit }));
                return None;
            }
            Err(ProposeError::Busy | ProposeError::Stopped) => {
                // Whether it was done is not known, nor what became of those after it.
                self.reply(write.xid, Err(CoordinationError::Unavailable));
                self.outbox.close(Closed::Because(CoordinationError::Unavailable));
                return Some(false);
            }
        };
        let is_over = match &outcome {
            Ok(_) => write.is_close.then_some(Closed::Quietly),
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
        self.reply_at(write.xid, zxid, result);
        is_over.map(|closed| {
            self.outbox.close(closed);
            write.is_close
        })
    }

    fn propose(&self, submission: Submission) -> Write {
        let Submission { xid, request, permit } = submission;
        let is_close = matches!(request, Some(Request::CloseSession));
        let action = match request {
            Some(Request::Write(op)) => Action::Write(op),
            Some(Request::Multi(ops)) => Action::Multi(ops),
            _ => Action::CloseSession,
        };
        let command = Command {
            session_id: self.session_id,
            connection_epoch: self.connection_epoch,
            identities: if is_close { Vec::new() } else { self.identities.to_vec() },
            action,
        };
        Write { xid, is_close, proposal: self.service.ensemble.propose(command), _permit: permit }
    }

    /// Answers a request that changes nothing in the tree.
    async fn answer(&mut self, running: &mut Running, submission: Submission) {
        let Submission { xid, request, permit } = submission;
        match request {
            None => self.reply(xid, Err(CoordinationError::Unimplemented)),
            Some(Request::Auth { scheme, credential }) => {
                self.authenticate(xid, &scheme, &credential)
            }
            Some(Request::Subscribe { prefix, from_zxid }) => {
                self.subscribe(running, xid, &prefix, from_zxid);
            }
            Some(Request::Unsubscribe { subscription }) => {
                running.subscriptions.remove(&subscription);
                self.reply(xid, Ok(Answer::Done));
            }
            Some(request) => self.read(xid, request).await,
        }
        drop(permit);
    }

    fn authenticate(&mut self, xid: u64, scheme: &str, credential: &[u8]) {
        let identity = match scheme {
            "digest" => acl::digest_identity(credential),
            // The address is known without proof.
            "ip" => return self.reply(xid, Ok(Answer::Done)),
            _ => None,
        };
        let Some(identity) = identity.filter(|_| self.identities.len() < IDENTITIES_MAX) else {
            self.reply(xid, Err(CoordinationError::AuthFailed));
            return self.outbox.close(Closed::Because(CoordinationError::AuthFailed));
        };
        if !self.identities.contains(&identity) {
            let mut identities = self.identities.to_vec();
            if self.service.is_super(&identity) {
                identities.push(Identity { scheme: acl::SUPER.to_owned(), id: String::new() });
            }
            identities.push(identity);
            self.identities = identities.into();
            let identities = Arc::clone(&self.identities);
            self.service.live.set_identities(self.connection_id, identities);
        }
        self.reply(xid, Ok(Answer::Done));
    }

    fn subscribe(&self, running: &mut Running, xid: u64, prefix: &str, from: Option<Zxid>) {
        running.subscriptions.retain(|_, task| !task.is_finished());
        if running.subscriptions.len() >= SUBSCRIPTIONS_PER_CONNECTION_MAX {
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
        let task = tokio::spawn(async move {
            tokio::select! {
                () = subscription.run(&live, &outbox) => {}
                () = outbox.until_closed() => {}
            }
        });
        running.subscriptions.insert(xid, AbortOnDropHandle::new(task));
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

/// The outcome of a proposal; never if there is none.
async fn until(proposal: Option<&mut Proposal>) -> Option<Result<Applied, ProposeError>> {
    match proposal {
        Some(proposal) => Some(proposal.await),
        None => std::future::pending().await,
    }
}
