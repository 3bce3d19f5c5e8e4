//! The members of an ensemble, and how they meet, as the configuration says it.
//!
//! `members` is a list of `id=host:port[:port][:role][;client]`: the port at which the other
//! members connect; ZooKeeper's port for elections, which is only shown; `participant` (the
//! default) or `observer`; and the `host:port` of clients, which is only shown, too.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ottla_common::config::{ConfigError, Settings};
use ottla_common::types::MemberId;

/// The names of these options.
pub const KEYS: [&str; 7] = [
    "members",
    "peer.listen",
    "peer.key",
    "peer.auth",
    "election.timeout.ms",
    "heartbeat.interval.ms",
    "leader.patience.ms",
];

/// A member as it is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfiguredMember {
    /// Where the other members reach it, `host:port`.
    pub peer_address: String,
    /// ZooKeeper's election port, `host:port`; may be empty.
    pub election_address: String,
    /// Where clients reach it, `host:port`; may be empty.
    pub client_address: String,
    /// Whether it only follows.
    pub is_observer: bool,
}

/// The secret that members prove to know to each other.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PeerKey(pub String);

impl fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hidden" })
    }
}

/// How members meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleConfig {
    /// `members`; empty if this one stands alone.
    pub members: BTreeMap<MemberId, ConfiguredMember>,
    /// `peer.listen`; this member's own address in `members` unless it is set.
    pub peer_listen: String,
    /// `peer.key`
    pub peer_key: PeerKey,
    /// `election.timeout.ms`
    pub election_timeout_ms: u64,
    /// `heartbeat.interval.ms`
    pub heartbeat_interval_ms: u64,
    /// `leader.patience.ms`
    pub leader_patience_ms: u64,
}

impl Default for EnsembleConfig {
    fn default() -> Self {
        Self {
            members: BTreeMap::new(),
            peer_listen: String::new(),
            peer_key: PeerKey::default(),
            election_timeout_ms: 300,
            heartbeat_interval_ms: 50,
            leader_patience_ms: 5_000,
        }
    }
}

impl EnsembleConfig {
    /// Reads the options out of settings, for a member.
    pub fn from_settings(settings: &Settings, id: MemberId) -> Result<Self, ConfigError> {
        let defaults = Self::default();
        let members = settings.read("members", BTreeMap::new(), parse_members)?;
        let malformed = |key: &str, reason: String| ConfigError::Malformed {
            place: settings.get(key).map_or_else(|| key.to_owned(), |one| one.place.clone()),
            reason,
        };
        let own = members.get(&id);
        if !members.is_empty() && own.is_none() {
            return Err(malformed("members", format!("there is no member {id} among them")));
        }
        let own_address = own.map_or("", |own| own.peer_address.as_str());
        let peer_listen = settings.text("peer.listen", own_address);
        let peer_key = PeerKey(settings.text("peer.key", ""));
        let trusts_all = settings.read("peer.auth", false, |text| match text {
            "key" => Ok(false),
            "none" => Ok(true),
            _ => Err("expected key or none".to_owned()),
        })?;
        let addresses = members.values().map(|member| member.peer_address.as_str());
        let all_here = addresses.chain([peer_listen.as_str()]).all(is_loopback);
        if members.len() > 1 && peer_key.0.is_empty() && !trusts_all && !all_here {
            let reason = "members that are not all on this machine need a peer.key, the same on \
                all of them; or peer.auth=none, where nobody else can reach their ports";
            return Err(malformed("members", reason.to_owned()));
        }
        let heartbeat_interval_ms =
            settings.number("heartbeat.interval.ms", defaults.heartbeat_interval_ms, 5..=10_000)?;
        let election_timeout_ms = settings.number(
            "election.timeout.ms",
            defaults.election_timeout_ms.max(4 * heartbeat_interval_ms),
            4 * heartbeat_interval_ms..=120_000,
        )?;
        let leader_patience_ms =
            settings.number("leader.patience.ms", defaults.leader_patience_ms, 100..=600_000)?;
        Ok(Self {
            members,
            peer_listen,
            peer_key,
            election_timeout_ms,
            heartbeat_interval_ms,
            leader_patience_ms,
        })
    }
}

/// Reads `1=host:port,2=host:port`.
pub fn parse_members(text: &str) -> Result<BTreeMap<MemberId, ConfiguredMember>, String> {
    let mut members = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (id, member) = part.split_once('=').ok_or_else(|| expected(part))?;
        let id = id.trim().parse().ok().filter(|id| (1..=255).contains(id));
        let id = MemberId(id.ok_or_else(|| expected(part))?);
        let member = parse_member(member.trim()).ok_or_else(|| expected(part))?;
        if members.insert(id, member).is_some() {
            return Err(format!("member {id} is there twice"));
        }
    }
    Ok(members)
}

fn expected(part: &str) -> String {
    format!("expected id=host:port[:port][:participant|observer][;host:port], not {part:?}")
}

/// Reads what stands behind the number of a member.
pub fn parse_member(text: &str) -> Option<ConfiguredMember> {
    let (quorum, client) = text.split_once(';').unwrap_or((text, ""));
    let end = match quorum.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => quorum.find(':')?,
    };
    let (host, rest) = quorum.split_at_checked(end)?;
    let mut parts: Vec<&str> = rest.strip_prefix(':')?.split(':').collect();
    let is_observer = match *parts.last()? {
        "observer" => true,
        "participant" => false,
        _ => {
            parts.push("");
            false
        }
    };
    parts.pop();
    let ports: Option<Vec<u16>> = parts.iter().map(|port| port.parse().ok()).collect();
    let (peer_port, election_port) = match ports?.as_slice() {
        [peer] => (*peer, None),
        [peer, election] => (*peer, Some(*election)),
        _ => return None,
    };
    if host.is_empty() {
        return None;
    }
    Some(ConfiguredMember {
        peer_address: format!("{host}:{peer_port}"),
        election_address: election_port.map_or(String::new(), |port| format!("{host}:{port}")),
        client_address: client.trim().to_owned(),
        is_observer,
    })
}

fn is_loopback(address: &str) -> bool {
    match address.parse::<SocketAddr>() {
        Ok(address) => address.ip().is_loopback(),
        Err(_) => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let is_ip = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            host == "localhost" || is_ip || address.is_empty()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<EnsembleConfig, String> {
        let mut settings = Settings::new();
        settings.add_properties("c", text).unwrap();
        EnsembleConfig::from_settings(&settings, MemberId(2)).map_err(|error| error.to_string())
    }

    #[test]
    fn members_are_read_in_every_form() {
        let text = "members=1=a:1, 2=[::1]:2:3:observer;[::1]:4,3=b:5:participant\npeer.key=k";
        let config = read(text).unwrap();
        let own = &config.members[&MemberId(2)];
        assert_eq!((own.peer_address.as_str(), own.is_observer), ("[::1]:2", true));
        assert_eq!(own.election_address, "[::1]:3");
        assert_eq!(own.client_address, "[::1]:4");
        assert_eq!(config.peer_listen, "[::1]:2");
        assert_eq!(config.members[&MemberId(3)].peer_address, "b:5");
        assert!(format!("{config:?}").contains("peer_key: hidden"));
        for text in
            ["1", "1=", "1=a", "x=a:1", "0=a:1", "1=a:b", "1=a:1:2:3", "1=:1", "1=a:1,1=b:1"]
        {
            assert!(read(&format!("members={text},2=a:1")).is_err(), "{text}");
        }
    }

    #[test]
    fn members_elsewhere_must_prove_who_they_are() {
        let here = "members=1=127.0.0.1:1,2=localhost:2";
        assert!(read(here).is_ok());
        assert!(read("members=1=127.0.0.1:1").unwrap_err().contains("no member 2"));
        let there = "members=1=10.0.0.1:1,2=127.0.0.1:2";
        assert!(read(there).unwrap_err().contains("peer.key"));
        assert!(read(&format!("{here}\npeer.listen=0.0.0.0:2")).is_err());
        assert!(read(&format!("{there}\npeer.key=secret")).is_ok());
        assert!(read(&format!("{there}\npeer.auth=none")).is_ok());
        assert!(read(&format!("{there}\npeer.auth=nobody")).is_err());
    }
}
