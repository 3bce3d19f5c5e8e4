//! Sequential nodes: no number twice, none lost, and none lower than one that was known before it
//! was asked for.

use std::collections::BTreeSet;

use super::{Entry, Outcome, What, by_key};

/// What cannot have been.
pub fn problems(history: &[Entry]) -> Vec<String> {
    let made = by_key(history, |entry| match (&entry.what, entry.outcome) {
        (What::CreateSequential { number }, Outcome::Ok) => Some(*number),
        _ => None,
    });
    let there = by_key(history, |entry| match &entry.what {
        What::Numbers { numbers } => Some(numbers.iter().copied().collect::<BTreeSet<u64>>()),
        _ => None,
    });
    let mut problems = Vec::new();
    for (parent, mut made) in made {
        let mut numbers = BTreeSet::new();
        for (_, number) in &made {
            if !numbers.insert(*number) {
                problems.push(format!("{parent}: number {number} was given twice"));
            }
        }
        for (_, there) in there.get(parent).into_iter().flatten() {
            let missing: Vec<_> = numbers.difference(there).collect();
            if let Some(first) = missing.first() {
                let count = missing.len();
                problems
                    .push(format!("{parent}: {count} numbers are missing, the first is {first}"));
            }
        }
        made.sort_by_key(|(entry, _)| entry.start_ns);
        let mut answered: Vec<(u64, u64)> =
            made.iter().map(|(entry, number)| (entry.end_ns, *number)).collect();
        answered.sort_unstable();
        let mut answered = answered.into_iter().peekable();
        let mut highest = None;
        for (entry, number) in &made {
            while let Some((_, known)) = answered.next_if(|(end_ns, _)| *end_ns < entry.start_ns) {
                highest = highest.max(Some(known));
            }
            if Some(*number) < highest {
                let known = highest.unwrap_or_default();
                problems.push(format!("{parent}: number {number} was given after {known}"));
            }
        }
    }
    problems
}
