//! Who is connected, and what was exchanged: figures for the operator. They are counted with
//! relaxed atomics, so that they cost a request next to nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// The connections of a member. Clones share the list.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    open: Mutex<Open>,
    totals: Counters,
}

#[derive(Debug, Default)]
struct Open {
    by_number: BTreeMap<u64, Arc<Figures>>,
    opened: u64,
}

/// Packets and how long requests took, since the start or the last reset.
#[derive(Debug, Default)]
pub struct Counters {
    received: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    latency_total_ms: AtomicU64,
    latency_max_ms: AtomicU64,
    /// One more than it is, so that zero is none.
    latency_min_ms: AtomicU64,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Packets from clients.
    pub received: u64,
    /// Packets to clients.
    pub sent: u64,
    /// Requests whose latency was taken.
    pub answered: u64,
    /// Milliseconds.
    pub latency_min_ms: u64,
    /// Milliseconds.
    pub latency_average_ms: f64,
    /// Milliseconds.
    pub latency_max_ms: u64,
}

/// The figures of one connection.
#[derive(Debug)]
pub struct Figures {
    /// Where the client is.
    pub peer: SocketAddr,
    /// Whether it is connected through TLS.
    pub is_secure: bool,
    /// When it connected, in milliseconds since 1970.
    pub since_ms: i64,
    counters: Counters,
    /// Zero before there is one.
    session_id: AtomicI64,
    session_timeout_ms: AtomicU64,
    outstanding: AtomicU64,
    last_operation: AtomicI32,
    last_xid: AtomicI64,
    last_zxid: AtomicI64,
    last_response_ms: AtomicI64,
    last_latency_ms: AtomicU64,
}

/// What is known of a connection's session and of its last request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// The session; zero before there is one.
    pub session_id: i64,
    /// Its timeout.
    pub session_timeout_ms: u64,
    /// Requests that were read and not yet answered.
    pub outstanding: u64,
    /// The opcode of the last request.
    pub operation: i32,
    /// The xid of the last request.
    pub xid: i64,
    /// The zxid of the last reply.
    pub zxid: i64,
    /// When the last reply was sent, in milliseconds since 1970.
    pub response_ms: i64,
    /// How long the last request took.
    pub latency_ms: u64,
}

/// A connection's place in the list, which it leaves when this is dropped.
#[derive(Debug)]
pub struct Registered {
    connections: Connections,
    figures: Arc<Figures>,
    number: u64,
}

impl Connections {
    /// Adds a connection.
    pub fn add(&self, peer: SocketAddr, is_secure: bool, since_ms: i64) -> Registered {
        let figures = Arc::new(Figures {
            peer,
            is_secure,
            since_ms,
            counters: Counters::default(),
            session_id: AtomicI64::new(0),
            session_timeout_ms: AtomicU64::new(0),
            outstanding: AtomicU64::new(0),
            last_operation: AtomicI32::new(0),
            last_xid: AtomicI64::new(0),
            last_zxid: AtomicI64::new(0),
            last_response_ms: AtomicI64::new(0),
            last_latency_ms: AtomicU64::new(0),
        });
        let mut open = self.0.open.lock();
        open.opened += 1;
        let number = open.opened;
        open.by_number.insert(number, Arc::clone(&figures));
        Registered { connections: self.clone(), figures, number }
    }

    /// All connections, the oldest first.
    pub fn list(&self) -> Vec<Arc<Figures>> {
        self.0.open.lock().by_number.values().map(Arc::clone).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.open.lock().by_number.len()
    }

    /// Requests of all connections that were read and not yet answered.
    pub fn outstanding(&self) -> u64 {
        self.list().iter().map(|figures| figures.outstanding.load(Relaxed)).sum()
    }

    /// What all connections exchanged, also those that are gone.
    pub fn totals(&self) -> Counts {
        self.0.totals.get()
    }

    /// Begins the totals anew.
    pub fn reset_totals(&self) {
        self.0.totals.reset();
    }
}

impl Registered {
    /// A session was opened or resumed; asking for it and its grant are packets too.
    pub fn session_opened(&self, session_id: i64, session_timeout_ms: u32) {
        self.word_received();
        self.sent(1);
        self.figures.session_id.store(session_id, Relaxed);
        self.figures.session_timeout_ms.store(session_timeout_ms.into(), Relaxed);
    }

    /// A four-letter word was read, which has no reply that is counted.
    pub fn word_received(&self) {
        self.figures.counters.received.fetch_add(1, Relaxed);
        self.connections.0.totals.received.fetch_add(1, Relaxed);
    }

    /// A request was read. `operation` is ZooKeeper's opcode, or zero.
    pub fn received(&self, operation: i32, xid: i64) {
        let figures = &self.figures;
        figures.counters.received.fetch_add(1, Relaxed);
        self.connections.0.totals.received.fetch_add(1, Relaxed);
        figures.outstanding.fetch_add(1, Relaxed);
        figures.last_operation.store(operation, Relaxed);
        figures.last_xid.store(xid, Relaxed);
    }

    /// A request was answered, `latency_ms` after it was read, at `now_ms` since 1970. The reply
    /// itself is counted by [`Registered::sent`].
    pub fn answered(&self, zxid: i64, latency_ms: u64, now_ms: i64) {
        let figures = &self.figures;
        let outstanding = figures.outstanding.load(Relaxed).saturating_sub(1);
        figures.outstanding.store(outstanding, Relaxed);
        figures.last_zxid.store(zxid, Relaxed);
        figures.last_response_ms.store(now_ms, Relaxed);
        figures.last_latency_ms.store(latency_ms, Relaxed);
        figures.counters.took(latency_ms);
        self.connections.0.totals.took(latency_ms);
    }

    /// Packets were sent: replies and events.
    pub fn sent(&self, packets: u64) {
        self.figures.counters.sent.fetch_add(packets, Relaxed);
        self.connections.0.totals.sent.fetch_add(packets, Relaxed);
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.0.open.lock().by_number.remove(&self.number);
    }
}

impl Figures {
    /// What was exchanged.
    pub fn counts(&self) -> Counts {
        self.counters.get()
    }

    /// Begins the counters anew.
    pub fn reset(&self) {
        self.counters.reset();
    }

    /// The session and the last request.
    pub fn last(&self) -> Last {
        Last {
            session_id: self.session_id.load(Relaxed),
            session_timeout_ms: self.session_timeout_ms.load(Relaxed),
            outstanding: self.outstanding.load(Relaxed),
            operation: self.last_operation.load(Relaxed),
            xid: self.last_xid.load(Relaxed),
            zxid: self.last_zxid.load(Relaxed),
            response_ms: self.last_response_ms.load(Relaxed),
            latency_ms: self.last_latency_ms.load(Relaxed),
        }
    }
}

impl Counters {
    fn took(&self, latency_ms: u64) {
        self.answered.fetch_add(1, Relaxed);
        self.latency_total_ms.fetch_add(latency_ms, Relaxed);
        self.latency_max_ms.fetch_max(latency_ms, Relaxed);
        let shown = latency_ms.saturating_add(1);
        let _ = self
            .latency_min_ms
            .fetch_update(Relaxed, Relaxed, |least| (least == 0 || shown < least).then_some(shown));
    }

    fn get(&self) -> Counts {
        let answered = self.answered.load(Relaxed);
        let total_ms = self.latency_total_ms.load(Relaxed);
        Counts {
            received: self.received.load(Relaxed),
            sent: self.sent.load(Relaxed),
            answered,
            latency_min_ms: self.latency_min_ms.load(Relaxed).saturating_sub(1),
            latency_average_ms: total_ms as f64 / answered.max(1) as f64,
            latency_max_ms: self.latency_max_ms.load(Relaxed),
        }
    }

    fn reset(&self) {
        for counter in [
            &self.received,
            &self.sent,
            &self.answered,
            &self.latency_total_ms,
            &self.latency_max_ms,
            &self.latency_min_ms,
        ] {
            counter.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exchanged_is_counted_for_the_connection_and_for_all() {
        let connections = Connections::default();
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let (one, other) = (connections.add(peer, false, 5), connections.add(peer, true, 6));
        one.session_opened(7, 4_000);
        one.received(4, 1);
        one.received(5, 2);
        one.answered(3, 2, 50);
        one.sent(1);
        other.received(1, 1);
        other.answered(4, 1, 60);
        let last = connections.list()[0].last();
        assert_eq!((last.session_id, last.outstanding, last.operation, last.xid), (7, 1, 5, 2));
        assert_eq!((last.zxid, last.response_ms, last.latency_ms), (3, 50, 2));
        assert_eq!(connections.outstanding(), 1);
        let totals = connections.totals();
        assert_eq!((totals.received, totals.sent, totals.answered), (4, 2, 2));
        assert_eq!((totals.latency_min_ms, totals.latency_max_ms), (1, 2));
        assert!((totals.latency_average_ms - 1.5).abs() < 1e-9, "{totals:?}");
        drop(one);
        assert_eq!(connections.count(), 1);
        assert_eq!(connections.totals().received, 4, "what is gone still counts");
        connections.reset_totals();
        assert_eq!(connections.totals(), Counts::default());
        assert_eq!(connections.list()[0].counts().received, 1);
    }
}
