//! What a topic must hold after faults: everything that was acknowledged, at its offset, once, in
//! the order of its writer.

use std::collections::{BTreeMap, BTreeSet};

/// A record: where it is, and what it says. Values are unique and name their writer and its count,
/// `writer/count`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The value.
    pub value: String,
}

/// What is wrong with what was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged and not there.
    pub missing: Vec<Placed>,
    /// Acknowledged, and something else is there.
    pub changed: Vec<Placed>,
    /// There more than once.
    pub doubled: Vec<Placed>,
    /// Behind a later record of the same writer.
    pub out_of_order: Vec<Placed>,
    /// Behind a gap.
    pub behind_gaps: Vec<Placed>,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        *self == Self::default()
    }
}

/// Judges all records of a topic, as read from the beginning of each partition on, in order.
pub fn judge(acknowledged: &[Placed], read: &[Placed]) -> Verdict {
    let mut verdict = Verdict::default();
    let there: BTreeMap<(i32, i64), &Placed> =
        read.iter().map(|record| ((record.partition, record.offset), record)).collect();
    for expected in acknowledged {
        match there.get(&(expected.partition, expected.offset)) {
            Some(found) if found.value == expected.value => {}
            Some(_) => verdict.changed.push(expected.clone()),
            None => verdict.missing.push(expected.clone()),
        }
    }
    let mut seen = BTreeSet::new();
    let mut last_of_writer: BTreeMap<(i32, &str), u64> = BTreeMap::new();
    let mut next: BTreeMap<i32, i64> = BTreeMap::new();
    for record in read {
        if !seen.insert(record.value.as_str()) {
            verdict.doubled.push(record.clone());
        }
        if next.insert(record.partition, record.offset + 1).unwrap_or(0) != record.offset {
            verdict.behind_gaps.push(record.clone());
        }
        let Some((writer, count)) = record.value.rsplit_once('/') else { continue };
        let Ok(count) = count.parse() else { continue };
        let last = last_of_writer.insert((record.partition, writer), count);
        if last.is_some_and(|last| last > count) {
            verdict.out_of_order.push(record.clone());
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(partition: i32, values: &[&str]) -> Vec<Placed> {
        let placed = |(offset, value): (i64, &&str)| Placed {
            partition,
            offset,
            value: (*value).to_owned(),
        };
        (0..).zip(values).map(placed).collect()
    }

    #[test]
    fn a_good_history_may_hold_more_than_was_acknowledged() {
        let read = [records(0, &["a/1", "b/1", "a/3"]), records(1, &["a/2"])].concat();
        assert!(judge(&read[..2], &read).is_good());
    }

    #[test]
    fn a_lost_record_is_missing() {
        let acknowledged = records(0, &["a/1", "a/2"]);
        assert_eq!(judge(&acknowledged, &acknowledged[..1]).missing, acknowledged[1..]);
    }

    #[test]
    fn another_record_in_its_place_is_a_change() {
        let acknowledged = records(0, &["a/1", "a/2"]);
        let verdict = judge(&acknowledged, &records(0, &["a/1", "b/1"]));
        assert_eq!(verdict.changed, acknowledged[1..]);
    }

    #[test]
    fn a_record_that_is_there_twice_is_doubled_also_in_another_partition() {
        let read = records(0, &["a/1", "a/1"]);
        assert_eq!(judge(&[], &read).doubled, read[1..]);
        let read = [records(0, &["a/1"]), records(1, &["a/1"])].concat();
        assert_eq!(judge(&[], &read).doubled, read[1..]);
    }

    #[test]
    fn a_writers_records_stand_in_its_order() {
        let read = records(0, &["a/2", "b/9", "a/1"]);
        assert_eq!(judge(&[], &read).out_of_order, read[2..]);
    }

    #[test]
    fn offsets_have_no_gaps() {
        let mut read = records(0, &["a/1", "a/2"]);
        read[1].offset = 5;
        assert_eq!(judge(&[], &read).behind_gaps, read[1..]);
        read[0].offset = 1;
        assert_eq!(judge(&[], &read).behind_gaps, read);
    }
}
