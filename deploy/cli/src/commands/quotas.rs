//! `ottla quotas`: what users, client ids and addresses are held to.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use ottla_common::kafka::admin::{Admin, ClientQuotas, QuotaEntity, QuotaMatch, QuotaPart};

use super::topics::pairs;
use crate::context::Context;
use crate::output::{Output, misuse};

/// How the default is told in a table.
const DEFAULT: &str = "<default>";

/// Quotas.
#[derive(Debug, Subcommand)]
pub enum QuotasCommand {
    /// Print what is set: everything, or for those that are named.
    List {
        /// For whom.
        #[command(flatten)]
        entity: EntityArguments,
    },
    /// Set quotas of a user, a client id, both, or an address.
    Set {
        /// For whom.
        #[command(flatten)]
        entity: EntityArguments,
        /// What to set: producer_byte_rate, consumer_byte_rate, request_percentage and
        /// controller_mutation_rate; for an address, connection_creation_rate.
        #[arg(required = true, value_name = "KEY=VALUE")]
        quotas: Vec<String>,
    },
    /// Remove quotas: all of them, or those that are named.
    Delete {
        /// For whom.
        #[command(flatten)]
        entity: EntityArguments,
        /// What to remove.
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
    },
}

/// Whose quotas.
#[derive(Args, Debug, Default)]
pub struct EntityArguments {
    /// The user.
    #[arg(long, value_name = "NAME", conflicts_with = "user_default")]
    user: Option<String>,
    /// All users that have no quota of their own.
    #[arg(long)]
    user_default: bool,
    /// The client id; with a user, that of the user alone.
    #[arg(long, value_name = "ID", conflicts_with = "client_id_default")]
    client_id: Option<String>,
    /// All client ids that have no quota of their own.
    #[arg(long)]
    client_id_default: bool,
    /// The address that connections come from.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "ip_default")]
    ip: Option<String>,
    /// All addresses that have no quota of their own.
    #[arg(long)]
    ip_default: bool,
}

impl EntityArguments {
    /// What was named, in part or not at all.
    fn named(&self) -> anyhow::Result<QuotaEntity> {
        let parts = [
            (QuotaPart::User, &self.user, self.user_default),
            (QuotaPart::ClientId, &self.client_id, self.client_id_default),
            (QuotaPart::Ip, &self.ip, self.ip_default),
        ];
        let named = parts.into_iter().filter(|(_, name, default)| name.is_some() || *default);
        let entity: QuotaEntity = named.map(|(part, name, _)| (part, name.clone())).collect();
        if entity.len() > 1 && entity.contains_key(&QuotaPart::Ip) {
            return Err(misuse("an address has quotas for itself, not together with users or ids"));
        }
        Ok(entity)
    }

    /// Whose quotas are to change.
    fn entity(&self) -> anyhow::Result<QuotaEntity> {
        let entity = self.named()?;
        if entity.is_empty() {
            return Err(misuse(
                "for whom? --user, --user-default, --client-id, --client-id-default, --ip or \
                 --ip-default says it",
            ));
        }
        Ok(entity)
    }
}

/// Runs `ottla quotas`.
pub async fn run(context: &Context, command: QuotasCommand) -> anyhow::Result<()> {
    match command {
        QuotasCommand::List { entity } => {
            let named = entity.named()?;
            let admin = context.admin().await?;
            print(context.output, &describe(&admin, &named, false).await?)
        }
        QuotasCommand::Set { entity, quotas } => {
            let entity = entity.entity()?;
            let changes = pairs("ottla quotas set", &quotas)?.into_iter().map(change);
            let changes = changes.collect::<anyhow::Result<Vec<_>>>()?;
            context.admin().await?.alter_client_quotas(&entity, &changes, false).await?;
            context.output.done(format_args!("{} set", changes.len()))
        }
        QuotasCommand::Delete { entity, keys } => {
            let entity = entity.entity()?;
            let admin = context.admin().await?;
            let set = values(&admin, &entity).await?;
            if let Some(missing) = keys.iter().find(|key| !set.contains_key(*key)) {
                anyhow::bail!("{missing} is not set there");
            }
            let keys = if keys.is_empty() { set.into_keys().collect() } else { keys };
            if keys.is_empty() {
                anyhow::bail!("no quota is set there");
            }
            let changes: Vec<_> = keys.into_iter().map(|key| (key, None)).collect();
            admin.alter_client_quotas(&entity, &changes, false).await?;
            context.output.done(format_args!("{} removed", changes.len()))
        }
    }
}

fn change((key, value): (String, String)) -> anyhow::Result<(String, Option<f64>)> {
    match value.parse() {
        Ok(value) => Ok((key, Some(value))),
        Err(_) => Err(misuse(format!("{key} wants a number, not {value:?}"))),
    }
}

/// The quotas of the entities that have these parts; if `strict`, and no others.
async fn describe(
    admin: &Admin,
    named: &QuotaEntity,
    strict: bool,
) -> anyhow::Result<Vec<ClientQuotas>> {
    let exact =
        |(part, name): (&QuotaPart, &Option<String>)| (*part, QuotaMatch::Exact(name.clone()));
    Ok(admin.describe_client_quotas(&named.iter().map(exact).collect(), strict).await?)
}

/// The quotas of one entity.
///
/// # Errors
/// If no broker answers, or it refuses.
pub async fn values(admin: &Admin, entity: &QuotaEntity) -> anyhow::Result<BTreeMap<String, f64>> {
    let described = describe(admin, entity, true).await?;
    Ok(described.into_iter().next().map(|found| found.values).unwrap_or_default())
}

fn print(output: Output, described: &[ClientQuotas]) -> anyhow::Result<()> {
    let rows = described.iter().flat_map(|found| {
        let name = |part| {
            let name = found.entity.get(&part);
            name.map(|name| name.clone().unwrap_or_else(|| DEFAULT.to_owned()))
        };
        let of = [QuotaPart::User, QuotaPart::ClientId, QuotaPart::Ip].map(name);
        found.values.iter().map(move |(key, value)| {
            let [user, client_id, ip] = of.clone();
            [user.into(), client_id.into(), ip.into(), key.as_str().into(), number(*value)]
        })
    });
    output.rows(["user", "client id", "ip", "quota", "value"], rows)
}

/// A number without a fraction that it does not have.
fn number(value: f64) -> serde_json::Value {
    match value.to_string().parse::<i64>() {
        Ok(whole) => whole.into(),
        Err(_) => value.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_named_by_flags() {
        let name = |name: &str| Some(name.to_owned());
        let both = EntityArguments {
            user: name("u"),
            client_id_default: true,
            ..EntityArguments::default()
        };
        let expected = [(QuotaPart::User, name("u")), (QuotaPart::ClientId, None)];
        assert_eq!(both.entity().unwrap(), QuotaEntity::from(expected));
        let nobody = EntityArguments::default();
        assert!(nobody.named().unwrap().is_empty());
        assert!(nobody.entity().unwrap_err().to_string().starts_with("for whom?"));
        let mixed = EntityArguments { user: name("u"), ip_default: true, ..nobody };
        assert!(mixed.named().is_err());
    }

    #[test]
    fn values_are_numbers() {
        let change = |value: &str| change(("k".to_owned(), value.to_owned()));
        assert_eq!(change("1.5").unwrap(), ("k".to_owned(), Some(1.5)));
        assert!(change("fast").is_err());
        assert_eq!(number(1024.0).to_string(), "1024");
        assert_eq!(number(2.5).to_string(), "2.5");
    }
}
