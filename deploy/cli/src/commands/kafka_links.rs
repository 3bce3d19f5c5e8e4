//! `ottla kafka-links DIR`: makes links to this program under the names of Kafka's tools, so that
//! what books and scripts say works as it stands.

use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::Args;

use crate::output::Output;

/// The names that this program answers to as Kafka's tools do.
pub const KAFKA_TOOLS: [&str; 18] = [
    "kafka-broker-api-versions",
    "kafka-cluster",
    "kafka-configs",
    "kafka-console-consumer",
    "kafka-console-producer",
    "kafka-consumer-groups",
    "kafka-consumer-perf-test",
    "kafka-delete-records",
    "kafka-dump-log",
    "kafka-features",
    "kafka-get-offsets",
    "kafka-groups",
    "kafka-leader-election",
    "kafka-log-dirs",
    "kafka-metadata-quorum",
    "kafka-producer-perf-test",
    "kafka-reassign-partitions",
    "kafka-topics",
];

/// Flags of `ottla kafka-links`.
#[derive(Args, Debug)]
pub struct KafkaLinksArguments {
    /// The folder for the links; it is made if it is not there.
    directory: PathBuf,
}

/// Makes the links.
///
/// # Errors
/// If one cannot be made, or if there is something else under its name.
pub fn run(output: Output, arguments: &KafkaLinksArguments) -> anyhow::Result<()> {
    let directory = &arguments.directory;
    let program = std::env::current_exe().context("find this program")?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("make the folder {}", directory.display()))?;
    for name in KAFKA_TOOLS {
        let link = directory.join(format!("{name}.sh"));
        match std::fs::read_link(&link) {
            Ok(_) => std::fs::remove_file(&link)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(_) => bail!("{} is there and is not a link: move it away first", link.display()),
        }
        std::os::unix::fs::symlink(&program, &link)
            .with_context(|| format!("link {}", link.display()))?;
        output.done(link.display())?;
    }
    Ok(())
}
