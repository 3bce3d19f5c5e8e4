//! Reads the part of OpenTelemetry's `MetricsData` that clients use: gauges and sums, with their
//! attributes as labels, under names that Prometheus takes. Everything else is passed over.
//!
//! The bytes come from clients. Nothing is allocated because of a length that they announce, there
//! is no recursion, and no more is kept than the bounds say.

use crate::limits::{TELEMETRY_LABELS_MAX, TELEMETRY_TEXT_SIZE_MAX};

/// What all of Kafka's own metrics begin with.
const KAFKA_PREFIX: &str = "org.apache.kafka.";

/// The sum of a series is what it grew by since the last push (the format's number).
const DELTA: u64 = 1;

/// What a series says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A value of now.
    Gauge,
    /// A sum that only grows.
    Counter,
}

/// The value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Its name, for Prometheus.
    pub name: String,
    /// Its labels by name, for Prometheus.
    pub labels: Vec<(String, String)>,
    /// What it says.
    pub kind: Kind,
    /// The value, or how much it grew.
    pub value: f64,
    /// Whether the value is a growth.
    pub is_delta: bool,
}

/// The bytes are not what a client of the format writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the metrics are malformed")]
pub struct Malformed;

/// The value of a field, as it lies in the bytes.
#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

/// The fields of a message, with their numbers.
struct Message<'a>(&'a [u8]);

impl<'a> Message<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(Malformed)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn field(&mut self) -> Result<(u64, Field<'a>), Malformed> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
                Field::Fixed64(u64::from_le_bytes(bytes))
            }
            2 => {
                let size = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Field::Bytes(self.take(size)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return Err(Malformed),
        };
        Ok((tag >> 3, field))
    }
}

impl<'a> Iterator for Message<'a> {
    type Item = Result<(u64, Field<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// Reads all series, but no more than `series_max`.
///
/// # Errors
/// If the bytes are no such message.
pub fn read(bytes: &[u8], series_max: usize) -> Result<Vec<Point>, Malformed> {
    let mut points = Vec::new();
    for field in Message(bytes) {
        if let (1, resource_metrics) = field? {
            read_resource(resource_metrics.bytes()?, (&mut points, series_max))?;
        }
    }
    Ok(points)
}

type Into<'a> = (&'a mut Vec<Point>, usize);

fn read_resource(bytes: &[u8], (points, max): Into<'_>) -> Result<(), Malformed> {
    let mut common = Labels::default();
    for field in Message(bytes) {
        if let (1, resource) = field? {
            for field in Message(resource.bytes()?) {
                if let (1, attribute) = field? {
                    common.add(attribute.bytes()?)?;
                }
            }
        }
    }
    for field in Message(bytes) {
        let (2, scope) = field? else { continue };
        for field in Message(scope.bytes()?) {
            if let (2, metric) = field? {
                read_metric(metric.bytes()?, &common, (points, max))?;
            }
        }
    }
    Ok(())
}

fn read_metric(bytes: &[u8], common: &Labels, (points, max): Into<'_>) -> Result<(), Malformed> {
    let (mut name, mut data) = ("", None);
    for field in Message(bytes) {
        match field? {
            (1, text) => name = text.text()?,
            (5, gauge) => data = Some((gauge.bytes()?, false)),
            (7, sum) => data = Some((sum.bytes()?, true)),
            _ => {}
        }
    }
    let Some((data, is_sum)) = data else { return Ok(()) };
    let name = metric_name(name);
    let (mut is_delta, mut is_monotonic) = (false, false);
    for field in Message(data) {
        match field? {
            (2, Field::Varint(temporality)) => is_delta = temporality == DELTA,
            (3, Field::Varint(flag)) => is_monotonic = flag != 0,
            _ => {}
        }
    }
    let kind = if is_sum && is_monotonic { Kind::Counter } else { Kind::Gauge };
    for field in Message(data) {
        let (1, point) = field? else { continue };
        let (value, labels) = read_point(point.bytes()?, common)?;
        if let Some(value) = value
            && points.len() < max
        {
            let is_delta = is_delta && kind == Kind::Counter;
            points.push(Point { name: name.clone(), labels, kind, value, is_delta });
        }
    }
    Ok(())
}

type Labelled = (Option<f64>, Vec<(String, String)>);

fn read_point(bytes: &[u8], common: &Labels) -> Result<Labelled, Malformed> {
    let (mut value, mut labels) = (None, common.clone());
    for field in Message(bytes) {
        match field? {
            (4, Field::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
            (6, Field::Fixed64(bits)) => value = Some(bits.cast_signed() as f64),
            (7, attribute) => labels.add(attribute.bytes()?)?,
            _ => {}
        }
    }
    labels.0.sort();
    Ok((value, labels.0))
}

/// Labels whose names differ.
#[derive(Clone, Debug, Default)]
struct Labels(Vec<(String, String)>);

impl Labels {
    /// Adds an attribute, unless there is one of its name, or it has no simple value.
    fn add(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let (mut key, mut value) = ("", None);
        for field in Message(bytes) {
            match field? {
                (1, text) => key = text.text()?,
                (2, any) => value = any_value(any.bytes()?)?,
                _ => {}
            }
        }
        let Some(value) = value else { return Ok(()) };
        let name = prometheus_name(key);
        let is_new = self.0.iter().all(|(known, _)| *known != name);
        if is_new && self.0.len() < TELEMETRY_LABELS_MAX {
            self.0.push((name, value));
        }
        Ok(())
    }
}

fn any_value(bytes: &[u8]) -> Result<Option<String>, Malformed> {
    let mut value = None;
    for field in Message(bytes) {
        value = match field? {
            (1, text) => Some(shortened(text.text()?).to_owned()),
            (2, Field::Varint(flag)) => Some((flag != 0).to_string()),
            (3, Field::Varint(number)) => Some(number.cast_signed().to_string()),
            (4, Field::Fixed64(bits)) => Some(f64::from_bits(bits).to_string()),
            _ => None,
        };
    }
    Ok(value)
}

/// As much of a text as is kept.
pub fn shortened(text: &str) -> &str {
    let ends = (0..=TELEMETRY_TEXT_SIZE_MAX.min(text.len())).rev();
    ends.filter_map(|end| text.get(..end)).next().unwrap_or_default()
}

/// `org.apache.kafka.producer.record.send.total` as `producer_record_send`: Prometheus' format adds
/// the last word to counters itself.
fn metric_name(name: &str) -> String {
    let name = prometheus_name(name.strip_prefix(KAFKA_PREFIX).unwrap_or(name));
    let mut short = name.as_str();
    while let Some(shorter) = short.strip_suffix("_total") {
        short = shorter;
    }
    if short.is_empty() { "total".to_owned() } else { short.to_owned() }
}

/// A text with all that Prometheus does not allow in names replaced.
fn prometheus_name(text: &str) -> String {
    let shown = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = shortened(text).chars().map(shown).collect();
    match name.chars().next() {
        Some(first) if !first.is_ascii_digit() => name,
        _ => format!("_{name}"),
    }
}
