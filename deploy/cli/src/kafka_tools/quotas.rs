//! `kafka-configs`, for users, client ids and addresses: their quotas.

use ottla_common::kafka::admin::{
    Admin, ClientQuotas, ConfigChange, ConfigOperation, QuotaEntity, QuotaMatch, QuotaPart,
};

use super::configs::print;
use super::message_of;
use crate::commands::quotas;
use crate::output::misuse;

/// The keys that can be set for users and client ids, and for addresses.
const OF_CLIENTS: [&str; 4] =
    ["producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"];
const OF_ADDRESSES: [&str; 1] = ["connection_creation_rate"];

/// The types of entities, in Kafka's words, and the names that go with them in their order; an
/// empty name stands for the default.
#[derive(Debug, PartialEq, Eq)]
pub struct Entities {
    parts: Vec<(QuotaPart, Option<String>)>,
}

/// The type of a part by its name in the tool's flags.
fn part(name: &str) -> Option<QuotaPart> {
    match name {
        "users" => Some(QuotaPart::User),
        "clients" => Some(QuotaPart::ClientId),
        "ips" => Some(QuotaPart::Ip),
        _ => None,
    }
}

fn type_name(part: QuotaPart) -> &'static str {
    match part {
        QuotaPart::User => "users",
        QuotaPart::ClientId => "clients",
        QuotaPart::Ip => "ips",
    }
}

impl Entities {
    /// What types and names mean, if the types are those of quotas.
    pub fn new(types: &[String], names: &[String]) -> anyhow::Result<Option<Self>> {
        let known: Vec<QuotaPart> = types.iter().filter_map(|name| part(name)).collect();
        if known.is_empty() {
            return Ok(None);
        }
        let both = known.contains(&QuotaPart::User) && known.contains(&QuotaPart::ClientId);
        if types.len() > 1 && !(both && types.len() == 2) {
            return Err(misuse(
                "Only 'users' and 'clients' entity types may be specified together",
            ));
        }
        if names.len() > known.len() {
            return Err(misuse("More entity names specified than entity types"));
        }
        let names = names.iter().cloned().map(Some).chain(std::iter::repeat(None));
        Ok(Some(Self { parts: known.into_iter().zip(names).collect() }))
    }

    fn keys(&self) -> &'static [&'static str] {
        let is_address = self.parts.iter().any(|(part, _)| *part == QuotaPart::Ip);
        if is_address { &OF_ADDRESSES } else { &OF_CLIENTS }
    }

    fn entity(&self) -> anyhow::Result<QuotaEntity> {
        if self.parts.iter().all(|(_, name)| name.is_none()) {
            return Err(misuse(
                "An entity-name or default entity must be specified with --alter of users, \
                 clients, brokers or ips",
            ));
        }
        let parts = self.parts.iter().map(|(part, name)| match name {
            Some(name) => Ok((*part, Some(name.clone()).filter(|name| !name.is_empty()))),
            None => Err(misuse("Exactly one entity name must be specified for every entity type")),
        });
        parts.collect()
    }

    /// Changes quotas.
    pub async fn alter(&self, admin: &Admin, changes: &[ConfigChange]) -> anyhow::Result<()> {
        let entity = self.entity()?;
        let changes = self.quota_changes(changes)?;
        let set = quotas::values(admin, &entity).await?;
        let removed = changes.iter().filter(|(_, value)| value.is_none());
        let missing: Vec<&str> =
            removed.map(|(key, _)| key.as_str()).filter(|key| !set.contains_key(*key)).collect();
        if !missing.is_empty() {
            anyhow::bail!("Invalid config(s): {}", missing.join(","));
        }
        if let Err(error) = admin.alter_client_quotas(&entity, &changes, false).await {
            anyhow::bail!("Error while executing config command: {}", message_of(&error));
        }
        let Some((first, name)) = self.parts.first() else { return Ok(()) };
        let kind = type_name(*first);
        match name.as_deref().unwrap_or_default() {
            "" => {
                print(format_args!("Completed updating default config for {kind} in the cluster."))
            }
            name => {
                let one = kind.trim_end_matches('s');
                print(format_args!("Completed updating config for {one} {name}."))
            }
        }
    }

    fn quota_changes(
        &self,
        changes: &[ConfigChange],
    ) -> anyhow::Result<Vec<(String, Option<f64>)>> {
        let known = self.keys();
        let kind = self.parts.iter().map(|(part, _)| type_name(*part)).max().unwrap_or_default();
        let is_unknown = |change: &&ConfigChange| !known.contains(&change.name.as_str());
        let unknown: Vec<&str> =
            changes.iter().filter(is_unknown).map(|change| change.name.as_str()).collect();
        if !unknown.is_empty() {
            let what = if kind == "ips" { "connection quota" } else { "quota" };
            return Err(misuse(format!(
                "Only {what} configs can be added for '{kind}' using --bootstrap-server. \
                 Unexpected config names: {}",
                unknown.join(",")
            )));
        }
        let changed = changes.iter().map(|change| match change.operation {
            ConfigOperation::Delete => Ok((change.name.clone(), None)),
            _ => {
                let text = change.value.clone().unwrap_or_default();
                let value = text.trim().parse().map_err(|_| {
                    let name = &change.name;
                    misuse(format!("Cannot parse quota configuration value for {name}: {text}"))
                })?;
                Ok((change.name.clone(), Some(value)))
            }
        });
        changed.collect()
    }

    /// Prints the quotas of those that have these parts and no others.
    pub async fn describe(&self, admin: &Admin) -> anyhow::Result<()> {
        let wanted = self.parts.iter().map(|(part, name)| {
            let wanted = match name {
                Some(name) => QuotaMatch::Exact(Some(name.clone()).filter(|n| !n.is_empty())),
                None => QuotaMatch::Any,
            };
            (*part, wanted)
        });
        let described = admin.describe_client_quotas(&wanted.collect(), true).await?;
        described.iter().try_for_each(|found| print(line(found)))
    }
}

fn line(quotas: &ClientQuotas) -> String {
    let entity = quotas.entity.iter().map(|(part, name)| {
        let part = match part {
            QuotaPart::User => "user-principal",
            QuotaPart::ClientId => "client-id",
            QuotaPart::Ip => "ip",
        };
        match name {
            Some(name) => format!("{part} '{name}'"),
            None => format!("the default {part}"),
        }
    });
    let values = quotas.values.iter().map(|(key, value)| format!("{key}={}", java_double(*value)));
    let (entity, values): (Vec<_>, Vec<_>) = (entity.collect(), values.collect());
    format!("Quota configs for {} are {}", entity.join(", "), values.join(", "))
}

/// A number as Java's `Double.toString` writes it.
fn java_double(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => {
            format!("{mantissa}.0E{exponent}")
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn entities(types: &[&str], names: &[&str]) -> Entities {
        Entities::new(&texts(types), &texts(names)).unwrap().unwrap()
    }

    #[test]
    fn users_and_clients_go_together_and_nothing_else() {
        let both = entities(&["clients", "users"], &["c", ""]);
        let expected = [(QuotaPart::ClientId, Some("c".to_owned())), (QuotaPart::User, None)];
        assert_eq!(both.entity().unwrap(), QuotaEntity::from(expected));
        assert_eq!(Entities::new(&texts(&["topics"]), &[]).unwrap(), None);
        assert!(Entities::new(&texts(&["users", "ips"]), &[]).is_err());
        assert!(Entities::new(&texts(&["users", "topics"]), &[]).is_err());
        assert!(Entities::new(&texts(&["users"]), &texts(&["a", "b"])).is_err());
        assert!(entities(&["users"], &[]).entity().is_err());
        assert!(entities(&["users", "clients"], &["u"]).entity().is_err());
    }

    #[test]
    fn only_quotas_are_changed() {
        let users = entities(&["users"], &["u"]);
        let change = ConfigChange::set("consumer_byte_rate", "5");
        let changed = users.quota_changes(&[change, ConfigChange::delete("request_percentage")]);
        let expected =
            [("consumer_byte_rate".to_owned(), Some(5.0)), ("request_percentage".to_owned(), None)];
        assert_eq!(changed.unwrap(), expected);
        let refused = |entities: &Entities, key: &str, value: &str| {
            entities.quota_changes(&[ConfigChange::set(key, value)]).unwrap_err().to_string()
        };
        let text = refused(&users, "connection_creation_rate", "5");
        assert!(text.ends_with("Unexpected config names: connection_creation_rate"), "{text}");
        let text = refused(&entities(&["ips"], &[""]), "consumer_byte_rate", "5");
        assert!(text.starts_with("Only connection quota configs"), "{text}");
        let text = refused(&users, "consumer_byte_rate", "much");
        assert_eq!(text, "Cannot parse quota configuration value for consumer_byte_rate: much");
    }

    #[test]
    fn quotas_are_printed_as_kafka_prints_them() {
        let values = [("consumer_byte_rate", 1024.0), ("producer_byte_rate", 2e9)];
        let quotas = ClientQuotas {
            entity: [(QuotaPart::User, Some("u".to_owned())), (QuotaPart::ClientId, None)].into(),
            values: values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        };
        assert_eq!(
            line(&quotas),
            "Quota configs for user-principal 'u', the default client-id are \
             consumer_byte_rate=1024.0, producer_byte_rate=2.0E9"
        );
        let told = [0.5, 9_999_999.0, 1e7, 1.25e-4, 12_345_678.0].map(java_double);
        assert_eq!(told, ["0.5", "9999999.0", "1.0E7", "1.25E-4", "1.2345678E7"]);
    }
}
