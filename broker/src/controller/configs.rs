//! Changes of the dynamic configs of topics and brokers, written to the tree.

use ottla_common::cluster_tree::{ConfigKind, ConfigOverrides, DEFAULT_ENTITY};
use ottla_common::coordination::client::ClientError;
use ottla_common::coordination::protocol::{CoordinationError, CreateMode};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::BrokerId;
use tracing::info;

use super::admin::{AdminError, ClusterAdmin};
use crate::config::BrokerLayers;
use crate::config::dynamic::{
    Alteration, BrokerScope, Refusal, alter_broker, alter_client_metrics, alter_group, alter_topic,
    check_reconfiguration, replace_broker, replace_client_metrics, replace_group, replace_topic,
};
use crate::metadata::image::Overrides;

/// What is to happen to the configs of one topic or broker.
#[derive(Clone, Debug)]
pub enum ConfigChange {
    /// Single keys change (IncrementalAlterConfigs).
    Alter(Vec<Alteration>),
    /// Exactly these hold from now on (AlterConfigs).
    Replace(Vec<(String, Option<String>)>),
}

impl ClusterAdmin {
    /// Checks the configs of a topic to be made.
    pub(super) fn checked_topic_overrides(
        &self,
        entries: &[(String, Option<String>)],
    ) -> Result<Overrides, AdminError> {
        self.with_layers(|layers| replace_topic(entries, layers)).map_err(refusal)
    }

    /// Changes the configs of a topic that is there.
    pub async fn alter_topic_config(
        &self,
        topic: &str,
        change: &ConfigChange,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        if !self.image.load().topics.contains_key(topic) {
            let text = "This server does not host this topic-partition.";
            return Err(AdminError::new(ErrorCode::UnknownTopicOrPartition, text));
        }
        let next = |current: &Overrides| {
            self.with_layers(|layers| match change {
                ConfigChange::Alter(changes) => alter_topic(current, changes, layers),
                ConfigChange::Replace(entries) => replace_topic(entries, layers),
            })
        };
        self.change_config((ConfigKind::Topics, topic), next, validate_only).await
    }

    /// Changes the dynamic configs of one broker, or of all.
    pub async fn alter_broker_config(
        &self,
        broker: Option<BrokerId>,
        change: &ConfigChange,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let (scope, name) = match broker {
            Some(id) => (BrokerScope::One, id.to_string()),
            None => (BrokerScope::All, DEFAULT_ENTITY.to_owned()),
        };
        let next = |current: &Overrides| {
            let next = match change {
                ConfigChange::Alter(changes) => alter_broker(scope, current, changes),
                ConfigChange::Replace(entries) => replace_broker(scope, entries),
            }?;
            let image = self.image.load();
            let own = image.broker_overrides(self.config.broker_id);
            let all = image.default_broker_overrides();
            // This broker speaks for the others: they were started alike.
            let (before, after) = match scope {
                BrokerScope::One => ((current, &*all), (&next, &*all)),
                BrokerScope::All => ((&*own, current), (&*own, &next)),
            };
            check_reconfiguration(&self.config, before, after)?;
            Ok(next)
        };
        self.change_config((ConfigKind::Brokers, &name), next, validate_only).await
    }

    /// Changes the configs of a group, which need not be there.
    pub async fn alter_group_config(
        &self,
        group: &str,
        change: &ConfigChange,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let next = |current: &Overrides| {
            self.with_layers(|layers| match change {
                ConfigChange::Alter(changes) => alter_group(current, changes, layers),
                ConfigChange::Replace(entries) => replace_group(entries, layers),
            })
        };
        self.change_config((ConfigKind::Groups, group), next, validate_only).await
    }

    /// Changes the configs of a subscription to clients' metrics, which need not be there.
    pub async fn alter_client_metrics_config(
        &self,
        name: &str,
        change: &ConfigChange,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let next = |current: &Overrides| match change {
            ConfigChange::Alter(changes) => alter_client_metrics(current, changes),
            ConfigChange::Replace(entries) => replace_client_metrics(entries),
        };
        self.change_config((ConfigKind::ClientMetrics, name), next, validate_only).await
    }

    fn with_layers<T>(&self, use_layers: impl FnOnce(&BrokerLayers<'_>) -> T) -> T {
        let image = self.image.load();
        let own = image.broker_overrides(self.config.broker_id);
        let all = image.default_broker_overrides();
        use_layers(&self.config.layers(&own, &all))
    }

    /// Replaces one node of `/config` by what `next` makes of it, as often as another writer was
    /// faster, and waits until the image shows it.
    async fn change_config(
        &self,
        (kind, name): (ConfigKind, &str),
        next: impl Fn(&Overrides) -> Result<Overrides, Refusal>,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let path = ConfigOverrides::path(kind, name);
        loop {
            let found = self.client.get(&path).await;
            let found = found.map_err(|error| AdminError::from_client(&error))?;
            let current = match &found {
                Some((data, _)) => ConfigOverrides::decode(data).map_err(unreadable)?.config,
                None => Overrides::new(),
            };
            let changed = next(&current).map_err(refusal)?;
            if validate_only || changed == current {
                return Ok(());
            }
            let data = ConfigOverrides::new(changed.clone()).encode();
            let written = match found {
                Some((_, stat)) => self.client.set(&path, data, Some(stat.version)).await,
                None => self.client.create(&path, data, CreateMode::Persistent).await.map(|c| c.1),
            };
            match written {
                Ok(stat) => {
                    info!(kind = kind.name(), name, "configs changed");
                    self.shown_at(stat.mzxid).await;
                    return Ok(());
                }
                Err(error) if is_lost_race(&error) => {}
                Err(error) => return Err(AdminError::from_client(&error)),
            }
        }
    }
}

/// Another writer was faster, or perhaps an earlier attempt of ours: to be read and tried again.
pub(super) fn is_lost_race(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Unknown
            | ClientError::Refused(
                CoordinationError::BadVersion { .. }
                    | CoordinationError::NodeExists { .. }
                    | CoordinationError::NoNode { .. }
            )
    )
}

fn refusal(refusal: Refusal) -> AdminError {
    let code = match &refusal {
        Refusal::InvalidConfig(_) => ErrorCode::InvalidConfig,
        Refusal::InvalidRequest(_) => ErrorCode::InvalidRequest,
    };
    AdminError::new(code, refusal.message())
}

fn unreadable(error: ottla_common::cluster_tree::InvalidValue) -> AdminError {
    let text = format!("The present configs cannot be read: {error}");
    AdminError::new(ErrorCode::UnknownServerError, text)
}
