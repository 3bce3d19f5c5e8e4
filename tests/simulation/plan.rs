//! What a seed decides before the first step: how many members and clients there are, how bad
//! network, disks and clocks are, and which faults happen how often.

use fastrand::Rng;
use ottla_coordinator::storage::wal::WalOptions;

use crate::network::Weather;

/// How large runs are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For every build.
    Small,
    /// For the search.
    Full,
}

/// The frame of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides all that comes.
    pub seed: u64,
    /// The members at the start.
    pub members: u64,
    /// Members that may be added.
    pub spares: u64,
    /// The clients.
    pub clients: usize,
    /// How long faults happen, in microseconds.
    pub faults_us: u64,
    /// How long it may take after that until all is well, in microseconds.
    pub patience_us: u64,
    /// The network.
    pub weather: Weather,
    /// The time between two faults is up to this, in microseconds.
    pub fault_interval_us: u64,
    /// How often each kind of fault happens among all.
    pub weights: Weights,
    /// Of a hundred members that are elected so many are cut off before they have said so.
    pub falls: u32,
    /// The longest time that a flush usually takes, in microseconds.
    pub flush_us: u64,
    /// How far clocks run apart: of a thousand.
    pub clock_drift: u64,
    /// How long committed entries wait to be applied at most, in microseconds.
    pub apply_delay_us: u64,
    /// After how many entries a snapshot is taken.
    pub snapshot_after: u64,
    /// How many bytes of entries are kept for followers that lag.
    pub kept_entries_size_max: usize,
    /// How many bytes of entries go in one message.
    pub append_size_max: usize,
    /// How the log is laid out.
    pub wal: WalOptions,
    /// How long clients wait between two requests at most, in microseconds.
    pub think_us: u64,
    /// The sessions' timeout in milliseconds.
    pub session_timeout_ms: u32,
}

/// How often something happens, among all that does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weights {
    /// A member dies, with its machine or without.
    pub crash: u32,
    /// All members die.
    pub crash_all: u32,
    /// The network is cut.
    pub partition: u32,
    /// A member stands still.
    pub pause: u32,
    /// A flush fails, takes long, or the disk is full.
    pub disk: u32,
    /// A member loses its data, or a bit of it.
    pub loss: u32,
    /// A member is added, removed, promoted or demoted.
    pub membership: u32,
    /// Leadership is handed over.
    pub transfer: u32,
    /// A wall clock jumps.
    pub clock: u32,
    /// A client's connection breaks, or it goes for good.
    pub client: u32,
}

impl Plan {
    /// The frame that a seed gives.
    pub fn new(seed: u64, size: Size) -> Self {
        let mut random = Rng::with_seed(seed);
        let random = &mut random;
        let members = [1, 3, 3, 3, 3, 5][random.usize(..6)];
        let ms = 1_000;
        let faults_ms = match size {
            Size::Small => 4_000,
            Size::Full => random.u64(6_000..14_000),
        };
        Self {
            seed,
            members,
            spares: if members == 1 { 0 } else { random.u64(..=1) },
            clients: random.usize(2..=5),
            faults_us: faults_ms * ms,
            patience_us: 20_000 * ms,
            weather: weather(random),
            fault_interval_us: [300, 700, 1500, 3000][random.usize(..4)] * ms,
            weights: weights(random),
            falls: [0, 0, 0, 50][random.usize(..4)],
            flush_us: [50, 500, 4_000, 15_000][random.usize(..4)],
            clock_drift: [0, 5, 20][random.usize(..3)],
            apply_delay_us: [0, 0, 2_000, 30_000][random.usize(..4)],
            snapshot_after: [10, 40, 200, 100_000][random.usize(..4)],
            kept_entries_size_max: [500, 4_000, 1 << 20][random.usize(..3)],
            append_size_max: [1, 1_000, 1 << 20][random.usize(..3)],
            wal: WalOptions {
                segment_size: [1024, 4096, 65_536][random.usize(..3)],
                allocate_step: [256, 1024, 8192][random.usize(..3)],
            },
            think_us: [10, 40, 150][random.usize(..3)] * ms,
            session_timeout_ms: [1_000, 2_000, 4_000][random.usize(..3)],
        }
    }
}

fn weather(random: &mut Rng) -> Weather {
    Weather {
        delay_min_us: [30, 300, 2_000][random.usize(..3)],
        jitter_us: [50, 1_000, 10_000][random.usize(..3)],
        lost: [0, 0, 10, 100][random.usize(..4)],
        doubled: [0, 10, 100][random.usize(..3)],
        late: [0, 5, 30][random.usize(..3)],
        is_ordered: random.bool(),
    }
}

/// Each kind of fault is left out of some runs, since one may hide another.
fn weights(random: &mut Rng) -> Weights {
    let mut weight = |most: u32| if random.u8(..3) == 0 { 0 } else { random.u32(1..=most) };
    Weights {
        crash: weight(10),
        crash_all: weight(2),
        partition: weight(10),
        pause: weight(6),
        disk: weight(6),
        loss: weight(4),
        membership: weight(6),
        transfer: weight(4),
        clock: weight(3),
        client: weight(6),
    }
}
