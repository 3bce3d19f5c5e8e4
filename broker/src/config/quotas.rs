//! The quotas that can be set for users, client ids and addresses (KIP-13, KIP-124, KIP-599,
//! KIP-612), as configs: their names, types, and changes of them, checked in Kafka's words. Pure.

use std::collections::BTreeSet;

use ottla_common::cluster_tree::{DEFAULT_ENTITY, QuotaEntity};

use super::Overrides;

/// Something that a client can be held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKey {
    /// Bytes a second that are produced.
    ProducerByteRate,
    /// Bytes a second that are fetched.
    ConsumerByteRate,
    /// How much of one thread's time requests take, in percent.
    RequestPercentage,
    /// Partitions a second that are made or deleted.
    ControllerMutationRate,
    /// Connections a second.
    ConnectionCreationRate,
}

impl QuotaKey {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ProducerByteRate,
        Self::ConsumerByteRate,
        Self::RequestPercentage,
        Self::ControllerMutationRate,
        Self::ConnectionCreationRate,
    ];

    /// Its name as a config.
    pub fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::RequestPercentage => "request_percentage",
            Self::ControllerMutationRate => "controller_mutation_rate",
            Self::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// The key of a name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Whether it can be set for such an entity.
    pub fn is_for(self, entity: &QuotaEntity) -> bool {
        matches!(entity, QuotaEntity::Ip(_)) == (self == Self::ConnectionCreationRate)
    }

    /// The largest value and its type's name, if only whole numbers are taken.
    fn whole_max(self) -> Option<(f64, &'static str)> {
        match self {
            Self::ProducerByteRate | Self::ConsumerByteRate => Some((i64::MAX as f64, "a LONG")),
            Self::ConnectionCreationRate => Some((f64::from(i32::MAX), "an INT")),
            Self::RequestPercentage | Self::ControllerMutationRate => None,
        }
    }
}

/// A change of one quota: the name of its key, and its new value if it is not removed.
pub type QuotaOp = (String, Option<f64>);

/// What is more than a whole number by less than this is one.
const FRACTION_MAX: f64 = 1e-6;

/// The configs of an entity after these changes. What is there and is no quota stays as it is.
///
/// # Errors
/// What to tell the client with INVALID_REQUEST.
pub fn alter(
    entity: &QuotaEntity,
    current: &Overrides,
    ops: &[QuotaOp],
) -> Result<Overrides, String> {
    let mut seen = BTreeSet::new();
    let mut next = current.clone();
    for (name, value) in ops {
        if !seen.insert(name) {
            return Err(format!("Duplicate quota key {name}"));
        }
        let key = QuotaKey::find(name).filter(|key| key.is_for(entity));
        match (value, key) {
            (Some(value), Some(key)) => {
                check(key, *value)?;
                next.insert(name.clone(), text_of(key, *value));
            }
            (Some(_), None) => return Err(format!("Invalid configuration key {name}")),
            (None, Some(_)) => {
                next.remove(name);
            }
            // What cannot be set is not set, so it need not be removed.
            (None, None) => {}
        }
    }
    Ok(next)
}

fn check(key: QuotaKey, value: f64) -> Result<(), String> {
    let name = key.name();
    if !value.is_finite() {
        return Err(format!("Quota {name} must be a finite number"));
    }
    if value <= 0.0 {
        return Err(format!("Quota {name} must be greater than 0"));
    }
    let Some((max, what)) = key.whole_max() else { return Ok(()) };
    if value > max {
        return Err(format!("Proposed value for {name} is too large for {what}."));
    }
    if value % 1.0 > FRACTION_MAX {
        return Err(format!("{name} cannot be a fractional value."));
    }
    Ok(())
}

fn text_of(key: QuotaKey, value: f64) -> String {
    let value = if key.whole_max().is_some() { value.trunc() } else { value };
    value.to_string()
}

/// Whose quotas a list of types and names means; a name that is missing stands for the default.
/// `None` if an address is one that cannot be.
///
/// # Errors
/// What to tell the client with INVALID_REQUEST.
pub fn entity(parts: &[(&str, Option<&str>)]) -> Result<QuotaEntity, String> {
    let (mut user, mut client_id, mut ip) = (None, None, None);
    for (kind, name) in parts {
        let place = match *kind {
            "user" => &mut user,
            "client-id" => &mut client_id,
            "ip" => &mut ip,
            other => return Err(format!("Unhandled client quota entity type: {other}")),
        };
        let name = name.map(str::to_owned);
        match name.as_deref() {
            Some("") => return Err(format!("Empty {kind} not supported")),
            Some(DEFAULT_ENTITY) => {
                return Err(format!("The name {DEFAULT_ENTITY} stands for the default {kind}."));
            }
            _ => {}
        }
        if place.replace(name).is_some() {
            return Err(format!("Invalid client quota entity, duplicate entity entry {kind}"));
        }
    }
    match (user, client_id, ip) {
        (None, None, Some(ip)) => match &ip {
            Some(text) if text.parse::<std::net::IpAddr>().is_err() => {
                Err(format!("{text} is not a valid IP or resolvable host."))
            }
            _ => Ok(QuotaEntity::Ip(ip)),
        },
        (_, _, Some(_)) => {
            Err("Invalid quota entity combination, IP entity should not be combined \
                                with User or ClientId"
                .to_owned())
        }
        (Some(user), Some(client_id), None) => Ok(QuotaEntity::UserClient { user, client_id }),
        (Some(user), None, None) => Ok(QuotaEntity::User(user)),
        (None, Some(client_id), None) => Ok(QuotaEntity::Client(client_id)),
        (None, None, None) => Err("Invalid empty client quota entity".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Part<'a> = (&'a str, Option<&'a str>);

    fn name(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn entities_are_users_clients_both_or_addresses() {
        let good = [
            (vec![("user", Some("a"))], QuotaEntity::User(name("a"))),
            (vec![("client-id", None)], QuotaEntity::Client(None)),
            (vec![("ip", Some("10.0.0.1"))], QuotaEntity::Ip(name("10.0.0.1"))),
            (vec![("ip", None)], QuotaEntity::Ip(None)),
            (
                vec![("client-id", Some("c")), ("user", None)],
                QuotaEntity::UserClient { user: None, client_id: name("c") },
            ),
        ];
        for (parts, expected) in good {
            assert_eq!(entity(&parts), Ok(expected));
        }
        let bad: [(Vec<Part<'_>>, &str); 7] = [
            (vec![], "Invalid empty client quota entity"),
            (vec![("group", Some("g"))], "Unhandled client quota entity type: group"),
            (vec![("user", Some(""))], "Empty user not supported"),
            (vec![("user", Some("a")), ("user", None)], "duplicate entity entry user"),
            (vec![("user", Some("a")), ("ip", Some("10.0.0.1"))], "should not be combined"),
            (vec![("ip", Some("300.0.0.1"))], "300.0.0.1 is not a valid IP or resolvable host."),
            (vec![("user", Some("<default>"))], "stands for the default user"),
        ];
        for (parts, message) in bad {
            let error = entity(&parts).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn values_are_checked_by_their_type() {
        let user = QuotaEntity::User(None);
        let none = Overrides::new();
        let set = |entity: &QuotaEntity, key: &str, value: f64| {
            alter(entity, &none, &[(key.to_owned(), Some(value))])
                .map(|next| next.into_values().next().unwrap_or_default())
        };
        assert_eq!(set(&user, "producer_byte_rate", 1024.0).unwrap(), "1024");
        assert_eq!(set(&user, "request_percentage", 0.5).unwrap(), "0.5");
        assert_eq!(set(&user, "controller_mutation_rate", 2.5).unwrap(), "2.5");
        let ip = QuotaEntity::Ip(None);
        assert_eq!(set(&ip, "connection_creation_rate", 7.0).unwrap(), "7");
        for (entity, key, value, message) in [
            (&user, "producer_byte_rate", 0.0, "must be greater than 0"),
            (&user, "consumer_byte_rate", -1.0, "must be greater than 0"),
            (&user, "consumer_byte_rate", 1.5, "cannot be a fractional value."),
            (&user, "producer_byte_rate", 1e19, "too large for a LONG."),
            (&user, "request_percentage", f64::NAN, "must be a finite number"),
            (&user, "connection_creation_rate", 1.0, "Invalid configuration key"),
            (&user, "SCRAM-SHA-256", 1.0, "Invalid configuration key"),
            (&ip, "connection_creation_rate", 3e9, "too large for an INT."),
            (&ip, "producer_byte_rate", 1.0, "Invalid configuration key"),
        ] {
            let error = set(entity, key, value).unwrap_err();
            assert!(error.contains(message), "{key}={value}: {error}");
        }
    }

    #[test]
    fn what_is_no_quota_stays() {
        let user = QuotaEntity::User(name("a"));
        let current = Overrides::from([
            ("SCRAM-SHA-256".to_owned(), "salt=…".to_owned()),
            ("consumer_byte_rate".to_owned(), "5".to_owned()),
        ]);
        let ops = [
            ("consumer_byte_rate".to_owned(), None),
            ("SCRAM-SHA-256".to_owned(), None),
            ("producer_byte_rate".to_owned(), Some(9.0)),
        ];
        let next = alter(&user, &current, &ops).unwrap();
        assert_eq!(next.keys().collect::<Vec<_>>(), ["SCRAM-SHA-256", "producer_byte_rate"]);
        let twice = [ops[0].clone(), ops[0].clone()];
        assert!(alter(&user, &current, &twice).unwrap_err().starts_with("Duplicate quota key"));
    }
}
