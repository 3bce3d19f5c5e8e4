//! What the processes of brokers do: start, lead, append, flush, commit, fetch.

use super::*;

impl World {
    pub(super) fn start(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        if broker.runs {
            return;
        }
        let id = broker.id;
        let is_known = self.tree.lives.contains_key(&id);
        if is_known && self.rng.bool() {
            // It knows that its earlier process is dead, and ends what that one stood for.
            self.tell(|| format!("{id} ends the registration of its earlier process"));
            self.end_life(id);
        }
        let broker = &mut self.brokers[at];
        if broker.has_lost_disk && self.tree.lives.contains_key(&broker.id) {
            // It waits until its earlier session is over, before it takes its promises back.
            self.after(TICK, Event::Start(at));
            self.expire();
            return;
        }
        let broker = &mut self.brokers[at];
        broker.runs = true;
        broker.process += 1;
        broker.paused_until = 0;
        broker.log.rebuild();
        broker.role = Role::Follower { epoch: -1, leader: None };
        broker.image = Arc::default();
        (broker.life, broker.lease_until) = (None, 0);
        broker.waiting.clear();
        (broker.fetch, broker.flushing, broker.proposing) = (None, false, false);
        broker.controls = None;
        // It is shown the tree before it registers.
        broker.born_at = Some(self.tree.zxid);
        let id = broker.id;
        if std::mem::take(&mut broker.has_lost_disk) {
            self.resign(id);
        }
        self.tell(|| format!("{id} starts"));
        self.after(1, Event::Tick(at));
    }

    /// A broker whose disk is empty takes its promises back before it registers.
    pub(super) fn resign(&mut self, id: BrokerId) {
        let mut state = self.tree.state.clone();
        state.isr.retain(|member| *member != id);
        state.elr.retain(|member| *member != id);
        let elected_at = self.tree.mzxid;
        let leads = |leader: &BrokerId| {
            *leader != id
                && self.tree.lives.get(leader).is_some_and(|(life, _)| *life <= elected_at)
        };
        if state.leader.is_some_and(|leader| !leads(&leader)) {
            (state.leader, state.leader_epoch) = (None, state.leader_epoch + 1);
        }
        if state != self.tree.state {
            self.write_state(state);
        }
    }

    pub(super) fn tick(&mut self, at: usize) -> Result<(), Violation> {
        if !self.brokers[at].runs {
            return Ok(());
        }
        if self.brokers[at].paused_until > self.now {
            let delay = self.brokers[at].paused_until - self.now;
            self.after(delay, Event::Tick(at));
            return Ok(());
        }
        let (id, process) = (self.brokers[at].id, self.brokers[at].process);
        let sent = self.now;
        self.send((id.0, -1), Event::Heartbeat { from: at, process, sent });
        self.fetch(at);
        self.produce(at)?;
        self.propose(at)?;
        self.control(at);
        self.flush(at);
        if self.rng.u8(..) < 20 {
            let log = &mut self.brokers[at].log;
            log.checkpoint = log.high_watermark;
        }
        self.after(TICK, Event::Tick(at));
        Ok(())
    }

    pub(super) fn has_lease(&self, at: usize) -> bool {
        self.is(Mistake::NoLease) || self.brokers[at].lease_until > self.now
    }

    pub(super) fn apply(&mut self, at: usize, image: Arc<MetadataImage>) -> Result<(), Violation> {
        let partition = image.topics.values().next().and_then(|topic| topic.partition(0).cloned());
        let truncates = self.is(Mistake::TruncateToHighWatermark);
        let broker = &mut self.brokers[at];
        broker.image = image;
        let born_at = *broker.born_at.get_or_insert(broker.image.zxid.0);
        let own = broker.image.brokers.get(&broker.id).map(|own| own.broker_epoch);
        let own = own.filter(|own| *own > born_at || self.mistake == Some(Mistake::MissedBounce));
        let has_ended = |(_, since): &mut (i32, i64)| {
            broker.image.zxid.0 >= *since && broker.image.controller != Some(broker.id)
        };
        broker.controls.take_if(has_ended);
        let Some(state) = partition else { return Ok(()) };
        let known = match &broker.role {
            Role::Leader { leadership, .. } => leadership.leader_epoch(),
            Role::Follower { epoch, .. } => *epoch,
        };
        if state.leader_epoch < known {
            return Ok(());
        }
        let is_named = state.leader == Some(broker.id);
        let is_of_this_life = own.is_some_and(|own| own <= state.state_mzxid.0)
            || self.mistake == Some(Mistake::MissedBounce);
        if !is_named || !is_of_this_life {
            let was_other = known != state.leader_epoch;
            broker.waiting.clear();
            let leader = state.leader.filter(|_| !is_named);
            broker.role = Role::Follower { epoch: state.leader_epoch, leader };
            if was_other {
                broker.fetch = None;
            }
            if truncates && was_other {
                let high_watermark = broker.log.high_watermark as i64;
                broker.log.truncate(high_watermark);
            }
            return Ok(());
        }
        match &mut broker.role {
            Role::Leader { leadership, .. } if known == state.leader_epoch => {
                leadership.update(&state);
            }
            role => {
                let since = match role {
                    Role::Leader { since, .. } => *since,
                    Role::Follower { .. } => state.leader_epoch,
                };
                let end = broker.log.end();
                broker.log.epochs.assign(state.leader_epoch, end);
                let beginning = Beginning {
                    broker_id: broker.id,
                    epoch_start_offset: end,
                    high_watermark: broker.log.high_watermark as i64,
                };
                let leadership = Box::new(Leadership::begin(beginning, &state));
                broker.role = Role::Leader { since, leadership };
                let (id, epoch) = (broker.id, state.leader_epoch);
                self.tell(|| format!("{id} leads in epoch {epoch} from {end}"));
                let before = self.leaders.insert(epoch, id);
                if before.is_some_and(|before| before != id) {
                    let what = format!("epoch {epoch} is led by {before:?} and by {id}");
                    return Err(Violation { invariant: "one leader an epoch", what });
                }
            }
        }
        self.advance(at)
    }

    pub(super) fn produce(&mut self, at: usize) -> Result<(), Violation> {
        let has_lease = self.has_lease(at);
        let min_insync = self.min_insync();
        let Role::Leader { leadership, .. } = &self.brokers[at].role else { return Ok(()) };
        if !has_lease
            || leadership.in_sync_count() < min_insync
            || self.now > self.harm_until + 4_000
        {
            return Ok(());
        }
        let epoch = leadership.leader_epoch();
        let id = self.brokers[at].id;
        // Whoever's session ended long ago must know that by himself.
        let is_over = self.tree.lives.get(&id).map(|(life, _)| *life) != self.brokers[at].life;
        if is_over && self.brokers[at].lease_until + SESSION < self.now {
            let what = format!("{id} takes records in epoch {epoch}, long after its session");
            return Err(Violation { invariant: "a leader knows its end", what });
        }
        for _ in 0..self.rng.u8(0..3) {
            self.next_value += 1;
            let value = self.next_value;
            let broker = &mut self.brokers[at];
            broker.log.append(Record { epoch, value });
            let end = broker.log.end();
            broker.waiting.push((end, epoch, value));
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, at: usize) {
        let broker = &mut self.brokers[at];
        if broker.flushing || broker.log.flushed >= broker.log.records.len() {
            return;
        }
        broker.flushing = true;
        let (end, cuts, process) = (broker.log.records.len(), broker.log.cuts, broker.process);
        let delay = self.rng.u64(1..60);
        self.after(delay, Event::Flushed { at, process, end, cuts });
    }

    pub(super) fn flushed(
        &mut self,
        at: usize,
        process: u64,
        end: usize,
        cuts: u64,
    ) -> Result<(), Violation> {
        let broker = &mut self.brokers[at];
        if broker.process != process || !broker.runs {
            return Ok(());
        }
        broker.flushing = false;
        if broker.log.cuts == cuts {
            broker.log.flushed = broker.log.flushed.max(end);
        }
        self.advance(at)
    }

    pub(super) fn min_insync(&self) -> usize {
        if self.is(Mistake::IgnoreMinIsr) { 1 } else { self.settings.min_insync }
    }

    /// What counts of a replica's log.
    pub(super) fn counted(&self, log: &Log) -> Ends {
        let mut ends = log.ends();
        if self.is(Mistake::NoFlush) {
            ends.flushed_offset = ends.log_end_offset;
        }
        ends
    }

    pub(super) fn advance(&mut self, at: usize) -> Result<(), Violation> {
        if !self.has_lease(at) {
            return Ok(());
        }
        let mut own = self.counted(&self.brokers[at].log);
        if self.is(Mistake::AckBeforeFlush) {
            own.flushed_offset = own.log_end_offset;
        }
        let settings = PartitionSettings { min_insync: self.min_insync(), ..self.settings };
        let broker = &mut self.brokers[at];
        let Role::Leader { since, leadership } = &mut broker.role else { return Ok(()) };
        let since = *since;
        let Some(offset) = leadership.advance(own, settings) else { return Ok(()) };
        let isr = leadership.isr().len();
        self.commit(at, usize::try_from(offset).unwrap_or(0))?;
        let broker = &mut self.brokers[at];
        let (done, waiting): (Vec<_>, Vec<_>) =
            broker.waiting.drain(..).partition(|(end, ..)| *end <= offset);
        broker.waiting = waiting;
        let id = broker.id;
        for (end, epoch, value) in done.into_iter().filter(|(_, epoch, _)| *epoch >= since) {
            if isr < self.settings.min_insync {
                let what = format!("{id} acknowledged {value} with {isr} in sync (epoch {epoch})");
                return Err(Violation { invariant: "min.insync.replicas", what });
            }
            self.acknowledged.insert(end - 1, value);
        }
        Ok(())
    }

    pub(super) fn fetch(&mut self, at: usize) {
        let (now, skips) = (self.now, self.is(Mistake::AckBeforeFlush));
        let counted = self.counted(&self.brokers[at].log);
        let broker = &mut self.brokers[at];
        let Role::Follower { epoch, leader: Some(leader) } = broker.role else { return };
        let Some(life) = broker.life else { return };
        if broker.fetch.is_some_and(|(_, sent)| sent + RETRY > now) {
            return;
        }
        broker.next_fetch += 1;
        let number = broker.next_fetch;
        broker.fetch = Some((number, now));
        let mut ends = counted;
        if skips {
            ends.flushed_offset = ends.log_end_offset;
        }
        let told = Told { life, epoch, ends, last_epoch: broker.log.last_epoch() };
        let (id, process) = (broker.id, broker.process);
        let event = Event::Fetch { from: at, process, to: leader, number, told };
        self.send((id.0, leader.0), event);
    }

    pub(super) fn serve(
        &mut self,
        from: usize,
        process: u64,
        to: BrokerId,
        (number, told): (u64, Told),
    ) -> Result<(), Violation> {
        let at = self.brokers.iter().position(|broker| broker.id == to).unwrap_or(0);
        if !self.brokers[at].runs || self.brokers[at].paused_until > self.now {
            return Ok(());
        }
        let (now, follower) = (self.now, self.brokers[from].id);
        let any_epoch = self.is(Mistake::CountOlderEpoch);
        let durability = self.settings.durability;
        let has_lease = self.has_lease(at);
        let broker = &mut self.brokers[at];
        let Role::Leader { leadership, .. } = &mut broker.role else { return Ok(()) };
        let is_same = leadership.leader_epoch() == told.epoch;
        let log = &broker.log;
        let end = LogEnd { offset: told.ends.log_end_offset, epoch: told.last_epoch };
        let is_prefix = is_prefix(end, log.end(), |epoch| log.end_of(epoch));
        let fetch = FollowerFetch {
            broker_id: follower,
            broker_epoch: told.life,
            ends: told.ends,
            now_ms: now,
        };
        let mut answer = Answer::Error;
        if (is_same && is_prefix) || any_epoch {
            let _ = leadership.fetched(fetch, broker.log.end(), durability);
        }
        if is_same && has_lease {
            let log = &broker.log;
            answer = if let Some(told) = divergence(end, |epoch| log.end_of(epoch)) {
                Answer::Diverging(told)
            } else {
                let start = usize::try_from(told.ends.log_end_offset).unwrap_or(0);
                let records = broker.log.records.iter().skip(start).take(BATCH).copied();
                let records = records.collect();
                Answer::Records(told.ends.log_end_offset, records, broker.log.high_watermark)
            };
        }
        self.advance(at)?;
        let epoch = told.epoch;
        let event = Event::Fetched { to: from, process, number, epoch, answer };
        self.send((to.0, follower.0), event);
        Ok(())
    }

    pub(super) fn fetched(
        &mut self,
        at: usize,
        process: u64,
        number: u64,
        (asked_in, answer): (i32, Answer),
    ) -> Result<(), Violation> {
        let cuts_once = self.is(Mistake::TruncateOnce);
        let broker = &mut self.brokers[at];
        if broker.process != process || broker.fetch.map(|(number, _)| number) != Some(number) {
            return Ok(());
        }
        broker.fetch = None;
        let Role::Follower { epoch, .. } = broker.role else { return Ok(()) };
        if !broker.runs || epoch != asked_in {
            return Ok(());
        }
        match answer {
            Answer::Error => {}
            Answer::Diverging(told) => {
                let log = &broker.log;
                let offset = if cuts_once {
                    told.end_offset.max(log.high_watermark as i64)
                } else {
                    cut_offset(told, |epoch| log.end_of(epoch)).unwrap_or(0)
                };
                let (id, high_watermark) = (broker.id, broker.log.high_watermark as i64);
                broker.log.truncate(offset);
                if cuts_once {
                    broker.log.epochs.assign(asked_in, offset);
                }
                if offset < high_watermark {
                    let what = format!("{id} cuts to {offset}, below {high_watermark}");
                    return Err(Violation { invariant: "no cut below the high watermark", what });
                }
            }
            Answer::Records(from, records, high_watermark) => {
                for (offset, record) in (from..).zip(records) {
                    if offset == broker.log.end() {
                        broker.log.append(record);
                    }
                }
                let known = high_watermark.min(broker.log.records.len());
                broker.log.high_watermark = broker.log.high_watermark.max(known);
            }
        }
        self.flush(at);
        self.fetch(at);
        Ok(())
    }
}
