//! Nodes that go with their session: those of sessions that are over are gone everywhere, those of
//! sessions that live are there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Outcome, What};

/// What cannot have been.
pub fn problems(history: &[Entry]) -> Vec<String> {
    let mut owners = BTreeMap::new();
    let mut certain = BTreeSet::new();
    let mut lives = BTreeMap::new();
    for entry in history {
        match &entry.what {
            What::CreateEphemeral { session } => {
                owners.insert(entry.key.as_str(), *session);
                if entry.outcome == Outcome::Ok {
                    certain.insert(entry.key.as_str());
                }
            }
            What::Session { session, lives: is_alive } => {
                lives.insert(*session, *is_alive);
            }
            _ => {}
        }
    }
    let mut problems = Vec::new();
    for entry in history {
        let What::Ephemerals { paths } = &entry.what else { continue };
        let member = &entry.key;
        let there: BTreeSet<&str> = paths.iter().map(String::as_str).collect();
        for path in &there {
            match owners.get(path).map(|session| lives.get(session)) {
                Some(Some(true)) => {}
                Some(Some(false)) => {
                    problems.push(format!("{member}: {path} is left behind by its session"));
                }
                Some(None) => problems.push(format!("{member}: {path} has a session unheard of")),
                None => problems.push(format!("{member}: nobody made {path}")),
            }
        }
        for (path, session) in &owners {
            let must_be = certain.contains(path) && lives.get(session) == Some(&true);
            if must_be && !there.contains(path) {
                problems.push(format!("{member}: {path} is gone, but its session lives"));
            }
        }
    }
    problems
}
