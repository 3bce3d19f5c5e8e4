//! Who is told of changes: watches and subscriptions, local to a member.

mod live;

pub use live::LiveState;
