//! `kafka-consumer-groups --describe`: offsets, members, states.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use ottla_common::kafka::admin::{Admin, CommittedOffset, GroupDescription, GroupMember};
use ottla_common::kafka::cluster::{Isolation, LATEST_TIMESTAMP};
use ottla_common::types::TopicPartition;

use super::{ConsumerGroups, print, print_error};

/// Runs it.
pub async fn run(
    arguments: &ConsumerGroups,
    admin: &Admin,
    groups: &[String],
) -> anyhow::Result<()> {
    let groups: BTreeSet<&String> = groups.iter().collect();
    let mut described = Vec::new();
    for group in groups {
        described.push(admin.describe_group(group).await?);
    }
    for group in described {
        if arguments.members {
            members(&group, arguments.verbose)?;
        } else if arguments.state.is_some() {
            state(admin, &group, arguments.verbose)?;
        } else {
            offsets(admin, &group, arguments.verbose).await?;
        }
    }
    Ok(())
}

/// Says what is to be known of a group's state. Whether there is something to print.
fn announce(group: &GroupDescription, rows: usize) -> anyhow::Result<bool> {
    let id = &group.id;
    match group.state.as_str() {
        "Dead" => print_error(format_args!("Consumer group '{id}' does not exist."))?,
        "Empty" => eprintln!("\nConsumer group '{id}' has no active members."),
        "Stable" => {}
        _ => eprintln!("\nWarning: Consumer group '{id}' is rebalancing."),
    }
    Ok(group.state != "Dead" && rows > 0)
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Lines of columns that are at least so wide; none is filled up where that is 0.
fn columns(rows: &[Vec<String>], least: &[usize]) -> Vec<String> {
    let width = |column: usize, least: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(String::len).max().unwrap_or(0).max(least);
        if least == 0 { 0 } else { widest }
    };
    let widths: Vec<usize> =
        least.iter().enumerate().map(|(column, least)| width(column, *least)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join(" ")
    };
    rows.iter().map(line).collect()
}

fn names(head: &[&str]) -> Vec<String> {
    head.iter().map(ToString::to_string).collect()
}

/// A partition that is read or was committed.
struct Row<'a> {
    name: &'a TopicPartition,
    reader: Option<&'a GroupMember>,
}

async fn offsets(admin: &Admin, group: &GroupDescription, verbose: bool) -> anyhow::Result<()> {
    let committed = admin.group_offsets(&group.id).await?;
    let mut readers: Vec<&GroupMember> = group.members.iter().collect();
    readers.sort_by_key(|member| std::cmp::Reverse(member.assignment.len()));
    let mut rows = Vec::new();
    for reader in readers {
        let mut names: Vec<&TopicPartition> = reader.assignment.iter().collect();
        names.sort();
        rows.extend(names.into_iter().map(|name| Row { name, reader: Some(reader) }));
    }
    let read: BTreeSet<&TopicPartition> = rows.iter().map(|row| row.name).collect();
    let unread = committed.keys().filter(|name| !read.contains(name));
    rows.extend(unread.map(|name| Row { name, reader: None }));
    let wanted: Vec<_> = rows.iter().map(|row| (row.name.clone(), LATEST_TIMESTAMP)).collect();
    let mut ends = BTreeMap::new();
    for (name, end) in admin.list_offsets(&wanted, Isolation::ReadUncommitted).await {
        if let Some(end) = end.ok().and_then(|end| end.offset) {
            ends.insert(name, end);
        }
    }
    if !announce(group, rows.len())? {
        return Ok(());
    }
    let mut head = names(&[
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    let mut least = vec![15, 15, 10, 15, 15, 15, 15, 15, 0];
    if verbose {
        head.insert(3, "LEADER-EPOCH".to_owned());
        least.insert(3, 15);
    }
    let mut table = vec![head];
    for row in &rows {
        let at = committed.get(row.name);
        let mut cells = offset_cells(&group.id, row, at.map(|at| at.offset), &ends);
        if verbose {
            cells.insert(3, or_dash(at.and_then(|at: &CommittedOffset| at.leader_epoch)));
        }
        table.push(cells);
    }
    print("")?;
    columns(&table, &least).iter().try_for_each(print)
}

fn offset_cells(
    group: &str,
    row: &Row<'_>,
    offset: Option<i64>,
    ends: &BTreeMap<TopicPartition, i64>,
) -> Vec<String> {
    let end = ends.get(row.name).copied();
    let lag = offset.zip(end).map(|(offset, end)| end - offset);
    vec![
        group.to_owned(),
        row.name.topic.to_string(),
        row.name.partition.to_string(),
        or_dash(offset),
        or_dash(end),
        or_dash(lag),
        or_dash(row.reader.map(|member| &member.id)),
        or_dash(row.reader.map(|member| &member.host)),
        or_dash(row.reader.map(|member| &member.client_id)),
    ]
}

/// `topic:0,1;topic2:0`.
fn assignment_text(assignment: &[TopicPartition]) -> String {
    let mut topics: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for name in assignment {
        topics.entry(&name.topic).or_default().insert(name.partition);
    }
    let topics = topics.into_iter().map(|(topic, numbers)| {
        let numbers: Vec<String> = numbers.into_iter().map(|number| number.to_string()).collect();
        format!("{topic}:{}", numbers.join(","))
    });
    let text = topics.collect::<Vec<_>>().join(";");
    if text.is_empty() { "-".to_owned() } else { text }
}

fn members(group: &GroupDescription, verbose: bool) -> anyhow::Result<()> {
    announce(group, group.members.len())?;
    let with_instance = group.members.iter().any(|member| member.instance_id.is_some());
    let has = |upgraded| group.members.iter().any(|member| member.is_upgraded == Some(upgraded));
    let is_mixed = has(true) && has(false);
    let mut head = names(&["GROUP", "CONSUMER-ID", "HOST", "CLIENT-ID", "#PARTITIONS"]);
    let mut least = vec![15, 15, 15, 15, 15];
    if with_instance {
        head.insert(2, "GROUP-INSTANCE-ID".to_owned());
        least.insert(2, 17);
    }
    if verbose {
        let more = ["CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT"];
        head.extend(names(&more));
        least.extend([15, 20, 15, 20]);
        if is_mixed {
            head.push("UPGRADED".to_owned());
            least.push(0);
        }
    }
    let mut table = vec![head];
    for member in &group.members {
        let mut cells = vec![
            group.id.clone(),
            member.id.clone(),
            member.host.clone(),
            member.client_id.clone(),
            member.assignment.len().to_string(),
        ];
        if with_instance {
            cells.insert(2, member.instance_id.clone().unwrap_or_default());
        }
        if verbose {
            cells.push(or_dash(member.epoch));
            cells.push(assignment_text(&member.assignment));
            cells.push(or_dash(group.assignment_epoch));
            cells.push(assignment_text(&member.target));
            if is_mixed {
                cells.push(or_dash(member.is_upgraded));
            }
        }
        table.push(cells);
    }
    print("")?;
    let ending = if verbose { "" } else { " " };
    columns(&table, &least).iter().try_for_each(|line| print(format_args!("{line}{ending}")))
}

fn state(admin: &Admin, group: &GroupDescription, verbose: bool) -> anyhow::Result<()> {
    if !announce(group, 1)? {
        return Ok(());
    }
    let metadata = admin.cluster().metadata();
    let node = metadata.brokers.get(&group.coordinator);
    let address = node.map(|node| format!("{}:{}", node.host, node.port)).unwrap_or_default();
    let assignor = Some(&group.assignor).filter(|name| !name.is_empty());
    let mut head =
        names(&["GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS"]);
    let mut cells = vec![
        group.id.clone(),
        format!("{address}  ({})", group.coordinator),
        or_dash(assignor),
        group.state.clone(),
        group.members.len().to_string(),
    ];
    let mut least = vec![15, 25, 20, 20, 0];
    if verbose {
        head.splice(4..4, names(&["GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"]));
        cells.splice(4..4, [or_dash(group.epoch), or_dash(group.assignment_epoch)]);
        least.splice(4..4, [15, 25]);
    }
    print("")?;
    columns(&[head, cells], &least).iter().try_for_each(print)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_grouped_by_topic() {
        let names = [("b", 2), ("a", 10), ("a", 9)];
        let names = names.map(|(topic, partition)| TopicPartition::new(topic, partition));
        assert_eq!(assignment_text(&names), "a:9,10;b:2");
        assert_eq!(assignment_text(&[]), "-");
    }

    #[test]
    fn columns_grow_with_what_is_in_them() {
        let rows = [names(&["A", "B", "C"]), names(&["long", "b", "last"])];
        assert_eq!(columns(&rows, &[2, 3, 0]), ["A    B   C", "long b   last"]);
    }
}
