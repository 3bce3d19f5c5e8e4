//! The commands, one file for each noun.

pub mod bench;
pub mod cluster;
pub mod completions;
pub mod configs;
pub mod consume;
pub mod coordinator;
pub mod dev;
pub mod groups;
pub mod kafka_links;
pub mod log;
pub mod produce;
pub mod quotas;
pub mod topics;

use clap::{Parser, Subcommand};

use crate::context::{Context, GlobalArguments};

/// Ottla: a Kafka-compatible broker with its own coordinator.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Arguments {
    /// Flags of all commands.
    #[command(flatten)]
    pub global: GlobalArguments,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `ottla` can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster in this process: a coordinator and brokers.
    Dev(dev::DevArguments),
    /// Send records.
    Produce(produce::ProduceArguments),
    /// Receive records.
    Consume(consume::ConsumeArguments),
    /// Make, list, describe, change and remove topics.
    #[command(subcommand)]
    Topics(topics::TopicsCommand),
    /// Show and change what topics and brokers are set to.
    #[command(subcommand)]
    Configs(configs::ConfigsCommand),
    /// Show and change what users, client ids and addresses are held to.
    #[command(subcommand)]
    Quotas(quotas::QuotasCommand),
    /// Show consumer groups, and change where they go on.
    #[command(subcommand)]
    Groups(groups::GroupsCommand),
    /// Show how far consumer groups are behind.
    Lag(groups::LagArguments),
    /// Show the brokers, their disks and what they serve.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Look into the coordinator's tree, and change it.
    #[command(subcommand)]
    Coordinator(coordinator::CoordinatorCommand),
    /// Measure how much a cluster takes and gives, and how long it takes.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Look into the files of a broker's log.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArguments),
    /// Make links named as Kafka's tools, which then take Kafka's flags.
    KafkaLinks(kafka_links::KafkaLinksArguments),
}

/// Runs a command.
pub async fn run(context: &Context, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Dev(arguments) => dev::run(context, arguments).await,
        Command::Produce(arguments) => produce::run(context, &arguments).await,
        Command::Consume(arguments) => consume::run(context, &arguments).await,
        Command::Topics(command) => topics::run(context, command).await,
        Command::Configs(command) => configs::run(context, command).await,
        Command::Quotas(command) => quotas::run(context, command).await,
        Command::Bench(command) => bench::run(context, command).await,
        Command::Groups(command) => groups::run(context, command).await,
        Command::Lag(arguments) => groups::lag(context, &arguments).await,
        Command::Cluster(command) => cluster::run(context, command).await,
        Command::Coordinator(command) => coordinator::run(context, command).await,
        Command::Log(command) => log::run(context.output, &command),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::KafkaLinks(arguments) => kafka_links::run(context.output, &arguments),
    }
}
