//! Seeds that every change must pass: some of them for no other reason than that they are always
//! the same, the others because they once failed.

use ottla_simulation::plan::Size;
use ottla_simulation::run::{self, Search};

/// Small runs of any kind.
const FIXED: u64 = 100;

#[test]
fn a_hundred_small_runs_end_well() {
    let search = Search {
        first: 1,
        count: FIXED,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        size: Size::Small,
        until: None,
        failures_max: 3,
    };
    let summary = run::search(search, |_, _| (), |_| ());
    let failures: Vec<String> =
        summary.failures.iter().map(|one| format!("{}: {:?}", one.seed, one.violation)).collect();
    assert!(failures.is_empty(), "cargo dev sim --small --seed N: {failures:#?}");
    assert_eq!(summary.passed, FIXED);
    assert!(summary.figures.answered > 10_000, "{:?}", summary.figures);
}

#[test]
fn the_same_seed_is_the_same_run() {
    let one = run::story(7, Size::Small, (usize::MAX, true)).0;
    assert_eq!(run::story(7, Size::Small, (usize::MAX, true)).0, one);
    assert!(one.len() > 100);
}
