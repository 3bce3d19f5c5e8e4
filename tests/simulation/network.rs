//! The network: when a message arrives, and whether. Messages between members may be lost, doubled
//! and overtaken; what clients and members say to each other comes in order or not at all.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;

/// One end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// A member.
    Member(u64),
    /// A client.
    Client(usize),
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The shortest way of a message, in microseconds.
    pub delay_min_us: u64,
    /// How much longer it usually takes at most.
    pub jitter_us: u64,
    /// Of a thousand messages between members so many are lost.
    pub lost: u32,
    /// So many arrive twice.
    pub doubled: u32,
    /// So many take up to a hundred times as long.
    pub late: u32,
    /// Whether messages between members keep their order.
    pub is_ordered: bool,
}

/// All links.
#[derive(Debug)]
pub struct Network {
    /// How bad it is.
    pub weather: Weather,
    random: Rng,
    /// What is sent from the first to the second does not arrive.
    cut: BTreeSet<(End, End)>,
    /// When the last message on a way arrives.
    busy_until: BTreeMap<(End, End), u64>,
}

impl Network {
    /// All links work.
    pub fn new(weather: Weather, seed: u64) -> Self {
        let random = Rng::with_seed(seed);
        Self { weather, random, cut: BTreeSet::new(), busy_until: BTreeMap::new() }
    }

    /// When a message between members that is sent now arrives, in microseconds from now: never,
    /// once or twice.
    pub fn arrivals(&mut self, from: End, to: End, now_us: u64) -> [Option<u64>; 2] {
        if !self.reaches(from, to) || self.random.u32(..1000) < self.weather.lost {
            return [None, None];
        }
        let mut at_us = now_us + self.delay_us();
        if self.weather.is_ordered {
            let busy_until = self.busy_until.entry((from, to)).or_default();
            at_us = at_us.max(*busy_until);
            *busy_until = at_us;
        }
        let is_doubled = self.random.u32(..1000) < self.weather.doubled;
        let again = is_doubled.then(|| at_us + self.delay_us());
        [Some(at_us), again]
    }

    /// How long a message is on its way.
    pub fn delay_us(&mut self) -> u64 {
        let Weather { delay_min_us, jitter_us, late, .. } = self.weather;
        let usual = delay_min_us + self.random.u64(..=jitter_us);
        let is_late = self.random.u32(..1000) < late;
        if is_late { usual * self.random.u64(1..=100) } else { usual }
    }

    /// Whether what is sent from one to the other arrives.
    pub fn reaches(&self, from: End, to: End) -> bool {
        !self.cut.contains(&(from, to))
    }

    /// From now on nothing arrives that is sent from one to the other.
    pub fn cut(&mut self, from: End, to: End) {
        self.cut.insert((from, to));
    }

    /// All links work again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Whether any link does not work.
    pub fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }
}
