//! What a member does for ZooKeeper's clients while it knows no leader: it sends them away, since
//! their sessions may end without its hearing of it; but those that will do with it may read what
//! it has, until there is a leader.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ottla_common::coordination::protocol::{CoordinationError, SessionGrant, SessionRequest};
use ottla_common::types::SessionId;

use super::{Granted, Opening, Service};
use crate::limits::{LEADERLESS_PATIENCE_MS, PASSWORD_SIZE};
use crate::watches::{ConnectionKind, Outbox};

impl Service {
    /// Notes whether there is a leader, and sends clients away accordingly. To be called every
    /// tick.
    pub(super) fn heed_leadership(&self, now_ms: u64) {
        let since = &self.leaderless_since_ms;
        let was_leaderless = self.is_leaderless();
        if self.ensemble.leader_id().is_some() {
            since.store(u64::MAX, Ordering::Relaxed);
        } else if since.load(Ordering::Relaxed) == u64::MAX {
            since.store(now_ms, Ordering::Relaxed);
        }
        let patience_ms = LEADERLESS_PATIENCE_MS;
        let is_leaderless = now_ms.saturating_sub(since.load(Ordering::Relaxed)) >= patience_ms;
        self.leaderless.store(is_leaderless, Ordering::Relaxed);
        match (was_leaderless, is_leaderless) {
            (false, true) => {
                tracing::warn!("no leader is known, so ZooKeeper's clients are sent away");
                self.live.send_away(ConnectionKind::ZooKeeper);
            }
            (true, false) => self.live.send_away(ConnectionKind::ReadOnly),
            _ => {}
        }
    }

    /// Whether there has been no leader for so long that clients are better off elsewhere.
    pub fn is_leaderless(&self) -> bool {
        self.leaderless.load(Ordering::Relaxed)
    }

    /// Lets a client read until there is a leader. A session that it has goes on as far as the
    /// client is concerned; one that it is given is no session to anybody else.
    pub fn open_read_only(
        self: &Arc<Self>,
        opening: Opening,
        outbox: Outbox,
    ) -> Result<Granted, CoordinationError> {
        let zxid = self.live.zxid();
        if opening.last_zxid_seen > zxid {
            return Err(CoordinationError::MemberBehind);
        }
        let (shortest, longest) =
            (self.options.session_timeout_min_ms, self.options.session_timeout_max_ms);
        let (session_id, password, session_timeout_ms) = match &opening.session {
            SessionRequest::New { session_timeout_ms } => {
                let number = self.options.secrets.draw()?;
                // No zxid, and so the number of no other session.
                let session_id = SessionId(i64::from_le_bytes(number) | i64::MIN);
                (session_id, vec![0; PASSWORD_SIZE], (*session_timeout_ms).clamp(shortest, longest))
            }
            SessionRequest::Resume { session_id, password } => {
                let view = self.live.view();
                let session = view.machine().sessions().get(*session_id);
                let session = session.filter(|session| session.is_password(password));
                // Others may know more of it.
                let session = session.ok_or(CoordinationError::Unavailable)?;
                (*session_id, password.clone(), session.session_timeout_ms)
            }
            SessionRequest::None => return Err(CoordinationError::Unavailable),
        };
        let opening = Opening { kind: ConnectionKind::ReadOnly, ..opening };
        let conversation = self.converse(&opening, (session_id, 0), outbox)?;
        if !self.is_leaderless() {
            self.live.send_away(ConnectionKind::ReadOnly);
        }
        let disconnect_grace_ms = session_timeout_ms;
        let grant =
            SessionGrant { session_id, password, session_timeout_ms, disconnect_grace_ms, zxid };
        Ok(Granted { grant, conversation })
    }
}
