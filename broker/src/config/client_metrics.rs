//! The configs of subscriptions to clients' metrics (KIP-714, KIP-1000), Kafka's words for what
//! they refuse.

use regex::RegexBuilder;

use super::ConfigSource;
use super::Overrides;
use super::describe::{ConfigEntry, Synonym};
use super::dynamic::Refusal;
use super::keys::ConfigType;
use crate::limits::TELEMETRY_REGEX_SIZE_MAX;

/// The key of the prefixes of metrics' names.
pub const METRICS: &str = "metrics";

/// The key of the time between two pushes, in milliseconds.
pub const INTERVAL_MS: &str = "interval.ms";

/// The key of the patterns that clients have to match.
pub const MATCH: &str = "match";

/// The default of [`INTERVAL_MS`].
pub const PUSH_INTERVAL_MS: i32 = 5 * 60 * 1000;

const INTERVAL_MS_MIN: i32 = 100;
const INTERVAL_MS_MAX: i32 = 3_600_000;

/// What of a client a pattern may look at.
const ATTRIBUTES: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Every key with its type, its default and what it is for, by name.
const KEYS: [(&str, ConfigType, &str, &str); 3] = [
    (INTERVAL_MS, ConfigType::Int, "300000", "Time between two pushes of a client, in ms."),
    (MATCH, ConfigType::List, "", "Patterns, attribute=regex each, that clients have to match."),
    (METRICS, ConfigType::List, "", "Prefixes of the metrics that clients send; * for all."),
];

/// The items of a list.
pub fn items(text: &str) -> Vec<&str> {
    match text.trim() {
        "" => Vec::new(),
        text => text.split(',').map(str::trim).collect(),
    }
}

/// `attribute=regex` in its parts, if it names an attribute that clients have.
pub fn parse_match(item: &str) -> Option<(&str, &str)> {
    let (name, pattern) = item.split_once('=')?;
    let (name, pattern) = (name.trim(), pattern.trim());
    (ATTRIBUTES.contains(&name) && !pattern.contains('=')).then_some((name, pattern))
}

/// The time between two pushes that these settings ask for.
pub fn interval_ms(settings: &Overrides) -> i32 {
    let set = settings.get(INTERVAL_MS).and_then(|text| text.trim().parse().ok());
    set.filter(|ms| (INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(ms)).unwrap_or(PUSH_INTERVAL_MS)
}

/// Checks all settings of a subscription.
///
/// # Errors
/// For what Kafka refuses as well.
pub fn check(settings: &Overrides) -> Result<(), Refusal> {
    let config = |text: String| Err(Refusal::InvalidConfig(text));
    let request = |text: String| Err(Refusal::InvalidRequest(text));
    for name in settings.keys() {
        if KEYS.iter().all(|(key, ..)| key != name) {
            return request(format!("Unknown client metrics configuration: {name}"));
        }
    }
    if let Some(text) = settings.get(INTERVAL_MS) {
        let Ok(ms) = text.trim().parse::<i32>() else {
            return config(format!(
                "Invalid value {text} for configuration {INTERVAL_MS}: Not a number of type INT"
            ));
        };
        if !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&ms) {
            return request(format!(
                "Invalid value {ms} for {INTERVAL_MS}, interval must be between \
                 {INTERVAL_MS_MIN} and {INTERVAL_MS_MAX} (1 hour)"
            ));
        }
    }
    for key in [METRICS, MATCH] {
        let text = settings.get(key).map(String::as_str).unwrap_or_default();
        if items(text).contains(&"") {
            return config(format!("Configuration '{key}' values must not be empty."));
        }
    }
    for item in items(settings.get(MATCH).map(String::as_str).unwrap_or_default()) {
        let is_regex = |pattern: &str| {
            let built = RegexBuilder::new(pattern).size_limit(TELEMETRY_REGEX_SIZE_MAX).build();
            built.is_ok()
        };
        if !parse_match(item).is_some_and(|(_, pattern)| is_regex(pattern)) {
            return config(format!("Illegal client matching pattern: {item}"));
        }
    }
    Ok(())
}

/// All configs of a subscription, by name.
pub fn describe(settings: &Overrides) -> Vec<ConfigEntry> {
    let entries = KEYS.iter().map(|(name, kind, default, doc)| {
        let set = settings.get(*name).map(|text| items(text).join(","));
        let synonym = set.clone().map(|value| Synonym {
            name: (*name).to_owned(),
            value: Some(value),
            source: ConfigSource::ClientMetrics,
        });
        ConfigEntry {
            name: (*name).to_owned(),
            source: synonym.as_ref().map_or(ConfigSource::Default, |set| set.source),
            value: set.or_else(|| Some((*default).to_owned())),
            read_only: false,
            sensitive: false,
            synonyms: synonym.into_iter().collect(),
            kind: Some(*kind),
            doc: Some(doc),
        }
    });
    entries.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(&str, &str)]) -> Overrides {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// The words and the kind of error of a real Kafka 4.4, asked.
    #[test]
    fn subscriptions_refuse_as_kafka_does() {
        let config = |message: &str| Err(Refusal::InvalidConfig(message.to_owned()));
        let request = |message: &str| Err(Refusal::InvalidRequest(message.to_owned()));
        for (key, value, expected) in [
            ("interval.ms", "5000", Ok(())),
            ("metrics", "*", Ok(())),
            ("metrics", "", Ok(())),
            ("match", "", Ok(())),
            ("match", "client_id=a,client_id=b", Ok(())),
            ("match", "client_software_name = .*java , client_source_port=[0-9]+", Ok(())),
            ("foo", "5", request("Unknown client metrics configuration: foo")),
            (
                "interval.ms",
                "5",
                request(
                    "Invalid value 5 for interval.ms, interval must be between 100 and 3600000 (1 \
                     hour)",
                ),
            ),
            (
                "interval.ms",
                "x",
                config("Invalid value x for configuration interval.ms: Not a number of type INT"),
            ),
            ("metrics", "a,,b", config("Configuration 'metrics' values must not be empty.")),
            ("match", "nope=1", config("Illegal client matching pattern: nope=1")),
            ("match", "client_id", config("Illegal client matching pattern: client_id")),
            ("match", "client_id=[", config("Illegal client matching pattern: client_id=[")),
        ] {
            assert_eq!(check(&settings(&[(key, value)])), expected, "{key}={value}");
        }
    }

    #[test]
    fn what_is_not_set_is_told_with_its_default() {
        let described = describe(&settings(&[("metrics", "a, b")]));
        let shown = described.iter().map(|entry| (entry.value.as_deref(), entry.source.code()));
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [(Some("300000"), 5), (Some(""), 5), (Some("a,b"), 7)]
        );
        assert_eq!(interval_ms(&settings(&[])), PUSH_INTERVAL_MS);
        assert_eq!(interval_ms(&settings(&[("interval.ms", "7000")])), 7000);
    }
}
