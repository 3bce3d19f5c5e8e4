//! The grammar of paths: ZooKeeper's `PathUtils.validatePath`, with bounds on length and depth.

use ottla_common::coordination::protocol::CoordinationError;

use crate::limits::{PATH_DEPTH_MAX, PATH_LENGTH_MAX};

/// Refuses what is not the path of a node.
pub fn validate(path: &str) -> Result<(), CoordinationError> {
    match fault(path) {
        None => Ok(()),
        Some(fault) => {
            let shown: String = path.chars().take(100).collect();
            let reason = format!("invalid path {shown:?}: {fault}");
            Err(CoordinationError::BadArguments { reason })
        }
    }
}

/// What is wrong with a path.
fn fault(path: &str) -> Option<&'static str> {
    let Some(inner) = path.strip_prefix('/') else {
        return Some("it must start with a slash");
    };
    if path.len() > PATH_LENGTH_MAX {
        return Some("it is too long");
    }
    if inner.is_empty() {
        return None;
    }
    for (depth, name) in inner.split('/').enumerate() {
        if depth >= PATH_DEPTH_MAX {
            return Some("it is too deep");
        }
        if name.is_empty() {
            return Some("a name in it is empty");
        }
        if name == "." || name == ".." {
            return Some("it must not be relative");
        }
        if !name.chars().all(is_allowed) {
            return Some("there is a character in it that names cannot have");
        }
    }
    None
}

/// Whether a name may have this character. ZooKeeper forbids control characters, the private use
/// area, the last sixteen of the basic plane, and (by way of UTF-16's surrogates) all beyond that
/// plane.
fn is_allowed(character: char) -> bool {
    !matches!(
        character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..=char::MAX
    )
}

/// The names on the way from the root to a valid path; none for the root.
pub fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty())
}

/// The parent's path and the name in it; none for the root.
pub fn split(path: &str) -> Option<(&str, &str)> {
    let (parent, name) = path.rsplit_once('/')?;
    if name.is_empty() {
        return None;
    }
    Some((if parent.is_empty() { "/" } else { parent }, name))
}

/// The path of a child.
pub fn join(parent: &str, name: &str) -> String {
    let parent = if parent == "/" { "" } else { parent };
    [parent, "/", name].concat()
}

/// Whether a path is `prefix` or lies below it.
pub fn is_within(path: &str, prefix: &str) -> bool {
    prefix == "/"
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path and all above it, from itself up to the root.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| split(path).map(|(parent, _)| parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_is_zookeepers() {
        for path in ["/", "/a", "/a/b", "/a.b", "/...", "/a/..b", "/ä/日本", "/a b", "/\u{d7ff}"]
        {
            assert_eq!(validate(path), Ok(()), "{path}");
        }
        let bad = [
            "",
            "a",
            "a/b",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/\0",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{1f600}",
        ];
        for path in bad {
            assert!(validate(path).is_err(), "{path:?}");
        }
        assert!(validate(&"/a".repeat(PATH_DEPTH_MAX)).is_ok());
        assert!(validate(&"/a".repeat(PATH_DEPTH_MAX + 1)).is_err());
        assert!(validate(&format!("/{}", "a".repeat(PATH_LENGTH_MAX))).is_err());
    }

    #[test]
    fn paths_come_apart_and_together() {
        assert_eq!(split("/"), None);
        assert_eq!(split("/a"), Some(("/", "a")));
        assert_eq!(split("/a/b"), Some(("/a", "b")));
        assert_eq!(join("/", "a"), "/a");
        assert_eq!(join("/a", "b"), "/a/b");
        assert!(names("/").next().is_none());
        assert!(names("/a/b").eq(["a", "b"]));
        assert!(ancestors("/a/b").eq(["/a/b", "/a", "/"]));
        assert!(is_within("/a/b", "/a") && is_within("/a", "/a") && is_within("/a", "/"));
        assert!(!is_within("/ab", "/a") && !is_within("/", "/a"));
    }
}
