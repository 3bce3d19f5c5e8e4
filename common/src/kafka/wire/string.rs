//! Strings that share the bytes of the frame they came in.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use bytestring::ByteString;

use super::WireError;

/// A string that is a view of `Bytes`: cloning it and decoding it copy nothing.
///
/// It keeps the whole frame that it was decoded from alive, so what is stored for long should be
/// copied (`KafkaString::detached`).
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KafkaString(ByteString);

impl KafkaString {
    /// The empty string.
    pub const fn new() -> Self {
        Self(ByteString::new())
    }

    /// A string that nothing needs to be allocated for.
    pub const fn from_static(text: &'static str) -> Self {
        Self(ByteString::from_static(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The bytes that hold the text.
    pub fn as_bytes(&self) -> &Bytes {
        self.0.as_bytes()
    }

    /// The same text in memory of its own, which no longer keeps a frame alive.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self::from(self.as_str())
    }
}

/// The bytes must be UTF-8.
impl TryFrom<Bytes> for KafkaString {
    type Error = WireError;

    fn try_from(bytes: Bytes) -> Result<Self, WireError> {
        ByteString::try_from(bytes).map(Self).map_err(|_| WireError::InvalidUtf8)
    }
}

impl From<&str> for KafkaString {
    fn from(text: &str) -> Self {
        Self(ByteString::from(text))
    }
}

impl From<String> for KafkaString {
    fn from(text: String) -> Self {
        Self(ByteString::from(text))
    }
}

impl From<&String> for KafkaString {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<std::sync::Arc<str>> for KafkaString {
    fn from(text: std::sync::Arc<str>) -> Self {
        Self::from(&*text)
    }
}

impl From<KafkaString> for String {
    fn from(text: KafkaString) -> Self {
        text.as_str().to_owned()
    }
}

impl From<&KafkaString> for std::sync::Arc<str> {
    fn from(text: &KafkaString) -> Self {
        Self::from(text.as_str())
    }
}

impl Deref for KafkaString {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for KafkaString {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for KafkaString {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for KafkaString {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for KafkaString {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialEq<String> for KafkaString {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == other
    }
}

impl fmt::Display for KafkaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for KafkaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
