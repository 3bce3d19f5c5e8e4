//! How a record is printed: by a template, or as JSON.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

use super::Shown;

/// A text with places for the parts of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
    KeySize,
    ValueSize,
}

impl Template {
    /// The values, a line each.
    pub fn values() -> Self {
        Self { pieces: vec![Piece::Value, Piece::Text(b"\n".to_vec())] }
    }

    /// Reads a template.
    ///
    /// # Errors
    /// If a letter behind a percent sign stands for nothing.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match (c, if c == '%' || c == '\\' { chars.next() } else { None }) {
                ('\\', Some(escaped)) => {
                    let c = match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '0' => '\0',
                        other => other,
                    };
                    push_char(&mut plain, c);
                    continue;
                }
                ('%', Some('%')) => {
                    plain.push(b'%');
                    continue;
                }
                ('%', Some(letter)) => piece(letter)?,
                ('%', None) => return Err("the format ends in a single %".to_owned()),
                (c, _) => {
                    push_char(&mut plain, c);
                    continue;
                }
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(piece);
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// Prints a record.
    pub fn write(&self, to: &mut dyn Write, shown: &Shown<'_>) -> io::Result<()> {
        let record = &shown.record;
        let size = |part: Option<&[u8]>| part.map_or(-1, |bytes| bytes.len() as i64);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => to.write_all(text)?,
                Piece::Value => to.write_all(record.value.unwrap_or_default())?,
                Piece::Key => to.write_all(record.key.unwrap_or_default())?,
                Piece::Topic => write!(to, "{}", shown.partition.topic)?,
                Piece::Partition => write!(to, "{}", shown.partition.partition)?,
                Piece::Offset => write!(to, "{}", record.offset)?,
                Piece::Timestamp => write!(to, "{}", record.timestamp)?,
                Piece::KeySize => write!(to, "{}", size(record.key))?,
                Piece::ValueSize => write!(to, "{}", size(record.value))?,
                Piece::Headers => write_headers(to, shown)?,
            }
        }
        Ok(())
    }
}

fn push_char(text: &mut Vec<u8>, c: char) {
    text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn piece(letter: char) -> Result<Piece, String> {
    match letter {
        't' => Ok(Piece::Topic),
        'p' => Ok(Piece::Partition),
        'o' => Ok(Piece::Offset),
        'T' => Ok(Piece::Timestamp),
        'k' => Ok(Piece::Key),
        's' | 'v' => Ok(Piece::Value),
        'h' => Ok(Piece::Headers),
        'K' => Ok(Piece::KeySize),
        'S' => Ok(Piece::ValueSize),
        other => {
            Err(format!("%{other} stands for nothing; `ottla consume --help` lists what does"))
        }
    }
}

/// `key=value,key=value`.
fn write_headers(to: &mut dyn Write, shown: &Shown<'_>) -> io::Result<()> {
    for (index, (key, value)) in shown.record.headers.iter().enumerate() {
        if index > 0 {
            to.write_all(b",")?;
        }
        to.write_all(key)?;
        to.write_all(b"=")?;
        to.write_all(value.unwrap_or_default())?;
    }
    Ok(())
}

/// Prints a record as a JSON object on a line of its own, which `ottla produce --json` reads.
pub fn write_json(to: &mut dyn Write, shown: &Shown<'_>) -> io::Result<()> {
    let record = &shown.record;
    let mut object = Map::new();
    object.insert("topic".to_owned(), shown.partition.topic.as_ref().into());
    object.insert("partition".to_owned(), shown.partition.partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp_ms".to_owned(), record.timestamp.into());
    insert(&mut object, "key", record.key);
    insert(&mut object, "value", record.value);
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|(key, value)| {
            let mut header = Map::new();
            insert(&mut header, "key", Some(key));
            insert(&mut header, "value", value);
            Value::Object(header)
        });
        object.insert("headers".to_owned(), headers.collect());
    }
    serde_json::to_writer(&mut *to, &json!(object))?;
    to.write_all(b"\n")
}

/// Bytes under a name: as text, or as base64 under `<name>_base64`.
fn insert(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => {
            let encoded = BASE64.encode(bytes.unwrap_or_default());
            object.insert(format!("{name}_base64"), encoded.into())
        }
    };
}

#[cfg(test)]
mod tests {
    use ottla_common::kafka::record_batch::RecordBatch;
    use ottla_common::kafka::records::{BatchBuilder, BatchOptions, RecordHeader, RecordLimits};
    use ottla_common::types::TopicPartition;

    use super::*;

    fn printed(write: impl Fn(&mut dyn Write, &Shown<'_>) -> io::Result<()>) -> String {
        let mut builder =
            BatchBuilder::new(BatchOptions { base_offset: 5, ..BatchOptions::default() });
        let headers = [RecordHeader::new("a", "1"), RecordHeader::new("b", "2")];
        builder.append(77, Some(b"key"), Some(&[0xff]), &headers).unwrap();
        builder.append(78, None, Some(b"value"), &[]).unwrap();
        let batch = RecordBatch::parse_one(builder.build().unwrap()).unwrap();
        let buffer = batch.record_buffer(RecordLimits::default()).unwrap();
        let partition = TopicPartition::new("t", 3);
        let mut to = Vec::new();
        for record in buffer.views() {
            let record = record.unwrap();
            let shown = Shown { partition: &partition, batch: &batch.header, record };
            write(&mut to, &shown).unwrap();
        }
        String::from_utf8_lossy(&to).into_owned()
    }

    #[test]
    fn a_template_has_places_for_parts() {
        let template = Template::new("%t/%p@%o %T %k[%K] %S%% %h\\n").unwrap();
        assert_eq!(
            printed(|to, shown| template.write(to, shown)),
            "t/3@5 77 key[3] 1% a=1,b=2\nt/3@6 78 [-1] 5% \n"
        );
        assert!(Template::new("%z").is_err());
        assert!(Template::new("%").is_err());
    }

    #[test]
    fn json_holds_everything() {
        let text = printed(write_json);
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines,
            [
                json!({"topic": "t", "partition": 3, "offset": 5, "timestamp_ms": 77, "key": "key",
                    "value_base64": "/w==",
                    "headers": [{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]}),
                json!({"topic": "t", "partition": 3, "offset": 6, "timestamp_ms": 78, "key": null,
                    "value": "value"}),
            ]
        );
    }
}
