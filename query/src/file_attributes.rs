//! Where attributes stand in lake files, as the files' own counts tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshlake_storage::{
    ATTRIBUTE_COLUMNS, AttributeColumn, AttributeCounts, Form, Place, Promotions, Scope, Source, SpanFile, ValueType, places,
};
use object_store::ObjectStore;

use crate::file_summaries::Beside;

/// Where the values of an attribute of a scope stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stand {
    /// No span has it.
    Absent,
    /// In a column that all files have, all of them, where nothing else does: no row need be asked which attribute it is.
    Alone(Place),
    /// In columns of its own, all of them.
    Columns,
    /// That is not known: in columns or in maps.
    Anywhere,
}

/// The attributes of a file, without their values.
pub(crate) struct FileAttributes {
    /// Whether they are all there are.
    complete: bool,
    attributes: BTreeMap<(Scope, String), Values>,
}

/// What is known of the values of an attribute.
#[derive(Default)]
struct Values {
    types: Vec<ValueType>,
    /// Whether some stand in maps and not in one of the columns that all files have.
    residual: bool,
}

impl FileAttributes {
    fn new(counts: &AttributeCounts) -> FileAttributes {
        let mut attributes = BTreeMap::<(Scope, String), Values>::new();
        for count in &counts.attributes {
            let values = attributes.entry((count.scope, count.key.clone())).or_default();
            values.types.push(count.value_type);
            values.residual |= count.residual > 0;
        }
        FileAttributes { complete: counts.complete, attributes }
    }

    /// The columns in which no attribute stands, as no span has any of theirs; nothing if that is not known. What is derived from
    /// other attributes may stand there all the same.
    pub(crate) fn empty_columns(&self) -> Option<BTreeSet<&'static str>> {
        let is_absent = |column: &AttributeColumn, source: &Source| {
            source.form == Form::Derived || !self.attributes.contains_key(&(column.scope, source.key.to_owned()))
        };
        let empty = ATTRIBUTE_COLUMNS.iter().filter(|column| column.sources.iter().all(|source| is_absent(column, source)));
        self.complete.then(|| empty.map(|column| column.name).collect())
    }

    /// Where an attribute stands in `file`, which these are the attributes of.
    pub(crate) fn stand(&self, file: &SpanFile, promotions: &Promotions, scope: Scope, key: &str) -> Stand {
        if !self.complete {
            return Stand::Anywhere;
        }
        let Some(values) = self.attributes.get(&(scope, key.to_owned())) else { return Stand::Absent };
        let promoted =
            promotions.list.iter().take(file.promoted.count).find(|promoted| promoted.scope == scope && promoted.key == key);
        let in_columns = match promoted {
            // A promoted column has the first value of its key, unless that is of another type.
            Some(promoted) if places(scope, key).next().is_none() => values.types == [promoted.value_type],
            _ => !values.residual,
        };
        if !in_columns {
            return Stand::Anywhere;
        }
        self.only_place(scope, key).map_or(Stand::Columns, Stand::Alone)
    }

    /// The place of an attribute that stands in no other, nor any other in its column.
    fn only_place(&self, scope: Scope, key: &str) -> Option<Place> {
        let is_filled = |place: &Place| self.may_fill(scope, &ATTRIBUTE_COLUMNS[place.column].sources[place.source]);
        let mut filled = places(scope, key).filter(is_filled);
        let place = filled.next().filter(|_| filled.next().is_none())?;
        let mut sources = ATTRIBUTE_COLUMNS[place.column].sources.iter().enumerate();
        let is_alone = sources.all(|(source, of)| source == place.source || !self.may_fill(scope, of));
        is_alone.then_some(place)
    }

    /// Whether a row may have a column of a scope from a source. What is derived nobody counts.
    fn may_fill(&self, scope: Scope, source: &Source) -> bool {
        let Some(value_type) = source.form.value_type() else { return true };
        let values = self.attributes.get(&(scope, source.key.to_owned()));
        values.is_some_and(|values| values.types.contains(&value_type))
    }
}

impl Beside for FileAttributes {
    async fn read(store: &Arc<dyn ObjectStore>, file: &SpanFile) -> Option<Self> {
        AttributeCounts::read(store, file).await.map(|counts| FileAttributes::new(&counts))
    }

    fn size(&self) -> usize {
        let size = |((_, key), values): (&(Scope, String), &Values)| {
            size_of::<((Scope, String), Values)>() + key.len() + values.types.capacity() * size_of::<ValueType>()
        };
        self.attributes.iter().map(size).sum()
    }
}

#[cfg(test)]
mod tests {
    use meshlake_storage::AttributeCount;

    use super::*;

    /// Scenario: files that count keys of one column in one form, in two, and in a map; of a column that may be derived; and one
    /// that left some out. Guarantee: an attribute is alone only where every value of its column is its own.
    #[test]
    fn attributes_are_alone_where_no_other_stands() {
        use Scope::{Resource, Span};
        use ValueType::{Int, String};
        let (code, response) = ("http.status_code", "http.response.status_code");
        let column = |name: &str| ATTRIBUTE_COLUMNS.iter().position(|column| column.name == name).unwrap();
        let alone = |name: &str, source| Stand::Alone(Place { column: column(name), source });
        let stand = |counted: &[(Scope, &str, ValueType, u64)], complete, scope, key| {
            let count = |(scope, key, value_type, residual): &(Scope, &str, ValueType, u64)| AttributeCount {
                scope: *scope,
                key: (*key).to_owned(),
                value_type: *value_type,
                spans: 9,
                residual: *residual,
                lower_bounds: false,
                values: Vec::new(),
            };
            let counts = AttributeCounts { complete, attributes: counted.iter().map(count).collect() };
            FileAttributes::new(&counts).stand(&SpanFile::default(), &Promotions::default(), scope, key)
        };
        let name = (Resource, "service.name", String, 0);
        assert_eq!(stand(&[(Span, code, String, 0), name], true, Span, code), alone("http_status_code", 0));
        assert_eq!(stand(&[(Span, code, Int, 0), (Resource, response, Int, 1)], true, Span, code), alone("http_status_code", 1));
        assert_eq!(stand(&[(Span, response, Int, 0)], true, Span, response), alone("http_status_code", 2));
        assert_eq!(stand(&[name], true, Resource, "service.name"), alone("service_name", 0));
        assert_eq!(stand(&[(Span, code, String, 0), (Span, code, Int, 0)], true, Span, code), Stand::Columns);
        assert_eq!(stand(&[(Span, code, String, 0), (Span, response, Int, 0)], true, Span, code), Stand::Columns);
        assert_eq!(stand(&[(Span, "zone", String, 0)], true, Span, "zone"), Stand::Columns);
        assert_eq!(stand(&[(Span, code, String, 1)], true, Span, code), Stand::Anywhere);
        assert_eq!(stand(&[(Span, code, String, 0)], false, Span, code), Stand::Anywhere);
        assert_eq!(stand(&[name], true, Span, code), Stand::Absent);
    }
}
