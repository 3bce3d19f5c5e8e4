//! ZooKeeper's `reconfig`: what a client says of the members that there shall be, and the steps
//! that lead there, each of which changes one member.

use std::collections::BTreeMap;

use ottla_common::coordination::protocol::{CoordinationError, permission};
use ottla_common::types::MemberId;

use super::Service;
use crate::consensus::messages::OrderRefused;
use crate::consensus::raft::{ChangeRefused, Member, MemberRole, Membership, MembershipChange};
use crate::tree::{Identity, NodeRef, acl};
use crate::zoo_cfg::ServerLine;

/// What a client wants of the members. What is empty is not asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconfiguration {
    /// Members that come or are given other addresses: `server.N=…`, with commas between.
    pub joining: String,
    /// The numbers of members that leave, with commas between.
    pub leaving: String,
    /// All members that there shall be: `server.N=…`, in lines or with commas between.
    pub new_members: String,
    /// The version of the configuration that is to be changed, if only that one is.
    pub from_version: Option<i64>,
}

/// The node that tells the members.
pub const CONFIG: &str = "/zookeeper/config";

impl Service {
    /// Brings about what a client wants of the members, if he may change them.
    pub(super) async fn reconfigure(
        &self,
        wanted: &Reconfiguration,
        identities: &[Identity],
    ) -> Result<(), CoordinationError> {
        if !self.options().zookeeper.reconfig {
            return Err(CoordinationError::ReconfigDisabled);
        }
        let config = self.live().machine().tree().node(CONFIG).map(NodeRef::into_shared);
        let config = config.ok_or(CoordinationError::Unimplemented)?;
        let (now, version) = read_config(&String::from_utf8_lossy(config.data()));
        // A member on its own has no members to change.
        if now.members.is_empty() {
            return Err(CoordinationError::Unimplemented);
        }
        if wanted.from_version.is_some_and(|wanted| Some(wanted) != version) {
            return Err(CoordinationError::BadVersion { path: CONFIG.to_owned() });
        }
        let target = wanted.target(&now)?;
        acl::check(&config.acl, permission::WRITE, identities, CONFIG)?;
        for step in steps(&now, &target) {
            tracing::info!(?step, "a client changes the ensemble's members");
            self.take_step(step).await?;
        }
        Ok(())
    }

    /// Changes one member, and waits until that is in force and known here.
    async fn take_step(&self, step: MembershipChange) -> Result<(), CoordinationError> {
        let changed = self.ensemble().change_members(step).await;
        let index = match changed {
            Ok(index) => i64::try_from(index).unwrap_or(i64::MAX),
            Err(OrderRefused::Change(ChangeRefused::NothingToDo)) => return Ok(()),
            Err(error) => {
                tracing::info!(%error, "the ensemble's members are not changed");
                return Err(not_changed(&error));
            }
        };
        let mut applied = self.live().progress();
        let reached = applied.wait_for(|zxid| zxid.0 >= index).await;
        reached.map(|_| ()).map_err(|_| CoordinationError::Unavailable)
    }
}

/// What a client is told of a change that is not made.
pub(super) fn not_changed(error: &OrderRefused) -> CoordinationError {
    match error {
        OrderRefused::Change(ChangeRefused::Pending | ChangeRefused::LeaderIsNew) => {
            CoordinationError::ReconfigInProgress
        }
        OrderRefused::Change(ChangeRefused::WouldStop | ChangeRefused::NotCaughtUp) => {
            CoordinationError::NewConfigNoQuorum
        }
        OrderRefused::Change(ChangeRefused::NotLeader(_)) | OrderRefused::Unavailable => {
            CoordinationError::Unavailable
        }
        error => refused(&error.to_string()),
    }
}

/// The members as the node tells them, and the version that it tells. Members without an address
/// are not there: they are on their own.
fn read_config(text: &str) -> (Membership, Option<i64>) {
    let mut now = Membership::default();
    let mut version = None;
    for line in text.lines() {
        match line.strip_prefix("version=") {
            Some(digits) => version = i64::from_str_radix(digits, 16).ok(),
            None => now.members.extend(read_member(line).ok()),
        }
    }
    (now, version)
}

type Members = BTreeMap<MemberId, Member>;

impl Reconfiguration {
    /// The members that there shall be.
    pub fn target(&self, now: &Membership) -> Result<Members, CoordinationError> {
        let mut members = now.members.clone();
        if self.new_members.is_empty() {
            for leaving in parts(&self.leaving, &[',']) {
                let id = leaving.parse().map_err(|_| refused("a leaving member is no number"))?;
                members.remove(&MemberId(id));
            }
            for joining in parts(&self.joining, &[',']) {
                join(&mut members, joining)?;
            }
        } else {
            members.clear();
            for line in parts(&self.new_members, &[',', '\n']) {
                if !line.starts_with("version") {
                    join(&mut members, line)?;
                }
            }
        }
        if !members.values().any(|member| member.role == MemberRole::Voter) {
            return Err(refused("no member would be left that decides"));
        }
        Ok(members)
    }
}

/// The steps from the members that there are to those that there shall be: who is new comes before
/// anyone leaves.
pub fn steps(now: &Membership, target: &Members) -> Vec<MembershipChange> {
    let mut steps = Vec::new();
    for (id, member) in target {
        let (id, member) = (*id, member.clone());
        let Some(before) = now.members.get(&id) else {
            steps.push(MembershipChange::Add { id, member });
            continue;
        };
        let is_voter = before.role == MemberRole::Voter || before.rejoining;
        match (is_voter, member.role) {
            (false, MemberRole::Voter) => steps.push(MembershipChange::Promote { id }),
            (true, MemberRole::Learner) => {
                steps.push(MembershipChange::Demote { id, rejoining: false });
            }
            (true, MemberRole::Voter) | (false, MemberRole::Learner) => {}
        }
        if addresses(before) != addresses(&member) {
            steps.push(MembershipChange::Readdress { id, member });
        }
    }
    let leaving = now.members.keys().filter(|id| !target.contains_key(id));
    steps.extend(leaving.map(|id| MembershipChange::Remove { id: *id }));
    steps
}

fn addresses(member: &Member) -> [&str; 3] {
    [&member.peer_address, &member.election_address, &member.client_address]
}

fn parts<'a>(text: &'a str, between: &'a [char]) -> impl Iterator<Item = &'a str> {
    text.split(between).map(str::trim).filter(|part| !part.is_empty())
}

fn refused(reason: &str) -> CoordinationError {
    CoordinationError::BadArguments { reason: reason.to_owned() }
}

/// A member as `server.N=…` describes it.
fn read_member(line: &str) -> Result<(MemberId, Member), CoordinationError> {
    let server = line.split_once('=').and_then(|(name, value)| {
        let id = name.trim().strip_prefix("server.")?.parse().ok()?;
        Some((MemberId(id), value))
    });
    let Some((id, value)) = server else {
        return Err(refused("a member is not told as server.N=..."));
    };
    let line = ServerLine::parse(value).map_err(|reason| refused(&reason))?;
    let client_address = line.client.map(|(host, port)| {
        let host = host.unwrap_or_else(|| "0.0.0.0".to_owned());
        format!("{host}:{port}")
    });
    let role = if line.is_observer { MemberRole::Learner } else { MemberRole::Voter };
    let member = Member {
        role,
        rejoining: false,
        peer_address: line.peer_address,
        client_address: client_address.unwrap_or_default(),
        election_address: line.election_address,
    };
    Ok((id, member))
}

/// Takes in a member that a client describes.
fn join(members: &mut Members, line: &str) -> Result<(), CoordinationError> {
    let (id, member) = read_member(line)?;
    if member.client_address.is_empty() {
        return Err(refused("a member is told without its clients' port"));
    }
    let same = |other: &Member| {
        other.peer_address == member.peer_address
            || other.election_address == member.election_address
    };
    if members.iter().any(|(other, known)| *other != id && same(known)) {
        return Err(refused("two members have the same address"));
    }
    members.insert(id, member);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership(lines: &[&str]) -> Membership {
        let mut members = Members::new();
        for line in lines {
            join(&mut members, line).unwrap();
        }
        Membership { cluster_id: None, members }
    }

    fn ask(joining: &str, leaving: &str, new_members: &str) -> Reconfiguration {
        let [joining, leaving, new_members] = [joining, leaving, new_members].map(str::to_owned);
        Reconfiguration { joining, leaving, new_members, from_version: None }
    }

    const THREE: [&str; 3] =
        ["server.1=a:1:2;3", "server.2=b:1:2:participant;3", "server.3=c:1:2:observer;3"];

    #[test]
    fn members_come_and_go() {
        let now = membership(&THREE);
        let asked = ask("server.4=d:1:2;3,server.3=c:1:2;3", "2", "");
        let target = asked.target(&now).unwrap();
        let member = target[&MemberId(4)].clone();
        assert_eq!(member.client_address, "0.0.0.0:3");
        assert_eq!(
            steps(&now, &target),
            [
                MembershipChange::Promote { id: MemberId(3) },
                MembershipChange::Add { id: MemberId(4), member },
                MembershipChange::Remove { id: MemberId(2) },
            ]
        );
    }

    #[test]
    fn the_whole_may_be_told() {
        let now = membership(&THREE);
        let lines = "server.1=a:1:2;9\nserver.2=b:1:2:observer;0.0.0.0:3\nversion=5";
        let target = ask("", "", lines).target(&now).unwrap();
        let readdressed = target[&MemberId(1)].clone();
        assert_eq!(
            steps(&now, &target),
            [
                MembershipChange::Readdress { id: MemberId(1), member: readdressed },
                MembershipChange::Demote { id: MemberId(2), rejoining: false },
                MembershipChange::Remove { id: MemberId(3) },
            ]
        );
        assert_eq!(steps(&now, &now.members), []);
    }

    #[test]
    fn the_node_tells_members_and_version() {
        let (now, version) =
            read_config(&[THREE[0], "server.9=b:1:2:observer;c:3", "version=1f"].join(
                "
",
            ));
        assert_eq!(version, Some(31));
        assert!(now.members.keys().eq([&MemberId(1), &MemberId(9)]));
        assert_eq!(now.members[&MemberId(9)].client_address, "c:3");
        assert_eq!(read_config("server.1=:0:0:participant\nversion=1").0.members.len(), 0);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let now = membership(&THREE);
        for (joining, leaving, new_members) in [
            ("some thing", "", ""),
            ("server.x=a:1:2;3", "", ""),
            ("server.4=d:1:2", "", ""),
            ("server.4=a:1:2;3", "", ""),
            ("", "two", ""),
            ("", "1,2", ""),
            ("", "", "server.1=a:1:2:observer;3"),
        ] {
            let asked = ask(joining, leaving, new_members);
            assert!(asked.target(&now).is_err(), "{asked:?}");
        }
    }
}
