//! `kafka-consumer-groups`.

mod describe;
mod reset;

use std::fmt::Display;
use std::path::PathBuf;

use clap::Parser;
use ottla_common::kafka::admin::{Admin, ListedGroup};
use ottla_common::kafka::client::ClientError;
use ottla_common::types::TopicPartition;

use super::groups::{kind_text, reads};
use super::{CommonArguments, exception_as_told, exception_of, words_of};
use crate::commands::groups::reset::named;
use crate::output::{Misuse, Output, misuse};

/// The states that groups of consumers can be in.
const STATES: [&str; 7] = [
    "Empty",
    "Dead",
    "Stable",
    "PreparingRebalance",
    "CompletingRebalance",
    "Assigning",
    "Reconciling",
];

/// This tool helps to list all consumer groups, describe a consumer group, delete consumer group
/// info, or reset consumer group offsets.
#[derive(Debug, Parser)]
#[command(name = "kafka-consumer-groups", version)]
pub struct ConsumerGroups {
    #[command(flatten)]
    common: CommonArguments,
    /// List all consumer groups.
    #[arg(long, group = "action")]
    list: bool,
    /// Describe consumer groups and list their lag.
    #[arg(long, group = "action")]
    describe: bool,
    /// Delete consumer groups.
    #[arg(long, group = "action", conflicts_with = "topic")]
    delete: bool,
    /// Reset offsets of consumer groups.
    #[arg(long, group = "action")]
    reset_offsets: bool,
    /// Delete offsets of a consumer group.
    #[arg(long, group = "action", requires_all = ["group", "topic"])]
    delete_offsets: bool,
    /// Validate that the syntax of the regular expression is valid.
    #[arg(long, group = "action", value_name = "REGEX")]
    validate_regex: Option<String>,
    /// The consumer group to act on; can be given more than once.
    #[arg(long, conflicts_with_all = ["all_groups", "list"])]
    group: Vec<String>,
    /// Apply to all consumer groups.
    #[arg(long)]
    all_groups: bool,
    /// A topic, or topic:0,1,2 for some of its partitions; can be given more than once.
    #[arg(long, conflicts_with_all = ["list", "describe"])]
    topic: Vec<String>,
    /// Consider all topics assigned to a group when offsets are reset.
    #[arg(long)]
    all_topics: bool,
    /// With --describe: the members.
    #[arg(long, conflicts_with_all = ["offsets", "state"])]
    members: bool,
    /// With --describe: partitions and their lag; the default.
    #[arg(long, conflicts_with = "state")]
    offsets: bool,
    /// With --describe: the state. With --list: the state of all groups, or groups in some states.
    #[arg(long, num_args = 0..=1, default_missing_value = "", value_name = "STATES")]
    state: Option<String>,
    /// With --list: the type of all groups, or groups of some types.
    #[arg(long = "type", num_args = 0..=1, default_missing_value = "", value_name = "TYPES")]
    kind: Option<String>,
    /// With --describe: more columns.
    #[arg(long)]
    verbose: bool,
    /// Milliseconds that the command may take.
    #[arg(long, default_value_t = 30_000)]
    timeout: u64,
    #[command(flatten)]
    reset: ResetFlags,
}

/// What says how offsets are reset.
#[derive(Clone, Debug, clap::Args)]
struct ResetFlags {
    /// Only show results without executing changes.
    #[arg(long, conflicts_with = "execute")]
    dry_run: bool,
    /// Execute the reset.
    #[arg(long)]
    execute: bool,
    /// Export the results as CSV.
    #[arg(long)]
    export: bool,
    /// Reset offsets to earliest offset.
    #[arg(long, group = "scenario")]
    to_earliest: bool,
    /// Reset offsets to latest offset.
    #[arg(long, group = "scenario")]
    to_latest: bool,
    /// Reset offsets to current offset.
    #[arg(long, group = "scenario")]
    to_current: bool,
    /// Reset offsets to a specific offset.
    #[arg(long, group = "scenario", value_name = "OFFSET", allow_hyphen_values = true)]
    to_offset: Option<i64>,
    /// Reset offsets shifting current offset by n, positive or negative.
    #[arg(long, group = "scenario", value_name = "N", allow_hyphen_values = true)]
    shift_by: Option<i64>,
    /// Reset offsets to offset from datetime, YYYY-MM-DDThh:mm:ss.sss.
    #[arg(long, group = "scenario", value_name = "DATETIME")]
    to_datetime: Option<String>,
    /// Reset offsets to offset by duration from current timestamp, PnDTnHnMnS.
    #[arg(long, group = "scenario", value_name = "DURATION")]
    by_duration: Option<String>,
    /// Reset offsets to values defined in a CSV file.
    #[arg(long, group = "scenario", value_name = "FILE")]
    from_file: Option<PathBuf>,
}

fn print(line: impl Display) -> anyhow::Result<()> {
    Output { json: false }.line(line)
}

/// Prints an error as the tool does, which then ends as if all were well.
fn print_error(message: impl Display) -> anyhow::Result<()> {
    print(format_args!("\nError: {message}"))
}

/// Runs the tool.
pub async fn run(arguments: &ConsumerGroups) -> anyhow::Result<()> {
    check(arguments)?;
    if let Some(regex) = &arguments.validate_regex {
        return match regex::Regex::new(regex) {
            Ok(_) => print(format_args!("The regular expression `{regex}` is valid.")),
            Err(error) => {
                print(format_args!("The regular expression `{regex}` is invalid: {error}."))
            }
        };
    }
    let admin = Admin::new(arguments.common.cluster().await?);
    let act = act(arguments, &admin);
    let patience = std::time::Duration::from_millis(arguments.timeout);
    let done = match tokio::time::timeout(patience, act).await {
        Ok(done) => done,
        Err(_) => Err(anyhow::anyhow!("it took longer than {} ms", arguments.timeout)),
    };
    let Err(error) = done else { return Ok(()) };
    if error.downcast_ref::<Misuse>().is_some() {
        return Err(error);
    }
    let message = match error.downcast_ref::<ClientError>() {
        Some(error) => exception_as_told(error),
        None => error.to_string(),
    };
    print_error(format_args!("Executing consumer group command failed due to {message}"))
}

async fn act(arguments: &ConsumerGroups, admin: &Admin) -> anyhow::Result<()> {
    if arguments.list {
        return list(arguments, admin).await;
    }
    if arguments.delete_offsets {
        let group = arguments.group.first().cloned().unwrap_or_default();
        return delete_offsets(admin, &group, &arguments.topic).await;
    }
    let groups = match arguments.all_groups {
        true => all(admin).await?.into_iter().map(|group| group.id).collect(),
        false => arguments.group.clone(),
    };
    if arguments.describe {
        describe::run(arguments, admin, &groups).await
    } else if arguments.delete {
        delete(admin, &groups).await
    } else {
        reset::run(arguments, admin, &groups).await
    }
}

/// What the flags alone tell to be wrong.
fn check(arguments: &ConsumerGroups) -> anyhow::Result<()> {
    let ConsumerGroups { list, describe, delete, reset_offsets, delete_offsets, .. } = arguments;
    let actions = [*list, *describe, *delete, *reset_offsets, *delete_offsets];
    if !actions.contains(&true) && arguments.validate_regex.is_none() {
        return Err(misuse(
            "Command must include exactly one action: --list, --describe, --delete, \
             --reset-offsets, --delete-offsets, --validate-regex",
        ));
    }
    for (name, given) in
        [("describe", describe), ("delete", delete), ("reset-offsets", reset_offsets)]
    {
        if *given && arguments.group.is_empty() && !arguments.all_groups {
            let takes = "takes one of these options: [group], [all-groups]";
            return Err(misuse(format!("Option [{name}] {takes}")));
        }
    }
    for (name, given, needs, there) in [
        ("members", arguments.members, "[describe]", *describe),
        ("offsets", arguments.offsets, "[describe]", *describe),
        ("verbose", arguments.verbose, "[describe]", *describe),
        ("state", arguments.state.is_some(), "[describe] or [list]", *describe || *list),
        ("type", arguments.kind.is_some(), "[list]", *list),
    ] {
        if given && !there {
            return Err(misuse(format!("Option [{name}] goes with {needs}")));
        }
    }
    if *describe && arguments.state.as_ref().is_some_and(|value| !value.is_empty()) {
        return Err(misuse("Option [describe] does not take a value for [state]"));
    }
    if *reset_offsets && !arguments.reset.dry_run && !arguments.reset.execute {
        eprintln!(
            "WARN: No action will be performed as the --execute option is missing. Add --dry-run \
             to say so explicitly."
        );
    }
    Ok(())
}

async fn all(admin: &Admin) -> anyhow::Result<Vec<ListedGroup>> {
    Ok(admin.list_groups().await?.into_iter().filter(reads).collect())
}

/// The values of a list with commas, lower case; each must be one of those that there are.
fn chosen(list: &str, name: &str, valid: &[&str]) -> anyhow::Result<Vec<String>> {
    let values = list.split(',').map(|value| value.trim().to_lowercase());
    let values: Vec<String> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().all(|value| valid.iter().any(|known| known.to_lowercase() == *value)) {
        return Ok(values);
    }
    let valid = valid.join(", ");
    Err(misuse(format!("Invalid {name} list '{list}'. Valid {name}s are: {valid}")))
}

async fn list(arguments: &ConsumerGroups, admin: &Admin) -> anyhow::Result<()> {
    let states = chosen(arguments.state.as_deref().unwrap_or(""), "state", &STATES)?;
    let kinds = ["Classic", "Consumer"];
    let kinds = chosen(arguments.kind.as_deref().unwrap_or(""), "type", &kinds)?;
    let mut groups = all(admin).await?;
    groups.retain(|group| {
        (states.is_empty() || states.contains(&group.state.to_lowercase()))
            && (kinds.is_empty() || kinds.contains(&group.kind))
    });
    let (with_kind, with_state) = (arguments.kind.is_some(), arguments.state.is_some());
    if !with_kind && !with_state {
        return groups.iter().try_for_each(|group| print(&group.id));
    }
    let width = groups.iter().map(|group| group.id.len()).max().unwrap_or(0).max(15) + 10;
    let line = |id: &str, kind: &str, state: &str| {
        let mut line = format!("{id:<width$}");
        for (_, column) in [(with_kind, kind), (with_state, state)].iter().filter(|(with, _)| *with)
        {
            line += &format!(" {column:<20}");
        }
        print(line)
    };
    line("GROUP", "TYPE", "STATE")?;
    groups.iter().try_for_each(|group| line(&group.id, &kind_text(&group.kind), &group.state))
}

async fn delete(admin: &Admin, groups: &[String]) -> anyhow::Result<()> {
    let (mut gone, mut failed) = (Vec::new(), Vec::new());
    for group in groups {
        match admin.delete_group(group).await {
            Ok(()) => gone.push(format!("'{group}'")),
            Err(error) => failed.push((group, error)),
        }
    }
    let gone = gone.join(", ");
    if failed.is_empty() {
        return print(format_args!(
            "Deletion of requested consumer groups ({gone}) was successful."
        ));
    }
    print_error("Deletion of some consumer groups failed:")?;
    for (group, error) in failed {
        let error = exception_of(&error);
        print(format_args!("* Group '{group}' could not be deleted due to: {error}"))?;
    }
    if gone.is_empty() {
        return Ok(());
    }
    print(format_args!("\nThese consumer groups were deleted successfully: {gone}"))
}

async fn delete_offsets(admin: &Admin, group: &str, topics: &[String]) -> anyhow::Result<()> {
    let mut partitions = Vec::new();
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let failure = |error: &ClientError| format!("Error: {}", exception_of(error));
    for topic in topics {
        match named(admin, std::slice::from_ref(topic), &Default::default()).await {
            Ok(names) => partitions.extend(names),
            Err(error) => match error.downcast_ref::<ClientError>() {
                Some(error) => rows.push((topic.clone(), "-".to_owned(), failure(error))),
                None => return Err(error),
            },
        }
    }
    let mut some_failed = !rows.is_empty();
    let row = |name: &TopicPartition, status: String| {
        (name.topic.to_string(), name.partition.to_string(), status)
    };
    match admin.delete_group_offsets(group, &partitions).await {
        Ok(results) => {
            for (name, result) in results {
                some_failed |= result.is_err();
                let status = result.map_or_else(|error| failure(&error), |()| "Successful".into());
                rows.push(row(&name, status));
            }
            match some_failed {
                true => print_error(
                    "Encountered some partition-level error, see the follow-up details.",
                )?,
                false => print(format_args!(
                    "Request succeeded for deleting offsets from group {group}."
                ))?,
            }
        }
        Err(error) => {
            print_error(words_of(&error))?;
            rows.extend(partitions.iter().map(|name| row(name, failure(&error))));
        }
    }
    let width = rows.iter().map(|(topic, ..)| topic.len()).max().unwrap_or(0).max(15);
    print(format_args!("\n{:<width$} {:<10} {:<15}", "TOPIC", "PARTITION", "STATUS"))?;
    for (topic, partition, status) in rows {
        print(format_args!("{topic:<width$} {partition:<10} {status:<15}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &str) -> Result<ConsumerGroups, clap::Error> {
        let flags = format!("kafka-consumer-groups --bootstrap-server a:1 {flags}");
        ConsumerGroups::try_parse_from(flags.split_whitespace())
    }

    #[test]
    fn flags_that_belong_together_are_taken() {
        for flags in [
            "--list --state --type classic,consumer",
            "--describe --group g --group h --members --verbose",
            "--describe --all-groups --state --verbose",
            "--describe --offsets --group g --timeout 1000",
            "--reset-offsets --group g --topic t:0,1 --shift-by -5 --execute",
            "--reset-offsets --all-groups --all-topics --to-datetime 2026-01-01T00:00:00.000",
            "--reset-offsets --group g --from-file f --dry-run --export",
            "--delete --group g",
            "--delete-offsets --group g --topic t",
            "--validate-regex a.*",
        ] {
            let parsed = parse(flags).unwrap();
            assert!(check(&parsed).is_ok(), "{flags}");
        }
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused() {
        for flags in [
            "--list --describe --group g",
            "--describe --group g --members --state",
            "--describe --group g --all-groups",
            "--reset-offsets --group g --topic t --to-earliest --to-latest",
            "--reset-offsets --group g --topic t --to-earliest --execute --dry-run",
            "--delete-offsets --group g",
            "--delete --group g --topic t",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
        for flags in ["", "--describe", "--describe --group g --state stable", "--list --members"] {
            assert!(check(&parse(flags).unwrap()).is_err(), "{flags}");
        }
        assert!(chosen("stable, empty", "state", &STATES).is_ok());
        assert!(chosen("sleepy", "state", &STATES).is_err());
    }
}
