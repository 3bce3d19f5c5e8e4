//! The clients that asked what to send, and the newest figures of each. Pure: times come in as
//! parameters, in milliseconds of a clock that does not jump.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::Uuid;

use super::Push;
use super::otlp::{Kind, Point};
use super::subscriptions::{Subscriptions, Wanted};
use crate::limits::{TELEMETRY_CLIENTS_MAX, TELEMETRY_SERIES_MAX, TELEMETRY_SERIES_PER_CLIENT_MAX};

/// A client that is silent for longer than this and than three of its intervals is forgotten.
const SILENCE_MS_MIN: u64 = 60_000;

/// What is known of a client besides its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientMetadata {
    /// `client.id`.
    pub client_id: String,
    /// Which library it is.
    pub software_name: String,
    /// Of which version.
    pub software_version: String,
    /// Where it connects from.
    pub address: SocketAddr,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What its pushes have to name.
    pub subscription_id: i32,
    /// What it is to send.
    pub wanted: Wanted,
}

type SeriesName = (String, Vec<(String, String)>);

#[derive(Clone, Copy, Debug)]
struct Value {
    kind: Kind,
    value: f64,
    is_summed_up: bool,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    id: Uuid,
    metadata: ClientMetadata,
    /// Of which subscriptions `told` is.
    version: u64,
    told: Told,
    terminating: bool,
    last_get_ms: Option<u64>,
    last_push_ms: Option<u64>,
    last_error: ErrorCode,
    seen_ms: u64,
    series: BTreeMap<SeriesName, Value>,
}

/// The place of a client in a list, the labels of one of its series, and the value.
pub type ClientValue = (usize, Vec<(String, String)>, f64);

/// What monitoring tells of clients.
#[derive(Clone, Debug, Default)]
pub struct TelemetryFigures {
    /// The clients.
    pub clients: Vec<(Uuid, ClientMetadata)>,
    /// Their series: metric → what it says, and the values by the client's place above and labels.
    pub series: BTreeMap<String, (Kind, Vec<ClientValue>)>,
    /// Series that were not kept, since the start.
    pub left_out: u64,
}

/// All clients.
#[derive(Debug, Default)]
pub struct Clients {
    clients: HashMap<Uuid, Client>,
    series_count: usize,
    left_out: u64,
}

impl ClientMetadata {
    fn attribute<'a>(&'a self, name: &str, id: Uuid) -> Option<Cow<'a, str>> {
        Some(match name {
            "client_id" => Cow::from(&self.client_id),
            "client_instance_id" => id.to_string().into(),
            "client_software_name" => Cow::from(&self.software_name),
            "client_software_version" => Cow::from(&self.software_version),
            "client_source_address" => self.address.ip().to_canonical().to_string().into(),
            "client_source_port" => self.address.port().to_string().into(),
            _ => return None,
        })
    }
}

impl Clients {
    /// The client of an id, made if it is not known, and told anew if the subscriptions changed.
    pub fn client(
        &mut self,
        id: Uuid,
        metadata: ClientMetadata,
        subscriptions: &Subscriptions,
        now_ms: u64,
    ) -> &mut Client {
        self.forget_silent(now_ms);
        if !self.clients.contains_key(&id) && self.clients.len() >= TELEMETRY_CLIENTS_MAX {
            let oldest = self.clients.values().min_by_key(|client| (client.seen_ms, client.id.0));
            if let Some(id) = oldest.map(|client| client.id) {
                self.forget(id);
            }
        }
        let version = subscriptions.version();
        let fresh = |series| {
            let wanted = subscriptions.wanted(&|name| metadata.attribute(name, id));
            let subscription_id = subscription_id(&wanted, id);
            Client {
                id,
                metadata: metadata.clone(),
                version,
                told: Told { subscription_id, wanted },
                terminating: false,
                last_get_ms: None,
                last_push_ms: None,
                last_error: ErrorCode::None,
                seen_ms: now_ms,
                series,
            }
        };
        let client = self.clients.entry(id).or_insert_with(|| fresh(BTreeMap::new()));
        if client.version != version {
            *client = fresh(std::mem::take(&mut client.series));
        }
        client.seen_ms = now_ms;
        client
    }

    /// Forgets who was silent for too long.
    pub fn forget_silent(&mut self, now_ms: u64) {
        let silent = self.clients.values().filter(|client| {
            let interval_ms = u64::try_from(client.told.wanted.interval_ms).unwrap_or(0);
            now_ms.saturating_sub(client.seen_ms) > SILENCE_MS_MIN.max(interval_ms * 3)
        });
        let silent: Vec<Uuid> = silent.map(|client| client.id).collect();
        silent.into_iter().for_each(|id| self.forget(id));
    }

    fn forget(&mut self, id: Uuid) {
        if let Some(client) = self.clients.remove(&id) {
            self.series_count -= client.series.len();
        }
    }

    /// Replaces what a client sent before. What grew is added to what there was.
    pub fn store(&mut self, id: Uuid, points: Vec<Point>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let before = std::mem::take(&mut client.series);
        let others = self.series_count - before.len();
        let room = (TELEMETRY_SERIES_MAX - others).min(TELEMETRY_SERIES_PER_CLIENT_MAX);
        let mut series = BTreeMap::new();
        let summed_up = before.iter().filter(|(_, held)| held.is_summed_up);
        series.extend(summed_up.map(|(name, held)| (name.clone(), *held)));
        for point in points {
            let Point { name, labels, kind, value, is_delta } = point;
            let name = (name, labels);
            let held = before.get(&name).filter(|_| is_delta).map_or(0.0, |held| held.value);
            if series.len() >= room && !series.contains_key(&name) {
                self.left_out += 1;
                continue;
            }
            series.insert(name, Value { kind, value: value + held, is_summed_up: is_delta });
        }
        self.series_count = others + series.len();
        client.series = series;
        client.last_error = ErrorCode::None;
    }

    /// Remembers why a push was refused.
    pub fn note_error(&mut self, id: Uuid, error: ErrorCode) {
        if let Some(client) = self.clients.get_mut(&id) {
            client.last_error = error;
        }
    }

    /// All clients and their series, in the order of their ids.
    pub fn figures(&self) -> TelemetryFigures {
        let mut clients: Vec<&Client> = self.clients.values().collect();
        clients.sort_unstable_by_key(|client| client.id.0);
        let mut figures = TelemetryFigures { left_out: self.left_out, ..Default::default() };
        for (place, client) in clients.into_iter().enumerate() {
            figures.clients.push((client.id, client.metadata.clone()));
            for ((name, labels), held) in &client.series {
                let family = figures.series.entry(name.clone());
                let (kind, values) = family.or_insert_with(|| (held.kind, Vec::new()));
                // Two clients may mean different things by one name.
                if *kind == held.kind {
                    values.push((place, labels.clone(), held.value));
                }
            }
        }
        figures
    }
}

impl Client {
    /// What the client is to send, if it does not ask too early. After some errors it may ask at
    /// once.
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED.
    pub fn take_get(&mut self, now_ms: u64) -> Result<Told, ErrorCode> {
        let last_ms = self.last_get_ms.max(self.last_push_ms);
        if self.is_interval_over(last_ms, now_ms) {
            self.last_get_ms = Some(now_ms);
        } else if !matches!(
            self.last_error,
            ErrorCode::UnknownSubscriptionId | ErrorCode::UnsupportedCompressionType
        ) {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        self.last_error = ErrorCode::None;
        Ok(self.told.clone())
    }

    /// Takes note of a push, if it may be made now and is what was asked for.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn take_push(
        &mut self,
        push: &Push,
        size_max: usize,
        now_ms: u64,
    ) -> Result<(), ErrorCode> {
        let checked = self.check_push(push, size_max, now_ms);
        self.terminating |= push.terminating;
        self.last_error = checked.err().unwrap_or(ErrorCode::None);
        checked
    }

    fn check_push(&mut self, push: &Push, size_max: usize, now_ms: u64) -> Result<(), ErrorCode> {
        if self.terminating {
            return Err(ErrorCode::InvalidRequest);
        }
        let is_due = self.last_get_ms > self.last_push_ms
            || self.is_interval_over(self.last_push_ms, now_ms);
        if is_due {
            self.last_push_ms = Some(now_ms);
        } else if !push.terminating {
            return Err(ErrorCode::ThrottlingQuotaExceeded);
        }
        if push.subscription_id != self.told.subscription_id {
            return Err(ErrorCode::UnknownSubscriptionId);
        }
        if Compression::from_id(i16::from(push.compression_type)).is_err() {
            return Err(ErrorCode::UnsupportedCompressionType);
        }
        if push.metrics.len() > size_max {
            return Err(ErrorCode::TelemetryTooLarge);
        }
        Ok(())
    }

    fn is_interval_over(&self, last_ms: Option<u64>, now_ms: u64) -> bool {
        let interval_ms = u64::try_from(self.told.wanted.interval_ms).unwrap_or(0);
        last_ms.is_none_or(|last_ms| now_ms.saturating_sub(last_ms) >= interval_ms)
    }
}

/// A number that differs for what is wanted and from whom.
fn subscription_id(wanted: &Wanted, id: Uuid) -> i32 {
    let interval = wanted.interval_ms.to_be_bytes();
    let names = wanted.metrics.iter().flat_map(|name| name.bytes().chain([0]));
    // FNV-1a.
    let hash =
        id.0.into_iter()
            .chain(interval)
            .chain(names)
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.cast_signed()
}
