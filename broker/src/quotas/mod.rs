//! Quotas of clients (KIP-13, KIP-55, KIP-124, KIP-257, KIP-599, KIP-612): what each has used
//! lately, and how long it has to wait before it may use more.
//!
//! - [`limits`]: what is set, and which of the limits holds for a client
//! - [`rate`]: what was used
//! - [`sensors`]: what is remembered of whom, bounded
//!
//! Everything is pure; [`Quotas`] puts it together behind short locks. Whoever answers a request
//! counts what it used, tells the client how long it has to wait, and does not read from it for
//! that long (KIP-219). Only partitions to be made or deleted are refused, and connections closed.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod limits;
pub mod rate;
pub mod sensors;

use std::net::IpAddr;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::config::broker::QuotasConfig;
use crate::config::quotas::QuotaKey;
use crate::limits::{QUOTA_SENSOR_IDLE_MS, QUOTA_SENSORS_MAX};
use crate::metadata::image::MetadataImage;
use limits::{ClientLimits, Share};
use rate::{SampledRate, TokenBucket, Windows};
use sensors::Sensors;

/// Who every client is as long as none can say who it is.
pub const ANONYMOUS: &str = "ANONYMOUS";

/// A user and a client id, which may be empty.
pub type Client<'a> = (&'a str, &'a str);

/// What is measured as a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Bytes that are produced.
    Produce,
    /// Bytes that are fetched.
    Fetch,
    /// Time that requests take, in percent of a second.
    Request,
}

impl Usage {
    fn key(self) -> QuotaKey {
        match self {
            Self::Produce => QuotaKey::ProducerByteRate,
            Self::Fetch => QuotaKey::ConsumerByteRate,
            Self::Request => QuotaKey::RequestPercentage,
        }
    }
}

type Rates<K> = Mutex<Sensors<K, SampledRate>>;

/// The quotas of a broker's clients.
#[derive(Debug)]
pub struct Quotas {
    limits: ArcSwap<ClientLimits>,
    windows: Windows,
    controller_windows: Windows,
    produced: Rates<Share>,
    fetched: Rates<Share>,
    requests: Rates<Share>,
    mutations: Mutex<Sensors<Share, TokenBucket>>,
    connections: Rates<IpAddr>,
}

fn sensors<K: Eq + std::hash::Hash, T: Default>() -> Mutex<Sensors<K, T>> {
    Mutex::new(Sensors::new(QUOTA_SENSORS_MAX, QUOTA_SENSOR_IDLE_MS))
}

impl Quotas {
    /// Nobody is held to anything yet.
    pub fn new(config: &QuotasConfig) -> Self {
        let windows = |count, size_s| Windows { count, size_ms: u64::from(size_s) * 1000 };
        Self {
            limits: ArcSwap::default(),
            windows: windows(config.window_count, config.window_size_s),
            controller_windows: windows(
                config.controller_window_count,
                config.controller_window_size_s,
            ),
            produced: sensors(),
            fetched: sensors(),
            requests: sensors(),
            mutations: sensors(),
            connections: sensors(),
        }
    }

    /// From now on, the limits of this image hold. What was used before counts for them too.
    pub fn apply(&self, image: &MetadataImage) {
        let configs = image.quota_overrides().map(|(entity, overrides)| (entity, &**overrides));
        self.set(ClientLimits::new(configs));
    }

    fn set(&self, limits: ClientLimits) {
        self.limits.store(limits.into());
    }

    /// Whether anybody is held to this.
    pub fn is_used(&self, key: QuotaKey) -> bool {
        self.limits.load().is_used(key)
    }

    /// Whether any client is held to anything but connections.
    pub fn holds_clients(&self) -> bool {
        let limits = self.limits.load();
        let of_clients = |key: &QuotaKey| *key != QuotaKey::ConnectionCreationRate;
        QuotaKey::ALL.into_iter().filter(of_clients).any(|key| limits.is_used(key))
    }

    fn rates(&self, usage: Usage) -> &Rates<Share> {
        match usage {
            Usage::Produce => &self.produced,
            Usage::Fetch => &self.fetched,
            Usage::Request => &self.requests,
        }
    }

    /// Counts what a client has used. Returns how many milliseconds it has to wait; 0 if it keeps
    /// to its quota.
    pub fn record(&self, usage: Usage, client: Client<'_>, value: f64, now_ms: u64) -> u64 {
        let Some((share, limit)) = self.limits.load().find(usage.key(), client) else { return 0 };
        let mut rates = self.rates(usage).lock();
        let rate = rates.get(share, now_ms);
        rate.record(self.windows, value, now_ms);
        let throttle_ms = rate.throttle_ms(self.windows, limit, now_ms);
        match usage {
            Usage::Produce | Usage::Fetch => throttle_ms,
            // A single slow request must not stop a client for long (KIP-124).
            Usage::Request => throttle_ms.min(self.windows.size_ms),
        }
    }

    /// Whether nothing that a client has used of this counts any more.
    pub fn is_at_rest(&self, usage: Usage, client: Client<'_>, now_ms: u64) -> bool {
        let Some((share, _)) = self.limits.load().find(usage.key(), client) else { return true };
        self.rates(usage).lock().get(share, now_ms).is_at_rest(self.windows, now_ms)
    }

    /// Takes back what was counted: the client did not get it after all.
    pub fn take_back(&self, usage: Usage, client: Client<'_>, value: f64, now_ms: u64) {
        if let Some((share, _)) = self.limits.load().find(usage.key(), client) {
            self.rates(usage).lock().get(share, now_ms).record(self.windows, -value, now_ms);
        }
    }

    /// The most that a client can fetch at once without having to wait in any case; `None` for no
    /// limit.
    pub fn fetch_bytes_max(&self, client: Client<'_>) -> Option<f64> {
        let (_, limit) = self.limits.load().find(QuotaKey::ConsumerByteRate, client)?;
        Some(self.windows.capacity(limit))
    }

    /// Whether a client is held to a rate of partitions that it makes and deletes.
    pub fn limits_mutations(&self, client: Client<'_>) -> bool {
        self.limits.load().find(QuotaKey::ControllerMutationRate, client).is_some()
    }

    /// Counts partitions that a client wants to make or delete.
    ///
    /// # Errors
    /// If it owes for others: how many milliseconds it has to wait. Then nothing is counted.
    pub fn mutate(&self, client: Client<'_>, partitions: f64, now_ms: u64) -> Result<(), u64> {
        let key = QuotaKey::ControllerMutationRate;
        let Some((share, limit)) = self.limits.load().find(key, client) else { return Ok(()) };
        let mut mutations = self.mutations.lock();
        let bucket = mutations.get(share, now_ms);
        match bucket.throttle_ms(self.controller_windows, limit, now_ms) {
            0 => {
                bucket.take(self.controller_windows, (limit, partitions), now_ms);
                Ok(())
            }
            throttle_ms => Err(throttle_ms),
        }
    }

    /// Counts partitions that a client makes or deletes, who is too old to be refused. Returns how
    /// many milliseconds it has to wait.
    pub fn mutate_anyway(&self, client: Client<'_>, partitions: f64, now_ms: u64) -> u64 {
        let key = QuotaKey::ControllerMutationRate;
        let Some((share, limit)) = self.limits.load().find(key, client) else { return 0 };
        let mut mutations = self.mutations.lock();
        let bucket = mutations.get(share, now_ms);
        bucket.take(self.controller_windows, (limit, partitions), now_ms);
        bucket.throttle_ms(self.controller_windows, limit, now_ms)
    }

    /// Counts a connection from an address.
    ///
    /// # Errors
    /// If they are too many: how many milliseconds to wait before it is closed. Then it is not
    /// counted, or who never stops trying would never get in.
    pub fn connect(&self, ip: IpAddr, now_ms: u64) -> Result<(), u64> {
        let limits = self.limits.load();
        let Some(limit) = limits.connections_of(ip) else { return Ok(()) };
        let mut connections = self.connections.lock();
        let rate = connections.get(ip.to_canonical(), now_ms);
        rate.record(self.windows, 1.0, now_ms);
        match rate.throttle_ms(self.windows, limit, now_ms) {
            0 => Ok(()),
            throttle_ms => {
                rate.record(self.windows, -1.0, now_ms);
                Err(throttle_ms.min(self.windows.size_ms))
            }
        }
    }
}

#[cfg(test)]
mod tests;
