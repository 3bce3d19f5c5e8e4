//! `kafka-consumer-groups --reset-offsets`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::clock;
use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::cluster::{EARLIEST_TIMESTAMP, Isolation, LATEST_TIMESTAMP};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::TopicPartition;

use super::{ConsumerGroups, ResetFlags, print, print_error};
use crate::commands::groups::reset::{Target, named, wanted};
use crate::output::misuse;

/// The longest text that the tool's CSV leaves without quotes.
const UNQUOTED_MAX: usize = 24;

/// The offsets of a group.
type Offsets = BTreeMap<TopicPartition, i64>;

/// Runs it.
pub async fn run(
    arguments: &ConsumerGroups,
    admin: &Admin,
    groups: &[String],
) -> anyhow::Result<()> {
    let mut results = BTreeMap::new();
    for group in groups.iter().collect::<BTreeSet<_>>() {
        let state = match admin.describe_group(group).await {
            Ok(described) => described.state,
            // Offsets may be set before there is a group.
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => "Dead".to_owned(),
            Err(error) => return Err(error.into()),
        };
        if state != "Empty" && state != "Dead" {
            print_error(format_args!(
                "Assignments can only be reset if the group '{group}' is inactive, but the \
                 current state is {state}."
            ))?;
            results.insert(group, Offsets::new());
            continue;
        }
        let offsets = planned(arguments, admin, group).await?;
        if arguments.reset.execute {
            for (_, set) in admin.set_group_offsets(group, &offsets).await? {
                set?;
            }
        }
        results.insert(group, offsets);
    }
    match arguments.reset.export {
        true => export(&results, arguments.group.len() == 1),
        false => show(&results),
    }
}

/// Where a group shall go on.
async fn planned(
    arguments: &ConsumerGroups,
    admin: &Admin,
    group: &str,
) -> anyhow::Result<Offsets> {
    let flags = &arguments.reset;
    if let Some(file) = &flags.from_file {
        let single = arguments.group.len() == 1;
        let only = single.then_some(group);
        let offsets = plan_of(&std::fs::read_to_string(file)?, only)?.remove(group);
        return within(admin, offsets.unwrap_or_default()).await;
    }
    let target = target(flags)?;
    let committed = admin.group_offsets(group).await?;
    let committed: Offsets =
        committed.into_iter().map(|(name, committed)| (name, committed.offset)).collect();
    let names = if arguments.all_topics {
        committed.keys().cloned().collect()
    } else if arguments.topic.is_empty() {
        let scopes = "--all-topics, --topic";
        return Err(misuse(format!("One of the reset scopes should be defined: {scopes}.")));
    } else {
        named(admin, &arguments.topic, &committed).await?
    };
    let missing = |name: &&TopicPartition| !committed.contains_key(name);
    if let (Target::Shift(_), Some(name)) = (target, names.iter().find(missing)) {
        return Err(misuse(format!(
            "Cannot shift offset for partition {name} since there is no current committed offset"
        )));
    }
    wanted(admin, &names, (target, &committed)).await
}

fn target(flags: &ResetFlags) -> anyhow::Result<Target> {
    if flags.to_earliest {
        return Ok(Target::Earliest);
    }
    if flags.to_latest {
        return Ok(Target::Latest);
    }
    if flags.to_current {
        return Ok(Target::Current);
    }
    if let Some(offset) = flags.to_offset {
        return Ok(Target::Offset(offset));
    }
    if let Some(by) = flags.shift_by {
        return Ok(Target::Shift(by));
    }
    if let Some(text) = &flags.to_datetime {
        return time_of(text).map(Target::Time);
    }
    if let Some(text) = &flags.by_duration {
        return before(text, clock::wall_time_ms()).map(Target::Time);
    }
    Err(misuse(
        "Option '[reset-offsets]' requires one of the following scenarios: [to-offset], \
         [shift-by], [to-datetime], [by-duration], [to-earliest], [to-latest], [to-current], \
         [from-file]",
    ))
}

/// A date with a time, in UTC if it does not tell its zone; in milliseconds since 1970.
fn time_of(text: &str) -> anyhow::Result<i64> {
    let zoned = text.parse::<jiff::Timestamp>();
    let time = zoned.or_else(|_| format!("{text}Z").parse::<jiff::Timestamp>());
    let time = time.map_err(|error| misuse(format!("{text:?} is no date and time: {error}")))?;
    Ok(time.as_millisecond())
}

/// The time that lies so far before `now_ms`.
fn before(text: &str, now_ms: i64) -> anyhow::Result<i64> {
    let problem = |error: jiff::Error| misuse(format!("{text:?} is no duration: {error}"));
    let span: jiff::Span = text.parse().map_err(problem)?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let time_ms = span.to_duration(days).map_err(problem)?.as_millis();
    Ok(now_ms.saturating_sub(i64::try_from(time_ms)?))
}

/// The offsets of a file: lines of topic, partition and offset for the `only` group, or with the
/// group before them.
fn plan_of(text: &str, only: Option<&str>) -> anyhow::Result<BTreeMap<String, Offsets>> {
    let mut plan: BTreeMap<String, Offsets> = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let parts = line.split(',').map(|part| part.trim().trim_matches('"'));
        let parts: Vec<&str> = parts.collect();
        let (group, topic, partition, offset) = match (parts.as_slice(), only) {
            ([topic, partition, offset], Some(group)) => (group, *topic, partition, offset),
            ([group, topic, partition, offset], _) => (*group, *topic, partition, offset),
            _ => return Err(misuse(format!("{line:?} is not [group,]topic,partition,offset"))),
        };
        let problem = |_| misuse(format!("{line:?} has no numbers for partition and offset"));
        let name = TopicPartition::new(topic, partition.parse().map_err(problem)?);
        plan.entry(group.to_owned()).or_default().insert(name, offset.parse().map_err(problem)?);
    }
    Ok(plan)
}

/// The offsets, none of them before the first record or behind the last one.
async fn within(admin: &Admin, offsets: Offsets) -> anyhow::Result<Offsets> {
    let mut held = Offsets::new();
    for special in [EARLIEST_TIMESTAMP, LATEST_TIMESTAMP] {
        let asked: Vec<_> = offsets.keys().map(|name| (name.clone(), special)).collect();
        for (name, found) in admin.list_offsets(&asked, Isolation::ReadUncommitted).await {
            let limit = found?.offset.unwrap_or(0);
            let offset = held.get(&name).or(offsets.get(&name)).copied().unwrap_or(0);
            let is_first = special == EARLIEST_TIMESTAMP;
            held.insert(name, if is_first { offset.max(limit) } else { offset.min(limit) });
        }
    }
    Ok(held)
}

fn show(results: &BTreeMap<&String, Offsets>) -> anyhow::Result<()> {
    let group_width = results.keys().map(|group| group.len()).max().unwrap_or(0).max(15);
    let topics = results.values().flat_map(|offsets| offsets.keys());
    let topic_width = topics.map(|name| name.topic.len()).max().unwrap_or(0).max(15);
    if !results.is_empty() {
        print(format_args!(
            "\n{:<group_width$} {:<topic_width$} {:<10} NEW-OFFSET",
            "GROUP", "TOPIC", "PARTITION"
        ))?;
    }
    for (group, offsets) in results {
        for (name, offset) in offsets {
            let TopicPartition { topic, partition } = name;
            print(format_args!(
                "{group:<group_width$} {topic:<topic_width$} {partition:<10} {offset}"
            ))?;
        }
    }
    Ok(())
}

fn quoted(text: &str) -> String {
    if text.len() > UNQUOTED_MAX { format!("\"{text}\"") } else { text.to_owned() }
}

fn export(results: &BTreeMap<&String, Offsets>, is_single: bool) -> anyhow::Result<()> {
    for (group, offsets) in results {
        for (name, offset) in offsets {
            let (topic, partition) = (quoted(&name.topic), name.partition);
            match is_single {
                true => print(format_args!("{topic},{partition},{offset}"))?,
                false => print(format_args!("{},{topic},{partition},{offset}", quoted(group)))?,
            }
        }
    }
    print("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_and_durations_go_back() {
        assert_eq!(time_of("2023-11-14T22:13:20.000").unwrap(), 1_700_000_000_000);
        assert_eq!(time_of("2023-11-14T23:13:20.000+01:00").unwrap(), 1_700_000_000_000);
        assert!(time_of("yesterday").is_err());
        assert_eq!(before("P1DT1H", 90_000_000_000).unwrap(), 90_000_000_000 - 90_000_000);
        assert!(before("1 day or so", 0).is_err());
    }

    #[test]
    fn a_plan_names_the_group_unless_there_is_one_only() {
        let name = |topic| TopicPartition::new(topic, 1);
        let plan = plan_of("t,1,5\n\"u\",1,7\n", Some("g")).unwrap();
        assert_eq!(plan["g"], BTreeMap::from([(name("t"), 5), (name("u"), 7)]));
        let plan = plan_of("g,t,1,5\nh,t,1,6\n", None).unwrap();
        assert_eq!(plan["h"], BTreeMap::from([(name("t"), 6)]));
        assert!(plan_of("t,1,5", None).is_err() && plan_of("g,t,x,5", None).is_err());
    }
}
