//! Access lists: who may do what, by ZooKeeper's rules.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ottla_common::coordination::protocol::{Acl, CoordinationError, permission};
use sha1::{Digest, Sha1};

use super::command::{AclList, Identity};
use crate::limits::ACL_ENTRIES_MAX;

/// The identity that may do everything.
pub const SUPER: &str = "super";

/// Everyone may do everything.
pub fn open() -> AclList {
    Acl::open().into()
}

/// Whether one of these permissions is granted to someone with these identities.
pub fn allows(acl: &[Acl], permissions: u32, identities: &[Identity]) -> bool {
    acl.is_empty()
        || identities.iter().any(|identity| identity.scheme == SUPER)
        || acl.iter().any(|entry| {
            entry.permissions & permissions != 0
                && (is_anyone(entry) || identities.iter().any(|identity| matches(identity, entry)))
        })
}

/// Fails with `NoAuth` unless one of these permissions is granted.
pub fn check(
    acl: &[Acl],
    permissions: u32,
    identities: &[Identity],
    path: &str,
) -> Result<(), CoordinationError> {
    if allows(acl, permissions, identities) {
        Ok(())
    } else {
        Err(CoordinationError::NoAuth { path: path.to_owned() })
    }
}

/// The list that a node gets when a client asks for `asked`: checked, without duplicates, and
/// `auth` replaced by the identities that the client has proved.
pub fn resolve(asked: &[Acl], identities: &[Identity]) -> Result<Vec<Acl>, CoordinationError> {
    if asked.is_empty() {
        return Err(CoordinationError::InvalidAcl);
    }
    let mut resolved: Vec<Acl> = Vec::with_capacity(asked.len().min(ACL_ENTRIES_MAX));
    let mut add = |entry: Acl| {
        if !resolved.contains(&entry) {
            resolved.push(entry);
        }
        if resolved.len() > ACL_ENTRIES_MAX {
            return Err(CoordinationError::LimitReached { limit: "access list".to_owned() });
        }
        Ok(())
    };
    for entry in asked {
        if entry.scheme == "auth" {
            let mut proved = identities.iter().filter(|identity| proves_who(identity)).peekable();
            if proved.peek().is_none() {
                return Err(CoordinationError::InvalidAcl);
            }
            for Identity { scheme, id } in proved {
                let (scheme, id) = (scheme.clone(), id.clone());
                add(Acl { permissions: entry.permissions, scheme, id })?;
            }
        } else if is_valid(entry) {
            add(entry.clone())?;
        } else {
            return Err(CoordinationError::InvalidAcl);
        }
    }
    Ok(resolved)
}

/// The list as someone sees it who may not change it: without the hashes of passwords.
pub fn masked(acl: &[Acl]) -> Vec<Acl> {
    let mask = |entry: &Acl| {
        let mut entry = entry.clone();
        if entry.scheme == "digest" {
            entry.id = match entry.id.split_once(':') {
                Some((user, _)) => format!("{user}:x"),
                None => "x".to_owned(),
            };
        }
        entry
    };
    acl.iter().map(mask).collect()
}

/// The identity that `user:password` proves: ZooKeeper's `DigestAuthenticationProvider`.
pub fn digest_identity(credential: &[u8]) -> Option<Identity> {
    let text = std::str::from_utf8(credential).ok()?;
    let user = text.split(':').next()?;
    let hash = STANDARD.encode(Sha1::digest(credential));
    Some(Identity { scheme: "digest".to_owned(), id: format!("{user}:{hash}") })
}

fn is_anyone(entry: &Acl) -> bool {
    entry.scheme == "world" && entry.id == "anyone"
}

/// Whether the identity says who someone is (`auth` means these), and not only from where.
fn proves_who(identity: &Identity) -> bool {
    identity.scheme != "ip" && identity.scheme != SUPER
}

/// Whether an access list may have this entry.
fn is_valid(entry: &Acl) -> bool {
    match entry.scheme.as_str() {
        "world" => entry.id == "anyone",
        "digest" => entry.id.split(':').count() == 2,
        "ip" => parse_network(&entry.id).is_some(),
        "x509" | "sasl" => !entry.id.is_empty(),
        _ => false,
    }
}

fn matches(identity: &Identity, entry: &Acl) -> bool {
    if identity.scheme != entry.scheme {
        return false;
    }
    if entry.scheme != "ip" {
        return identity.id == entry.id;
    }
    let (Ok(address), Some((network, prefix))) =
        (identity.id.parse::<IpAddr>(), parse_network(&entry.id))
    else {
        return false;
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            u32::from(address) & mask == u32::from(network) & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            u128::from(address) & mask == u128::from(network) & mask
        }
        _ => false,
    }
}

/// `address` or `address/bits`.
fn parse_network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some((address, bits))
}

/// The permissions that let one see a node's access list.
pub const SEE_ACL: u32 = permission::READ | permission::ADMIN;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(scheme: &str, id: &str) -> Identity {
        Identity { scheme: scheme.to_owned(), id: id.to_owned() }
    }

    fn entry(permissions: u32, scheme: &str, id: &str) -> Acl {
        Acl { permissions, scheme: scheme.to_owned(), id: id.to_owned() }
    }

    #[test]
    fn addresses_match_by_network() {
        let from = |text: &str| [identity("ip", text)];
        for (network, address, expected) in [
            ("10.1.0.0/16", "10.1.2.3", true),
            ("10.1.0.0/16", "10.2.2.3", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("::/0", "::1", true),
        ] {
            let acl = [entry(permission::READ, "ip", network)];
            assert_eq!(allows(&acl, permission::READ, &from(address)), expected, "{network}");
        }
        for bad in ["", "10.1", "10.1.2.3/33", "::/129", "10.1.2.3/x", "10.1.2.3/"] {
            assert_eq!(
                resolve(&[entry(1, "ip", bad)], &[]),
                Err(CoordinationError::InvalidAcl),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_digest_is_zookeepers() {
        // The example of ZooKeeper's documentation.
        assert_eq!(
            digest_identity(b"super:admin").unwrap().id,
            "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="
        );
    }

    #[test]
    fn auth_becomes_what_the_client_has_proved() {
        let who = [identity("ip", "1.2.3.4"), identity("digest", "a:x"), identity("sasl", "b")];
        let asked = [entry(permission::ALL, "auth", ""), entry(permission::ALL, "sasl", "b")];
        assert_eq!(
            resolve(&asked, &who).unwrap(),
            [entry(permission::ALL, "digest", "a:x"), entry(permission::ALL, "sasl", "b")]
        );
        assert_eq!(resolve(&asked, &who[..1]), Err(CoordinationError::InvalidAcl));
        for bad in [entry(1, "world", "me"), entry(1, "digest", "a"), entry(1, "sasl", "")] {
            assert_eq!(resolve(&[bad], &who), Err(CoordinationError::InvalidAcl));
        }
    }

    #[test]
    fn passwords_are_hidden_from_who_may_only_read() {
        let acl = [entry(1, "digest", "a:hash"), entry(1, "world", "anyone")];
        assert_eq!(masked(&acl), [entry(1, "digest", "a:x"), entry(1, "world", "anyone")]);
    }
}
