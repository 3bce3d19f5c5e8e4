//! What must hold, whatever goes wrong. The letters are those of the list of invariants that the
//! project keeps to.

use super::*;

impl World {
    /// P7, P8: whoever leads is in sync, everybody in sync is a replica once, and leader epochs go
    /// up by one.
    pub(super) fn check_state(&mut self, state: &PartitionState) {
        let before = &self.tree.state;
        let is_replica = |id: &BrokerId| self.brokers.iter().any(|broker| broker.id == *id);
        let all = || state.isr.iter().chain(&state.elr);
        let is_well_formed = all().all(is_replica)
            && all().collect::<BTreeSet<_>>().len() == state.isr.len() + state.elr.len()
            && state.leader.is_none_or(|leader| state.isr.contains(&leader));
        let rises = state.leader_epoch - before.leader_epoch;
        let is_step = rises == 1 || (rises == 0 && state.leader == before.leader);
        if !is_well_formed || !is_step {
            let what = format!("{before:?} is followed by {state:?}");
            self.violation = Some(Violation { invariant: "states are well formed", what });
        }
    }

    /// C5: nobody is elected who need not have what is committed.
    pub(super) fn check_election(&mut self, state: &PartitionState) {
        let before = &self.tree.state;
        let is_clean = |id: &BrokerId| before.isr.contains(id) || before.elr.contains(id);
        if !state.isr.iter().all(is_clean) {
            let what = format!("{before:?} is followed by {state:?}");
            self.violation = Some(Violation { invariant: "elections are clean", what });
        }
    }

    /// A leader shows its readers more. P2, P12: never less than before, and to all readers of all
    /// leaders the same at an offset.
    pub(super) fn commit(&mut self, at: usize, offset: usize) -> Result<(), Violation> {
        let broker = &mut self.brokers[at];
        let (id, known) = (broker.id, broker.log.high_watermark);
        if offset < known {
            let what = format!("{id} goes back from {known} to {offset}");
            return Err(Violation { invariant: "the high watermark never goes back", what });
        }
        broker.log.high_watermark = offset;
        for (place, record) in broker.log.records.iter().enumerate().take(offset).skip(known) {
            match self.seen.get(place) {
                Some(value) if *value != record.value => {
                    let what = format!("{id} shows {} at {place}, where {value} was", record.value);
                    return Err(Violation { invariant: "all readers see the same", what });
                }
                Some(_) => {}
                None => self.seen.push(record.value),
            }
        }
        Ok(())
    }

    pub(super) fn check(&self) -> Result<(), Violation> {
        // Every in-sync replica on record has what was acknowledged, on its disk.
        for id in &self.tree.state.isr {
            let broker = self.brokers.iter().find(|broker| broker.id == *id);
            let Some(broker) = broker.filter(|broker| !broker.has_lost_disk) else { continue };
            for (offset, value) in self.acknowledged.iter().rev().take(BATCH) {
                let place = usize::try_from(*offset).unwrap_or(usize::MAX);
                let held = broker.log.records.get(place).map(|record| record.value);
                if held != Some(*value) || place >= broker.log.flushed {
                    let what = format!(
                        "{id} is in the ISR {:?} and has {held:?} at {offset} instead of {value}, \
                         {} on disk",
                        self.tree.state.isr, broker.log.flushed
                    );
                    return Err(Violation { invariant: "the ISR has what is committed", what });
                }
            }
        }
        Ok(())
    }

    pub(super) fn check_end(&self) -> Result<(), Violation> {
        let fail = |invariant, what: String| Err(Violation { invariant, what });
        for one in &self.brokers {
            for other in &self.brokers {
                let pairs = one.log.records.iter().zip(&other.log.records).enumerate();
                for (offset, (a, b)) in pairs {
                    if a.epoch == b.epoch && a.value != b.value {
                        let what =
                            format!("{} and {} differ at {offset}: {a:?}, {b:?}", one.id, other.id);
                        return fail("one record an offset and epoch", what);
                    }
                }
            }
        }
        let state = &self.tree.state;
        if state.isr.is_empty() && state.elr.is_empty() {
            // Everybody who was in sync lost a disk: nothing is promised.
            return Ok(());
        }
        let Some(leader) = self.brokers.iter().find(|broker| Some(broker.id) == state.leader)
        else {
            return fail("a leader in the end", format!("nobody leads: {state:?}"));
        };
        for (offset, value) in &self.acknowledged {
            let place = usize::try_from(*offset).unwrap_or(usize::MAX);
            let held = leader.log.records.get(place).map(|record| record.value);
            if held != Some(*value) {
                let what = format!("{value} was acknowledged at {offset}, and {held:?} is there");
                return fail("what was acknowledged is there", what);
            }
        }
        if state.isr.len() != self.brokers.len() {
            return fail("every ISR is whole in the end", self.in_short());
        }
        let whole = |broker: &Broker| broker.log.records == leader.log.records;
        if !self.brokers.iter().all(whole) {
            return fail("the logs are equal in the end", self.in_short());
        }
        Ok(())
    }

    /// The state, and how far everybody's log is.
    fn in_short(&self) -> String {
        let logs = self.brokers.iter().map(|broker| {
            let role = match &broker.role {
                Role::Leader { leadership, .. } => format!("leads {}", leadership.leader_epoch()),
                Role::Follower { epoch, leader } => format!("follows {leader:?} in {epoch}"),
            };
            let (log, last) = (&broker.log, broker.log.records.last().map(|last| last.epoch));
            format!(
                "{} {role}: end {}, flushed {}, high watermark {}, epochs {:?}, last {last:?}",
                broker.id,
                log.end(),
                log.flushed,
                log.high_watermark,
                log.epochs.entries(),
            )
        });
        format!("{:?}; {}", self.tree.state, logs.collect::<Vec<_>>().join("; "))
    }
}
