//! The Rust of single fields, in the terms of one message: types, defaults, the conditions under
//! which they are there, the expressions that read them and the statements that write them.

use crate::emit::put;
use crate::model::{Field, Message, Type, Versions};
use crate::parse::integer;

/// How names inside a structure are resolved.
pub struct Names<'a> {
    /// The message that the structure is part of.
    pub message: &'a Message,
    /// The path of the nested structures, as seen from the structure that is written.
    pub prefix: String,
}

/// Whether a range holds in all versions of a message, in none, or under a condition.
pub enum Condition {
    Always,
    Never,
    If(String),
}

impl Names<'_> {
    pub fn in_message(&self, versions: Versions) -> Versions {
        versions.intersect(self.message.versions)
    }

    pub fn plain_versions(&self, field: &Field) -> Versions {
        let present = self.in_message(field.versions);
        let tagged = self.in_message(field.tagged_versions());
        if tagged.is_empty() {
            present
        } else if tagged.low > present.low {
            Versions { low: present.low, high: tagged.low - 1 }
        } else {
            Versions::NONE
        }
    }

    /// The fields with a tag in some version, in the order of the tags.
    pub fn tagged<'f>(&self, fields: &'f [Field]) -> Vec<&'f Field> {
        let mut tagged: Vec<&Field> = fields
            .iter()
            .filter(|field| !self.in_message(field.tagged_versions()).is_empty())
            .collect();
        tagged.sort_by_key(|field| field.tag.map(|tag| tag.number));
        tagged
    }

    pub fn condition(&self, versions: Versions) -> Condition {
        let all = self.message.versions;
        let Versions { low, high } = self.in_message(versions);
        if low > high {
            Condition::Never
        } else if low == all.low && high == all.high {
            Condition::Always
        } else if low == high {
            Condition::If(format!("version == {low}"))
        } else if low == all.low {
            Condition::If(format!("version <= {high}"))
        } else if high == all.high {
            Condition::If(format!("version >= {low}"))
        } else {
            Condition::If(format!("({low}..={high}).contains(&version)"))
        }
    }

    /// The expression that tells whether the version at hand is flexible.
    pub fn flexible(&self) -> &'static str {
        match self.message.flexible_from {
            None => "false",
            Some(from) if from <= self.message.versions.low => "true",
            Some(_) => "flexible",
        }
    }

    pub fn let_flexible(&self, out: &mut String) {
        if let (Some(from), "flexible") = (self.message.flexible_from, self.flexible()) {
            put(out, &format!("let flexible = version >= {from};"));
        }
    }

    pub fn rust_type(&self, field: &Field) -> String {
        let ty = self.rust_value_type(&field.ty);
        if field.is_option() { format!("Option<{ty}>") } else { ty }
    }

    fn rust_value_type(&self, ty: &Type) -> String {
        match ty {
            Type::Bool => "bool".to_owned(),
            Type::I8 => "i8".to_owned(),
            Type::I16 => "i16".to_owned(),
            Type::U16 => "u16".to_owned(),
            Type::I32 => "i32".to_owned(),
            Type::U32 => "u32".to_owned(),
            Type::I64 => "i64".to_owned(),
            Type::F64 => "f64".to_owned(),
            Type::Uuid => "Uuid".to_owned(),
            Type::String => "KafkaString".to_owned(),
            Type::Bytes => "Bytes".to_owned(),
            Type::Records => "Records".to_owned(),
            Type::Struct(name) => format!("{}{name}", self.prefix),
            Type::Array(element) => format!("Vec<{}>", self.rust_value_type(element)),
        }
    }

    pub fn field_doc(&self, field: &Field) -> String {
        let mut doc = match self.condition(field.versions) {
            Condition::Always => "All versions".to_owned(),
            Condition::Never => "No version".to_owned(),
            Condition::If(_) => self.range_text(field.versions),
        };
        if field.is_option() {
            doc.push_str(&match self.condition(field.nullable.intersect(field.versions)) {
                Condition::Never => "; never null".to_owned(),
                Condition::If(_) if !field.nullable.covers(self.in_message(field.versions)) => {
                    format!("; null: {}", self.range_text(field.nullable).to_lowercase())
                }
                _ => "; may be null".to_owned(),
            });
        }
        if let Some(tag) = field.tag {
            doc.push_str(&format!("; tag {}", tag.number));
        }
        if let Some(default) = field.default.as_ref().filter(|text| *text != "null") {
            doc.push_str(&format!("; by default `{default}`"));
        }
        doc.push('.');
        doc
    }

    fn range_text(&self, versions: Versions) -> String {
        let Versions { low, high } = self.in_message(versions);
        if low == high {
            format!("Version {low}")
        } else if high == self.message.versions.high {
            format!("Versions {low}+")
        } else {
            format!("Versions {low} to {high}")
        }
    }

    pub fn default_value(&self, field: &Field) -> String {
        if field.defaults_to_null() {
            return "None".to_owned();
        }
        let value = match (&field.ty, field.default.as_deref()) {
            (Type::String, Some(text)) if text != "\"\"" => format!("KafkaString::from({text})"),
            (Type::Bool, text) => text.unwrap_or("false").to_owned(),
            (Type::F64, text) => format!("{:?}", text.map_or(0.0, |t| t.parse().unwrap_or(0.0))),
            (Type::I8 | Type::I16 | Type::U16 | Type::I32 | Type::U32 | Type::I64, text) => {
                text.and_then(integer).unwrap_or(0).to_string()
            }
            (Type::Array(_), _) => "Vec::new()".to_owned(),
            (Type::Bytes, _) => "Bytes::new()".to_owned(),
            (ty, _) => format!("{}::default()", self.rust_value_type(ty)),
        };
        if field.is_option() { format!("Some({value})") } else { value }
    }

    /// The expression that tells whether `self.field` has its default value.
    pub fn is_default(&self, field: &Field) -> String {
        let name = format!("self.{}", ident(&field.name));
        if field.defaults_to_null() {
            return format!("{name}.is_none()");
        }
        let empty = matches!(field.ty, Type::Array(_) | Type::Bytes | Type::Records)
            || (field.ty == Type::String && field.default.as_deref().unwrap_or("\"\"") == "\"\"");
        match (&field.ty, empty) {
            (_, true) if field.is_option() => {
                format!("{name}.as_ref().is_some_and(|value| value.is_empty())")
            }
            (_, true) => format!("{name}.is_empty()"),
            (Type::Bool, _) if field.default.as_deref() == Some("true") => name,
            (Type::Bool, _) => format!("!{name}"),
            _ => format!("{name} == {}", self.default_value(field)),
        }
    }

    /// The expression that reads `field` in `versions`, where it is present.
    pub fn read(&self, field: &Field, versions: Versions) -> String {
        let versions = self.in_message(versions);
        let nullable = self.read_value(field, versions, true);
        let plain = self.read_value(field, versions, false);
        if !field.is_option() {
            return plain;
        }
        let nulls = field.nullable.intersect(versions);
        match self.condition(nulls) {
            Condition::Never => format!("Some({plain})"),
            _ if field.nullable.covers(versions) => nullable,
            Condition::Always => nullable,
            Condition::If(condition) => {
                format!("if {condition} {{ {nullable} }} else {{ Some({plain}) }}")
            }
        }
    }

    fn read_value(&self, field: &Field, versions: Versions, nullable: bool) -> String {
        let flexible = if field.never_compact { "false" } else { self.flexible() };
        let prefix = if nullable { "nullable_" } else { "" };
        match &field.ty {
            Type::Bool => "r.bool()?".to_owned(),
            Type::I8 => "r.i8()?".to_owned(),
            Type::I16 => "r.i16()?".to_owned(),
            Type::U16 => "r.u16()?".to_owned(),
            Type::I32 => "r.i32()?".to_owned(),
            Type::U32 => "r.u32()?".to_owned(),
            Type::I64 => "r.i64()?".to_owned(),
            Type::F64 => "r.f64()?".to_owned(),
            Type::Uuid => "r.uuid()?".to_owned(),
            Type::String => format!("r.{prefix}string({flexible})?"),
            Type::Bytes => format!("r.{prefix}bytes({flexible})?"),
            Type::Records => format!("r.{prefix}records({flexible})?"),
            Type::Struct(_) if nullable && field.tag.is_some() => {
                "r.nullable_tagged_struct(version)?".to_owned()
            }
            Type::Struct(_) if nullable => "r.nullable_struct(version)?".to_owned(),
            Type::Struct(_) => "Decode::decode(r, version)?".to_owned(),
            Type::Array(element) => match **element {
                Type::Struct(_) => {
                    let min = self.min_element_size(field, versions);
                    format!("r.{prefix}array({flexible}, {min}, version)?")
                }
                _ => format!("r.{prefix}values({flexible})?"),
            },
        }
    }

    /// The expression of the fewest bytes that an element of `field` can take.
    fn min_element_size(&self, field: &Field, versions: Versions) -> String {
        let least = |flexible: bool| {
            (versions.low..=versions.high)
                .filter(|version| self.message.is_flexible(*version) == flexible)
                .map(|version| self.message.min_element_size(field, version))
                .min()
        };
        match (least(true), least(false)) {
            (Some(compact), Some(plain)) if compact != plain => {
                format!("if {} {{ {compact} }} else {{ {plain} }}", self.flexible())
            }
            (Some(size), _) | (None, Some(size)) => size.to_string(),
            (None, None) => "1".to_owned(),
        }
    }

    /// The statement that writes `field` in `versions`, where it is present.
    pub fn write(&self, field: &Field, versions: Versions) -> String {
        let versions = self.in_message(versions);
        if !field.is_option() {
            return self.write_value(field, &format!("self.{}", ident(&field.name)));
        }
        let nullable = self.write_nullable(field);
        let required = format!("required(&self.{}, {:?})?", ident(&field.name), field.name);
        let plain = self.write_value(field, &required);
        match self.condition(field.nullable.intersect(versions)) {
            Condition::Never => plain,
            _ if field.nullable.covers(versions) => nullable,
            Condition::Always => nullable,
            Condition::If(condition) => {
                format!("if {condition} {{ {nullable} }} else {{ {plain} }}")
            }
        }
    }

    fn write_value(&self, field: &Field, value: &str) -> String {
        let flexible = if field.never_compact { "false" } else { self.flexible() };
        // A required value is a reference already.
        let by_ref = if field.is_option() { value.to_owned() } else { format!("&{value}") };
        match &field.ty {
            Type::Bool => format!("w.bool({value});"),
            Type::I8 => format!("w.i8({value});"),
            Type::I16 => format!("w.i16({value});"),
            Type::U16 => format!("w.u16({value});"),
            Type::I32 => format!("w.i32({value});"),
            Type::U32 => format!("w.u32({value});"),
            Type::I64 => format!("w.i64({value});"),
            Type::F64 => format!("w.f64({value});"),
            Type::Uuid => format!("w.uuid({value});"),
            Type::String => format!("w.string({by_ref}, {flexible})?;"),
            Type::Bytes => format!("w.bytes({by_ref}, {flexible})?;"),
            Type::Records => format!("w.records({by_ref}, {flexible})?;"),
            Type::Struct(_) => format!("{value}.encode(w, version)?;"),
            Type::Array(element) => match **element {
                Type::Struct(_) => format!("w.array({by_ref}, {flexible}, version)?;"),
                _ => format!("w.values({by_ref}, {flexible})?;"),
            },
        }
    }

    fn write_nullable(&self, field: &Field) -> String {
        let flexible = if field.never_compact { "false" } else { self.flexible() };
        let name = format!("self.{}", ident(&field.name));
        match &field.ty {
            Type::String => format!("w.nullable_string({name}.as_ref(), {flexible})?;"),
            Type::Bytes => format!("w.nullable_bytes({name}.as_ref(), {flexible})?;"),
            Type::Records => format!("w.nullable_records({name}.as_ref(), {flexible})?;"),
            Type::Struct(_) if field.tag.is_some() => {
                format!("w.nullable_tagged_struct({name}.as_ref(), version)?;")
            }
            Type::Struct(_) => format!("w.nullable_struct({name}.as_ref(), version)?;"),
            Type::Array(element) => match **element {
                Type::Struct(_) => {
                    format!("w.nullable_array({name}.as_deref(), {flexible}, version)?;")
                }
                _ => format!("w.nullable_values({name}.as_deref(), {flexible})?;"),
            },
            _ => self.write_value(field, &name),
        }
    }
}

/// The name, as an identifier of Rust.
pub fn ident(name: &str) -> String {
    let reserved = ["type", "match", "ref", "move", "use", "where", "in", "fn", "impl"];
    if reserved.contains(&name) { format!("r#{name}") } else { name.to_owned() }
}
