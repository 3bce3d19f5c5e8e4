//! What the clients of a cluster are held to, and which of the limits holds for one. Pure.
//!
//! Of the eight levels at which a quota can be set, the first that has one holds (KIP-55):
//!
//! 1. the user's client id
//! 2. any client id of the user
//! 3. the user
//! 4. the client id of any user
//! 5. any client id of any user
//! 6. any user
//! 7. the client id, whoever uses it
//! 8. any client id
//!
//! A quota of levels 3 and 6 is shared by all that the user runs, one of 7 and 8 by all that use
//! the client id; otherwise each pair of both has it for itself.

use std::collections::HashMap;
use std::net::IpAddr;

use ottla_common::cluster_tree::QuotaEntity;

use crate::config::Overrides;
use crate::config::quotas::QuotaKey;

/// Who uses something together, and is measured together: a user, a client id, or the latter of the
/// former.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// The user, unless it does not matter.
    pub user: Option<Box<str>>,
    /// The client id, unless it does not matter.
    pub client_id: Option<Box<str>>,
}

/// What one entity is held to, a second; by the key's place.
#[derive(Clone, Copy, Debug, Default)]
struct Limits([Option<f64>; QuotaKey::ALL.len()]);

impl Limits {
    fn of(overrides: &Overrides) -> Self {
        let limit = |key: QuotaKey| {
            let value = overrides.get(key.name())?.parse().ok();
            value.filter(|value: &f64| value.is_finite() && *value > 0.0)
        };
        Self(QuotaKey::ALL.map(limit))
    }

    fn get(&self, key: QuotaKey) -> Option<f64> {
        self.0.get(key as usize).copied().flatten()
    }
}

/// Limits by name, and for all others.
#[derive(Clone, Debug, Default)]
struct Named {
    named: HashMap<String, Limits>,
    default: Limits,
}

impl Named {
    fn set(&mut self, name: Option<String>, limits: Limits) {
        match name {
            Some(name) => drop(self.named.insert(name, limits)),
            None => self.default = limits,
        }
    }

    fn get(&self, name: &str, key: QuotaKey) -> Option<f64> {
        // Who says no name is not among the others either, as in Kafka.
        if name.is_empty() {
            return None;
        }
        let own = self.named.get(name).and_then(|limits| limits.get(key));
        own.or_else(|| self.default.get(key))
    }
}

#[derive(Clone, Debug, Default)]
struct OfUser {
    own: Limits,
    clients: Named,
}

/// All limits of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClientLimits {
    users: HashMap<String, OfUser>,
    default_user: OfUser,
    clients: Named,
    ips: HashMap<IpAddr, Limits>,
    default_ip: Limits,
    /// Whether anybody has a limit of the key.
    is_used: [bool; QuotaKey::ALL.len()],
}

impl ClientLimits {
    /// The limits that these configs set. What is no quota among them is passed over.
    pub fn new<'a>(configs: impl IntoIterator<Item = (QuotaEntity, &'a Overrides)>) -> Self {
        let mut all = Self::default();
        for (entity, overrides) in configs {
            let limits = Limits::of(overrides);
            for (is_used, limit) in all.is_used.iter_mut().zip(limits.0) {
                *is_used |= limit.is_some();
            }
            match entity {
                QuotaEntity::User(user) => all.of_user(user).own = limits,
                QuotaEntity::UserClient { user, client_id } => {
                    all.of_user(user).clients.set(client_id, limits);
                }
                QuotaEntity::Client(client_id) => all.clients.set(client_id, limits),
                QuotaEntity::Ip(None) => all.default_ip = limits,
                QuotaEntity::Ip(Some(ip)) => {
                    if let Ok(ip) = ip.parse::<IpAddr>() {
                        all.ips.insert(ip.to_canonical(), limits);
                    }
                }
            }
        }
        all
    }

    fn of_user(&mut self, user: Option<String>) -> &mut OfUser {
        match user {
            Some(user) => self.users.entry(user).or_default(),
            None => &mut self.default_user,
        }
    }

    /// Whether anybody has a limit of this kind.
    pub fn is_used(&self, key: QuotaKey) -> bool {
        self.is_used.get(key as usize).copied().unwrap_or(false)
    }

    /// What a user's client is held to a second, and who it shares that with.
    pub fn find(&self, key: QuotaKey, (user, client_id): (&str, &str)) -> Option<(Share, f64)> {
        if !self.is_used(key) {
            return None;
        }
        for of_user in [self.users.get(user), Some(&self.default_user)].into_iter().flatten() {
            if let Some(limit) = of_user.clients.get(client_id, key) {
                return Some((share(Some(user), Some(client_id)), limit));
            }
            if let Some(limit) = of_user.own.get(key) {
                return Some((share(Some(user), None), limit));
            }
        }
        let limit = self.clients.get(client_id, key)?;
        Some((share(None, Some(client_id)), limit))
    }

    /// How many connections a second an address is held to.
    pub fn connections_of(&self, ip: IpAddr) -> Option<f64> {
        let key = QuotaKey::ConnectionCreationRate;
        let own = self.ips.get(&ip.to_canonical()).and_then(|limits| limits.get(key));
        own.or_else(|| self.default_ip.get(key))
    }
}

fn share(user: Option<&str>, client_id: Option<&str>) -> Share {
    Share { user: user.map(Into::into), client_id: client_id.map(Into::into) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// One line for each limit: `user=NAME client=NAME RATE`; `*` stands for the default.
    fn limits(text: &str) -> ClientLimits {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let configs: Vec<(QuotaEntity, Overrides)> = lines
            .map(|line| {
                let (mut user, mut client, mut rate) = (None, None, "");
                for word in line.split_whitespace() {
                    let name = |name: &str| (name != "*").then(|| name.to_owned());
                    match word.split_once('=') {
                        Some(("user", text)) => user = Some(name(text)),
                        Some((_, text)) => client = Some(name(text)),
                        None => rate = word,
                    }
                }
                let entity = match (user, client) {
                    (Some(user), Some(client_id)) => QuotaEntity::UserClient { user, client_id },
                    (Some(user), None) => QuotaEntity::User(user),
                    (_, client) => QuotaEntity::Client(client.flatten()),
                };
                (entity, Overrides::from([("producer_byte_rate".to_owned(), rate.to_owned())]))
            })
            .collect();
        ClientLimits::new(configs.iter().map(|(entity, overrides)| (entity.clone(), overrides)))
    }

    /// For each pair the limit and who shares it.
    fn found(limits: &ClientLimits, pairs: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (user, client) in pairs {
            let found = limits.find(QuotaKey::ProducerByteRate, (user, client));
            let told = found.map_or("none".to_owned(), |(share, limit)| {
                let name = |name: Option<Box<str>>| name.map_or("*".to_owned(), String::from);
                format!("{limit} of {}/{}", name(share.user), name(share.client_id))
            });
            let _ = writeln!(text, "{user}/{client}: {told}");
        }
        text
    }

    #[test]
    fn the_most_specific_of_eight_levels_holds() {
        let levels = [
            "user=u client=c 1",
            "user=u client=* 2",
            "user=u 3",
            "user=* client=c 4",
            "user=* client=* 5",
            "user=* 6",
            "client=c 7",
            "client=* 8",
        ];
        let shares = ["u/c", "u/c", "u/*", "u/c", "u/c", "u/*", "*/c", "*/c"];
        for first in 0..levels.len() {
            let limits = limits(&levels[first..].join("\n"));
            let expected = format!("u/c: {} of {}\n", first + 1, shares[first]);
            assert_eq!(found(&limits, &[("u", "c")]), expected);
        }
    }

    #[test]
    fn others_get_the_defaults_and_who_has_no_client_id_only_those_of_users() {
        let limits = limits("user=u client=c 1\n user=* client=* 5\n user=* 6\n client=* 8");
        let pairs = [("u", "c"), ("u", "d"), ("v", "c"), ("v", "")];
        let expected = "u/c: 1 of u/c\nu/d: 5 of u/d\nv/c: 5 of v/c\nv/: 6 of v/*\n";
        assert_eq!(found(&limits, &pairs), expected);
        let limits = super::tests::limits("client=* 8");
        assert_eq!(found(&limits, &[("v", ""), ("v", "x")]), "v/: none\nv/x: 8 of */x\n");
        assert!(!limits.is_used(QuotaKey::ConsumerByteRate));
    }

    #[test]
    fn what_cannot_be_a_limit_is_none() {
        for bad in ["0", "-1", "x", "NaN", "inf", ""] {
            let limits = limits(&format!("client=c {bad}"));
            assert_eq!(found(&limits, &[("u", "c")]), "u/c: none\n", "{bad}");
        }
    }

    #[test]
    fn an_address_has_its_own_limit_or_that_of_all() {
        let rate = |rate: &str| {
            Overrides::from([("connection_creation_rate".to_owned(), rate.to_owned())])
        };
        let (own, all) = (rate("3"), rate("9"));
        let own_entity = QuotaEntity::Ip(Some("10.0.0.1".to_owned()));
        let limits = ClientLimits::new([(own_entity, &own), (QuotaEntity::Ip(None), &all)]);
        let of = |ip: &str| limits.connections_of(ip.parse().unwrap());
        assert_eq!((of("10.0.0.1"), of("::ffff:10.0.0.1")), (Some(3.0), Some(3.0)));
        assert_eq!(of("10.0.0.2"), Some(9.0));
    }
}
