//! Requests that are answered from this member's state.
//!
//! A read puts its reply into the outbox while it holds the view that it read from, so that events
//! of later changes come after it: a client never hears of a watch before the reply that it belongs
//! to.

use std::sync::Arc;

use ottla_common::coordination::protocol::{CoordinationError, MemberStatus, Request, permission};

use super::session_queue::Conversation;
use crate::tree::{Node, acl, path};
use crate::watches::{Answer, View, WatchKind};

type Result<T, E = CoordinationError> = std::result::Result<T, E>;

/// All kinds of watches.
const ALL_KINDS: [WatchKind; 4] =
    [WatchKind::Data, WatchKind::Child, WatchKind::Persistent, WatchKind::Recursive];

impl Conversation {
    /// Answers a request that changes nothing.
    pub(super) async fn read(&self, xid: u64, request: Request) {
        let needs_barrier = match &request {
            Request::Get { linearizable, .. }
            | Request::Exists { linearizable, .. }
            | Request::GetChildren { linearizable, .. } => *linearizable,
            Request::Sync => true,
            _ => false,
        };
        if needs_barrier && self.service.ensemble.read_barrier().await.is_err() {
            return self.reply(xid, Err(CoordinationError::Unavailable));
        }
        let view = self.service.live.view();
        let result = if view.machine().sessions().get(self.session_id()).is_none() {
            Err(CoordinationError::SessionExpired)
        } else {
            self.look(&view, request)
        };
        self.reply_at(xid, view.zxid(), result);
    }

    fn look(&self, view: &View<'_>, request: Request) -> Result<Answer> {
        match request {
            Request::Ping | Request::Sync => Ok(Answer::Done),
            Request::Get { path, watch, .. } => {
                let node = self.readable(view, &path)?;
                self.watch_if(view, watch, WatchKind::Data, &path)?;
                Ok(Answer::Data(Arc::clone(node)))
            }
            Request::Exists { path, watch, .. } => {
                let stat = match self.readable(view, &path) {
                    Ok(node) => Some(node.stat()),
                    Err(CoordinationError::NoNode { .. }) => None,
                    Err(error) => return Err(error),
                };
                self.watch_if(view, watch, WatchKind::Data, &path)?;
                Ok(Answer::Exists(stat))
            }
            Request::GetChildren { path, watch, .. } => {
                let node = self.readable(view, &path)?;
                self.watch_if(view, watch, WatchKind::Child, &path)?;
                Ok(Answer::Children(Arc::clone(node)))
            }
            Request::GetAcl { path } => self.access_list(view, &path),
            Request::GetEphemerals { prefix } => {
                path::validate(&prefix)?;
                let paths = view.tree().ephemerals_of(self.session_id());
                let within = paths.filter(|path| path::is_within(path, &prefix));
                Ok(Answer::Ephemerals(within.map(|path| path.to_string()).collect()))
            }
            Request::AddWatch { path, recursive } => {
                match self.readable(view, &path) {
                    Ok(_) | Err(CoordinationError::NoNode { .. }) => {}
                    Err(error) => return Err(error),
                }
                let kind = if recursive { WatchKind::Recursive } else { WatchKind::Persistent };
                view.watch(self.connection_id(), kind, &path)?;
                Ok(Answer::Done)
            }
            Request::RemoveWatches { path } => {
                let live = self.service.live();
                match live.remove_watches(self.connection_id(), &path, &ALL_KINDS) {
                    0 => Err(CoordinationError::NoWatch { path }),
                    _ => Ok(Answer::Done),
                }
            }
            Request::Status => Ok(Answer::Status(self.status(view))),
            Request::Write(_)
            | Request::Multi(_)
            | Request::CloseSession
            | Request::Auth { .. }
            | Request::Subscribe { .. }
            | Request::Unsubscribe { .. } => unreachable!("not answered here"),
        }
    }

    /// The node at a path, if there is one and the session may read it.
    fn readable<'v>(&self, view: &'v View<'_>, path: &str) -> Result<&'v Arc<Node>> {
        path::validate(path)?;
        let missing = || CoordinationError::NoNode { path: path.to_owned() };
        let node = view.tree().node(path).ok_or_else(missing)?;
        acl::check(&node.acl, permission::READ, &self.identities, path)?;
        Ok(node)
    }

    /// Leaves a watch if one is wanted.
    fn watch_if(&self, view: &View<'_>, watch: bool, kind: WatchKind, path: &str) -> Result<()> {
        if watch { view.watch(self.connection_id(), kind, path) } else { Ok(()) }
    }

    /// Who may change the list sees all of it; who may only read the node sees no passwords.
    fn access_list(&self, view: &View<'_>, path: &str) -> Result<Answer> {
        path::validate(path)?;
        let missing = || CoordinationError::NoNode { path: path.to_owned() };
        let node = view.tree().node(path).ok_or_else(missing)?;
        acl::check(&node.acl, acl::SEE_ACL, &self.identities, path)?;
        let list = if acl::allows(&node.acl, permission::ADMIN, &self.identities) {
            node.acl.to_vec()
        } else {
            acl::masked(&node.acl)
        };
        Ok(Answer::Acl(list, node.stat()))
    }

    fn status(&self, view: &View<'_>) -> MemberStatus {
        let machine = view.machine();
        MemberStatus {
            member_id: self.service.options.member_id,
            leader_id: self.service.ensemble.leader_id(),
            zxid: view.zxid(),
            node_count: machine.tree().node_count(),
            session_count: machine.sessions().len() as u64,
            watch_count: self.service.live().watch_count() as u64,
            tree_digest: machine.digest(),
            build_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}
