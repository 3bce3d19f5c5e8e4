//! What goes wrong.

use super::*;

impl World {
    pub(super) fn harm(&mut self) {
        if self.now >= self.harm_until {
            self.cut.clear();
            for at in 0..self.brokers.len() {
                self.brokers[at].paused_until = 0;
                self.after(1, Event::Start(at));
            }
            return;
        }
        let at = self.rng.usize(..self.brokers.len());
        let id = self.brokers[at].id.0;
        match self.rng.u8(0..12) {
            0..=2 => self.crash(at, false),
            3 | 4 => self.crash(at, true),
            5 => (0..self.brokers.len()).for_each(|at| self.crash(at, true)),
            6 => self.wipe(at),
            7 => {
                let until = self.now + self.rng.u64(50..1_000);
                self.brokers[at].paused_until = until;
                self.tell(|| format!("{id} stands still until {until}"));
            }
            8 => {
                let others: Vec<i32> = self.brokers.iter().map(|broker| broker.id.0).collect();
                let others: Vec<i32> = others.into_iter().filter(|other| *other != id).collect();
                let other = self.rng.choice(others).filter(|_| self.rng.u8(..4) > 0).unwrap_or(-1);
                self.cut.insert((id, other));
                if self.rng.bool() {
                    self.cut.insert((other, id));
                }
                self.tell(|| format!("{id} and {other} are cut off from each other"));
            }
            _ => self.cut.clear(),
        }
        let next = self.rng.u64(20..400);
        self.after(next, Event::Harm);
    }

    pub(super) fn crash(&mut self, at: usize, loses_power: bool) {
        let keeps = self.is(Mistake::KeepTornTail);
        let garbage = self.rng.u64(1 << 40..1 << 50);
        let broker = &mut self.brokers[at];
        if !broker.runs {
            return;
        }
        broker.runs = false;
        broker.process += 1;
        if loses_power {
            let torn = (broker.log.flushed < broker.log.records.len() && keeps)
                .then(|| broker.log.records[broker.log.flushed].epoch);
            broker.log.lose_tail();
            if let Some(epoch) = torn {
                broker.log.append(Record { epoch, value: garbage });
            }
        }
        let id = broker.id;
        self.tell(|| format!("{id} dies{}", if loses_power { ", without power" } else { "" }));
        let delay = self.rng.u64(5..800);
        self.after(delay, Event::Start(at));
    }

    /// One disk at a time, and only while others are in sync that run.
    pub(super) fn wipe(&mut self, at: usize) {
        let id = self.brokers[at].id;
        let isr = &self.tree.state.isr;
        let whole = isr.iter().filter(|member| **member != id).count();
        if whole < self.settings.min_insync || self.brokers.iter().any(|b| b.has_lost_disk) {
            return;
        }
        self.crash(at, true);
        let broker = &mut self.brokers[at];
        if !broker.runs && broker.log.end() > 0 {
            broker.log = Log::default();
            broker.has_lost_disk = true;
            self.tell(|| format!("{id} loses its disk"));
        }
    }
}
