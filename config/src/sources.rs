//! The tree of settings before it is typed: values by path, each with the source that set it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    error::{KeyError, Source},
    secret::MASK,
};

/// Values that were set, and by what. A later source overwrites an earlier one key by key; lists are replaced whole.
#[derive(Default)]
pub(crate) struct Sources {
    tree: Map<String, Value>,
    set_by: BTreeMap<String, Source>,
}

impl Sources {
    /// Lays `values` over what is there. A null (a section whose keys are all commented out) sets nothing.
    pub(crate) fn overlay(&mut self, values: Map<String, Value>, source: &Source) {
        overlay(&mut self.tree, values, "", source, &mut self.set_by);
    }

    /// Lays one value at `path` over what is there.
    pub(crate) fn set(&mut self, path: &[&str], value: Value, source: &Source) {
        let tree = path.iter().rev().fold(value, |inner, key| Value::Object(Map::from_iter([(key.to_string(), inner)])));
        if let Value::Object(tree) = tree {
            self.overlay(tree, source);
        }
    }

    /// The tree, to be typed.
    pub(crate) fn tree(&self) -> Value {
        Value::Object(self.tree.clone())
    }

    /// What set `key`, or the nearest thing above or below it.
    pub(crate) fn source(&self, key: &str) -> Source {
        let mut path = key;
        loop {
            let below = format!("{path}.");
            let found = self.set_by.get(path);
            let found = found.or_else(|| self.set_by.iter().find(|(k, _)| k.starts_with(&below)).map(|(_, s)| s));
            match (found, path.rfind(['.', '['])) {
                (Some(source), _) => return source.clone(),
                (None, Some(end)) => path = &path[..end],
                (None, None) => return Source::Default,
            }
        }
    }

    /// The error for what serde refused at `key`, with its message taken apart.
    pub(crate) fn error(&self, key: &str, message: &str) -> Box<KeyError> {
        let source_of_value = self.source(key);
        let (found, allowed) = if message.starts_with("unknown field") {
            ("a key that does not exist".to_owned(), format!("a key {}", after_expected(message)))
        } else {
            (self.found(key), after_expected(message).to_owned())
        };
        Box::new(KeyError { key: key.into(), found, allowed, source_of_value })
    }

    fn found(&self, key: &str) -> String {
        if key.contains("secret") {
            return MASK.into();
        }
        let pointer = format!("/{}", key.replace(['.', '['], "/").replace(']', ""));
        match self.tree().pointer(&pointer) {
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
            None => "nothing".into(),
        }
    }
}

fn overlay(
    tree: &mut Map<String, Value>,
    values: Map<String, Value>,
    prefix: &str,
    source: &Source,
    set_by: &mut BTreeMap<String, Source>,
) {
    for (key, value) in values {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (tree.get_mut(&key), value) {
            (_, Value::Null) => {}
            (Some(Value::Object(inner)), Value::Object(values)) => overlay(inner, values, &path, source, set_by),
            (_, Value::Object(values)) => {
                let mut inner = Map::new();
                overlay(&mut inner, values, &path, source, set_by);
                tree.insert(key, Value::Object(inner));
            }
            (_, value) => {
                set_by.insert(path, source.clone());
                tree.insert(key, value);
            }
        }
    }
}

/// `unknown field x, expected one of y, z` and `invalid type: x, expected y` alike: what stands after "expected", in the
/// words of the file and not of the program.
fn after_expected(message: &str) -> &str {
    match message.split_once("expected ").map_or(message, |(_, allowed)| allowed) {
        "u32" => "a whole number, 0 to 4294967295",
        "u64" => "a whole number, at least 0",
        "a sequence" => "a list",
        allowed if allowed.starts_with("struct ") => "a section with keys of its own",
        allowed => allowed,
    }
}
