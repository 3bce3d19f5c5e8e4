//! How a connection comes to its session, and how it leaves it.

use std::net::IpAddr;
use std::sync::Arc;

use ottla_common::coordination::protocol::{CoordinationError, SessionGrant, SessionRequest};
use ottla_common::types::{SessionId, Zxid};

use super::Service;
use super::session_queue::{Conversation, RequestQueue};
use crate::limits::PASSWORD_SIZE;
use crate::seeded_bugs::{MemberBug, has};
use crate::tree::{Action, Command, Effect, Identity, acl};
use crate::watches::{ConnectionId, ConnectionKind, Newcomer, Outbox};

/// What a connection asks for when it begins.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The session.
    pub session: SessionRequest,
    /// The highest zxid that the client saw.
    pub last_zxid_seen: Zxid,
    /// Where it comes from.
    pub address: IpAddr,
    /// What it has proved already, by a certificate.
    pub proved: Vec<Identity>,
    /// Whether it must authenticate by SASL before anything else.
    pub must_authenticate: bool,
    /// What its client relies on.
    pub kind: ConnectionKind,
}

/// A session that a connection holds now.
#[derive(Debug)]
pub struct Granted {
    /// What the client is told.
    pub grant: SessionGrant,
    /// What answers its requests.
    pub conversation: Conversation,
}

impl Service {
    /// Opens or resumes a session for a connection. What is to be sent goes into `outbox`, which
    /// ends when the session ends or moves.
    pub async fn open_session(
        self: &Arc<Self>,
        opening: Opening,
        outbox: Outbox,
    ) -> Result<Granted, CoordinationError> {
        if has(MemberBug::MemberBehindServes)
            && let Some(granted) = self.resume_unasked(&opening, &outbox)
        {
            return Ok(granted);
        }
        self.catch_up_for(&opening).await?;
        let (command, password) = self.session_command(&opening.session)?;
        let applied = self.ensemble.propose(command).await;
        let applied = applied.map_err(|_| CoordinationError::Unavailable)?;
        let Effect::SessionGranted { session_id, session_timeout_ms, connection_epoch } =
            applied.outcome?
        else {
            return Err(CoordinationError::Unavailable);
        };
        let conversation = self.converse(&opening, (session_id, connection_epoch), outbox)?;
        let zxid = applied.zxid;
        let grace_ms = self.ensemble.keeper().disconnect_grace_ms();
        let disconnect_grace_ms = u32::try_from(grace_ms).unwrap_or(u32::MAX);
        let grant =
            SessionGrant { session_id, password, session_timeout_ms, disconnect_grace_ms, zxid };
        Ok(Granted { grant, conversation })
    }

    /// A mistake, only made in builds that are to be found out: resumes a session as this member
    /// knows it, which may be behind what the client has seen.
    fn resume_unasked(self: &Arc<Self>, opening: &Opening, outbox: &Outbox) -> Option<Granted> {
        let SessionRequest::Resume { session_id, password } = &opening.session else {
            return None;
        };
        let view = self.live.view();
        let session = view.machine().sessions().get(*session_id)?;
        let connection_epoch = session.connection_epoch;
        let grant = SessionGrant {
            session_id: *session_id,
            password: password.clone(),
            session_timeout_ms: session.session_timeout_ms,
            disconnect_grace_ms: session.session_timeout_ms,
            zxid: view.machine().zxid(),
        };
        let is_password = session.is_password(password);
        drop(view);
        let connection = (*session_id, connection_epoch);
        let conversation = self.converse(opening, connection, outbox.clone()).ok()?;
        is_password.then_some(Granted { grant, conversation })
    }

    /// A client that comes from another member may have seen what is still on its way here.
    async fn catch_up_for(&self, opening: &Opening) -> Result<(), CoordinationError> {
        let is_known = match &opening.session {
            SessionRequest::New { .. } | SessionRequest::None => true,
            SessionRequest::Resume { session_id, .. } => {
                self.live.view().machine().sessions().get(*session_id).is_some()
            }
        };
        let has_seen_more = opening.last_zxid_seen > self.live.zxid();
        if is_known && !has_seen_more {
            return Ok(());
        }
        let reached = self.ensemble.read_barrier().await;
        reached.map_err(|_| CoordinationError::Unavailable)?;
        if opening.last_zxid_seen > self.live.zxid() {
            return Err(CoordinationError::MemberBehind);
        }
        Ok(())
    }

    /// Takes the connection in that has its session.
    pub(super) fn converse(
        self: &Arc<Self>,
        opening: &Opening,
        (session_id, connection_epoch): (SessionId, u64),
        outbox: Outbox,
    ) -> Result<Conversation, CoordinationError> {
        let address = opening.address.to_canonical().to_string();
        let mut identities = vec![Identity { scheme: "ip".to_owned(), id: address }];
        identities.extend(opening.proved.iter().cloned());
        let is_super = identities.iter().any(|identity| self.is_super(identity));
        if is_super || self.options.skips_acl {
            identities.push(Identity { scheme: acl::SUPER.to_owned(), id: String::new() });
        }
        let identities: Arc<[Identity]> = identities.into();
        let newcomer = Newcomer {
            session_id,
            connection_epoch,
            kind: opening.kind,
            identities: Arc::clone(&identities),
            outbox: outbox.clone(),
        };
        let connection_id = self.live.connect(newcomer)?;
        Ok(Conversation {
            service: Arc::clone(self),
            session_id,
            connection_epoch,
            connection_id,
            kind: opening.kind,
            identities,
            outbox,
            queue: RequestQueue::default(),
            must_authenticate: opening.must_authenticate,
            sasl: None,
        })
    }

    /// The command that opens or resumes a session, and the session's secret.
    fn session_command(
        &self,
        request: &SessionRequest,
    ) -> Result<(Command, Vec<u8>), CoordinationError> {
        match request {
            SessionRequest::New { session_timeout_ms } => {
                let (shortest, longest) =
                    (self.options.session_timeout_min_ms, self.options.session_timeout_max_ms);
                let session_timeout_ms = (*session_timeout_ms).clamp(shortest, longest);
                let password = self.options.secrets.draw::<PASSWORD_SIZE>()?.to_vec();
                let action =
                    Action::CreateSession { password: password.clone(), session_timeout_ms };
                Ok((Command::by_ensemble(action), password))
            }
            SessionRequest::None => {
                let reason = "a connection without a session is an administrator's".to_owned();
                Err(CoordinationError::BadArguments { reason })
            }
            SessionRequest::Resume { session_id, password } => {
                // Decided when it is applied; asked here so that guesses do not fill the log.
                let view = self.live.view();
                let session = view.machine().sessions().get(*session_id);
                if !session.is_some_and(|session| session.is_password(password)) {
                    return Err(CoordinationError::SessionExpired);
                }
                let action = Action::ResumeSession { password: password.clone() };
                let command = Command { session_id: *session_id, ..Command::by_ensemble(action) };
                Ok((command, password.clone()))
            }
        }
    }

    /// A connection ended. If the client closed it or died, its session has only the grace to come
    /// back. If this member ended it, the client may know nothing of that yet and rely on its
    /// session: then the timeout stands.
    pub fn connection_ended(&self, session_id: SessionId, id: ConnectionId, client_left: bool) {
        let was_newest = self.live.disconnect(id);
        if let Some(connection_epoch) = was_newest.filter(|_| client_left) {
            self.ensemble.disconnected((session_id, connection_epoch));
        }
    }
}
