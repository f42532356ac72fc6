//! From an attribute's key to its column.

use std::sync::LazyLock;

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

/// Keys and their slots, in buckets: nearly every attribute of a mesh has a slot, and is to find it by one comparison.
struct Table([Option<(&'static [u8], Slot)>; Table::BUCKETS]);

impl Table {
    const BUCKETS: usize = 256;
    /// One under which no two keys of a scope are in the same bucket.
    const MULTIPLIER: u32 = 0xC2CE_6F45;

    fn new(scope: Scope) -> Table {
        let mut table = Table([None; Table::BUCKETS]);
        for (column, definition) in ATTRIBUTE_COLUMNS.iter().enumerate().filter(|(_, definition)| definition.scope == scope) {
            for (index, source) in definition.sources.iter().enumerate().filter(|(_, source)| !source.key.is_empty()) {
                let key = source.key.as_bytes();
                let none = Slot { column, text: None, int: None, decimal: None };
                let (_, slot) = table.0[table.bucket(key)].get_or_insert((key, none));
                let index = Some(index as u8);
                match source.form {
                    Form::Text => slot.text = index,
                    Form::Int => slot.int = index,
                    Form::Decimal => slot.decimal = index,
                    Form::Derived => {}
                }
            }
        }
        table
    }

    /// The bucket that `key` is in, or the empty one that it would be in.
    #[inline]
    fn bucket(&self, key: &[u8]) -> usize {
        let mut bucket = Table::first_bucket(key);
        while let Some((known, _)) = &self.0[bucket]
            && !same_text(known, key)
        {
            bucket = (bucket + 1) % Table::BUCKETS;
        }
        bucket
    }

    /// By the length of a key and three of its bytes.
    #[inline]
    fn first_bucket(key: &[u8]) -> usize {
        let [first, .., last] = key else { return 0 };
        let hash = u32::from_le_bytes([key.len() as u8, *first, key[key.len() / 2], *last]).wrapping_mul(Table::MULTIPLIER);
        (hash >> 24) as usize
    }

    #[inline]
    fn find(&self, key: &[u8]) -> Option<&Slot> {
        self.0[self.bucket(key)].as_ref().map(|(_, slot)| slot)
    }
}

static SPAN: LazyLock<Table> = LazyLock::new(|| Table::new(Scope::Span));
static RESOURCE: LazyLock<Table> = LazyLock::new(|| Table::new(Scope::Resource));

/// The slot of a span attribute.
#[inline]
pub(crate) fn span_slot(key: &[u8]) -> Option<&'static Slot> {
    SPAN.find(key)
}

/// The slot of a resource attribute.
pub(crate) fn resource_slot(key: &[u8]) -> Option<&'static Slot> {
    RESOURCE.find(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: status codes as proxies and SDKs write them. Guarantee: each goes to the column by the source that reads it
    /// back, and what would read back differently does not go there.
    #[test]
    fn fits_only_what_reads_back() {
        let code = span_slot(b"http.status_code").unwrap();
        assert_eq!(code.fit(Value::Text(b"503")), Some(Fit::Int(503, 0)));
        assert_eq!(code.fit(Value::Int(503)), Some(Fit::Int(503, 1)));
        for text in ["0503", "+5", "", "5e2", "-5", "9999999999999999999"] {
            assert_eq!(code.fit(Value::Text(text.as_bytes())), None, "{text}");
        }
        assert_eq!(code.fit(Value::Double(503.0)), None);
    }

    /// Scenario: every key of the table of columns, every other key that is one byte longer, and one of its bucket that differs in a byte
    /// that the bucket is not by. Guarantee: each key is in the bucket that is looked at first, with the slot of its column; the others
    /// have none.
    #[test]
    fn keys_are_found_at_once() {
        for (table, scope) in [(&SPAN, Scope::Span), (&RESOURCE, Scope::Resource)] {
            for (index, column) in ATTRIBUTE_COLUMNS.iter().enumerate().filter(|(_, column)| column.scope == scope) {
                for key in column.sources.iter().map(|source| source.key).filter(|key| !key.is_empty()) {
                    assert_eq!(table.find(key.as_bytes()).map(|slot| slot.column), Some(index), "{key}");
                    assert_eq!(table.bucket(key.as_bytes()), Table::first_bucket(key.as_bytes()), "{key}");
                    assert!(table.find(format!("{key}a").as_bytes()).is_none(), "{key}");
                    let mut other = key.as_bytes().to_vec();
                    other[1] = b'#';
                    assert_eq!(Table::first_bucket(&other), Table::first_bucket(key.as_bytes()), "{key}");
                    assert!(table.find(&other).is_none(), "{key}");
                }
            }
            assert!(table.find(b"").is_none());
        }
    }

    /// Scenario: the identity columns. Guarantee: they stand first, so that their positions tell them.
    #[test]
    fn tags_stand_first() {
        let derived = |column: &meshlake_storage::AttributeColumn| column.sources.iter().any(|source| source.form == Form::Derived);
        assert_eq!(ATTRIBUTE_COLUMNS.iter().take_while(|column| derived(column)).count(), TAGS);
    }
}
