//! The house rules that no compiler knows: sizes, the order of modules and crates, one file for an
//! API, words that must not stand here. One level for everybody: there is no list of exceptions.
//!
//! A rule that fails prints each place as `file:line: what is wrong`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest file, in lines without its tests.
const FILE_LINES_MAX: usize = 800;
/// The longest function body, in lines of code (comments and blank lines do not count).
const FUNCTION_LINES_MAX: usize = 70;
/// The widest line of Rust, in characters.
const COLUMNS_MAX: usize = 100;

/// What stands at the top of the repository, beside files whose names begin with a dot.
const TOP_LEVEL: [&str; 10] = [
    "broker",
    "common",
    "coordinator",
    "deploy",
    "tests",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
];

/// Which crates a crate may use, tests included.
const CRATES: [(&str, &[&str]); 5] = [
    ("common", &[]),
    ("coordinator", &["ottla-common"]),
    ("broker", &["ottla-common"]),
    ("deploy/cli", &["ottla-common", "ottla-coordinator", "ottla-broker"]),
    ("tests", &["ottla-common", "ottla-coordinator", "ottla-broker", "ottla"]),
];

/// The modules of a crate with those directly below each. A module may use what can be reached.
type Order = &'static [(&'static str, &'static [&'static str])];

const COMMON: Order = &[
    ("types", &[]),
    ("clock", &["types"]),
    ("config", &["clock"]),
    ("telemetry", &["config"]),
    ("metrics", &["telemetry"]),
    ("shutdown", &["metrics"]),
    ("open_files", &["shutdown"]),
    ("net", &["open_files"]),
    ("http", &["net"]),
    ("kafka", &["net"]),
    ("coordination", &["net"]),
    ("cluster_tree", &["kafka", "coordination"]),
];

const COORDINATOR: Order = &[
    ("limits", &[]),
    ("seeded_bugs", &["limits"]),
    ("error", &["seeded_bugs"]),
    ("config", &["error"]),
    ("metrics", &["config"]),
    ("tree", &["metrics"]),
    ("sessions", &["tree"]),
    ("storage", &["sessions"]),
    ("zoo_cfg", &["storage"]),
    ("watches", &["zoo_cfg"]),
    ("consensus", &["watches"]),
    ("requests", &["consensus", "zoo_cfg"]),
    ("frontends", &["requests"]),
    ("server", &["frontends"]),
];

const BROKER: Order = &[
    ("limits", &[]),
    ("config", &["limits"]),
    ("metrics", &["config"]),
    ("network", &["metrics"]),
    ("storage", &["metrics"]),
    ("error", &["storage"]),
    ("metadata", &["error"]),
    ("security", &["metadata"]),
    ("quotas", &["security"]),
    ("replication", &["storage", "quotas"]),
    ("internal_topics", &["replication"]),
    ("controller", &["metadata"]),
    ("groups", &["internal_topics"]),
    ("transactions", &["internal_topics", "controller"]),
    ("telemetry", &["metadata"]),
    ("handlers", &["network", "groups", "transactions", "controller", "telemetry"]),
    ("monitoring", &["handlers"]),
    ("broker", &["monitoring"]),
];

const CLI: Order = &[
    ("output", &[]),
    ("context", &["output"]),
    ("commands", &["context"]),
    ("kafka_tools", &["commands"]),
];

const MODULES: [(&str, Order); 4] = [
    ("common/src/", COMMON),
    ("coordinator/src/", COORDINATOR),
    ("broker/src/", BROKER),
    ("deploy/cli/src/", CLI),
];

/// Words that must not stand in a file, each with what to do instead. They are put together here so
/// that this file does not hold them.
const BANNED: [(&str, &str); 13] = [
    (concat!("todo", "!("), "finish it, or make it an error that says so"),
    (concat!("unimplemented", "!("), "finish it, or make it an error that says so"),
    (concat!("dbg", "!("), "use tracing"),
    (concat!("FIX", "ME"), "mend it"),
    (concat!("XX", "X:"), "mend it"),
    (concat!("allow(clippy::too_many", "_lines)"), "split the function"),
    (concat!("allow(clippy::too_many", "_arguments)"), "make it a struct"),
    (concat!("#[ig", "nore"), "a test runs, or it is not there"),
    (concat!("mod ut", "ils"), "name it after its subject"),
    (concat!("../sha", "red"), "copy what is needed: a reader does not have it"),
    (concat!("/wor", "k/"), "no paths of one machine"),
    (concat!("/ho", "me/"), "no paths of one machine"),
    (concat!("/ro", "ot/"), "no paths of one machine"),
];

/// The files whose words are checked: what people write and read.
const WORDY: [&str; 6] = ["rs", "md", "toml", "sh", "py", "properties"];

#[test]
fn the_top_level_holds_the_five_folders_and_what_every_project_has() {
    let mut problems = Vec::new();
    for path in repository_files() {
        let first = path.split('/').next().unwrap_or_default();
        if !first.starts_with('.') && !TOP_LEVEL.contains(&first) {
            problems.push(format!("{path}: put it into one of the five folders"));
        }
    }
    report(problems);
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut problems = Vec::new();
    for source in sources() {
        let Source { path, text, code, product, is_test } = &source;
        let lines = product.lines().zip(text.lines()).filter(|(line, _)| *line != CUT).count();
        if !is_test && lines > FILE_LINES_MAX {
            problems.push(format!("{path}: {lines} lines without tests, {FILE_LINES_MAX} at most"));
        }
        for (line, name, length) in functions(code) {
            if length > FUNCTION_LINES_MAX {
                let at_most = FUNCTION_LINES_MAX;
                problems.push(format!(
                    "{path}:{line}: fn {name} has {length} lines, {at_most} at most"
                ));
            }
        }
        for (number, line) in (1..).zip(text.lines()) {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX {
                problems.push(format!("{path}:{number}: {columns} columns, {COLUMNS_MAX} at most"));
            }
        }
    }
    report(problems);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut problems = Vec::new();
    for path in repository_files() {
        let opening = match extension(&path) {
            "rs" => "//! ",
            "md" => "# ",
            _ => continue,
        };
        let text = read(&path);
        let says = text.strip_prefix(opening).is_some_and(|rest| !rest.starts_with(['\n', ' ']));
        if !says {
            problems.push(format!("{path}:1: begin with {opening:?} and what it is for"));
        }
    }
    report(problems);
}

#[test]
fn no_unfinished_work_and_no_paths_of_one_machine() {
    let mut problems = Vec::new();
    for path in repository_files().iter().filter(|path| WORDY.contains(&extension(path))) {
        for (number, line) in (1..).zip(read(path).lines()) {
            for (word, instead) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
                problems.push(format!("{path}:{number}: {word:?}: {instead}"));
            }
        }
    }
    report(problems);
}

#[test]
fn crates_use_only_those_below_them() {
    let mut problems = Vec::new();
    for (folder, allowed) in CRATES {
        let path = format!("{folder}/Cargo.toml");
        for (number, line) in (1..).zip(read(&path).lines()) {
            let name: String = line.chars().take_while(|c| !" .=".contains(*c)).collect();
            let ours = line.contains('=') && (name == "ottla" || name.starts_with("ottla-"));
            if ours && !allowed.contains(&name.as_str()) {
                problems.push(format!("{path}:{number}: {folder} must not use {name}"));
            }
        }
    }
    report(problems);
}

#[test]
fn modules_use_only_those_below_them() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test) {
        let Some((prefix, order)) = MODULES.iter().find(|(p, _)| source.path.starts_with(p)) else {
            continue;
        };
        let inside = &source.path[prefix.len()..];
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        if module == "lib" || module == "main" {
            continue;
        }
        let Some(below) = reachable(order, module) else {
            problems.push(format!("{}: give {module} its place in tests/tidy.rs", source.path));
            continue;
        };
        let depth = inside.matches('/').count() + usize::from(!inside.ends_with("/mod.rs"));
        for (line, used) in used_modules(&source.product, depth) {
            let known = order.iter().any(|(name, _)| *name == used);
            if known && used != module && !below.contains(used.as_str()) {
                problems.push(format!("{}:{line}: {module} must not use {used}", source.path));
            }
        }
    }
    report(problems);
}

#[test]
fn every_handler_stands_in_the_table_and_is_named_by_its_api() {
    let folder = "broker/src/handlers/";
    let files = repository_files();
    let handlers: BTreeSet<String> = files
        .iter()
        .filter_map(|path| path.strip_prefix(folder)?.strip_suffix(".rs"))
        .filter(|name| !name.contains('/'))
        .filter(|name| code_of(&format!("{folder}{name}.rs")).contains("fn handle("))
        .map(str::to_owned)
        .collect();
    let table = format!("{folder}mod.rs");
    if !files.contains(&table) {
        return;
    }
    let apis: BTreeSet<&str> = files
        .iter()
        .filter_map(|path| path.strip_prefix("common/schema/api/")?.strip_suffix(".api"))
        .filter_map(|name| Some(name.split_once('_')?.1))
        .collect();
    let code = code_of(&table);
    let listed: BTreeSet<String> =
        words(&code).filter(|(_, before, _)| !before.ends_with("mod")).map(|(w, ..)| w).collect();
    let mut problems = Vec::new();
    for name in &handlers {
        if !listed.contains(name) {
            problems.push(format!("{folder}{name}.rs: is not in the table of {table}"));
        }
        if !apis.contains(name.as_str()) {
            problems.push(format!("{folder}{name}.rs: no API in common/schema/api has this name"));
        }
    }
    for name in listed.iter().filter(|name| apis.contains(name.as_str())) {
        if !handlers.contains(name) {
            problems.push(format!("{table}: {name} has no file of its own"));
        }
    }
    report(problems);
}

#[test]
fn the_scanner_sees_code_and_nothing_else() {
    let text = "fn a() { // {\n let s = \"}\\\"{\"; let c = '{'; let l: &'static str = r#\"}\"#;\n\
        }\n/* fn b() { /* } */ */ fn c<'a>(x: &'a str) -> &'a str;\n\
        #[cfg(test)]\nmod tests {\n fn d() {\n\n  let x = 1;\n }\n}\nfn e() {}\n";
    let code = blank(text);
    let names: Vec<_> = functions(&code).into_iter().map(|(line, name, _)| (line, name)).collect();
    let expect = [(1, "a"), (7, "d"), (12, "e")].map(|(line, name)| (line, name.to_owned()));
    assert_eq!(names, expect);
    let product = cut_tests(&code);
    assert_eq!(product.lines().filter(|line| *line == CUT).count(), 7);
    assert!(product.contains("fn e()") && !product.contains("fn d()"));
    let used = used_modules("use crate::{a, b::{c, d}, e as f};\nx(crate::g::h); super::i();", 1);
    let used: Vec<&str> = used.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(used, ["a", "b", "e", "g", "i"]);
}

/// A Rust file.
struct Source {
    path: String,
    text: String,
    /// The text with comments and the insides of literals blanked out; lines as in the text.
    code: String,
    /// The code without its test modules, whose lines are [`CUT`].
    product: String,
    /// Whether the whole file is a test.
    is_test: bool,
}

/// Stands for a line of a test module.
const CUT: &str = "\u{0}";

fn sources() -> Vec<Source> {
    let paths = repository_files().into_iter().filter(|path| extension(path) == "rs");
    paths
        .map(|path| {
            let text = read(&path);
            let code = blank(&text);
            let product = cut_tests(&code);
            let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
            Source { path, text, code, product, is_test }
        })
        .collect()
}

fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "{} broken:\n{}", problems.len(), problems.join("\n"));
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map(Path::to_owned).unwrap_or_default()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("read {path}: {error}"))
}

fn code_of(path: &str) -> String {
    blank(&read(path))
}

fn extension(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(_, extension)| extension)
}

/// The files of the repository, those that are not committed yet too; all files if there is no git.
fn repository_files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut files: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        _ => walk(&root(), ""),
    };
    files.retain(|path| root().join(path).is_file());
    files.sort();
    files.dedup();
    files
}

fn walk(folder: &Path, prefix: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let skipped = ["target", "ottla-data", ".git"].contains(&name.as_str());
        let path = format!("{prefix}{name}");
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !skipped => {
                files.extend(walk(&entry.path(), &format!("{path}/")));
            }
            Ok(kind) if kind.is_file() => files.push(path),
            _ => {}
        }
    }
    files
}

/// Blanks comments with spaces and fills the insides of literals with quotation marks.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, filler) = literal_or_comment(&chars, at);
        for c in &chars[at..end] {
            code.push(if *c == '\n' { '\n' } else { filler.unwrap_or(*c) });
        }
        at = end;
    }
    code
}

/// Where what begins at `at` ends, and what it is filled with if it is a comment or a literal.
fn literal_or_comment(chars: &[char], at: usize) -> (usize, Option<char>) {
    let rest = &chars[at..];
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match rest {
        ['/', '/', ..] => (at + until(rest, |window| window[0] == '\n'), Some(' ')),
        ['/', '*', ..] => (at + block_comment(rest), Some(' ')),
        ['r', '"' | '#', ..] if !in_word => {
            raw_string(rest, 1).map_or((at + 1, None), |end| (at + end, Some('"')))
        }
        ['b' | 'c', 'r', '"' | '#', ..] if !in_word => {
            raw_string(rest, 2).map_or((at + 1, None), |end| (at + end, Some('"')))
        }
        ['"', ..] => (at + quoted(rest, '"'), Some('"')),
        ['\'', '\\', ..] => (at + quoted(rest, '\''), Some('"')),
        ['\'', _, '\'', ..] => (at + 3, Some('"')),
        _ => (at + 1, None),
    }
}

fn until(rest: &[char], ends: impl Fn(&[char]) -> bool) -> usize {
    (0..rest.len()).find(|index| ends(&rest[*index..])).unwrap_or(rest.len())
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of a raw string whose number signs begin at `start`, if it is one.
fn raw_string(rest: &[char], start: usize) -> Option<usize> {
    let signs = rest[start..].iter().take_while(|c| **c == '#').count();
    let open = start + signs;
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let closes = |window: &[char]| {
        window[0] == '"' && window.len() > signs && window[1..=signs].iter().all(|c| *c == '#')
    };
    Some((open + 1 + until(&rest[open + 1..], closes) + 1 + signs).min(rest.len()))
}

fn quoted(rest: &[char], mark: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != mark {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Replaces the lines of inline test modules with [`CUT`].
fn cut_tests(code: &str) -> String {
    let lines: Vec<&str> = code.lines().collect();
    let mut kept = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let is_test = lines[at].trim_start().starts_with("#[cfg(test)]");
        let body = (at..lines.len().min(at + 4)).find(|line| lines[*line].contains("mod "));
        match body.filter(|line| is_test && lines[*line].trim_end().ends_with('{')) {
            Some(body) => {
                let mut depth = 0_i64;
                let end = (body..lines.len()).find(|line| {
                    depth += braces(lines[*line]);
                    depth <= 0
                });
                let end = end.unwrap_or(lines.len() - 1);
                kept.extend((at..=end).map(|_| CUT));
                at = end + 1;
            }
            None => {
                kept.push(lines[at]);
                at += 1;
            }
        }
    }
    kept.join("\n")
}

fn braces(line: &str) -> i64 {
    line.chars().fold(0, |depth, c| match c {
        '{' => depth + 1,
        '}' => depth - 1,
        _ => depth,
    })
}

/// Every function with a body: its line, its name, and its lines of code.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    for (name, before, after) in words(code) {
        if !before.ends_with("fn") || name == "fn" {
            continue;
        }
        let rest = &code[after..];
        let mut nested = 0_i64;
        let open = rest.char_indices().find(|(_, c)| {
            nested += i64::from("([".contains(*c)) - i64::from(")]".contains(*c));
            nested == 0 && "{;".contains(*c)
        });
        let Some((open, '{')) = open else { continue };
        let mut depth = 0_i64;
        let body = rest[open..].char_indices().find(|(_, c)| {
            depth += i64::from(*c == '{') - i64::from(*c == '}');
            depth == 0
        });
        let end = body.map_or(rest.len(), |(end, _)| open + end);
        let lines = rest[open + 1..end].lines().filter(|line| !line.trim().is_empty()).count();
        let line = code[..after].lines().count();
        found.push((line, name, lines));
    }
    found
}

/// Every word with the trimmed text just before it (a few characters) and the byte behind it.
fn words(code: &str) -> impl Iterator<Item = (String, &str, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_word)?;
        let length = code[start..].find(|c| !is_word(c)).unwrap_or(code.len() - start);
        at = start + length;
        let mut from = start.saturating_sub(8);
        while !code.is_char_boundary(from) {
            from -= 1;
        }
        let before = code[from..start].trim_end();
        Some((code[start..at].to_owned(), before, at))
    })
}

/// The modules of the crate that code names by `crate::` or by enough of `super::`, with the line.
fn used_modules(code: &str, depth: usize) -> Vec<(usize, String)> {
    let climb = "super::".repeat(depth);
    let mut used = Vec::new();
    for root in ["crate::", climb.as_str()] {
        for (at, _) in code.match_indices(root) {
            if code[..at].ends_with("super::") {
                continue;
            }
            let line = code[..at].matches('\n').count() + 1;
            let rest = code[at + root.len()..].trim_start();
            used.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
    }
    used
}

/// The first word, or the first words of each part of a list in braces.
fn first_names(rest: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(list) = rest.strip_prefix('{') else { return vec![word(rest)] };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(word(&list[start..at]));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names
}

/// All modules below one, if it is in the order.
fn reachable(order: Order, module: &str) -> Option<BTreeSet<&'static str>> {
    let directly: BTreeMap<_, _> = order.iter().copied().collect();
    let mut waiting: Vec<&'static str> = directly.get(module)?.to_vec();
    let mut reached = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if reached.insert(name) {
            waiting.extend(directly.get(name).copied().unwrap_or_default());
        }
    }
    Some(reached)
}
