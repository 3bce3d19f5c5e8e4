//! `ottla consume --group`: as a member of a consumer group, which commits what was printed.
//!
//! A record is printed before its offset is committed, so one that was printed may come again after
//! a crash, and none is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::pin::pin;
use std::time::Duration;

use ottla_common::kafka::admin::Admin;
use ottla_common::kafka::client::{ClientError, ClientOptions, Connection};
use ottla_common::kafka::cluster::Cluster;
use ottla_common::kafka::consumer::{Consumer, ConsumerOptions, OffsetReset, Position};
use ottla_common::kafka::membership::{Beat, GroupProtocol, Membership, MembershipOptions};
use ottla_common::kafka::messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use ottla_common::shutdown::signalled;
use ottla_common::types::TopicPartition;
use tokio::time::Instant;

use super::{Finished, Reading, Shown, Start, print};
use crate::output::misuse;

/// How often is committed while records come.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long leaving may take.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);

/// A member that reads.
struct Reader {
    cluster: Cluster,
    group: String,
    member: Membership,
    consumer: Consumer,
    /// Where to begin in partitions without a committed offset.
    start: Position,
    /// Of each partition that is read, the record that comes next.
    next: BTreeMap<TopicPartition, i64>,
    /// Of these, what the group knows.
    committed: BTreeMap<TopicPartition, i64>,
    committed_at: Instant,
    heartbeat_at: Instant,
}

/// Reads records as a member of `group`, and prints each with `write`, until a signal comes or the
/// reading is done.
///
/// # Errors
/// If the group cannot be joined, a partition cannot be read, or the output cannot be written.
pub async fn read(
    cluster: &Cluster,
    reading: &Reading,
    (group, protocol): (&str, Option<GroupProtocol>),
    write: impl FnMut(&mut dyn Write, &Shown<'_>) -> std::io::Result<()>,
) -> anyhow::Result<Finished> {
    let Start::At(start) = reading.start else {
        return Err(misuse("--offset -N does not go with --group"));
    };
    let connection = connect(cluster, group).await?;
    let offers = connection.version_of::<ConsumerGroupHeartbeatRequest>(i16::MAX).is_ok();
    let usual = if offers { GroupProtocol::Consumer } else { GroupProtocol::Classic };
    let topics = reading.topics.clone();
    let options = MembershipOptions::new(group, topics, protocol.unwrap_or(usual));
    let consumer = ConsumerOptions {
        isolation: reading.isolation,
        reset: OffsetReset::Earliest,
        ..ConsumerOptions::default()
    };
    let mut reader = Reader {
        cluster: cluster.clone(),
        group: group.to_owned(),
        member: Membership::new(cluster.clone(), connection, options),
        consumer: Consumer::new(cluster.clone(), consumer),
        start,
        next: BTreeMap::new(),
        committed: BTreeMap::new(),
        committed_at: Instant::now(),
        heartbeat_at: Instant::now(),
    };
    let mut finished = Finished { records: 0, timed_out: false };
    let done = {
        let reading = pin!(reader.run(reading, &mut finished, write));
        tokio::select! {
            done = reading => done,
            stopped = signalled() => stopped.map_err(Into::into),
        }
    };
    // Whatever ended it, the others of the group shall not wait for this member.
    let left = tokio::time::timeout(LEAVE_PATIENCE, reader.leave()).await;
    done?;
    if let Ok(left) = left {
        left?;
    }
    Ok(finished)
}

/// A connection to the broker that keeps the group.
async fn connect(cluster: &Cluster, group: &str) -> Result<Connection, ClientError> {
    let admin = Admin::new(cluster.clone());
    // A JoinGroup is answered when all others have joined, which may take their rebalance timeout.
    let request_timeout_ms = 330_000;
    let options = ClientOptions { request_timeout_ms, ..cluster.options().client.clone() };
    cluster
        .retry(async || {
            let found = admin.group_coordinator(group).await?;
            let metadata = cluster.metadata();
            let node = metadata.brokers.get(&found);
            let node = node.ok_or(ClientError::UnknownBroker { broker: found.0 })?;
            Connection::connect(&node.address(), &options).await
        })
        .await
}

impl Reader {
    async fn run(
        &mut self,
        reading: &Reading,
        finished: &mut Finished,
        mut write: impl FnMut(&mut dyn Write, &Shown<'_>) -> std::io::Result<()>,
    ) -> anyhow::Result<()> {
        let mut to = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        self.join().await?;
        let mut last_record = Instant::now();
        let left_max = reading.records_max.unwrap_or(u64::MAX);
        while finished.records < left_max {
            if Instant::now() >= self.heartbeat_at {
                self.heartbeat().await?;
            }
            let patience = super::poll_patience(reading, last_record);
            let fetched = self.consumer.poll(patience).await?;
            for partition in &fetched {
                let left = left_max - finished.records;
                let (printed, next) = print(partition, (None, left), &mut to, &mut write)?;
                finished.records += printed;
                self.next.insert(partition.partition.clone(), next);
            }
            to.flush()?;
            if !fetched.is_empty() {
                last_record = Instant::now();
            } else if reading.patience.is_some_and(|patience| last_record.elapsed() >= patience) {
                finished.timed_out = true;
                break;
            }
            if self.committed_at.elapsed() >= COMMIT_INTERVAL {
                self.commit().await?;
            }
        }
        Ok(())
    }

    async fn join(&mut self) -> anyhow::Result<()> {
        self.release(&BTreeSet::new());
        while let Err(error) = self.member.join().await {
            self.recover(error).await?;
        }
        self.take().await
    }

    async fn heartbeat(&mut self) -> anyhow::Result<()> {
        loop {
            match self.member.heartbeat().await {
                Ok(Beat::Steady) => break,
                Ok(Beat::Changed) => self.take().await?,
                Ok(Beat::Rejoin) => {
                    self.commit().await?;
                    return self.join().await;
                }
                Err(error) => self.recover(error).await?,
            }
        }
        self.plan_heartbeat();
        Ok(())
    }

    fn plan_heartbeat(&mut self) {
        let interval = Duration::from_millis(self.member.heartbeat_interval_ms());
        self.heartbeat_at = Instant::now() + interval;
    }

    /// Goes over to the assignment that the member has now.
    async fn take(&mut self) -> anyhow::Result<()> {
        self.commit().await?;
        let assigned: BTreeSet<TopicPartition> = self.member.assignment().iter().cloned().collect();
        self.release(&assigned);
        if assigned.iter().any(|name| !self.next.contains_key(name)) {
            let committed = loop {
                match self.member.committed().await {
                    Ok(committed) => break committed,
                    Err(error) => self.recover(error).await?,
                }
            };
            let news: Vec<&TopicPartition> =
                assigned.iter().filter(|name| !self.is_read(name)).collect();
            for name in news {
                let known = committed.get(name).copied();
                let position = known.map_or(self.start, Position::Offset);
                self.consumer.assign(name.clone(), position);
            }
        }
        // What was let go of is told, and heartbeats that came due meanwhile are sent.
        self.heartbeat_at = Instant::now();
        Ok(())
    }

    fn is_read(&self, name: &TopicPartition) -> bool {
        self.consumer.assignment().any(|read| read == name)
    }

    /// Stops reading all partitions but these.
    fn release(&mut self, kept: &BTreeSet<TopicPartition>) {
        let read: Vec<TopicPartition> = self.consumer.assignment().cloned().collect();
        for name in read.iter().filter(|name| !kept.contains(name)) {
            self.consumer.unassign(name);
        }
        self.next.retain(|name, _| kept.contains(name));
        self.committed.retain(|name, _| kept.contains(name));
    }

    /// Commits what was printed. A group that shares out anew refuses it from members that are
    /// behind: then the records come again, here or elsewhere.
    async fn commit(&mut self) -> anyhow::Result<()> {
        self.committed_at = Instant::now();
        let is_new =
            |(name, next): &(&TopicPartition, &i64)| self.committed.get(*name) != Some(*next);
        let news = self.next.iter().filter(is_new).map(|(name, next)| (name.clone(), *next));
        let news: BTreeMap<TopicPartition, i64> = news.collect();
        if news.is_empty() {
            return Ok(());
        }
        match self.member.commit(&news).await {
            Ok(()) => self.committed.extend(news),
            Err(error) if error.is_retriable() => self.recover(error).await?,
            Err(error) if error.code().is_some() => {
                tracing::debug!(%error, "offsets were not committed");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Finds the broker that keeps the group now, if that may help.
    async fn recover(&mut self, error: ClientError) -> anyhow::Result<()> {
        if !error.is_retriable() {
            return Err(error.into());
        }
        tracing::debug!(%error, "looking for the group's coordinator");
        tokio::time::sleep(self.cluster.backoff().next(fastrand::f64())).await;
        let connection = connect(&self.cluster, &self.group).await?;
        self.member.reconnect(connection);
        Ok(())
    }

    async fn leave(&mut self) -> anyhow::Result<()> {
        self.commit().await?;
        Ok(self.member.leave().await?)
    }
}
