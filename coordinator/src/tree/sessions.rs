//! The replicated table of sessions. Deadlines are not in it: they are the leader's alone
//! (`sessions::expiry`).

use std::sync::Arc;

use ottla_common::coordination::protocol::CoordinationError;
use ottla_common::types::SessionId;

use super::{Hasher, PersistentMap};

/// All live sessions. A clone shares what neither side changes afterwards.
#[derive(Clone, Debug, Default)]
pub struct SessionTable {
    by_id: PersistentMap<SessionId, Arc<Session>>,
    digest: u64,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The secret to resume it with.
    pub password: Arc<[u8]>,
    /// How long it lives without a word, in milliseconds.
    pub session_timeout_ms: u32,
    /// How often it was resumed: the number of the connection that holds it.
    pub connection_epoch: u64,
    /// When it was opened, milliseconds since 1970.
    pub created_ms: i64,
}

impl SessionTable {
    /// A live session.
    pub fn get(&self, session_id: SessionId) -> Option<&Session> {
        self.by_id.get(&session_id).map(|session| &**session)
    }

    /// The number of live sessions.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The live sessions in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.by_id.iter().map(|(session_id, session)| (*session_id, &**session))
    }

    /// The order-free digest over all sessions.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Adds a session.
    pub(super) fn insert(&mut self, session_id: SessionId, session: Session) {
        self.digest = self.digest.wrapping_add(session.digest(session_id));
        if let Some(before) = self.by_id.insert(session_id, Arc::new(session)) {
            self.digest = self.digest.wrapping_sub(before.digest(session_id));
        }
    }

    /// Goes on with a session on a new connection. Whoever does not know the secret learns no more
    /// than that there is no such session for him.
    pub(super) fn resume(
        &mut self,
        session_id: SessionId,
        password: &[u8],
    ) -> Result<&Session, CoordinationError> {
        let session = self.get(session_id).filter(|session| session.is_password(password));
        let mut session = session.cloned().ok_or(CoordinationError::SessionExpired)?;
        session.connection_epoch += 1;
        self.insert(session_id, session);
        self.get(session_id).ok_or(CoordinationError::SessionExpired)
    }

    /// Removes a session; returns whether there was one.
    pub(super) fn remove(&mut self, session_id: SessionId) -> bool {
        match self.by_id.remove(&session_id) {
            None => false,
            Some(session) => {
                self.digest = self.digest.wrapping_sub(session.digest(session_id));
                true
            }
        }
    }
}

impl Session {
    /// Whether this is the session's secret. Takes as long whatever part of it is right.
    pub fn is_password(&self, password: &[u8]) -> bool {
        if self.password.len() != password.len() {
            return false;
        }
        let pairs = self.password.iter().zip(password);
        let difference = pairs.fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
        difference == 0
    }

    fn digest(&self, session_id: SessionId) -> u64 {
        let mut hash = Hasher::new("session");
        hash.add(session_id.0.cast_unsigned());
        hash.add(u64::from(crc32c::crc32c(&self.password)));
        hash.add(u64::from(self.session_timeout_ms));
        hash.add(self.connection_epoch);
        hash.add(self.created_ms.cast_unsigned());
        hash.finish()
    }
}
