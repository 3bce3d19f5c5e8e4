//! What stands in the tree, and who writes it: leaders their ISRs, the controller its elections.

use super::*;

impl World {
    pub(super) fn propose(&mut self, at: usize) -> Result<(), Violation> {
        if !self.has_lease(at) || self.brokers[at].proposing {
            return Ok(());
        }
        let own = self.counted(&self.brokers[at].log);
        let settings = PartitionSettings { min_insync: self.min_insync(), ..self.settings };
        let now = self.now;
        let is_careless = self.is(Mistake::NoBrokerEpochCheck);
        let broker = &mut self.brokers[at];
        let (image, Some(life)) = (Arc::clone(&broker.image), broker.life) else { return Ok(()) };
        let Role::Leader { leadership, .. } = &mut broker.role else { return Ok(()) };
        let is_welcome = |id: BrokerId, epoch: i64| {
            let known = image.brokers.get(&id).is_some_and(|other| other.broker_epoch == epoch);
            known || is_careless
        };
        let Some(proposal) = leadership.propose((now, LAG), (own, settings), is_welcome) else {
            return Ok(());
        };
        broker.proposing = true;
        let (id, process) = (broker.id, broker.process);
        if self.is(Mistake::CommittedIsrOnly)
            && let Role::Leader { leadership, .. } = &mut self.brokers[at].role
        {
            leadership.resolve(&proposal, Outcome::Refused);
        }
        let isr: Vec<i32> = proposal.state.isr.iter().map(|member| member.0).collect();
        self.tell(|| format!("{id} proposes the ISR {isr:?}"));
        let (heard, proposal) = (self.rng.u8(..) > 30, Box::new(proposal));
        let event = Event::Propose { from: at, process, life, proposal: proposal.clone(), heard };
        if !self.send((id.0, -1), event) {
            self.after(RETRY, Event::ReadBack { to: at, process, proposal });
        }
        Ok(())
    }

    pub(super) fn write_isr(
        &mut self,
        from: usize,
        process: u64,
        life: i64,
        (proposal, heard): (Box<Proposal>, bool),
    ) {
        let id = self.brokers[from].id;
        let lives = |id: &BrokerId, life: i64| {
            self.tree.lives.get(id).is_some_and(|(known, _)| *known == life)
        };
        let joins = |(id, life): &(BrokerId, i64)| {
            lives(id, *life) || self.mistake == Some(Mistake::NoBrokerEpochCheck)
        };
        // A write of a session that is over is not done.
        let is_guarded = lives(&id, life) && proposal.joining.iter().all(joins);
        let outcome = if !is_guarded {
            Outcome::Refused
        } else if self.tree.version != proposal.version {
            Outcome::Overtaken
        } else {
            self.write_state(proposal.state.clone());
            Outcome::Written
        };
        let is_heard = heard || self.now > self.harm_until;
        let event = Event::Proposed { to: from, process, proposal: proposal.clone(), outcome };
        if !is_heard || !self.send((-1, id.0), event) {
            let patience = if self.is(Mistake::LostReplyIsFailure) { 1 } else { RETRY };
            self.after(patience, Event::ReadBack { to: from, process, proposal });
        }
    }

    pub(super) fn resolve(
        &mut self,
        at: usize,
        process: u64,
        proposal: &Proposal,
        outcome: Outcome,
    ) -> Result<(), Violation> {
        let is_careless = self.is(Mistake::OvertakenIsRefused);
        let broker = &mut self.brokers[at];
        if broker.process != process || !broker.runs {
            return Ok(());
        }
        broker.proposing = false;
        let outcome = match outcome {
            Outcome::Overtaken if is_careless => Outcome::Refused,
            outcome => outcome,
        };
        if let Role::Leader { leadership, .. } = &mut broker.role
            && leadership.leader_epoch() == proposal.state.leader_epoch
        {
            leadership.resolve(proposal, outcome);
        }
        self.advance(at)
    }

    /// The answer never came: what stands in the tree tells.
    pub(super) fn read_back(
        &mut self,
        at: usize,
        process: u64,
        proposal: Box<Proposal>,
    ) -> Result<(), Violation> {
        if self.is(Mistake::LostReplyIsFailure) {
            return self.resolve(at, process, &proposal, Outcome::Refused);
        }
        let id = self.brokers[at].id.0;
        if self.cut.contains(&(id, -1)) || self.cut.contains(&(-1, id)) {
            self.after(RETRY, Event::ReadBack { to: at, process, proposal });
            return Ok(());
        }
        let outcome = if self.tree.version == proposal.version {
            Outcome::Refused
        } else if self.tree.version == proposal.version + 1 && self.tree.state == proposal.state {
            Outcome::Written
        } else {
            Outcome::Overtaken
        };
        self.resolve(at, process, &proposal, outcome)
    }

    pub(super) fn control(&mut self, at: usize) {
        let broker = &self.brokers[at];
        let id = broker.id;
        if broker.life.is_none() || !broker.image.brokers.contains_key(&id) {
            return;
        }
        if self.cut.contains(&(id.0, -1)) {
            return;
        }
        let Some((epoch, _)) = broker.controls else {
            let seems_free = broker.image.controller.is_none();
            let is_registered = self.tree.lives.contains_key(&id);
            if seems_free && is_registered && self.tree.controller.is_none() {
                self.tree.controller = Some(id);
                self.tree.controller_epoch += 1;
                self.changed();
                self.brokers[at].controls = Some((self.tree.controller_epoch, self.tree.zxid));
            }
            return;
        };
        let mut image = (*broker.image).clone();
        if self.is(Mistake::MissedBounce)
            && let Some(topic) = image.topics.values_mut().next()
        {
            Arc::make_mut(topic).partitions[0].state_mzxid = Zxid(i64::MAX);
        }
        let rules = |_: &str| Rules {
            min_insync_replicas: self.settings.min_insync,
            unclean_allowed: false,
        };
        let survey = Survey {
            image: &image,
            seen: None,
            again: &BTreeSet::new(),
            rules: &rules,
            controller_epoch: epoch,
        };
        let mut elections = survey.elections();
        if elections.is_empty() && self.now < self.harm_until && self.rng.u8(..) < 40 {
            elections = survey.preferred();
        }
        let Some(election) = elections.into_iter().next() else { return };
        let life = |leader: BrokerId| Some((leader, image.brokers.get(&leader)?.broker_epoch));
        let leader_life = election.state.leader.and_then(life);
        let version = election.state_version;
        let state = election.state;
        let event = Event::Elect { epoch, state, version, leader_life };
        self.send((id.0, -1), event);
    }

    pub(super) fn elect(
        &mut self,
        (epoch, state, version): (i32, PartitionState, i32),
        leader_life: Option<(BrokerId, i64)>,
    ) {
        let is_fresh = leader_life.is_none_or(|(id, life)| {
            self.tree.lives.get(&id).is_some_and(|(known, _)| *known == life)
        });
        let is_in_office = epoch == self.tree.controller_epoch;
        // A process may die, or lose its office, while what it wrote is under way.
        if is_fresh && is_in_office && version == self.tree.version {
            self.check_election(&state);
            let (leader, number) = (state.leader, state.leader_epoch);
            self.tell(|| format!("{leader:?} is elected for epoch {number}"));
            self.write_state(state);
        }
    }

    pub(super) fn heartbeat(&mut self, from: usize, process: u64, sent: u64) {
        if self.brokers[from].process != process {
            return;
        }
        let id = self.brokers[from].id;
        self.expire();
        let now = self.now;
        if let Some((_, heard)) = self.tree.lives.get_mut(&id) {
            if self.tree.processes.get(&id) != Some(&process) {
                return;
            }
            *heard = now;
        } else {
            self.tree.zxid += 1;
            let life = self.tree.zxid;
            self.tree.lives.insert(id, (life, now));
            self.tree.processes.insert(id, process);
            self.tell(|| format!("{id} is registered in life {life}"));
            self.changed();
        }
        let life = self.tree.lives[&id].0;
        let event = Event::Leased { to: from, process, life, sent };
        self.send((-1, id.0), event);
        // Whoever missed an image gets it with the next word.
        let image = self.image();
        if self.brokers[from].image.zxid < image.zxid {
            self.show(from, image);
        }
    }

    pub(super) fn expire(&mut self) {
        let now = self.now;
        let over: Vec<BrokerId> = self
            .tree
            .lives
            .iter()
            .filter(|(_, (_, heard))| heard + SESSION < now)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.tell(|| format!("{id}'s session is over"));
            self.end_life(id);
        }
    }

    /// A registration is gone, and with it the office.
    pub(super) fn end_life(&mut self, id: BrokerId) {
        self.tree.lives.remove(&id);
        self.tree.processes.remove(&id);
        if self.tree.controller == Some(id) {
            self.tree.controller = None;
        }
        self.tree.zxid += 1;
        self.changed();
    }

    pub(super) fn write_state(&mut self, state: PartitionState) {
        self.check_state(&state);
        self.tree.zxid += 1;
        self.tree.mzxid = self.tree.zxid;
        self.tree.version += 1;
        self.tree.state = state;
        self.changed();
    }

    pub(super) fn image(&self) -> Arc<MetadataImage> {
        let mut image = MetadataImage { zxid: Zxid(self.tree.zxid), ..MetadataImage::default() };
        image.controller = self.tree.controller;
        for (id, (life, _)) in &self.tree.lives {
            let broker = BrokerImage {
                id: *id,
                broker_epoch: *life,
                listeners: Vec::new(),
                rack: None,
                shutting_down: false,
            };
            image.brokers.insert(*id, Arc::new(broker));
        }
        let state = &self.tree.state;
        let partition = PartitionImage {
            replicas: self.brokers.iter().map(|broker| broker.id).collect(),
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            isr: state.isr.clone(),
            elr: state.elr.clone(),
            controller_epoch: state.controller_epoch,
            state_version: self.tree.version,
            state_mzxid: Zxid(self.tree.mzxid),
            ..PartitionImage::default()
        };
        let name: Arc<str> = "t".into();
        let topic = TopicImage {
            name: name.clone(),
            id: Uuid([1; 16]),
            partitions: vec![partition],
            node_version: 0,
        };
        image.topics.insert(name, Arc::new(topic));
        Arc::new(image)
    }

    /// Everybody is shown the tree, each after a while, in order.
    pub(super) fn changed(&mut self) {
        self.tree.zxid += 1;
        let image = self.image();
        for at in 0..self.brokers.len() {
            self.show(at, image.clone());
        }
    }

    pub(super) fn show(&mut self, at: usize, image: Arc<MetadataImage>) {
        let (id, process) = (self.brokers[at].id.0, self.brokers[at].process);
        if !self.brokers[at].runs || self.cut.contains(&(-1, id)) {
            return;
        }
        let late = match self.now < self.harm_until {
            // Now and then the news of the tree are far behind what a request would be told.
            true if self.rng.u8(..) < 20 => self.rng.u64(1..600),
            true => self.rng.u64(1..60),
            false => 2,
        };
        let due = (self.now + late).max(self.brokers[at].images_until);
        self.brokers[at].images_until = due;
        self.after(due - self.now, Event::Image { to: at, process, image });
    }
}
