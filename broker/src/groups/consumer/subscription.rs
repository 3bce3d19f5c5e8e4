//! What members subscribe to: names and patterns, and what these come to in the cluster.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::TopicId;
use regex::{Regex, RegexBuilder};

use crate::limits::{SUBSCRIPTION_REGEX_LENGTH_MAX, SUBSCRIPTION_REGEX_SIZE_MAX};
use crate::metadata::image::MetadataImage;

/// What a pattern stood for when it was last looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// The names of the topics.
    pub topics: BTreeSet<KafkaString>,
    /// The state of the cluster that it was held against.
    pub version: i64,
    /// When, in milliseconds since 1970.
    pub timestamp_ms: i64,
}

/// Compiles a pattern that has to fit a topic's whole name. The syntax is that of RE2, as far as
/// Rust's `regex` has it; the compiled pattern is bounded, and matching takes linear time.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > SUBSCRIPTION_REGEX_LENGTH_MAX {
        return Err(format!("longer than {SUBSCRIPTION_REGEX_LENGTH_MAX} bytes"));
    }
    // The pattern by itself first, lest its parentheses close those around it.
    let pattern = quotes_escaped(pattern);
    regex_of(&pattern)?;
    regex_of(&format!("^(?:{pattern})$"))
}

fn regex_of(pattern: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(pattern);
    let size = SUBSCRIPTION_REGEX_SIZE_MAX;
    builder.size_limit(size).dfa_size_limit(size).build().map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        last.trim_start_matches("error: ").trim_end_matches('.').to_owned()
    })
}

/// `\Q…\E`, which takes what is between as it is, in words that `regex` knows.
fn quotes_escaped(pattern: &str) -> String {
    let mut result = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('Q')) => {
                chars.next();
                let rest: String = chars.clone().collect();
                let (quoted, _) = rest.split_once("\\E").unwrap_or((&rest, ""));
                result.push_str(&regex::escape(quoted));
                let end = quoted.chars().count() + if rest.contains("\\E") { 2 } else { 0 };
                chars.by_ref().take(end).for_each(drop);
            }
            ('\\', Some(next)) => {
                let _ = write!(result, "\\{next}");
                chars.next();
            }
            _ => result.push(c),
        }
    }
    result
}

/// What a pattern stands for now. A pattern that does not compile, which only an older log can
/// hold, stands for nothing. Internal topics are not consumed by patterns.
pub fn resolve(pattern: &str, image: &MetadataImage, timestamp_ms: i64) -> ResolvedRegex {
    let topics = match compile(pattern) {
        Ok(regex) => {
            let topics = image.topics.values().filter(|topic| !topic.is_internal());
            let names = topics.filter(|topic| regex.is_match(&topic.name));
            names.map(|topic| KafkaString::from(&*topic.name)).collect()
        }
        Err(_) => BTreeSet::new(),
    };
    ResolvedRegex { topics, version: image.zxid.0, timestamp_ms }
}

/// The topics of these names that exist, with the number of partitions.
pub fn existing<'a>(
    names: impl IntoIterator<Item = &'a KafkaString>,
    image: &MetadataImage,
) -> Vec<(TopicId, i32)> {
    let topics = names.into_iter().filter_map(|name| image.topic(name));
    let count = |len: usize| i32::try_from(len).unwrap_or(i32::MAX);
    topics.map(|topic| (topic.id, count(topic.partitions.len()))).collect()
}

/// A number that changes when one of these topics is made anew, comes, goes or grows. 0 for none.
///
/// Kafka keeps a hash of its own in the same place; one that differs makes one more assignment.
pub fn metadata_hash<'a>(
    names: impl IntoIterator<Item = &'a KafkaString>,
    image: &MetadataImage,
) -> i64 {
    let topics = existing(names, image);
    if topics.is_empty() {
        return 0;
    }
    // FNV-1a.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (id, partitions) in topics {
        add(&id.0);
        add(&partitions.to_be_bytes());
    }
    i64::from_be_bytes(hash.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, fits) in [
            ("fo.*", "foo", true),
            ("oo", "foo", false),
            ("a|b", "ab", false),
            ("^foo$", "foo", true),
            ("(?i)FOO", "foo", true),
            ("[[:alpha:]]+", "foo", true),
            (r"\Qa.b\E.", "a.bc", true),
            (r"\Qa.b\E.", "axbc", false),
            (r"\Qa+", "a+", true),
            (r"\d", "5", true),
            ("(?<n>foo)", "foo", true),
            ("", "", true),
        ] {
            assert_eq!(compile(pattern).unwrap().is_match(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn bad_and_greedy_patterns_are_refused() {
        for pattern in ["[", "(", ")(", "(?=a)b", "*", r"\h", "(a{999}){999}", "a)|(b"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        assert!(compile(&"x".repeat(SUBSCRIPTION_REGEX_LENGTH_MAX + 1)).is_err());
    }
}
