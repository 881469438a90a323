//! Label and field selectors: `a=b`, `a!=b`, `a`, `!a`, joined by commas.

use serde_json::Value;

/// What a list or watch is limited to.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector(Vec<Term>);

#[derive(Clone, Debug)]
struct Term {
    /// From the object to the value.
    path: Vec<String>,
    /// The value, or any value at all.
    wanted: Option<String>,
    negated: bool,
}

impl Selector {
    pub(super) fn labels(&mut self, text: &str) {
        self.add(text, |key| vec!["metadata".into(), "labels".into(), key.into()]);
    }

    pub(super) fn fields(&mut self, text: &str) {
        self.add(text, |key| key.split('.').map(Into::into).collect());
    }

    fn add(&mut self, text: &str, path: impl Fn(&str) -> Vec<String>) {
        for term in text.split(',').filter(|term| !term.is_empty()) {
            let equal = || term.split_once("==").or_else(|| term.split_once('='));
            let (key, wanted, negated) = match (term.split_once("!="), equal()) {
                (Some((key, value)), _) => (key, Some(value), true),
                (None, Some((key, value))) => (key, Some(value), false),
                (None, None) => (term.trim_start_matches('!'), None, term.starts_with('!')),
            };
            self.0.push(Term { path: path(key), wanted: wanted.map(Into::into), negated });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn fits(&self, object: &Value) -> bool {
        self.0.iter().all(|term| {
            let value = term.path.iter().try_fold(object, |value, key| value.get(key));
            let value = value.and_then(Value::as_str);
            let there = match &term.wanted {
                Some(wanted) => value.unwrap_or_default() == wanted,
                None => value.is_some(),
            };
            there != term.negated
        })
    }
}
