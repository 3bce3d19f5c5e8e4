//! Whose quotas stand where (KIP-546): they are configs of users, client ids and addresses, and of
//! client ids of users.
//!
//! | whose | path |
//! |---|---|
//! | a user | `/config/users/<user>`, beside the user's credentials |
//! | a client id, whoever uses it | `/config/clients/<client id>` |
//! | a client id of a user | `/config/users/<user>/clients/<client id>` |
//! | an address | `/config/ips/<address>` |
//!
//! Each name may be [`DEFAULT_ENTITY`] for all who have no quota of their own there. So nobody can
//! have a quota who is really called that.

use super::{ConfigKind, ConfigOverrides, DEFAULT_ENTITY, TreePath, entity_to_segment};

/// Whose quotas. A name that is `None` stands for all who have none of their own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaEntity {
    /// A user.
    User(Option<String>),
    /// A client id of a user.
    UserClient {
        /// The user.
        user: Option<String>,
        /// The client id.
        client_id: Option<String>,
    },
    /// A client id, whoever uses it.
    Client(Option<String>),
    /// An address.
    Ip(Option<String>),
}

impl QuotaEntity {
    /// Where its quotas stand.
    pub fn path(&self) -> String {
        let path = |kind, name| ConfigOverrides::path(kind, tree_name(name));
        match self {
            Self::User(user) => path(ConfigKind::Users, user),
            Self::Client(client_id) => path(ConfigKind::Clients, client_id),
            Self::Ip(ip) => path(ConfigKind::Ips, ip),
            Self::UserClient { user, client_id } => {
                let parent = Self::clients_of(user);
                format!("{parent}/{}", entity_to_segment(tree_name(client_id)))
            }
        }
    }

    /// The nodes above that may be missing, the upper one first: that of the user, which has
    /// configs of its own, and the one below it, which has none.
    pub fn parents(&self) -> Option<[String; 2]> {
        let Self::UserClient { user, .. } = self else { return None };
        let own = ConfigOverrides::path(ConfigKind::Users, tree_name(user));
        Some([own, Self::clients_of(user)])
    }

    fn clients_of(user: &Option<String>) -> String {
        format!("{}/clients", ConfigOverrides::path(ConfigKind::Users, tree_name(user)))
    }

    /// Whose quotas stand at a path, if any can.
    pub fn of(path: &TreePath) -> Option<Self> {
        match path {
            TreePath::Config { kind, name } => Self::of_config(*kind, name),
            TreePath::UserClientConfig { user, client_id } => Some(Self::UserClient {
                user: entity_name(user),
                client_id: entity_name(client_id),
            }),
            _ => None,
        }
    }

    /// Whose quotas are among the configs of this kind and name, if any can be.
    pub fn of_config(kind: ConfigKind, name: &str) -> Option<Self> {
        match kind {
            ConfigKind::Users => Some(Self::User(entity_name(name))),
            ConfigKind::Clients => Some(Self::Client(entity_name(name))),
            ConfigKind::Ips => Some(Self::Ip(entity_name(name))),
            _ => None,
        }
    }
}

fn tree_name(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or(DEFAULT_ENTITY)
}

fn entity_name(name: &str) -> Option<String> {
    (name != DEFAULT_ENTITY).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entity_is_found_again_by_its_path() {
        let name = |name: &str| Some(name.to_owned());
        let cases = [
            (QuotaEntity::User(name("CN=a/b,O=c")), "/config/users/CN%3Da%2Fb%2CO%3Dc"),
            (QuotaEntity::User(None), "/config/users/<default>"),
            (QuotaEntity::Client(name("..")), "/config/clients/%2E%2E"),
            (QuotaEntity::Ip(name("::1")), "/config/ips/%3A%3A1"),
            (
                QuotaEntity::UserClient { user: name("a"), client_id: None },
                "/config/users/a/clients/<default>",
            ),
            (
                QuotaEntity::UserClient { user: None, client_id: name("c d") },
                "/config/users/<default>/clients/c%20d",
            ),
        ];
        for (entity, path) in cases {
            assert_eq!(entity.path(), path);
            let parsed = TreePath::parse(path).unwrap();
            assert_eq!(QuotaEntity::of(&parsed), Some(entity), "{path}");
        }
        assert_eq!(TreePath::parse("/config/users/a/clients"), None);
    }

    #[test]
    fn only_a_client_of_a_user_stands_below_another() {
        let entity = QuotaEntity::UserClient { user: None, client_id: None };
        let parents = entity.parents().unwrap();
        assert_eq!(parents, ["/config/users/<default>", "/config/users/<default>/clients"]);
        assert_eq!(QuotaEntity::User(None).parents(), None);
    }
}
