//! Mistakes outside the raft core that can be switched on in builds with the feature
//! `seeded-bugs`, to see whether tests find them. Other builds have no such switch: [`has`] is
//! always false there. (The core's own are in `consensus/raft/seeded_bugs.rs`.)

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberBug {
    /// Ephemeral nodes stay when their session ends.
    EphemeralsOutliveSession = 1,
    /// A leader answers a write when it has been proposed, before it is committed.
    ReplyBeforeCommit = 2,
    /// A leader tells that sessions live without making sure that nobody else leads.
    TouchWithoutLease = 3,
    /// What was given to a leader is given to the next one at once, before it is known that the
    /// first has not done it.
    ForwardAgainAtOnce = 4,
    /// A session that was resumed takes writes of its older connections, too.
    ResumeWithoutFence = 5,
    /// What is loaded from a snapshot lacks a session.
    SnapshotForgetsSession = 6,
    /// An expiry that was decided by a leader is proposed though another leads by now.
    ExpiryOutlivesTerm = 7,
    /// A watch event comes behind the next reply, which may show what it tells of.
    EventBehindReply = 8,
    /// Watches that are set again after a reconnect do not tell what has happened meanwhile.
    SetWatchesForgets = 9,
    /// A session is resumed by what this member knows, without asking the ensemble: it may be
    /// behind what the client has seen.
    MemberBehindServes = 10,
    /// The records of the log are believed without their checksums.
    LogUnchecked = 11,
    /// A flush of the log that fails counts as done.
    FlushErrorIgnored = 12,
}

impl MemberBug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::EphemeralsOutliveSession,
        Self::ReplyBeforeCommit,
        Self::TouchWithoutLease,
        Self::ForwardAgainAtOnce,
        Self::ResumeWithoutFence,
        Self::SnapshotForgetsSession,
        Self::ExpiryOutlivesTerm,
        Self::EventBehindReply,
        Self::SetWatchesForgets,
        Self::MemberBehindServes,
        Self::LogUnchecked,
        Self::FlushErrorIgnored,
    ];
}

#[cfg(feature = "seeded-bugs")]
mod switch {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::MemberBug;

    /// The one that is on, in all members of this process; 0 if none is.
    static SWITCHED_ON: AtomicU8 = AtomicU8::new(0);

    /// Switches a mistake on, or all off.
    pub fn switch_on(bug: Option<MemberBug>) {
        SWITCHED_ON.store(bug.map_or(0, |bug| bug as u8), Ordering::SeqCst);
    }

    /// Whether to do this wrong.
    pub fn has(bug: MemberBug) -> bool {
        SWITCHED_ON.load(Ordering::Relaxed) == bug as u8
    }
}

#[cfg(feature = "seeded-bugs")]
pub use switch::{has, switch_on};

/// Whether to do this wrong. Never, but in builds made to be found out.
#[cfg(not(feature = "seeded-bugs"))]
pub const fn has(_bug: MemberBug) -> bool {
    false
}
