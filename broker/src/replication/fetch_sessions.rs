//! Incremental fetch sessions (KIP-227): the broker remembers which partitions a client fetches, so
//! that the client sends only what changed, and is told only what changed.
//!
//! A session is opened by a full fetch with epoch 0, and each fetch in it carries the next epoch.
//! What the client asked for lasts until it is changed or forgotten. A partition is in an
//! incremental reply if it has records, an error or a divergence, or if its high watermark or log
//! start offset moved since the client was last told. Partitions that gave records go to the end of
//! the order, so that those that come last get their share of the bytes of a later reply.
//!
//! There are at most so many sessions; a new one takes the place of one that was not used for long,
//! or else the client goes on without. Pure but for a short lock: times and randomness come in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::TopicId;
use parking_lot::Mutex;

/// The session id of a fetch without a session.
pub const NO_SESSION: i32 = 0;

/// The epoch of a full fetch that wants a session.
pub const INITIAL_EPOCH: i32 = 0;

/// The epoch of a full fetch that wants none, or none any more.
pub const FINAL_EPOCH: i32 = -1;

/// A topic as a client names it: by its name before version 13 of Fetch, then by its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicKey {
    /// Its name.
    Name(Arc<str>),
    /// Its id.
    Id(TopicId),
}

/// One partition of a session.
pub type PartitionKey = (TopicKey, i32);

/// What a client wants of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPartition {
    /// Which one.
    pub key: PartitionKey,
    /// The leader epoch that the client knows; -1 = not to be checked.
    pub current_leader_epoch: i32,
    /// The first offset that it wants.
    pub fetch_offset: i64,
    /// The leader epoch of its last record; -1 = not to be checked.
    pub last_fetched_epoch: i32,
    /// Where a follower's own log starts; -1 from consumers.
    pub log_start_offset: i64,
    /// Most bytes of it in one reply.
    pub max_bytes: i32,
}

/// What a fetch says of its session, and of its partitions.
#[derive(Clone, Debug, Default)]
pub struct SessionRequest {
    /// The session, or [`NO_SESSION`].
    pub session_id: i32,
    /// The session's next epoch, or [`INITIAL_EPOCH`] or [`FINAL_EPOCH`].
    pub session_epoch: i32,
    /// Whether the topics are named by id.
    pub uses_topic_ids: bool,
    /// New and changed partitions; of a full fetch all of them.
    pub wanted: Vec<WantedPartition>,
    /// Partitions that the client no longer wants.
    pub forgotten: Vec<PartitionKey>,
}

/// What a reply has to say about a partition, as far as sessions care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionNews {
    /// Whether there are records.
    pub has_records: bool,
    /// Whether there is an error, a divergence or another replica to be told.
    pub must_be_told: bool,
    /// The high watermark; -1 with an error.
    pub high_watermark: i64,
    /// The log start offset; -1 with an error.
    pub log_start_offset: i64,
}

/// What a fetch is about: all partitions, in the order in which they get their share.
#[derive(Debug)]
pub struct FetchContext {
    /// What is to be read.
    pub wanted: Vec<WantedPartition>,
    session: Option<Arc<Mutex<Session>>>,
    is_incremental: bool,
    /// The session's epoch while this fetch is its newest.
    epoch: i32,
}

/// What of a reply is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Selection {
    /// The session to be told.
    pub session_id: i32,
    /// For each wanted partition, whether it is in the reply.
    pub is_included: Vec<bool>,
}

/// All sessions of a broker.
#[derive(Debug)]
pub struct FetchSessions {
    sessions: Mutex<BTreeMap<i32, Entry>>,
    limits: SessionLimits,
}

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Kafka's `max.incremental.fetch.session.cache.slots`.
    pub sessions_max: usize,
    /// Partitions of one session.
    pub partitions_max: usize,
    /// A session that was used within this time is not given up for another.
    pub eviction_age_ms: u64,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { sessions_max: 1000, partitions_max: 100_000, eviction_age_ms: 120_000 }
    }
}

#[derive(Debug)]
struct Entry {
    session: Arc<Mutex<Session>>,
    used_at_ms: u64,
}

#[derive(Debug)]
struct Session {
    id: i32,
    epoch: i32,
    uses_topic_ids: bool,
    /// In the order of service.
    partitions: BTreeMap<u64, Cached>,
    places: HashMap<PartitionKey, u64>,
    next_place: u64,
}

#[derive(Debug)]
struct Cached {
    wanted: WantedPartition,
    /// What the client was last told; -1 = must be told.
    high_watermark: i64,
    log_start_offset: i64,
}

impl FetchSessions {
    /// No sessions yet.
    pub fn new(limits: SessionLimits) -> Self {
        Self { sessions: Mutex::default(), limits }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins a fetch. `random` makes the id of a new session. The error is for the whole reply.
    pub fn begin(
        &self,
        request: SessionRequest,
        now_ms: u64,
        random: i32,
    ) -> Result<FetchContext, ErrorCode> {
        let mut sessions = self.sessions.lock();
        if matches!(request.session_epoch, INITIAL_EPOCH | FINAL_EPOCH) {
            sessions.remove(&request.session_id);
            if request.session_epoch == FINAL_EPOCH {
                return Ok(FetchContext::without_session(request.wanted));
            }
            return Ok(self.open(&mut sessions, request, (now_ms, random)));
        }
        let entry =
            sessions.get_mut(&request.session_id).ok_or(ErrorCode::FetchSessionIdNotFound)?;
        let shared = Arc::clone(&entry.session);
        let mut session = shared.lock();
        if session.uses_topic_ids != request.uses_topic_ids {
            return Err(ErrorCode::FetchSessionTopicIdError);
        }
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        session.update(request.wanted, &request.forgotten);
        let count = session.partitions.len();
        if count == 0 || count > self.limits.partitions_max {
            sessions.remove(&session.id);
            let wanted = session.wanted();
            return match count {
                0 => Ok(FetchContext::without_session(wanted)),
                _ => Err(ErrorCode::FetchSessionIdNotFound),
            };
        }
        entry.used_at_ms = now_ms;
        session.epoch = next_epoch(session.epoch);
        let (wanted, epoch) = (session.wanted(), session.epoch);
        drop(session);
        Ok(FetchContext { wanted, session: Some(shared), is_incremental: true, epoch })
    }

    /// Ends a fetch that is answered with nothing, since the client has to wait. Returns the
    /// session to be told. A client that wanted a new one has to ask again (KIP-219). The error is
    /// for the whole reply: a later fetch of the same session overtook this one.
    pub fn hold_up(&self, context: &FetchContext) -> Result<i32, ErrorCode> {
        let Some(session) = &context.session else { return Ok(NO_SESSION) };
        let (id, epoch) = {
            let session = session.lock();
            (session.id, session.epoch)
        };
        if epoch != context.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        if context.is_incremental {
            return Ok(id);
        }
        self.sessions.lock().remove(&id);
        Ok(NO_SESSION)
    }

    /// A new session, if there is a place for it.
    fn open(
        &self,
        sessions: &mut BTreeMap<i32, Entry>,
        request: SessionRequest,
        (now_ms, random): (u64, i32),
    ) -> FetchContext {
        let count = request.wanted.len();
        if count == 0 || count > self.limits.partitions_max || !self.has_place(sessions, now_ms) {
            return FetchContext::without_session(request.wanted);
        }
        let mut id = random.checked_abs().unwrap_or(1).max(1);
        while sessions.contains_key(&id) {
            id = id.checked_add(1).unwrap_or(1);
        }
        let mut session = Session {
            id,
            epoch: next_epoch(INITIAL_EPOCH),
            uses_topic_ids: request.uses_topic_ids,
            partitions: BTreeMap::new(),
            places: HashMap::new(),
            next_place: 0,
        };
        session.update(request.wanted, &[]);
        let (wanted, epoch) = (session.wanted(), session.epoch);
        let session = Arc::new(Mutex::new(session));
        sessions.insert(id, Entry { session: Arc::clone(&session), used_at_ms: now_ms });
        FetchContext { wanted, session: Some(session), is_incremental: false, epoch }
    }

    /// Whether one more session fits, be it in the place of the one that was unused for longest.
    fn has_place(&self, sessions: &mut BTreeMap<i32, Entry>, now_ms: u64) -> bool {
        if sessions.len() < self.limits.sessions_max {
            return true;
        }
        let oldest = sessions.iter().min_by_key(|(_, entry)| entry.used_at_ms);
        let Some((&id, entry)) = oldest else { return false };
        let is_stale = now_ms.saturating_sub(entry.used_at_ms) > self.limits.eviction_age_ms;
        if is_stale {
            sessions.remove(&id);
        }
        is_stale
    }
}

impl FetchContext {
    fn without_session(wanted: Vec<WantedPartition>) -> Self {
        Self { wanted, session: None, is_incremental: false, epoch: FINAL_EPOCH }
    }

    /// Ends the fetch: what the client is told of `news`, one for each wanted partition. The error
    /// is for the whole reply: a later fetch of the same session overtook this one.
    pub fn finish(&self, news: &[PartitionNews]) -> Result<Selection, ErrorCode> {
        let everything = vec![true; news.len()];
        let Some(session) = &self.session else {
            return Ok(Selection { session_id: NO_SESSION, is_included: everything });
        };
        let mut session = session.lock();
        if session.epoch != self.epoch {
            return Err(ErrorCode::InvalidFetchSessionEpoch);
        }
        let mut is_included = Vec::with_capacity(news.len());
        for (wanted, news) in self.wanted.iter().zip(news) {
            is_included.push(session.tell(&wanted.key, news) || !self.is_incremental);
        }
        Ok(Selection { session_id: session.id, is_included })
    }
}

impl Session {
    fn update(&mut self, wanted: Vec<WantedPartition>, forgotten: &[PartitionKey]) {
        for wanted in wanted {
            let place = self.places.get(&wanted.key).copied();
            match place.and_then(|place| self.partitions.get_mut(&place)) {
                Some(cached) => cached.wanted = wanted,
                None => self.append(Cached { wanted, high_watermark: -1, log_start_offset: -1 }),
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.partitions.remove(&place);
            }
        }
    }

    fn append(&mut self, cached: Cached) {
        self.places.insert(cached.wanted.key.clone(), self.next_place);
        self.partitions.insert(self.next_place, cached);
        self.next_place += 1;
    }

    fn wanted(&self) -> Vec<WantedPartition> {
        self.partitions.values().map(|cached| cached.wanted.clone()).collect()
    }

    /// Whether the client has to be told, and remembers that it was.
    fn tell(&mut self, key: &PartitionKey, news: &PartitionNews) -> bool {
        let Some(&place) = self.places.get(key) else { return false };
        let Some(cached) = self.partitions.get_mut(&place) else { return false };
        let is_due = news.has_records
            || news.must_be_told
            || cached.high_watermark != news.high_watermark
            || cached.log_start_offset != news.log_start_offset;
        // After an error the client is told again when it has passed.
        cached.high_watermark = if news.must_be_told { -1 } else { news.high_watermark };
        cached.log_start_offset = news.log_start_offset;
        if news.has_records
            && let Some(cached) = self.partitions.remove(&place)
        {
            self.append(cached);
        }
        is_due
    }
}

fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests;
