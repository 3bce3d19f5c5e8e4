//! What readers see while faults go on: the same at each offset, whoever reads it and whenever, and
//! never less than before.

use std::collections::BTreeMap;

use super::records::Placed;

/// What readers were shown that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Where the first stood, a reader found the second.
    Changed(Placed, Placed),
    /// A partition ended sooner than it had: from and to.
    Shorter(i32, i64, i64),
    /// A record was skipped: a reader got the given one behind that offset.
    Skipped(i64, Placed),
    /// It was read, and is not there in the end.
    Gone(Placed),
}

/// All that readers of a topic were shown.
#[derive(Clone, Debug, Default)]
pub struct Readings {
    seen: BTreeMap<(i32, i64), String>,
    ends: BTreeMap<i32, i64>,
    oddities: Vec<Oddity>,
}

impl Readings {
    /// A reader who wanted the record at `position` got this one.
    pub fn saw(&mut self, position: i64, record: &Placed) {
        if record.offset > position {
            self.oddities.push(Oddity::Skipped(position, record.clone()));
        }
        let place = (record.partition, record.offset);
        let first = self.seen.entry(place).or_insert_with(|| record.value.clone());
        if *first != record.value {
            let first = Placed { value: first.clone(), ..record.clone() };
            self.oddities.push(Oddity::Changed(first, record.clone()));
        }
    }

    /// Somebody who asked after everybody before had been answered was told that a partition ends
    /// here.
    pub fn saw_end(&mut self, partition: i32, end_offset: i64) {
        let before = self.ends.insert(partition, end_offset);
        if let Some(before) = before.filter(|before| *before > end_offset) {
            self.oddities.push(Oddity::Shorter(partition, before, end_offset));
        }
    }

    /// How many records were read, each offset counted once.
    pub fn count(&self) -> usize {
        self.seen.len()
    }

    /// What cannot be, given all that the topic holds in the end.
    pub fn judge(&self, read: &[Placed]) -> Vec<Oddity> {
        let there: BTreeMap<(i32, i64), &str> =
            read.iter().map(|it| ((it.partition, it.offset), it.value.as_str())).collect();
        let is_there = |(place, value): &(&(i32, i64), &String)| {
            there.get(place).is_some_and(|found| found == value)
        };
        let gone = self.seen.iter().filter(|seen| !is_there(seen)).map(|(place, value)| {
            let (partition, offset) = *place;
            Oddity::Gone(Placed { partition, offset, value: value.clone() })
        });
        self.oddities.iter().cloned().chain(gone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, value: &str) -> Placed {
        Placed { partition: 0, offset, value: value.to_owned() }
    }

    #[test]
    fn readers_may_be_behind_and_may_read_again() {
        let mut readings = Readings::default();
        for _ in 0..2 {
            readings.saw(0, &record(0, "a/1"));
            readings.saw(1, &record(1, "a/2"));
            readings.saw_end(0, 2);
        }
        readings.saw_end(1, 0);
        let all = [record(0, "a/1"), record(1, "a/2"), record(2, "a/3")];
        assert_eq!((readings.judge(&all), readings.count()), (vec![], 2));
    }

    #[test]
    fn two_readers_see_the_same() {
        let mut readings = Readings::default();
        readings.saw(0, &record(0, "a/1"));
        readings.saw(0, &record(0, "b/1"));
        let changed = Oddity::Changed(record(0, "a/1"), record(0, "b/1"));
        assert_eq!(readings.judge(&[record(0, "a/1")]), [changed]);
    }

    #[test]
    fn what_was_read_stays() {
        let mut readings = Readings::default();
        readings.saw(0, &record(0, "a/1"));
        let gone = [Oddity::Gone(record(0, "a/1"))];
        assert_eq!(readings.judge(&[]), gone, "it is not there");
        assert_eq!(readings.judge(&[record(0, "b/1")]), gone, "another took its place");
    }

    #[test]
    fn a_partition_does_not_become_shorter() {
        let mut readings = Readings::default();
        readings.saw_end(0, 5);
        readings.saw_end(0, 4);
        assert_eq!(readings.judge(&[]), [Oddity::Shorter(0, 5, 4)]);
    }

    #[test]
    fn nothing_is_skipped() {
        let mut readings = Readings::default();
        readings.saw(3, &record(4, "a/5"));
        let all = [record(4, "a/5")];
        assert_eq!(readings.judge(&all), [Oddity::Skipped(3, record(4, "a/5"))]);
    }
}
