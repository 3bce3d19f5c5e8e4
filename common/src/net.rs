//! A TCP listener that survives what peers and the system do to it.
//!
//! It counts the connections, in all and per address, and closes those over a limit at once, so
//! that the peer sees a refusal and not silence. Some places are kept for the machine itself, so
//! that its administrator gets in when strangers have taken all others. When the process has no
//! descriptor left, it waits and tries again: a listener never ends by an error of `accept`.
//!
//! Limits may be shared by several listeners, which then count together, and may change while they
//! listen. A connection that is open stays, whatever the new limits say.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, lookup_host};

/// The shortest and the longest wait after an `accept` that failed.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How many connections a listener holds at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub connections_max: usize,
    /// From one address.
    pub connections_per_ip_max: usize,
    /// From this machine, on top of `connections_max` when that is used up.
    pub loopback_reserve: usize,
}

impl ConnectionLimits {
    /// No limit but the system's.
    pub const NONE: Self = Self {
        connections_max: usize::MAX,
        connections_per_ip_max: usize::MAX,
        loopback_reserve: 0,
    };
}

/// Figures of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Connections that are open now.
    pub open: usize,
    /// Connections that were closed at once for a limit, since the start.
    pub refused: u64,
}

#[derive(Debug)]
struct Counted {
    limits: ConnectionLimits,
    /// Addresses with a limit of their own in place of `connections_per_ip_max`.
    overrides: BTreeMap<IpAddr, usize>,
    counts: ConnectionCounts,
    open_per_ip: HashMap<IpAddr, usize>,
}

/// The limits of one or more listeners, with what they count.
#[derive(Clone, Debug)]
pub struct SharedLimits(Arc<Mutex<Counted>>);

impl SharedLimits {
    /// These limits, with no connection yet.
    pub fn new(limits: ConnectionLimits) -> Self {
        let counted = Counted {
            limits,
            overrides: BTreeMap::new(),
            counts: ConnectionCounts::default(),
            open_per_ip: HashMap::new(),
        };
        Self(Arc::new(Mutex::new(counted)))
    }

    /// Sets the limits for connections to come, and the addresses that have their own.
    pub fn set(&self, limits: ConnectionLimits, overrides: BTreeMap<IpAddr, usize>) {
        let mut counted = self.0.lock();
        counted.limits = limits;
        let overrides = overrides.into_iter().map(|(ip, most)| (ip.to_canonical(), most));
        counted.overrides = overrides.collect();
    }

    /// The figures now.
    pub fn counts(&self) -> ConnectionCounts {
        self.0.lock().counts
    }

    /// A place for a connection from `ip`, if the limits have one.
    fn admit(&self, ip: IpAddr) -> Option<ConnectionPermit> {
        let ip = ip.to_canonical();
        let mut guard = self.0.lock();
        let counted = &mut *guard;
        let limits = counted.limits;
        let reserve = if ip.is_loopback() { limits.loopback_reserve } else { 0 };
        let open_max = limits.connections_max.saturating_add(reserve);
        let from_ip_max = counted.overrides.get(&ip).copied();
        let from_ip_max = from_ip_max.unwrap_or(limits.connections_per_ip_max);
        let open_from_ip = counted.open_per_ip.get(&ip).copied().unwrap_or(0);
        if counted.counts.open >= open_max || open_from_ip >= from_ip_max {
            counted.counts.refused += 1;
            return None;
        }
        counted.counts.open += 1;
        counted.open_per_ip.insert(ip, open_from_ip + 1);
        Some(ConnectionPermit { counted: Arc::clone(&self.0), ip })
    }
}

/// A listener within its limits.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    limits: SharedLimits,
    backoff: Duration,
}

/// A place among a listener's connections; the connection gives it back by dropping it.
#[derive(Debug)]
pub struct ConnectionPermit {
    counted: Arc<Mutex<Counted>>,
    ip: IpAddr,
}

/// Reads the figures of a [`Listener`] from elsewhere.
#[derive(Clone, Debug)]
pub struct ListenerCounts(SharedLimits);

impl ListenerCounts {
    /// The figures now.
    pub fn get(&self) -> ConnectionCounts {
        self.0.counts()
    }
}

/// Binds the first of the addresses that `address` (`host:port`, an empty host is every address)
/// stands for and that can be bound. The error names the address.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("listen on {address}: {error}"));
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    if host.is_empty() {
        // One socket for both families where the system has IPv6, else for IPv4.
        let port = port.parse().map_err(|_| named(io::ErrorKind::InvalidInput.into()))?;
        let every = SocketAddr::from(([0_u16; 8], port));
        return match TcpListener::bind(every).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(SocketAddr::from(([0_u8; 4], port))).await.map_err(named),
        };
    }
    let mut failure = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host(address).await.map_err(named)? {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(named(failure))
}

impl Listener {
    /// Counts the connections that `listener` accepts from here on.
    pub fn new(listener: TcpListener, limits: ConnectionLimits) -> Self {
        Self::sharing(listener, SharedLimits::new(limits))
    }

    /// Counts together with all other listeners of these limits.
    pub fn sharing(listener: TcpListener, limits: SharedLimits) -> Self {
        Self { listener, limits, backoff: BACKOFF_MIN }
    }

    /// The address that it listens on, with the real port if 0 was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle on the figures.
    pub fn counts(&self) -> ListenerCounts {
        ListenerCounts(self.limits.clone())
    }

    /// The next connection that there is a place for. Never fails; a stop signal is for the caller
    /// to watch (it may be dropped while waiting without losing a connection).
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr, ConnectionPermit) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.after_failure(&error).await;
                    continue;
                }
            };
            self.backoff = BACKOFF_MIN;
            // Small frames go back and forth: waiting to fill a packet would only add delay.
            let _ = stream.set_nodelay(true);
            let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
            if let Some(permit) = self.limits.admit(peer.ip()) {
                return (stream, peer, permit);
            }
            tracing::debug!(%peer, "connection refused: too many");
        }
    }

    /// Waits, unless it was only that one peer's connection that failed.
    async fn after_failure(&mut self, error: &io::Error) {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
        if matches!(
            error.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
        ) {
            return;
        }
        if self.backoff == BACKOFF_MIN {
            tracing::warn!(%error, "cannot accept connections, will keep trying");
        }
        tokio::time::sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counted = self.counted.lock();
        counted.counts.open -= 1;
        if let Some(open) = counted.open_per_ip.get_mut(&self.ip) {
            *open -= 1;
            if *open == 0 {
                counted.open_per_ip.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn listener(limits: ConnectionLimits) -> (Listener, SocketAddr) {
        let listener = Listener::new(bind("127.0.0.1:0").await.unwrap(), limits);
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_connection_over_the_limit_is_closed_and_a_freed_place_is_given_again() {
        let limits = ConnectionLimits { connections_per_ip_max: 2, ..ConnectionLimits::NONE };
        let (mut listener, address) = listener(limits).await;
        let counts = listener.counts();
        let _one = TcpStream::connect(address).await.unwrap();
        let first = listener.accept().await;
        let _two = TcpStream::connect(address).await.unwrap();
        let _second = listener.accept().await;
        let mut three = TcpStream::connect(address).await.unwrap();
        // The third is refused while the listener waits for one that it can take.
        let accepting = tokio::spawn(async move { listener.accept().await });
        assert_eq!(three.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(counts.get(), ConnectionCounts { open: 2, refused: 1 });
        drop(first);
        let _four = TcpStream::connect(address).await.unwrap();
        let _fourth = accepting.await.unwrap();
        assert_eq!(counts.get(), ConnectionCounts { open: 2, refused: 1 });
    }

    #[tokio::test]
    async fn this_machine_has_places_of_its_own() {
        let limits =
            ConnectionLimits { connections_max: 1, loopback_reserve: 1, ..ConnectionLimits::NONE };
        let (listener, _) = listener(limits).await;
        let stranger = IpAddr::from([192, 0, 2, 1]);
        let held = listener.limits.admit(stranger).unwrap();
        assert!(listener.limits.admit(stranger).is_none());
        let local = listener.limits.admit(IpAddr::from([127, 0, 0, 1])).unwrap();
        assert!(listener.limits.admit("::ffff:127.0.0.1".parse().unwrap()).is_none());
        drop((held, local));
        assert_eq!(listener.counts().get().open, 0);
        assert!(listener.limits.0.lock().open_per_ip.is_empty());
    }

    #[test]
    fn limits_change_while_connections_are_open() {
        let limits = SharedLimits::new(ConnectionLimits::NONE);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let held = [limits.admit(one).unwrap(), limits.admit(one).unwrap()];
        let two = ConnectionLimits { connections_per_ip_max: 2, ..ConnectionLimits::NONE };
        limits.set(two, BTreeMap::from([(other, 0)]));
        assert!(limits.admit(one).is_none());
        assert!(limits.admit(other).is_none(), "it has a limit of its own");
        limits.set(two, BTreeMap::from([(one, 3)]));
        let third = limits.admit(one).unwrap();
        assert!(limits.admit(one).is_none());
        limits.set(ConnectionLimits { connections_max: 2, ..two }, BTreeMap::new());
        assert!(limits.admit(other).is_none(), "more than the new limit are still open");
        drop((held, third));
        assert!(limits.admit(other).is_some());
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let (_listener, address) = listener(ConnectionLimits::NONE).await;
        let error = bind(&address.to_string()).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(bind("no.such.host.invalid:1").await.is_err());
        assert!(bind(":0").await.is_ok());
    }
}
