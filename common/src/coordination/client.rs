//! A client of the coordinator: one session, kept alive and carried over from connection to
//! connection.
//!
//! A [`Client`] is a handle; clones share the session. Behind it one task owns the connection (see
//! `driver.rs`): it connects to one member after the other until one answers, sends requests as
//! they come without waiting for replies, sends a heartbeat each third of the session's timeout,
//! and after a broken connection resumes the session elsewhere.
//!
//! What a caller has to know:
//! - Requests of one client are executed in the order of the calls, and a read sees the writes
//!   before it.
//! - A write whose reply did not come is *unknown*, not failed ([`ClientError::Unknown`]): it may
//!   have been done, so read back before going on. By the time any later request is answered it has
//!   been decided.
//! - When a session expires its ephemeral nodes are gone. Requests under way fail with
//!   [`CoordinationError::SessionExpired`], [`Client::session_lost`] completes, and a new session
//!   is opened; whoever had ephemeral nodes makes them anew.
//! - [`Client::lease`] tells how long the session is certainly alive, by this machine's monotonic
//!   clock from the *sending* of the last answered heartbeat. Who may act only while nobody else
//!   can have taken over checks it.

mod connection;
mod driver;
mod helpers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::protocol::{CoordinationError, Request, Response, ServerFrame};
use crate::clock::monotonic_ms;
use crate::types::{SessionId, Zxid};

/// How a client finds the ensemble and who it is.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `host:port` of the members.
    pub addresses: Vec<String>,
    /// How long the session lives without a word; the member clamps it.
    pub session_timeout_ms: u32,
    /// What the client calls itself, for the member's logs.
    pub client_name: String,
    /// Identities to prove on each connection: scheme and proof.
    pub auth: Vec<(String, Vec<u8>)>,
    /// How long a request may wait for its reply, connection attempts included.
    pub request_timeout: Duration,
}

impl ClientConfig {
    /// A client of these members with the usual times.
    pub fn new(addresses: Vec<String>, client_name: &str) -> Self {
        Self {
            addresses,
            session_timeout_ms: 6_000,
            client_name: client_name.to_owned(),
            auth: Vec::new(),
            request_timeout: Duration::from_secs(15),
        }
    }
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The member refused: nothing was done.
    #[error(transparent)]
    Refused(#[from] CoordinationError),
    /// The request was sent, and no reply came: it may have been done.
    #[error("the coordinator did not answer; the change may or may not have been made")]
    Unknown,
    /// The request was never sent: it was not done.
    #[error("no coordinator could be reached at {addresses}")]
    Unreachable {
        /// Where it was looked for.
        addresses: String,
    },
    /// The member answered something else than was asked.
    #[error("the coordinator sent an answer of the wrong kind")]
    WrongAnswer,
    /// The client was closed.
    #[error("the coordination client is closed")]
    Closed,
}

impl ClientError {
    /// What the member said, if it refused.
    pub fn refusal(&self) -> Option<&CoordinationError> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }

    /// Likewise; of a multi that was refused, the reason of the part that failed.
    pub fn refusal_in_multi(&self) -> Option<&CoordinationError> {
        match self.refusal()? {
            CoordinationError::MultiFailed { error, .. } => Some(error),
            error => Some(error),
        }
    }

    /// Whether a multi failed because something changed that was written behind its first `guards`
    /// operations, while those guards held: the caller acted on what was no longer so, and may
    /// again.
    pub fn is_lost_race_behind(&self, guards: usize) -> bool {
        let Some(CoordinationError::MultiFailed { index, error }) = self.refusal() else {
            return false;
        };
        let changed = matches!(
            **error,
            CoordinationError::BadVersion { .. } | CoordinationError::NoNode { .. }
        );
        *index >= guards && changed
    }
}

/// How it stands with the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// No member has answered, or not since the last connection broke.
    Connecting,
    /// A member answers for the session.
    Connected {
        /// The session.
        session_id: SessionId,
        /// Its timeout.
        session_timeout_ms: u32,
    },
    /// The client was closed.
    Closed,
}

/// How long a session is certainly alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    valid_until_ms: u64,
}

impl Lease {
    /// Whether the session cannot have expired at this time of the monotonic clock.
    pub fn is_valid_at(&self, monotonic_ms: u64) -> bool {
        monotonic_ms < self.valid_until_ms
    }

    /// Whether the session cannot have expired by now.
    pub fn is_valid(&self) -> bool {
        self.is_valid_at(monotonic_ms())
    }
}

/// A handle of a session.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<SessionState>,
    /// How many sessions of this client have expired.
    expired: watch::Receiver<u64>,
    lease_until_ms: Arc<AtomicU64>,
    request_timeout: Duration,
    addresses: String,
    closing: CancellationToken,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

/// What callers ask of the driver.
#[derive(Debug)]
enum Command {
    /// `sent` is set before the driver looks whether the caller still waits.
    Request {
        request: Request,
        reply: ReplySender,
        sent: Arc<AtomicBool>,
    },
    Subscribe {
        prefix: String,
        from_zxid: Option<Zxid>,
        open: oneshot::Sender<FrameReceiver>,
    },
}

type ReplySender = oneshot::Sender<Result<(Zxid, Response), ClientError>>;

/// The frames of one subscription on one connection; ends with it.
type FrameReceiver = mpsc::Receiver<ServerFrame>;

/// Requests that wait for the driver to take them.
const COMMANDS_QUEUED_MAX: usize = 1024;

impl Client {
    /// Starts a client. It connects in the background; the first request waits for that.
    pub fn start(config: ClientConfig) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS_QUEUED_MAX);
        let (state_sender, state) = watch::channel(SessionState::Connecting);
        let (expired_sender, expired) = watch::channel(0);
        let lease_until_ms = Arc::new(AtomicU64::new(0));
        let shared = Shared {
            commands,
            state,
            expired,
            lease_until_ms: lease_until_ms.clone(),
            request_timeout: config.request_timeout,
            addresses: config.addresses.join(", "),
            closing: CancellationToken::new(),
        };
        let told = driver::Told { state: state_sender, expired: expired_sender, lease_until_ms };
        let closing = shared.closing.clone();
        tokio::spawn(driver::Driver::new(config, told).run(receiver, closing));
        Self { shared: Arc::new(shared) }
    }

    /// Starts a client and waits until a member has granted a session.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let client = Self::start(config);
        let mut state = client.session();
        let connected = state.wait_for(|state| matches!(state, SessionState::Connected { .. }));
        match tokio::time::timeout(client.shared.request_timeout, connected).await {
            Ok(Ok(_)) => Ok(client),
            _ => Err(client.unreachable()),
        }
    }

    /// How it stands with the session, now and from now on.
    pub fn session(&self) -> watch::Receiver<SessionState> {
        self.shared.state.clone()
    }

    /// The session, while a member answers for it.
    pub fn session_id(&self) -> Option<SessionId> {
        match *self.shared.state.borrow() {
            SessionState::Connected { session_id, .. } => Some(session_id),
            _ => None,
        }
    }

    /// How many sessions of this client have expired so far.
    pub fn expired_sessions(&self) -> u64 {
        *self.shared.expired.borrow()
    }

    /// Completes when more sessions of this client have expired than `before`, as
    /// [`Client::expired_sessions`] told it.
    pub async fn session_lost(&self, before: u64) {
        let mut expired = self.shared.expired.clone();
        if expired.wait_for(|count| *count > before).await.is_err() {
            // The driver has ended, so this client will never have a session again.
            std::future::pending::<()>().await;
        }
    }

    /// How long the session is certainly alive.
    pub fn lease(&self) -> Lease {
        Lease { valid_until_ms: self.shared.lease_until_ms.load(Ordering::Acquire) }
    }

    /// Sends a request and waits for its answer.
    pub async fn request(&self, request: Request) -> Result<Response, ClientError> {
        self.request_with_zxid(request).await.map(|(_, response)| response)
    }

    /// Likewise, with the zxid of the write, or of the state that a read saw.
    pub async fn request_with_zxid(
        &self,
        request: Request,
    ) -> Result<(Zxid, Response), ClientError> {
        let changes_something = changes_something(&request);
        let (reply, mut answer) = oneshot::channel();
        let sent = Arc::new(AtomicBool::new(false));
        let command = Command::Request { request, reply, sent: sent.clone() };
        let deadline = tokio::time::Instant::now() + self.shared.request_timeout;
        match tokio::time::timeout_at(deadline, self.shared.commands.send(command)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(ClientError::Closed),
            Err(_) => return Err(self.unreachable()),
        }
        match tokio::time::timeout_at(deadline, &mut answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ClientError::Closed),
            Err(_) => {
                answer.close();
                let may_be_done = changes_something && sent.load(Ordering::SeqCst);
                if may_be_done { Err(ClientError::Unknown) } else { Err(self.unreachable()) }
            }
        }
    }

    /// Opens the frames of a subscription on the present connection; they end with it.
    pub(super) async fn open_frames(
        &self,
        prefix: String,
        from_zxid: Option<Zxid>,
    ) -> Option<FrameReceiver> {
        let (open, opened) = oneshot::channel();
        self.shared.commands.send(Command::Subscribe { prefix, from_zxid, open }).await.ok()?;
        opened.await.ok()
    }

    /// Whether the client was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.commands.is_closed()
    }

    /// Ends the session, so that its ephemeral nodes go at once, and the client with all its
    /// clones.
    pub async fn close(&self) {
        self.shared.closing.cancel();
        let mut state = self.session();
        let closed = state.wait_for(|state| *state == SessionState::Closed);
        if tokio::time::timeout(self.shared.request_timeout, closed).await.is_err() {
            tracing::warn!("the coordination client did not close in time");
        }
    }

    fn unreachable(&self) -> ClientError {
        ClientError::Unreachable { addresses: self.shared.addresses.clone() }
    }
}

/// Whether a request that was sent may have changed something.
fn changes_something(request: &Request) -> bool {
    matches!(request, Request::Write(_) | Request::Multi(_) | Request::CloseSession)
}
