//! Writes one structure: its fields, its defaults, how it is decoded and how it is encoded. The
//! code is plain, one statement a field, because there is much of it to compile.

use crate::emit::put;
use crate::fields::{Condition, Names, ident};
use crate::model::{Field, Message, Struct};

/// Writes the structure of the message itself.
pub fn emit_message(out: &mut String, names: &Names, doc: &str) {
    let Message { name, versions, fields, .. } = names.message;
    let check = if versions.low == versions.high {
        format!("if version != {}", versions.low)
    } else {
        format!("if !({}..={}).contains(&version)", versions.low, versions.high)
    };
    let check =
        format!("{check} {{ return Err(WireError::UnsupportedVersion({name:?}, version)); }}");
    emit(out, names, &Body { name, fields, doc, check: &check });
}

/// Writes a structure inside the message.
pub fn emit_struct(out: &mut String, names: &Names, inner: &Struct) {
    let doc = format!("`{}` of {}.", inner.name, names.message.name);
    let Struct { name, fields } = inner;
    emit(out, names, &Body { name, fields, doc: &doc, check: "" });
}

struct Body<'a> {
    name: &'a str,
    fields: &'a [Field],
    doc: &'a str,
    /// The statement that begins `decode` and `encode`.
    check: &'a str,
}

fn emit(out: &mut String, names: &Names, body: &Body) {
    emit_definition(out, names, body);
    emit_decode(out, names, body);
    emit_encode(out, names, body);
}

fn emit_definition(out: &mut String, names: &Names, body: &Body) {
    let Body { name, fields, .. } = body;
    let derived = fields.iter().all(has_rust_default);
    let default = if derived { ", Default" } else { "" };
    put(out, &format!("/// {}", body.doc));
    put(out, &format!("#[derive(Clone, Debug, PartialEq{default})]"));
    put(out, &format!("pub struct {name} {{"));
    for field in *fields {
        put(out, &format!("/// {}", names.field_doc(field)));
        put(out, &format!("pub {}: {},", ident(&field.name), names.rust_type(field)));
    }
    if names.message.flexible_from.is_some() {
        put(out, "/// Tagged fields that the schema does not know, kept as they came.");
        put(out, "pub unknown_tagged_fields: Vec<UnknownTaggedField>,");
    }
    put(out, "}");
    if derived {
        return;
    }
    put(out, &format!("impl Default for {name} {{ fn default() -> Self {{ Self {{"));
    for field in *fields {
        put(out, &format!("{}: {},", ident(&field.name), names.default_value(field)));
    }
    if names.message.flexible_from.is_some() {
        put(out, "unknown_tagged_fields: Vec::new(),");
    }
    put(out, "} } }");
}

fn emit_decode(out: &mut String, names: &Names, body: &Body) {
    let Body { name, fields, check, .. } = body;
    put(out, &format!("impl Decode for {name} {{"));
    put(out, "fn decode(r: &mut Reader, version: i16) -> Result<Self, WireError> {");
    put(out, check);
    names.let_flexible(out);
    let tagged = names.tagged(fields);
    for field in *fields {
        let mutable = if tagged.iter().any(|t| t.name == field.name) { "mut " } else { "" };
        let value = match names.condition(names.plain_versions(field)) {
            Condition::Always => names.read(field, names.plain_versions(field)),
            Condition::Never => names.default_value(field),
            Condition::If(condition) => format!(
                "if {condition} {{ {} }} else {{ {} }}",
                names.read(field, names.plain_versions(field)),
                names.default_value(field)
            ),
        };
        put(out, &format!("let {mutable}{} = {value};", local(field)));
    }
    emit_decode_tagged(out, names, &tagged);
    let given = |field: &Field| format!("{}: {}", ident(&field.name), local(field));
    let mut listed: Vec<String> = fields.iter().map(given).collect();
    if names.message.flexible_from.is_some() {
        listed.push("unknown_tagged_fields".to_owned());
    }
    put(out, &format!("Ok(Self {{ {} }}) }} }}", listed.join(", ")));
}

/// The variable that holds the field while the others are read. No parameter has such a name.
fn local(field: &Field) -> String {
    format!("{}_", field.name)
}

fn emit_decode_tagged(out: &mut String, names: &Names, tagged: &[&Field]) {
    if names.message.flexible_from.is_none() {
        return;
    }
    let flexible = names.flexible();
    if tagged.is_empty() {
        put(
            out,
            &format!(
                "let unknown_tagged_fields = \
                 if {flexible} {{ r.unknown_tagged_fields()? }} else {{ Vec::new() }};"
            ),
        );
        return;
    }
    put(out, "let mut unknown_tagged_fields = Vec::new();");
    put(out, &format!("if {flexible} {{ let mut section = r.tagged_section()?;"));
    put(out, "while let Some((tag, size)) = r.next_tagged(&mut section)? {");
    put(out, "let end = r.end_of(size); match tag {");
    for field in tagged {
        let (Some(tag), versions) = (field.tag, field.tagged_versions()) else { continue };
        let guard = match names.condition(versions) {
            Condition::If(condition) => format!(" if {condition}"),
            _ => String::new(),
        };
        let value = names.read(field, versions);
        put(out, &format!("{}{guard} => {} = {value},", tag.number, local(field)));
    }
    put(out, "_ => r.keep_unknown(tag, size, &mut unknown_tagged_fields)?,");
    put(out, "} r.check_end(tag, end)?; }");
    put(out, "sort_unknown(&mut unknown_tagged_fields)?; }");
}

fn emit_encode(out: &mut String, names: &Names, body: &Body) {
    let Body { name, fields, check, .. } = body;
    put(out, &format!("impl Encode for {name} {{"));
    put(out, "fn encode(&self, w: &mut Writer, version: i16) -> Result<(), WireError> {");
    put(out, check);
    names.let_flexible(out);
    for field in *fields {
        emit_encode_field(out, names, name, field);
    }
    emit_encode_tagged(out, names, body);
    put(out, "Ok(()) } }");
}

/// Writes the field where it stands in line. Where it exists neither so nor tagged, only its
/// default can be left out, unless it is ignorable.
fn emit_encode_field(out: &mut String, names: &Names, name: &str, field: &Field) {
    let plain = names.plain_versions(field);
    let write = names.write(field, plain);
    let given = format!("!({})", names.is_default(field));
    let refuse =
        format!("{{ return Err(WireError::NotInVersion(\"{name}.{}\", version)); }}", field.name);
    let absent = match names.condition(names.in_message(field.versions)) {
        _ if field.ignorable => None,
        Condition::Always => None,
        Condition::Never => Some(given),
        Condition::If(present) => Some(format!("!({present}) && {given}")),
    };
    match (names.condition(plain), absent) {
        (Condition::Always, _) => put(out, &write),
        (Condition::Never, None) => {}
        (Condition::Never, Some(absent)) => put(out, &format!("if {absent} {refuse}")),
        (Condition::If(condition), None) => put(out, &format!("if {condition} {{ {write} }}")),
        (Condition::If(condition), Some(absent)) => {
            // Mostly the field is never tagged, and then the condition need not be repeated.
            let repeated = format!("!({condition}) && ");
            let absent = absent.strip_prefix(&repeated).unwrap_or(&absent);
            put(out, &format!("if {condition} {{ {write} }} else if {absent} {refuse}"));
        }
    }
}

fn emit_encode_tagged(out: &mut String, names: &Names, body: &Body) {
    if names.message.flexible_from.is_none() {
        return;
    }
    let flexible = names.flexible();
    let tagged = names.tagged(body.fields);
    put(out, &format!("if {flexible} {{"));
    if tagged.is_empty() {
        put(out, "w.unknown_tagged_fields(&self.unknown_tagged_fields)?;");
    } else {
        let mut count = "self.unknown_tagged_fields.len()".to_owned();
        for field in &tagged {
            let given = match names.condition(field.tagged_versions()) {
                Condition::If(condition) => format!("({condition}) && "),
                _ => String::new(),
            };
            let has = format!("has_{}", field.name);
            put(out, &format!("let {has} = {given}!({});", names.is_default(field)));
            count.push_str(&format!(" + usize::from({has})"));
        }
        put(out, &format!("w.tagged_count({count})?;"));
        put(out, "let mut unknown = self.unknown_tagged_fields.as_slice();");
        for field in &tagged {
            let Some(tag) = field.tag else { continue };
            let write = names.write(field, field.tagged_versions());
            put(
                out,
                &format!(
                    "if has_{} {{ unknown = w.unknown_below({}, unknown)?; \
                     w.tagged({}, |w| {{ {write} Ok(()) }})?; }}",
                    field.name, tag.number, tag.number
                ),
            );
        }
        put(out, "w.unknown_rest(unknown)?;");
    }
    let name = body.name;
    put(
        out,
        &format!(
            "}} else if !self.unknown_tagged_fields.is_empty() {{ \
             return Err(WireError::NotInVersion(\"{name}.unknown_tagged_fields\", version)); }}"
        ),
    );
}

/// Whether the default of the schema is what `Default` gives anyway.
fn has_rust_default(field: &Field) -> bool {
    if field.is_option() {
        return field.defaults_to_null();
    }
    match field.default.as_deref() {
        None | Some("0" | "false" | "\"\"") => true,
        Some(_) => false,
    }
}
