//! Accepts connections and gives each a task. Nothing that a client does, and no shortage of
//! descriptors, ends the accepting; nothing that happens on one connection touches another.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use ottla_common::net::{ConnectionLimits, ConnectionPermit, Listener};
use ottla_common::shutdown::Shutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::accept_rate::AcceptRate;
use super::connection::{self, ConnectionRules};
use super::memory::MemoryBudget;
use super::{Close, ConnectionInfo, Dispatch};
use crate::limits;

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Its name, as in `listeners`.
    pub name: Arc<str>,
    /// How many connections it holds.
    pub connections: ConnectionLimits,
    /// What each connection is held to.
    pub rules: ConnectionRules,
    /// Connections that it takes in a second, if there is a limit.
    pub creation_rate: Option<u32>,
    /// The memory of all requests under way, shared with the broker's other listeners.
    pub budget: MemoryBudget,
}

impl ListenerConfig {
    /// A listener with the default limits.
    pub fn new(name: &str, budget: MemoryBudget) -> Self {
        let connections = ConnectionLimits {
            connections_max: limits::CONNECTIONS_MAX,
            connections_per_ip_max: limits::CONNECTIONS_PER_ADDRESS_MAX,
            loopback_reserve: limits::CONNECTIONS_LOOPBACK_RESERVE,
        };
        let rules = ConnectionRules::default();
        Self { name: name.into(), connections, rules, creation_rate: None, budget }
    }
}

/// Accepts until the server stops. Connections are tasks of `shutdown`.
pub async fn serve<D: Dispatch>(
    config: ListenerConfig,
    listener: TcpListener,
    dispatch: Arc<D>,
    shutdown: Shutdown,
) {
    let mut listener = Listener::new(listener, config.connections);
    let per_second = |rate| AcceptRate::per_second(rate, Instant::now());
    let mut rate = config.creation_rate.map(per_second);
    for id in 0_u64.. {
        let (socket, peer, permit) = tokio::select! {
            () = shutdown.stopped() => return,
            accepted = listener.accept() => accepted,
        };
        if let Some(rate) = &mut rate {
            tokio::time::sleep(rate.take(Instant::now())).await;
        }
        let info = Arc::new(ConnectionInfo {
            id,
            peer,
            listener: Arc::clone(&config.name),
            client_software: OnceLock::new(),
        });
        start(&config, (socket, info, permit), (&dispatch, &shutdown));
    }
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
