//! The value of a `server.N`: `host:port:port[:role][;[host:]port]`.

use std::fmt;

/// A member as a line describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLine {
    /// Where its peers reach it, `host:port`.
    pub peer_address: String,
    /// ZooKeeper's port for elections, `host:port`.
    pub election_address: String,
    /// Whether it only follows.
    pub is_observer: bool,
    /// Where its clients reach it, if the line says so: the host, if it does, and the port.
    pub client: Option<(Option<String>, u16)>,
}

impl ServerLine {
    /// Reads the value. An error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "expected host:port:port[:participant|observer][;[host:]port]";
        let (quorum, client) = match text.split_once(';') {
            Some((quorum, client)) => (quorum, Some(client.trim())),
            None => (text, None),
        };
        // More addresses of the same member may follow.
        let (quorum, _) = quorum.split_once('|').unwrap_or((quorum, ""));
        let (host, rest) = split_host(quorum.trim()).ok_or(FORM)?;
        let mut parts = rest.split(':');
        let mut port = || parts.next().and_then(port_of).ok_or(FORM);
        let (peer_port, election_port) = (port()?, port()?);
        let is_observer = match parts.next().map(str::to_ascii_lowercase).as_deref() {
            None | Some("participant") => false,
            Some("observer") => true,
            Some(role) => return Err(format!("{FORM}; {role:?} is no role")),
        };
        if parts.next().is_some() {
            return Err(FORM.to_owned());
        }
        let client = match client {
            None | Some("") => None,
            Some(client) => Some(match split_host(client) {
                Some((host, port)) => (Some(host.to_owned()), port_of(port).ok_or(FORM)?),
                None => (None, port_of(client).ok_or(FORM)?),
            }),
        };
        Ok(Self {
            peer_address: format!("{host}:{peer_port}"),
            election_address: format!("{host}:{election_port}"),
            is_observer,
            client,
        })
    }
}

/// As the option `members` has it.
impl fmt::Display for ServerLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let election_port = self.election_address.rsplit(':').next().unwrap_or_default();
        let role = if self.is_observer { "observer" } else { "participant" };
        write!(f, "{}:{election_port}:{role}", self.peer_address)?;
        if let Some((host, port)) = &self.client {
            write!(f, ";{}:{port}", host.as_deref().unwrap_or("0.0.0.0"))?;
        }
        Ok(())
    }
}

/// The host, with its brackets if it has any, and what stands behind the colon after it.
fn split_host(text: &str) -> Option<(&str, &str)> {
    let end = match text.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => text.find(':')?,
    };
    let (host, rest) = text.split_at_checked(end)?;
    let rest = rest.strip_prefix(':')?;
    (!host.is_empty()).then_some((host, rest))
}

fn port_of(text: &str) -> Option<u16> {
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_every_form_are_read() {
        let read = |text| ServerLine::parse(text).unwrap();
        let short = read("zoo1:2888:3888");
        assert_eq!((short.peer_address.as_str(), short.is_observer), ("zoo1:2888", false));
        assert_eq!((short.election_address.as_str(), &short.client), ("zoo1:3888", &None));
        let long = read("[::1]:2888:3888:observer;0.0.0.0:2181");
        assert_eq!(long.peer_address, "[::1]:2888");
        assert_eq!((long.is_observer, &long.client), (true, &Some((Some("0.0.0.0".into()), 2181))));
        assert_eq!(long.to_string(), "[::1]:2888:3888:observer;0.0.0.0:2181");
        assert_eq!(short.to_string(), "zoo1:2888:3888:participant");
        assert_eq!(read("a:1:2:participant;2181").client, Some((None, 2181)));
        assert_eq!(read("a:1:2|b:3:4;[::]:5").client, Some((Some("[::]".into()), 5)));
    }

    #[test]
    fn what_is_no_line_is_told() {
        for text in ["", "a", "a:1", "a:1:x", ":1:2", "a:1:2:king", "a:1:2:observer:3", "a:1:2;x"] {
            assert!(ServerLine::parse(text).unwrap_err().contains("expected host"), "{text}");
        }
    }
}
