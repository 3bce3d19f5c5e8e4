//! Kafka's own tools: called under one of their names, this program takes their flags and prints
//! what they print, so that what books and scripts say works as it stands.
//!
//! One file for each tool. What they do is done by `commands`; here are only their words.

mod configs;
mod dump_log;
mod topics;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser};
use ottla_common::config::Settings;
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::Cluster;
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
        "kafka-dump-log" => with(arguments, async |parsed| dump_log::run(&parsed)).await,
        "kafka-topics" => with(arguments, async |parsed| topics::run(&parsed).await).await,
        "kafka-configs" => with(arguments, async |parsed| configs::run(&parsed).await).await,
        _ => Err(anyhow::anyhow!("{tool} is not offered yet")),
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
        let Some(servers) = &self.bootstrap_server else {
            return Err(misuse("--bootstrap-server must be specified"));
        };
        if let Some(file) = &self.command_config {
            let mut settings = Settings::new();
            settings.add_file(file)?;
            check_security(settings.text("security.protocol", "PLAINTEXT").as_str())?;
        }
        context::cluster(&context::addresses(servers, 9092), false).await
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
