//! What clients make of what they are told.

use ottla_common::coordination::protocol::{CoordinationError, OpResult, SessionGrant, WatchEvent};
use ottla_coordinator::watches::{Answer, Closed, Outgoing};

use super::{Asked, Client, Link, Session, Stage, Surroundings, ToClient};
use crate::history::{Outcome, What};
use crate::invariants::session_order::SessionOrder;
use crate::invariants::watch_order::{self, Watch};
use crate::invariants::zxid_order::By;
use crate::invariants::{Check, access, linearizability, multi_atomicity, violation};

impl Client {
    /// Something came on a connection.
    pub fn hear(
        &mut self,
        around: &mut Surroundings<'_>,
        connection: u64,
        message: ToClient,
    ) -> Check {
        if !self.holds(connection) || self.stage == Stage::Gone {
            return Ok(());
        }
        self.heard_us = around.now_us;
        match message {
            ToClient::Welcome(welcome) => self.welcome(around, connection, welcome),
            ToClient::Out(Outgoing::Reply { xid, zxid, result }) => {
                self.answered(around, (xid, zxid.0), result)
            }
            ToClient::Out(Outgoing::Watch(event)) => self.event(around, &event),
            ToClient::Out(_) => Ok(()),
            ToClient::Closed(why) => {
                self.leave(around, false);
                if why == Some(Closed::Because(CoordinationError::SessionExpired)) {
                    self.end_session(around);
                }
                Ok(())
            }
        }
    }

    fn welcome(
        &mut self,
        around: &mut Surroundings<'_>,
        connection: u64,
        welcome: Result<SessionGrant, CoordinationError>,
    ) -> Check {
        let Link::Opening { since_us, forged, .. } = self.link else { return Ok(()) };
        let grant = match welcome {
            Ok(_) if forged => {
                let what = format!("client {} was let in with a wrong password", self.id);
                return Err(violation("session_life", what));
            }
            Ok(grant) => grant,
            Err(error) => {
                self.leave(around, false);
                if error == CoordinationError::SessionExpired && !forged {
                    self.end_session(around);
                }
                return Ok(());
            }
        };
        let (id, zxid) = (grant.session_id, grant.zxid.0);
        around.oracle.life.lives(id, zxid)?;
        self.sees(around, zxid, By::Read)?;
        let timeout_us = u64::from(grant.session_timeout_ms) * 1_000;
        let grace_us = u64::from(grant.disconnect_grace_ms).min(grant.session_timeout_ms.into());
        let grace_us = if self.is_native { grace_us * 1_000 } else { timeout_us };
        let (password, lease_until_us) = (grant.password, 0);
        if self.session.is_none() {
            around.oracle.fates.insert(id.0, true);
        }
        self.session = Some(Session { id, password, timeout_us, grace_us, lease_until_us });
        self.link = Link::Open { connection };
        self.pinged_us = around.now_us;
        self.extend_lease(around, since_us);
        self.set_watches(around, connection);
        Ok(())
    }

    /// A tenth of a lease is left for the clocks.
    fn extend_lease(&mut self, around: &mut Surroundings<'_>, sent_us: u64) {
        let Some(session) = &mut self.session else { return };
        if !self.is_native {
            return;
        }
        let until_us = sent_us + session.timeout_us - session.timeout_us / 10;
        session.lease_until_us = session.lease_until_us.max(until_us);
        around.oracle.life.promised(session.id, session.lease_until_us);
    }

    /// The client sees a zxid.
    fn sees(&mut self, around: &mut Surroundings<'_>, zxid: i64, by: By) -> Check {
        let committed = around.oracle.committed.last();
        around.oracle.zxids.seen(self.id, zxid, committed, by)?;
        self.last_zxid = self.last_zxid.max(zxid);
        Ok(())
    }

    fn event(&mut self, around: &mut Surroundings<'_>, event: &WatchEvent) -> Check {
        // What happened while the client was away has no zxid of its own.
        let is_late = event.zxid.0 < 0;
        if !is_late {
            self.sees(around, event.zxid.0, By::Event)?;
        }
        if event.path == access::SECRET {
            return access::shown(self.id, "an event");
        }
        let watch = self.watches.remove(&event.path);
        watch_order::event(self.id, &event.path, watch.as_ref())?;
        if self.is_resetting || is_late {
            return Ok(());
        }
        let watches = self.watches.iter();
        watch_order::check(self.id, event.zxid.0 - 1, watches, &around.oracle.changes)
    }

    fn answered(
        &mut self,
        around: &mut Surroundings<'_>,
        (xid, zxid): (u64, i64),
        result: Result<Answer, CoordinationError>,
    ) -> Check {
        let expected = self.pending.front().map(|pending| pending.xid);
        SessionOrder::reply(self.id, xid, expected)?;
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        self.answered += 1;
        if matches!(result, Err(CoordinationError::Unavailable)) {
            self.unanswered(around, pending);
            return Ok(());
        }
        let by = if pending.asked.is_write() { By::Write } else { By::Read };
        self.sees(around, zxid, by)?;
        if result.is_ok()
            && pending.asked != Asked::Close
            && let Some(session) = &self.session
        {
            around.oracle.life.lives(session.id, zxid)?;
        }
        if by == By::Write && result.is_ok() {
            around.oracle.acknowledged = around.oracle.acknowledged.max(zxid);
        }
        if matches!(pending.asked, Asked::GetNow { .. } | Asked::Names) && result.is_ok() {
            linearizability::read(self.id, zxid, pending.acknowledged)?;
        }
        let start_us = pending.start_us;
        if let Asked::SetWatches = pending.asked {
            self.is_resetting = false;
            for watch in self.watches.values_mut() {
                watch.reset_at = Some(zxid);
            }
        }
        watch_order::check(self.id, zxid, self.watches.iter(), &around.oracle.changes)?;
        match result {
            Ok(answer) => self.succeeded(around, (pending.asked, start_us, zxid), answer),
            Err(error) => self.failed(around, (pending.asked, start_us, zxid), &error),
        }
    }

    fn succeeded(
        &mut self,
        around: &mut Surroundings<'_>,
        (asked, start_us, zxid): (Asked, u64, i64),
        answer: Answer,
    ) -> Check {
        let ok = (start_us, Outcome::Ok);
        match (asked, answer) {
            (Asked::Setup, _) => self.advance(),
            (Asked::Ping, _) => self.extend_lease(around, start_us),
            (Asked::Set { path, value, expected }, Answer::Written(OpResult::Set { stat })) => {
                around.oracle.orders.wrote(self.id, zxid);
                let version = i64::from(stat.version);
                self.versions.insert(path.clone(), version);
                let what = What::Set { value, expected_version: expected, version };
                self.record(around, (path, what), ok);
                self.advance();
            }
            (Asked::GetNow { path }, Answer::Data(node)) => {
                let value = String::from_utf8_lossy(node.data()).into_owned();
                let version = i64::from(node.version);
                self.versions.insert(path.clone(), version);
                self.record(around, (path, What::Get { value, version }), ok);
                around.oracle.orders.read(self.id, zxid)?;
                self.advance();
            }
            (Asked::Get { path, watch }, Answer::Data(node)) => {
                around.oracle.orders.read(self.id, zxid)?;
                self.versions.insert(path.clone(), i64::from(node.version));
                self.leave_watch(path, watch, (zxid, true));
            }
            (Asked::Exists { path, watch }, Answer::Exists(stat)) => {
                around.oracle.orders.read(self.id, zxid)?;
                self.leave_watch(path, watch, (zxid, stat.is_some()));
            }
            (Asked::Sequential { parent }, Answer::Written(OpResult::Created { path, .. })) => {
                around.oracle.orders.wrote(self.id, zxid);
                let number = path.get(path.len().saturating_sub(10)..).unwrap_or_default();
                let number = number.parse().unwrap_or_default();
                self.record(around, (parent, What::CreateSequential { number }), ok);
            }
            (Asked::Ephemeral { path }, Answer::Written(_)) => {
                around.oracle.orders.wrote(self.id, zxid);
                let session = self.session_id().map_or(0, |session| session.0);
                self.record(around, (path, What::CreateEphemeral { session }), ok);
            }
            (Asked::Change | Asked::SetPair, _) => around.oracle.orders.wrote(self.id, zxid),
            (Asked::GetPair, Answer::Many(answers)) => {
                let data = |answer: &Result<Answer, _>| match answer {
                    Ok(Answer::Data(node)) => Some(node.data().to_vec()),
                    _ => None,
                };
                let data: Vec<_> = answers.iter().map(data).collect();
                if let [one, other] = &data[..] {
                    let both = [one.as_deref(), other.as_deref()];
                    multi_atomicity::check("an answer", zxid, both)?;
                }
            }
            (Asked::Secret, answer) => return access::shown(self.id, &format!("{answer:?}")),
            (Asked::Close, _) => self.end_session(around),
            _ => {}
        }
        Ok(())
    }

    /// One more of the requests of the setup or of the end is answered.
    fn advance(&mut self) {
        match &mut self.stage {
            Stage::Setup(done) | Stage::Finishing(done) => *done += 1,
            _ => {}
        }
    }

    fn leave_watch(&mut self, path: String, watch: bool, (since, exists): (i64, bool)) {
        if watch {
            self.watches.entry(path).or_insert(Watch { since, exists, reset_at: None });
        }
    }

    fn failed(
        &mut self,
        around: &mut Surroundings<'_>,
        (asked, start_us, zxid): (Asked, u64, i64),
        error: &CoordinationError,
    ) -> Check {
        match (asked, error) {
            (Asked::Set { path, value, expected }, CoordinationError::BadVersion { .. }) => {
                let what = What::Set { value, expected_version: expected, version: 0 };
                self.record(around, (path, what), (start_us, Outcome::Refused));
                around.oracle.orders.read(self.id, zxid)?;
            }
            (Asked::Setup, CoordinationError::MultiFailed { error, .. })
                if matches!(**error, CoordinationError::NodeExists { .. }) =>
            {
                self.advance();
            }
            (Asked::Close, CoordinationError::SessionExpired) => self.end_session(around),
            _ => {}
        }
        Ok(())
    }
}
