//! Stories of elections: one partition, brokers that come and go, and the controller, which writes
//! what the rules of `broker/src/controller/election.rs` decide after each step.
//!
//! ```text
//! topic replicas=1,2,3 [min=N] [unclean]   one partition; all replicas are started and in sync
//! start ID...       brokers register
//! crash ID...       they are gone, all at once
//! bounce ID...      they are gone and back before anybody looks
//! leave ID...       they say that they are shutting down
//! isr ID,...        the leader has changed its ISR
//! lost ID           a broker that lost its disk has taken itself off the state
//! min N             min.insync.replicas changes
//! prefer            the preferred leader is to lead again
//! elect-unclean     any replica may lead, this once
//! reassign ID,...   the replicas are to move there
//! cancel            they are to stay where they were
//! ```
//!
//! Each step prints the partition's state after it, and its replicas while they move or when they
//! have moved.

// All of this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;

use ottla_broker::controller::election::{Decision, Presence, Rules, Situation};
use ottla_broker::controller::reassignment;
use ottla_broker::metadata::eligible::eligible_after;
use ottla_broker::metadata::image::PartitionImage;
use ottla_common::cluster_tree::PartitionAssignment;
use ottla_common::types::{BrokerId, Zxid};
use ottla_tests::datadriven::{self, Step};

struct World {
    partition: PartitionImage,
    brokers: BTreeMap<BrokerId, Presence>,
    rules: Rules,
    zxid: i64,
}

fn ids(list: &str) -> Vec<BrokerId> {
    list.split(',').filter(|id| !id.is_empty()).map(|id| BrokerId(id.parse().unwrap())).collect()
}

fn text(brokers: &[BrokerId]) -> String {
    let texts: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "-".to_owned() } else { texts.join(",") }
}

impl World {
    fn new() -> Self {
        let rules = Rules { min_insync_replicas: 1, unclean_allowed: false };
        Self { partition: PartitionImage::default(), brokers: BTreeMap::new(), rules, zxid: 0 }
    }

    fn run(&mut self, step: &Step) -> String {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        match words[..] {
            ["topic", ..] => self.topic(step),
            ["start" | "bounce", ref started @ ..] => {
                for id in started {
                    self.register(ids(id)[0]);
                }
            }
            ["crash", ref gone @ ..] => {
                for id in gone {
                    self.brokers.remove(&ids(id)[0]);
                }
            }
            ["leave", ref leaving @ ..] => {
                for id in leaving {
                    self.brokers.get_mut(&ids(id)[0]).unwrap().is_leaving = true;
                }
            }
            ["isr", list] => self.set_isr(ids(list)),
            ["lost", id] => self.lose_log(ids(id)[0]),
            ["min", number] => self.rules.min_insync_replicas = number.parse().unwrap(),
            ["prefer"] => {
                let decision = self.situation().prefer();
                return self.write(decision);
            }
            ["elect-unclean"] => {
                let rules = Rules { unclean_allowed: true, ..self.rules };
                let decision = self.situation().decide(rules);
                return self.write(decision);
            }
            ["reassign", list] => {
                let placed = reassignment::towards(&self.partition, &ids(list));
                return self.place(&placed);
            }
            ["cancel"] => {
                let placed = reassignment::cancelled(&self.partition);
                return self.place(&placed);
            }
            _ => panic!("what is {words:?}?"),
        }
        self.control()
    }

    /// What the controller does: elections first, then moves that are done.
    fn control(&mut self) -> String {
        let decision = self.situation().decide(self.rules);
        let told = self.write(decision);
        match reassignment::finished(&self.partition) {
            Some(placed) => format!("{told}\n{}", self.place(&placed)),
            None => told,
        }
    }

    /// The replicas become these, and the state what it must become with them.
    fn place(&mut self, placed: &PartitionAssignment) -> String {
        let min = self.rules.min_insync_replicas;
        let stays = |id: BrokerId| self.brokers.get(&id).is_some_and(|b| !b.is_leaving);
        let state = match reassignment::state_with(&self.partition, placed, (min, 1), stays) {
            Ok(state) => state,
            Err(reassignment::NobodyInSync) => return "nobody would be in sync".to_owned(),
        };
        let PartitionAssignment { replicas, adding, removing } = placed.clone();
        let told = format!(
            "replicas {}, adding {}, removing {}",
            text(&replicas),
            text(&adding),
            text(&removing)
        );
        let partition = &mut self.partition;
        (partition.replicas, partition.adding, partition.removing) = (replicas, adding, removing);
        if let Some(state) = state {
            (partition.leader, partition.leader_epoch) = (state.leader, state.leader_epoch);
            (partition.isr, partition.elr) = (state.isr, state.elr);
            self.written();
        }
        format!("{told}\n{}", self.control())
    }

    fn topic(&mut self, step: &Step) {
        let replicas = ids(step.value("replicas").unwrap());
        self.rules.unclean_allowed = step.words.iter().any(|word| word == "unclean");
        if let Some(number) = step.value("min") {
            self.rules.min_insync_replicas = number.parse().unwrap();
        }
        for broker in &replicas {
            self.register(*broker);
        }
        self.zxid += 1;
        self.partition = PartitionImage {
            leader: replicas.first().copied(),
            isr: replicas.clone(),
            replicas,
            state_mzxid: Zxid(self.zxid),
            ..PartitionImage::default()
        };
    }

    fn register(&mut self, broker: BrokerId) {
        self.zxid += 1;
        let presence = Presence { broker_epoch: self.zxid, is_leaving: false };
        self.brokers.insert(broker, presence);
    }

    fn situation(&self) -> Situation<'_, impl Fn(BrokerId) -> Option<Presence>> {
        Situation::new(&self.partition, 1, |broker| self.brokers.get(&broker).copied())
    }

    /// What the leader writes.
    fn set_isr(&mut self, isr: Vec<BrokerId>) {
        let PartitionImage { isr: old_isr, elr, replicas, .. } = &self.partition;
        let min = self.rules.min_insync_replicas;
        self.partition.elr = eligible_after((old_isr, elr), &isr, min, replicas);
        self.partition.isr = isr;
        self.written();
    }

    fn lose_log(&mut self, broker: BrokerId) {
        self.partition.isr.retain(|member| *member != broker);
        self.partition.elr.retain(|member| *member != broker);
        self.written();
    }

    fn written(&mut self) {
        self.zxid += 1;
        self.partition.state_mzxid = Zxid(self.zxid);
    }

    fn write(&mut self, decision: Option<Decision>) -> String {
        let kind = match decision {
            None => "as it was".to_owned(),
            Some(Decision { state, kind }) => {
                self.partition.leader = state.leader;
                self.partition.leader_epoch = state.leader_epoch;
                (self.partition.isr, self.partition.elr) = (state.isr, state.elr);
                self.written();
                format!("{kind:?}").to_lowercase()
            }
        };
        let PartitionImage { leader, leader_epoch, isr, elr, .. } = &self.partition;
        let leader = leader.map_or("none".to_owned(), |leader| leader.to_string());
        let (isr, elr) = (text(isr), text(elr));
        format!("{kind}: leader {leader}, epoch {leader_epoch}, isr {isr}, elr {elr}")
    }
}

#[test]
fn stories() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/election");
    datadriven::tell_all(&folder, World::new, World::run);
}
