//! Where attributes stand in lake files, as the files' own counts tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meshlake_storage::{
    ATTRIBUTE_COLUMNS, AttributeColumn, AttributeCounts, Form, Promotions, Scope, Source, SpanFile, ValueType, places,
};
use object_store::ObjectStore;

use crate::file_summaries::Beside;

/// Where the values of an attribute of a scope stand in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stand {
    /// No span has it.
    Absent,
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
        if in_columns { Stand::Columns } else { Stand::Anywhere }
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
