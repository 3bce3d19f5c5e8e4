//! What `/zookeeper/config` says: the members, in ZooKeeper's words.

use std::fmt::Write;

use ottla_common::types::Zxid;

use super::raft::{MemberRole, Membership};

/// One line for each member, and the version: the zxid of the change, in hexadecimal digits.
pub fn config_text(membership: &Membership, zxid: Zxid) -> String {
    let mut text = String::new();
    for (id, member) in &membership.members {
        let role = match member.role {
            MemberRole::Voter => "participant",
            MemberRole::Learner if member.rejoining => "participant",
            MemberRole::Learner => "observer",
        };
        let election_port = member.election_address.rsplit_once(':').map(|(_, port)| port);
        let peer_port = member.peer_address.rsplit_once(':').map_or("0", |(_, port)| port);
        let election_port = election_port.unwrap_or(peer_port);
        let peer_address = if member.peer_address.is_empty() { ":0" } else { &member.peer_address };
        let client = match member.client_address.as_str() {
            "" => String::new(),
            address => format!(";{address}"),
        };
        let _ = writeln!(text, "server.{id}={peer_address}:{election_port}:{role}{client}");
    }
    let _ = write!(text, "version={:x}", zxid.0);
    text
}

#[cfg(test)]
mod tests {
    use ottla_common::types::MemberId;

    use super::*;
    use crate::consensus::raft::Member;

    #[test]
    fn members_are_shown_as_zookeeper_does() {
        let mut membership = Membership::of_voters([MemberId(1), MemberId(2)]);
        let observer = Member {
            role: MemberRole::Learner,
            peer_address: "b:2888".to_owned(),
            client_address: "0.0.0.0:2181".to_owned(),
            election_address: "b:3888".to_owned(),
            ..Member::default()
        };
        membership.members.insert(MemberId(2), observer);
        membership.members.entry(MemberId(1)).or_default().peer_address = "a:2888".to_owned();
        let text = config_text(&membership, Zxid(0x1f));
        let expected = "server.1=a:2888:2888:participant\n\
            server.2=b:2888:3888:observer;0.0.0.0:2181\nversion=1f";
        assert_eq!(text, expected);
    }
}
