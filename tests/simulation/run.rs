//! Runs seeds, one after the other or several at once, and tells what came of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::invariants::{Violation, violation};
use crate::plan::{Plan, Size};
use crate::world::World;

/// What a run was like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Events that happened.
    pub events: u64,
    /// Entries that were committed.
    pub committed: u64,
    /// Terms that had a leader.
    pub terms: u64,
    /// Requests of clients that were answered.
    pub answered: u64,
}

/// A run that ended as it must not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Why.
    pub violation: Violation,
}

/// Runs a seed.
///
/// # Errors
/// If something happens that cannot.
pub fn run(seed: u64, size: Size) -> Result<Figures, Violation> {
    let mut world = World::new(Plan::new(seed, size), false);
    let outcome = play(&mut world);
    outcome.map(|()| Figures {
        events: world.events,
        committed: world.oracle.committed.last(),
        terms: world.oracle.elections.terms() as u64,
        answered: world.clients.iter().map(|client| client.answered).sum(),
    })
}

/// Runs a seed again and keeps what happens. Returns the last lines, and what cannot have happened.
///
/// What members say to each other is among them if `has_messages`.
pub fn story(
    seed: u64,
    size: Size,
    (lines, has_messages): (usize, bool),
) -> (Vec<String>, Option<Violation>) {
    let mut world = World::new(Plan::new(seed, size), true);
    world.trace.has_messages = has_messages;
    let outcome = play(&mut world);
    (world.trace.tail(lines).cloned().collect(), outcome.err())
}

fn play(world: &mut World) -> Result<(), Violation> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        world.run_until(world.plan.faults_us)?;
        world.finish()
    }));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(violation("panic", text.unwrap_or_default()))
    })
}

/// What came of many seeds.
#[derive(Debug, Default)]
pub struct Summary {
    /// Seeds that ended well.
    pub passed: u64,
    /// The first that did not, by seed.
    pub failures: Vec<Failure>,
    /// All that the others did.
    pub figures: Figures,
    /// How long it took.
    pub took: Duration,
    /// The seed that took longest, and how long.
    pub slowest: (u64, Duration),
}

/// Which seeds are run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// At once.
    pub jobs: usize,
    /// How large.
    pub size: Size,
    /// No new one is begun after this time.
    pub until: Option<Instant>,
    /// The search ends after so many failures.
    pub failures_max: usize,
}

/// Runs many seeds; `progress` is told now and then how many are done, `failed` of each that
/// failed.
pub fn search(
    search: Search,
    progress: impl Fn(u64, Duration) + Sync,
    failed: impl Fn(&Failure) + Sync,
) -> Summary {
    let started = Instant::now();
    let next = AtomicU64::new(search.first);
    let summary = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..search.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let is_over = search.until.is_some_and(|until| Instant::now() >= until);
                    let is_last = seed >= search.first.saturating_add(search.count);
                    let is_enough = summary.lock().failures.len() >= search.failures_max;
                    if is_last || is_over || is_enough {
                        return;
                    }
                    let began = Instant::now();
                    let outcome = run(seed, search.size);
                    let took = began.elapsed();
                    let mut summary = summary.lock();
                    if took > summary.slowest.1 {
                        summary.slowest = (seed, took);
                    }
                    match outcome {
                        Ok(figures) => {
                            summary.passed += 1;
                            summary.figures.add(figures);
                        }
                        Err(violation) => {
                            let failure = Failure { seed, violation };
                            failed(&failure);
                            summary.failures.push(failure);
                        }
                    }
                    let done = summary.passed + summary.failures.len() as u64;
                    if done.is_multiple_of(100) {
                        progress(done, started.elapsed());
                    }
                }
            });
        }
    });
    let mut summary = summary.into_inner();
    summary.failures.sort_by_key(|failure| failure.seed);
    summary.took = started.elapsed();
    summary
}

impl Figures {
    fn add(&mut self, other: Self) {
        self.events += other.events;
        self.committed += other.committed;
        self.terms += other.terms;
        self.answered += other.answered;
    }
}
