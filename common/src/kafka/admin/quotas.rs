//! Quotas of clients (KIP-546).

use std::collections::BTreeMap;

use super::{Admin, check};
use crate::kafka::client::ClientError;
use crate::kafka::messages::alter_client_quotas::AlterClientQuotasRequest;
use crate::kafka::messages::alter_client_quotas::request as alter;
use crate::kafka::messages::describe_client_quotas::DescribeClientQuotasRequest;
use crate::kafka::messages::describe_client_quotas::request::ComponentData;
use crate::kafka::messages::describe_client_quotas::response::EntryData;

/// What a part of an entity with quotas is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaPart {
    /// A user.
    User,
    /// A client id.
    ClientId,
    /// An address.
    Ip,
}

impl QuotaPart {
    /// Its name on the wire.
    pub fn wire(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }

    fn from_wire(name: &str) -> Option<Self> {
        [Self::User, Self::ClientId, Self::Ip].into_iter().find(|part| part.wire() == name)
    }
}

/// Whose quotas, by parts. A name that is `None` stands for all who have no quota of their own.
pub type QuotaEntity = BTreeMap<QuotaPart, Option<String>>;

/// What a part has to be to be described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaMatch {
    /// The one of this name, or the default.
    Exact(Option<String>),
    /// Whatever it is, as long as it is there.
    Any,
}

/// The quotas of an entity.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientQuotas {
    /// Whose they are.
    pub entity: QuotaEntity,
    /// Key → value.
    pub values: BTreeMap<String, f64>,
}

impl ClientQuotas {
    fn new(entry: EntryData) -> Self {
        let parts = entry.entity.into_iter().filter_map(|part| {
            let name = part.entity_name.map(|name| name.to_string());
            Some((QuotaPart::from_wire(&part.entity_type)?, name))
        });
        let values = entry.values.into_iter().map(|value| (value.key.to_string(), value.value));
        Self { entity: parts.collect(), values: values.collect() }
    }
}

impl Admin {
    /// The quotas of the entities that have these parts; if `strict`, and no others.
    ///
    /// # Errors
    /// If no broker answers, or it refuses.
    pub async fn describe_client_quotas(
        &self,
        parts: &BTreeMap<QuotaPart, QuotaMatch>,
        strict: bool,
    ) -> Result<Vec<ClientQuotas>, ClientError> {
        let components = parts.iter().map(|(part, wanted)| {
            let (match_type, name) = match wanted {
                QuotaMatch::Exact(Some(name)) => (0, Some(name.as_str().into())),
                QuotaMatch::Exact(None) => (1, None),
                QuotaMatch::Any => (2, None),
            };
            let entity_type = part.wire().into();
            ComponentData { entity_type, match_type, r#match: name, ..Default::default() }
        });
        let request = DescribeClientQuotasRequest {
            components: components.collect(),
            strict,
            ..Default::default()
        };
        let response = self.cluster.send_to_any(&request).await?;
        check("DescribeClientQuotas", response.error_code, response.error_message.as_ref())?;
        let entries = response.entries.unwrap_or_default();
        Ok(entries.into_iter().map(ClientQuotas::new).collect())
    }

    /// Sets quotas of an entity, and removes those that get no value; all or none.
    ///
    /// # Errors
    /// If no broker answers, or it refuses.
    pub async fn alter_client_quotas(
        &self,
        entity: &QuotaEntity,
        changes: &[(String, Option<f64>)],
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let parts = entity.iter().map(|(part, name)| alter::EntityData {
            entity_type: part.wire().into(),
            entity_name: name.as_deref().map(Into::into),
            ..Default::default()
        });
        let ops = changes.iter().map(|(key, value)| alter::OpData {
            key: key.as_str().into(),
            value: value.unwrap_or_default(),
            remove: value.is_none(),
            ..Default::default()
        });
        let entry =
            alter::EntryData { entity: parts.collect(), ops: ops.collect(), ..Default::default() };
        let request =
            AlterClientQuotasRequest { entries: vec![entry], validate_only, ..Default::default() };
        let response = self.cluster.send_to_any(&request).await?;
        response.entries.iter().try_for_each(|entry| {
            check("AlterClientQuotas", entry.error_code, entry.error_message.as_ref())
        })
    }
}
