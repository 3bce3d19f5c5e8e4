//! Mistakes made on purpose, one at a time: the search has to find each, or it proves nothing.

use std::time::{Duration, Instant};

use ottla_coordinator::consensus::raft::seeded_bugs::SeededBug;
use ottla_coordinator::seeded_bugs::MemberBug;

use crate::plan::Size;
use crate::run::{Failure, Search, search};

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Of the raft core.
    Core(SeededBug),
    /// Of another part of a member.
    Member(MemberBug),
}

/// What came of looking for a mistake.
#[derive(Clone, Debug)]
pub struct Found {
    /// The mistake.
    pub mistake: Mistake,
    /// How it was found, if it was.
    pub failure: Option<Failure>,
    /// How many seeds that took.
    pub seeds: u64,
    /// How long.
    pub took: Duration,
}

impl Mistake {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let core = SeededBug::ALL.into_iter().map(Self::Core);
        core.chain(MemberBug::ALL.into_iter().map(Self::Member))
    }

    /// Its name.
    pub fn name(self) -> String {
        match self {
            Self::Core(bug) => format!("{bug:?}"),
            Self::Member(bug) => format!("{bug:?}"),
        }
    }

    /// Looks for it until it is found or a time has passed.
    pub fn look(self, jobs: usize, patience: Duration) -> Found {
        switch_on(Some(self));
        let started = Instant::now();
        let summary = search(
            Search {
                first: 1,
                count: u64::MAX / 2,
                jobs,
                size: Size::Full,
                until: Some(started + patience),
                failures_max: 1,
            },
            |_, _| (),
            |_| (),
        );
        switch_on(None);
        let failure = summary.failures.into_iter().next();
        let seeds = summary.passed + u64::from(failure.is_some());
        Found { mistake: self, failure, seeds, took: started.elapsed() }
    }
}

/// Which mistake of the core all members that start from now on make.
#[cfg(feature = "seeded-bugs")]
pub mod core {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ottla_coordinator::consensus::raft::seeded_bugs::SeededBug;

    static SWITCHED_ON: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// Switches a mistake on, or all off.
    pub fn switch_on(bug: Option<SeededBug>) {
        let place = bug.and_then(|bug| SeededBug::ALL.iter().position(|one| *one == bug));
        SWITCHED_ON.store(place.unwrap_or(usize::MAX), Ordering::SeqCst);
    }

    /// The one that is on.
    pub fn switched_on() -> Option<SeededBug> {
        SeededBug::ALL.get(SWITCHED_ON.load(Ordering::SeqCst)).copied()
    }
}

#[cfg(feature = "seeded-bugs")]
fn switch_on(mistake: Option<Mistake>) {
    core::switch_on(match mistake {
        Some(Mistake::Core(bug)) => Some(bug),
        _ => None,
    });
    ottla_coordinator::seeded_bugs::switch_on(match mistake {
        Some(Mistake::Member(bug)) => Some(bug),
        _ => None,
    });
}

/// This build makes no mistakes on purpose.
#[cfg(not(feature = "seeded-bugs"))]
fn switch_on(_mistake: Option<Mistake>) {}
