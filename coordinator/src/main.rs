//! The `ottla-coordinator` server.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use ottla_common::config::{Settings, Source};
use ottla_common::open_files;
use ottla_common::shutdown::{self, Shutdown};
use ottla_common::telemetry::{self, LogFormat};
use ottla_coordinator::config::Config;
use ottla_coordinator::server::Server;
use ottla_coordinator::zoo_cfg;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long a member may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Ottla's coordinator: a replicated tree of nodes with sessions, ephemerals and watches.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs one member until it gets SIGTERM or SIGINT.
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Serve {
    /// The member's number in its ensemble [default: 1]
    #[arg(long)]
    id: Option<u64>,
    /// The folder of the member's log and snapshots
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where clients connect: host:port, port 0 takes a free one [default: 127.0.0.1:2181]
    #[arg(long)]
    listen: Option<String>,
    /// All members of the ensemble: 1=host:port,2=host:port,3=host:port
    #[arg(long)]
    members: Option<String>,
    /// A .properties file with options; flags override it
    #[arg(long, value_name = "FILE", conflicts_with = "zoo_cfg")]
    config: Option<PathBuf>,
    /// A zoo.cfg of ZooKeeper's, in place of a .properties file; flags override it
    #[arg(long, value_name = "FILE")]
    zoo_cfg: Option<PathBuf>,
    /// Java system properties that ZooKeeper's command line has: -Dname=value
    #[arg(
        value_name = "-Dname=value",
        requires = "zoo_cfg",
        allow_hyphen_values = true,
        trailing_var_arg = true
    )]
    properties: Vec<String>,
}

/// What to run with.
struct Configured {
    settings: Settings,
    /// What the operator should know, once there is a log to write it to.
    notes: Vec<String>,
}

impl Serve {
    fn configured(&self) -> anyhow::Result<Configured> {
        let (mut settings, mut notes) = (Settings::new(), Vec::new());
        if let Some(file) = &self.config {
            settings.add_file(file)?;
        }
        if let Some(file) = &self.zoo_cfg {
            let read = zoo_cfg::read(file, &self.properties)?;
            (settings, notes) = (read.settings, read.notes);
        }
        let id = self.id.map(|id| id.to_string());
        let dir = self.dir.as_ref().map(|dir| dir.display().to_string());
        for (flag, key, value) in [
            ("--id", "id", &id),
            ("--dir", "data.dir", &dir),
            ("--listen", "listen", &self.listen),
            ("--members", "members", &self.members),
        ] {
            if let Some(value) = value {
                settings.set(key.to_owned(), value.clone(), Source::Flag, flag.to_owned());
            }
        }
        Ok(Configured { settings, notes })
    }
}

fn main() -> anyhow::Result<()> {
    // The allocator asks the system for huge pages. Each one that is touched anywhere takes 2 MiB
    // at once, which has to be found and cleared while a request waits: without them a member takes
    // less memory and answers more evenly. Where the system has none, there is nothing to switch
    // off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    open_files::allow_as_many_as_possible();
    let Cli { command: Command::Serve(serve) } = Cli::parse();
    let Configured { settings, notes } = serve.configured()?;
    let config = Config::from_settings(&settings)
        .context("configure the coordinator (--dir sets data.dir)")?;
    let format = settings.read("log.format", LogFormat::Text, str::parse)?;
    let _logs = telemetry::start(format, &settings.text("log.filter", "info"))?;
    for note in notes {
        tracing::warn!("{note}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(connection_threads())
        .enable_all()
        .build()?;
    runtime.block_on(run(config))
}

/// How many threads serve connections. The log and the state have threads of their own, and each
/// thread beyond what the machine can run is woken for what another could have done on the way.
fn connection_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    cores.div_ceil(2)
}

async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = Shutdown::new();
    let member_id = config.member_id;
    let server = Server::start(config, shutdown.clone()).await.context("start the coordinator")?;
    println!("coordinator member {member_id} listens on {}", server.client_address);
    shutdown::signalled().await?;
    tracing::info!("coordinator member stops");
    if !shutdown.finish(STOP_PATIENCE).await {
        tracing::warn!("not everything stopped in time");
    }
    Ok(())
}
