//! Config values: from text, checked, and back to text as Kafka writes it.

use super::{ConfigKey, ConfigType, Valid};

/// A config value, of the type that its key asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A BOOLEAN.
    Boolean(bool),
    /// A SHORT, INT or LONG.
    Integer(i64),
    /// A DOUBLE.
    Double(f64),
    /// A STRING, CLASS or PASSWORD.
    Text(String),
    /// A LIST.
    List(Vec<String>),
}

impl Value {
    /// The value as Kafka's `ConfigDef.convertToString` writes it.
    pub fn to_text(&self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Double(value) => java_double(*value),
            Self::Text(value) => value.clone(),
            Self::List(values) => values.join(","),
        }
    }
}

/// As Java's `Double.toString` writes it: with a fraction always, and in scientific notation below
/// 10^-3 and from 10^7 on.
fn java_double(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{value:?}");
    }
    let text = format!("{value:E}");
    match text.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => text,
    }
}

impl ConfigKey {
    /// The value that a text stands for, checked. The error is a whole sentence, in the words of
    /// Kafka's `ConfigException`, which programs are known to show to people.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let invalid = |shown: &str, reason: String| {
            let shown = if self.is_sensitive() { "[hidden]" } else { shown };
            format!("Invalid value {shown} for configuration {}: {reason}", self.name)
        };
        let value = self.read(text).map_err(|reason| invalid(text, reason))?;
        match self.check(&value) {
            Ok(()) => Ok(value),
            Err(reason) if self.valid == Valid::ThrottledReplicas => {
                Err(invalid(&format!("[{}]", value.to_text().replace(',', ", ")), reason))
            }
            Err(reason) => Err(invalid(&value.to_text(), reason)),
        }
    }

    fn read(&self, text: &str) -> Result<Value, String> {
        let not_a_number = || format!("Not a number of type {}", self.kind.name());
        let integer = |low: i64, high: i64| {
            let number = text.parse().ok().filter(|number| (low..=high).contains(number));
            number.map(Value::Integer).ok_or_else(not_a_number)
        };
        match self.kind {
            ConfigType::Boolean if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
            ConfigType::Boolean if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
            ConfigType::Boolean => Err("Expected value to be either true or false".to_owned()),
            ConfigType::Short => integer(i16::MIN.into(), i16::MAX.into()),
            ConfigType::Int => integer(i32::MIN.into(), i32::MAX.into()),
            ConfigType::Long => integer(i64::MIN, i64::MAX),
            ConfigType::Double => text.parse().map(Value::Double).map_err(|_| not_a_number()),
            ConfigType::List if text.is_empty() => Ok(Value::List(Vec::new())),
            ConfigType::List => {
                Ok(Value::List(text.split(',').map(|part| part.trim().to_owned()).collect()))
            }
            ConfigType::String | ConfigType::Class | ConfigType::Password => {
                Ok(Value::Text(text.to_owned()))
            }
        }
    }

    fn check(&self, value: &Value) -> Result<(), String> {
        match (self.valid, value) {
            (Valid::AtLeast(low), Value::Integer(number)) => within(*number, low, i64::MAX),
            (Valid::Between(low, high), Value::Integer(number)) => within(*number, low, high),
            (Valid::Fraction(_), Value::Double(number)) if *number < 0.0 => {
                Err("Value must be at least 0".to_owned())
            }
            (Valid::Fraction(high), Value::Double(number)) if *number > high => {
                Err(format!("Value must be no more than {high}"))
            }
            (Valid::GzipLevel, Value::Integer(level))
                if *level != -1 && within(*level, 1, 9).is_err() =>
            {
                Err("Value must be between 1 and 9 or equal to -1".to_owned())
            }
            (Valid::OneOf(words), Value::Text(text)) => one_of(text, words),
            (Valid::OneOfIgnoreCase(words), Value::Text(text)) => {
                if words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
                    return Ok(());
                }
                Err(format!("String must be one of (case insensitive): {}", words.join(", ")))
            }
            (Valid::ListOf(words), Value::List(list)) => {
                list.iter().try_for_each(|item| one_of(item, words))
            }
            (Valid::NonEmpty, Value::Text(text)) if text.is_empty() => {
                Err("String must be non-empty".to_owned())
            }
            (Valid::NonEmpty, Value::List(list)) if list.is_empty() => {
                Err("List must not be empty".to_owned())
            }
            (Valid::ThrottledReplicas, Value::List(list)) => self.check_replicas(list),
            _ => Ok(()),
        }
    }

    fn check_replicas(&self, list: &[String]) -> Result<(), String> {
        let is_pair = |item: &String| {
            item.split_once(':').is_some_and(|(partition, broker)| {
                partition.parse::<u32>().is_ok() && broker.parse::<u32>().is_ok()
            })
        };
        if list.iter().all(is_pair) || matches!(list, [star] if star == "*" || star.is_empty()) {
            return Ok(());
        }
        Err(format!(
            "{} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            self.name
        ))
    }
}

fn within(number: i64, low: i64, high: i64) -> Result<(), String> {
    if number < low {
        return Err(format!("Value must be at least {low}"));
    }
    if number > high {
        return Err(format!("Value must be no more than {high}"));
    }
    Ok(())
}

fn one_of(text: &str, words: &[&str]) -> Result<(), String> {
    if words.contains(&text) {
        return Ok(());
    }
    Err(format!("String must be one of: {}", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::{broker_key, topic_key};
    use super::*;

    fn topic(name: &str, text: &str) -> Result<String, String> {
        topic_key(name).unwrap().parse(text).map(|value| value.to_text())
    }

    /// The words of a real Kafka 4.4, asked.
    #[test]
    fn errors_are_in_kafkas_words() {
        for (name, text, message) in [
            ("retention.ms", "abc", "Not a number of type LONG"),
            ("retention.ms", "-5", "Value must be at least -1"),
            ("retention.ms", "", "Not a number of type LONG"),
            ("segment.bytes", "1", "Value must be at least 1048576"),
            ("segment.bytes", "99999999999", "Not a number of type INT"),
            ("segment.bytes", "1.5", "Not a number of type INT"),
            ("cleanup.policy", "foo", "String must be one of: compact, delete"),
            ("preallocate", "yes", "Expected value to be either true or false"),
            ("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE"),
            ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
            (
                "message.timestamp.type",
                "createtime",
                "String must be one of: CreateTime, LogAppendTime",
            ),
        ] {
            let expected = format!("Invalid value {text} for configuration {name}: {message}");
            assert_eq!(topic(name, text).unwrap_err(), expected);
        }
        let ratio = topic("min.cleanable.dirty.ratio", "2").unwrap_err();
        assert!(ratio.starts_with("Invalid value 2.0 for") && ratio.ends_with("no more than 1"));
        let throttled = topic("leader.replication.throttled.replicas", "foo").unwrap_err();
        assert!(throttled.starts_with("Invalid value [foo] for configuration leader"));
    }

    #[test]
    fn good_values_are_written_as_kafka_writes_them() {
        for (name, text, expected) in [
            ("retention.ms", " 5000 ", "5000"),
            ("preallocate", "TRUE", "true"),
            ("cleanup.policy", "compact, delete", "compact,delete"),
            ("cleanup.policy", "", ""),
            ("min.cleanable.dirty.ratio", "1", "1.0"),
            ("min.cleanable.dirty.ratio", "0.0001", "1.0E-4"),
            ("compression.gzip.level", "-1", "-1"),
            ("leader.replication.throttled.replicas", "0:1,1:2", "0:1,1:2"),
            ("leader.replication.throttled.replicas", "*", "*"),
        ] {
            assert_eq!(topic(name, text).as_deref(), Ok(expected), "{name}={text}");
        }
        let rate = broker_key("log.cleaner.io.max.bytes.per.second").unwrap();
        let rate = rate.parse(rate.default.unwrap()).unwrap();
        assert_eq!(rate.to_text(), "1.7976931348623157E308");
    }

    #[test]
    fn a_secret_is_not_repeated() {
        let key = ConfigKey { valid: Valid::NonEmpty, ..*broker_key("ssl.key.password").unwrap() };
        assert!(!key.parse("").unwrap_err().contains("Invalid value  "));
    }
}
