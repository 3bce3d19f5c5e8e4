//! What breaks, and when it is mended. More than half of the voters always keep their data: what
//! may be lost beyond that no ensemble can make up for.

use std::rc::Rc;

use ottla_common::types::MemberId;
use ottla_coordinator::consensus::raft::{Member, MemberRole, MembershipChange, Standing};

use crate::clients::Stage;
use crate::network::End;
use crate::tell;
use crate::world::{Event, World};

/// How many clients go for good at most.
const VANISHING_MAX: usize = 2;

impl World {
    /// Something breaks, and the next thing will.
    pub(crate) fn fault(&mut self) {
        if !self.is_faulty {
            return;
        }
        let weights = self.plan.weights;
        let all = [
            weights.crash,
            weights.crash_all,
            weights.partition,
            weights.pause,
            weights.disk,
            weights.loss,
            weights.membership,
            weights.transfer,
            weights.clock,
            weights.client,
        ];
        let total: u32 = all.iter().sum();
        let mut drawn = self.random.u32(..total.max(1));
        let kind = all.iter().position(|weight| match drawn.checked_sub(*weight) {
            None => true,
            Some(left) => {
                drawn = left;
                false
            }
        });
        let any = self.random.u64(1..=self.members.len() as u64);
        // Whoever leads is hit more often than others.
        let id = self.leader().filter(|_| self.random.u8(..3) == 0).unwrap_or(any);
        match kind {
            Some(0) => self.crash(id),
            Some(1) => self.crash_all(),
            Some(2) => self.partition(id),
            Some(3) => self.pause(id),
            Some(4) => self.break_disk(id),
            Some(5) => self.lose_data(id),
            Some(6) => {
                // At times before the last change is done.
                for _ in 0..self.random.usize(1..=2) {
                    self.change_members();
                }
            }
            Some(7) => self.transfer(id),
            Some(8) => self.jump(id),
            Some(9) => self.disturb_client(),
            _ => {}
        }
        let in_us = self.random.u64(1_000..self.plan.fault_interval_us);
        self.schedule(in_us, Event::Fault);
    }

    fn crash(&mut self, id: u64) {
        let with_machine = self.random.bool();
        let in_us = self.random.u64(20_000..2_000_000);
        self.die(id, with_machine, in_us);
    }

    /// A member dies, and starts again after a time.
    fn die(&mut self, id: u64, with_machine: bool, in_us: u64) {
        if self.member(id).process.is_none() {
            return;
        }
        tell!(self, "member {id} dies {}", if with_machine { "with its machine" } else { "alone" });
        self.member(id).die(with_machine);
        self.schedule(0, Event::Resume(id));
        self.schedule(in_us, Event::Start(id));
        let others: Vec<(u64, u64)> = self.members.iter().map(|one| (one.id, one.run)).collect();
        for (other, run) in others {
            // The machine's system would close the connections; a machine without power does not.
            if other != id && !with_machine {
                let in_us = self.network.delay_us();
                self.schedule(in_us, Event::Reach(other, run, id, false));
            }
        }
    }

    fn crash_all(&mut self) {
        let with_machine = self.random.bool();
        for id in 1..=self.members.len() as u64 {
            let in_us = self.random.u64(20_000..500_000);
            self.die(id, with_machine, in_us);
        }
    }

    fn partition(&mut self, id: u64) {
        let ids: Vec<u64> = self.members.iter().map(|member| member.id).collect();
        let end = End::Member;
        let kind = self.random.u8(..6);
        let other = ids[self.random.usize(..ids.len())];
        tell!(self, "the network is cut, kind {kind}, at members {id} and {other}");
        match kind {
            // One member from all others, and perhaps from clients.
            0 | 1 => {
                for one in ids.iter().filter(|one| **one != id) {
                    self.network.cut(end(*one), end(id));
                    self.network.cut(end(id), end(*one));
                }
                if kind == 1 {
                    for client in 0..self.clients.len() {
                        self.network.cut(End::Client(client), end(id));
                        self.network.cut(end(id), End::Client(client));
                    }
                }
            }
            // In one direction only.
            2 => ids.iter().for_each(|one| self.network.cut(end(*one), end(id))),
            3 => ids.iter().for_each(|one| self.network.cut(end(id), end(*one))),
            // One link.
            4 => self.network.cut(end(id), end(other)),
            // Any two groups.
            _ => {
                let group: Vec<bool> = ids.iter().map(|_| self.random.bool()).collect();
                for (one, in_one) in ids.iter().zip(&group) {
                    for (another, in_another) in ids.iter().zip(&group) {
                        if in_one != in_another {
                            self.network.cut(end(*one), end(*another));
                        }
                    }
                }
            }
        }
        let in_us = self.random.u64(50_000..3_000_000);
        self.schedule(in_us, Event::Heal);
    }

    /// A member cannot reach the others, nor they it, for a while.
    pub(crate) fn isolate(&mut self, id: u64) {
        tell!(self, "the network is cut around member {id}");
        for one in 1..=self.members.len() as u64 {
            if one != id {
                self.network.cut(End::Member(one), End::Member(id));
                self.network.cut(End::Member(id), End::Member(one));
            }
        }
        let in_us = self.random.u64(50_000..2_000_000);
        self.schedule(in_us, Event::Heal);
    }

    fn pause(&mut self, id: u64) {
        let for_us = self.random.u64(10_000..2_500_000);
        let now_us = self.now_us;
        tell!(self, "member {id} stands still for {} ms", for_us / 1_000);
        let member = self.member(id);
        member.paused_until_us = member.paused_until_us.max(now_us + for_us);
        self.schedule(for_us, Event::Resume(id));
    }

    fn break_disk(&mut self, id: u64) {
        let until_us = self.now_us + self.random.u64(100_000..3_000_000);
        let kind = self.random.u8(..3);
        let factor = self.random.u64(20..500);
        let member = self.member(id);
        match kind {
            0 => member.disk.fail_next_sync(),
            1 => member.slow = (factor, until_us),
            _ => {
                member.full_until_us = until_us;
                member.disk.set_full(true);
            }
        }
        tell!(self, "the disk of member {id} breaks, kind {kind}");
    }

    /// Whether a member's data may get lost: enough of the voters have theirs. While a change of
    /// the members is under way nothing may, since the new members may have nothing to spare.
    fn can_lose(&mut self, id: u64) -> bool {
        self.look_for_mended();
        let membership = &self.oracle.membership;
        let voters: Vec<u64> = membership.voters().map(|voter| voter.0).collect();
        let agrees = |voter: &u64| {
            let member = self.members.iter().find(|member| member.id == *voter);
            let process = member.and_then(|member| member.process.as_ref());
            process.is_some_and(|process| process.node().membership() == membership)
        };
        let is_changing = Rc::strong_count(&self.changes_wanted) > 1;
        if is_changing || !voters.contains(&id) || !voters.iter().all(agrees) {
            return false;
        }
        let sound = |member: &&crate::member::Member| {
            voters.contains(&member.id)
                && !(member.is_damaged || member.is_rotten)
                && member.standing() == Standing::Voter
        };
        let sound = self.members.iter().filter(sound).count();
        // With one less there is still a majority that includes a majority's last word.
        sound == voters.len() && voters.len() >= 3
    }

    /// Whether all who vote have all that they ever had.
    fn is_sound(&mut self) -> bool {
        self.look_for_mended();
        let membership = &self.oracle.membership;
        self.members.iter().all(|member| {
            let votes = membership.is_voter(MemberId(member.id));
            let is_whole = !(member.is_damaged || member.is_rotten);
            is_whole && (!votes || member.standing() == Standing::Voter)
        })
    }

    /// Members that had lost their data and vote again.
    fn look_for_mended(&mut self) {
        let membership = self.oracle.membership.clone();
        for member in self.members.iter_mut().filter(|member| member.is_damaged) {
            let is_voter = membership.is_voter(MemberId(member.id));
            member.is_damaged = !(is_voter && member.standing() == Standing::Voter);
        }
    }

    fn lose_data(&mut self, id: u64) {
        if !self.can_lose(id) {
            return;
        }
        let in_us = self.random.u64(20_000..1_000_000);
        let with_machine = self.random.bool();
        if self.random.bool() {
            self.die(id, with_machine, in_us);
            let member = self.member(id);
            member.disk.wipe();
            member.is_damaged = true;
            tell!(self, "member {id} has lost its data");
        } else if let Some(place) = self.member(id).rot() {
            self.member(id).is_rotten = true;
            tell!(self, "a bit of member {id} changes: {place}");
            self.die(id, with_machine, in_us);
        }
    }

    /// A member that leads.
    pub(crate) fn leader(&self) -> Option<u64> {
        let leading = self.members.iter().filter_map(|member| {
            let term = member.process.as_ref()?.node().leads()?;
            Some((term, member.id))
        });
        leading.max().map(|(_, id)| id)
    }

    fn change_members(&mut self) {
        let Some(leader) = self.leader() else { return };
        let id = self.random.u64(1..=self.members.len() as u64);
        let Some(process) = &self.member(leader).process else { return };
        let membership = process.node().membership().clone();
        let member_id = MemberId(id);
        let voters = membership.voters().count();
        let change = match membership.members.get(&member_id).map(|member| member.role) {
            None => {
                let role = if self.random.bool() { MemberRole::Voter } else { MemberRole::Learner };
                let member = Member { role, ..Member::default() };
                MembershipChange::Add { id: member_id, member }
            }
            Some(MemberRole::Learner) if self.random.bool() => {
                MembershipChange::Promote { id: member_id }
            }
            Some(MemberRole::Learner) => MembershipChange::Remove { id: member_id },
            // The others could not make up for what was lost, or for what will be.
            Some(MemberRole::Voter) if voters <= 2 || !self.is_sound() => return,
            Some(MemberRole::Voter) if self.random.bool() => {
                let rejoining = self.random.bool();
                MembershipChange::Demote { id: member_id, rejoining }
            }
            Some(MemberRole::Voter) => MembershipChange::Remove { id: member_id },
        };
        tell!(self, "wanted: {change:?}");
        if self.member(id).process.is_none() {
            self.schedule(1_000, Event::Start(id));
        }
        let wanted = Rc::clone(&self.changes_wanted);
        let Some(process) = &mut self.member(leader).process else { return };
        let ensemble = process.ensemble.clone();
        process.tasks.spawn(async move {
            let _ = ensemble.change_members(change).await;
            drop(wanted);
        });
    }

    fn transfer(&mut self, to: u64) {
        let Some(leader) = self.leader() else { return };
        let to = self.random.bool().then_some(MemberId(to));
        tell!(self, "wanted: leadership to {to:?}");
        let Some(process) = &mut self.member(leader).process else { return };
        let ensemble = process.ensemble.clone();
        process.tasks.spawn(async move {
            let _ = ensemble.transfer_leadership(to).await;
        });
    }

    fn jump(&mut self, id: u64) {
        let by_ms = self.random.i64(-3_600_000..=3_600_000);
        tell!(self, "the wall clock of member {id} is {by_ms} ms wrong");
        self.member(id).clocks.jump(by_ms);
    }

    fn disturb_client(&mut self) {
        let id = self.random.usize(..self.clients.len());
        let gone = self.clients.iter().filter(|client| client.stage == Stage::Gone).count();
        if self.random.u8(..3) == 0 && gone < VANISHING_MAX.min(self.clients.len() - 1) {
            let tells = self.random.bool();
            self.client_vanishes(id, tells);
        } else {
            self.client_leaves(id);
        }
    }

    /// All that was broken is mended.
    pub(crate) fn mend(&mut self) {
        tell!(self, "all is mended");
        self.is_faulty = false;
        self.network.heal();
        let weather = &mut self.network.weather;
        (weather.lost, weather.late) = (0, 0);
        for id in 1..=self.members.len() as u64 {
            let member = self.member(id);
            member.slow = (1, 0);
            member.full_until_us = 0;
            member.disk.set_full(false);
            if member.process.is_none() && member.run > 0 {
                self.schedule(1_000, Event::Start(id));
            }
        }
        self.reconnect();
    }
}
