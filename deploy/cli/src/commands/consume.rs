//! `ottla consume`: records of a topic to standard output, as fast as they come.

mod format;
mod group;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::cluster::{Cluster, Isolation};
use ottla_common::kafka::consumer::{
    Consumer, ConsumerOptions, FetchedPartition, OffsetReset, Position,
};
use ottla_common::kafka::membership::GroupProtocol;
use ottla_common::kafka::record_batch::BatchHeader;
use ottla_common::kafka::records::{RecordLimits, RecordView};
use ottla_common::types::TopicPartition;
use tokio::time::Instant;

use crate::context::Context;
use crate::output::misuse;

pub use format::Template;
pub use group::read as read_as_member;

/// Flags of `ottla consume`.
#[derive(Args, Debug)]
pub struct ConsumeArguments {
    /// The topic.
    topic: String,
    /// Only this partition; can be given more than once.
    #[arg(short, long)]
    partition: Vec<i32>,
    /// Begin with the first record that there is.
    #[arg(short, long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Where to begin: earliest, latest, an offset, -N for the last N records of each partition, or
    /// @MILLISECONDS for a time.
    #[arg(short, long, default_value = "latest", allow_hyphen_values = true)]
    offset: Start,
    /// Stop after this many records.
    #[arg(short = 'n', long)]
    max_records: Option<u64>,
    /// Stop at the end of what is there at the start.
    #[arg(short, long)]
    exit_at_end: bool,
    /// Stop when nothing has come for so long.
    #[arg(long, value_name = "MILLISECONDS")]
    timeout_ms: Option<u64>,
    /// Print the key before the value, with a tab between them.
    #[arg(short, long, conflicts_with = "format")]
    keys: bool,
    /// How a record is printed: %t topic, %p partition, %o offset, %T time in milliseconds, %k key,
    /// %s value, %h headers, %K and %S lengths, %% a percent sign, \n, \t.
    #[arg(long, value_name = "TEXT")]
    format: Option<String>,
    /// Read as a member of this group: its members share the partitions, what was printed is
    /// committed, and reading goes on there. --from-beginning and --offset then say where to begin
    /// in partitions without a committed offset.
    #[arg(short, long, conflicts_with_all = ["partition", "exit_at_end"])]
    group: Option<String>,
    /// The group's protocol, classic or consumer; otherwise the newer one that the broker offers.
    #[arg(long, requires = "group")]
    protocol: Option<GroupProtocol>,
    /// Leave out what open and aborted transactions wrote.
    #[arg(long)]
    committed: bool,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this position of each partition.
    At(Position),
    /// So many records before the end of each partition.
    Last(i64),
}

impl std::str::FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "expected earliest, latest, an offset, -N or @MILLISECONDS".to_owned();
        let number = |text: &str| text.parse::<i64>().map_err(|_| wanted());
        match text {
            "earliest" | "beginning" => Ok(Self::At(Position::Earliest)),
            "latest" | "end" => Ok(Self::At(Position::Latest)),
            _ => match text.strip_prefix('@') {
                Some(time) => Ok(Self::At(Position::Timestamp(number(time)?))),
                None => match number(text)? {
                    last if last < 0 => Ok(Self::Last(-last)),
                    offset => Ok(Self::At(Position::Offset(offset))),
                },
            },
        }
    }
}

/// What to read.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The topics.
    pub topics: Vec<String>,
    /// Only these partitions; all if empty.
    pub partitions: Vec<i32>,
    /// Where to begin.
    pub start: Start,
    /// Stop after so many records.
    pub records_max: Option<u64>,
    /// Stop at the end of what is there at the start.
    pub exit_at_end: bool,
    /// Stop when nothing has come for so long.
    pub patience: Option<Duration>,
    /// What is seen of transactions.
    pub isolation: Isolation,
}

/// How reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Records that were printed.
    pub records: u64,
    /// Whether nothing came any more.
    pub timed_out: bool,
}

/// A record and where it stands.
pub struct Shown<'a> {
    /// The partition.
    pub partition: &'a TopicPartition,
    /// Its batch.
    pub batch: &'a BatchHeader,
    /// The record.
    pub record: RecordView<'a>,
}

/// Runs `ottla consume`.
pub async fn run(context: &Context, arguments: &ConsumeArguments) -> anyhow::Result<()> {
    let template = match (&arguments.format, arguments.keys) {
        (Some(format), _) => Template::new(format).map_err(misuse)?,
        (None, true) => Template::new("%k\\t%s\\n").map_err(misuse)?,
        (None, false) => Template::values(),
    };
    let cluster = context.cluster().await?;
    let start =
        if arguments.from_beginning { Start::At(Position::Earliest) } else { arguments.offset };
    let reading = Reading {
        topics: vec![arguments.topic.clone()],
        partitions: arguments.partition.clone(),
        start,
        records_max: arguments.max_records,
        exit_at_end: arguments.exit_at_end,
        patience: arguments.timeout_ms.map(Duration::from_millis),
        isolation: if arguments.committed {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        },
    };
    let write = |to: &mut dyn Write, shown: &Shown<'_>| match context.output.json {
        true => format::write_json(to, shown),
        false => template.write(to, shown),
    };
    match &arguments.group {
        Some(group) => {
            read_as_member(&cluster, &reading, (group, arguments.protocol), write).await?;
        }
        None => {
            read(&cluster, &reading, write).await?;
        }
    }
    Ok(())
}

/// Reads records and prints each with `write`.
///
/// # Errors
/// If a partition cannot be read, or the output cannot be written.
pub async fn read(
    cluster: &Cluster,
    reading: &Reading,
    mut write: impl FnMut(&mut dyn Write, &Shown<'_>) -> std::io::Result<()>,
) -> anyhow::Result<Finished> {
    let options = ConsumerOptions {
        isolation: reading.isolation,
        reset: OffsetReset::Earliest,
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(cluster.clone(), options);
    let partitions = partitions(cluster, reading).await?;
    let ends = begin(cluster, &mut consumer, reading, &partitions).await?;
    let mut to = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let mut finished = Finished { records: 0, timed_out: false };
    let left_max = reading.records_max.unwrap_or(u64::MAX);
    let mut last_record = Instant::now();
    while finished.records < left_max && !is_at_end(&consumer, &ends) {
        let fetched = consumer.poll(poll_patience(reading, last_record)).await?;
        for partition in &fetched {
            let end = ends.get(&partition.partition).copied();
            let left = left_max - finished.records;
            finished.records += print(partition, (end, left), &mut to, &mut write)?.0;
        }
        if !fetched.is_empty() {
            to.flush()?;
            last_record = Instant::now();
        } else if reading.patience.is_some_and(|patience| last_record.elapsed() >= patience) {
            finished.timed_out = true;
            break;
        }
    }
    to.flush()?;
    Ok(finished)
}

/// Prints the records of a partition before `end`, at most so many. Returns how many that were, and
/// the offset that comes next.
fn print(
    fetched: &FetchedPartition,
    (end, left): (Option<i64>, u64),
    to: &mut dyn Write,
    write: &mut impl FnMut(&mut dyn Write, &Shown<'_>) -> std::io::Result<()>,
) -> anyhow::Result<(u64, i64)> {
    let mut printed = 0;
    let mut next = fetched.start_offset;
    for batch in &fetched.batches {
        let buffer = batch.record_buffer(RecordLimits::default())?;
        for record in buffer.views() {
            let record = record?;
            let is_past_end = end.is_some_and(|end| record.offset >= end);
            if record.offset < fetched.start_offset || is_past_end {
                continue;
            }
            if printed == left {
                return Ok((printed, next));
            }
            (printed, next) = (printed + 1, record.offset + 1);
            write(to, &Shown { partition: &fetched.partition, batch: &batch.header, record })?;
        }
    }
    Ok((printed, fetched.next_offset))
}

/// How long to wait for the next records.
fn poll_patience(reading: &Reading, last_record: Instant) -> Duration {
    // Often enough to see that a partition without visible records is at its end.
    let usual = Duration::from_millis(100);
    match reading.patience {
        Some(patience) => patience.saturating_sub(last_record.elapsed()).min(usual),
        None => usual,
    }
}

async fn partitions(cluster: &Cluster, reading: &Reading) -> anyhow::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for name in &reading.topics {
        let topic = cluster.topic(name).await?;
        for &number in &reading.partitions {
            topic.partition(number)?;
        }
        let numbers = topic.partitions.iter().map(|partition| partition.partition);
        let wanted =
            numbers.filter(|n| reading.partitions.is_empty() || reading.partitions.contains(n));
        partitions
            .extend(wanted.map(|number| TopicPartition::new(Arc::clone(&topic.name), number)));
    }
    Ok(partitions)
}

/// Assigns the partitions. Returns where each ends, if reading is to stop there.
async fn begin(
    cluster: &Cluster,
    consumer: &mut Consumer,
    reading: &Reading,
    partitions: &[TopicPartition],
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    if let (Start::At(position), false) = (reading.start, reading.exit_at_end) {
        for partition in partitions {
            consumer.assign(partition.clone(), position);
        }
        return Ok(BTreeMap::new());
    }
    // Every start becomes an offset: a partition that has nothing to read is at its end from the
    // beginning, though no answer will ever say so.
    let ends = offsets(cluster, partitions, LATEST, reading.isolation).await?;
    let firsts = offsets(cluster, partitions, EARLIEST, reading.isolation).await?;
    let timed = match reading.start {
        Start::At(Position::Timestamp(time)) => {
            offsets(cluster, partitions, time, reading.isolation).await?
        }
        _ => BTreeMap::new(),
    };
    for partition in partitions {
        let at = |offsets: &BTreeMap<_, i64>| offsets.get(partition).copied();
        let (first, end) = (at(&firsts).unwrap_or(0), at(&ends).unwrap_or(0));
        let offset = match reading.start {
            Start::At(Position::Earliest) => first,
            Start::At(Position::Latest) => end,
            Start::At(Position::Offset(offset)) => offset,
            Start::At(Position::Timestamp(_)) => at(&timed).unwrap_or(end),
            Start::Last(count) => end.saturating_sub(count),
        };
        consumer.assign(partition.clone(), Position::Offset(offset.max(first)));
    }
    Ok(if reading.exit_at_end { ends } else { BTreeMap::new() })
}

/// ListOffsets: the offset after the last record.
const LATEST: i64 = -1;
/// ListOffsets: the first offset.
const EARLIEST: i64 = -2;

/// What ListOffsets says for each of some partitions; none for a time after the last record.
pub async fn offsets(
    cluster: &Cluster,
    partitions: &[TopicPartition],
    timestamp: i64,
    isolation: Isolation,
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let wanted: Vec<_> = partitions.iter().map(|each| (each.clone(), timestamp)).collect();
    let mut offsets = BTreeMap::new();
    let listed = Admin::new(cluster.clone()).list_offsets(&wanted, isolation).await;
    for (partition, listed) in listed {
        if let Some(offset) = listed?.offset {
            offsets.insert(partition, offset);
        }
    }
    Ok(offsets)
}

/// Whether every partition was read up to its end.
fn is_at_end(consumer: &Consumer, ends: &BTreeMap<TopicPartition, i64>) -> bool {
    let reached = |(partition, end): (&TopicPartition, &i64)| {
        consumer.position(partition).is_some_and(|position| position >= *end)
    };
    !ends.is_empty() && ends.iter().all(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_an_offset_a_count_or_a_time() {
        let parse = |text: &str| text.parse::<Start>();
        assert_eq!(parse("beginning"), Ok(Start::At(Position::Earliest)));
        assert_eq!(parse("17"), Ok(Start::At(Position::Offset(17))));
        assert_eq!(parse("-5"), Ok(Start::Last(5)));
        assert_eq!(parse("@1700000000000"), Ok(Start::At(Position::Timestamp(1_700_000_000_000))));
        assert!(parse("soon").is_err());
    }
}
