//! Requests that are answered from this member's state.
//!
//! A read puts its reply into the outbox while it holds the view that it read from, so that events
//! of later changes come after it: a client never hears of a watch before the reply that it belongs
//! to.

use std::sync::Arc;

use ottla_common::coordination::protocol::{
    CoordinationError, Request, WatchEvent, WatchEventKind, permission,
};
use ottla_common::types::Zxid;

use super::session_queue::Conversation;
use super::{Ask, WatchesToSet, reconfig};
use crate::seeded_bugs::{MemberBug, has};
use crate::tree::{NodeRef, acl, path};
use crate::watches::{Answer, ConnectionKind, Outgoing, View, WatchKind};

type Result<T, E = CoordinationError> = std::result::Result<T, E>;

impl Conversation {
    /// Answers a request that changes nothing.
    pub(super) fn read(&self, xid: u64, ask: Ask) {
        let view = self.service.live.view();
        let is_over = view.machine().sessions().get(self.session_id()).is_none();
        let result = if is_over && self.kind != ConnectionKind::ReadOnly {
            Err(CoordinationError::SessionExpired)
        } else {
            self.look(&view, ask)
        };
        self.reply_at(xid, view.zxid(), result);
    }

    fn look(&self, view: &View<'_>, ask: Ask) -> Result<Answer> {
        match ask {
            Ask::Common(request) => self.look_common(view, request),
            Ask::Refused(error) => Err(error),
            Ask::ReadMany(requests) => {
                let answers = requests.into_iter().map(|request| self.look_common(view, request));
                Ok(Answer::Many(answers.collect()))
            }
            Ask::AddWatch { path, recursive } => {
                path::validate(&path)?;
                self.add_watch(view, recursive, &path)
            }
            Ask::SetWatches(watches) => self.set_watches(view, &watches),
            Ask::CheckWatches { path, kinds } => {
                let live = self.service.live();
                match live.has_watch(self.connection_id(), &path, kinds) {
                    true => Ok(Answer::Done),
                    false => Err(CoordinationError::NoWatch { path }),
                }
            }
            Ask::RemoveWatches { path, kinds } => self.remove_watches(path, kinds),
            Ask::DescendantCount { path } => {
                let node = self.readable(view, &path)?;
                Ok(Answer::Count(node.descendant_count()))
            }
            Ask::EphemeralsFrom { prefix } => {
                let paths = view.tree().ephemerals_of(self.session_id());
                let paths = paths.filter(|path| path.starts_with(&prefix));
                Ok(Answer::Ephemerals(paths.map(|path| path.to_string()).collect()))
            }
            // It is done.
            Ask::Reconfigure(_) => {
                Ok(Answer::Data(self.readable(view, reconfig::CONFIG)?.into_shared()))
            }
            Ask::Sasl(_) => unreachable!("not answered here"),
            Ask::ConfirmedPing => Ok(Answer::Done),
            Ask::WhoAmI => Ok(Answer::Identities(Arc::clone(&self.identities))),
        }
    }

    fn look_common(&self, view: &View<'_>, request: Request) -> Result<Answer> {
        match request {
            Request::Ping | Request::Sync => Ok(Answer::Done),
            Request::Get { path, watch, .. } => {
                let node = self.readable(view, &path)?;
                self.watch_if(view, watch, WatchKind::Data, &path)?;
                Ok(Answer::Data(node.into_shared()))
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
                Ok(Answer::Children(node.into_shared()))
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
                self.add_watch(view, recursive, &path)
            }
            Request::RemoveWatches { path } => self.remove_watches(path, &WatchKind::ALL),
            Request::Status => Ok(Answer::Status(Box::new(self.service.status(view)))),
            Request::Write(_)
            | Request::Multi(_)
            | Request::CloseSession
            | Request::Auth { .. }
            | Request::Subscribe { .. }
            | Request::Unsubscribe { .. } => unreachable!("not answered here"),
        }
    }

    /// The node at a path, if there is one and the session may read it.
    fn readable<'v>(&self, view: &'v View<'_>, path: &str) -> Result<NodeRef<'v>> {
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

    fn add_watch(&self, view: &View<'_>, recursive: bool, path: &str) -> Result<Answer> {
        let kind = if recursive { WatchKind::Recursive } else { WatchKind::Persistent };
        view.watch(self.connection_id(), kind, path)?;
        Ok(Answer::Done)
    }

    fn remove_watches(&self, path: String, kinds: &[WatchKind]) -> Result<Answer> {
        match self.service.live().remove_watches(self.connection_id(), &path, kinds) {
            0 => Err(CoordinationError::NoWatch { path }),
            _ => Ok(Answer::Done),
        }
    }

    /// Leaves watches again, or where what they wait for has happened since, tells it at once.
    fn set_watches(&self, view: &View<'_>, watches: &WatchesToSet) -> Result<Answer> {
        let id = self.connection_id();
        let forgets = has(MemberBug::SetWatchesForgets);
        let node = |path: &str| view.tree().node(path);
        for path in &watches.data {
            match node(path) {
                Some(_) if forgets => view.watch(id, WatchKind::Data, path)?,
                None => self.tell(view, WatchEventKind::NodeDeleted, path),
                Some(node) if node.mzxid > watches.seen => {
                    self.tell(view, WatchEventKind::NodeDataChanged, path);
                }
                Some(_) => view.watch(id, WatchKind::Data, path)?,
            }
        }
        for path in &watches.absent {
            match node(path) {
                None => view.watch(id, WatchKind::Data, path)?,
                Some(_) => self.tell(view, WatchEventKind::NodeCreated, path),
            }
        }
        for path in &watches.children {
            match node(path) {
                None => self.tell(view, WatchEventKind::NodeDeleted, path),
                Some(node) if node.pzxid > watches.seen => {
                    self.tell(view, WatchEventKind::NodeChildrenChanged, path);
                }
                Some(_) => view.watch(id, WatchKind::Child, path)?,
            }
        }
        for path in &watches.persistent {
            view.watch(id, WatchKind::Persistent, path)?;
        }
        for path in &watches.recursive {
            view.watch(id, WatchKind::Recursive, path)?;
        }
        Ok(Answer::Done)
    }

    /// Tells an event, unless it is of a node that may not be read.
    fn tell(&self, view: &View<'_>, kind: WatchEventKind, path: &str) {
        let node = view.tree().node(path);
        if node.is_none_or(|node| acl::allows(&node.acl, permission::READ, &self.identities)) {
            // Which change it was is not known.
            let event = WatchEvent { kind, path: path.to_owned(), zxid: Zxid(-1) };
            self.outbox.put(Outgoing::Watch(event));
        }
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
}
