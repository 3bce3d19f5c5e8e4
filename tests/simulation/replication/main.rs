//! `cargo dev sim --replication`: runs seeds of a replicated partition and says what came of them.

mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;

use world::World;

/// Mistakes on purpose, one at a time: the search has to find each, or it proves nothing. The
/// letters are those of the list of historic bugs that each is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Commits whatever the size of the ISR.
    IgnoreMinIsr,
    /// A follower cuts its log to its high watermark (KIP-101).
    TruncateToHighWatermark,
    /// A follower cuts its log once for each epoch, by the leader's end alone (KIP-279).
    TruncateOnce,
    /// A leader counts fetches of other epochs (KIP-320).
    CountOlderEpoch,
    /// The high watermark does not count who is about to join.
    CommittedIsrOnly,
    /// An answer that was lost is taken for a failure (KAFKA-2729).
    LostReplyIsFailure,
    /// A change that was overtaken is taken for one that was never made.
    OvertakenIsRefused,
    /// Nobody notices that a leader was away (KAFKA-1120).
    MissedBounce,
    /// A replica joins whatever its broker's life (KIP-903).
    NoBrokerEpochCheck,
    /// Replicas say that they have on disk what they have not.
    AckBeforeFlush,
    /// What is not on disk counts.
    NoFlush,
    /// A leader goes on without a session.
    NoLease,
    /// Recovery keeps what a power cut left of the tail.
    KeepTornTail,
}

impl Mistake {
    const ALL: [Self; 13] = [
        Self::IgnoreMinIsr,
        Self::TruncateToHighWatermark,
        Self::TruncateOnce,
        Self::CountOlderEpoch,
        Self::CommittedIsrOnly,
        Self::LostReplyIsFailure,
        Self::OvertakenIsRefused,
        Self::MissedBounce,
        Self::NoBrokerEpochCheck,
        Self::AckBeforeFlush,
        Self::NoFlush,
        Self::NoLease,
        Self::KeepTornTail,
    ];
}

/// Runs a replicated partition, all of it decided by a seed.
#[derive(Parser)]
#[command(name = "cargo dev sim --replication")]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// Only this seed, with what happened in it.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// Makes one mistake after the other and tells when it is found.
    #[arg(long)]
    seeded_bugs: bool,
    /// How many of the last lines of a story are shown.
    #[arg(long, default_value_t = 60)]
    lines: usize,
    /// How long each mistake is looked for, in seconds.
    #[arg(long, default_value_t = 60)]
    patience: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_well = if arguments.seeded_bugs {
        look_for_mistakes(Duration::from_secs(arguments.patience))
    } else if let Some(seed) = arguments.seed {
        tell(seed, arguments.lines)
    } else {
        run_many(&arguments)
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_many(arguments: &Arguments) -> bool {
    let began = Instant::now();
    let (mut failures, mut events) = (Vec::new(), 0);
    for seed in arguments.first..arguments.first + arguments.seeds {
        let mut world = World::new(seed, None);
        if let Err(violation) = world.run() {
            println!("seed {seed}: {}: {}", violation.invariant, violation.what);
            failures.push(seed);
        }
        events += world.event_count;
        if failures.len() >= 5 {
            break;
        }
    }
    if let Some(first) = failures.first() {
        tell(*first, arguments.lines);
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{} seeds from {} in {took:.0} s ({:.1} a second): {} failed; {events} events",
        arguments.seeds,
        arguments.first,
        arguments.seeds as f64 / took.max(0.001),
        failures.len(),
    );
    failures.is_empty()
}

fn tell(seed: u64, lines: usize) -> bool {
    let mut world = World::new(seed, None);
    let outcome = world.run();
    let story = world.story();
    story.iter().skip(story.len().saturating_sub(lines)).for_each(|line| println!("{line}"));
    match &outcome {
        Ok(()) => println!("seed {seed}: no violation"),
        Err(violation) => println!("seed {seed}: {}: {}", violation.invariant, violation.what),
    }
    outcome.is_ok()
}

fn look_for_mistakes(patience: Duration) -> bool {
    let began = Instant::now();
    let mut found = 0;
    println!("{:<26} {:<34} {:>6} {:>8}", "bug", "found by", "seed", "seconds");
    for mistake in Mistake::ALL {
        let started = Instant::now();
        let mut by = None;
        let mut seed = 0;
        while by.is_none() && started.elapsed() < patience {
            seed += 1;
            by = World::new(seed, Some(mistake)).run().err();
        }
        let (name, seconds) = (format!("{mistake:?}"), started.elapsed().as_secs_f64());
        let invariant = by.as_ref().map_or("not found", |violation| violation.invariant);
        println!("{name:<26} {invariant:<34} {seed:>6} {seconds:>8.1}");
        found += usize::from(by.is_some());
    }
    let (count, seconds) = (Mistake::ALL.len(), began.elapsed().as_secs());
    println!("{found} of {count} seeded bugs found in {seconds} s");
    found == count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_whatever_a_few_seeds_bring() {
        let first = std::env::var("OTTLA_SEED").ok().and_then(|seed| seed.parse().ok());
        let first = first.unwrap_or_else(|| fastrand::u64(..1 << 40));
        println!("OTTLA_SEED={first}");
        for seed in first..first + 40 {
            assert_eq!(World::new(seed, None).run(), Ok(()), "seed {seed}");
        }
    }
}
