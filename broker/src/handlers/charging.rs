//! What a request uses of its client's quotas, and how the client is made to wait: the answer is
//! sent at once and says for how long, and for that long nothing more is read from the client
//! (KIP-219), whether it is new enough to wait by itself or not.
//!
//! Brokers that have proved to be ones are held to nothing.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla_common::clock::monotonic_ms;
use ottla_common::kafka::ErrorCode;
use parking_lot::Mutex;

use super::context::{Context, Parts};
use crate::config::quotas::QuotaKey;
use crate::controller::admin::AdminError;
use crate::network::ConnectionInfo;
use crate::network::reply::BoxFuture;
use crate::quotas::{ANONYMOUS, Client, Usage};

/// Percent of a second that a nanosecond is.
const PERCENT_OF_A_NANOSECOND: f64 = 100.0 / 1e9;

/// What one request uses.
pub struct Charge {
    parts: Arc<Parts>,
    connection: Arc<ConnectionInfo>,
    client_id: String,
    /// How long the client has to wait for it, in milliseconds.
    throttle_ms: AtomicU64,
    /// Whether the answer has been made.
    is_settled: AtomicBool,
    time: Mutex<Time>,
}

/// How much of a thread's time the request has taken.
#[derive(Debug, Default)]
struct Time {
    /// While it was worked on before.
    spent: Duration,
    /// Since when it is worked on now.
    working_since: Option<Instant>,
    /// How much has been charged for.
    charged: Duration,
}

impl Time {
    fn so_far(&self) -> Duration {
        self.spent + self.working_since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

impl Charge {
    /// Of a request of a client; `None` if nobody is held to anything, or the client to nothing.
    pub fn of(
        parts: &Arc<Parts>,
        connection: &Arc<ConnectionInfo>,
        client_id: Option<&str>,
    ) -> Option<Arc<Self>> {
        if !parts.quotas.holds_clients() || connection.peer_broker.get().is_some() {
            return None;
        }
        Some(Arc::new(Self {
            parts: Arc::clone(parts),
            connection: Arc::clone(connection),
            client_id: client_id.unwrap_or_default().to_owned(),
            throttle_ms: AtomicU64::new(0),
            is_settled: AtomicBool::new(false),
            time: Mutex::default(),
        }))
    }

    fn client(&self) -> Client<'_> {
        (ANONYMOUS, &self.client_id)
    }

    /// Works on the request. What this takes is the client's.
    pub fn work<T>(&self, work: impl FnOnce() -> T) -> T {
        self.time.lock().working_since = Some(Instant::now());
        let done = work();
        let mut time = self.time.lock();
        time.spent = time.so_far();
        time.working_since = None;
        done
    }

    /// Charges bytes that came.
    pub fn produced(&self, bytes: u64) {
        let (quotas, now_ms) = (&self.parts.quotas, monotonic_ms());
        self.throttle(quotas.record(Usage::Produce, self.client(), bytes as f64, now_ms));
    }

    /// Charges bytes that were read. Returns whether they may be sent; if not, they are not
    /// charged, and the client has to wait. A batch that never fits is sent to a client that has
    /// fetched nothing lately, who then waits for it: in Kafka it would never get on.
    pub fn fetched(&self, bytes: u64) -> bool {
        let (quotas, client, now_ms) = (&self.parts.quotas, self.client(), monotonic_ms());
        let is_at_rest = quotas.is_at_rest(Usage::Fetch, client, now_ms);
        let throttle_ms = quotas.record(Usage::Fetch, client, bytes as f64, now_ms);
        self.throttle(throttle_ms);
        let is_sent = throttle_ms == 0 || is_at_rest;
        if !is_sent {
            quotas.take_back(Usage::Fetch, client, bytes as f64, now_ms);
        }
        is_sent
    }

    /// The most bytes that a fetch may bring.
    pub fn fetch_bytes_max(&self) -> Option<u64> {
        let most = self.parts.quotas.fetch_bytes_max(self.client())?;
        // A conversion that takes what lies outside to the nearest number that there is.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(most as u64)
    }

    /// Charges the time so far. Returns how long the client has to wait, in milliseconds: the
    /// answer is to say it.
    pub fn settle(&self) -> i32 {
        if !self.is_settled.swap(true, Ordering::Relaxed) {
            let throttle_ms = self.charge_time();
            self.throttle(throttle_ms);
            let throttle_ms = self.throttle_ms.load(Ordering::Relaxed);
            if throttle_ms > 0 {
                // It waits from the answer on, as it is told.
                self.connection.mute(Duration::from_millis(throttle_ms));
                self.parts.metrics.throttled_requests.add(1);
                self.parts.metrics.throttled_ms.add(throttle_ms);
            }
        }
        i32::try_from(self.throttle_ms.load(Ordering::Relaxed)).unwrap_or(i32::MAX)
    }

    /// Charges the time that the answer took; it is too late for the client to be told.
    pub fn finish(&self) {
        self.charge_time();
    }

    fn charge_time(&self) -> u64 {
        if !self.parts.quotas.is_used(QuotaKey::RequestPercentage) {
            return 0;
        }
        let mut time = self.time.lock();
        let so_far = time.so_far();
        let new = so_far.saturating_sub(time.charged);
        time.charged = so_far;
        let percent = new.as_nanos() as f64 * PERCENT_OF_A_NANOSECOND;
        self.parts.quotas.record(Usage::Request, self.client(), percent, monotonic_ms())
    }

    /// The next request of the client waits.
    fn throttle(&self, throttle_ms: u64) {
        if throttle_ms > 0 {
            self.throttle_ms.fetch_max(throttle_ms, Ordering::Relaxed);
            self.connection.mute(Duration::from_millis(throttle_ms));
        }
    }

    fn limits_mutations(&self) -> bool {
        self.parts.quotas.limits_mutations(self.client())
    }

    fn mutate(&self, partitions: usize, is_strict: bool) -> Result<(), AdminError> {
        let (quotas, now_ms) = (&self.parts.quotas, monotonic_ms());
        if !is_strict {
            self.throttle(quotas.mutate_anyway(self.client(), partitions as f64, now_ms));
            return Ok(());
        }
        quotas.mutate(self.client(), partitions as f64, now_ms).map_err(|throttle_ms| {
            self.throttle(throttle_ms);
            let text = "The throttling quota has been exceeded.";
            AdminError::new(ErrorCode::ThrottlingQuotaExceeded, text)
        })
    }
}

impl Context {
    /// Whether partitions that this client makes or deletes have to be charged.
    pub fn limits_mutations(&self) -> bool {
        self.charge.as_ref().is_some_and(|charge| charge.limits_mutations())
    }

    /// Charges partitions that are about to be made or deleted (KIP-599).
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED if the client owes for others, from the version of the request on
    /// in which it understands that; an older one just has to wait.
    pub fn charge_mutation(&self, partitions: usize, strict_from: i16) -> Result<(), AdminError> {
        match &self.charge {
            Some(charge) => charge.mutate(partitions, self.version() >= strict_from),
            None => Ok(()),
        }
    }
}

/// Waits for a future; what it works is the request's.
pub async fn working<T>(mut future: BoxFuture<T>, charge: Option<&Charge>) -> T {
    let Some(charge) = charge else { return future.await };
    poll_fn(|context| charge.work(|| future.as_mut().poll(context))).await
}
