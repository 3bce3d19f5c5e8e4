//! Accepts connections and gives each a task. Nothing that a client does, and no shortage of
//! descriptors, ends the accepting; nothing that happens on one connection touches another.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use ottla_common::net::{ConnectionLimits, ConnectionPermit, Listener, SharedLimits};
use ottla_common::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::accept_rate::{AcceptRate, CreationRate};
use super::connection::{self, ConnectionRules};
use super::memory::MemoryBudget;
use super::{Close, ConnectionInfo, Dispatch};
use crate::limits;

/// What holds if nothing is configured.
pub const CONNECTION_LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: limits::CONNECTIONS_MAX,
    connections_per_ip_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
    loopback_reserve: limits::CONNECTIONS_LOOPBACK_RESERVE,
};

/// Decides whether a connection from an address is served. `Err` says how long it is kept waiting
/// before it is closed, so that a client that tries again at once is slowed down (KIP-612).
pub type Gate = Arc<dyn Fn(IpAddr) -> Result<(), Duration> + Send + Sync>;

/// One listener.
#[derive(Clone)]
pub struct ListenerConfig {
    /// Its name, as in `listeners`.
    pub name: Arc<str>,
    /// How many connections it holds, together with others of these limits.
    pub connections: SharedLimits,
    /// What each connection is held to.
    pub rules: ConnectionRules,
    /// Connections that it takes in a second.
    pub creation_rate: CreationRate,
    /// Who may come in.
    pub gate: Gate,
    /// The memory of all requests under way, shared with the broker's other listeners.
    pub budget: MemoryBudget,
}

impl ListenerConfig {
    /// A listener with the default limits.
    pub fn new(name: &str, budget: MemoryBudget) -> Self {
        let connections = SharedLimits::new(CONNECTION_LIMITS);
        let rules = ConnectionRules::default();
        Self {
            name: name.into(),
            connections,
            rules,
            creation_rate: CreationRate::default(),
            gate: Arc::new(|_| Ok(())),
            budget,
        }
    }
}

/// Accepts until the server stops. Connections are tasks of `shutdown`.
pub async fn serve<D: Dispatch>(
    config: ListenerConfig,
    listener: TcpListener,
    dispatch: Arc<D>,
    shutdown: Shutdown,
) {
    let mut listener = Listener::sharing(listener, config.connections.clone());
    let mut rate: Option<AcceptRate> = None;
    for id in 0_u64.. {
        let (socket, peer, permit) = tokio::select! {
            () = shutdown.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        rate = config.creation_rate.paced(rate, Instant::now());
        if let Some(rate) = &mut rate {
            tokio::time::sleep(rate.take(Instant::now())).await;
        }
        if let Err(kept) = (config.gate)(peer.ip()) {
            tracing::debug!(%peer, listener = %config.name, "too many connections of the address");
            turn_away((socket, permit), kept, &shutdown);
            continue;
        }
        let info = Arc::new(ConnectionInfo {
            id,
            peer,
            listener: Arc::clone(&config.name),
            client_software: OnceLock::new(),
            peer_broker: OnceLock::new(),
            proof: parking_lot::Mutex::default(),
            muted_until: parking_lot::Mutex::default(),
            attachment: parking_lot::Mutex::default(),
        });
        start(&config, (socket, info, permit), (&dispatch, &shutdown));
    }
}

/// Closes a connection after a while. Until then it keeps its place, so they are not too many.
fn turn_away(connection: (TcpStream, ConnectionPermit), kept: Duration, shutdown: &Shutdown) {
    let stopping = shutdown.clone();
    shutdown.spawn(async move {
        tokio::select! {
            () = stopping.stopped() => {}
            () = tokio::time::sleep(kept) => {}
        }
        drop(connection);
    });
}

/// Starts a connection's task.
fn start<D: Dispatch>(
    config: &ListenerConfig,
    (socket, info, permit): (TcpStream, Arc<ConnectionInfo>, ConnectionPermit),
    (dispatch, shutdown): (&Arc<D>, &Shutdown),
) {
    let rules = (config.rules.clone(), config.budget.clone(), shutdown.clone());
    let connection = connection::run(socket, Arc::clone(&info), Arc::clone(dispatch), rules);
    shutdown.spawn(async move {
        // A handler's panic is a bug, but one that costs only the client that met it.
        match AssertUnwindSafe(connection).catch_unwind().await {
            Ok(close) => log_end(&info, &close),
            Err(_) => {
                tracing::error!(peer = %info.peer, listener = %info.listener, "handler panicked");
            }
        }
        drop(permit);
    });
}

fn log_end(info: &ConnectionInfo, close: &Close) {
    if close.is_ordinary() {
        tracing::debug!(peer = %info.peer, listener = %info.listener, reason = %close, "closed");
    } else {
        tracing::warn!(peer = %info.peer, listener = %info.listener, reason = %close, "closed");
    }
}
