//! The members at work: their steps, their disks, what they send each other, and what the oracle is
//! told of it.

use ottla_common::types::MemberId;
use ottla_coordinator::consensus::load::command_of;
use ottla_coordinator::consensus::messages::PeerMessage;
use ottla_coordinator::consensus::node::Input;
use ottla_coordinator::consensus::raft::{Entry, Standing};
use ottla_coordinator::consensus::stepped::Job;

use crate::invariants::{
    Check, commit_quorum, commit_stays, leader_completeness, lease, state_machine_safety,
};
use crate::network::End;
use crate::tell;
use crate::world::{Event, World};

impl World {
    /// Starts a member that does not run.
    pub(crate) fn start(&mut self, id: u64) -> Check {
        let (plan, now_us, configured) = (self.plan.clone(), self.now_us, self.configured.clone());
        let member = self.member(id);
        if member.process.is_some() {
            return Ok(());
        }
        member.disk.set_full(member.full_until_us > now_us);
        if let Err(error) = member.start(&plan, (&configured, now_us)) {
            tell!(self, "member {id} does not start: {error}");
            return self.refused(id, &error);
        }
        let run = self.member(id).run;
        self.member(id).is_rotten = false;
        tell!(self, "member {id} starts");
        let (tick_us, expire_us) = (self.random.u64(..20_000), self.random.u64(..50_000));
        self.schedule(tick_us, Event::Tick(id, run));
        self.schedule(expire_us, Event::Expire(id, run));
        self.started_alone(id)?;
        if let Some(process) = &self.member(id).process {
            let (zxid, digest) = (process.live.zxid().0, process.live.view().machine().digest());
            self.oracle.digests.state(id, zxid, digest, "started")?;
        }
        self.reconnect();
        self.step(id, false)
    }

    /// A member without others takes all that its log holds for committed, and applies it when it
    /// starts.
    fn started_alone(&mut self, id: u64) -> Check {
        let known = self.oracle.committed.last();
        let applied = self.member(id).process.as_ref().map(|process| process.live.zxid().0);
        if applied.unwrap_or_default().unsigned_abs() <= known {
            return Ok(());
        }
        for entry in self.member(id).logged() {
            if entry.index > known {
                if let Some(process) = &mut self.member(id).process {
                    process.committed = entry.index - 1;
                }
                let durable = [(entry.index, entry.term)];
                self.member(id).shadow.persisted(durable.into_iter());
                self.committed(id, &entry)?;
            }
        }
        Ok(())
    }

    /// A member does not start: if its files are damaged, its owner empties the disk.
    fn refused(&mut self, id: u64, error: &str) -> Check {
        let in_us = self.random.u64(100_000..1_000_000);
        let member = self.member(id);
        let is_damage = error.contains("Nothing was changed");
        if is_damage {
            if !member.is_rotten {
                let what = format!("member {id} does not start, undamaged as it is: {error}");
                return Err(crate::invariants::violation("storage", what));
            }
            member.disk.wipe();
            member.is_damaged = true;
            tell!(self, "the disk of member {id} is emptied");
        }
        self.schedule(in_us, Event::Start(id));
        Ok(())
    }

    /// Members that can reach each other connect again.
    pub(crate) fn reconnect(&mut self) {
        let ids: Vec<(u64, u64)> = self.members.iter().map(|one| (one.id, one.run)).collect();
        for (id, run) in &ids {
            for (other, _) in &ids {
                let reaches = self.network.reaches(End::Member(*id), End::Member(*other));
                if id != other && reaches && self.random.bool() {
                    let in_us = self.random.u64(1_000..100_000);
                    self.schedule(in_us, Event::Reach(*id, *run, *other, true));
                }
            }
        }
    }

    pub(crate) fn reach(&mut self, (id, run): (u64, u64), other: u64, up: bool) -> Check {
        if self.awake(id, run, Event::Reach(id, run, other, up)).is_none() {
            return Ok(());
        }
        if let Some(process) = &mut self.member(id).process {
            let other = MemberId(other);
            process.stepped.input(if up { Input::PeerUp(other) } else { Input::PeerDown(other) });
        }
        self.step(id, false)
    }

    /// Lets a member do what it can, and takes what it wants done.
    pub(crate) fn step(&mut self, id: u64, is_tick: bool) -> Check {
        let mut is_tick = is_tick;
        loop {
            let Some(process) = &mut self.member(id).process else { return Ok(()) };
            let did_something = process.tasks.run();
            let stepped = process.stepped.step(is_tick);
            is_tick = false;
            if let Err(error) = stepped {
                self.fails(id, &error);
                return Ok(());
            }
            let jobs = process.stepped.take_jobs();
            let sent = process.stepped.take_sent();
            let outgoing = std::mem::take(&mut *process.outgoing.borrow_mut());
            let is_idle = !did_something && jobs.is_empty() && sent.is_empty();
            let is_idle = is_idle && outgoing.is_empty();
            for job in jobs {
                self.take_job(id, job)?;
            }
            self.observe(id)?;
            let newest_term = self.oracle.elections.newest_term();
            for (to, message) in sent {
                if matches!(message, PeerMessage::TouchAck { .. }) {
                    let process = self.member(id).process.as_ref();
                    let term = process.map_or(0, |process| process.node().leadership().term);
                    lease::promises(id, term, newest_term)?;
                }
                self.send(id, to.0, message);
            }
            self.deliver(id, outgoing);
            if is_idle {
                break;
            }
        }
        self.start_work(id);
        Ok(())
    }

    /// A member cannot go on: its process ends, and is started again.
    fn fails(&mut self, id: u64, error: &str) {
        tell!(self, "member {id} fails: {error}");
        self.member(id).die(false);
        self.schedule(0, Event::Resume(id));
        let in_us = self.random.u64(50_000..1_500_000);
        self.schedule(in_us, Event::Start(id));
    }

    /// Who leads?
    fn observe(&mut self, id: u64) -> Check {
        let place = usize::try_from(id).unwrap_or_default() - 1;
        let member = &mut self.members[place];
        let Some(process) = &mut member.process else { return Ok(()) };
        let Some(term) = process.node().leads().filter(|term| *term != process.led) else {
            return Ok(());
        };
        process.led = term;
        tell!(self, "member {id} leads in term {term}");
        self.oracle.elections.leads(id, term, self.now_us)?;
        lease::elected(id, term, &self.lease_holders())?;
        let shadow = &self.members[place].shadow;
        let log = (shadow.start(), |index| shadow.get(index));
        leader_completeness::check((id, term), &self.oracle.committed, log)?;
        if self.is_faulty && self.random.u32(..100) < self.plan.falls {
            self.isolate(id);
        }
        Ok(())
    }

    /// Members that hold the lease by their own clocks, with their terms.
    fn lease_holders(&self) -> Vec<(u64, u64)> {
        let held = self.members.iter().filter_map(|member| {
            let node = member.process.as_ref()?.node();
            let now = member.clocks.at(self.now_us);
            let term = node.leads().filter(|_| node.holds_lease(now))?;
            Some((member.id, term))
        });
        held.collect()
    }

    fn take_job(&mut self, id: u64, job: Job) -> Check {
        let place = usize::try_from(id).unwrap_or_default() - 1;
        for entry in job.to_persist() {
            let member = &mut self.members[place];
            let previous = member.shadow.append(entry);
            self.oracle.logs.appended(id, entry, previous)?;
        }
        for entry in job.to_apply() {
            self.committed(id, entry)?;
        }
        let Some(process) = &mut self.members[place].process else { return Ok(()) };
        if job.applies() {
            process.apply_jobs.push_back(job);
        } else {
            process.disk_jobs.push_back(job);
        }
        Ok(())
    }

    fn committed(&mut self, id: u64, entry: &Entry) -> Check {
        let place = usize::try_from(id).unwrap_or_default() - 1;
        if let Some(process) = &mut self.members[place].process {
            // What a snapshot from elsewhere holds may be said to be committed once more.
            if entry.index > process.installed {
                state_machine_safety::in_order(id, process.committed, entry)?;
                process.committed = entry.index;
            }
        }
        let process = self.members[place].process.as_ref();
        let term = process.map_or(entry.term, |process| process.node().leadership().term);
        if !self.oracle.committed.commit((id, term), entry)? {
            return Ok(());
        }
        tell!(self, "entry {} of term {} is committed", entry.index, entry.term);
        let voters = self.voters();
        let members = &self.members;
        let durable = |id: u64| {
            let member = members.iter().find(|member| member.id == id);
            member.is_some_and(|member| member.shadow.was_durable(entry.index, entry.term))
        };
        commit_quorum::check(entry.index, &voters, &durable)?;
        if entry.term < term {
            commit_stays::check(entry.index, &self.logs((entry.index, entry.term)))?;
        }
        let Ok((command, membership)) = command_of(entry) else { return Ok(()) };
        if let Some(membership) = membership {
            tell!(self, "the members are {membership:?}");
            self.oracle.membership = membership;
        }
        tell!(self, "  {command:?}");
        self.oracle.apply(entry, &command, self.now_us)
    }

    /// The voters' logs, as they would be after a restart.
    fn logs(&self, (index, term): (u64, u64)) -> Vec<commit_stays::Log> {
        let membership = &self.oracle.membership;
        let voters = self.members.iter().filter(|one| membership.is_voter(MemberId(one.id)));
        let logs = voters.map(|member| {
            let entries = member.logged();
            let start = member.shadow.snapshot();
            let last = entries.last().map_or(start, |entry| (entry.term, entry.index));
            let holds = |entry: &Entry| (entry.index, entry.term) == (index, term);
            let has_entry = entries.iter().any(holds) || start.1 >= index;
            let votes = member.standing() == Standing::Voter;
            commit_stays::Log { member: member.id, last: last.max(start), votes, has_entry }
        });
        logs.collect()
    }

    /// The voters as they are committed, and as each member knows them.
    fn voters(&self) -> Vec<Vec<u64>> {
        let running = self.members.iter().filter_map(|member| member.process.as_ref());
        let known = running.map(|process| process.node().membership());
        let all = known.chain([&self.oracle.membership]);
        all.map(|membership| membership.voters().map(|voter| voter.0).collect()).collect()
    }

    fn send(&mut self, from: u64, to: u64, message: PeerMessage) {
        let exists = self.members.iter().any(|member| member.id == to);
        if !exists {
            return;
        }
        let (one, other) = (End::Member(from), End::Member(to));
        let arrivals = self.network.arrivals(one, other, self.now_us);
        for at_us in arrivals.into_iter().flatten() {
            let in_us = at_us - self.now_us;
            self.schedule(in_us, Event::Peer(from, to, Box::new(message.clone())));
        }
    }

    /// Sets disk and state to work.
    fn start_work(&mut self, id: u64) {
        let (plan, now_us) = (self.plan.clone(), self.now_us);
        let member = self.member(id);
        let run = member.run;
        let flush_us = member.flush_us(&plan, now_us);
        let Some(process) = &mut member.process else { return };
        let begins_flush = process.disk_batch == 0 && !process.disk_jobs.is_empty();
        if begins_flush {
            process.disk_batch = process.disk_jobs.len();
        }
        let begins_apply = !process.apply_is_busy && !process.apply_jobs.is_empty();
        process.apply_is_busy |= begins_apply;
        if begins_flush {
            self.schedule(flush_us, Event::Disk(id, run));
        }
        if begins_apply {
            let in_us = self.random.u64(..=plan.apply_delay_us);
            self.schedule(in_us, Event::Apply(id, run));
        }
    }

    pub(crate) fn disk_done(&mut self, id: u64, run: u64) -> Check {
        if self.awake(id, run, Event::Disk(id, run)).is_none() {
            return Ok(());
        }
        let now_us = self.now_us;
        let member = self.member(id);
        member.disk.set_full(member.full_until_us > now_us);
        let Some(process) = &mut member.process else { return Ok(()) };
        let jobs: Vec<Job> = process.disk_jobs.drain(..process.disk_batch).collect();
        process.disk_batch = 0;
        let entries = jobs.iter().flat_map(Job::to_persist);
        let durable: Vec<_> = entries.map(|entry| (entry.index, entry.term)).collect();
        let installs: Vec<_> = jobs.iter().filter_map(Job::begins_behind).collect();
        process.stepped.carry_out(jobs);
        if process.stepped.has_failed() {
            return self.step(id, false);
        }
        member.shadow.persisted(durable.into_iter());
        for (index, term) in installs {
            member.shadow.install(index, term);
        }
        self.step(id, false)
    }

    pub(crate) fn apply(&mut self, id: u64, run: u64) -> Check {
        if self.awake(id, run, Event::Apply(id, run)).is_none() {
            return Ok(());
        }
        let Some(process) = &mut self.member(id).process else { return Ok(()) };
        process.apply_is_busy = false;
        let jobs: Vec<Job> = process.apply_jobs.drain(..).collect();
        for job in jobs {
            let Some(process) = &mut self.member(id).process else { return Ok(()) };
            if let Some(index) = job.takes_over() {
                process.committed = process.committed.max(index);
                process.installed = index;
            }
            process.stepped.carry_out(vec![job]);
            let (zxid, digest) = (process.live.zxid().0, process.live.view().machine().digest());
            self.oracle.digests.state(id, zxid, digest, "applied")?;
        }
        self.step(id, false)
    }
}
