//! `ottla dev`: a whole cluster in one process, for trying things out and for tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use ottla_broker::broker::{Broker, RunningBroker};
use ottla_broker::config::broker::BrokerConfig;
use ottla_common::config::{Settings, Source};
use ottla_common::shutdown::{Shutdown, signalled};
use ottla_common::telemetry::{self, LogFormat};
use ottla_common::types::MemberId;
use ottla_coordinator::config::members::ConfiguredMember;
use ottla_coordinator::server::{Config as CoordinatorConfig, RunningServer, Server};

use crate::context::Context;
use crate::output::misuse;

/// How long the coordinator may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `ottla dev`.
#[derive(Args, Debug)]
pub struct DevArguments {
    /// Where everything is kept.
    #[arg(long, value_name = "DIR", default_value = "ottla-data")]
    dir: PathBuf,
    /// The first broker's port; further brokers take the ports after it. 0 takes free ones.
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// The coordinator's port; further members take the ports after it. 0 takes free ones.
    #[arg(long, default_value_t = 2181)]
    coordinator_port: u16,
    /// How many members the coordinator has.
    // A text, because the flag of this name is one for all other commands.
    #[arg(long, default_value = "1", value_parser = member_count_text)]
    coordinators: String,
    /// The port of the coordinator's /metrics, /health and /ready. 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    http_port: u16,
    /// How many brokers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    brokers: u16,
    /// A property for all brokers, under Kafka's name. Can be given more than once.
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
}

/// Runs the cluster until SIGINT or SIGTERM.
pub async fn run(context: &Context, arguments: DevArguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let _logging = telemetry::start(LogFormat::Text, "warn")?;
    let coordination = Shutdown::new();
    let coordinators = start_coordinators(&arguments, &coordination).await?;
    let addresses = coordinators.iter().map(|member| member.client_address.to_string());
    let coordinator_address = addresses.collect::<Vec<_>>().join(",");
    let http_address = coordinators.first().and_then(|member| member.http_address);
    let mut brokers = Vec::new();
    for id in 1..=arguments.brokers {
        let config = broker_config(&arguments, id, &coordinator_address)?;
        let broker = Broker::start(config, Shutdown::new()).await;
        brokers.push(broker.with_context(|| format!("start broker {id} (--port takes another)"))?);
    }
    let ready = Ready {
        coordinator: coordinator_address,
        metrics: http_address.map(|address| format!("http://{address}/metrics")),
        brokers: brokers.iter().flat_map(addresses_of).collect(),
        broker_metrics: brokers.iter().filter_map(metrics_of).collect(),
        dir: std::path::absolute(&arguments.dir)?,
        startup_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    ready.print(context)?;
    signalled().await?;
    for broker in brokers {
        broker.stop().await;
    }
    coordination.finish(STOP_PATIENCE).await;
    Ok(())
}

/// How many members there may be.
fn member_count(text: &str) -> Result<u16, String> {
    let count = text.parse().ok().filter(|count| (1..=7).contains(count));
    count.ok_or_else(|| format!("{text:?} is not a number from 1 to 7"))
}

fn member_count_text(text: &str) -> Result<String, String> {
    member_count(text).map(|_| text.to_owned())
}

/// Where the members find each other: on ports that were free when the cluster began, and that are
/// kept, since the ensemble remembers them.
fn peer_addresses(dir: &Path, count: u16) -> anyhow::Result<Vec<String>> {
    let file = dir.join("coordinator-peers");
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let mut addresses: Vec<String> = known.lines().map(str::to_owned).collect();
    // All bound at the same time, so that none is given out twice.
    let mut bound = Vec::new();
    while addresses.len() < usize::from(count) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        addresses.push(listener.local_addr()?.to_string());
        bound.push(listener);
    }
    std::fs::create_dir_all(dir)?;
    std::fs::write(&file, addresses.join("\n"))?;
    addresses.truncate(count.into());
    Ok(addresses)
}

/// Starts the coordinator's members; they find each other on ports that are free now.
async fn start_coordinators(
    arguments: &DevArguments,
    coordination: &Shutdown,
) -> anyhow::Result<Vec<RunningServer>> {
    let count = member_count(&arguments.coordinators).map_err(misuse)?;
    let mut members = BTreeMap::new();
    if count > 1 {
        for (id, peer_address) in (1..).zip(peer_addresses(&arguments.dir, count)?) {
            let member = ConfiguredMember { peer_address, ..ConfiguredMember::default() };
            members.insert(MemberId(id), member);
        }
    }
    let mut running = Vec::new();
    for id in 1..=count {
        let port = match arguments.coordinator_port {
            0 => 0,
            first => first.checked_add(id - 1).ok_or_else(|| {
                misuse(format!("there is no port for coordinator member {id} after {first}"))
            })?,
        };
        let name = if count == 1 { "coordinator".to_owned() } else { format!("coordinator-{id}") };
        let mut config = CoordinatorConfig::new(arguments.dir.join(name));
        config.member_id = MemberId(u64::from(id));
        config.listen = format!("127.0.0.1:{port}");
        if id == 1 {
            config.http_listen = Some(format!("127.0.0.1:{}", arguments.http_port));
        }
        if let Some(own) = members.get(&config.member_id) {
            config.ensemble.peer_listen = own.peer_address.clone();
        }
        config.ensemble.members = members.clone();
        let server = Server::start(config, coordination.clone()).await;
        let server = server.with_context(|| {
            format!("start coordinator member {id} (--coordinator-port takes another port)")
        })?;
        running.push(server);
    }
    Ok(running)
}

fn broker_config(
    arguments: &DevArguments,
    id: u16,
    coordinator_address: &str,
) -> anyhow::Result<BrokerConfig> {
    let port = match arguments.port {
        0 => 0,
        first => first
            .checked_add(id - 1)
            .ok_or_else(|| misuse(format!("there is no port for broker {id} after {first}")))?,
    };
    let mut settings = Settings::new();
    let dir = arguments.dir.join(format!("broker-{id}"));
    let own = [
        ("node.id", id.to_string()),
        ("log.dirs", path_text(&dir)?),
        ("listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
        ("coordinator.connect", coordinator_address.to_owned()),
        ("http.listen", "127.0.0.1:0".to_owned()),
    ];
    for (key, value) in own {
        settings.set(key.to_owned(), value, Source::File, "ottla dev".to_owned());
    }
    for property in &arguments.config {
        settings.add_flag("--config", property)?;
    }
    Ok(BrokerConfig::from_settings(&settings)?)
}

fn path_text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

fn addresses_of(broker: &RunningBroker) -> Vec<(i32, String)> {
    let id = broker.broker_id.0;
    broker.addresses.values().map(|address| (id, address.to_string())).collect()
}

fn metrics_of(broker: &RunningBroker) -> Option<String> {
    Some(format!("http://{}/metrics", broker.http_address?))
}

/// A cluster that serves, as it is told to people and programs.
#[derive(serde::Serialize)]
struct Ready {
    coordinator: String,
    metrics: Option<String>,
    brokers: BTreeMap<i32, String>,
    broker_metrics: Vec<String>,
    dir: PathBuf,
    startup_ms: u64,
}

impl Ready {
    fn print(&self, context: &Context) -> anyhow::Result<()> {
        if context.output.json {
            return context.output.value(self);
        }
        let print = |line: String| context.output.line(line);
        print(format!("coordinator  {}", self.coordinator))?;
        for (id, address) in &self.brokers {
            print(format!("broker {id}     {address}"))?;
        }
        if let Some(metrics) = &self.metrics {
            print(format!("metrics      {metrics} (coordinator)"))?;
        }
        for (id, metrics) in self.brokers.keys().zip(&self.broker_metrics) {
            print(format!("             {metrics} (broker {id})"))?;
        }
        print(format!("data         {}", self.dir.display()))?;
        print(format!("ready in {} ms; Ctrl-C stops\n", self.startup_ms))?;
        let bootstrap = self.brokers.values().next().cloned().unwrap_or_default();
        let flag = match bootstrap.as_str() {
            "127.0.0.1:9092" => String::new(),
            address => format!(" -b {address}"),
        };
        print("Try, in another terminal:".to_owned())?;
        print(format!("  ottla{flag} topics create greetings --partitions 3"))?;
        print(format!("  echo 'hello, world' | ottla{flag} produce greetings"))?;
        print(format!("  ottla{flag} consume greetings --from-beginning"))
    }
}
