//! What is built from the tree's operations again and again: an elected leader, a compare-and-set
//! loop, and a multi whose lost answer is read back.

use bytes::Bytes;

use super::client::{Client, ClientError};
use super::protocol::{CoordinationError, CreateMode, Op, OpResult, Stat};
use super::subscription::{Subscription, SubscriptionEvent};
use crate::types::Zxid;

/// An election: whoever makes the ephemeral node at a path leads until the node goes.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    client: Client,
    path: String,
}

/// A leadership that was won.
#[derive(Clone, Debug)]
pub struct Leadership {
    client: Client,
    /// The node's czxid: tells this leadership from every other. A guard of writes
    /// ([`Op::Check`] with it) fails once the leadership is over.
    pub czxid: Zxid,
    path: String,
}

impl LeaderElection {
    /// An election over the node at `path`, whose parent is there.
    pub fn new(client: &Client, path: &str) -> Self {
        Self { client: client.clone(), path: path.to_owned() }
    }

    /// Waits until this client leads. `data` is what the node says of the leader.
    pub async fn campaign(&self, data: Vec<u8>) -> Result<Leadership, ClientError> {
        let mut changes = Subscription::open(&self.client, &self.path);
        loop {
            match self.client.create(&self.path, data.clone(), CreateMode::Ephemeral).await {
                Ok((_, stat)) => return Ok(self.won(stat)),
                Err(ClientError::Refused(CoordinationError::NodeExists { .. })) => {
                    if let Some(leadership) = self.already_won().await? {
                        return Ok(leadership);
                    }
                }
                Err(ClientError::Unknown) => continue,
                Err(error) => return Err(error),
            }
            self.wait_until_free(&mut changes).await?;
        }
    }

    /// Whether an attempt whose answer never came had succeeded.
    async fn already_won(&self) -> Result<Option<Leadership>, ClientError> {
        let found = self.client.exists(&self.path).await?;
        let own = found.filter(|stat| Some(stat.ephemeral_owner) == self.client.session_id());
        Ok(own.map(|stat| self.won(stat)))
    }

    fn won(&self, stat: Stat) -> Leadership {
        Leadership { client: self.client.clone(), czxid: stat.czxid, path: self.path.clone() }
    }

    async fn wait_until_free(&self, changes: &mut Subscription) -> Result<(), ClientError> {
        while self.client.exists(&self.path).await?.is_some() {
            match changes.next().await {
                Some(SubscriptionEvent::Snapshot { .. } | SubscriptionEvent::Changes { .. }) => {}
                None => return Err(ClientError::Closed),
            }
        }
        Ok(())
    }
}

impl Leadership {
    /// The guard that makes a multi fail once this leadership is over.
    pub fn guard(&self) -> Op {
        Op::Check { path: self.path.clone(), version: None, czxid: Some(self.czxid) }
    }

    /// Completes when the leadership is over, as far as this client can know.
    pub async fn lost(&self) {
        let mut changes = Subscription::open(&self.client, &self.path);
        loop {
            match self.client.exists(&self.path).await {
                Ok(Some(stat)) if stat.czxid == self.czxid => {}
                Err(error) if error.refusal().is_none() && error != ClientError::Closed => {}
                _ => return,
            }
            if changes.next().await.is_none() {
                return;
            }
        }
    }

    /// Gives the leadership up.
    pub async fn resign(self) -> Result<(), ClientError> {
        let delete = Op::Delete { path: self.path.clone(), version: None };
        self.client.multi(vec![self.guard(), delete]).await.map(drop)
    }
}

/// Replaces a node's data by what `change` makes of it, as often as another writer was faster.
/// `change` returns `None` to leave the data as they are. Returns the stat after it.
///
/// A write whose answer never came is tried again on what is there then, so `change` must know its
/// own work when it sees it.
pub async fn compare_and_set(
    client: &Client,
    path: &str,
    mut change: impl FnMut(&Bytes) -> Option<Vec<u8>>,
) -> Result<Stat, ClientError> {
    loop {
        let found = client.get(path).await?;
        let missing = || CoordinationError::NoNode { path: path.to_owned() };
        let (data, stat) = found.ok_or_else(missing)?;
        let Some(changed) = change(&data) else { return Ok(stat) };
        match client.set(path, changed, Some(stat.version)).await {
            Ok(stat) => return Ok(stat),
            Err(
                ClientError::Refused(CoordinationError::BadVersion { .. }) | ClientError::Unknown,
            ) => {}
            Err(error) => return Err(error),
        }
    }
}

/// How a guarded multi ended.
#[derive(Clone, Debug, PartialEq)]
pub enum GuardedOutcome {
    /// It was done, and this is what it gave.
    Done(Vec<OpResult>),
    /// Its answer never came, and what is there now shows that it was done.
    FoundDone,
    /// It was not done: a guard or a version did not hold.
    LostRace(CoordinationError),
}

/// Does all of `ops` or none. If the answer never comes, `is_done` reads back whether it was done;
/// if it was not, it is done again, which is safe as long as `ops` are guarded by versions.
pub async fn guarded_multi<F>(
    client: &Client,
    ops: Vec<Op>,
    mut is_done: impl FnMut() -> F,
) -> Result<GuardedOutcome, ClientError>
where
    F: Future<Output = Result<bool, ClientError>>,
{
    loop {
        match client.multi(ops.clone()).await {
            Ok(results) => return Ok(GuardedOutcome::Done(results)),
            Err(ClientError::Unknown) => {
                if is_done().await? {
                    return Ok(GuardedOutcome::FoundDone);
                }
            }
            Err(ClientError::Refused(CoordinationError::MultiFailed { error, .. })) => {
                return Ok(GuardedOutcome::LostRace(*error));
            }
            Err(error) => return Err(error),
        }
    }
}
