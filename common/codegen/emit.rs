//! Writes the Rust of the whole schema: one module per API and per record file, the keys of the
//! APIs and the error codes. Plain text, since nothing reads it but the compiler.

use std::fmt::Write;

use crate::emit_struct;
use crate::fields::Names;
use crate::model::{Api, Field, Message, Records, Schema};

/// The text of `messages.rs`.
pub fn messages(schema: &Schema) -> String {
    let mut out = String::new();
    for api in &schema.apis {
        emit_api(&mut out, api);
    }
    out.push_str("/// What is stored in topics or carried inside other messages.\n");
    out.push_str("pub mod records {\n");
    for records in &schema.records {
        emit_records(&mut out, records);
    }
    out.push_str("}\n");
    emit_api_key(&mut out, schema);
    emit_for_each_api(&mut out, schema);
    emit_for_each_record(&mut out, schema);
    out
}

fn emit_api(out: &mut String, api: &Api) {
    let Api { name, module, .. } = api;
    put(out, &format!("/// {name}, key {}.", api.key));
    put(out, &format!("pub mod {module} {{ use super::prelude::*;"));
    for (message, side) in [(&api.request, "request"), (&api.response, "response")] {
        let names = Names { message, prefix: format!("{side}::") };
        let doc = format!("The {side} of {name}, versions {}.", range_text(message));
        emit_struct::emit_message(out, &names, &doc);
        emit_nested(out, message, side);
    }
    let Message { versions, flexible_from, latest_unstable, .. } = &api.request;
    put(
        out,
        &format!(
            "impl Request for {name}Request {{ const KEY: ApiKey = ApiKey::{name}; \
             const MIN_VERSION: i16 = {}; const MAX_VERSION: i16 = {}; \
             const FLEXIBLE_FROM: Option<i16> = {flexible_from:?}; \
             const LATEST_UNSTABLE: bool = {latest_unstable}; type Response = {name}Response; }}",
            versions.low, versions.high,
        ),
    );
    let is_throttle_time = |field: &Field| field.name == "throttle_time_ms";
    let throttle_time = match api.response.fields.iter().any(is_throttle_time) {
        true => {
            "fn throttle_time_ms_mut(&mut self) -> Option<&mut i32> { \
                 Some(&mut self.throttle_time_ms) }"
        }
        false => "",
    };
    put(
        out,
        &format!(
            "impl Response for {name}Response {{ const KEY: ApiKey = ApiKey::{name}; \
             {throttle_time} }}"
        ),
    );
    out.push_str("}\n");
}

fn emit_nested(out: &mut String, message: &Message, side: &str) {
    if message.structs.is_empty() {
        return;
    }
    put(out, &format!("/// What the {side} holds."));
    put(out, &format!("pub mod {side} {{ use super::super::prelude::*;"));
    let names = Names { message, prefix: String::new() };
    for inner in &message.structs {
        emit_struct::emit_struct(out, &names, inner);
    }
    out.push_str("}\n");
}

fn emit_records(out: &mut String, records: &Records) {
    let listed: Vec<&str> = records.messages.iter().map(|m| m.name.as_str()).collect();
    put(out, &format!("/// {}.", listed.join(", ")));
    put(out, &format!("pub mod {} {{ use super::super::prelude::*;", records.module));
    for message in &records.messages {
        let names = Names { message, prefix: String::new() };
        let doc = format!("{}, versions {}.", message.name, range_text(message));
        emit_struct::emit_message(out, &names, &doc);
        for inner in &message.structs {
            emit_struct::emit_struct(out, &names, inner);
        }
        put(out, &format!("impl {} {{", message.name));
        put(out, "/// The lowest version.");
        put(out, &format!("pub const MIN_VERSION: i16 = {};", message.versions.low));
        put(out, "/// The highest version.");
        put(out, &format!("pub const MAX_VERSION: i16 = {};", message.versions.high));
        if let Some(number) = message.record_type {
            put(out, "/// What tells the records of one topic apart.");
            put(out, &format!("pub const TYPE: i16 = {number};"));
        }
        out.push_str("}\n");
    }
    out.push_str("}\n");
}

fn range_text(message: &Message) -> String {
    format!("{} to {}", message.versions.low, message.versions.high)
}

fn emit_api_key(out: &mut String, schema: &Schema) {
    put(out, "/// The APIs of Kafka, by key.");
    put(out, "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)] #[repr(i16)]");
    put(out, "pub enum ApiKey {");
    for api in &schema.apis {
        put(out, &format!("/// {}.", api.name));
        put(out, &format!("{} = {},", api.name, api.key));
    }
    put(out, "}");
    put(out, "impl ApiKey {");
    let all: Vec<String> = schema.apis.iter().map(|api| format!("Self::{}", api.name)).collect();
    put(out, "/// Every API, in the order of the keys.");
    put(out, &format!("pub const ALL: &[Self] = &[{}];", all.join(", ")));
    table(out, schema, "The name, as in Kafka's documents.", "name(self) -> &'static str", |api| {
        format!("{:?}", api.name)
    });
    table(out, schema, "The lowest version of the schema.", "min_version(self) -> i16", |api| {
        api.request.versions.low.to_string()
    });
    table(out, schema, "The highest version of the schema.", "max_version(self) -> i16", |api| {
        api.request.versions.high.to_string()
    });
    let doc = "The first version in compact form with tagged fields (KIP-482), if there is one.";
    table(out, schema, doc, "flexible_from(self) -> Option<i16>", |api| {
        format!("{:?}", api.request.flexible_from)
    });
    let doc = "Whether the highest version is not to be advertised.";
    table(out, schema, doc, "latest_unstable(self) -> bool", |api| {
        api.request.latest_unstable.to_string()
    });
    put(out, "}");
    put(out, "impl TryFrom<i16> for ApiKey { type Error = WireError;");
    put(out, "fn try_from(key: i16) -> Result<Self, WireError> { Ok(match key {");
    let rows = schema.apis.iter().map(|api| format!("{} => Self::{},", api.key, api.name));
    put_rows(out, rows.collect());
    put(out, "_ => return Err(WireError::UnknownApiKey(key)), }) } }");
}

fn table(
    out: &mut String,
    schema: &Schema,
    doc: &str,
    signature: &str,
    value: impl Fn(&Api) -> String,
) {
    put(out, &format!("/// {doc}"));
    put(out, &format!("pub const fn {signature} {{ match self {{"));
    let rows = schema.apis.iter().map(|api| format!("Self::{} => {},", api.name, value(api)));
    put_rows(out, rows.collect());
    put(out, "} }");
}

fn emit_for_each_api(out: &mut String, schema: &Schema) {
    put(out, "/// Calls the macro `$callback` once with a list of all APIs, each in the form");
    put(out, "/// `(Name, module, NameRequest, NameResponse)`.");
    put(out, "#[macro_export]");
    put(out, "macro_rules! for_each_api { ($callback:ident) => { $callback! {");
    for api in &schema.apis {
        let Api { name, module, .. } = api;
        put(out, &format!("({name}, {module}, {name}Request, {name}Response)"));
    }
    put(out, "} } }");
}

fn emit_for_each_record(out: &mut String, schema: &Schema) {
    put(out, "/// Calls the macro `$callback` once with a list of all records, each in the form");
    put(out, "/// `(module, Name)`.");
    put(out, "#[macro_export]");
    put(out, "macro_rules! for_each_record { ($callback:ident) => { $callback! {");
    for records in &schema.records {
        for message in &records.messages {
            put(out, &format!("({}, {})", records.module, message.name));
        }
    }
    put(out, "} } }");
}

/// The text of `error_code.rs`.
pub fn error_codes(schema: &Schema) -> String {
    let mut out = String::new();
    put(&mut out, "/// The error codes of Kafka's protocol.");
    put(&mut out, "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]");
    put(&mut out, "#[repr(i16)]");
    put(&mut out, "pub enum ErrorCode {");
    for row in &schema.errors {
        let retriable = if row.retriable { ", retriable" } else { "" };
        put(&mut out, &format!("/// `{}`{retriable}.", row.name));
        if row.code == 0 {
            put(&mut out, "#[default]");
        }
        put(&mut out, &format!("{} = {},", camel_case(&row.name), row.code));
    }
    put(&mut out, "}");
    put(&mut out, "impl ErrorCode {");
    let all: Vec<String> =
        schema.errors.iter().map(|row| format!("Self::{}", camel_case(&row.name))).collect();
    put(&mut out, "/// Every error, in the order of the codes.");
    put(&mut out, &format!("pub const ALL: &[Self] = &[{}];", all.join(", ")));
    put(&mut out, "/// The error of a code; a code that is not known means `UnknownServerError`.");
    put(&mut out, "pub const fn from_code(code: i16) -> Self { match code {");
    let known = schema.errors.iter().filter(|row| row.code != -1);
    let rows = known.map(|row| format!("{} => Self::{},", row.code, camel_case(&row.name)));
    put_rows(&mut out, rows.collect());
    put(&mut out, "_ => Self::UnknownServerError, } }");
    put(&mut out, "/// The name in capitals, as Kafka writes it.");
    put(&mut out, "pub const fn name(self) -> &'static str { match self {");
    let rows = schema
        .errors
        .iter()
        .map(|row| format!("Self::{} => {:?},", camel_case(&row.name), row.name));
    put_rows(&mut out, rows.collect());
    put(&mut out, "} }");
    put(&mut out, "/// Whether a client may send the same request again and hope.");
    put(&mut out, "pub const fn is_retriable(self) -> bool { matches!(self,");
    let retriable: Vec<String> = schema
        .errors
        .iter()
        .filter(|row| row.retriable)
        .map(|row| format!("Self::{}", camel_case(&row.name)))
        .collect();
    put(&mut out, &format!("{}) }} }}", retriable.join(" | ")));
    out
}

/// `UNKNOWN_TOPIC_ID` as `UnknownTopicId`.
fn camel_case(name: &str) -> String {
    let mut out = String::new();
    for word in name.split('_') {
        let (first, rest) = word.split_at(word.len().min(1));
        out.push_str(first);
        out.push_str(&rest.to_ascii_lowercase());
    }
    out
}

/// Appends the rows of a table, several on a line, for a long function is taken for a bad one.
fn put_rows(out: &mut String, rows: Vec<String>) {
    for line in rows.chunks(4) {
        put(out, &line.join(" "));
    }
}

/// Appends one line.
pub fn put(out: &mut String, line: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{line}");
}
