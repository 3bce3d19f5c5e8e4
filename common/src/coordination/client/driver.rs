//! The task behind a client: owns the connection, the session and the requests under way.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::connection::{ConnectError, Connection, connect};
use super::{
    ClientConfig, ClientError, Command, FrameReceiver, ReplySender, SessionState, changes_something,
};
use crate::clock::monotonic_ms;
use crate::coordination::protocol::{
    ClientHello, CoordinationError, PROTOCOL_VERSION, Request, RequestFrame, Response, ServerFrame,
    SessionGrant, SessionRequest,
};
use crate::types::{SessionId, Zxid};

/// The shortest and the longest pause between attempts to connect to all members.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The bounds of the time that a member has to accept a connection and answer its hello: a third of
/// the session's timeout within them, so that a silent member leaves time to go to another.
const HELLO_TIMEOUT_MIN: Duration = Duration::from_millis(200);
const HELLO_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Frames of a subscription that may wait to be taken; one that lags more is cut off and opened
/// anew.
const SUBSCRIPTION_FRAMES_MAX: usize = 1024;

/// Requests that may wait for their replies.
const IN_FLIGHT_MAX: usize = 1024;

/// What the driver tells the client's handles.
#[derive(Debug)]
pub struct Told {
    pub state: watch::Sender<SessionState>,
    pub expired: watch::Sender<u64>,
    pub lease_until_ms: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    password: Vec<u8>,
}

#[derive(Debug)]
enum Waiting {
    Reply { request: Request, reply: ReplySender },
    Ping { sent_at_ms: u64 },
    Subscribe { open: oneshot::Sender<FrameReceiver> },
    Quiet,
}

#[derive(Debug)]
pub struct Driver {
    config: ClientConfig,
    told: Told,
    session: Option<Session>,
    session_timeout_ms: u32,
    disconnect_grace_ms: u32,
    last_zxid_seen: Zxid,
    next_xid: u64,
    in_flight: VecDeque<(u64, Waiting)>,
    subscriptions: HashMap<u64, mpsc::Sender<ServerFrame>>,
    /// Subscriptions that were cut off here and that the member has still to be told of.
    cut_off: Vec<u64>,
    /// Reads that a broken connection left without an answer: asked again on the next.
    again: VecDeque<(Request, ReplySender)>,
    next_address: usize,
}

impl Driver {
    pub fn new(config: ClientConfig, told: Told) -> Self {
        let next_address = fastrand::usize(..config.addresses.len().max(1));
        Self {
            session_timeout_ms: config.session_timeout_ms,
            disconnect_grace_ms: 0,
            config,
            told,
            session: None,
            last_zxid_seen: Zxid(0),
            next_xid: 0,
            in_flight: VecDeque::new(),
            subscriptions: HashMap::new(),
            cut_off: Vec::new(),
            again: VecDeque::new(),
            next_address,
        }
    }

    /// Runs until the client is closed or all its handles are dropped.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>, closing: CancellationToken) {
        loop {
            let mut connection = tokio::select! {
                connection = self.connect_to_any() => connection,
                () = closing.cancelled() => break,
            };
            let reason = tokio::select! {
                reason = self.serve(&mut connection, &mut commands) => reason,
                () = closing.cancelled() => {
                    self.close_session(&mut connection).await;
                    break;
                }
            };
            info!(reason, "connection to the coordinator is broken");
            self.connection_lost();
        }
        self.told.lease_until_ms.store(0, Ordering::Release);
        self.told.state.send_replace(SessionState::Closed);
    }

    async fn connect_to_any(&mut self) -> Connection {
        let mut pause = PAUSE_MIN;
        loop {
            for _ in 0..self.config.addresses.len() {
                let place = self.next_address % self.config.addresses.len();
                let Some(address) = self.config.addresses.get(place).cloned() else { break };
                let sent_at_ms = monotonic_ms();
                let patience = self.third().clamp(HELLO_TIMEOUT_MIN, HELLO_TIMEOUT_MAX);
                match connect(&address, &self.hello(), patience).await {
                    Ok(connection) => {
                        debug!(address, session_id = %connection.grant.session_id, "connected");
                        self.granted(&connection.grant, sent_at_ms);
                        return connection;
                    }
                    Err(ConnectError::Refused(CoordinationError::SessionExpired)) => {
                        self.session_expired();
                    }
                    Err(error) => {
                        debug!(address, %error, "no connection to this member");
                        self.next_address = self.next_address.wrapping_add(1);
                    }
                }
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn hello(&self) -> ClientHello {
        let session = match &self.session {
            Some(session) => SessionRequest::Resume {
                session_id: session.id,
                password: session.password.clone(),
            },
            None => SessionRequest::New { session_timeout_ms: self.config.session_timeout_ms },
        };
        ClientHello {
            version_min: 1,
            version_max: PROTOCOL_VERSION,
            client_name: self.config.client_name.clone(),
            session,
            last_zxid_seen: self.last_zxid_seen,
        }
    }

    fn granted(&mut self, grant: &SessionGrant, sent_at_ms: u64) {
        self.session = Some(Session { id: grant.session_id, password: grant.password.clone() });
        self.session_timeout_ms = grant.session_timeout_ms;
        self.disconnect_grace_ms = grant.disconnect_grace_ms;
        self.last_zxid_seen = self.last_zxid_seen.max(grant.zxid);
        self.extend_lease(sent_at_ms);
        self.told.state.send_replace(SessionState::Connected {
            session_id: grant.session_id,
            session_timeout_ms: grant.session_timeout_ms,
        });
    }

    /// The member heard of the client no earlier than it sent, so the session lives for its timeout
    /// from then on; a tenth is left for clocks that do not run alike.
    fn extend_lease(&self, sent_at_ms: u64) {
        let timeout_ms = u64::from(self.session_timeout_ms);
        let until_ms = sent_at_ms + timeout_ms - timeout_ms / 10;
        self.told.lease_until_ms.fetch_max(until_ms, Ordering::AcqRel);
    }

    fn session_expired(&mut self) {
        warn!("the session with the coordinator has expired");
        self.session = None;
        self.told.lease_until_ms.store(0, Ordering::Release);
        let expired = || Err(CoordinationError::SessionExpired.into());
        for (_, waiting) in self.in_flight.drain(..) {
            if let Waiting::Reply { reply, .. } = waiting {
                let _ = reply.send(expired());
            }
        }
        for (_, reply) in self.again.drain(..) {
            let _ = reply.send(expired());
        }
        self.told.expired.send_modify(|count| *count += 1);
    }

    /// From the end of a connection on the session may live no longer than the grace; a tenth is
    /// left, as above. This comes before the connection is closed, so before the member can notice.
    fn shorten_lease(&self) {
        let grace_ms = u64::from(self.disconnect_grace_ms);
        let until_ms = monotonic_ms() + grace_ms - grace_ms / 10;
        self.told.lease_until_ms.fetch_min(until_ms, Ordering::AcqRel);
    }

    /// Writes under way are unknown; reads are asked again; subscriptions end and are opened again
    /// by their owners, from where they were.
    fn connection_lost(&mut self) {
        self.shorten_lease();
        self.told.state.send_replace(SessionState::Connecting);
        self.subscriptions.clear();
        self.cut_off.clear();
        self.next_address = self.next_address.wrapping_add(1);
        let mut again = VecDeque::new();
        for (_, waiting) in self.in_flight.drain(..) {
            match waiting {
                Waiting::Reply { request, reply } if changes_something(&request) => {
                    let _ = reply.send(Err(ClientError::Unknown));
                }
                Waiting::Reply { request, reply } => again.push_back((request, reply)),
                Waiting::Ping { .. } | Waiting::Subscribe { .. } | Waiting::Quiet => {}
            }
        }
        again.append(&mut self.again);
        self.again = again;
    }

    async fn serve(
        &mut self,
        connection: &mut Connection,
        commands: &mut mpsc::Receiver<Command>,
    ) -> String {
        if let Err(error) = self.begin(connection).await {
            return error;
        }
        let third = self.third();
        let mut heartbeat = tokio::time::interval_at(Instant::now() + third, third);
        let mut heard_at = Instant::now();
        loop {
            let sent = tokio::select! {
                frame = connection.frames.next() => {
                    heard_at = Instant::now();
                    match frame {
                        Some(Ok(frame)) => self.received(frame),
                        Some(Err(error)) => return error.to_string(),
                        None => return "the member hung up".to_owned(),
                    }
                }
                command = commands.recv(), if self.in_flight.len() < IN_FLIGHT_MAX => {
                    let Some(command) = command else { return "no handle is left".to_owned() };
                    self.asked(command, connection).await
                }
                _ = heartbeat.tick() => {
                    // The heartbeat of a third ago has no answer: there is still time to go to
                    // another member before the session ends.
                    if heard_at.elapsed() > third + third / 2 {
                        return "the member is silent".to_owned();
                    }
                    let ping = Waiting::Ping { sent_at_ms: monotonic_ms() };
                    self.send(connection, Request::Ping, ping).await
                }
            };
            if let Err(error) = sent {
                return error;
            }
            if let Err(error) = self.unsubscribe_cut_off(connection).await {
                return error;
            }
        }
    }

    async fn unsubscribe_cut_off(&mut self, connection: &mut Connection) -> Result<(), String> {
        while let Some(subscription) = self.cut_off.pop() {
            let request = Request::Unsubscribe { subscription };
            self.send(connection, request, Waiting::Quiet).await?;
        }
        Ok(())
    }

    fn third(&self) -> Duration {
        Duration::from_millis(u64::from(self.session_timeout_ms / 3).max(1))
    }

    /// What comes first on each connection: identities, then the reads that are to be asked again.
    async fn begin(&mut self, connection: &mut Connection) -> Result<(), String> {
        for (scheme, credential) in self.config.auth.clone() {
            let request = Request::Auth { scheme, credential };
            self.send(connection, request, Waiting::Quiet).await?;
        }
        while let Some((request, reply)) = self.again.pop_front() {
            let waiting = Waiting::Reply { request: request.clone(), reply };
            self.send(connection, request, waiting).await?;
        }
        Ok(())
    }

    async fn asked(&mut self, command: Command, connection: &mut Connection) -> Result<(), String> {
        match command {
            Command::Request { request, reply, sent } => {
                sent.store(true, Ordering::SeqCst);
                // Who asked may have given up while there was no connection: then nobody would
                // know.
                if reply.is_closed() {
                    return Ok(());
                }
                let waiting = Waiting::Reply { request: request.clone(), reply };
                self.send(connection, request, waiting).await
            }
            Command::Subscribe { prefix, from_zxid, open } => {
                let request = Request::Subscribe { prefix, from_zxid };
                self.send(connection, request, Waiting::Subscribe { open }).await
            }
        }
    }

    /// Ends the session and waits for the member to say so.
    async fn close_session(&mut self, connection: &mut Connection) {
        if self.send(connection, Request::CloseSession, Waiting::Quiet).await.is_err() {
            return;
        }
        let last_xid = self.next_xid;
        let answered = async {
            while let Some(Ok(frame)) = connection.frames.next().await {
                let is_last = matches!(&frame, ServerFrame::Reply { xid, .. } if *xid == last_xid);
                let _ = self.received(frame);
                if is_last {
                    return;
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(2), answered).await.is_err() {
            warn!("the coordinator did not confirm the end of the session");
        }
    }

    async fn send(
        &mut self,
        connection: &mut Connection,
        request: Request,
        waiting: Waiting,
    ) -> Result<(), String> {
        self.next_xid += 1;
        let xid = self.next_xid;
        self.in_flight.push_back((xid, waiting));
        let frame = RequestFrame { xid, request };
        // A member that takes nothing must not keep the driver from looking elsewhere.
        let sending = tokio::time::timeout(self.third(), connection.requests.send(&frame));
        match sending.await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("the member takes no requests".to_owned()),
        }
    }

    fn received(&mut self, frame: ServerFrame) -> Result<(), String> {
        match frame {
            ServerFrame::Reply { xid, zxid, result } => {
                self.last_zxid_seen = self.last_zxid_seen.max(zxid);
                let Some((expected, waiting)) = self.in_flight.pop_front() else {
                    return Err("a reply to nothing".to_owned());
                };
                if xid != expected {
                    self.in_flight.push_front((expected, waiting));
                    return Err(format!("a reply to request {xid} instead of {expected}"));
                }
                self.replied(xid, waiting, result.map(|response| (zxid, response)))
            }
            ServerFrame::Snapshot { subscription, .. }
            | ServerFrame::Changes { subscription, .. } => {
                self.subscribed_frame(subscription, frame);
                Ok(())
            }
            ServerFrame::Watch(event) => {
                debug!(?event, "a watch fired that nobody waits for");
                Ok(())
            }
            ServerFrame::Closed { error } => {
                if error == CoordinationError::SessionExpired {
                    self.session_expired();
                }
                Err(format!("the member closed the connection: {error}"))
            }
        }
    }

    fn replied(
        &mut self,
        xid: u64,
        waiting: Waiting,
        result: Result<(Zxid, Response), CoordinationError>,
    ) -> Result<(), String> {
        match (waiting, result) {
            (_, Err(CoordinationError::SessionExpired)) => {
                self.session_expired();
                return Err("the session has expired".to_owned());
            }
            (Waiting::Reply { request, reply }, result) => {
                let result = result.map_err(|error| match error {
                    // The member cannot tell either.
                    CoordinationError::Unavailable if changes_something(&request) => {
                        ClientError::Unknown
                    }
                    error => error.into(),
                });
                let _ = reply.send(result);
            }
            (Waiting::Ping { sent_at_ms }, Ok(_)) => self.extend_lease(sent_at_ms),
            (Waiting::Subscribe { open }, Ok(_)) => {
                let (sender, receiver) = mpsc::channel(SUBSCRIPTION_FRAMES_MAX);
                if open.send(receiver).is_ok() {
                    self.subscriptions.insert(xid, sender);
                }
            }
            (Waiting::Subscribe { .. }, Err(error)) => {
                warn!(%error, "the coordinator refused a subscription");
            }
            (Waiting::Quiet, Err(error)) => warn!(%error, "the coordinator refused"),
            (Waiting::Ping { .. }, Err(error)) => return Err(error.to_string()),
            (Waiting::Quiet, Ok(_)) => {}
        }
        Ok(())
    }

    /// A subscriber that does not keep up is cut off: it opens its subscription anew, from where it
    /// was.
    fn subscribed_frame(&mut self, subscription: u64, frame: ServerFrame) {
        if let ServerFrame::Changes { zxid, last: true, .. } = &frame {
            self.last_zxid_seen = self.last_zxid_seen.max(*zxid);
        }
        let Some(sender) = self.subscriptions.get(&subscription) else { return };
        if sender.try_send(frame).is_err() {
            self.subscriptions.remove(&subscription);
            self.cut_off.push(subscription);
        }
    }
}
