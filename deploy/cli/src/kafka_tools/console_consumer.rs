//! `kafka-console-consumer`. Without a group all partitions are read and nothing is committed.

use std::cell::Cell;
use std::io::{self, Write};
use std::time::Duration;

use clap::Parser;
use ottla_common::kafka::cluster::{Cluster, Isolation};
use ottla_common::kafka::consumer::Position;
use ottla_common::kafka::membership::GroupProtocol;
use ottla_common::kafka::record_batch::TimestampType;
use ottla_common::shutdown::signalled;

use super::{CommonArguments, Properties, TopicPattern};
use crate::commands::consume::{Reading, Shown, Start, read, read_as_member};
use crate::output::{Output, misuse};

/// This tool helps to read data from Kafka topics and outputs it to standard output.
#[derive(Debug, Parser)]
#[command(name = "kafka-console-consumer", version)]
pub struct ConsoleConsumer {
    #[command(flatten)]
    common: CommonArguments,
    /// The topic to consume on.
    #[arg(long)]
    topic: Option<String>,
    /// Regular expression of the topics to consume.
    #[arg(long)]
    include: Option<String>,
    /// The partition to consume from.
    #[arg(long)]
    partition: Option<i32>,
    /// The offset to consume from, or 'earliest', or 'latest'.
    #[arg(long, requires = "partition")]
    offset: Option<String>,
    /// Start with the earliest message present in the log.
    #[arg(long)]
    from_beginning: bool,
    /// The maximum number of messages to consume before exiting.
    #[arg(long)]
    max_messages: Option<u64>,
    /// Exit if no message is available for so long.
    #[arg(long)]
    timeout_ms: Option<u64>,
    /// read_committed or read_uncommitted.
    #[arg(long, default_value = "read_uncommitted")]
    isolation_level: String,
    /// A property of the formatter: print.timestamp, print.key, print.offset, print.epoch,
    /// print.partition, print.headers, print.value, key.separator, line.separator,
    /// headers.separator, null.literal.
    #[arg(long, value_name = "KEY=VALUE")]
    formatter_property: Vec<String>,
    /// The old name of --formatter-property.
    #[arg(long, value_name = "KEY=VALUE")]
    property: Vec<String>,
    /// A property file for the formatter.
    #[arg(long)]
    formatter_config: Option<std::path::PathBuf>,
    /// The consumer group: its members share the partitions.
    #[arg(long, conflicts_with = "partition")]
    group: Option<String>,
    /// Taken for compatibility.
    #[arg(long, value_name = "KEY=VALUE")]
    command_property: Vec<String>,
    /// Taken for compatibility; group.id and group.protocol have an effect.
    #[arg(long, value_name = "KEY=VALUE")]
    consumer_property: Vec<String>,
    /// Taken for compatibility: keys are printed as text.
    #[arg(long)]
    key_deserializer: Option<String>,
    /// Taken for compatibility: values are printed as text.
    #[arg(long)]
    value_deserializer: Option<String>,
    /// Taken for compatibility.
    #[arg(long)]
    formatter: Option<String>,
    /// Taken for compatibility.
    #[arg(long)]
    skip_message_on_error: bool,
}

/// What is printed of a record.
#[derive(Debug)]
struct Formatter {
    timestamp: bool,
    partition: bool,
    offset: bool,
    delivery: bool,
    epoch: bool,
    headers: bool,
    key: bool,
    value: bool,
    key_separator: String,
    line_separator: String,
    headers_separator: String,
    null_literal: String,
}

/// Runs the tool.
pub async fn run(arguments: &ConsoleConsumer) -> anyhow::Result<()> {
    if !arguments.property.is_empty() {
        Output { json: false }.line(
            "Option --property is deprecated and will be removed in a future version. \
             Use --formatter-property instead.",
        )?;
    }
    let texts = arguments.property.iter().chain(&arguments.formatter_property);
    let formatter = Formatter::new(&Properties::new(arguments.formatter_config.as_deref(), texts)?);
    let cluster = arguments.common.cluster().await?;
    let reading = reading(arguments, topics(arguments, &cluster).await?)?;
    let count = Cell::new(0_u64);
    let write = |to: &mut dyn Write, shown: &Shown<'_>| {
        count.set(count.get() + 1);
        formatter.write(to, shown)
    };
    let done = match group(arguments)? {
        // A member leaves its group when a signal comes.
        Some((name, protocol)) => {
            let reads = read_as_member(&cluster, &reading, (&name, Some(protocol)), write);
            reads.await.map(|finished| finished.timed_out)
        }
        None => tokio::select! {
            done = read(&cluster, &reading, write) => done.map(|finished| finished.timed_out),
            interrupted = signalled() => interrupted.map(|()| false).map_err(Into::into),
        },
    };
    if matches!(done, Ok(true)) {
        eprintln!("no message came for {} ms", arguments.timeout_ms.unwrap_or_default());
    }
    eprintln!("Processed a total of {} messages", count.get());
    done.map(drop)
}

/// The group, if one was named, and its protocol: the classic one unless told otherwise, as in
/// Kafka.
fn group(arguments: &ConsoleConsumer) -> anyhow::Result<Option<(String, GroupProtocol)>> {
    let properties = arguments.consumer_property.iter().chain(&arguments.command_property);
    let properties = Properties::new(None, properties)?;
    let Some(name) = arguments.group.clone().or_else(|| properties.get("group.id")) else {
        return Ok(None);
    };
    let protocol = properties.text("group.protocol", "classic").to_lowercase();
    Ok(Some((name, protocol.parse().map_err(misuse)?)))
}

async fn topics(arguments: &ConsoleConsumer, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
    match (&arguments.topic, &arguments.include) {
        (Some(topic), None) => Ok(vec![topic.clone()]),
        (None, Some(include)) => {
            let pattern = TopicPattern::new(include)?;
            let metadata = cluster.refresh_all().await?;
            let names = metadata.topics().map(|topic| topic.name.to_string());
            Ok(names.filter(|name| pattern.matches(name)).collect())
        }
        _ => Err(misuse("Exactly one of the following arguments is required: [topic], [include]")),
    }
}

fn reading(arguments: &ConsoleConsumer, topics: Vec<String>) -> anyhow::Result<Reading> {
    let position = match arguments.offset.as_deref() {
        None if arguments.from_beginning => Position::Earliest,
        None | Some("latest") => Position::Latest,
        Some("earliest") => Position::Earliest,
        Some(text) => match text.parse() {
            Ok(offset) if offset >= 0 => Position::Offset(offset),
            _ => {
                return Err(misuse(format!(
                    "The provided offset value '{text}' is incorrect. Valid values are 'earliest', \
                     'latest', or a non-negative long."
                )));
            }
        },
    };
    let isolation = match arguments.isolation_level.as_str() {
        "read_committed" => Isolation::ReadCommitted,
        "read_uncommitted" => Isolation::ReadUncommitted,
        other => return Err(misuse(format!("no isolation level {other:?}"))),
    };
    Ok(Reading {
        topics,
        partitions: arguments.partition.into_iter().collect(),
        start: Start::At(position),
        records_max: arguments.max_messages,
        exit_at_end: false,
        patience: arguments.timeout_ms.map(Duration::from_millis),
        isolation,
    })
}

impl Formatter {
    fn new(properties: &Properties) -> Self {
        Self {
            timestamp: properties.is_true("print.timestamp", false),
            partition: properties.is_true("print.partition", false),
            offset: properties.is_true("print.offset", false),
            delivery: properties.is_true("print.delivery", false),
            epoch: properties.is_true("print.epoch", false),
            headers: properties.is_true("print.headers", false),
            key: properties.is_true("print.key", false),
            value: properties.is_true("print.value", true),
            key_separator: properties.text("key.separator", "\t"),
            line_separator: properties.text("line.separator", "\n"),
            headers_separator: properties.text("headers.separator", ","),
            null_literal: properties.text("null.literal", "null"),
        }
    }

    fn write(&self, to: &mut dyn Write, shown: &Shown<'_>) -> io::Result<()> {
        let record = &shown.record;
        let mut first = true;
        let mut column = |to: &mut dyn Write| {
            let separator = if first { "" } else { self.key_separator.as_str() };
            first = false;
            to.write_all(separator.as_bytes())
        };
        if self.timestamp {
            column(to)?;
            let kind = match shown.batch.timestamp_type() {
                TimestampType::CreateTime => "CreateTime",
                TimestampType::LogAppendTime => "LogAppendTime",
            };
            write!(to, "{kind}:{}", record.timestamp)?;
        }
        if self.partition {
            column(to)?;
            write!(to, "Partition:{}", shown.partition.partition)?;
        }
        if self.offset {
            column(to)?;
            write!(to, "Offset:{}", record.offset)?;
        }
        for (wanted, text) in [(self.delivery, "Delivery:"), (self.epoch, "Epoch:")] {
            if wanted {
                // Kafka's consumer hands neither on to its formatter.
                column(to)?;
                write!(to, "{text}NOT_PRESENT")?;
            }
        }
        if self.headers {
            column(to)?;
            self.write_headers(to, shown)?;
        }
        for (wanted, part) in [(self.key, record.key), (self.value, record.value)] {
            if wanted {
                column(to)?;
                to.write_all(part.unwrap_or(self.null_literal.as_bytes()))?;
            }
        }
        to.write_all(self.line_separator.as_bytes())
    }

    fn write_headers(&self, to: &mut dyn Write, shown: &Shown<'_>) -> io::Result<()> {
        if shown.record.headers.is_empty() {
            return to.write_all(b"NO_HEADERS");
        }
        for (index, (key, value)) in shown.record.headers.iter().enumerate() {
            if index > 0 {
                to.write_all(self.headers_separator.as_bytes())?;
            }
            to.write_all(key)?;
            to.write_all(b":")?;
            to.write_all(value.unwrap_or(self.null_literal.as_bytes()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ottla_common::kafka::record_batch::RecordBatch;
    use ottla_common::kafka::records::{BatchBuilder, BatchOptions, RecordHeader, RecordLimits};
    use ottla_common::types::TopicPartition;

    use super::*;

    fn printed(texts: &[&str]) -> String {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let formatter = Formatter::new(&Properties::new(None, &texts).unwrap());
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let headers = [RecordHeader::new("h1", "a"), RecordHeader::new("h2", "b")];
        builder.append(1_795_370_335_553, Some(b"k9"), Some(b"v9"), &headers).unwrap();
        builder.append(1_795_370_335_554, None, Some(b"v"), &[]).unwrap();
        let batch = RecordBatch::parse_one(builder.build().unwrap()).unwrap();
        let partition = TopicPartition::new("t", 4);
        let mut to = Vec::new();
        for record in batch.record_buffer(RecordLimits::default()).unwrap().views() {
            let shown =
                Shown { partition: &partition, batch: &batch.header, record: record.unwrap() };
            formatter.write(&mut to, &shown).unwrap();
        }
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn a_record_is_printed_as_kafka_prints_it() {
        assert_eq!(printed(&[]), "v9\nv\n");
        assert_eq!(printed(&["print.key=true", "key.separator=-"]), "k9-v9\nnull-v\n");
        let all = ["timestamp", "partition", "offset", "delivery", "epoch", "headers", "key"];
        let all: Vec<String> = all.iter().map(|part| format!("print.{part}=true")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        assert_eq!(
            printed(&all),
            "CreateTime:1795370335553\tPartition:4\tOffset:0\tDelivery:NOT_PRESENT\t\
             Epoch:NOT_PRESENT\th1:a,h2:b\tk9\tv9\n\
             CreateTime:1795370335554\tPartition:4\tOffset:1\tDelivery:NOT_PRESENT\t\
             Epoch:NOT_PRESENT\tNO_HEADERS\tnull\tv\n"
        );
    }
}
