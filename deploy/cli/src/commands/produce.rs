//! `ottla produce`: records from standard input or files, a line each or a JSON object each.

mod input;

use std::collections::VecDeque;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use futures_util::FutureExt;
use ottla_common::config::parse_size_bytes;
use ottla_common::kafka::client::ClientError;
use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::producer::{Acks, Delivery, Producer, ProducerOptions, ProducerRecord};
use ottla_common::kafka::records::RecordHeader;

use crate::context::Context;
use crate::output::misuse;

pub use input::Chunks;

/// Flags of `ottla produce`.
#[derive(Args, Debug)]
pub struct ProduceArguments {
    /// The topic.
    topic: String,
    /// Files to read; standard input if there are none.
    files: Vec<PathBuf>,
    /// The key of every record.
    #[arg(short, long, conflicts_with = "key_separator")]
    key: Option<String>,
    /// What stands between key and value on a line; a line without it has no key.
    #[arg(short = 'K', long, value_name = "TEXT", value_parser = unescaped)]
    key_separator: Option<String>,
    /// A header of every record; can be given more than once.
    #[arg(short = 'H', long, value_name = "KEY=VALUE")]
    header: Vec<String>,
    /// The partition of every record; else the key chooses it.
    #[arg(short, long)]
    partition: Option<i32>,
    /// The time of every record, in milliseconds since 1970; now, if it is not given.
    #[arg(long)]
    timestamp_ms: Option<i64>,
    /// What ends a record.
    #[arg(long, value_name = "TEXT", default_value = "\\n", value_parser = unescaped)]
    delimiter: String,
    /// Each file is one record.
    #[arg(long, conflicts_with_all = ["delimiter", "key_separator"])]
    whole: bool,
    #[command(flatten)]
    sending: SendingArguments,
}

/// How records are sent.
#[derive(Args, Clone, Debug)]
pub struct SendingArguments {
    /// Which acknowledgement to wait for: 0, 1 or all.
    #[arg(short, long, default_value = "all", value_parser = parse_acks)]
    acks: Acks,
    /// none, gzip, snappy, lz4 or zstd.
    #[arg(short = 'z', long, default_value = "none")]
    compression: Compression,
    /// Bytes of a batch.
    #[arg(long, default_value = "64KiB", value_parser = parse_size)]
    batch_size: usize,
    /// How long a batch waits for more records.
    #[arg(long, default_value_t = 5)]
    linger_ms: u64,
    /// Let retries double records.
    #[arg(long)]
    no_idempotence: bool,
}

/// Reads 0, 1 or all.
pub fn parse_acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("expected 0, 1 or all".to_owned()),
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    usize::try_from(parse_size_bytes(text)?).map_err(|_| "too large".to_owned())
}

/// A text with `\t`, `\n`, `\0` and `\\` read as what they stand for.
fn unescaped(text: &str) -> Result<String, String> {
    let plain = text.replace("\\\\", "\u{1}").replace("\\t", "\t").replace("\\n", "\n");
    let plain = plain.replace("\\0", "\0").replace('\u{1}', "\\");
    if plain.is_empty() { Err("must not be empty".to_owned()) } else { Ok(plain) }
}

impl SendingArguments {
    fn options(&self) -> ProducerOptions {
        let defaults = ProducerOptions::default();
        ProducerOptions {
            acks: self.acks,
            idempotent: !self.no_idempotence && self.acks == Acks::All,
            compression: self.compression,
            linger_ms: self.linger_ms,
            batch_bytes: self.batch_size,
            request_bytes_max: defaults.request_bytes_max.max(self.batch_size),
            buffer_bytes: defaults.buffer_bytes.max(self.batch_size * 16),
            ..defaults
        }
    }
}

/// Runs `ottla produce`.
pub async fn run(context: &Context, arguments: &ProduceArguments) -> anyhow::Result<()> {
    let headers = headers(&arguments.header)?;
    let cluster = context.cluster_that_creates().await?;
    let mut sender = Sender::new(&cluster, arguments.sending.options())?;
    let ProduceArguments { topic, partition, timestamp_ms, .. } = arguments;
    let template = ProducerRecord {
        topic,
        partition: *partition,
        key: arguments.key.as_deref().map(str::as_bytes),
        value: None,
        headers: &headers,
        timestamp_ms: *timestamp_ms,
    };
    if arguments.whole {
        for file in &arguments.files {
            let value = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
            sender.send(ProducerRecord { value: Some(&value), ..template }).await?;
        }
        return sender.finish().await;
    }
    let mut chunks = Chunks::open(arguments.files.clone(), arguments.delimiter.clone());
    while let Some(chunk) = chunks.next().await? {
        for line in chunk.records() {
            if context.output.json {
                let record = input::JsonRecord::parse(line)?;
                let headers = record.headers();
                let all: Vec<RecordHeader> =
                    headers.iter().chain(&headers_of(template)).cloned().collect();
                sender.send(record.record(template, &all)).await?;
                continue;
            }
            let (key, value) = match &arguments.key_separator {
                Some(separator) => split_key(line, separator.as_bytes()),
                None => (template.key, line),
            };
            sender.send(ProducerRecord { key, value: Some(value), ..template }).await?;
        }
    }
    sender.finish().await
}

fn headers_of(template: ProducerRecord<'_>) -> Vec<RecordHeader> {
    template.headers.to_vec()
}

fn headers(texts: &[String]) -> anyhow::Result<Vec<RecordHeader>> {
    let split = super::topics::pairs("--header", texts)?.into_iter();
    Ok(split.map(|(key, value)| RecordHeader::new(key, value)).collect())
}

/// What stands before the first separator, and behind it.
fn split_key<'a>(line: &'a [u8], separator: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    match line.windows(separator.len()).position(|window| window == separator) {
        Some(at) => (Some(&line[..at]), &line[at + separator.len()..]),
        None => (None, line),
    }
}

/// Sends records and looks at what becomes of each, without waiting for one before the next.
pub struct Sender {
    producer: Producer,
    deliveries: VecDeque<Delivery>,
}

/// How many deliveries are kept before the oldest are looked at.
const DELIVERIES_MAX: usize = 1 << 16;

impl Sender {
    /// A sender to a cluster.
    pub fn new(cluster: &Cluster, options: ProducerOptions) -> Result<Self, ClientError> {
        let producer = Producer::new(cluster.clone(), options)?;
        Ok(Self { producer, deliveries: VecDeque::new() })
    }

    /// Sends a record; waits only if there is no room for it.
    ///
    /// # Errors
    /// If this record cannot be sent, or one before it was not delivered.
    pub async fn send(&mut self, record: ProducerRecord<'_>) -> anyhow::Result<()> {
        let delivery = match self.producer.try_send(record)? {
            Some(delivery) => delivery,
            None => self.producer.send(record).await?,
        };
        self.deliveries.push_back(delivery);
        if self.deliveries.len() >= DELIVERIES_MAX {
            self.settle_some().await?;
        }
        Ok(())
    }

    /// Looks at the oldest deliveries: at all that are known, and waits for one at least.
    async fn settle_some(&mut self) -> anyhow::Result<()> {
        if let Some(oldest) = self.deliveries.pop_front() {
            oldest.await?;
        }
        while let Some(oldest) = self.deliveries.front_mut() {
            let Some(known) = oldest.now_or_never() else { break };
            self.deliveries.pop_front();
            known?;
        }
        Ok(())
    }

    /// Waits until what was sent is delivered.
    ///
    /// # Errors
    /// If something was not.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        self.producer.flush().await;
        while let Some(delivery) = self.deliveries.pop_front() {
            delivery.await?;
        }
        Ok(())
    }

    /// Waits until everything is delivered, and ends.
    ///
    /// # Errors
    /// If something was not.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.settle().await
    }
}

/// The options of a producer that properties in Kafka's names ask for.
pub fn options_from_properties(
    defaults: ProducerOptions,
    properties: &[(String, String)],
) -> anyhow::Result<ProducerOptions> {
    let mut options = defaults;
    let mut idempotence_set = false;
    for (key, value) in properties {
        let number =
            || value.parse::<u64>().map_err(|_| misuse(format!("{key}={value}: a number")));
        match key.as_str() {
            "acks" => options.acks = parse_acks(value).map_err(misuse)?,
            "compression.type" => options.compression = value.parse().map_err(misuse_of)?,
            "batch.size" => options.batch_bytes = usize::try_from(number()?.max(1))?,
            "linger.ms" => options.linger_ms = number()?,
            "max.request.size" => options.request_bytes_max = usize::try_from(number()?)?,
            "buffer.memory" => options.buffer_bytes = usize::try_from(number()?)?,
            "delivery.timeout.ms" => options.delivery_timeout_ms = number()?,
            "max.in.flight.requests.per.connection" => {
                options.in_flight_max = usize::try_from(number()?)?;
            }
            "enable.idempotence" => {
                (options.idempotent, idempotence_set) = (value == "true", true);
            }
            "transactional.id" => return Err(misuse("transactions are not offered yet")),
            "security.protocol" if value != "PLAINTEXT" => {
                return Err(misuse("only security.protocol=PLAINTEXT is offered yet"));
            }
            _ => {}
        }
    }
    if !idempotence_set && (options.acks != Acks::All || options.in_flight_max > 5) {
        options.idempotent = false;
    }
    Ok(options)
}

fn misuse_of(error: impl std::fmt::Display) -> anyhow::Error {
    misuse(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_the_first_separator() {
        assert_eq!(split_key(b"k::v::w", b"::"), (Some(&b"k"[..]), &b"v::w"[..]));
        assert_eq!(split_key(b"no key", b"\t"), (None, &b"no key"[..]));
        assert_eq!(unescaped("a\\tb\\\\t").unwrap(), "a\tb\\t");
        assert!(unescaped("").is_err());
    }

    #[test]
    fn properties_in_kafkas_names_set_options() {
        let pairs = |texts: &[(&str, &str)]| -> Vec<(String, String)> {
            texts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let set = pairs(&[("acks", "1"), ("linger.ms", "20"), ("client.id", "me")]);
        let options = options_from_properties(ProducerOptions::default(), &set).unwrap();
        assert_eq!((options.acks, options.linger_ms), (Acks::Leader, 20));
        assert!(!options.idempotent, "as Kafka's producer: acks=1 switches it off");
        let set = pairs(&[("linger.ms", "soon")]);
        assert!(options_from_properties(ProducerOptions::default(), &set).is_err());
    }
}
