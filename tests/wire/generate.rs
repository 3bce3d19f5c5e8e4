//! Random messages, written straight from the schema in the canonical form: varints as short as can
//! be, tagged fields in order and only where they differ from their default.

use crate::model::{Field, Message, Type};
use crate::parse::integer;

/// How a length or count is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Two bytes.
    Short,
    /// Four bytes.
    Long,
    /// A varint of one more.
    Compact,
    /// A varint of itself: the count and the sizes of tagged fields.
    Plain,
}

/// A length or count in an encoded message.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Where it stands.
    pub position: usize,
    /// How it is written.
    pub form: Form,
}

/// An encoded message.
#[derive(Clone, Debug, Default)]
pub struct Encoded {
    pub bytes: Vec<u8>,
    pub counts: Vec<Count>,
}

/// Makes random messages of a version.
pub struct Generator<'a> {
    pub random: fastrand::Rng,
    pub message: &'a Message,
    pub version: i16,
    /// The most elements of an array.
    pub elements_max: usize,
    /// Whether there may be tagged fields that no schema knows.
    pub unknown_tags: bool,
}

impl Generator<'_> {
    /// A message.
    pub fn message(&mut self) -> Encoded {
        let mut out = Encoded::default();
        self.fields(&mut out, &self.message.fields, false);
        out
    }

    /// A structure of `fields`; with their defaults or at random.
    fn fields(&mut self, out: &mut Encoded, fields: &[Field], default: bool) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_plain(version)) {
            self.value(out, field, default);
        }
        if !self.message.is_flexible(self.version) {
            return;
        }
        let mut tagged = Vec::new();
        for field in fields {
            let Some(tag) = field.tag.filter(|_| !default) else { continue };
            if !field.tagged_versions().contains(self.version) || self.random.bool() {
                continue;
            }
            let (mut value, mut skipped) = (Encoded::default(), Encoded::default());
            self.value(&mut value, field, false);
            self.value(&mut skipped, field, true);
            if value.bytes != skipped.bytes {
                tagged.push((tag.number, value));
            }
        }
        tagged.sort_by_key(|(number, _)| *number);
        if self.unknown_tags && !default && self.random.u8(..8) == 0 {
            for number in [1_000, 2_000_000] {
                let bytes = self.some_bytes();
                tagged.push((number, Encoded { bytes, counts: Vec::new() }));
            }
        }
        count(out, Form::Plain, tagged.len());
        for (number, value) in tagged {
            varint(&mut out.bytes, number);
            count(out, Form::Plain, value.bytes.len());
            let start = out.bytes.len();
            out.counts.extend(
                value
                    .counts
                    .iter()
                    .map(|inner| Count { position: start + inner.position, form: inner.form }),
            );
            out.bytes.extend_from_slice(&value.bytes);
        }
    }

    fn value(&mut self, out: &mut Encoded, field: &Field, default: bool) {
        let nullable = field.nullable.contains(self.version);
        let compact = self.message.is_flexible(self.version) && !field.never_compact;
        let null =
            nullable && if default { field.defaults_to_null() } else { self.random.u8(..6) == 0 };
        let value = if default { field.default.as_deref() } else { None };
        match &field.ty {
            Type::Array(element) => {
                let most = if default { 0 } else { self.elements_max };
                let length = self.random.usize(..=most);
                length_of(out, compact, (!null).then_some(length));
                for _ in 0..if null { 0 } else { length } {
                    self.element(out, element, compact, false);
                }
            }
            Type::Struct(_) if nullable => {
                // Null is a byte -1, but a zero in a tagged field.
                let mark_of_null = if field.tag.is_some() { 0 } else { 0xff };
                out.bytes.push(if null { mark_of_null } else { 1 });
                if !null {
                    self.element(out, &field.ty, compact, default);
                }
            }
            _ if null && field.ty == Type::String && !compact => {
                out.counts.push(Count { position: out.bytes.len(), form: Form::Short });
                out.bytes.extend_from_slice(&[0xff, 0xff]);
            }
            _ if null => length_of(out, compact, None),
            Type::String if value.is_some_and(|text| text != "null") => {
                let text = value.unwrap_or_default().trim_matches('"');
                string(out, compact, text);
            }
            Type::Bool | Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::U32 | Type::I64
                if default =>
            {
                let number = match value {
                    Some("true") => 1,
                    Some(text) => integer(text).unwrap_or(0),
                    None => 0,
                };
                let bytes = number.to_be_bytes();
                out.bytes.extend_from_slice(&bytes[8 - fixed_size(&field.ty)..]);
            }
            ty => self.element(out, ty, compact, default),
        }
    }

    /// A value that is not null.
    fn element(&mut self, out: &mut Encoded, ty: &Type, compact: bool, default: bool) {
        match ty {
            Type::Struct(name) => {
                let message = self.message;
                let inner = message.find(name).unwrap();
                self.fields(out, &inner.fields, default);
            }
            Type::String => {
                let text = if default { String::new() } else { self.some_text() };
                string(out, compact, &text);
            }
            Type::Bytes | Type::Records => {
                let bytes = if default { Vec::new() } else { self.some_bytes() };
                length_of(out, compact, Some(bytes.len()));
                out.bytes.extend_from_slice(&bytes);
            }
            Type::Bool => out.bytes.push(u8::from(self.random.bool())),
            Type::Array(_) => unreachable!("arrays hold no arrays"),
            _ if default => out.bytes.extend(std::iter::repeat_n(0, fixed_size(ty))),
            _ => {
                // Small numbers and extremes are as likely as any.
                let byte = [0, 0xff, 0x7f, self.random.u8(..)][self.random.usize(..4)];
                let size = fixed_size(ty);
                out.bytes.extend(std::iter::repeat_n(byte, size - 1));
                out.bytes.push(self.random.u8(..));
            }
        }
    }

    fn some_text(&mut self) -> String {
        let length = self.random.usize(..10);
        (0..length).map(|_| if self.random.u8(..9) == 0 { 'é' } else { 'a' }).collect()
    }

    fn some_bytes(&mut self) -> Vec<u8> {
        let length = self.random.usize(..20);
        (0..length).map(|_| self.random.u8(..)).collect()
    }
}

fn fixed_size(ty: &Type) -> usize {
    match ty {
        Type::Bool | Type::I8 => 1,
        Type::I16 | Type::U16 => 2,
        Type::I32 | Type::U32 => 4,
        Type::I64 | Type::F64 => 8,
        Type::Uuid => 16,
        Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_) => 0,
    }
}

fn string(out: &mut Encoded, compact: bool, text: &str) {
    count(out, if compact { Form::Compact } else { Form::Short }, text.len());
    out.bytes.extend_from_slice(text.as_bytes());
}

/// The length of bytes or of an array; `None` for null.
fn length_of(out: &mut Encoded, compact: bool, length: Option<usize>) {
    match length {
        Some(length) => count(out, if compact { Form::Compact } else { Form::Long }, length),
        None => {
            let form = if compact { Form::Compact } else { Form::Long };
            out.counts.push(Count { position: out.bytes.len(), form });
            out.bytes.extend_from_slice(if compact { &[0] } else { &[0xff; 4] });
        }
    }
}

fn count(out: &mut Encoded, form: Form, value: usize) {
    out.counts.push(Count { position: out.bytes.len(), form });
    let value = u32::try_from(value).unwrap();
    match form {
        Form::Short => out.bytes.extend_from_slice(&u16::try_from(value).unwrap().to_be_bytes()),
        Form::Long => out.bytes.extend_from_slice(&value.to_be_bytes()),
        Form::Compact => varint(&mut out.bytes, value + 1),
        Form::Plain => varint(&mut out.bytes, value),
    }
}

/// Appends an unsigned varint.
pub fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
