//! One member: its machine with disk and clocks, and while it runs, its process. The process is the
//! product's, run step by step; what its threads would do is done here when the world says so.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use fastrand::Rng;
use ottla_common::types::{MemberId, Uuid};
use ottla_coordinator::consensus::node::Node;
use ottla_coordinator::consensus::raft::{Membership, Standing};
use ottla_coordinator::consensus::stepped::{Chance, Job, Stepped};
use ottla_coordinator::consensus::{Ensemble, EnsembleOptions};
use ottla_coordinator::requests::secrets::Secrets;
use ottla_coordinator::requests::{Ask, Service, ServiceOptions};
use ottla_coordinator::sessions::keeper::Keeper;
use ottla_coordinator::storage::files::Files;
use ottla_coordinator::storage::hard_state::HardState;
use ottla_coordinator::storage::wal_reader::{SEGMENT_EXTENSION, SegmentReader, Step};
use ottla_coordinator::storage::wal_record::Entry;
use ottla_coordinator::watches::LiveState;
use tokio::sync::mpsc;

use crate::clients::ToMember;
use crate::clock::Clocks;
use crate::disk::Disk;
use crate::executor::Tasks;
use crate::front::{self, Arrival, Outgoing};
use crate::plan::Plan;
use crate::shadow::Shadow;
use crate::world::Event;

/// Where a member's files are on its disk.
const FOLDER: &str = "/data";

/// How exactly sessions' deadlines are kept, in milliseconds.
pub const EXPIRY_TICK_MS: u64 = 50;

/// A native session's time to come back, in milliseconds.
const GRACE_MS: u32 = 500;

/// Passwords that the next run of the seed has again.
fn foreseen(seed: u64) -> Secrets {
    let random = parking_lot::Mutex::new(Rng::with_seed(seed));
    Secrets::foreseen(move |bytes| random.lock().fill(bytes))
}

/// A machine that runs a member, or will again.
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its disk.
    pub disk: Disk,
    /// Its clocks.
    pub clocks: Clocks,
    /// Its process, while it runs.
    pub process: Option<Process>,
    /// Counts its processes: what was meant for an earlier one does not concern the next.
    pub run: u64,
    /// It stands still until then, in microseconds of the world.
    pub paused_until_us: u64,
    /// What happened to it meanwhile.
    pub held: VecDeque<Event>,
    /// Its flushes take so many times as long, until then.
    pub slow: (u64, u64),
    /// There is no room on its disk until then.
    pub full_until_us: u64,
    /// Its log as far as the simulator knows it.
    pub shadow: Shadow,
    /// A bit has changed, and it has not started since.
    pub is_rotten: bool,
    /// It has lost its data and is not known to vote again.
    pub is_damaged: bool,
    random: Rng,
}

/// A running member.
pub struct Process {
    /// The product.
    pub stepped: Stepped,
    /// The way to the ensemble.
    pub ensemble: Ensemble,
    /// Its state.
    pub live: Arc<LiveState>,
    /// Its front ends' tasks.
    pub tasks: Tasks,
    /// What waits for the disk.
    pub disk_jobs: VecDeque<Job>,
    /// The disk is at work on so many of them.
    pub disk_batch: usize,
    /// What waits to be applied.
    pub apply_jobs: VecDeque<Job>,
    /// It is being applied.
    pub apply_is_busy: bool,
    /// What it sends to clients.
    pub outgoing: Outgoing,
    /// The newest entry that it knows to be committed.
    pub committed: u64,
    /// The newest entry of a snapshot that took the place of its log.
    pub installed: u64,
    /// The term in which it led last.
    pub led: u64,
    service: Arc<Service>,
    connections: BTreeMap<u64, mpsc::UnboundedSender<(u64, Ask)>>,
    last_expiry_ms: Rc<Cell<Option<u64>>>,
}

impl Member {
    /// A machine with an empty disk.
    pub fn new(id: u64, plan: &Plan, random: &mut Rng) -> Self {
        let drift = plan.clock_drift;
        Self {
            id,
            disk: Disk::new(random.u64(..)),
            clocks: Clocks::new(random.u64(1_000 - drift..=1_000 + drift)),
            process: None,
            run: 0,
            paused_until_us: 0,
            held: VecDeque::new(),
            slow: (1, 0),
            full_until_us: 0,
            shadow: Shadow::default(),
            is_rotten: false,
            is_damaged: false,
            random: Rng::with_seed(random.u64(..)),
        }
    }

    /// Starts the member, or tells why it does not start.
    pub fn start(
        &mut self,
        plan: &Plan,
        (membership, now_us): (&Membership, u64),
    ) -> Result<(), String> {
        self.run += 1;
        let clock = self.clocks.start(now_us);
        let files = Files::new(self.disk.mount());
        let keeper = Arc::new(Keeper::new(EXPIRY_TICK_MS, GRACE_MS));
        let options = EnsembleOptions {
            membership: membership.clone(),
            wal: plan.wal,
            snapshot_after_records: plan.snapshot_after,
            kept_entries_size_max: plan.kept_entries_size_max,
            append_size_max: plan.append_size_max,
            files,
            clock,
            keeper,
            ..EnsembleOptions::new(MemberId(self.id), FOLDER)
        };
        let chance = Chance {
            run: self.random.u64(..1 << 62),
            seed: self.random.u64(..),
            new_cluster_id: Uuid(self.random.u128(..).to_le_bytes()),
            #[cfg(feature = "seeded-bugs")]
            seeded_bug: crate::bugs::core::switched_on(),
        };
        let (stepped, restored) =
            Stepped::start(&options, chance).map_err(|error| error.to_string())?;
        let ensemble = stepped.ensemble();
        let live = Arc::clone(stepped.live());
        let start = restored.snapshot.as_ref().map_or((0, 0), |meta| (meta.index, meta.term));
        self.shadow.restore(start, &restored.entries);
        let tasks = Tasks::default();
        let service_options = ServiceOptions {
            member_id: MemberId(self.id),
            session_timeout_min_ms: 100,
            session_timeout_max_ms: 60_000,
            expiry_tick_ms: EXPIRY_TICK_MS,
            idle_check_interval_ms: 1_000,
            super_digest: None,
            enforces_quota: false,
            skips_acl: false,
            kafka_listener_name: None,
            metrics: Arc::default(),
            zookeeper: Default::default(),
            sasl: Default::default(),
            x509_super_user: None,
            tasks: tasks.handle(),
            secrets: foreseen(self.random.u64(..)),
        };
        let service = Service::new(service_options, Arc::clone(&live), ensemble.clone());
        self.process = Some(Process {
            stepped,
            ensemble,
            tasks,
            disk_jobs: VecDeque::new(),
            disk_batch: 0,
            apply_jobs: VecDeque::new(),
            apply_is_busy: false,
            outgoing: Rc::default(),
            committed: live.zxid().0.unsigned_abs(),
            live,
            installed: 0,
            led: 0,
            service: Arc::new(service),
            connections: BTreeMap::new(),
            last_expiry_ms: Rc::new(Cell::new(Some(0))),
        });
        Ok(())
    }

    /// The process dies; with its machine, what was not flushed may be lost. What it was writing
    /// may be half done.
    pub fn die(&mut self, with_machine: bool) {
        if let Some(mut process) = self.process.take()
            && process.disk_batch > 0
            && self.random.bool()
        {
            self.disk.die_in(self.random.u32(..12));
            let jobs = process.disk_jobs.drain(..process.disk_batch).collect();
            process.stepped.carry_out(jobs);
        }
        self.paused_until_us = 0;
        if with_machine { self.disk.crash() } else { self.disk.kill() }
    }

    /// Whether it is to be told something now.
    pub fn is_awake(&self, now_us: u64) -> bool {
        self.process.is_some() && self.paused_until_us <= now_us
    }

    /// How long the disk takes for what waits, in microseconds.
    pub fn flush_us(&mut self, plan: &Plan, now_us: u64) -> u64 {
        let usual = 20 + self.random.u64(..=plan.flush_us);
        let (factor, until_us) = self.slow;
        if now_us < until_us { usual.max(1_000) * factor } else { usual }
    }

    /// All entries of its log, as they are on its disk.
    pub fn logged(&self) -> Vec<Entry> {
        let (folder, files) = (Path::new(FOLDER).join("log"), Files::new(self.disk.reading()));
        let mut entries = Vec::new();
        for first in files.numbered(&folder, SEGMENT_EXTENSION).unwrap_or_default() {
            let Ok(mut reader) = SegmentReader::open(&folder, &files, first) else { continue };
            while let Ok(Step::Record(entry)) = reader.step() {
                entries.push(entry);
            }
        }
        entries
    }

    /// What its disk says of its votes.
    pub fn standing(&self) -> Standing {
        let files = Files::new(self.disk.reading());
        HardState::load(Path::new(FOLDER), &files).ok().flatten().unwrap_or_default().standing
    }

    /// A bit of something that was durable changes. Returns where.
    pub fn rot(&mut self) -> Option<String> {
        let mut paths = self.disk.paths();
        paths.retain(|path| !path.ends_with("lock"));
        let path = paths.get(self.random.usize(..paths.len().max(1)))?.clone();
        let content = self.disk.content(&path)?;
        let length = self.undoubted(&path, &content);
        if length == 0 {
            return None;
        }
        let position = self.random.usize(..length);
        self.disk.rot(&path, position, self.random.u8(..8));
        Some(format!("{} at {position} of {length}", path.display()))
    }

    /// Up to where damage to a file cannot pass for a write that never ended: of the newest part of
    /// the log, up to its last batch.
    fn undoubted(&self, path: &Path, content: &[u8]) -> usize {
        if path.extension().is_none_or(|extension| extension != SEGMENT_EXTENSION) {
            return content.len();
        }
        let files = Files::new(self.disk.reading());
        let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else { return 0 };
        let first = stem.to_str().and_then(|stem| stem.parse().ok()).unwrap_or_default();
        let Ok(mut reader) = SegmentReader::open(folder, &files, first) else { return 0 };
        while let Ok(Step::Record(_)) = reader.step() {}
        usize::try_from(reader.batch_position()).unwrap_or_default()
    }
}

impl Process {
    /// The core.
    pub fn node(&self) -> &Node {
        self.stepped.node()
    }

    /// A client's message on a connection.
    pub fn hear(&mut self, connection: u64, message: ToMember) {
        match message {
            ToMember::Hello { session, kind, last_zxid_seen } => {
                let (sender, requests) = mpsc::unbounded_channel();
                self.connections.insert(connection, sender);
                let outgoing = Rc::clone(&self.outgoing);
                let arrival =
                    Arrival { connection, session, kind, last_zxid_seen, requests, outgoing };
                self.tasks.spawn(front::serve(arrival, Arc::clone(&self.service)));
            }
            ToMember::Ask(xid, ask) => {
                if let Some(sender) = self.connections.get(&connection) {
                    let _ = sender.send((xid, ask));
                }
            }
            ToMember::Bye => {
                self.connections.remove(&connection);
            }
        }
    }

    /// Ends sessions whose time is over, if it is for this member to do so.
    pub fn expire(&mut self) {
        let Some(last_ms) = self.last_expiry_ms.take() else { return };
        let (service, cell) = (Arc::clone(&self.service), Rc::clone(&self.last_expiry_ms));
        self.tasks.spawn(async move {
            let now_ms = service.expire_due(last_ms).await;
            cell.set(Some(now_ms));
        });
    }
}
