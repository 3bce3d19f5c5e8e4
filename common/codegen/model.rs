//! What a schema says, and the facts that both the emitter and the wire tests derive from it.

use std::collections::BTreeSet;

/// An inclusive range of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    pub low: i16,
    pub high: i16,
}

impl Versions {
    pub const ALL: Self = Self { low: 0, high: i16::MAX };
    pub const NONE: Self = Self { low: 1, high: 0 };

    pub fn contains(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }

    pub fn is_empty(self) -> bool {
        self.low > self.high
    }

    pub fn intersect(self, other: Self) -> Self {
        let both = Self { low: self.low.max(other.low), high: self.high.min(other.high) };
        if both.is_empty() { Self::NONE } else { both }
    }

    pub fn covers(self, other: Self) -> bool {
        other.is_empty() || (self.low <= other.low && other.high <= self.high)
    }
}

/// The type of a field, without its nullability.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    Bool,
    I8,
    I16,
    U16,
    I32,
    U32,
    I64,
    F64,
    Uuid,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

impl Type {
    /// The structure that a value of this type, or an element of it, is.
    pub fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

/// The number of a tagged field and the versions in which it is one.
#[derive(Clone, Copy, Debug)]
pub struct Tag {
    pub number: u32,
    pub versions: Versions,
}

/// One field of a message or of a structure in it.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: String,
    pub ty: Type,
    /// Where the field exists at all, tagged or not.
    pub versions: Versions,
    /// Where null is allowed; empty when never.
    pub nullable: Versions,
    /// The text after `=`, as it stands.
    pub default: Option<String>,
    pub ignorable: bool,
    pub tag: Option<Tag>,
    /// `flexible none`: never in the compact form.
    pub never_compact: bool,
}

impl Field {
    /// The versions in which the field stands among the tagged ones.
    pub fn tagged_versions(&self) -> Versions {
        self.tag.map_or(Versions::NONE, |tag| tag.versions.intersect(self.versions))
    }

    /// Whether the field stands in line, untagged, in `version`.
    pub fn is_plain(&self, version: i16) -> bool {
        self.versions.contains(version) && !self.tagged_versions().contains(version)
    }

    pub fn is_option(&self) -> bool {
        !self.nullable.is_empty()
    }

    /// Whether the default value is null.
    pub fn defaults_to_null(&self) -> bool {
        let null = self.default.as_deref() == Some("null");
        self.is_option() && (null || self.ty == Type::Records)
    }
}

/// A structure inside a message.
#[derive(Clone, Debug)]
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

/// A message: the request or response of an API, or a record.
#[derive(Clone, Debug)]
pub struct Message {
    pub name: String,
    pub versions: Versions,
    /// The first flexible version, if there is one.
    pub flexible_from: Option<i16>,
    pub latest_unstable: bool,
    /// The number that tells the records of one topic apart.
    pub record_type: Option<i16>,
    pub fields: Vec<Field>,
    pub structs: Vec<Struct>,
}

impl Message {
    pub fn is_flexible(&self, version: i16) -> bool {
        self.flexible_from.is_some_and(|from| version >= from)
    }

    pub fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }

    /// The fewest bytes that `fields` can take in `version`, tagged fields left out.
    pub fn min_size(&self, fields: &[Field], version: i16) -> usize {
        let plain: usize = fields
            .iter()
            .filter(|field| field.is_plain(version))
            .map(|field| {
                let nullable = field.nullable.contains(version);
                self.min_type_size(&field.ty, nullable, field.never_compact, version)
            })
            .sum();
        plain + usize::from(self.is_flexible(version))
    }

    fn min_type_size(&self, ty: &Type, nullable: bool, plain_form: bool, version: i16) -> usize {
        let compact = self.is_flexible(version) && !plain_form;
        match ty {
            Type::Bool | Type::I8 => 1,
            Type::I16 | Type::U16 => 2,
            Type::I32 | Type::U32 => 4,
            Type::I64 | Type::F64 => 8,
            Type::Uuid => 16,
            Type::String => 1 + usize::from(!compact),
            Type::Bytes | Type::Records | Type::Array(_) => 1 + 3 * usize::from(!compact),
            Type::Struct(_) if nullable => 1,
            Type::Struct(name) => self.find(name).map_or(0, |s| self.min_size(&s.fields, version)),
        }
    }

    /// The fewest bytes that one element of `field`, an array, takes in `version`.
    pub fn min_element_size(&self, field: &Field, version: i16) -> usize {
        match &field.ty {
            Type::Array(element) => self.min_type_size(element, false, false, version),
            _ => 0,
        }
    }
}

/// One API: a pair of messages under a key.
#[derive(Clone, Debug)]
pub struct Api {
    pub key: i16,
    pub name: String,
    /// The name of the module that holds its messages.
    pub module: String,
    pub request: Message,
    pub response: Message,
}

/// The messages of one file of `records/`.
#[derive(Clone, Debug)]
pub struct Records {
    pub module: String,
    pub messages: Vec<Message>,
}

/// One line of `errors.tsv`.
#[derive(Clone, Debug)]
pub struct ErrorRow {
    pub code: i16,
    pub name: String,
    pub retriable: bool,
}

/// Everything that the schema folder says.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    pub apis: Vec<Api>,
    pub records: Vec<Records>,
    pub errors: Vec<ErrorRow>,
}

/// Checks what the grammar cannot: that names resolve, that nothing holds itself, that tags are
/// distinct and only where the message is flexible, that no element of an array is without bytes.
pub fn check(message: &Message) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for s in &message.structs {
        if !names.insert(&s.name) {
            return Err(format!("{}: two structures are named {}", message.name, s.name));
        }
    }
    check_fields(message, &message.fields, &mut vec![message.name.as_str()])
}

fn check_fields<'a>(
    message: &'a Message,
    fields: &'a [Field],
    path: &mut Vec<&'a str>,
) -> Result<(), String> {
    let mut tags = BTreeSet::new();
    for field in fields {
        let here = format!("{}.{}", path.join("."), field.name);
        if let Some(tag) = field.tag {
            if !tags.insert(tag.number) {
                return Err(format!("{here}: tag {} is taken", tag.number));
            }
            let tagged = field.tagged_versions().intersect(message.versions);
            if !tagged.is_empty() && !message.is_flexible(tagged.low) {
                return Err(format!("{here}: tagged where the message is not flexible"));
            }
        }
        let Some(name) = field.ty.struct_name() else { continue };
        if path.contains(&name) {
            return Err(format!("{here}: {name} holds itself"));
        }
        let inner = message.find(name).ok_or(format!("{here}: no structure is named {name}"))?;
        path.push(name);
        check_fields(message, &inner.fields, path)?;
        path.pop();
        // A count of elements without bytes could not be held against the bytes that are left.
        let present = field.versions.intersect(message.versions);
        let empty = |version| message.min_element_size(field, version) == 0;
        if matches!(field.ty, Type::Array(_)) && (present.low..=present.high).any(empty) {
            return Err(format!("{here}: an element of no bytes"));
        }
    }
    Ok(())
}
