//! DescribeClientQuotas (key 48), versions 0 to 1 (KIP-546).
//!
//! Behaviour:
//! - The quotas of users, client ids, client ids of users, and addresses that fit each part of the
//!   filter: the one of a name, the default, or whichever has a part of that type; if the filter is
//!   strict, entities that have no part besides.
//! - What the filter means by no rule is INVALID_REQUEST; a type that is none UNSUPPORTED_VERSION.
//!
//! Version notes: 1 flexible.
//!
//! Missing: nothing.

use std::collections::BTreeMap;

use ottla_common::cluster_tree::QuotaEntity;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_client_quotas::request::ComponentData;
use ottla_common::kafka::messages::describe_client_quotas::response::{
    EntityData, EntryData, ValueData,
};
use ottla_common::kafka::messages::describe_client_quotas::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse,
};

use super::authorization::{Operation, Resource};
use super::context::Context;
use crate::config::Overrides;
use crate::config::quotas::QuotaKey;

/// What a part of an entity has to be, with the numbers on the wire.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

/// The types of parts.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

type Refusal = (ErrorCode, String);

/// Serves a request.
pub fn handle(
    context: &Context,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let entries = match context.is_authorized(Operation::DescribeConfigs, Resource::Cluster) {
        true => Filter::new(&request).map(|filter| entries(context, &filter)),
        false => {
            let text = "Cluster authorization failed.".to_owned();
            Err((ErrorCode::ClusterAuthorizationFailed, text))
        }
    };
    match entries {
        Ok(entries) => DescribeClientQuotasResponse {
            entries: Some(entries),
            error_message: None,
            ..DescribeClientQuotasResponse::default()
        },
        Err((error, text)) => DescribeClientQuotasResponse {
            error_code: error.code(),
            error_message: Some(text.into()),
            entries: None,
            ..DescribeClientQuotasResponse::default()
        },
    }
}

/// What entities have to be.
struct Filter<'a> {
    /// By type: a name, the default, or anything.
    parts: BTreeMap<&'a str, Wanted<'a>>,
    is_strict: bool,
}

#[derive(PartialEq, Eq)]
enum Wanted<'a> {
    Exact(Option<&'a str>),
    Any,
}

impl<'a> Filter<'a> {
    fn new(request: &'a DescribeClientQuotasRequest) -> Result<Self, Refusal> {
        let mut parts = BTreeMap::new();
        for component in &request.components {
            let kind = component.entity_type.as_str();
            if kind.is_empty() {
                return invalid("Invalid empty entity type.");
            }
            if parts.contains_key(kind) {
                return invalid(format!(
                    "Entity type {kind} cannot appear more than once in the filter."
                ));
            }
            if ![USER, CLIENT_ID, IP].contains(&kind) {
                let text = format!("Unsupported entity type {kind}");
                return Err((ErrorCode::UnsupportedVersion, text));
            }
            parts.insert(kind, wanted(component)?);
        }
        if parts.contains_key(IP) && parts.len() > 1 {
            return invalid(
                "Invalid entity filter component combination. IP filter component should not be \
                 used with user or clientId filter component.",
            );
        }
        Ok(Self { parts, is_strict: request.strict })
    }

    fn takes(&self, entity: &[(&str, Option<&str>)]) -> bool {
        if self.is_strict && entity.len() != self.parts.len() {
            return false;
        }
        self.parts.iter().all(|(kind, wanted)| {
            let part = entity.iter().find(|(of, _)| of == kind);
            part.is_some_and(|(_, name)| *wanted == Wanted::Any || *wanted == Wanted::Exact(*name))
        })
    }
}

fn wanted(component: &ComponentData) -> Result<Wanted<'_>, Refusal> {
    let name = component.r#match.as_deref();
    match (component.match_type, name) {
        (EXACT, Some(name)) => Ok(Wanted::Exact(Some(name))),
        (EXACT, None) => {
            invalid("Request specified MATCH_TYPE_EXACT, but set match string to null.")
        }
        (DEFAULT, None) => Ok(Wanted::Exact(None)),
        (DEFAULT, Some(_)) => {
            invalid("Request specified MATCH_TYPE_DEFAULT, but also specified a match string.")
        }
        (ANY, None) => Ok(Wanted::Any),
        (ANY, Some(_)) => {
            invalid("Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.")
        }
        (other, _) => invalid(format!("Unknown match type {other}")),
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T, Refusal> {
    Err((ErrorCode::InvalidRequest, text.into()))
}

fn entries(context: &Context, filter: &Filter<'_>) -> Vec<EntryData> {
    // The newest image: the request before this one may have set a quota.
    let image = context.parts.image.load();
    let mut entries = Vec::new();
    for (entity, overrides) in image.quota_overrides() {
        let parts = parts_of(&entity);
        let values = values(&entity, overrides);
        if values.is_empty() || !filter.takes(&parts) {
            continue;
        }
        let entity = parts.into_iter().map(|(kind, name)| EntityData {
            entity_type: kind.into(),
            entity_name: name.map(Into::into),
            ..EntityData::default()
        });
        entries.push(EntryData { entity: entity.collect(), values, ..EntryData::default() });
    }
    entries
}

fn parts_of(entity: &QuotaEntity) -> Vec<(&'static str, Option<&str>)> {
    match entity {
        QuotaEntity::User(user) => vec![(USER, user.as_deref())],
        QuotaEntity::Client(client_id) => vec![(CLIENT_ID, client_id.as_deref())],
        QuotaEntity::UserClient { user, client_id } => {
            vec![(USER, user.as_deref()), (CLIENT_ID, client_id.as_deref())]
        }
        QuotaEntity::Ip(ip) => vec![(IP, ip.as_deref())],
    }
}

fn values(entity: &QuotaEntity, overrides: &Overrides) -> Vec<ValueData> {
    let set = overrides.iter().filter_map(|(name, value)| {
        QuotaKey::find(name).filter(|key| key.is_for(entity))?;
        let value = value.parse().ok()?;
        Some(ValueData { key: name.as_str().into(), value, ..ValueData::default() })
    });
    set.collect()
}
