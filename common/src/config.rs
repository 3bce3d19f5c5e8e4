//! Settings as text, in layers: a `.properties` file < environment variables < flags.
//!
//! The format of files is Java's, and keys are Kafka's where Kafka has them. Each value remembers
//! where it was set, so that an error can name the place, and so that DescribeConfigs can name the
//! source. What the keys are, and their defaults, stands with the server that they are for: it
//! calls [`Settings::check_keys`] with its list, because a key that nobody knows is a mistake that
//! must not pass in silence.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

/// Which layer a value comes from; a later one overrides an earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A `.properties` file.
    File,
    /// An environment variable.
    Environment,
    /// A flag of the command, or a caller in the same process.
    Flag,
}

/// A value and where it was set.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value as text, without white space around it.
    pub value: String,
    /// The layer.
    pub source: Source,
    /// The place in words, for errors: `broker.properties line 3`, `$OTTLA_BROKER_BROKER_ID`.
    pub place: String,
}

/// Without the value, which may be a secret.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setting").field("place", &self.place).finish_non_exhaustive()
    }
}

/// A value that must not be seen: a password, a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a value.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Why settings cannot be used. Each says which key and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read {path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A line, a flag or a variable is not of the form that it must have.
    #[error("{place}: {reason}")]
    Malformed {
        /// Where.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// Nobody knows this key.
    #[error("{place}: unknown key {key:?}{hint}")]
    UnknownKey {
        /// Where.
        place: String,
        /// The key.
        key: String,
        /// Empty, or `; did you mean …?`.
        hint: String,
    },
    /// The value cannot be what the key stands for.
    #[error("{place}: {key}: {reason}, not {value:?}")]
    InvalidValue {
        /// Where.
        place: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is expected.
        reason: String,
    },
    /// A key without a default was not set.
    #[error("{key} must be set")]
    Missing {
        /// The key.
        key: String,
    },
}

/// The values that were set, each from the highest layer that sets it.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    settings: BTreeMap<String, Setting>,
}

impl Settings {
    /// Nothing set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a `.properties` file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| ConfigError::Unreadable { path: name.clone(), error })?;
        self.add_properties(&name, &text)
    }

    /// Reads the text of a `.properties` file that errors shall call `name`.
    pub fn add_properties(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
        for (line, entry) in parse_properties(text) {
            let place = format!("{name} line {line}");
            let (key, value) =
                entry.map_err(|reason| ConfigError::Malformed { place: place.clone(), reason })?;
            self.set(key, value, Source::File, place);
        }
        Ok(())
    }

    /// Takes the variables whose names begin with `prefix`. What follows is the key in capitals
    /// with `_` for a dot, `__` for an underscore and `___` for a dash, as Kafka's images have it.
    pub fn add_environment(
        &mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        for (name, value) in variables {
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(prefix)) else {
                continue;
            };
            let place = format!("${}", name.display());
            let Some(value) = value.to_str() else {
                let reason = "the value is not UTF-8".to_owned();
                return Err(ConfigError::Malformed { place, reason });
            };
            let key = rest.replace("___", "-").replace("__", "\u{0}").replace('_', ".");
            let key = key.replace('\u{0}', "_").to_ascii_lowercase();
            self.set(key, value.trim().to_owned(), Source::Environment, place);
        }
        Ok(())
    }

    /// Takes `key=value` from a flag that errors shall call `flag`, such as `--config`.
    pub fn add_flag(&mut self, flag: &str, text: &str) -> Result<(), ConfigError> {
        let Some((key, value)) = text.split_once('=') else {
            let reason = format!("expected key=value, not {text:?}");
            return Err(ConfigError::Malformed { place: flag.to_owned(), reason });
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        let place = format!("{flag} {key}");
        self.set(key, value, Source::Flag, place);
        Ok(())
    }

    /// Sets a value, unless a higher layer has set it already.
    pub fn set(&mut self, key: String, value: String, source: Source, place: String) {
        if self.settings.get(&key).is_none_or(|earlier| earlier.source <= source) {
            self.settings.insert(key, Setting { value, source, place });
        }
    }

    /// Fails at the first key, in the order of the alphabet, that `is_known` denies. `all` are the
    /// known keys as far as they can be listed: the error suggests the nearest.
    pub fn check_keys<'a>(
        &self,
        is_known: impl Fn(&str) -> bool,
        all: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), ConfigError> {
        let Some((key, setting)) = self.settings.iter().find(|(key, _)| !is_known(key)) else {
            return Ok(());
        };
        let near = all.into_iter().map(|known| (edit_distance(key, known), known)).min();
        let near = near.filter(|(distance, _)| *distance <= 3.min(key.len() / 3));
        Err(ConfigError::UnknownKey {
            place: setting.place.clone(),
            key: key.clone(),
            hint: near.map(|(_, known)| format!("; did you mean {known:?}?")).unwrap_or_default(),
        })
    }

    /// What was set for a key.
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.settings.get(key)
    }

    /// Everything that was set, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.settings.iter().map(|(key, setting)| (key.as_str(), setting))
    }

    /// A text.
    pub fn text(&self, key: &str, default: &str) -> String {
        self.get(key).map_or(default, |setting| &setting.value).to_owned()
    }

    /// A text without a default.
    pub fn required(&self, key: &str) -> Result<String, ConfigError> {
        let setting = self.get(key).ok_or_else(|| ConfigError::Missing { key: key.to_owned() })?;
        Ok(setting.value.clone())
    }

    /// A list, separated by commas; empty parts are left out.
    pub fn list(&self, key: &str, default: &str) -> Vec<String> {
        let text = self.get(key).map_or(default, |setting| &setting.value);
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        self.read(key, default, |text| match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        })
    }

    /// A number within bounds.
    pub fn number<T>(
        &self,
        key: &str,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + Display,
    {
        self.read(key, default, |text| {
            let number = text.parse().map_err(|_| "expected a number".to_owned())?;
            within(number, &bounds)
        })
    }

    /// A size in bytes within bounds, as [`parse_size_bytes`] reads it.
    pub fn size_bytes(
        &self,
        key: &str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        self.read(key, default, |text| within(parse_size_bytes(text)?, &bounds))
    }

    /// A duration in milliseconds within bounds, as [`parse_duration_ms`] reads it.
    pub fn duration_ms(
        &self,
        key: &str,
        default: u64,
        bounds: RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        self.read(key, default, |text| within(parse_duration_ms(text)?, &bounds))
    }

    /// What `parse` makes of the value, or `default` if none is set. `parse` fails with what it
    /// expected.
    pub fn read<T>(
        &self,
        key: &str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let Some(setting) = self.get(key) else { return Ok(default) };
        parse(&setting.value).map_err(|reason| ConfigError::InvalidValue {
            place: setting.place.clone(),
            key: key.to_owned(),
            value: setting.value.clone(),
            reason,
        })
    }
}

fn within<T: PartialOrd + Display>(value: T, bounds: &RangeInclusive<T>) -> Result<T, String> {
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(format!("expected {} to {}", bounds.start(), bounds.end()))
}

/// A number of bytes: `1048576`, `1MiB`, `1M` or `1mb` (all powers of 1024, as Java people expect
/// of a heap size).
pub fn parse_size_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err("expected a size such as 1048576 or 1MiB".to_owned()),
    };
    scale(number, 1 << shift).ok_or_else(|| "expected a size such as 1048576 or 1MiB".to_owned())
}

/// A number of milliseconds: `1500`, `1500ms`, `30s`, `5min`, `12h` or `7d`.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" | "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("expected a duration such as 1500, 30s, 5min or 7d".to_owned()),
    };
    scale(number, factor).ok_or_else(|| "expected a duration such as 1500 or 30s".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    (number, unit.trim())
}

fn scale(number: &str, factor: u64) -> Option<u64> {
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// A key and its value, or what is wrong with the line.
type Entry = Result<(String, String), String>;

/// The entries of a `.properties` text as Java's `Properties.load` reads them, each with the number
/// of the line that it begins on.
fn parse_properties(text: &str) -> Vec<(usize, Entry)> {
    let mut entries = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        entries.push((number, parse_entry(&logical)));
    }
    entries
}

/// Whether a line ends in an odd number of backslashes.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// A key up to the first `=`, `:` or white space that is not escaped, and the value behind it.
fn parse_entry(line: &str) -> Entry {
    let mut escaped = false;
    let end = line.find(|c: char| {
        let ends = !escaped && (c == '=' || c == ':' || c.is_whitespace());
        escaped = !escaped && c == '\\';
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    let key = unescape(key)?;
    if key.is_empty() {
        return Err("expected key=value".to_owned());
    }
    Ok((key, unescape(value.trim())?))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let c = code.and_then(char::from_u32);
                plain.push(c.ok_or_else(|| format!("no character \\u{digits}"))?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

/// How many characters must be put in, taken out or replaced to make one text the other
/// (Levenshtein).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, left_char) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        let mut next = Vec::with_capacity(row.len());
        next.push(before);
        for (above, right_char) in row.iter().skip(1).zip(&right) {
            let replaced = diagonal + usize::from(left_char != *right_char);
            before = replaced.min(above + 1).min(before + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let mut settings = Settings::new();
        settings.add_properties("test.properties", text).unwrap();
        settings
    }

    #[test]
    fn properties_are_read_as_java_reads_them() {
        let read = settings(concat!(
            "# a comment\n! another\n\n",
            "plain=value\n",
            "  spaced  =  some value  \n",
            "colon: 1\nblank 2\nalone\n",
            "listeners=PLAINTEXT://:9092,\\\n    SSL://:9093\n",
            "path=c\\:\\\\data\\\\\n",
            "tab=a\\tb\\u00e9\n",
            "esc\\=aped\\ key=x=y\n",
            "plain=later\r\n",
        ));
        let expect = [
            ("plain", "later"),
            ("spaced", "some value"),
            ("colon", "1"),
            ("blank", "2"),
            ("alone", ""),
            ("listeners", "PLAINTEXT://:9092,SSL://:9093"),
            ("path", "c:\\data\\"),
            ("tab", "a\tbé"),
            ("esc=aped key", "x=y"),
        ];
        for (key, value) in expect {
            assert_eq!(read.get(key).map(|s| s.value.as_str()), Some(value), "{key}");
        }
        assert_eq!(read.iter().count(), expect.len());
        assert_eq!(read.get("listeners").unwrap().place, "test.properties line 9");
        let error = Settings::new().add_properties("f", "a=1\n=b\n").unwrap_err();
        assert_eq!(error.to_string(), "f line 2: expected key=value");
    }

    #[test]
    fn flags_override_the_environment_and_that_the_file() {
        let mut all = Settings::new();
        all.add_flag("--config", "a=flag").unwrap();
        let variables = [
            ("OTTLA_BROKER_A", "environment"),
            ("OTTLA_BROKER_LOG_DIRS", "/d"),
            ("OTTLA_BROKER_A_B__C___D", "x"),
            ("HOME", "/root"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        all.add_environment("OTTLA_BROKER_", variables).unwrap();
        all.add_properties("f", "a=file\nlog.dirs=/file\nb=file").unwrap();
        assert_eq!(all.text("a", ""), "flag");
        assert_eq!(all.text("log.dirs", ""), "/d");
        assert_eq!(all.get("log.dirs").unwrap().place, "$OTTLA_BROKER_LOG_DIRS");
        assert_eq!(all.text("b", ""), "file");
        assert_eq!(all.text("a.b_c-d", ""), "x");
        assert_eq!(all.get("home"), None);
        assert!(all.add_flag("--config", "novalue").is_err());
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
        let known = ["log.retention.ms", "log.dirs", "broker.id"];
        let check = |text: &str| {
            let read = settings(text);
            read.check_keys(|key| known.contains(&key), known).map_err(|error| error.to_string())
        };
        assert_eq!(check("broker.id=1\nlog.dirs=/d"), Ok(()));
        assert_eq!(
            check("broker.id=1\nlog.retension.ms=5").unwrap_err(),
            "test.properties line 2: unknown key \"log.retension.ms\"; \
             did you mean \"log.retention.ms\"?"
        );
        assert_eq!(check("zzz=1").unwrap_err(), "test.properties line 1: unknown key \"zzz\"");
    }

    #[test]
    fn values_are_checked_and_errors_say_what_is_expected() {
        let read = settings("port=99999\nsize=64MiB\nwait=5min\nflag=maybe\nlist=a, b,,c");
        let error = read.number::<u16>("port", 1, 0..=9000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "test.properties line 1: port: expected a number, not \"99999\""
        );
        let error = read.number("port", 1, 0..=65535).unwrap_err();
        assert!(error.to_string().contains("expected 0 to 65535"), "{error}");
        assert_eq!(read.number("absent", 7, 0..=9).unwrap(), 7);
        assert_eq!(read.size_bytes("size", 0, 0..=u64::MAX).unwrap(), 64 << 20);
        assert_eq!(read.duration_ms("wait", 0, 0..=u64::MAX).unwrap(), 300_000);
        assert!(read.boolean("flag", true).is_err());
        assert_eq!(read.list("list", ""), ["a", "b", "c"]);
        assert_eq!(read.list("absent", "x,y"), ["x", "y"]);
        assert_eq!(read.required("absent").unwrap_err().to_string(), "absent must be set");
    }

    #[test]
    fn sizes_and_durations_have_units() {
        for (text, bytes) in
            [("0", 0), ("12", 12), ("1k", 1024), ("2 MB", 2 << 20), ("1TiB", 1 << 40)]
        {
            assert_eq!(parse_size_bytes(text), Ok(bytes), "{text}");
        }
        for (text, ms) in [("0", 0), ("15", 15), ("15ms", 15), ("2s", 2000), ("1h", 3_600_000)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
        for bad in ["", "x", "-1", "1.5s", "1y", "99999999999999999999", "18446744073709551615k"] {
            assert!(parse_size_bytes(bad).is_err(), "{bad}");
            assert!(parse_duration_ms(bad).is_err(), "{bad}");
        }
    }
}
