//! `ottla topics reassign`, and what `kafka-reassign-partitions` does with the same files: replicas
//! that move to other brokers, as a JSON file says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ottla_broker::controller::placement::{Candidate, Demand, place};
use ottla_common::kafka::admin::{Admin, OngoingReassignment};
use ottla_common::kafka::client::ClientError;
use ottla_common::types::{BrokerId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::{describe, log_dirs, throttles};
use crate::output::{Output, misuse};

/// Time between two looks at how far moves have come.
const PROGRESS_PAUSE: Duration = Duration::from_millis(500);

/// How long replicas may take to be there, so that they can be moved to their directories.
pub const DIRECTORIES_PATIENCE: Duration = Duration::from_secs(10);

/// Where replicas are, or are to be: the file that Kafka's tool reads and writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The format of the file.
    version: i32,
    /// The partitions.
    pub partitions: Vec<Placed>,
}

/// The replicas of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// For each replica the log directory of its broker, or `any`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_dirs: Vec<String>,
}

impl Placed {
    /// These replicas in any directory.
    pub fn new(partition: &TopicPartition, replicas: &[BrokerId]) -> Self {
        Self {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            replicas: replicas.iter().map(|broker| broker.0).collect(),
            log_dirs: vec!["any".to_owned(); replicas.len()],
        }
    }

    /// Which partition it is.
    pub fn name(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }

    fn brokers(&self) -> Vec<BrokerId> {
        self.replicas.iter().copied().map(BrokerId).collect()
    }
}

impl Plan {
    /// A plan for these partitions.
    pub fn new(partitions: Vec<Placed>) -> Self {
        Self { version: 1, partitions }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or names a partition twice.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        let plan: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no reassignment", file.display()))?;
        let mut seen = BTreeSet::new();
        for placed in &plan.partitions {
            if !seen.insert(placed.name()) {
                return Err(misuse(format!("{} stands in the file twice", placed.name())));
            }
        }
        log_dirs::wanted(&plan)?;
        Ok(plan)
    }

    /// The plan as one line of JSON.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)?)
    }

    /// The names of its topics.
    pub fn topics(&self) -> Vec<String> {
        let names: BTreeSet<&str> = self.partitions.iter().map(|p| p.topic.as_str()).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

/// How far the move of one partition has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is under way.
    Moving,
    /// The replicas are where they are to be.
    Done,
    /// No move is under way, and the replicas are elsewhere.
    Elsewhere(Vec<BrokerId>),
}

/// Flags of `ottla topics reassign`.
#[derive(Args, Debug)]
pub struct ReassignArguments {
    /// Propose where the replicas of these topics could be, on the brokers of --brokers; print it
    /// as the file that the other actions take.
    #[arg(long, group = "action", num_args = 1.., value_name = "TOPIC")]
    generate: Vec<String>,
    /// Begin to move replicas as this file says; print where they are now, to go back.
    #[arg(long, group = "action", value_name = "FILE")]
    execute: Option<PathBuf>,
    /// Print how far it has come.
    #[arg(long, group = "action", value_name = "FILE")]
    verify: Option<PathBuf>,
    /// Call off what is under way.
    #[arg(long, group = "action", value_name = "FILE")]
    cancel: Option<PathBuf>,
    /// The brokers to propose.
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    brokers: Vec<i32>,
    /// With --execute: wait until it is done, and print how far it has come.
    #[arg(long)]
    wait: bool,
    /// With --execute: the most bytes a second that each broker sends, and fetches, of what moves.
    /// --verify when it is done, --cancel and --wait take the limit away.
    #[arg(long, value_name = "BYTES_PER_SECOND", requires = "execute")]
    throttle: Option<u64>,
    /// With --verify, --cancel or --wait: leave such a limit in force.
    #[arg(long)]
    preserve_throttles: bool,
}

/// Runs `ottla topics reassign`.
pub async fn run(
    output: Output,
    admin: &Admin,
    arguments: &ReassignArguments,
) -> anyhow::Result<()> {
    if let Some(file) = &arguments.execute {
        return execute(output, admin, (arguments, &Plan::read(file)?)).await;
    }
    if let Some(file) = &arguments.verify {
        let plan = Plan::read(file)?;
        print_progress(output, admin, &plan).await?;
        return clear_throttles(output, admin, (arguments, &plan)).await;
    }
    if let Some(file) = &arguments.cancel {
        let plan = Plan::read(file)?;
        let cancelled = cancel(admin, &plan).await?;
        output.done(format_args!("{} moves are called off", cancelled.len()))?;
        return clear_throttles(output, admin, (arguments, &plan)).await;
    }
    if arguments.generate.is_empty() || arguments.brokers.is_empty() {
        let actions = "--generate TOPIC… --brokers IDS, --execute, --verify or --cancel FILE";
        return Err(misuse(format!("what is to be done: {actions}?")));
    }
    let proposed = propose(admin, &arguments.generate, (&arguments.brokers, true)).await?;
    output.line(proposed.json()?)
}

async fn execute(
    output: Output,
    admin: &Admin,
    (arguments, plan): (&ReassignArguments, &Plan),
) -> anyhow::Result<()> {
    let present = present(admin, plan).await?;
    output.line(present.json()?)?;
    if let Some(bytes_per_second) = arguments.throttle {
        throttles::set(admin, (plan, &present), bytes_per_second).await?;
    }
    start(admin, plan).await?;
    log_dirs::begin_all(admin, &log_dirs::wanted(plan)?, DIRECTORIES_PATIENCE).await?;
    if !arguments.wait {
        return Ok(());
    }
    wait(output, admin, plan).await?;
    clear_throttles(output, admin, (arguments, plan)).await
}

/// Takes the limits away once nothing moves any more, unless they are to stay.
async fn clear_throttles(
    output: Output,
    admin: &Admin,
    (arguments, plan): (&ReassignArguments, &Plan),
) -> anyhow::Result<()> {
    if arguments.preserve_throttles || is_moving(admin).await? {
        return Ok(());
    }
    let brokers = throttles::clear(admin, plan).await?;
    output.done(format_args!("no limits on brokers {} any more", list(&brokers)))
}

/// Whether any move is under way: brokers have one limit for all of them.
///
/// # Errors
/// If the cluster does not answer.
pub async fn is_moving(admin: &Admin) -> Result<bool, ClientError> {
    Ok(!moving(admin).await?.is_empty())
}

async fn print_progress(output: Output, admin: &Admin, plan: &Plan) -> anyhow::Result<()> {
    output.rows(
        ["topic", "partition", "progress"],
        progress(admin, plan).await?.into_iter().map(|(name, progress)| {
            let text = match progress {
                Progress::Moving => "moving".to_owned(),
                Progress::Done => "done".to_owned(),
                Progress::Elsewhere(replicas) => format!("not moving, on {}", list(&replicas)),
            };
            [name.topic.to_string().into(), name.partition.into(), text.into()]
        }),
    )?;
    let moves = log_dirs::progress(admin, &log_dirs::wanted(plan)?).await?;
    moves.into_iter().try_for_each(|line| output.done(line))
}

/// Numbers of brokers with commas between them.
pub fn list(brokers: &[BrokerId]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Waits until the moves are done, and tells how many are whenever that changes.
///
/// # Errors
/// If the cluster does not answer, or a move was called off.
pub async fn wait(output: Output, admin: &Admin, plan: &Plan) -> anyhow::Result<()> {
    let mut told = None;
    loop {
        let progress = progress(admin, plan).await?;
        let count = |wanted: &Progress| progress.iter().filter(|(_, p)| p == wanted).count();
        let (done, moving) = (count(&Progress::Done), count(&Progress::Moving));
        if told != Some(done) {
            output.done(format_args!("{done} of {} partitions have moved", progress.len()))?;
            told = Some(done);
        }
        if moving == 0 {
            let elsewhere = progress.len() - done;
            anyhow::ensure!(elsewhere == 0, "{elsewhere} partitions were moved otherwise");
            return Ok(());
        }
        tokio::time::sleep(PROGRESS_PAUSE).await;
    }
}

/// Where the partitions of a plan are now.
///
/// # Errors
/// If a topic is not there.
pub async fn present(admin: &Admin, plan: &Plan) -> Result<Plan, ClientError> {
    let wanted: BTreeSet<TopicPartition> = plan.partitions.iter().map(Placed::name).collect();
    let mut partitions = all_of(admin, &plan.topics()).await?;
    partitions.retain(|placed| wanted.contains(&placed.name()));
    Ok(Plan::new(partitions))
}

/// Where all partitions of these topics are now, or of all topics if none is named.
///
/// # Errors
/// If a topic is not there.
pub async fn all_of(admin: &Admin, topics: &[String]) -> Result<Vec<Placed>, ClientError> {
    let mut partitions = Vec::new();
    for topic in describe(admin, topics).await? {
        let name = topic.name.as_deref().unwrap_or_default();
        for partition in &topic.partitions {
            let name = TopicPartition::new(name, partition.partition_index);
            let replicas: Vec<_> = partition.replica_nodes.iter().copied().map(BrokerId).collect();
            partitions.push(Placed::new(&name, &replicas));
        }
    }
    Ok(partitions)
}

/// Where the replicas of these topics could be, spread over these brokers and their racks.
///
/// # Errors
/// If a topic or a broker is not there, or there are fewer brokers than replicas.
pub async fn propose(
    admin: &Admin,
    topics: &[String],
    (brokers, by_rack): (&[i32], bool),
) -> anyhow::Result<Plan> {
    let known = admin.describe_cluster(false).await?.brokers;
    let mut candidates = Vec::new();
    for id in brokers {
        let found = known.iter().find(|broker| broker.broker_id == *id);
        let broker = found.with_context(|| format!("there is no broker {id}"))?;
        let rack = broker.rack.as_ref().filter(|_| by_rack).map(|rack| rack.to_string());
        candidates.push(Candidate { broker_id: BrokerId(*id), rack });
    }
    let mut partitions = Vec::new();
    for topic in describe(admin, topics).await? {
        let name = topic.name.as_deref().unwrap_or_default();
        let replication_factor =
            topic.partitions.first().map_or(1, |first| first.replica_nodes.len());
        let demand = Demand {
            first_partition: 0,
            partitions: topic.partitions.len(),
            replication_factor,
            start: fastrand::usize(..1 << 16),
        };
        let placed = place(&candidates, demand).with_context(|| {
            format!("{name} has {replication_factor} replicas, which takes as many brokers")
        })?;
        for (number, replicas) in (0_i32..).zip(placed) {
            partitions.push(Placed::new(&TopicPartition::new(name, number), &replicas));
        }
    }
    Ok(Plan::new(partitions))
}

/// Begins the moves of a plan.
///
/// # Errors
/// What the cluster says of the first that it refuses.
pub async fn start(admin: &Admin, plan: &Plan) -> Result<(), ClientError> {
    let moves = plan.partitions.iter().map(|placed| (placed.name(), Some(placed.brokers())));
    let moves: BTreeMap<_, _> = moves.collect();
    let results = admin.alter_partition_reassignments(&moves).await?;
    results.into_iter().try_for_each(|(_, result)| result)
}

/// Calls off those moves of a plan that are under way. Returns which these were.
///
/// # Errors
/// What the cluster says of the first that it refuses.
pub async fn cancel(admin: &Admin, plan: &Plan) -> Result<Vec<TopicPartition>, ClientError> {
    let moving = moving(admin).await?;
    let names = plan.partitions.iter().map(Placed::name);
    let active: Vec<TopicPartition> = names.filter(|name| moving.contains_key(name)).collect();
    let moves = active.iter().map(|name| (name.clone(), None)).collect();
    let results = admin.alter_partition_reassignments(&moves).await?;
    results.into_iter().try_for_each(|(_, result)| result)?;
    Ok(active)
}

async fn moving(
    admin: &Admin,
) -> Result<BTreeMap<TopicPartition, OngoingReassignment>, ClientError> {
    let moving = admin.list_partition_reassignments().await?;
    Ok(moving.into_iter().map(|each| (each.partition.clone(), each)).collect())
}

/// How far the moves of a plan have come.
///
/// # Errors
/// If a topic is not there.
pub async fn progress(
    admin: &Admin,
    plan: &Plan,
) -> Result<Vec<(TopicPartition, Progress)>, ClientError> {
    let moving = moving(admin).await?;
    let present: BTreeMap<_, _> = all_of(admin, &plan.topics())
        .await?
        .into_iter()
        .map(|placed| (placed.name(), placed.brokers()))
        .collect();
    let told = plan.partitions.iter().map(|placed| {
        let name = placed.name();
        let progress = match present.get(&name) {
            _ if moving.contains_key(&name) => Progress::Moving,
            Some(replicas) if *replicas == placed.brokers() => Progress::Done,
            other => Progress::Elsewhere(other.cloned().unwrap_or_default()),
        };
        (name, progress)
    });
    Ok(told.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_written_as_kafka_writes_it_and_read_with_less() {
        let name = TopicPartition::new("orders", 0);
        let plan = Plan::new(vec![Placed::new(&name, &[BrokerId(1), BrokerId(2)])]);
        let text = "{\"version\":1,\"partitions\":[{\"topic\":\"orders\",\"partition\":0,\
                    \"replicas\":[1,2],\"log_dirs\":[\"any\",\"any\"]}]}";
        assert_eq!(plan.json().unwrap(), text);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text.replace(",\"log_dirs\":[\"any\",\"any\"]", "")).unwrap();
        let read = Plan::read(file.path()).unwrap();
        assert_eq!(read.partitions[0].name(), name);
        let twice =
            text.replace("[{", "[{\"topic\":\"orders\",\"partition\":0,\"replicas\":[1]},{");
        std::fs::write(file.path(), twice).unwrap();
        assert!(Plan::read(file.path()).is_err(), "a partition stands there twice");
    }
}
