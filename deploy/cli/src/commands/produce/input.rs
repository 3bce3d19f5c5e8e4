//! What is read: records between delimiters, many at a time, on a thread of its own.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use ottla_common::kafka::producer::ProducerRecord;
use ottla_common::kafka::records::RecordHeader;
use serde::Deserialize;
use tokio::sync::mpsc;

/// Bytes that are read at once.
const READ_SIZE: usize = 1 << 20;
/// Chunks that may wait to be sent.
const CHUNKS_WAITING_MAX: usize = 4;

/// Whole records of the input.
#[derive(Debug)]
pub struct Chunk {
    bytes: Bytes,
    delimiter: Bytes,
}

impl Chunk {
    /// The records, without their delimiters. What ends the last one may be the end of the input.
    pub fn records(&self) -> impl Iterator<Item = &[u8]> {
        let (mut rest, delimiter) = (&self.bytes[..], &self.delimiter[..]);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            match find(rest, delimiter) {
                Some(at) => {
                    let record = &rest[..at];
                    rest = &rest[at + delimiter.len()..];
                    Some(record)
                }
                None => Some(std::mem::take(&mut rest)),
            }
        })
    }
}

/// Where a delimiter begins.
fn find(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    match delimiter {
        [one] => bytes.iter().position(|byte| byte == one),
        _ => bytes.windows(delimiter.len()).position(|window| window == delimiter),
    }
}

/// Where the last delimiter ends.
fn find_last_end(bytes: &[u8], delimiter: &[u8]) -> Option<usize> {
    let at = match delimiter {
        [one] => bytes.iter().rposition(|byte| byte == one),
        _ => bytes.windows(delimiter.len()).rposition(|window| window == delimiter),
    };
    at.map(|at| at + delimiter.len())
}

/// The chunks of files, or of standard input.
pub struct Chunks {
    chunks: mpsc::Receiver<anyhow::Result<Chunk>>,
}

impl Chunks {
    /// Begins to read.
    pub fn open(files: Vec<PathBuf>, delimiter: String) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_WAITING_MAX);
        let delimiter = Bytes::from(delimiter);
        std::thread::spawn(move || {
            if files.is_empty() {
                read_all(std::io::stdin().lock(), &delimiter, &sender);
            }
            for file in files {
                match File::open(&file).with_context(|| format!("open {}", file.display())) {
                    Ok(opened) => read_all(opened, &delimiter, &sender),
                    Err(error) => drop(sender.blocking_send(Err(error))),
                }
            }
        });
        Self { chunks }
    }

    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> anyhow::Result<Option<Chunk>> {
        self.chunks.recv().await.transpose()
    }
}

/// Sends on what was read as soon as it has whole records: a person who types shall not wait.
fn read_all(mut input: impl Read, delimiter: &Bytes, chunks: &mpsc::Sender<anyhow::Result<Chunk>>) {
    let mut rest = BytesMut::new();
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let (whole, ended) = match input.read(&mut buffer) {
            Ok(0) => (rest.split().freeze(), true),
            Ok(count) => {
                rest.extend_from_slice(&buffer[..count]);
                let end = find_last_end(&rest, delimiter).unwrap_or(0);
                (rest.split_to(end).freeze(), false)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let error = anyhow::Error::new(error).context("read the input");
                drop(chunks.blocking_send(Err(error)));
                return;
            }
        };
        let chunk = Chunk { bytes: whole, delimiter: delimiter.clone() };
        if !chunk.bytes.is_empty() && chunks.blocking_send(Ok(chunk)).is_err() {
            return;
        }
        if ended {
            return;
        }
    }
}

/// A record as `ottla consume --json` prints it. Bytes that are not text stand as base64.
#[derive(Debug, Default, Deserialize)]
pub struct JsonRecord {
    key: Option<String>,
    #[serde(default, deserialize_with = "base64_bytes")]
    key_base64: Option<Vec<u8>>,
    value: Option<String>,
    #[serde(default, deserialize_with = "base64_bytes")]
    value_base64: Option<Vec<u8>>,
    #[serde(default)]
    headers: Vec<JsonHeader>,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct JsonHeader {
    key: String,
    value: Option<String>,
    #[serde(default, deserialize_with = "base64_bytes")]
    value_base64: Option<Vec<u8>>,
}

fn base64_bytes<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    let decoded = text.map(|text| BASE64.decode(text)).transpose();
    decoded.map_err(serde::de::Error::custom)
}

/// The text, or else the bytes.
fn part<'a>(text: &'a Option<String>, bytes: &'a Option<Vec<u8>>) -> Option<&'a [u8]> {
    text.as_deref().map(str::as_bytes).or(bytes.as_deref())
}

impl JsonRecord {
    /// Reads a line.
    pub fn parse(line: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(line).with_context(|| {
            format!("read a record: {:?} is not the JSON of one", String::from_utf8_lossy(line))
        })
    }

    /// Its headers.
    pub fn headers(&self) -> Vec<RecordHeader> {
        let each = self.headers.iter().map(|header| RecordHeader {
            key: Bytes::from(header.key.clone()),
            value: part(&header.value, &header.value_base64).map(Bytes::copy_from_slice),
        });
        each.collect()
    }

    /// It, with what it does not say taken from `template`.
    pub fn record<'a>(
        &'a self,
        template: ProducerRecord<'a>,
        headers: &'a [RecordHeader],
    ) -> ProducerRecord<'a> {
        ProducerRecord {
            topic: template.topic,
            partition: template.partition.or(self.partition),
            key: part(&self.key, &self.key_base64).or(template.key),
            value: part(&self.value, &self.value_base64),
            headers,
            timestamp_ms: template.timestamp_ms.or(self.timestamp_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &'static [u8], delimiter: &str) -> Vec<String> {
        let (sender, chunks) = mpsc::channel(100);
        let delimiter = Bytes::from(delimiter.to_owned());
        std::thread::spawn(move || read_all(text, &delimiter, &sender));
        let mut chunks = Chunks { chunks };
        let mut lines = Vec::new();
        while let Some(chunk) = chunks.next().await.unwrap() {
            lines.extend(chunk.records().map(|r| String::from_utf8_lossy(r).into_owned()));
        }
        lines
    }

    #[tokio::test]
    async fn records_stand_between_delimiters() {
        assert_eq!(lines(b"a\n\nb\nc", "\n").await, ["a", "", "b", "c"]);
        assert_eq!(lines(b"a--b-c--", "--").await, ["a", "b-c"]);
        assert!(lines(b"", "\n").await.is_empty());
    }

    #[test]
    fn json_says_what_the_template_leaves_open() {
        let line = br#"{"key":"k","value_base64":"/wA=","headers":[{"key":"h","value":"x"}],
            "partition":2,"offset":9}"#;
        let parsed = JsonRecord::parse(line).unwrap();
        let headers = parsed.headers();
        let template = ProducerRecord { topic: "t", ..ProducerRecord::default() };
        let record = parsed.record(template, &headers);
        assert_eq!(record.key, Some(&b"k"[..]));
        assert_eq!(record.value, Some(&[0xff, 0][..]));
        assert_eq!((record.partition, record.headers), (Some(2), &headers[..]));
        assert_eq!(headers, [RecordHeader::new("h", "x")]);
        assert!(JsonRecord::parse(b"text").is_err());
    }
}
