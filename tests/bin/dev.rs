//! `cargo dev verify | fix | up | sim | faults | history`: what a developer does every day, the
//! same for all of us.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use ottla_tests::history;

/// Everyday commands for people who work on Ottla.
#[derive(Parser)]
#[command(name = "cargo dev", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Checks everything that a change must hold: format, lints, tidiness, tests. Writes nothing.
    Verify,
    /// Formats, and applies what clippy knows how to mend.
    Fix,
    /// Runs a cluster for development; what follows is handed to `ottla dev`.
    #[command(trailing_var_arg = true, allow_hyphen_values = true, disable_help_flag = true)]
    Up {
        /// Flags of `ottla dev`.
        arguments: Vec<String>,
    },
    /// Runs whole ensembles in a simulator, or with --replication the replicas of a partition; what
    /// follows is handed to it (`cargo dev sim --help`).
    #[command(trailing_var_arg = true, allow_hyphen_values = true, disable_help_flag = true)]
    Sim {
        /// Flags of the simulator.
        arguments: Vec<String>,
    },
    /// Does harm to three brokers under load and looks for what they acknowledged; what follows is
    /// handed to `tests/faults/brokers.py` (`cargo dev faults --help`).
    #[command(trailing_var_arg = true, allow_hyphen_values = true, disable_help_flag = true)]
    Faults {
        /// Flags of the script.
        arguments: Vec<String>,
    },
    /// Judges a history of what clients asked an ensemble and were told.
    History {
        /// A file of JSON lines.
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Verify => verify(),
        Task::Fix => fix(),
        Task::Up { arguments } => up(&arguments),
        Task::History { file } => judge(&file),
        Task::Sim { arguments } => simulate(&arguments),
        Task::Faults { arguments } => faults(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn verify() -> anyhow::Result<()> {
    cargo("fmt --all --check")?;
    cargo("test --quiet --package ottla-tests --test tidy")?;
    cargo("clippy --quiet --workspace --all-targets -- -D warnings")?;
    cargo("test --quiet --workspace")?;
    eprintln!("verified");
    Ok(())
}

fn judge(file: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let history = history::from_json_lines(&text)?;
    let problems = history::problems(&history);
    for problem in &problems {
        println!("{problem}");
    }
    let count = history.len();
    if !problems.is_empty() {
        bail!("{} problems in a history of {count}", problems.len());
    }
    println!("history of {count}: no problem found");
    Ok(())
}

fn fix() -> anyhow::Result<()> {
    cargo("clippy --fix --allow-dirty --allow-staged --workspace --all-targets")?;
    cargo("fmt --all")
}

/// Builds and runs `ottla dev` as a child that gets the terminal's Ctrl-C itself.
fn up(arguments: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new(cargo_path());
    command.args(["run", "--quiet", "--release", "--package", "ottla", "--", "dev"]);
    command.args(arguments);
    run(command)
}

/// Builds the servers and the load with optimizations, and does them harm.
fn faults(arguments: &[String]) -> anyhow::Result<()> {
    let mut build = Command::new(cargo_path());
    build.args(["build", "--quiet", "--release", "--package", "ottla", "--package"]);
    build.args(["ottla-coordinator", "--package", "ottla-broker", "--package", "ottla-tests"]);
    for server in ["ottla", "ottla-coordinator", "ottla-broker", "replication-load"] {
        build.args(["--bin", server]);
    }
    build.current_dir(root());
    run(build)?;
    let mut command = Command::new("python3");
    command.args(["tests/faults/brokers.py", "--binaries", "target/release"]);
    command.args(arguments).current_dir(root());
    run(command)
}

/// Builds the simulator with optimizations and runs it; with mistakes that can be switched on if
/// they are looked for.
fn simulate(arguments: &[String]) -> anyhow::Result<()> {
    if let Some(others) = replication(arguments) {
        let mut command = Command::new(cargo_path());
        command.args(["run", "--quiet", "--profile", "checked", "--package", "ottla-tests"]);
        command.args(["--bin", "simulate-replication", "--"]).args(others);
        command.current_dir(root());
        return run(command);
    }
    let mut command = Command::new(cargo_path());
    command.args(["run", "--quiet", "--profile", "checked", "--package", "ottla-simulation"]);
    if arguments.iter().any(|argument| argument == "--seeded-bugs") {
        command.args(["--features", "seeded-bugs"]);
    }
    command.arg("--").args(arguments).current_dir(root());
    run(command)
}

/// The other flags, if `--replication` is among them: then it is brokers that are simulated.
fn replication(arguments: &[String]) -> Option<Vec<&String>> {
    let (asked, others): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| *argument == "--replication");
    (!asked.is_empty()).then_some(others)
}

fn cargo(arguments: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    eprintln!("cargo {arguments}");
    let mut command = Command::new(cargo_path());
    command.args(arguments.split(' ')).current_dir(root());
    run(command)?;
    eprintln!("  in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn run(mut command: Command) -> anyhow::Result<()> {
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("failed: {command:?} ({status})");
    }
    Ok(())
}

fn cargo_path() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn root() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}
