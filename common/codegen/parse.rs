//! Reads the notation of `common/schema/` (described in its README.md) into the model. Every
//! complaint names the file and the line.

use std::fs;
use std::path::{Path, PathBuf};

use crate::model::{
    self, Api, ErrorRow, Field, Message, Records, Schema, Struct, Tag, Type, Versions,
};

/// Reads the whole schema folder, files in the order of their names.
pub fn read_schema(folder: &Path) -> Result<Schema, String> {
    let mut schema = Schema::default();
    for path in api_files(&folder.join("api"))? {
        schema.apis.push(parse_api(&path, &read(&path)?)?);
    }
    for path in api_files(&folder.join("records"))? {
        schema.records.push(parse_records(&path, &read(&path)?)?);
    }
    let path = folder.join("errors.tsv");
    schema.errors = parse_errors(&path, &read(&path)?)?;
    Ok(schema)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn api_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let complain = |error| format!("{}: {error}", folder.display());
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(complain)? {
        let path = entry.map_err(complain)?.path();
        if path.extension().is_some_and(|extension| extension == "api") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The name of a file without its leading number and its extension.
fn module_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    stem.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches('_').to_owned()
}

/// A line that is not blank and not a comment.
struct Line<'a> {
    number: usize,
    /// How deep it stands, in steps of two spaces.
    depth: usize,
    words: Vec<&'a str>,
}

fn lines<'a>(path: &Path, text: &'a str) -> Result<Vec<Line<'a>>, String> {
    let mut lines = Vec::new();
    for (index, raw) in text.lines().enumerate() {
        let number = index + 1;
        let body = raw.trim_start_matches(' ');
        if body.trim().is_empty() || body.starts_with('#') {
            continue;
        }
        let spaces = raw.len() - body.len();
        if spaces % 2 != 0 || body.starts_with('\t') {
            let place = path.display();
            return Err(format!("{place}:{number}: indent by steps of two spaces"));
        }
        let words = body.split_whitespace().collect();
        lines.push(Line { number, depth: spaces / 2, words });
    }
    Ok(lines)
}

/// Reads the lines of one file from the top down.
struct Parser<'a> {
    path: &'a Path,
    lines: &'a [Line<'a>],
    next: usize,
}

/// Reads a file of `api/`.
pub fn parse_api(path: &Path, text: &str) -> Result<Api, String> {
    let lines = lines(path, text)?;
    let mut parser = Parser { path, lines: &lines, next: 0 };
    let head = parser.head("api")?;
    let (key, name) = match head.words.as_slice() {
        [_, key, name, ..] => (*key, *name),
        _ => return Err(parser.complain(head, "expected: api KEY NAME")),
    };
    let key = key.parse().map_err(|_| parser.complain(head, "the key is not a number"))?;
    let request = parser.message("request", &format!("{name}Request"))?;
    let response = parser.message("response", &format!("{name}Response"))?;
    parser.expect_end()?;
    let same = request.versions == response.versions;
    if !same || request.flexible_from != response.flexible_from {
        return Err(parser.complain(head, "request and response differ in their versions"));
    }
    Ok(Api { key, name: name.to_owned(), module: module_name(path), request, response })
}

fn parse_records(path: &Path, text: &str) -> Result<Records, String> {
    let lines = lines(path, text)?;
    let mut parser = Parser { path, lines: &lines, next: 0 };
    let mut messages = Vec::new();
    while let Some(line) = parser.peek() {
        let (kind, name) = match line.words.as_slice() {
            [kind, name, ..] => (*kind, *name),
            _ => return Err(parser.complain(line, "expected: KIND NAME")),
        };
        if !["coordinator-key", "coordinator-value", "data", "header", "metadata"].contains(&kind) {
            return Err(parser.complain(line, "unknown kind of record"));
        }
        messages.push(parser.message(kind, name)?);
    }
    Ok(Records { module: module_name(path), messages })
}

fn parse_errors(path: &Path, text: &str) -> Result<Vec<ErrorRow>, String> {
    let mut rows = Vec::new();
    for (index, line) in text.lines().enumerate().skip(1) {
        let place = format!("{}:{}", path.display(), index + 1);
        let columns: Vec<&str> = line.split('\t').collect();
        let [code, name, retriable] = columns.as_slice() else {
            return Err(format!("{place}: expected three columns"));
        };
        let code = code.parse().map_err(|_| format!("{place}: the code is not a number"))?;
        let retriable = match *retriable {
            "yes" => true,
            "no" => false,
            _ => return Err(format!("{place}: retriable is yes or no")),
        };
        rows.push(ErrorRow { code, name: (*name).to_owned(), retriable });
    }
    Ok(rows)
}

impl<'a> Parser<'a> {
    fn complain(&self, line: &Line, what: &str) -> String {
        format!("{}:{}: {what}", self.path.display(), line.number)
    }

    fn peek(&self) -> Option<&'a Line<'a>> {
        self.lines.get(self.next)
    }

    /// The next line, which must stand at the left margin and begin with `word`.
    fn head(&mut self, word: &str) -> Result<&'a Line<'a>, String> {
        let Some(line) = self.peek() else {
            return Err(format!("{}: expected `{word}`", self.path.display()));
        };
        if line.depth != 0 || line.words.first() != Some(&word) {
            return Err(self.complain(line, &format!("expected `{word}`")));
        }
        self.next += 1;
        Ok(line)
    }

    fn expect_end(&self) -> Result<(), String> {
        self.peek().map_or(Ok(()), |line| Err(self.complain(line, "expected the end of the file")))
    }

    fn message(&mut self, kind: &str, name: &str) -> Result<Message, String> {
        let head = self.head(kind)?;
        let mut words = head.words.iter().skip(1).copied().peekable();
        let mut message = Message {
            name: name.to_owned(),
            versions: Versions::NONE,
            flexible_from: None,
            latest_unstable: false,
            record_type: None,
            fields: Vec::new(),
            structs: Vec::new(),
        };
        words.next_if_eq(&name);
        while let Some(word) = words.next() {
            match word {
                "type" => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    message.record_type = Some(
                        number.ok_or_else(|| self.complain(head, "the type is not a number"))?,
                    );
                }
                "flexible" => {
                    message.flexible_from = match words.next().and_then(flexible_from) {
                        Some(from) => from,
                        None => return Err(self.complain(head, "flexible: `none` or `N+`")),
                    }
                }
                "latest-unstable" => message.latest_unstable = true,
                range => match versions(range) {
                    Some(range) if range.high != i16::MAX => message.versions = range,
                    _ => return Err(self.complain(head, &format!("not understood: {range}"))),
                },
            }
        }
        if message.versions.is_empty() {
            return Err(self.complain(head, "no versions are given"));
        }
        message.fields = self.fields(1, &mut message.structs)?;
        while let Some(line) = self.peek() {
            let (name, range) = match line.words.as_slice() {
                ["struct", name] => (name, None),
                ["struct", name, range] => (name, Some(*range)),
                _ => break,
            };
            if range.is_some_and(|range| versions(range).is_none()) {
                return Err(self.complain(line, "expected: struct NAME [VERSIONS]"));
            }
            self.next += 1;
            let fields = self.fields(1, &mut message.structs)?;
            message.structs.push(Struct { name: (*name).to_owned(), fields });
        }
        model::check(&message).map_err(|what| self.complain(head, &what))?;
        Ok(message)
    }

    /// The fields at `depth`; the structures that they define in place go to `structs`.
    fn fields(&mut self, depth: usize, structs: &mut Vec<Struct>) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        while let Some(line) = self.peek().filter(|line| line.depth >= depth) {
            if line.depth > depth {
                return Err(self.complain(line, "indented under a field that is no structure"));
            }
            self.next += 1;
            let field = self.field(line)?;
            if self.peek().is_some_and(|inner| inner.depth > depth) {
                let Some(name) = field.ty.struct_name() else { continue };
                let name = name.to_owned();
                let inner = self.fields(depth + 1, structs)?;
                structs.push(Struct { name, fields: inner });
            }
            fields.push(field);
        }
        Ok(fields)
    }

    fn field(&self, line: &Line) -> Result<Field, String> {
        let mut words = line.words.iter().copied().peekable();
        let head = words.next().and_then(|word| word.strip_suffix(':')).zip(words.next());
        let (name, ty) = head.ok_or_else(|| self.complain(line, "expected: NAME: TYPE"))?;
        let nullable = ty.ends_with('?');
        let ty = parse_type(ty.trim_end_matches('?'))
            .ok_or_else(|| self.complain(line, &format!("no such type: {ty}")))?;
        let mut field = Field {
            name: name.to_owned(),
            ty,
            versions: Versions::ALL,
            nullable: if nullable { Versions::ALL } else { Versions::NONE },
            default: None,
            ignorable: false,
            tag: None,
            never_compact: false,
        };
        let mut range_given = false;
        while let Some(word) = words.next() {
            match word {
                "key" => {}
                "ignorable" => field.ignorable = true,
                "entity" => drop(words.next()),
                "=" => field.default = words.next().map(str::to_owned),
                "null" if nullable => match words.next().and_then(versions) {
                    Some(range) => field.nullable = range,
                    None => return Err(self.complain(line, "null: expected versions")),
                },
                "tag" => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    let number = number.ok_or_else(|| self.complain(line, "tag: no number"))?;
                    let range = words.next_if(|word| versions(word).is_some()).and_then(versions);
                    if let Some(range) = range.filter(|_| !range_given) {
                        // Without a range of its own the field exists where it is tagged.
                        field.versions = range;
                    }
                    field.tag = Some(Tag { number, versions: range.unwrap_or(Versions::ALL) });
                }
                "flexible" if words.next() == Some("none") => field.never_compact = true,
                range => match versions(range) {
                    Some(range) => (field.versions, range_given) = (range, true),
                    None => return Err(self.complain(line, &format!("not understood: {word}"))),
                },
            }
        }
        if field.default.as_deref().is_some_and(|text| !default_fits(&field, text)) {
            return Err(self.complain(line, "the default does not fit the type"));
        }
        Ok(field)
    }
}

/// `none` or `N+`.
fn flexible_from(word: &str) -> Option<Option<i16>> {
    match word {
        "none" => Some(None),
        _ => versions(word).filter(|range| range.high == i16::MAX).map(|range| Some(range.low)),
    }
}

/// `N`, `N-M` or `N+`.
fn versions(word: &str) -> Option<Versions> {
    if let Some(low) = word.strip_suffix('+') {
        return Some(Versions { low: low.parse().ok()?, high: i16::MAX });
    }
    let (low, high) = word.split_once('-').unwrap_or((word, word));
    let range = Versions { low: low.parse().ok()?, high: high.parse().ok()? };
    (0 <= range.low && range.low <= range.high).then_some(range)
}

fn parse_type(word: &str) -> Option<Type> {
    Some(match word {
        "bool" => Type::Bool,
        "i8" => Type::I8,
        "i16" => Type::I16,
        "u16" => Type::U16,
        "i32" => Type::I32,
        "u32" => Type::U32,
        "i64" => Type::I64,
        "f64" => Type::F64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        _ => match word.strip_prefix('[').and_then(|word| word.strip_suffix(']')) {
            Some(element) => match parse_type(element)? {
                Type::Array(_) => return None,
                element => Type::Array(Box::new(element)),
            },
            None if word.starts_with(|c: char| c.is_ascii_uppercase()) => {
                Type::Struct(word.to_owned())
            }
            None => return None,
        },
    })
}

fn default_fits(field: &Field, text: &str) -> bool {
    if text == "null" {
        return field.is_option();
    }
    match field.ty {
        Type::Bool => text == "true" || text == "false",
        Type::I8 => integer(text).is_some_and(|n| i8::try_from(n).is_ok()),
        Type::I16 => integer(text).is_some_and(|n| i16::try_from(n).is_ok()),
        Type::U16 => integer(text).is_some_and(|n| u16::try_from(n).is_ok()),
        Type::I32 => integer(text).is_some_and(|n| i32::try_from(n).is_ok()),
        Type::U32 => integer(text).is_some_and(|n| u32::try_from(n).is_ok()),
        Type::I64 => integer(text).is_some(),
        Type::F64 => text.parse::<f64>().is_ok(),
        Type::String => text.len() >= 2 && text.starts_with('"') && text.ends_with('"'),
        _ => false,
    }
}

/// A whole number, decimal or with `0x`.
pub fn integer(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
