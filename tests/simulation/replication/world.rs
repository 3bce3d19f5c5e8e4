//! One partition on a few brokers, a coordinator's tree, and everything between them that can go
//! wrong, decided by one seed.
//!
//! The product's own: what a leader counts and proposes ([`Leadership`]), whom the controller
//! elects ([`Survey`]), the leader epochs of a log ([`LeaderEpochs`]) and where two logs part by
//! them ([`divergence`](ottla_broker::replication::divergence)). The world's own: logs that
//! lose what was not flushed, messages that are late or lost, the tree with its versions and lives,
//! and what [`Partition`](ottla_broker::replication::partition) does around them.

mod brokers;
mod harm;
mod invariants;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_broker::controller::election::Rules;
use ottla_broker::controller::leaders::Survey;
use ottla_broker::metadata::image::{BrokerImage, MetadataImage, PartitionImage, TopicImage};
use ottla_broker::replication::divergence::{
    DivergingEpoch, LogEnd, cut_offset, divergence, is_prefix,
};
use ottla_broker::replication::leadership::{
    Beginning, Ends, FollowerFetch, Leadership, Outcome, Proposal,
};
use ottla_broker::replication::settings::{Durability, PartitionSettings};
use ottla_broker::storage::leader_epochs::LeaderEpochs;
use ottla_common::cluster_tree::PartitionState;
use ottla_common::types::{BrokerId, Uuid, Zxid};

use crate::Mistake;

/// Times, in milliseconds.
const TICK: u64 = 10;
const SESSION: u64 = 400;
const LAG: u64 = 300;
const RETRY: u64 = 150;

/// Records of one answer.
const BATCH: usize = 4;

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// What happened.
    pub what: String,
}

/// A record: the epoch in which it was written, and a value that no other has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    epoch: i32,
    value: u64,
}

#[derive(Clone, Debug, Default)]
struct Log {
    records: Vec<Record>,
    epochs: LeaderEpochs,
    flushed: usize,
    high_watermark: usize,
    /// What a checkpoint says of it; survives a power cut.
    checkpoint: usize,
    cuts: u64,
}

impl Log {
    fn end(&self) -> i64 {
        len(&self.records)
    }

    fn ends(&self) -> Ends {
        Ends { log_end_offset: self.end(), flushed_offset: self.flushed as i64 }
    }

    fn last_epoch(&self) -> i32 {
        self.epochs.latest().map_or(-1, |entry| entry.leader_epoch)
    }

    fn end_of(&self, epoch: i32) -> (i32, i64) {
        self.epochs.end_offset_for(epoch, self.end()).unwrap_or((-1, -1))
    }

    fn append(&mut self, record: Record) {
        self.epochs.assign(record.epoch, self.end());
        self.records.push(record);
    }

    fn truncate(&mut self, offset: i64) {
        let offset = usize::try_from(offset.max(0)).unwrap_or(0).min(self.records.len());
        self.records.truncate(offset);
        self.epochs.truncate_from_end(len(&self.records));
        self.flushed = self.flushed.min(offset);
        self.high_watermark = self.high_watermark.min(offset);
        self.cuts += 1;
    }

    /// The power was cut: what was not flushed is gone.
    fn lose_tail(&mut self) {
        let flushed = self.flushed;
        self.truncate(flushed as i64);
        self.rebuild();
    }

    /// A start: epochs are those of the records.
    fn rebuild(&mut self) {
        self.epochs = LeaderEpochs::default();
        for (offset, record) in (0..).zip(&self.records) {
            self.epochs.assign(record.epoch, offset);
        }
        self.high_watermark = self.checkpoint.min(self.records.len());
        self.flushed = self.records.len();
    }
}

fn len(records: &[Record]) -> i64 {
    i64::try_from(records.len()).unwrap_or(i64::MAX)
}

enum Role {
    Leader { since: i32, leadership: Box<Leadership> },
    Follower { epoch: i32, leader: Option<BrokerId> },
}

struct Broker {
    id: BrokerId,
    runs: bool,
    /// Counts its processes: what was meant for an earlier one is passed over.
    process: u64,
    paused_until: u64,
    log: Log,
    role: Role,
    image: Arc<MetadataImage>,
    /// Its registration, and until when it is certain of it.
    life: Option<i64>,
    lease_until: u64,
    /// Records that wait for their commit: end, epoch, value.
    waiting: Vec<(i64, i32, u64)>,
    fetch: Option<(u64, u64)>,
    next_fetch: u64,
    flushing: bool,
    proposing: bool,
    /// The epoch in which it controls, and since when.
    controls: Option<(i32, i64)>,
    has_lost_disk: bool,
    images_until: u64,
    /// The first image that this process saw.
    born_at: Option<i64>,
}

#[derive(Clone, Debug)]
enum Event {
    Tick(usize),
    Heartbeat { from: usize, process: u64, sent: u64 },
    Leased { to: usize, process: u64, life: i64, sent: u64 },
    Image { to: usize, process: u64, image: Arc<MetadataImage> },
    Fetch { from: usize, process: u64, to: BrokerId, number: u64, told: Told },
    Fetched { to: usize, process: u64, number: u64, epoch: i32, answer: Answer },
    Flushed { at: usize, process: u64, end: usize, cuts: u64 },
    Propose { from: usize, process: u64, life: i64, proposal: Box<Proposal>, heard: bool },
    Proposed { to: usize, process: u64, proposal: Box<Proposal>, outcome: Outcome },
    ReadBack { to: usize, process: u64, proposal: Box<Proposal> },
    Elect { epoch: i32, state: PartitionState, version: i32, leader_life: Option<(BrokerId, i64)> },
    Start(usize),
    Harm,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    life: i64,
    epoch: i32,
    ends: Ends,
    last_epoch: i32,
}

#[derive(Clone, Debug)]
enum Answer {
    Error,
    Diverging(DivergingEpoch),
    Records(i64, Vec<Record>, usize),
}

/// The coordinator.
struct Tree {
    zxid: i64,
    state: PartitionState,
    version: i32,
    mzxid: i64,
    /// Life and when it was heard of last.
    lives: BTreeMap<BrokerId, (i64, u64)>,
    /// Whose session each life is. The next process waits until it is over.
    processes: BTreeMap<BrokerId, u64>,
    controller: Option<BrokerId>,
    controller_epoch: i32,
}

/// A run.
pub struct World {
    rng: fastrand::Rng,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    brokers: Vec<Broker>,
    tree: Tree,
    settings: PartitionSettings,
    mistake: Option<Mistake>,
    harm_until: u64,
    /// Pairs that do not hear each other; the coordinator is -1.
    cut: BTreeSet<(i32, i32)>,
    next_value: u64,
    acknowledged: BTreeMap<i64, u64>,
    /// What readers may have seen: the values below the high watermarks of leaders.
    seen: Vec<u64>,
    leaders: BTreeMap<i32, BrokerId>,
    /// What does not hold, found where nothing can be returned.
    violation: Option<Violation>,
    story: Vec<String>,
    /// How much happened.
    pub event_count: u64,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let count = rng.usize(3..=4);
        let settings =
            PartitionSettings { min_insync: rng.usize(1..=2), durability: Durability::Disk };
        let ids: Vec<BrokerId> = (1..).take(count).map(BrokerId).collect();
        let brokers = ids.iter().map(|id| Broker {
            id: *id,
            runs: false,
            process: 0,
            paused_until: 0,
            log: Log::default(),
            role: Role::Follower { epoch: -1, leader: None },
            image: Arc::default(),
            life: None,
            lease_until: 0,
            waiting: Vec::new(),
            fetch: None,
            next_fetch: 0,
            flushing: false,
            proposing: false,
            controls: None,
            has_lost_disk: false,
            images_until: 0,
            born_at: None,
        });
        let state = PartitionState { isr: ids.clone(), ..PartitionState::default() };
        let tree = Tree {
            zxid: 1,
            state,
            version: 0,
            mzxid: 1,
            lives: BTreeMap::new(),
            processes: BTreeMap::new(),
            controller: None,
            controller_epoch: 0,
        };
        let mut world = Self {
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            brokers: brokers.collect(),
            tree,
            settings,
            mistake,
            harm_until: rng.u64(2_000..6_000),
            cut: BTreeSet::new(),
            next_value: 0,
            acknowledged: BTreeMap::new(),
            seen: Vec::new(),
            leaders: BTreeMap::new(),
            violation: None,
            story: Vec::new(),
            event_count: 0,
            rng,
        };
        for at in 0..count {
            world.after(0, Event::Start(at));
        }
        world.after(500, Event::Harm);
        world
    }

    /// What happened, as far as it is kept.
    pub fn story(&self) -> &[String] {
        &self.story
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.story.len() < 4_000 {
            let line = format!("{:>6} {}", self.now, line());
            self.story.push(line);
        }
    }

    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now + delay, self.sequence), event);
    }

    /// Sends a message, which may be late or lost.
    fn send(&mut self, (from, to): (i32, i32), event: Event) -> bool {
        let is_lossy = self.now < self.harm_until;
        let is_lost = is_lossy && self.rng.u8(..) < 8;
        if is_lost || self.cut.contains(&(from, to)) {
            return false;
        }
        let delay = if is_lossy && self.rng.u8(..) < 20 {
            self.rng.u64(20..200)
        } else {
            self.rng.u64(1..6)
        };
        self.after(delay, event);
        true
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// What did not hold.
    pub fn run(&mut self) -> Result<(), Violation> {
        let end = self.harm_until + 6_000;
        while let Some((at, event)) = self.events.pop_first() {
            self.now = at.0;
            if self.now > end {
                break;
            }
            self.event_count += 1;
            self.handle(event)?;
            self.violation.take().map_or(Ok(()), Err)?;
            self.check()?;
        }
        self.check_end()
    }

    fn handle(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick(at) => self.tick(at)?,
            Event::Heartbeat { from, process, sent } => self.heartbeat(from, process, sent),
            Event::Leased { to, process, life, sent } => {
                let broker = &mut self.brokers[to];
                if broker.process == process && broker.runs {
                    broker.life = Some(life);
                    broker.lease_until = broker.lease_until.max(sent + SESSION);
                }
            }
            Event::Image { to, process, image } => {
                let broker = &self.brokers[to];
                if broker.process == process && broker.runs {
                    if broker.paused_until > self.now {
                        let delay = broker.paused_until - self.now;
                        self.after(delay, Event::Image { to, process, image });
                    } else if broker.image.zxid < image.zxid {
                        self.apply(to, image)?;
                    }
                }
            }
            Event::Fetch { from, process, to, number, told } => {
                self.serve(from, process, to, (number, told))?;
            }
            Event::Fetched { to, process, number, epoch, answer } => {
                self.fetched(to, process, number, (epoch, answer))?;
            }
            Event::Flushed { at, process, end, cuts } => self.flushed(at, process, end, cuts)?,
            Event::Propose { from, process, life, proposal, heard } => {
                self.write_isr(from, process, life, (proposal, heard));
            }
            Event::Proposed { to, process, proposal, outcome } => {
                self.resolve(to, process, &proposal, outcome)?;
            }
            Event::ReadBack { to, process, proposal } => self.read_back(to, process, proposal)?,
            Event::Elect { epoch, state, version, leader_life } => {
                self.elect((epoch, state, version), leader_life);
            }
            Event::Start(at) => self.start(at),
            Event::Harm => self.harm(),
        }
        Ok(())
    }
}
