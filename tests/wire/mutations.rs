//! Messages with some bytes changed, cut out or put in at random.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ottla_common::kafka::ApiKey;

use crate::codec::decode;
use crate::generate::Generator;
use crate::{Side, Wire};

/// How many messages are tried.
const INPUTS: u64 = 1_000_000;

/// A message to mutate.
struct Base {
    key: ApiKey,
    side: Side,
    version: i16,
    bytes: Vec<u8>,
}

/// Whatever the bytes, decoding says what is wrong or gives a message that can be encoded.
pub fn random_mutations(wire: &Wire) -> String {
    let bases = bases(wire);
    let (mut accepted, mut crashes) = (0, Vec::new());
    let inputs = INPUTS * wire.rounds;
    for case in 0..inputs {
        let mut random = wire.random(case);
        let base = &bases[random.usize(..bases.len())];
        let mut bytes = base.bytes.clone();
        for _ in 0..random.usize(1..5) {
            mutate(&mut random, &mut bytes);
        }
        let tried = catch_unwind(AssertUnwindSafe(|| {
            let Ok((message, _)) = decode(base.key, base.side, base.version, bytes.into()) else {
                return false;
            };
            message.encode(base.version).expect("what was decoded can be encoded");
            true
        }));
        match tried {
            Ok(was_accepted) => accepted += u64::from(was_accepted),
            Err(_) => crashes.push((base.key, base.side, base.version, case)),
        }
    }
    assert!(crashes.is_empty(), "crashes: {crashes:?}");
    format!("{inputs} inputs, {accepted} accepted, 0 crashes")
}

fn bases(wire: &Wire) -> Vec<Base> {
    let mut bases = Vec::new();
    for (key, side, message) in wire.messages() {
        for version in message.versions.low..=message.versions.high {
            let random = wire.random(bases.len() as u64);
            let mut generator =
                Generator { random, message, version, elements_max: 3, unknown_tags: true };
            let bytes = generator.message().bytes;
            bases.push(Base { key: ApiKey::try_from(key).unwrap(), side, version, bytes });
        }
    }
    bases
}

fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(random.u8(..));
    }
    let at = random.usize(..bytes.len());
    match random.u8(..7) {
        0 => bytes[at] = random.u8(..),
        1 => bytes[at] ^= 1 << random.u8(..8),
        2 => bytes[at] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff][random.usize(..7)],
        3 => bytes.truncate(at),
        4 => bytes.insert(at, random.u8(..)),
        5 => drop(bytes.remove(at)),
        _ => {
            let extreme = [-2, -1, 0, 1, 1000, 1_000_000, i32::MAX][random.usize(..7)];
            let end = bytes.len().min(at + 4);
            bytes[at..end].copy_from_slice(&extreme.to_be_bytes()[..end - at]);
        }
    }
}
