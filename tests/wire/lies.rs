//! Every length and count of a message, replaced by a lie.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use ottla_common::kafka::ApiKey;
use ottla_common::kafka::wire::DECODED_SIZE_FACTOR;

use crate::codec::decode;
use crate::generate::{Count, Encoded, Form, Generator, varint};
use crate::{ALLOCATOR, Side, Wire};

/// What a lie may allocate in any case: the first room of a few small vectors.
const GROWTH_ALLOWED: usize = 1024;

/// From which size on the growth of a frame is a figure.
const LARGE_FRAME: usize = 512;

/// The size of a frame that is filled with the smallest elements.
const DENSE_FRAME: usize = 64 * 1024;

/// Where a length of `form` that begins at `position` ends.
fn end_of(bytes: &[u8], Count { position, form }: Count) -> usize {
    match form {
        Form::Short => position + 2,
        Form::Long => position + 4,
        Form::Compact | Form::Plain => {
            let more = bytes[position..].iter().take_while(|byte| **byte >= 0x80).count();
            position + more + 1
        }
    }
}

/// The message with the length at `count` replaced by `lie`, if the form can express it.
fn tell(encoded: &Encoded, count: Count, lie: i64) -> Option<Vec<u8>> {
    let end = end_of(&encoded.bytes, count);
    let mut bytes = encoded.bytes[..count.position].to_vec();
    match count.form {
        Form::Short => bytes.extend_from_slice(&i16::try_from(lie).ok()?.to_be_bytes()),
        Form::Long => bytes.extend_from_slice(&i32::try_from(lie).ok()?.to_be_bytes()),
        // As Java's varints do, wrap around: -2 is the largest of all.
        Form::Compact => varint(&mut bytes, (lie + 1) as u32),
        Form::Plain => varint(&mut bytes, lie as u32),
    }
    bytes.extend_from_slice(&encoded.bytes[end..]);
    Some(bytes)
}

/// The most that was allocated at a time while `frame` was decoded, and whether it was accepted.
fn growth(key: ApiKey, side: Side, version: i16, frame: &Bytes) -> (usize, bool) {
    let frame = frame.clone();
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let decoded = decode(key, side, version, frame);
    let grown = ALLOCATOR.peak_usage().saturating_sub(before);
    (grown, decoded.is_ok())
}

/// What the lies did.
#[derive(Default)]
struct Tally {
    lies: u64,
    refused: u64,
    /// The largest growth beyond that of the honest message, in bytes per byte of the frame, among
    /// frames that are large enough for the figure to mean something.
    largest: f64,
    place: String,
}

/// -1, -2, 0, the largest, and what is left with one more and one less, in place of each length:
/// an error or a message, no panic, and no memory to speak of.
pub fn lengths_that_lie(wire: &Wire) -> String {
    let mut tally = Tally::default();
    let mut case = 0;
    for (key, side, message) in wire.messages() {
        let key = ApiKey::try_from(key).unwrap();
        for version in message.versions.low..=message.versions.high {
            for _ in 0..2 * wire.rounds {
                case += 1;
                let random = wire.random(case);
                let mut generator =
                    Generator { random, message, version, elements_max: 4, unknown_tags: true };
                let encoded = generator.message();
                let place = format!("{key} {side:?} version {version}, case {case}");
                lie_about(key, side, version, &encoded, (&place, &mut tally));
            }
        }
    }
    let Tally { lies, refused, largest, place } = tally;
    format!(
        "{lies} lies, {refused} refused, 0 crashes, largest growth {largest:.2} x frame \
         beyond the truth ({place})"
    )
}

fn lie_about(
    key: ApiKey,
    side: Side,
    version: i16,
    encoded: &Encoded,
    (place, tally): (&str, &mut Tally),
) {
    let honest = growth(key, side, version, &encoded.bytes.clone().into()).0;
    for &count in &encoded.counts {
        let left = encoded.bytes.len() - end_of(&encoded.bytes, count);
        let left = i64::try_from(left).unwrap();
        let (short, long) = (i64::from(i16::MAX), i64::from(i32::MAX));
        for lie in [-1, -2, 0, short, long, left - 1, left, left + 1] {
            let Some(bytes) = tell(encoded, count, lie) else { continue };
            let frame = Bytes::from(bytes);
            let what = || format!("{place}: {lie} at {count:?} of {frame:02x?}");
            let judged = catch_unwind(AssertUnwindSafe(|| growth(key, side, version, &frame)));
            let (grown, accepted) = judged.unwrap_or_else(|_| panic!("{}: panicked", what()));
            tally.lies += 1;
            if accepted {
                let (message, _) = decode(key, side, version, frame.clone()).unwrap();
                message.encode(version).unwrap_or_else(|error| panic!("{}: {error}", what()));
                continue;
            }
            tally.refused += 1;
            let beyond = grown.saturating_sub(honest);
            let ratio = beyond as f64 / frame.len().max(1) as f64;
            if frame.len() >= LARGE_FRAME && ratio > tally.largest {
                tally.largest = ratio;
                tally.place = format!("{beyond} for {} bytes, {place}", frame.len());
            }
            // A length that can be true moves what follows to other fields, which may be denser.
            let can_be_true = (-1..=left).contains(&lie);
            let factor = if can_be_true { 3 * DECODED_SIZE_FACTOR } else { 2 };
            let allowed = factor * frame.len() + GROWTH_ALLOWED;
            assert!(beyond <= allowed, "{}: grew by {beyond} beyond the truth", what());
        }
    }
}

/// The most memory that a frame of 64 KiB can be made to take: each array of each message in turn
/// with as many of the smallest elements as fit. Within the budget of the reader, whatever comes.
pub fn densest_frames(wire: &Wire) -> String {
    let (mut frames, mut largest, mut where_largest) = (0_u64, 0.0, String::new());
    let mut case = 0;
    for (key, side, message) in wire.messages() {
        let key = ApiKey::try_from(key).unwrap();
        for version in message.versions.low..=message.versions.high {
            case += 1;
            let random = wire.random(case);
            let mut generator =
                Generator { random, message, version, elements_max: 2, unknown_tags: false };
            let encoded = generator.message();
            for &count in &encoded.counts {
                for filling in [0, 1] {
                    let elements = i64::try_from(DENSE_FRAME / 4).unwrap();
                    let Some(mut bytes) = tell(&encoded, count, elements) else { continue };
                    bytes.truncate(count.position + 5);
                    bytes.resize(DENSE_FRAME, filling);
                    let (grown, _) = growth(key, side, version, &bytes.into());
                    frames += 1;
                    let ratio = grown as f64 / DENSE_FRAME as f64;
                    if ratio > largest {
                        largest = ratio;
                        where_largest = format!("{key} {side:?} version {version}");
                    }
                }
            }
        }
    }
    // The budget counts elements; a vector that doubles has three times as much for a moment.
    assert!(largest <= 3.0 * DECODED_SIZE_FACTOR as f64, "{largest} in {where_largest}");
    format!("{frames} frames of 64 KiB, largest growth {largest:.1} x frame ({where_largest})")
}
