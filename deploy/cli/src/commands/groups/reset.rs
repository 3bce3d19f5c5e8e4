//! `ottla groups reset`: where a group goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use clap::Args;
use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::cluster::{EARLIEST_TIMESTAMP, Isolation, LATEST_TIMESTAMP};
use ottla_common::types::TopicPartition;
use serde_json::json;

use crate::output::{Output, misuse};

/// Flags of `ottla groups reset`.
#[derive(Args, Debug)]
pub struct ResetArguments {
    /// The group. It must have no members.
    group: String,
    /// Only these: TOPIC, or TOPIC:PARTITION,PARTITION…; otherwise all that it has committed.
    #[arg(short, long = "topic", value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<String>,
    /// Where to: earliest, latest, current, an offset, +N or -N from where it is, @MILLISECONDS
    /// since 1970, or a time such as 2026-01-31T12:00:00Z.
    #[arg(
        long,
        value_name = "WHERE",
        required_unless_present = "from_file",
        allow_hyphen_values = true
    )]
    to: Option<Target>,
    /// Lines of topic,partition,offset instead.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    from_file: Option<PathBuf>,
    /// Do it.
    #[arg(long)]
    execute: bool,
}

/// Where a group shall go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// At the first record.
    Earliest,
    /// Behind the last record.
    Latest,
    /// Where it is; where it has committed nothing, behind the last record.
    Current,
    /// At this offset, or the nearest that there is.
    Offset(i64),
    /// So many records on, or back.
    Shift(i64),
    /// At the first record of this time, in milliseconds since 1970, or later.
    Time(i64),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted =
            || "expected earliest, latest, current, an offset, +N, -N, @MILLISECONDS or a time";
        let number = |text: &str| text.parse::<i64>().map_err(|_| wanted().to_owned());
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            "current" => Ok(Self::Current),
            _ if text.starts_with(['+', '-']) => number(text).map(Self::Shift),
            _ => match text.strip_prefix('@') {
                Some(time) => number(time).map(Self::Time),
                None => number(text).map(Self::Offset).or_else(|error| {
                    let time = text.parse::<jiff::Timestamp>();
                    time.map(|time| Self::Time(time.as_millisecond())).map_err(|_| error)
                }),
            },
        }
    }
}

/// Runs it.
pub async fn run(output: Output, admin: &Admin, arguments: &ResetArguments) -> anyhow::Result<()> {
    let committed = admin.group_offsets(&arguments.group).await?;
    let committed: BTreeMap<TopicPartition, i64> =
        committed.into_iter().map(|(name, committed)| (name, committed.offset)).collect();
    let new = match (&arguments.from_file, arguments.to) {
        (Some(file), _) => offsets_of(&std::fs::read_to_string(file)?)?,
        (None, Some(target)) => {
            let names = named(admin, &arguments.topics, &committed).await?;
            wanted(admin, &names, (target, &committed)).await?
        }
        (None, None) => return Err(misuse("--to or --from-file says where to")),
    };
    if new.is_empty() {
        return Err(misuse("the group has committed nothing; --topic names what to begin with"));
    }
    if arguments.execute {
        for (_, set) in admin.set_group_offsets(&arguments.group, &new).await? {
            set?;
        }
    }
    output.rows(
        ["topic", "partition", "from", "to"],
        new.iter().map(|(name, offset)| {
            let from = committed.get(name).copied();
            [json!(name.topic), name.partition.into(), from.into(), (*offset).into()]
        }),
    )?;
    match arguments.execute {
        true => Ok(()),
        false => output.done("Nothing was changed; --execute does it."),
    }
}

/// The partitions that are meant by topics and `topic:partition,…`; by none, what was committed.
pub async fn named(
    admin: &Admin,
    topics: &[String],
    committed: &BTreeMap<TopicPartition, i64>,
) -> anyhow::Result<Vec<TopicPartition>> {
    if topics.is_empty() {
        return Ok(committed.keys().cloned().collect());
    }
    let mut names = Vec::new();
    for text in topics {
        let (topic, partitions) = match text.split_once(':') {
            Some((topic, list)) => {
                let numbers = list.split(',').map(|number| number.trim().parse::<i32>());
                let numbers: Result<Vec<i32>, _> = numbers.collect();
                let problem = || misuse(format!("{list:?} is not a list of partitions"));
                (topic, numbers.map_err(|_| problem())?)
            }
            None => {
                let count = admin.cluster().topic(text).await?.partitions.len();
                (text.as_str(), (0..i32::try_from(count)?).collect())
            }
        };
        names.extend(partitions.into_iter().map(|number| TopicPartition::new(topic, number)));
    }
    Ok(names)
}

/// Where each partition shall go on, within what there is.
pub async fn wanted(
    admin: &Admin,
    names: &[TopicPartition],
    (target, committed): (Target, &BTreeMap<TopicPartition, i64>),
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let starts = listed(admin, names, EARLIEST_TIMESTAMP).await?;
    let ends = listed(admin, names, LATEST_TIMESTAMP).await?;
    let at_time = match target {
        Target::Time(time) => listed(admin, names, time).await?,
        _ => BTreeMap::new(),
    };
    let mut offsets = BTreeMap::new();
    for name in names {
        let of = |known: &BTreeMap<TopicPartition, i64>| known.get(name).copied();
        let (start, end) = (of(&starts).unwrap_or(0), of(&ends).unwrap_or(0));
        let offset = match target {
            Target::Earliest => start,
            Target::Latest => end,
            Target::Current => of(committed).unwrap_or(end),
            Target::Offset(offset) => offset,
            Target::Shift(by) => {
                let from = of(committed);
                from.with_context(|| format!("the group has no offset of {name}"))? + by
            }
            // No record of that time or later: behind the last one.
            Target::Time(_) => of(&at_time).unwrap_or(end),
        };
        offsets.insert(name.clone(), offset.clamp(start, end.max(start)));
    }
    Ok(offsets)
}

async fn listed(
    admin: &Admin,
    names: &[TopicPartition],
    timestamp: i64,
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let wanted: Vec<_> = names.iter().map(|name| (name.clone(), timestamp)).collect();
    let mut offsets = BTreeMap::new();
    for (name, found) in admin.list_offsets(&wanted, Isolation::ReadUncommitted).await {
        if let Some(offset) = found?.offset {
            offsets.insert(name, offset);
        }
    }
    Ok(offsets)
}

/// The offsets of a file with lines of `topic,partition,offset`.
fn offsets_of(text: &str) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let mut offsets = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let problem = || misuse(format!("{line:?} is not of the form topic,partition,offset"));
        let mut parts = line.split(',').map(|part| part.trim().trim_matches('"'));
        let (Some(topic), Some(partition), Some(offset), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(problem());
        };
        let partition = partition.parse().map_err(|_| problem())?;
        let offset = offset.parse().map_err(|_| problem())?;
        offsets.insert(TopicPartition::new(topic, partition), offset);
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_word_an_offset_a_shift_or_a_time() {
        let parse = |text: &str| text.parse::<Target>();
        assert_eq!(parse("earliest"), Ok(Target::Earliest));
        assert_eq!(parse("17"), Ok(Target::Offset(17)));
        assert_eq!(parse("-5"), Ok(Target::Shift(-5)));
        assert_eq!(parse("+5"), Ok(Target::Shift(5)));
        assert_eq!(parse("@1700000000000"), Ok(Target::Time(1_700_000_000_000)));
        assert_eq!(parse("2023-11-14T22:13:20Z"), Ok(Target::Time(1_700_000_000_000)));
        assert!(parse("soon").is_err());
    }

    #[test]
    fn a_file_has_lines_of_topic_partition_and_offset() {
        let offsets = offsets_of("t,0,5\n\n\"u\",1,7\n").unwrap();
        let names: Vec<String> = offsets.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["t-0", "u-1"]);
        assert!(offsets_of("t,0\n").is_err() && offsets_of("t,x,0\n").is_err());
    }
}
