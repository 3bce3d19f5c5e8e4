//! Stories of clients that push.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_common::clock::ManualTime;
use ottla_common::cluster_tree::ConfigKind;

use super::otlp::{Kind, Point};
use super::*;
use crate::limits::{TELEMETRY_CLIENTS_MAX, TELEMETRY_LABELS_MAX, TELEMETRY_SERIES_MAX};
use crate::metadata::image::Guarded;

const SIZE_MAX: usize = 10_000;

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
    bytes
}

/// A field of bytes.
fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(bytes.len() as u64), bytes.to_vec()].concat()
}

fn flag(number: u64, value: u64) -> Vec<u8> {
    [varint(number << 3), varint(value)].concat()
}

fn double(number: u64, value: f64) -> Vec<u8> {
    [varint(number << 3 | 1), value.to_le_bytes().to_vec()].concat()
}

fn attribute(number: u64, key: &str, value: &str) -> Vec<u8> {
    let any = field(1, value.as_bytes());
    field(number, &[field(1, key.as_bytes()), field(2, &any)].concat())
}

fn point(value: f64, labels: &[(&str, &str)]) -> Vec<u8> {
    let labels = labels.iter().flat_map(|(key, value)| attribute(7, key, value));
    field(1, &double(4, value).into_iter().chain(labels).collect::<Vec<u8>>())
}

fn gauge(name: &str, points: &[Vec<u8>]) -> Vec<u8> {
    field(2, &[field(1, name.as_bytes()), field(5, &points.concat())].concat())
}

/// A sum that only grows; 1 for growth, 2 for totals.
fn sum(name: &str, temporality: u64, points: &[Vec<u8>]) -> Vec<u8> {
    let data = [points.concat(), flag(2, temporality), flag(3, 1)].concat();
    field(2, &[field(1, name.as_bytes()), field(7, &data)].concat())
}

/// Everything that a client sends.
fn metrics(metrics: &[Vec<u8>]) -> Vec<u8> {
    let resource = field(1, &attribute(1, "group.id", "readers"));
    field(1, &[resource, field(2, &metrics.concat())].concat())
}

/// Name, version of its node, configs.
type Named<'a> = (&'a str, i32, &'a [(&'a str, &'a str)]);

fn image(subscriptions: &[Named<'_>]) -> MetadataImage {
    let mut image = MetadataImage::default();
    for (name, node_version, config) in subscriptions {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let value = Arc::new(config.collect::<BTreeMap<_, _>>());
        let key = (ConfigKind::ClientMetrics, (*name).to_owned());
        image.other_configs.insert(key, Guarded { value, node_version: *node_version });
    }
    image
}

fn metadata(client_id: &str) -> ClientMetadata {
    ClientMetadata {
        client_id: client_id.to_owned(),
        software_name: "apache-kafka-java".to_owned(),
        software_version: "4.4.0".to_owned(),
        address: ([127, 0, 0, 1], 4711).into(),
    }
}

fn packed(codec: Compression, plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    codec.compress(plain, None, &mut packed).unwrap();
    packed
}

struct Story {
    time: Arc<ManualTime>,
    telemetry: ClientTelemetry,
    image: MetadataImage,
    id: Uuid,
}

impl Story {
    fn new(config: &[(&str, &str)]) -> Self {
        let time = Arc::new(ManualTime::new(1_000_000, 0));
        let telemetry = ClientTelemetry::new(Clock::manual(time.clone()), SIZE_MAX);
        Self { time, telemetry, image: image(&[("s", 0, config)]), id: Uuid([7; 16]) }
    }

    fn get(&self) -> Result<Told, ErrorCode> {
        let told = self.telemetry.subscribe(self.id, metadata("c"), &self.image);
        told.map(|(id, told)| {
            assert_eq!(id, self.id);
            told
        })
    }

    fn push_of(&self, subscription_id: i32, metrics: Vec<u8>) -> Push {
        Push {
            client_instance_id: self.id,
            subscription_id,
            terminating: false,
            compression_type: 0,
            metrics: metrics.into(),
        }
    }

    fn push(&self, push: &Push) -> Result<(), ErrorCode> {
        self.telemetry.push(push, metadata("c"), &self.image)
    }

    fn shown(&self) -> Vec<(String, Kind, f64)> {
        let figures = self.telemetry.figures();
        let series = figures.series.into_iter().flat_map(|(name, (kind, values))| {
            values.into_iter().map(move |(_, _, value)| (name.clone(), kind, value))
        });
        series.collect()
    }
}

#[test]
fn a_client_is_asked_for_what_it_matches() {
    let story = Story::new(&[]);
    let java = [("match", "client_software_name=.*java,client_source_port=[0-9]+")];
    let image = image(&[
        ("all", 0, &[("metrics", "a.,b."), ("interval.ms", "60000")]),
        ("java", 0, &[("metrics", "b.,c."), ("interval.ms", "5000"), java[0]]),
        ("other", 0, &[("metrics", "*"), ("match", "client_id=other-.*")]),
        ("empty", 3, &[]),
    ]);
    let ask = |client_id: &str| {
        let asked = story.telemetry.subscribe(Uuid::ZERO, metadata(client_id), &image);
        asked.unwrap()
    };
    let (id, told) = ask("c");
    assert!(!id.is_zero());
    assert_eq!(told.wanted.metrics, ["a.", "b.", "c."]);
    assert_eq!(told.wanted.interval_ms, 5000);
    let (other_id, other) = ask("other-1");
    assert_eq!(other.wanted.metrics, ["*"]);
    assert_ne!((id, told.subscription_id), (other_id, other.subscription_id));
    assert_eq!(ask("another-1").1.wanted.metrics.len(), 3, "a pattern is for the whole text");
}

#[test]
fn a_client_without_a_subscription_is_asked_for_nothing() {
    let mut story = Story::new(&[("match", "client_id=somebody"), ("metrics", "*")]);
    let told = story.get().unwrap();
    assert!(told.wanted.metrics.is_empty());
    assert_eq!(told.wanted.interval_ms, 300_000);
    assert_eq!(story.get(), Err(ErrorCode::ThrottlingQuotaExceeded));
    // Another subscription is told at once.
    story.image = image(&[("s", 1, &[("metrics", "*"), ("interval.ms", "1000")])]);
    assert_eq!(story.get().unwrap().wanted.metrics, ["*"]);
}

#[test]
fn pushes_keep_to_the_interval() {
    let story = Story::new(&[("metrics", "*"), ("interval.ms", "1000")]);
    let told = story.get().unwrap();
    let push = story.push_of(told.subscription_id, metrics(&[gauge("a", &[point(1.0, &[])])]));
    assert_eq!(story.push(&push), Ok(()), "the first after being told may come at any time");
    assert_eq!(story.push(&push), Err(ErrorCode::ThrottlingQuotaExceeded));
    assert_eq!(story.get(), Err(ErrorCode::ThrottlingQuotaExceeded));
    story.time.advance(1000);
    assert_eq!(story.push(&push), Ok(()));
    let last = Push { terminating: true, ..push.clone() };
    assert_eq!(story.push(&last), Ok(()), "the last comes when it comes");
    story.time.advance(1000);
    assert_eq!(story.push(&push), Err(ErrorCode::InvalidRequest), "nothing comes after the last");
    assert_eq!(story.push(&last), Err(ErrorCode::InvalidRequest));
}

#[test]
fn pushes_that_were_not_asked_for_are_refused() {
    let mut story = Story::new(&[("metrics", "*"), ("interval.ms", "1000")]);
    let told = story.get().unwrap();
    let good = story.push_of(told.subscription_id, Vec::new());
    for (push, error) in [
        (Push { client_instance_id: Uuid::ZERO, ..good.clone() }, ErrorCode::InvalidRequest),
        (
            Push { subscription_id: good.subscription_id ^ 1, ..good.clone() },
            ErrorCode::UnknownSubscriptionId,
        ),
        (Push { compression_type: 9, ..good.clone() }, ErrorCode::UnsupportedCompressionType),
        (Push { compression_type: -1, ..good.clone() }, ErrorCode::UnsupportedCompressionType),
        (
            Push { metrics: vec![0; SIZE_MAX + 1].into(), ..good.clone() },
            ErrorCode::TelemetryTooLarge,
        ),
        (Push { metrics: vec![0xff; 9].into(), ..good.clone() }, ErrorCode::InvalidRecord),
        (
            Push { metrics: vec![1; 9].into(), compression_type: 1, ..good.clone() },
            ErrorCode::InvalidRecord,
        ),
    ] {
        assert_eq!(story.push(&push), Err(error), "{push:?}");
        story.time.advance(1000);
    }
    assert_eq!(story.push(&good), Ok(()), "an empty push says that the client lives");
    // A changed subscription: what was told before is old, and the client may ask at once.
    story.image = image(&[("s", 1, &[("metrics", "b"), ("interval.ms", "1000")])]);
    assert_eq!(story.push(&good), Err(ErrorCode::UnknownSubscriptionId));
    assert_eq!(story.get().unwrap().wanted.metrics, ["b"]);
}

#[test]
fn every_codec_is_taken_and_none_is_trusted() {
    for codec in Compression::ALL {
        let story = Story::new(&[("metrics", "*")]);
        let told = story.get().unwrap();
        let plain = metrics(&[gauge("a", &[point(1.5, &[])])]);
        let packed = packed(codec, &plain);
        let push = Push {
            compression_type: i8::try_from(codec.id()).unwrap(),
            ..story.push_of(told.subscription_id, packed.to_vec())
        };
        assert_eq!(story.push(&push), Ok(()), "{codec}");
        assert_eq!(story.shown(), [("a".to_owned(), Kind::Gauge, 1.5)]);
    }
    // A little that becomes much.
    let story = Story::new(&[("metrics", "*")]);
    let told = story.get().unwrap();
    let zeros = vec![0; TELEMETRY_DECOMPRESSED_SIZE_MAX * 2];
    let packed = packed(Compression::Zstd, &zeros);
    assert!(packed.len() < SIZE_MAX);
    let push = Push { compression_type: 4, ..story.push_of(told.subscription_id, packed.to_vec()) };
    assert_eq!(story.push(&push), Err(ErrorCode::TelemetryTooLarge));
}

#[test]
fn gauges_and_sums_are_read_under_prometheus_names() {
    let name = "org.apache.kafka.consumer.fetch.manager.bytes.consumed.total";
    let bytes = metrics(&[
        gauge("my metric/1", &[point(-2.0, &[("topic", "t"), ("topic", "u"), ("9", "x")])]),
        sum(name, 2, &[point(5.0, &[])]),
        field(2, &[field(1, b"histogram"), field(9, b"")].concat()),
    ]);
    let points = otlp::read(&bytes, 10).unwrap();
    let labels = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let expected = [
        Point {
            name: "my_metric_1".to_owned(),
            labels: labels(&[("_9", "x"), ("group_id", "readers"), ("topic", "t")]),
            kind: Kind::Gauge,
            value: -2.0,
            is_delta: false,
        },
        Point {
            name: "consumer_fetch_manager_bytes_consumed".to_owned(),
            labels: labels(&[("group_id", "readers")]),
            kind: Kind::Counter,
            value: 5.0,
            is_delta: false,
        },
    ];
    assert_eq!(points, expected);
    assert_eq!(otlp::read(&bytes, 1).unwrap().len(), 1);
}

#[test]
fn whatever_is_cut_or_bent_is_refused_or_read_without_harm() {
    let bytes = metrics(&[
        gauge("a", &[point(1.0, &[("k", "v")])]),
        sum("b", 1, &[point(2.0, &[]), point(3.0, &[("x", "é")])]),
    ]);
    for cut in 0..bytes.len() {
        let _ = otlp::read(&bytes[..cut], 10);
        for bend in [0x01, 0x80, 0xff] {
            let mut bent = bytes.clone();
            bent[cut] ^= bend;
            let _ = otlp::read(&bent, 10);
        }
    }
    assert!(otlp::read(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 10).is_err());
    assert!(otlp::read(&[0xff; 20], 10).is_err(), "a number without an end");
}

#[test]
fn growth_is_added_up_and_gauges_that_are_not_sent_again_are_gone() {
    let story = Story::new(&[("metrics", "*"), ("interval.ms", "1000")]);
    let told = story.get().unwrap();
    let push = |list: &[Vec<u8>]| {
        story.time.advance(1000);
        story.push(&story.push_of(told.subscription_id, metrics(list))).unwrap();
    };
    push(&[sum("grown", 1, &[point(5.0, &[])]), gauge("g", &[point(1.0, &[])])]);
    push(&[sum("grown", 1, &[point(2.0, &[])]), sum("whole", 2, &[point(9.0, &[])])]);
    let (grown, whole) = (("grown".to_owned(), Kind::Counter, 7.0), ("whole".to_owned(), 9.0));
    assert_eq!(story.shown(), [grown.clone(), (whole.0, Kind::Counter, whole.1)]);
    push(&[]);
    assert_eq!(story.shown(), [grown], "what has not grown is not sent");
}

#[test]
fn clients_and_series_are_bounded_and_forgotten() {
    let story = Story::new(&[("metrics", "*"), ("interval.ms", "1000")]);
    let labels: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    let points: Vec<Vec<u8>> = labels.iter().map(|label| point(1.0, &[("n", label)])).collect();
    let much = packed(Compression::Zstd, &metrics(&[gauge("g", &points)]));
    let send = |number: usize| {
        let client_instance_id = Uuid((number as u128 + 2).to_be_bytes());
        let metadata = metadata(&number.to_string());
        let asked = story.telemetry.subscribe(client_instance_id, metadata.clone(), &story.image);
        let (_, told) = asked.unwrap();
        let push = Push {
            client_instance_id,
            compression_type: 4,
            ..story.push_of(told.subscription_id, much.to_vec())
        };
        story.telemetry.push(&push, metadata, &story.image).unwrap();
    };
    (0..25).for_each(send);
    let figures = story.telemetry.figures();
    assert_eq!(figures.clients.len(), 25);
    assert_eq!(figures.series["g"].1.len(), TELEMETRY_SERIES_MAX);
    assert_eq!(figures.left_out, 5 * 1000, "each could have a thousand, and five found no room");
    story.time.advance(1);
    for number in 25..TELEMETRY_CLIENTS_MAX + 5 {
        let id = Uuid((number as u128 + 2).to_be_bytes());
        story.telemetry.subscribe(id, metadata("c"), &story.image).unwrap();
    }
    let figures = story.telemetry.figures();
    assert_eq!(figures.clients.len(), TELEMETRY_CLIENTS_MAX);
    assert_eq!(figures.series["g"].1.len(), TELEMETRY_SERIES_MAX - 5 * 1000, "the oldest are gone");
    story.time.advance(60_001);
    assert!(story.telemetry.figures().clients.is_empty());
    // A point with more labels than are kept.
    let many: Vec<(&str, &str)> = labels.iter().map(|name| (name.as_str(), "v")).collect();
    let read = otlp::read(&metrics(&[gauge("g", &[point(1.0, &many)])]), 10).unwrap();
    assert_eq!(read[0].labels.len(), TELEMETRY_LABELS_MAX);
}
