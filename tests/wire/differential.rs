//! Two implementations of one protocol: they must read the same and write the same.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ottla_common::kafka::ApiKey;
use ottla_common::kafka::wire::WireError;

use crate::codec::{decode, decode_record, decode_theirs, their_versions};
use crate::generate::Generator;
use crate::{Side, Wire};

/// How many messages are made of each side of each version of each API.
const MESSAGES_EACH: u64 = 20;

/// Calls `check` with random messages of every side and version of every API.
fn for_random_messages(wire: &Wire, mut check: impl FnMut(ApiKey, Side, i16, Bytes, u64)) -> u64 {
    let mut case = 0;
    for (key, side, message) in wire.messages() {
        let key = ApiKey::try_from(key).unwrap();
        for version in message.versions.low..=message.versions.high {
            for _ in 0..MESSAGES_EACH * wire.rounds {
                case += 1;
                let random = wire.random(case);
                let mut generator =
                    Generator { random, message, version, elements_max: 3, unknown_tags: true };
                check(key, side, version, generator.message().bytes.into(), case);
            }
        }
    }
    case
}

/// What the schema writes, our codec reads whole and writes again, byte for byte.
pub fn bytes_survive(wire: &Wire) -> String {
    let messages = for_random_messages(wire, |key, side, version, bytes, case| {
        let place = format!("{key} {side:?} version {version}, case {case}");
        let (message, left) = decode(key, side, version, bytes.clone())
            .unwrap_or_else(|error| panic!("{place}: {error}: {bytes:02x?}"));
        assert_eq!(left, 0, "{place}: bytes are left of {bytes:02x?}");
        let again = message.encode(version).unwrap_or_else(|error| panic!("{place}: {error}"));
        assert_eq!(again, bytes, "{place}");
        assert_eq!(message.encoded_size(version), Ok(bytes.len()), "{place}");
    });
    format!("{messages} messages")
}

/// The same for what is stored in topics or carried inside other messages.
pub fn records_survive(wire: &Wire) -> String {
    let mut case = 0;
    for message in wire.schema.records.iter().flat_map(|records| &records.messages) {
        for version in message.versions.low..=message.versions.high {
            for _ in 0..MESSAGES_EACH * wire.rounds {
                case += 1;
                let random = wire.random(case);
                let mut generator =
                    Generator { random, message, version, elements_max: 3, unknown_tags: true };
                let bytes = Bytes::from(generator.message().bytes);
                let place = format!("{} version {version}, case {case}", message.name);
                let (record, left) = decode_record(&message.name, version, bytes.clone())
                    .unwrap_or_else(|error| panic!("{place}: {error}: {bytes:02x?}"));
                assert_eq!(left, 0, "{place}: bytes are left of {bytes:02x?}");
                assert_eq!(record.encode(version), Ok(bytes), "{place}");
            }
        }
    }
    format!("{case} records")
}

/// The other implementation reads the same messages and writes the same bytes.
pub fn both_agree(wire: &Wire) -> String {
    let (mut compared, mut versions) = (0, BTreeSet::new());
    let mut disagreements = Disagreements::default();
    for_random_messages(wire, |key, side, version, bytes, case| {
        if !their_versions(key, side).contains(&version) {
            return;
        }
        versions.insert((key, side, version));
        compared += 1;
        let theirs = decode_theirs(key, side, version, bytes.clone());
        match theirs.and_then(|message| message.encode(version)) {
            Ok(again) if again == bytes => {}
            Ok(again) => disagreements.add(key, side, version, || {
                format!("case {case}: {bytes:02x?} became {again:02x?}")
            }),
            Err(error) => disagreements
                .add(key, side, version, || format!("case {case}: {error}: {bytes:02x?}")),
        }
    });
    disagreements.judge();
    format!("{compared} messages of {} kinds and versions", versions.len())
}

/// A message that is read in one version and written in another comes out alike: so the defaults
/// agree, and what may be dropped.
pub fn versions_translate_alike(wire: &Wire) -> String {
    let (mut alike, mut refused, mut stricter) = (0, 0, 0);
    let tagged = names_of_tagged_fields(wire);
    let mut disagreements = Disagreements::default();
    for_random_messages(wire, |key, side, version, bytes, case| {
        let versions = their_versions(key, side);
        if !versions.contains(&version) {
            return;
        }
        let target = wire.random(case).i16(versions);
        let (ours, _) = decode(key, side, version, bytes.clone()).unwrap();
        let Ok(theirs) = decode_theirs(key, side, version, bytes) else { return };
        match (ours.encode(target), theirs.encode(target)) {
            (Ok(ours), Ok(theirs)) if ours == theirs => alike += 1,
            (Err(_), Err(_)) => refused += 1,
            // The other implementation drops tagged fields where they cannot be, and writes null
            // where it must not. Java's throws in both cases.
            (Err(WireError::UnexpectedNull(_)), Ok(_)) => stricter += 1,
            (Err(WireError::NotInVersion(field, _)), Ok(_)) if tagged.contains(field) => {
                stricter += 1;
            }
            (ours, theirs) => disagreements.add(key, side, version, || {
                format!("to {target}, case {case}: ours {ours:02x?}, theirs {theirs:02x?}")
            }),
        }
    });
    disagreements.judge();
    format!("{alike} alike, {refused} refused by both, {stricter} by us only")
}

/// `Structure.field` of each field that is tagged somewhere.
fn names_of_tagged_fields(wire: &Wire) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, _, message) in wire.messages() {
        let inner = message.structs.iter().map(|inner| (&inner.name, &inner.fields));
        for (name, fields) in inner.chain([(&message.name, &message.fields)]) {
            let tagged = fields.iter().filter(|field| field.tag.is_some());
            names.extend(tagged.map(|field| format!("{name}.{}", field.name)));
            names.insert(format!("{name}.unknown_tagged_fields"));
        }
    }
    names
}

/// Where the implementations differ, with the first example of each kind and version.
#[derive(Default)]
struct Disagreements(BTreeMap<String, String>);

impl Disagreements {
    fn add(&mut self, key: ApiKey, side: Side, version: i16, what: impl FnOnce() -> String) {
        self.0.entry(format!("{key} {side:?} version {version}")).or_insert_with(what);
    }

    fn judge(self) {
        for (place, what) in &self.0 {
            println!("{place}: {what}");
        }
        assert!(self.0.is_empty(), "{} disagreements", self.0.len());
    }
}
