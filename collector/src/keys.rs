//! From an attribute's key to its column.

use std::sync::LazyLock;

use hashbrown::HashMap;
use meshlake_storage::{ATTRIBUTE_COLUMNS, Form, Scope, Value, same_text};

/// The columns of mesh identity stand first; the tags that may stand in them are kept until the identity is known.
pub(crate) const TAGS: usize = 5;

/// Where the values of one attribute key may stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// Position in [`ATTRIBUTE_COLUMNS`].
    pub column: usize,
    text: Option<u8>,
    int: Option<u8>,
    decimal: Option<u8>,
}

/// What goes into a column, and from which of its sources.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fit<'a> {
    Text(&'a [u8], usize),
    Int(i64, usize),
}

impl Slot {
    /// How `value` stands in the column; none if it does not fit.
    #[inline]
    pub(crate) fn fit<'a>(&self, value: Value<'a>) -> Option<Fit<'a>> {
        match value {
            Value::Text(text) => match (self.text, self.decimal) {
                (Some(source), _) => Some(Fit::Text(text, source.into())),
                (_, Some(source)) => decimal(text).map(|int| Fit::Int(int, source.into())),
                _ => None,
            },
            Value::Int(int) => self.int.map(|source| Fit::Int(int, source.into())),
            _ => None,
        }
    }
}

/// The integer whose canonical decimal form this is: no sign, no leading zeros, at most 18 digits.
fn decimal(text: &[u8]) -> Option<i64> {
    let canonical = matches!(text, [b'0'] | [b'1'..=b'9', ..]) && text.len() <= 18;
    let digit = |value: i64, byte: &u8| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'));
    canonical.then(|| text.iter().try_fold(0, digit)).flatten()
}

type Table = HashMap<&'static [u8], Slot>;

fn table(scope: Scope) -> Table {
    let mut table = Table::new();
    for (column, definition) in ATTRIBUTE_COLUMNS.iter().enumerate().filter(|(_, definition)| definition.scope == scope) {
        for (index, source) in definition.sources.iter().enumerate() {
            let slot = table.entry(source.key.as_bytes()).or_insert(Slot { column, text: None, int: None, decimal: None });
            let index = Some(index as u8);
            match source.form {
                Form::Text => slot.text = index,
                Form::Int => slot.int = index,
                Form::Decimal => slot.decimal = index,
                Form::Derived => {}
            }
        }
    }
    table.remove(&b""[..]);
    table
}

static SPAN: LazyLock<Table> = LazyLock::new(|| table(Scope::Span));
static RESOURCE: LazyLock<Table> = LazyLock::new(|| table(Scope::Resource));

/// The slot of a resource attribute.
pub(crate) fn resource_slot(key: &[u8]) -> Option<Slot> {
    RESOURCE.get(key).copied()
}

/// Attributes remembered by their position in the span.
const REMEMBERED: usize = 48;

/// Finds the slots of span attributes. The spans of one sender carry the same keys in the same order, so the key at a
/// position is first compared with the one that stood there in the span before.
#[derive(Debug)]
pub(crate) struct Slots<'a> {
    table: &'static Table,
    before: [(&'a [u8], Option<Slot>); REMEMBERED],
}

impl<'a> Slots<'a> {
    pub(crate) fn new() -> Slots<'a> {
        Slots { table: &SPAN, before: [(&[], None); REMEMBERED] }
    }

    #[inline]
    pub(crate) fn find(&mut self, position: usize, key: &'a [u8]) -> Option<Slot> {
        let Some(before) = self.before.get_mut(position) else { return self.table.get(key).copied() };
        if !same_text(before.0, key) {
            *before = (key, self.table.get(key).copied());
        }
        before.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: status codes as proxies and SDKs write them. Guarantee: each goes to the column by the source that reads it
    /// back, and what would read back differently does not go there.
    #[test]
    fn fits_only_what_reads_back() {
        let code = SPAN[&b"http.status_code"[..]];
        assert_eq!(code.fit(Value::Text(b"503")), Some(Fit::Int(503, 0)));
        assert_eq!(code.fit(Value::Int(503)), Some(Fit::Int(503, 1)));
        for text in ["0503", "+5", "", "5e2", "-5", "9999999999999999999"] {
            assert_eq!(code.fit(Value::Text(text.as_bytes())), None, "{text}");
        }
        assert_eq!(code.fit(Value::Double(503.0)), None);
    }

    /// Scenario: the identity columns. Guarantee: they stand first, so that their positions tell them.
    #[test]
    fn tags_stand_first() {
        let derived = |column: &meshlake_storage::AttributeColumn| column.sources.iter().any(|source| source.form == Form::Derived);
        assert_eq!(ATTRIBUTE_COLUMNS.iter().take_while(|column| derived(column)).count(), TAGS);
    }
}
