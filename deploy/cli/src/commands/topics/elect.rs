//! `ottla topics elect`: leaders elected because somebody asks for it.

use clap::Args;
use ottla_common::kafka::admin::{Admin, ElectionType};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::TopicPartition;

use super::describe;
use crate::output::{Output, misuse};

/// Flags of `ottla topics elect`.
#[derive(Args, Debug)]
pub struct ElectArguments {
    /// Topics, or single partitions as TOPIC:PARTITION; all topics if none is named.
    partitions: Vec<String>,
    /// Let any replica that lives lead a partition that nobody leads. Records may be lost.
    #[arg(long)]
    unclean: bool,
}

/// Runs `ottla topics elect`.
pub async fn run(output: Output, admin: &Admin, arguments: &ElectArguments) -> anyhow::Result<()> {
    if arguments.unclean && arguments.partitions.is_empty() {
        return Err(misuse("an unclean election loses records: name the topics or partitions"));
    }
    let partitions = chosen(admin, &arguments.partitions).await?;
    let election = if arguments.unclean { ElectionType::Unclean } else { ElectionType::Preferred };
    let some = (!arguments.partitions.is_empty()).then_some(partitions.as_slice());
    let mut failed = 0_usize;
    let mut rows: Vec<[serde_json::Value; 3]> = Vec::new();
    for (partition, result) in admin.elect_leaders(election, some).await? {
        let told = match result {
            Ok(()) => "elected".to_owned(),
            Err(error) if error.code() == Some(ErrorCode::ElectionNotNeeded) => {
                "as it was".to_owned()
            }
            Err(error) => {
                failed += 1;
                error.to_string()
            }
        };
        rows.push([partition.topic.to_string().into(), partition.partition.into(), told.into()]);
    }
    output.rows(["topic", "partition", "leader"], rows)?;
    anyhow::ensure!(failed == 0, "{failed} leaders could not be elected");
    Ok(())
}

async fn chosen(admin: &Admin, texts: &[String]) -> anyhow::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for text in texts {
        let single = text.rsplit_once(':').and_then(|(topic, number)| {
            Some(TopicPartition::new(topic, number.parse::<i32>().ok()?))
        });
        if let Some(partition) = single {
            partitions.push(partition);
            continue;
        }
        for topic in describe(admin, std::slice::from_ref(text)).await? {
            let numbers = topic.partitions.iter().map(|partition| partition.partition_index);
            partitions.extend(numbers.map(|number| TopicPartition::new(text.as_str(), number)));
        }
    }
    Ok(partitions)
}
