//! Nodes that are read and written by version: is there an order of all operations that explains
//! every answer?

use std::collections::{BTreeMap, BTreeSet};

use super::linearizability::{self, Model, Timed, Verdict};
use super::{Entry, Outcome, What, by_key};

/// One node, which is not deleted: each version of it comes from one write.
struct Register<'h> {
    /// The versions that a write was told to have made.
    made: BTreeSet<i64>,
    /// The data of the versions of which it is known.
    values: BTreeMap<i64, &'h str>,
}

/// An operation. Writes that nobody was told of, whatever the version, with data that nobody read,
/// are all alike: it is enough to try them in the order in which they were asked for, and `turn` is
/// the place of such a one among them.
struct Operation<'h> {
    entry: &'h Entry,
    turn: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State<'h> {
    value: &'h str,
    version: i64,
    /// How many of the writes that are all alike were carried out.
    turns: usize,
}

impl<'h> Model for Register<'h> {
    type Operation = Operation<'h>;
    type State = State<'h>;

    fn initial(&self) -> State<'h> {
        let value = self.values.get(&0).copied().unwrap_or_default();
        State { value, version: 0, turns: 0 }
    }

    fn step(&self, state: &State<'h>, operation: &Operation<'h>) -> Option<State<'h>> {
        let Operation { entry, turn } = *operation;
        match &entry.what {
            What::Get { value, version } => {
                (state.value == value && state.version == *version).then_some(*state)
            }
            What::Set { value, expected_version, version } => {
                let fits = *expected_version < 0 || *expected_version == state.version;
                let turns = state.turns + usize::from(turn.is_some());
                let after = State { value, version: state.version + 1, turns };
                match entry.outcome {
                    Outcome::Ok => (fits && *version == after.version).then_some(after),
                    Outcome::Refused => (!fits).then_some(*state),
                    // What nobody was told made a version that nobody else made.
                    Outcome::Unknown => {
                        let known = self.values.get(&after.version);
                        let is_free = !self.made.contains(&after.version)
                            && known.is_none_or(|known| known == value);
                        let is_next = turn.is_none_or(|turn| turn == state.turns);
                        (fits && is_free && is_next).then_some(after)
                    }
                }
            }
            _ => None,
        }
    }
}

/// What cannot have been.
pub fn problems(history: &[Entry]) -> Vec<String> {
    let keys = by_key(history, |entry| match (&entry.what, entry.outcome) {
        (What::Get { .. }, Outcome::Ok) | (What::Set { .. }, _) => Some(()),
        _ => None,
    });
    let mut problems = Vec::new();
    for (key, entries) in keys {
        let entries: Vec<&Entry> = entries.into_iter().map(|(entry, ())| entry).collect();
        problems.extend(problem_of(key, &entries));
    }
    problems
}

fn problem_of(key: &str, entries: &[&Entry]) -> Option<String> {
    let mut register = Register { made: BTreeSet::new(), values: BTreeMap::new() };
    for entry in entries {
        let (value, version) = match (&entry.what, entry.outcome) {
            (What::Get { value, version }, Outcome::Ok) => (value, *version),
            (What::Set { value, version, .. }, Outcome::Ok) => {
                if !register.made.insert(*version) {
                    return Some(format!("{key}: version {version} was made twice"));
                }
                (value, *version)
            }
            _ => continue,
        };
        match register.values.insert(version, value) {
            Some(other) if other != value => {
                return Some(format!("{key}: version {version} is {other:?} and {value:?}"));
            }
            _ => {}
        }
    }
    let operations = operations(entries, &register);
    match linearizability::check(&register, &operations) {
        Verdict::Linearizable => None,
        Verdict::Impossible(number) => {
            let entry = operations.get(number).map(|operation| operation.operation.entry);
            Some(format!("{key}: not linearizable, no order explains {entry:?}"))
        }
        Verdict::GivenUp => Some(format!("{key}: too long to tell whether it is linearizable")),
    }
}

fn operations<'h>(entries: &[&'h Entry], register: &Register<'h>) -> Vec<Timed<Operation<'h>>> {
    let read: BTreeSet<&str> = register.values.values().copied().collect();
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| entry.start_ns);
    let mut turns = 0..;
    let operation = |entry: &'h Entry| {
        let is_unknown = entry.outcome == Outcome::Unknown;
        let is_like_others = match &entry.what {
            What::Set { value, expected_version, .. } => {
                is_unknown && *expected_version < 0 && !read.contains(value.as_str())
            }
            _ => false,
        };
        let turn = if is_like_others { turns.next() } else { None };
        Timed {
            start_ns: entry.start_ns,
            end_ns: (!is_unknown).then_some(entry.end_ns),
            operation: Operation { entry, turn },
        }
    };
    entries.into_iter().map(operation).collect()
}
