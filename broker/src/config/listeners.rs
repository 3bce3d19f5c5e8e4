//! Where a broker listens and what it tells others to connect to: `listeners`,
//! `advertised.listeners`, `listener.security.protocol.map` (KIP-103).

use std::collections::BTreeMap;

use ottla_common::cluster_tree::Endpoint;

const PROTOCOLS: [&str; 4] = ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Listener name → security protocol, from `NAME:PROTOCOL,…`. The protocols' own names stand for
/// themselves.
pub fn parse_protocols(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut protocols: BTreeMap<String, String> =
        PROTOCOLS.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, protocol) = entry
            .split_once(':')
            .ok_or_else(|| format!("{entry:?} is not of the form LISTENER:PROTOCOL"))?;
        let protocol = protocol.trim().to_ascii_uppercase();
        if !PROTOCOLS.contains(&protocol.as_str()) {
            let all = PROTOCOLS.join(", ");
            return Err(format!("{protocol:?} is not a security protocol ({all})"));
        }
        protocols.insert(name.trim().to_ascii_uppercase(), protocol);
    }
    Ok(protocols)
}

/// The endpoints of `NAME://host:port,…`. A host may be empty (all interfaces); IPv6 addresses
/// stand in brackets; port 0 means any free one. Each name may stand once.
pub fn parse_listeners(
    text: &str,
    protocols: &BTreeMap<String, String>,
) -> Result<Vec<Endpoint>, String> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let endpoint = parse_listener(entry, protocols)?;
        if endpoints.iter().any(|other| other.listener == endpoint.listener) {
            return Err(format!("the listener name {} stands twice", endpoint.listener));
        }
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() {
        return Err("there must be at least one listener".to_owned());
    }
    Ok(endpoints)
}

fn parse_listener(entry: &str, protocols: &BTreeMap<String, String>) -> Result<Endpoint, String> {
    let malformed = || format!("{entry:?} is not of the form NAME://host:port");
    let (name, address) = entry.split_once("://").ok_or_else(malformed)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
    let port = port.parse().map_err(|_| malformed())?;
    let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
        Some(Some(inner)) => inner,
        Some(None) => return Err(malformed()),
        None if host.contains(':') => {
            return Err(format!("an IPv6 address stands in brackets, not as in {entry:?}"));
        }
        None => host,
    };
    let listener = name.to_ascii_uppercase();
    let security_protocol = protocols.get(&listener).ok_or_else(|| {
        format!("listener.security.protocol.map does not say what the listener {listener} speaks")
    })?;
    let (host, security_protocol) = (host.to_owned(), security_protocol.clone());
    Ok(Endpoint { listener, host, port, security_protocol })
}

/// Whether a host stands for all interfaces: good to listen on, useless to connect to.
pub fn is_any_host(host: &str) -> bool {
    matches!(host, "" | "0.0.0.0" | "::")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(text: &str) -> Result<Vec<(String, String, u16)>, String> {
        let protocols = parse_protocols("outside:ssl").unwrap();
        let parsed = parse_listeners(text, &protocols)?;
        Ok(parsed.into_iter().map(|end| (end.listener, end.host, end.port)).collect())
    }

    #[test]
    fn addresses_of_all_kinds() {
        let end = |name: &str, host: &str, port| (name.to_owned(), host.to_owned(), port);
        assert_eq!(
            listeners("plaintext://:9092, OUTSIDE://[::1]:0").unwrap(),
            [end("PLAINTEXT", "", 9092), end("OUTSIDE", "::1", 0)]
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "at least one"),
            ("localhost:9092", "NAME://host:port"),
            ("PLAINTEXT://localhost", "NAME://host:port"),
            ("PLAINTEXT://localhost:70000", "NAME://host:port"),
            ("PLAINTEXT://::1:9092", "brackets"),
            ("INSIDE://localhost:9092", "listener.security.protocol.map"),
            ("PLAINTEXT://a:1,PLAINTEXT://b:2", "twice"),
        ] {
            let error = listeners(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        assert!(parse_protocols("X:TLS").unwrap_err().contains("SASL_SSL"));
        assert!(parse_protocols("X").unwrap_err().contains("LISTENER:PROTOCOL"));
    }
}
