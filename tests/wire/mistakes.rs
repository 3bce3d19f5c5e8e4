//! What the build says to whoever makes a mistake in a schema file.

use std::path::Path;

use crate::Wire;
use crate::parse::parse_api;

/// A mistake in line 3 of a schema of one field, and what must be said of it.
const MISTAKES: [(&str, &str); 15] = [
    ("  name string", "3: expected: NAME: TYPE"),
    ("  name: strng", "3: no such type: strng"),
    ("  name: string  3++", "3: not understood: 3++"),
    ("  name: string  5-3", "3: not understood: 5-3"),
    ("  name: string  igorable", "3: not understood: igorable"),
    ("  name: string  null 1+", "3: not understood: null"),
    ("  name: string  tag", "3: tag: no number"),
    ("  count: i8  = 128", "3: the default does not fit the type"),
    ("  name: string  = null", "3: the default does not fit the type"),
    (" name: string", "3: indent by steps of two spaces"),
    ("  name: string\n    inner: i8", "4: indented under a field that is no structure"),
    ("  parts: [Part]", "2: PingRequest.parts: no structure is named Part"),
    ("  parts: [Part]  0-1\n    part: i8  1+", "2: PingRequest.parts: an element of no bytes"),
    ("  part: Part\n    part: Part", "2: PingRequest.Part.part: Part holds itself"),
    (
        "  name: string  0+  tag 0 0+",
        "2: PingRequest.name: tagged where the message is not flexible",
    ),
];

/// Each mistake is reported with the file and the line.
pub fn mistakes_are_placed(_: &Wire) -> String {
    for (mistake, complaint) in MISTAKES {
        let text = format!("api 99 Ping\nrequest 0-3  flexible 2+\n{mistake}\nresponse 0-3\n");
        let said = parse_api(Path::new("99_ping.api"), &text).map(|_| ());
        assert_eq!(said, Err(format!("99_ping.api:{complaint}")), "{mistake}");
    }
    let text = "api 99 Ping\nrequest 0-3\nresponse 0-2\n";
    let said = parse_api(Path::new("99_ping.api"), text).map(|_| ());
    let differ = "99_ping.api:1: request and response differ in their versions";
    assert_eq!(said, Err(differ.to_owned()));
    format!("{} mistakes", MISTAKES.len() + 1)
}
