//! Who is told of changes: watches and subscriptions, local to a member.
//!
//! [`ConnectionKind, LiveState`] is the applied state together with those who wait for its changes.
//! It keeps the order: a command's watch events are in their connections' [`Outbox`]es before
//! anyone can read what it did. [`WatchTable`] and [`History`] are its pure parts; [`Subscription`]
//! reads on in the history.

mod digest_trail;
mod history;
mod live;
mod outbox;
mod subscription;
mod table;

pub use history::{Committed, History};
pub use live::{ConnectionKind, LiveState, Newcomer, View};
pub use outbox::{Answer, Closed, Outbox, Outgoing};
pub use subscription::Subscription;
pub use table::{ConnectionId, Firing, WatchKind, WatchTable};
