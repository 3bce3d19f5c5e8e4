//! A member that goes on only when it is told to, for whoever has no threads: the simulator. It is
//! made of the same parts as one with threads; what those would do are [`Job`]s here.

use std::sync::Arc;

use ottla_common::types::{MemberId, Uuid};
use parking_lot::Mutex;

use super::apply::{ApplyJob, ApplyRunner};
use super::driver::{Driver, Letter, Network};
use super::load;
use super::log_thread::{LogJob, LogRunner};
use super::mailbox::Mailbox;
use super::messages::PeerMessage;
use super::node::{Input, Node};
use super::raft::{Entry, Membership, Restored};
use super::snapshot_files::{SnapshotFiles, SnapshotJob};
pub use super::start::Chance;
use super::start::{Built, build};
use super::{Ensemble, EnsembleOptions, StartError};
use crate::watches::LiveState;

/// See the module.
pub struct Stepped {
    driver: Driver,
    ensemble: Ensemble,
    log: LogRunner,
    applier: ApplyRunner,
    files: SnapshotFiles,
    log_jobs: Mailbox<LogJob>,
    snapshot_jobs: Mailbox<SnapshotJob>,
    sent: Sent,
    has_failed: bool,
}

impl std::fmt::Debug for Stepped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepped").field("node", &self.driver.node).finish_non_exhaustive()
    }
}

/// Something to be done beside the consensus. Those of one thread are to be done in the order in
/// which they are given out.
#[derive(Debug)]
pub struct Job(Kind);

#[derive(Debug)]
enum Kind {
    /// By the thread of the log.
    Log(LogJob),
    /// By the applying thread.
    Apply(ApplyJob),
    /// By the thread of the snapshots' files.
    Files(SnapshotJob),
}

type Sent = Arc<Mutex<Vec<(MemberId, PeerMessage)>>>;

/// Keeps what is sent until it is taken.
struct Kept(Sent);

impl Network for Kept {
    fn send(&self, to: MemberId, message: PeerMessage) {
        self.0.lock().push((to, message));
    }

    fn set_members(&mut self, _membership: &Membership) {}

    fn set_cluster_id(&self, _cluster_id: Option<Uuid>) {}
}

impl Stepped {
    /// Reads the member's state from its folder. Returns with it what the core goes on from.
    ///
    /// # Errors
    /// If the member cannot start.
    pub fn start(
        options: &EnsembleOptions,
        chance: Chance,
    ) -> Result<(Self, Restored), StartError> {
        let loaded = load::load(options)?;
        let (restored, sent) = (loaded.restored.clone(), Sent::default());
        let network: Box<dyn Network> = Box::new(Kept(Arc::clone(&sent)));
        let built = build((options, chance, false), loaded, (Mailbox::new(), Some(network)));
        let Built { driver, ensemble, log, applier, files, log_jobs, snapshot_jobs } = built;
        let stepped = Self {
            driver,
            ensemble,
            log,
            applier,
            files,
            log_jobs,
            snapshot_jobs,
            sent,
            has_failed: false,
        };
        Ok((stepped, restored))
    }

    /// The way to the ensemble.
    pub fn ensemble(&self) -> Ensemble {
        self.ensemble.clone()
    }

    /// The applied state.
    pub fn live(&self) -> &Arc<LiveState> {
        &self.ensemble.live
    }

    /// The member's part in the consensus.
    pub fn node(&self) -> &Node {
        &self.driver.node
    }

    /// Something happened.
    pub fn input(&self, input: Input) {
        self.driver.mailbox.put(Letter::Input(input));
    }

    /// Another member said something.
    pub fn hear(&self, from: MemberId, message: PeerMessage) {
        self.driver.mailbox.put(Letter::Peer(from, message, None));
    }

    /// Goes on with what has happened since.
    ///
    /// # Errors
    /// If the member cannot go on; it must not be stepped again.
    pub fn step(&mut self, is_tick: bool) -> Result<(), String> {
        let letters = self.driver.mailbox.take_now();
        if self.driver.round(letters, is_tick) {
            let failure = self.ensemble.progress.failure.borrow().clone();
            return Err(failure.map_or_else(String::new, |failure| failure.to_string()));
        }
        Ok(())
    }

    /// What the member wants done.
    pub fn take_jobs(&self) -> Vec<Job> {
        let log = self.log_jobs.take_now().into_iter().map(Kind::Log);
        let apply = self.driver.applier.queue().take_now().into_iter().map(Kind::Apply);
        let files = self.snapshot_jobs.take_now().into_iter().map(Kind::Files);
        log.chain(apply).chain(files).map(Job).collect()
    }

    /// What the member sends to others.
    pub fn take_sent(&self) -> Vec<(MemberId, PeerMessage)> {
        std::mem::take(&mut *self.sent.lock())
    }

    /// Does what the member wanted done, jobs of one kind as one round of their thread. The member
    /// learns of it at its next step.
    pub fn carry_out(&mut self, jobs: Vec<Job>) {
        let (mut log, mut apply, mut files) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            match job.0 {
                Kind::Log(job) => log.push(job),
                Kind::Apply(job) => apply.push(job),
                Kind::Files(job) => files.push(job),
            }
        }
        let goes_on = self.log.round(log) && self.applier.round(apply) && self.files.round(files);
        self.has_failed |= !goes_on;
    }

    /// Whether a job could not be done, so that the member ends with its next step.
    pub fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl Job {
    /// Whether it is the applying thread's; the others need the disk.
    pub fn applies(&self) -> bool {
        matches!(self.0, Kind::Apply(_))
    }

    /// The entries that it makes durable.
    pub fn to_persist(&self) -> &[Entry] {
        match &self.0 {
            Kind::Log(LogJob::Persist(persist)) => &persist.entries,
            _ => &[],
        }
    }

    /// The entries that it applies.
    pub fn to_apply(&self) -> &[Entry] {
        match &self.0 {
            Kind::Apply(ApplyJob::Entries(entries)) => entries,
            _ => &[],
        }
    }

    /// The entry (index and term) behind which it lets the log begin anew.
    pub fn begins_behind(&self) -> Option<(u64, u64)> {
        match &self.0 {
            Kind::Log(LogJob::Install(meta, _)) => Some((meta.index, meta.term)),
            _ => None,
        }
    }

    /// The entry whose state it puts in the place of the member's.
    pub fn takes_over(&self) -> Option<u64> {
        match &self.0 {
            Kind::Apply(ApplyJob::Install(meta, _)) => Some(meta.index),
            _ => None,
        }
    }
}
