//! Kafka's own tools: called under one of their names, this program takes their flags and prints
//! what they print, so that what books and scripts say works as it stands.
//!
//! One file for each tool. What they do is done by `commands`; here are only their words.

mod configs;
mod console_consumer;
mod console_producer;
mod consumer_groups;
mod dump_log;
mod features;
mod groups;
mod inspection;
mod leader_election;
mod metadata_quorum;
mod perf;
mod quotas;
mod reassign_partitions;
mod topics;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};
use ottla_common::config::{Settings, Source};
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::error_code::ErrorCode;
use regex::Regex;

use crate::context;
use crate::output::misuse;

/// The tool of this name (`kafka-topics`, `bin/kafka-topics.sh`), if it is one of them.
pub fn tool_name(program: &Path) -> Option<&'static str> {
    let name = program.file_name()?.to_str()?;
    let name = name.strip_suffix(".sh").unwrap_or(name);
    crate::commands::kafka_links::KAFKA_TOOLS.into_iter().find(|tool| *tool == name)
}

/// Runs a tool. Kafka's tools exit with 0 or 1.
pub async fn run(tool: &'static str, arguments: Vec<OsString>) -> ExitCode {
    let done = match tool {
        "kafka-broker-api-versions" => {
            with(arguments, async |flags| inspection::broker_api_versions(&flags).await).await
        }
        "kafka-cluster" => with(arguments, async |flags| inspection::cluster(&flags).await).await,
        "kafka-configs" => {
            let arguments = configs::with_defaults_named(arguments);
            with(arguments, async |flags| configs::run(&flags).await).await
        }
        "kafka-console-consumer" => {
            with(arguments, async |flags| console_consumer::run(&flags).await).await
        }
        "kafka-console-producer" => {
            with(arguments, async |flags| console_producer::run(&flags).await).await
        }
        "kafka-consumer-groups" => {
            with(arguments, async |flags| consumer_groups::run(&flags).await).await
        }
        "kafka-consumer-perf-test" => {
            with(arguments, async |flags| perf::consumer(&flags).await).await
        }
        "kafka-delete-records" => {
            with(arguments, async |flags| inspection::delete_records(&flags).await).await
        }
        "kafka-dump-log" => with(arguments, async |flags| dump_log::run(&flags)).await,
        "kafka-features" => with(arguments, async |flags| features::run(&flags).await).await,
        "kafka-get-offsets" => {
            with(arguments, async |flags| inspection::get_offsets(&flags).await).await
        }
        "kafka-groups" => with(arguments, async |flags| groups::run(&flags).await).await,
        "kafka-leader-election" => {
            with(arguments, async |flags| leader_election::run(&flags).await).await
        }
        "kafka-log-dirs" => with(arguments, async |flags| inspection::log_dirs(&flags).await).await,
        "kafka-metadata-quorum" => {
            with(arguments, async |flags| metadata_quorum::run(&flags).await).await
        }
        "kafka-producer-perf-test" => {
            with(arguments, async |flags| perf::producer(&flags).await).await
        }
        "kafka-reassign-partitions" => {
            with(arguments, async |flags| reassign_partitions::run(&flags).await).await
        }
        "kafka-topics" => with(arguments, async |flags| topics::run(&flags).await).await,
        other => Err(anyhow::anyhow!("{other} is not offered")),
    };
    match done {
        Err(error) if error.downcast_ref::<Shown>().is_some() => ExitCode::FAILURE,
        done => match crate::output::exit_code(tool, done) {
            code if code == ExitCode::SUCCESS => code,
            _ => ExitCode::FAILURE,
        },
    }
}

/// An error that the tool has told in its own words already.
#[derive(Debug, thiserror::Error)]
#[error("already shown")]
pub struct Shown;

/// Parses a tool's flags and runs it with them.
async fn with<T: Parser>(
    arguments: Vec<OsString>,
    tool: impl AsyncFnOnce(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match T::try_parse_from(arguments) {
        Ok(parsed) => tool(parsed).await,
        Err(error) if error.use_stderr() => {
            error.print()?;
            Err(Shown.into())
        }
        Err(help) => Ok(help.print()?),
    }
}

/// The flags that nearly all of the tools take.
#[derive(Args, Debug)]
pub struct CommonArguments {
    /// The servers to connect to: HOST1:PORT1,HOST2:PORT2.
    #[arg(long)]
    pub bootstrap_server: Option<String>,
    /// A property file for the client.
    #[arg(long)]
    pub command_config: Option<PathBuf>,
}

impl CommonArguments {
    /// Connects to the cluster.
    pub async fn cluster(&self) -> anyhow::Result<Cluster> {
        self.connect(false).await
    }

    /// The same, for who sends: asking for a topic may make it.
    pub async fn cluster_that_creates(&self) -> anyhow::Result<Cluster> {
        self.connect(true).await
    }

    async fn connect(&self, creates: bool) -> anyhow::Result<Cluster> {
        let Some(servers) = &self.bootstrap_server else {
            return Err(misuse("--bootstrap-server must be specified"));
        };
        if let Some(file) = &self.command_config {
            let mut settings = Settings::new();
            settings.add_file(file)?;
            check_security(settings.text("security.protocol", "PLAINTEXT").as_str())?;
        }
        context::cluster(&context::addresses(servers, 9092), creates).await
    }
}

/// Fails unless the protocol is one that our client speaks.
pub fn check_security(protocol: &str) -> anyhow::Result<()> {
    if protocol.eq_ignore_ascii_case("PLAINTEXT") {
        return Ok(());
    }
    Err(misuse(format!("security.protocol={protocol} is not offered here yet, only PLAINTEXT")))
}

/// A list of topics as the tools take it: regular expressions with commas between them.
pub struct TopicPattern(Regex);

impl TopicPattern {
    /// Reads a list.
    pub fn new(text: &str) -> anyhow::Result<Self> {
        let text = text.trim().replace(',', "|").replace(['"', '\'', ' '], "");
        let pattern = Regex::new(&format!("^(?:{text})$"));
        pattern
            .map(Self)
            .map_err(|error| misuse(format!("{text:?} is no regular expression: {error}")))
    }

    /// Whether a topic is in the list.
    pub fn matches(&self, topic: &str) -> bool {
        self.0.is_match(topic)
    }
}

/// What the tools print of an error: what the cluster said, in its own words.
pub fn message_of(error: &ClientError) -> String {
    match error {
        ClientError::Refused { message: Some(message), .. } => message.clone(),
        error => error.to_string(),
    }
}

/// What the tools print of an error that Java's client throws for a code: its class, and words of
/// the client's own, whatever the cluster said.
pub fn exception_of(error: &ClientError) -> String {
    match error.code().and_then(exception) {
        Some((class, words)) => format!("org.apache.kafka.common.errors.{class}: {words}"),
        None => message_of(error),
    }
}

/// The same with what the cluster said, if it said something.
pub fn exception_as_told(error: &ClientError) -> String {
    match (error.code().and_then(exception), error) {
        (Some((class, _)), ClientError::Refused { message: Some(message), .. }) => {
            format!("org.apache.kafka.common.errors.{class}: {message}")
        }
        _ => exception_of(error),
    }
}

/// The words alone of [`exception_of`].
pub fn words_of(error: &ClientError) -> String {
    match error.code().and_then(exception) {
        Some((_, words)) => words.to_owned(),
        None => message_of(error),
    }
}

/// Class and words, for the codes that the tools are likely to meet.
fn exception(code: ErrorCode) -> Option<(&'static str, &'static str)> {
    Some(match code {
        ErrorCode::GroupIdNotFound => ("GroupIdNotFoundException", "The group id does not exist."),
        ErrorCode::NonEmptyGroup => ("GroupNotEmptyException", "The group is not empty."),
        ErrorCode::GroupSubscribedToTopic => (
            "GroupSubscribedToTopicException",
            "Deleting offsets of a topic is forbidden while the consumer group is actively \
             subscribed to it.",
        ),
        ErrorCode::OffsetOutOfRange => (
            "OffsetOutOfRangeException",
            "The requested offset is not within the range of offsets maintained by the server.",
        ),
        ErrorCode::UnknownTopicOrPartition => {
            ("UnknownTopicOrPartitionException", "This server does not host this topic-partition.")
        }
        _ => return None,
    })
}

/// Properties from a file and from `--…-property key=value` flags, which go before the file.
#[derive(Debug, Default)]
pub struct Properties(Settings);

impl Properties {
    /// Reads them.
    pub fn new<'a>(
        file: Option<&Path>,
        texts: impl IntoIterator<Item = &'a String>,
    ) -> anyhow::Result<Self> {
        let mut settings = Settings::new();
        if let Some(file) = file {
            settings.add_file(file)?;
        }
        for text in texts {
            let Some((key, value)) = text.split_once('=') else {
                return Err(misuse(format!("expected key=value, not {text:?}")));
            };
            // Separators are white space more often than not, so nothing is cut off.
            let (key, value) = (key.trim().to_owned(), value.to_owned());
            settings.set(key, value, Source::Flag, "a property flag".to_owned());
        }
        Ok(Self(settings))
    }

    /// A value, if it is set.
    pub fn get(&self, key: &str) -> Option<String> {
        self.0.get(key).map(|setting| setting.value.clone())
    }

    /// A value.
    pub fn text(&self, key: &str, default: &str) -> String {
        self.0.text(key, default)
    }

    /// Whether a value is `true`, as Java sees it.
    pub fn is_true(&self, key: &str, default: bool) -> bool {
        self.get(key).map_or(default, |value| value.trim().eq_ignore_ascii_case("true"))
    }

    /// All keys and values.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(key, setting)| (key.to_owned(), setting.value.clone())).collect()
    }
}
