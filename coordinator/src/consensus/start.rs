//! Starts a member's threads and stops them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ottla_common::shutdown::Shutdown;
use ottla_common::types::Uuid;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::apply::{Applier, ApplyQueue, ApplyRunner, ApplyThread};
use super::driver::{Driver, Letter, Network};
use super::helm::Helm;
use super::intake::Intake;
use super::load::{self, Loaded, is_alone};
use super::log_thread::{LogJob, LogReaders, LogRunner, LogThread, LogWriter};
use super::mailbox::Mailbox;
use super::network::{NetworkOptions, PeerNetwork};
use super::node::{Node, NodeConfig, Now};
use super::raft::RaftConfig;
#[cfg(feature = "seeded-bugs")]
use super::raft::seeded_bugs::SeededBug;
use super::snapshot_files::{Notes, SnapshotFiles, SnapshotJob, SnapshotThread};
use super::snapshotter::{SnapshotReaders, Snapshotter};
use super::{Ensemble, EnsembleOptions, Parts, Progress, StartError};
use crate::watches::LiveState;

/// How many proposals without an outcome are so few that each is looked at by who proposes it. More
/// are better taken together.
const ATTENDED_MAX: usize = 4;

/// How long a leader that stops waits for its successor.
const TRANSFER_PATIENCE: Duration = Duration::from_millis(1_000);

/// How long the connections to other members may take to end.
const PEERS_PATIENCE: Duration = Duration::from_secs(2);

impl Ensemble {
    /// Reads the member's state from its folder and takes part from then on, until `shutdown` is
    /// told to stop, which waits until all is on disk. If the disk fails, the member tells
    /// `shutdown` itself. Blocks while it reads, and a member without others until it leads; must
    /// be called within a tokio runtime.
    pub fn start(
        options: EnsembleOptions,
        shutdown: &Shutdown,
    ) -> Result<(Self, Arc<LiveState>), StartError> {
        Self::start_with_others(options, None, shutdown)
    }

    /// Likewise, with a way to the other members.
    pub fn start_with_others(
        options: EnsembleOptions,
        network: Option<NetworkOptions>,
        shutdown: &Shutdown,
    ) -> Result<(Self, Arc<LiveState>), StartError> {
        let loaded = load::load(&options)?;
        let membership = loaded.restored.membership.clone();
        let is_alone = loaded.restored.entries.is_empty()
            && is_alone(&membership, options.member_id)
            && membership.is_voter(options.member_id);
        let mailbox = Mailbox::new();
        let peers = Shutdown::new();
        let who = (options.member_id, options.membership.clone());
        let cluster_id = loaded.restored.hard_state.cluster_id;
        let ends = (mailbox.clone(), &peers);
        let network = network
            .map(|network| PeerNetwork::start(who, cluster_id, network, ends))
            .map(|network| Box::new(network) as Box<dyn Network>);
        let chance = Chance::new()?;
        let built = build((&options, chance, true), loaded, (mailbox.clone(), network));
        let (driver, ensemble) = built.start().map_err(StartError::Thread)?;
        let (ended, mut end) = oneshot::channel();
        driver.begin();
        let helm = Arc::new(Helm::new(driver));
        let attendant = Arc::downgrade(&helm);
        mailbox.attended_by(move |is_free| {
            attendant.upgrade().is_some_and(|helm| helm.attend(is_free))
        });
        let thread = std::thread::Builder::new().name("coordinator-raft".to_owned());
        let running = thread.spawn(move || {
            helm.run();
            let _ = ended.send(());
        });
        running.map_err(StartError::Thread)?;
        if is_alone && !ensemble.until_it_leads(&mut end) {
            let failure = ensemble.progress.failure.borrow().clone();
            return Err(StartError::Failed(failure.unwrap_or_else(|| Arc::from("it stopped"))));
        }
        let live = Arc::clone(&ensemble.live);
        shutdown.spawn(stop_with(shutdown.clone(), (ensemble.clone(), mailbox), (peers, end)));
        Ok((ensemble, live))
    }

    /// Waits until a member without others has applied the first entry of its term. False if it
    /// ends instead.
    fn until_it_leads(&self, end: &mut oneshot::Receiver<()>) -> bool {
        const STEP: Duration = Duration::from_millis(1);
        while !self.keeper.is_in_force() {
            if end.try_recv() != Err(oneshot::error::TryRecvError::Empty) {
                return false;
            }
            std::thread::sleep(STEP);
        }
        true
    }
}

/// What is different each time a member starts.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    /// Tells this process from others of the member: random, below 2^62.
    pub run: u64,
    /// Decides the election timeouts.
    pub seed: u64,
    /// The ensemble's id, if this member becomes its first leader.
    pub new_cluster_id: Uuid,
    /// What is done wrong, to see whether tests find it.
    #[cfg(feature = "seeded-bugs")]
    pub seeded_bug: Option<SeededBug>,
}

impl Chance {
    fn new() -> Result<Self, StartError> {
        Ok(Self {
            run: getrandom::u64()? >> 2,
            seed: getrandom::u64()?,
            new_cluster_id: Uuid::random()?,
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: None,
        })
    }

    fn raft(self, options: &EnsembleOptions) -> RaftConfig {
        RaftConfig {
            election_timeout_ms: options.election_timeout_ms,
            heartbeat_interval_ms: options.heartbeat_interval_ms,
            kept_entries_size_max: options.kept_entries_size_max,
            append_size_max: options.append_size_max,
            seed: self.seed,
            new_cluster_id: self.new_cluster_id,
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: self.seeded_bug,
            ..RaftConfig::new(options.member_id)
        }
    }
}

/// All parts of a member, before its threads run.
pub struct Built {
    pub driver: Driver,
    pub ensemble: Ensemble,
    pub log: LogRunner,
    pub applier: ApplyRunner,
    pub files: SnapshotFiles,
    pub log_jobs: Mailbox<LogJob>,
    pub snapshot_jobs: Mailbox<SnapshotJob>,
}

impl Built {
    /// Starts all threads but the driver's.
    fn start(self) -> std::io::Result<(Driver, Ensemble)> {
        let Self { mut driver, ensemble, log, applier, files, .. } = self;
        driver.log.start(log)?;
        driver.applier.start(applier)?;
        driver.snapshots.start(files)?;
        Ok((driver, ensemble))
    }
}

/// What has a driver look at what waits: at once where that is little.
fn wakes(mailbox: Mailbox<Letter>) -> impl Fn(usize) + Send + Sync {
    move |waiting| match waiting {
        0..=ATTENDED_MAX => mailbox.wake_and_attend(),
        _ => mailbox.wake(),
    }
}

/// Makes all parts of a member.
pub fn build(
    (options, chance, has_threads): (&EnsembleOptions, Chance, bool),
    loaded: Loaded,
    (mailbox, network): (Mailbox<Letter>, Option<Box<dyn Network>>),
) -> Built {
    let Loaded { live, applied, restored, wal, snapshots, snapshot_index, lock } = loaded;
    let (member_id, clock) = (options.member_id, options.clock.clone());
    let (live, keeper) = (Arc::new(live), Arc::clone(&options.keeper));
    let progress = Arc::new(Progress::new(Arc::clone(&options.metrics)));
    progress.snapshot_index.store(snapshot_index, Ordering::Relaxed);
    let intake = Arc::new(Intake::new(member_id, chance.run, wakes(mailbox.clone())));
    let snapshots = Arc::new(Mutex::new(snapshots));
    let (log_jobs, snapshot_jobs) = (Mailbox::new(), Mailbox::new());
    let queue = ApplyQueue::default();
    let readers = SnapshotReaders {
        progress: Arc::clone(&progress),
        log: log_jobs.clone(),
        files: snapshot_jobs.clone(),
    };
    let _ = progress.applier.set(queue.clone());
    let mut snapshotter =
        Snapshotter::new(options, Arc::clone(&snapshots), readers, snapshot_index);
    let notes = Notes { folder: options.folder.clone(), files: options.files.clone() };
    let files = SnapshotFiles {
        notes: notes.clone(),
        snapshots: Arc::clone(&snapshots),
        driver: mailbox.clone(),
        applier: queue.clone(),
        log: log_jobs.clone(),
        waiting: Vec::new(),
        sending: None,
        receiving: None,
    };
    let applier = Applier {
        member_id,
        live: Arc::clone(&live),
        keeper: Arc::clone(&keeper),
        intake: Arc::clone(&intake),
        clock: clock.clone(),
        term: applied.term,
        membership: applied.membership,
    };
    let writer = LogWriter::new(wal, (options.folder.clone(), options.files.clone()), lock);
    let mut writer = writer.with_progress(Arc::clone(&progress));
    if !has_threads {
        (writer, snapshotter) = (writer.without_threads(), snapshotter.without_threads());
    }
    let readers = LogReaders { driver: mailbox.clone(), applier: queue.clone(), snapshots };
    let config = NodeConfig {
        patience_ms: options.patience_ms,
        ..NodeConfig::new(chance.raft(options), chance.run)
    };
    let tick = Duration::from_millis(config.tick_ms);
    let now = Now { monotonic_ms: clock.monotonic_ms(), wall_time_ms: clock.wall_time_ms() };
    let (log, log_runner) = LogThread::new(writer, log_jobs.clone(), readers);
    let told = (mailbox.clone(), snapshotter, notes);
    let (applier, apply_runner) = ApplyThread::new(applier, queue, told);
    let driver = Driver {
        node: Node::new(config, restored, Arc::clone(&keeper), now),
        mailbox,
        intake: Arc::clone(&intake),
        log,
        applier,
        snapshots: SnapshotThread::new(snapshot_jobs.clone()),
        network,
        progress: Arc::clone(&progress),
        clock: clock.clone(),
        tick,
        is_alone: false,
        applies_soon: false,
        told_of_awaited: std::time::Instant::now(),
    };
    let ensemble = Ensemble::new(Parts { member_id, intake, progress, live, keeper, clock });
    let (log, applier) = (log_runner, apply_runner);
    Built { driver, ensemble, log, applier, files, log_jobs, snapshot_jobs }
}

/// Stops the driver with the member, and the member with its disk. Ends when all is on disk.
async fn stop_with(
    shutdown: Shutdown,
    (ensemble, mailbox): (Ensemble, Mailbox<Letter>),
    (peers, mut end): (Shutdown, oneshot::Receiver<()>),
) {
    let mut failure = ensemble.failure();
    let has_panicked = tokio::select! {
        () = shutdown.stopped() => false,
        () = async { failure.wait_for(Option::is_some).await.map(drop).unwrap_or(()) } => false,
        // It ends by itself only in a panic.
        _ = &mut end => true,
    };
    shutdown.stop();
    if has_panicked {
        tracing::error!("the thread of the consensus has panicked");
        ensemble.progress.ended();
        ensemble.intake.close();
        peers.finish(PEERS_PATIENCE).await;
        return;
    }
    let member_id = ensemble.member_id;
    if ensemble.is_leader() && ensemble.transfer_leadership(None).await.is_ok() {
        // So that the others need not first find out that nobody leads.
        let mut leadership = ensemble.leadership();
        let another = leadership.wait_for(|now| now.leader_id.is_some_and(|id| id != member_id));
        let _ = tokio::time::timeout(TRANSFER_PATIENCE, another).await;
    }
    mailbox.put(Letter::Stop);
    let _ = (&mut end).await;
    peers.finish(PEERS_PATIENCE).await;
}
