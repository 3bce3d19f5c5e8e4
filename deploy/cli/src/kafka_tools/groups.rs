//! `kafka-groups`.

use clap::Parser;
use ottla_common::kafka::admin::{Admin, ListedGroup};

use super::CommonArguments;
use crate::output::{Output, misuse};

/// This tool helps to list groups of all types.
#[derive(Debug, Parser)]
#[command(name = "kafka-groups", version)]
pub struct Groups {
    #[command(flatten)]
    common: CommonArguments,
    /// List the groups.
    #[arg(long)]
    list: bool,
    /// Filter the groups based on group type: classic, consumer, share and streams.
    #[arg(long, conflicts_with_all = ["consumer", "share", "streams"])]
    group_type: Option<String>,
    /// Filter the groups based on protocol type.
    #[arg(long, conflicts_with_all = ["consumer", "share", "streams"])]
    protocol: Option<String>,
    /// Filter the groups to show all kinds of consumer groups, including classic and simple
    /// consumer groups.
    #[arg(long, conflicts_with_all = ["share", "streams"])]
    consumer: bool,
    /// Filter the groups to show share groups.
    #[arg(long, conflicts_with = "streams")]
    share: bool,
    /// Filter the groups to show streams groups.
    #[arg(long)]
    streams: bool,
}

impl Groups {
    fn shows(&self, group: &ListedGroup) -> bool {
        let is = |kind: &str| group.kind == kind;
        let of_protocol = self.protocol.as_ref().is_none_or(|name| *name == group.protocol_type);
        match &self.group_type {
            Some(kind) => is(&kind.to_lowercase()) && of_protocol,
            None if self.consumer => reads(group),
            None if self.share => is("share"),
            None if self.streams => is("streams"),
            None => of_protocol,
        }
    }
}

/// Whether the group is a consumer group of either protocol, or one that only commits offsets.
pub fn reads(group: &ListedGroup) -> bool {
    matches!(group.protocol_type.as_str(), "consumer" | "") || group.kind == "consumer"
}

/// A group's type as the tools write it: `Classic`.
pub fn kind_text(kind: &str) -> String {
    let mut letters = kind.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Runs the tool.
pub async fn run(arguments: &Groups) -> anyhow::Result<()> {
    if !arguments.list {
        return Err(misuse("Command must include exactly one action: --list."));
    }
    let kinds = ["classic", "consumer", "share", "streams"];
    let known = |kind: &String| kinds.contains(&kind.to_lowercase().as_str());
    if arguments.group_type.as_ref().is_some_and(|kind| !known(kind)) {
        return Err(misuse("--group-type must be a valid group type."));
    }
    let admin = Admin::new(arguments.common.cluster().await?);
    let listed = admin.list_groups().await?.into_iter().filter(|group| arguments.shows(group));
    let rows = listed.map(|group| [group.id, kind_text(&group.kind), group.protocol_type]);
    let rows: Vec<[String; 3]> = rows.collect();
    let width = rows.iter().flatten().map(String::len).max().unwrap_or(0).max(20);
    let output = Output { json: false };
    output.line(format_args!("{:<width$} {:<width$} {:<width$}", "GROUP", "TYPE", "PROTOCOL"))?;
    for [id, kind, protocol] in rows {
        output.line(format_args!("{id:<width$} {kind:<width$} {protocol:<width$} "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_choose_by_type_and_protocol() {
        let group = |kind: &str, protocol: &str| ListedGroup {
            id: "g".to_owned(),
            kind: kind.to_owned(),
            protocol_type: protocol.to_owned(),
            state: String::new(),
        };
        let shows = |flags: &[&str], kind, protocol| {
            let flags = [&["kafka-groups", "--list"], flags].concat();
            Groups::try_parse_from(flags).unwrap().shows(&group(kind, protocol))
        };
        assert!(shows(&[], "share", "share") && shows(&["--consumer"], "classic", ""));
        assert!(!shows(&["--consumer"], "classic", "connect"));
        assert!(shows(&["--group-type", "Classic", "--protocol", "connect"], "classic", "connect"));
        assert!(!shows(&["--protocol", "consumer"], "classic", "connect"));
        assert!(
            Groups::try_parse_from(["kafka-groups", "--list", "--share", "--streams"]).is_err()
        );
        assert_eq!(kind_text("classic"), "Classic");
    }
}
