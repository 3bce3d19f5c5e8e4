//! Whether a running broker can go over from one set of dynamic configs to another: the checks that
//! need the values in force before and after, Kafka's words for what they refuse.

use super::super::keys::{self, Value};
use super::super::{BrokerConfig, BrokerLayers, Overrides};
use super::Refusal;

/// Numbers of threads, which change in steps: at most to the double, at least to half.
const THREADS: [&str; 5] = [
    "background.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
];

/// Memory that each thread of the cleaner has to have, in bytes.
const CLEANER_MEMORY_MIN: i64 = 1024 * 1024;

/// Checks that a broker with these settings of its own and of all brokers can take over those. What
/// does not change is not looked at.
///
/// # Errors
/// INVALID_REQUEST, as in Kafka, for what it cannot take over.
pub fn check_reconfiguration(
    config: &BrokerConfig,
    (own, all): (&Overrides, &Overrides),
    (next_own, next_all): (&Overrides, &Overrides),
) -> Result<(), Refusal> {
    let check = Check { before: config.layers(own, all), after: config.layers(next_own, next_all) };
    THREADS.iter().try_for_each(|name| check.threads(name))?;
    check.cleaner()?;
    check.least("log.roll.ms", 1)?;
    check.least("log.roll.jitter.ms", 0)?;
    check.least("max.connections", 1)?;
    check.least("max.connection.creation.rate", 1)?;
    check.relations()
}

struct Check<'a> {
    before: BrokerLayers<'a>,
    after: BrokerLayers<'a>,
}

fn number(layers: &BrokerLayers<'_>, name: &str) -> Option<i64> {
    match layers.value(keys::broker_key(name)?)? {
        Value::Integer(number) => Some(number),
        _ => None,
    }
}

fn refuse<T>(message: String) -> Result<T, Refusal> {
    Err(Refusal::InvalidRequest(message))
}

impl Check<'_> {
    /// The value before and after, if it is a number that changes.
    fn change(&self, name: &str) -> Option<(i64, i64)> {
        let (before, after) = (number(&self.before, name), number(&self.after, name)?);
        (before != Some(after)).then_some((before.unwrap_or(after), after))
    }

    fn threads(&self, name: &str) -> Result<(), Refusal> {
        let Some((before, after)) = self.change(name) else { return Ok(()) };
        let start = format!("Dynamic thread count update validation failed for {name}={after}");
        if after > before.saturating_mul(2) {
            return refuse(format!(
                "{start}, value should not be greater than double the current value {before}"
            ));
        }
        if after < before / 2 {
            return refuse(format!(
                "{start}, value should be at least half the current value {before}"
            ));
        }
        Ok(())
    }

    fn cleaner(&self) -> Result<(), Refusal> {
        let threads = "log.cleaner.threads";
        if let Some((before, after)) = self.change(threads) {
            let message = match after {
                ..1 => "Log cleaner threads should be at least 1".to_owned(),
                _ if after < before / 2 => format!(
                    "Log cleaner threads cannot be reduced to less than half the current value \
                     {before}"
                ),
                _ if after > before.saturating_mul(2) => format!(
                    "Log cleaner threads cannot be increased to more than double the current \
                     value {before}"
                ),
                _ => String::new(),
            };
            if !message.is_empty() {
                return refuse(message);
            }
        }
        let memory = "log.cleaner.dedupe.buffer.size";
        let is_changed = self.change(memory).is_some() || self.change(threads).is_some();
        let each = number(&self.after, memory).zip(number(&self.after, threads));
        if let Some((bytes, threads)) = each
            && is_changed
            && bytes / threads.max(1) < CLEANER_MEMORY_MIN
        {
            return refuse(format!("{memory} must be at least 1MB per cleaner thread."));
        }
        Ok(())
    }

    fn least(&self, name: &str, least: i64) -> Result<(), Refusal> {
        match self.change(name) {
            Some((_, after)) if after < least => {
                refuse(format!("{name} must be greater than or equal to {least}"))
            }
            _ => Ok(()),
        }
    }

    fn relations(&self) -> Result<(), Refusal> {
        if let Some((_, 0)) = self.change("log.retention.ms") {
            let allowed = "must be unlimited (-1) or, greater than or equal to 1";
            return refuse(format!("log.retention.ms {allowed}"));
        }
        let overrides = keys::broker_key("max.connections.per.ip.overrides");
        let overrides = overrides.and_then(|key| self.after.value(key));
        let has_overrides = overrides.is_some_and(|value| !value.to_text().is_empty());
        let per_ip = "max.connections.per.ip";
        if number(&self.after, per_ip) == Some(0)
            && number(&self.before, per_ip) != Some(0)
            && !has_overrides
        {
            return refuse(format!(
                "{per_ip} can be set to zero only if {per_ip}.overrides property is set."
            ));
        }
        let interval = "group.consumer.assignment.interval.ms";
        let most = "group.consumer.max.assignment.interval.ms";
        if let (Some((_, after)), Some(bound)) = (self.change(interval), number(&self.after, most))
            && after > bound
        {
            return refuse(format!("{interval} must be less than or equal to {most}"));
        }
        Ok(())
    }
}
