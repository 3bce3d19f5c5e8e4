//! `kafka-console-producer`.

use std::io::{IsTerminal, Write};

use clap::Parser;
use ottla_common::kafka::producer::{ProducerOptions, ProducerRecord};
use ottla_common::kafka::records::RecordHeader;

use super::{CommonArguments, Properties};
use crate::commands::produce::{Chunks, Sender, options_from_properties, parse_acks};
use crate::output::{Output, misuse};

/// This tool helps to read data from standard input and publish it to Kafka.
#[derive(Debug, Parser)]
#[command(name = "kafka-console-producer", version)]
pub struct ConsoleProducer {
    #[command(flatten)]
    common: CommonArguments,
    /// The topic name to produce messages to.
    #[arg(long)]
    topic: String,
    /// A property of the reader: parse.key, key.separator, parse.headers, headers.delimiter,
    /// headers.separator, headers.key.separator, ignore.error, null.marker.
    #[arg(long, value_name = "KEY=VALUE")]
    reader_property: Vec<String>,
    /// The old name of --reader-property.
    #[arg(long, value_name = "KEY=VALUE")]
    property: Vec<String>,
    /// A property file for the reader.
    #[arg(long)]
    reader_config: Option<std::path::PathBuf>,
    /// A property of the producer.
    #[arg(long, value_name = "KEY=VALUE")]
    command_property: Vec<String>,
    /// The old name of --command-property.
    #[arg(long, value_name = "KEY=VALUE")]
    producer_property: Vec<String>,
    /// The compression codec; gzip if none is named.
    #[arg(long, num_args = 0..=1, default_missing_value = "gzip")]
    compression_codec: Option<String>,
    /// The required acks of the producer requests.
    #[arg(long, allow_hyphen_values = true)]
    request_required_acks: Option<String>,
    /// Bytes of a batch.
    #[arg(long)]
    batch_size: Option<usize>,
    /// How long messages wait for a batch, in milliseconds.
    #[arg(long)]
    timeout: Option<u64>,
    /// Wait for each message before the next.
    #[arg(long)]
    sync: bool,
    /// Taken for compatibility.
    #[arg(long)]
    line_reader: Option<String>,
    /// Taken for compatibility.
    #[arg(long)]
    max_block_ms: Option<u64>,
    /// Taken for compatibility.
    #[arg(long)]
    max_memory_bytes: Option<u64>,
    /// Taken for compatibility.
    #[arg(long)]
    message_send_max_retries: Option<u32>,
    /// Taken for compatibility.
    #[arg(long)]
    request_timeout_ms: Option<u32>,
    /// Taken for compatibility.
    #[arg(long)]
    retry_backoff_ms: Option<u64>,
}

/// How a line becomes a record.
#[derive(Debug)]
struct LineReader {
    parse_key: bool,
    key_separator: String,
    parse_headers: bool,
    headers_delimiter: String,
    headers_separator: String,
    headers_key_separator: String,
    ignore_error: bool,
    null_marker: Option<String>,
}

/// A line, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    headers: Vec<RecordHeader>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// Runs the tool.
pub async fn run(arguments: &ConsoleProducer) -> anyhow::Result<()> {
    if !arguments.property.is_empty() {
        Output { json: false }.line(
            "Warning: --property is deprecated and will be removed in a future version. \
             Use --reader-property instead.",
        )?;
    }
    let texts = arguments.property.iter().chain(&arguments.reader_property);
    let reader = LineReader::new(&Properties::new(arguments.reader_config.as_deref(), texts)?);
    let options = options(arguments)?;
    let cluster = arguments.common.cluster_that_creates().await?;
    let mut sender = Sender::new(&cluster, options.clone())?;
    let prompts = std::io::stdin().is_terminal();
    prompt(prompts)?;
    let mut chunks = Chunks::open(Vec::new(), "\n".to_owned());
    let mut number = 0_u64;
    while let Some(chunk) = chunks.next().await? {
        for text in chunk.records() {
            number += 1;
            let line = reader.parse(text, number)?;
            let topic = arguments.topic.as_str();
            let Line { key, value, headers } = &line;
            let (key, value) = (*key, *value);
            sender
                .send(ProducerRecord { topic, key, value, headers, ..ProducerRecord::default() })
                .await?;
            if arguments.sync {
                sender.settle().await?;
            }
        }
        prompt(prompts)?;
    }
    sender.finish().await
}

fn prompt(prompts: bool) -> anyhow::Result<()> {
    if prompts {
        let mut stdout = std::io::stdout();
        stdout.write_all(b">")?;
        stdout.flush()?;
    }
    Ok(())
}

fn options(arguments: &ConsoleProducer) -> anyhow::Result<ProducerOptions> {
    let mut options = ProducerOptions { linger_ms: 5, ..ProducerOptions::default() };
    options.batch_bytes = arguments.batch_size.unwrap_or(options.batch_bytes).max(1);
    options.linger_ms = arguments.timeout.unwrap_or(options.linger_ms);
    if let Some(codec) = &arguments.compression_codec {
        options.compression = codec.parse().map_err(|_| misuse(format!("no codec {codec:?}")))?;
    }
    if let Some(acks) = &arguments.request_required_acks {
        options.acks = parse_acks(acks).map_err(misuse)?;
    }
    let texts = arguments.producer_property.iter().chain(&arguments.command_property);
    let properties = Properties::new(arguments.common.command_config.as_deref(), texts)?;
    options_from_properties(options, &properties.pairs())
}

impl LineReader {
    fn new(properties: &Properties) -> Self {
        Self {
            parse_key: properties.is_true("parse.key", false),
            key_separator: properties.text("key.separator", "\t"),
            parse_headers: properties.is_true("parse.headers", false),
            headers_delimiter: properties.text("headers.delimiter", "\t"),
            headers_separator: properties.text("headers.separator", ","),
            headers_key_separator: properties.text("headers.key.separator", ":"),
            ignore_error: properties.is_true("ignore.error", false),
            null_marker: properties.get("null.marker"),
        }
    }

    fn parse<'a>(&self, text: &'a [u8], number: u64) -> anyhow::Result<Line<'a>> {
        let mut line = Line { headers: Vec::new(), key: None, value: None };
        let mut rest = text;
        let missing = |name: &str| {
            let text = String::from_utf8_lossy(text);
            anyhow::anyhow!("No {name} found on line number {number}: '{text}'")
        };
        if self.parse_headers {
            match split_at(rest, &self.headers_delimiter) {
                Some((before, after)) => (line.headers, rest) = (self.headers(before)?, after),
                None if self.ignore_error => {}
                None => return Err(missing("headers delimiter")),
            }
        }
        if self.parse_key {
            match split_at(rest, &self.key_separator) {
                Some((before, after)) => (line.key, rest) = (Some(before), after),
                None if self.ignore_error => {}
                None => return Err(missing("key separator")),
            }
        }
        let null = self.null_marker.as_deref().map(str::as_bytes);
        line.key = line.key.filter(|key| Some(*key) != null);
        line.value = Some(rest).filter(|value| Some(*value) != null);
        Ok(line)
    }

    fn headers(&self, text: &[u8]) -> anyhow::Result<Vec<RecordHeader>> {
        let text = std::str::from_utf8(text)?;
        let pairs = text.split(self.headers_separator.as_str()).filter(|pair| !pair.is_empty());
        let headers = pairs.map(|pair| match pair.split_once(&self.headers_key_separator) {
            Some((key, value)) => Ok(RecordHeader::new(key.to_owned(), value.to_owned())),
            None if self.ignore_error => {
                Ok(RecordHeader { key: pair.to_owned().into(), value: None })
            }
            None => Err(anyhow::anyhow!("No header key separator found in pair '{pair}'")),
        });
        headers.collect()
    }
}

/// What stands before a separator, and behind it.
fn split_at<'a>(text: &'a [u8], separator: &str) -> Option<(&'a [u8], &'a [u8])> {
    let separator = separator.as_bytes();
    let at = text.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((&text[..at], &text[at + separator.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(texts: &[&str]) -> LineReader {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        LineReader::new(&Properties::new(None, &texts).unwrap())
    }

    #[test]
    fn a_line_has_headers_a_key_and_a_value() {
        let all = reader(&["parse.key=true", "parse.headers=true", "key.separator=:"]);
        let line = all.parse(b"h1:a,h2:b\tk:v:w", 1).unwrap();
        assert_eq!(line.headers, [RecordHeader::new("h1", "a"), RecordHeader::new("h2", "b")]);
        assert_eq!((line.key, line.value), (Some(&b"k"[..]), Some(&b"v:w"[..])));
        let plain = reader(&["null.marker=NULL"]);
        assert_eq!(plain.parse(b"k\tv", 1).unwrap().value, Some(&b"k\tv"[..]));
        assert_eq!(plain.parse(b"NULL", 1).unwrap().value, None);
    }

    #[test]
    fn a_missing_separator_is_an_error_unless_it_is_ignored() {
        let error = reader(&["parse.key=true"]).parse(b"nokey", 3).unwrap_err();
        assert_eq!(error.to_string(), "No key separator found on line number 3: 'nokey'");
        let ignoring = reader(&["parse.key=true", "ignore.error=true"]);
        assert_eq!(ignoring.parse(b"nokey", 3).unwrap().key, None);
    }
}
