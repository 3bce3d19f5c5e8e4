//! `ottla-broker serve`: parse, start, stop.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ottla_broker::broker::Broker;
use ottla_broker::config::broker::BrokerConfig;
use ottla_common::config::{Settings, Source};
use ottla_common::open_files;
use ottla_common::shutdown::{Shutdown, signalled};
use ottla_common::telemetry::{self, LogFormat};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An Ottla broker: speaks Kafka's protocol, stores in Kafka's file formats.
#[derive(Parser)]
#[command(name = "ottla-broker", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a broker until SIGINT or SIGTERM.
    Serve(Serve),
}

#[derive(clap::Args)]
struct Serve {
    /// This broker's number, unique in the cluster (node.id).
    #[arg(long)]
    id: Option<i32>,
    /// Where the logs are kept (log.dirs).
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where clients connect: HOST:PORT (listeners). Port 0 takes a free one.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The coordinator's members: HOST:PORT, separated by commas (coordinator.connect).
    #[arg(long, value_name = "ADDRESSES")]
    coordinators: Option<String>,
    /// A file of properties under Kafka's names.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One more property; goes before the file's.
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl Serve {
    /// The file, then the environment (`OTTLA_BROKER_LOG_DIRS=…`), then the flags.
    fn config(&self) -> anyhow::Result<BrokerConfig> {
        let mut settings = Settings::new();
        if let Some(path) = &self.config {
            settings.add_file(path)?;
        }
        settings.add_environment("OTTLA_BROKER_", std::env::vars_os())?;
        for text in &self.overrides {
            settings.add_flag("--override", text)?;
        }
        let mut set = |flag: &str, key: &str, value: Option<String>| {
            if let Some(value) = value {
                settings.set(key.to_owned(), value, Source::Flag, flag.to_owned());
            }
        };
        set("--id", "node.id", self.id.map(|id| id.to_string()));
        set("--dir", "log.dirs", self.dir.as_ref().map(|dir| dir.display().to_string()));
        let listeners = self.listen.as_ref().map(|address| format!("PLAINTEXT://{address}"));
        set("--listen", "listeners", listeners);
        set("--coordinators", "coordinator.connect", self.coordinators.clone());
        Ok(BrokerConfig::from_settings(&settings)?)
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ottla-broker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    open_files::allow_as_many_as_possible();
    let Command::Serve(serve) = arguments.command;
    let config = serve.config()?;
    let _logging = telemetry::start(LogFormat::Text, "info")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = Shutdown::new();
        // It may wait for the coordinator for as long as it is let.
        let broker = tokio::select! {
            started = Broker::start(config, shutdown.clone()) => started?,
            signal = signalled() => {
                shutdown.stop();
                return signal.map_err(Into::into);
            }
        };
        for (listener, address) in &broker.addresses {
            println!("broker {} listens on {listener}://{address}", broker.broker_id);
        }
        signalled().await?;
        broker.stop().await;
        anyhow::Ok(())
    })
}
