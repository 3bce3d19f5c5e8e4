//! `cargo dev sim`: runs seeds and says what came of them.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use ottla_simulation::bugs::Mistake;
use ottla_simulation::plan::Size;
use ottla_simulation::run::{self, Search, Summary};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs whole ensembles in one thread, all of it decided by a seed.
#[derive(Parser)]
#[command(name = "cargo dev sim")]
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
    /// No new seed is begun after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// How many at once; as many as there are cores if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// How many of the last lines of a story are shown.
    #[arg(long, default_value_t = 60)]
    lines: usize,
    /// Shows as well what members say to each other.
    #[arg(long)]
    messages: bool,
    /// Runs as small as those of the tests.
    #[arg(long)]
    small: bool,
    /// Makes one mistake after the other and tells when it is found (in builds that can).
    #[arg(long)]
    seeded_bugs: bool,
    /// Only the mistakes whose names contain this.
    #[arg(long, default_value = "")]
    bug: String,
    /// How long each mistake is looked for, in seconds.
    #[arg(long, default_value_t = 120)]
    patience: u64,
}

impl Arguments {
    fn jobs(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.unwrap_or(cores)
    }

    fn size(&self) -> Size {
        if self.small { Size::Small } else { Size::Full }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What panics is told with its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let is_well = if arguments.seeded_bugs {
        look_for_mistakes(&arguments)
    } else if let Some(seed) = arguments.seed {
        tell(seed, &arguments)
    } else {
        run_many(&arguments)
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_many(arguments: &Arguments) -> bool {
    let minutes = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let count = if minutes.is_some() { u64::MAX / 2 } else { arguments.seeds };
    let search = Search {
        first: arguments.first,
        count,
        jobs: arguments.jobs(),
        size: arguments.size(),
        until: minutes.map(|minutes| Instant::now() + minutes),
        failures_max: 5,
    };
    let summary = run::search(
        search,
        |done, took| eprintln!("{done} seeds, {:.1} a second", rate(done, took)),
        |failure| {
            let violation = &failure.violation;
            println!("seed {}: {}: {}", failure.seed, violation.invariant, violation.what);
        },
    );
    if let Some(first) = summary.failures.first() {
        tell(first.seed, arguments);
    }
    let (seed, took) = summary.slowest;
    println!("the slowest was seed {seed} with {} ms", took.as_millis());
    println!("{}", in_short(&summary, arguments.first));
    summary.failures.is_empty()
}

fn rate(count: u64, took: Duration) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from) / took.as_secs_f64().max(0.001)
}

fn in_short(summary: &Summary, first: u64) -> String {
    let done = summary.passed + summary.failures.len() as u64;
    let (seconds, figures) = (summary.took.as_secs(), summary.figures);
    format!(
        "{done} seeds from {first} in {seconds} s ({:.1} a second): {} failed; {} events, {} \
         entries committed in {} terms, {} requests answered",
        rate(done, summary.took),
        summary.failures.len(),
        figures.events,
        figures.committed,
        figures.terms,
        figures.answered,
    )
}

/// Shows what happened in a seed; whether all was well.
fn tell(seed: u64, arguments: &Arguments) -> bool {
    let told = (arguments.lines, arguments.messages);
    let (story, violation) = run::story(seed, arguments.size(), told);
    story.iter().for_each(|line| println!("{line}"));
    let Some(violation) = violation else {
        println!("seed {seed}: no violation");
        return true;
    };
    println!("seed {seed}: {}: {}", violation.invariant, violation.what);
    println!("again: cargo dev sim --seed {seed}{}", if arguments.small { " --small" } else { "" });
    false
}

/// Makes each mistake and prints a table of how it was found.
fn look_for_mistakes(arguments: &Arguments) -> bool {
    if !cfg!(feature = "seeded-bugs") {
        eprintln!("this build makes no mistakes on purpose; see `cargo dev sim --seeded-bugs`");
        return false;
    }
    let patience = Duration::from_secs(arguments.patience);
    let started = Instant::now();
    let (mut found, mut count) = (0, 0);
    println!("{:<26} {:<22} {:>6} {:>7} {:>8}", "bug", "found by", "seed", "seeds", "seconds");
    for mistake in Mistake::all().filter(|one| one.name().contains(&arguments.bug)) {
        let result = mistake.look(arguments.jobs(), patience);
        let failure = result.failure.as_ref();
        let by = failure.map_or("not found", |failure| failure.violation.invariant);
        let seed = failure.map_or(String::new(), |failure| failure.seed.to_string());
        let (name, seeds, seconds) = (mistake.name(), result.seeds, result.took.as_secs_f64());
        println!("{name:<26} {by:<22} {seed:>6} {seeds:>7} {seconds:>8.1}");
        found += u32::from(failure.is_some());
        count += 1;
    }
    println!("{found} of {count} seeded bugs found in {} s", started.elapsed().as_secs());
    found == count
}
