//! Stories as text: a file of commands with what they print, in the manner of CockroachDB's
//! datadriven tests.
//!
//! A story is a list of steps, with an empty line between two. A step is a command, perhaps with
//! more lines of input, then a line of four dashes, then what the command prints. Lines that begin
//! with `#` before a command are comments. With `UPDATE=1` in the environment the files are written
//! anew with what the commands print now.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const SEPARATOR: &str = "----";

/// One command of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The comments and empty lines before it, as they are.
    before: String,
    /// The words of the first line.
    pub words: Vec<String>,
    /// The lines up to the separator, the first included.
    lines: Vec<String>,
    /// What it is to print, with a line feed behind each line.
    expected: String,
    /// The line of the file that it begins on, from 1.
    line: usize,
}

impl Step {
    /// A command that stands in no file.
    pub fn of(words: Vec<String>) -> Self {
        let lines = vec![words.join(" ")];
        Self { before: String::new(), words, lines, expected: String::new(), line: 0 }
    }

    /// The lines of input behind the first.
    pub fn input(&self) -> &[String] {
        self.lines.get(1..).unwrap_or_default()
    }

    /// The value of the word `name=value`, if there is one.
    pub fn value(&self, name: &str) -> Option<&str> {
        value_in(&self.words, name)
    }
}

/// The value of the word `name=value` among words.
pub fn value_in<'a>(words: &'a [String], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The words of a line.
pub fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Tells every story of a folder, in the order of the names, each to a new `state`; `run` carries
/// out a step and returns what it prints. Panics at the first step that prints something else.
pub fn tell_all<S>(folder: &Path, state: impl Fn() -> S, run: impl Fn(&mut S, &Step) -> String) {
    let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let files = files.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = files.collect::<Result<_, _>>().unwrap_or_default();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    assert!(!files.is_empty(), "no stories in {folder:?}");
    for file in files {
        tell(&file, &mut state(), &run);
    }
}

fn tell<S>(file: &Path, state: &mut S, run: impl Fn(&mut S, &Step) -> String) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let update = std::env::var_os("UPDATE").is_some_and(|value| value == "1");
    let (steps, rest) = parse(&text);
    let mut updated = String::new();
    for step in steps {
        let mut actual = run(state, &step);
        if !actual.is_empty() && !actual.ends_with('\n') {
            actual.push('\n');
        }
        if update {
            let lines = step.lines.join("\n");
            let _ = write!(updated, "{}{lines}\n{SEPARATOR}\n{actual}", step.before);
        } else {
            assert!(
                actual == step.expected,
                "{}:{}: {}\nexpected:\n{}\nbut it printed:\n{actual}",
                file.display(),
                step.line,
                step.lines.join("\n"),
                step.expected,
            );
        }
    }
    updated.push_str(&rest);
    if update && updated != text {
        std::fs::write(file, updated).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    }
}

/// The steps of a story, and what stands behind the last.
fn parse(text: &str) -> (Vec<Step>, String) {
    let mut steps = Vec::new();
    let mut before = String::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            before.push_str(line);
            before.push('\n');
            continue;
        }
        let mut command = vec![line.to_owned()];
        for (_, line) in lines.by_ref() {
            if line == SEPARATOR {
                break;
            }
            command.push(line.to_owned());
        }
        let mut expected = String::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| !line.is_empty()) {
            expected.push_str(line);
            expected.push('\n');
        }
        steps.push(Step {
            before: std::mem::take(&mut before),
            words: words(line),
            lines: command,
            expected,
            line: number + 1,
        });
    }
    (steps, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story_is_taken_apart() {
        let text = "# one\nadd 1 to=2\nmore\n----\n3\n4\n\n# two\nnothing\n----\n\n# end\n";
        let (steps, rest) = parse(text);
        let [one, two] = &steps[..] else { panic!("{steps:?}") };
        assert_eq!((one.words.len(), one.value("to"), one.line), (3, Some("2"), 2));
        assert_eq!((one.input(), &*one.expected), (&["more".to_owned()][..], "3\n4\n"));
        assert_eq!((&*two.before, &*two.expected), ("\n# two\n", ""));
        assert_eq!(rest, "\n# end\n");
    }
}
