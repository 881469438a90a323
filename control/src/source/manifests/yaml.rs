//! YAML documents as trees that know where each value stands.
//!
//! A file is split at its document markers first, so that a syntax error costs one document and not the file: YAML
//! allows no marker at the start of a line inside any value.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};

/// A value with its position.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    /// Keys with their positions, in the order they are written.
    Map(Vec<(String, Position, Node)>),
}

/// Line and column in the file, from 1; line 0 is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// Why a document is no YAML.
#[derive(Clone, Debug)]
pub(super) struct SyntaxError {
    pub(super) at: Position,
    pub(super) message: String,
}

/// The documents of a file: each with the number of lines before it.
pub(super) fn split(text: &str) -> Vec<(u64, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line) = (0, 0);
    let mut offset = 0;
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((first_line, &text[start..offset]));
            // What follows the marker on its line belongs to the new document.
            (start, first_line) = if rest.is_some_and(|rest| rest.trim().is_empty()) {
                (offset + line.len(), number + 1)
            } else {
                (offset, number)
            };
        }
        offset += line.len();
    }
    documents.push((first_line, &text[start..]));
    documents.retain(|(_, document)| !is_blank(document));
    documents
}

/// Only comments and directives.
fn is_blank(document: &str) -> bool {
    document.lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line.starts_with('%')
    })
}

/// Reads one document that stands after `lines_before` lines.
pub(super) fn parse(lines_before: u64, document: &str) -> Result<Node, SyntaxError> {
    // A cluster's whole export is one List: limits against hostile documents would only hit honest ones here.
    let budget = serde_saphyr::budget! {
        max_nodes: usize::MAX,
        max_events: usize::MAX,
        max_total_scalar_bytes: usize::MAX,
    };
    let options = serde_saphyr::options! { budget: budget, with_snippet: false };
    let parsed: Result<Spanned<Raw>, _> = serde_saphyr::from_str_with_options(document, options);
    match parsed {
        Ok(raw) => Ok(node(raw, lines_before)),
        Err(error) => Err(SyntaxError {
            at: error.location().map_or(Position { line: lines_before + 1, column: 1 }, |at| {
                Position::new(at, lines_before)
            }),
            message: message(&error),
        }),
    }
}

/// The first line of an error's text, without the position, which is given apart.
fn message(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" at line ").next().unwrap_or(line);
    format!("not valid YAML: {line}")
}

impl Position {
    fn new(location: Location, lines_before: u64) -> Self {
        Self { line: lines_before + location.line(), column: location.column() }
    }
}

impl Node {
    /// A field of a map.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|(_, _, node)| node)
    }

    /// Takes the items out of a list.
    pub(super) fn take_list(&mut self, key: &str) -> Vec<Self> {
        let Content::Map(entries) = &mut self.content else { return Vec::new() };
        match entries.iter_mut().find(|(name, _, _)| name == key) {
            Some((_, _, Self { content: Content::List(items), .. })) => std::mem::take(items),
            _ => Vec::new(),
        }
    }

    /// The text of a field.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Position of the field at `path` (as in `spec.ports[0].port`), or of the deepest one on the way that exists.
    pub(super) fn find(&self, path: &str) -> Position {
        let mut node = self;
        let mut at = self.at;
        for step in path.split(['.', '[']) {
            let next = match step.strip_suffix(']') {
                Some(index) => {
                    index.parse().ok().and_then(|i: usize| node.item(i)).map(|n| (n.at, n))
                }
                None => node.entry(step).map(|(_, at, node)| (*at, node)),
            };
            let Some((found, child)) = next else { break };
            (at, node) = (found, child);
        }
        at
    }

    /// The same without positions.
    pub(super) fn json(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::json).collect(),
            Content::Map(entries) => {
                entries.iter().map(|(key, _, node)| (key.clone(), node.json())).collect()
            }
        }
    }

    fn entry(&self, key: &str) -> Option<&(String, Position, Self)> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|(name, _, _)| name == key)
    }

    fn item(&self, index: usize) -> Option<&Self> {
        let Content::List(items) = &self.content else { return None };
        items.get(index)
    }
}

/// What the deserializer delivers: positions within the document.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

fn node(raw: Spanned<Raw>, lines_before: u64) -> Node {
    let at = |location| Position::new(location, lines_before);
    let content = match raw.value {
        Raw::Scalar(value) => Content::Scalar(value),
        Raw::List(items) => {
            Content::List(items.into_iter().map(|item| node(item, lines_before)).collect())
        }
        Raw::Map(entries) => Content::Map(
            entries
                .into_iter()
                .map(|(key, value)| (key.value, at(key.referenced), node(value, lines_before)))
                .collect(),
        ),
    };
    Node { at: at(raw.referenced), content }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(line: u64, column: u64) -> Position {
        Position { line, column }
    }

    #[test]
    fn documents_know_their_lines() {
        let text = "# only a comment\n---\na: 1\n---\n\nb:\n  - c: 2\n    d: x\n...\n--- \ne: |\n  ----\n  f\n";
        let documents = split(text);
        assert_eq!(documents.len(), 3);
        let second = parse(documents[1].0, documents[1].1).expect("valid");
        assert_eq!(second.find("b"), position(6, 1));
        assert_eq!(second.find("b[0].d"), position(8, 5));
        assert_eq!(second.find("b[0].nothing.here"), position(7, 5), "the deepest that exists");
        assert_eq!(second.json(), serde_json::json!({"b": [{"c": 2, "d": "x"}]}));
        let third = parse(documents[2].0, documents[2].1).expect("valid");
        assert_eq!(third.json(), serde_json::json!({"e": "----\nf\n"}));
    }

    #[test]
    fn a_value_may_follow_the_marker() {
        let documents = split("--- {a: 1}\n--- # comment\nb: 2\n");
        let values: Vec<Value> =
            documents.iter().map(|(n, text)| parse(*n, text).expect("valid").json()).collect();
        assert_eq!(values, [serde_json::json!({"a": 1}), serde_json::json!({"b": 2})]);
    }

    #[test]
    fn syntax_errors_know_their_place() {
        for (text, line) in [("a: 1\nb: [1\n", 2), ("a: 1\n\tb: 2\n", 1), ("a: 1\na: 2\n", 2)] {
            let error = parse(10, text).expect_err("invalid");
            assert!((10 + line..=10 + line + 1).contains(&error.at.line), "{text:?}: {error:?}");
            assert!(error.message.starts_with("not valid YAML: "), "{error:?}");
        }
    }

    #[test]
    fn json_is_yaml_even_with_tabs() {
        let node =
            parse(0, "{\n\t\"a\": {\n\t\t\"b\": [1, \"x/\\u00e9\"]\n\t}\n}\n").expect("valid");
        assert_eq!(node.json(), serde_json::json!({"a": {"b": [1, "x/é"]}}));
    }

    #[test]
    fn anchors_and_merge_keys_are_expanded() {
        let node = parse(0, "a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n").expect("valid");
        assert_eq!(
            node.json(),
            serde_json::json!({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1, "y": 2}})
        );
    }
}
