use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};
use meshlake_config::Tenant;
use meshlake_storage::{Promoted, Promotions, Scope, SpanFile, column_index, restored_map, spans_schema};

use super::fences::FENCE_COLUMNS;
use crate::id_set::IdSet;
use crate::spans::holds_only;
use crate::trace_id::TraceId;

/// The residual maps of files, by their paths, in which nothing stands that is asked for: they need not be read.
#[derive(Clone, Default)]
pub(crate) struct Needless(Arc<HashMap<String, Vec<Scope>>>);

impl FromIterator<(String, Vec<Scope>)> for Needless {
    fn from_iter<T: IntoIterator<Item = (String, Vec<Scope>)>>(maps: T) -> Needless {
        Needless(Arc::new(maps.into_iter().collect()))
    }
}

impl Needless {
    /// Those of a file by its path, by their scopes; nothing if the file tells of none.
    pub(crate) fn maps(&self, path: &str) -> Option<&[Scope]> {
        self.0.get(path).map(Vec::as_slice)
    }
}

/// Which rows of which columns.
pub(super) struct Wanted {
    tenant: Tenant,
    ids: IdSet,
    /// Positions in the schema, ascending.
    columns: Vec<usize>,
    needless: Needless,
}

/// The same of one file.
pub(super) struct WantedOfFile<'a> {
    wanted: &'a [usize],
    /// Those that are read.
    read: Vec<usize>,
    /// The promoted attributes of the maps that are read, with their positions in the list.
    promoted: Vec<(usize, &'a Promoted)>,
}

impl Wanted {
    pub(super) fn new(tenant: &Tenant, ids: Vec<TraceId>, columns: Option<&[&str]>) -> Wanted {
        Wanted { tenant: tenant.clone(), ids: IdSet::new(ids), columns: positions(columns), needless: Needless::default() }
    }

    pub(super) fn without(self, needless: &Needless) -> Wanted {
        Wanted { needless: needless.clone(), ..self }
    }

    pub(super) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// In order, each once.
    pub(super) fn ids(&self) -> &[TraceId] {
        self.ids.ids()
    }

    /// Positions in the schema, ascending.
    pub(super) fn columns(&self) -> &[usize] {
        &self.columns
    }

    pub(super) fn of_live(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let fence: Vec<usize> = FENCE_COLUMNS.into_iter().filter_map(column_index).collect();
        let fence = batch.project(if holds_only(batch, &self.tenant) { &fence[1..] } else { &fence })?;
        let mask = self.mask(&self.ids, &fence)?;
        if mask.true_count() == 0 {
            return Ok(batch.slice(0, 0));
        }
        let batch = batch.project(&self.columns)?;
        Ok(filter_record_batch(&batch, &mask)?)
    }

    pub(super) fn of_file<'a>(&'a self, file: &SpanFile, promotions: &'a Promotions) -> WantedOfFile<'a> {
        let scopes = self.needless.maps(&file.path).unwrap_or_default().iter();
        let needless: Vec<usize> = scopes.filter_map(|scope| column_index(scope.residual_column())).collect();
        let read: Vec<usize> = self.columns.iter().copied().filter(|column| !needless.contains(column)).collect();
        let is_read = |scope: Scope| column_index(scope.residual_column()).is_some_and(|map| read.contains(&map));
        let list = promotions.list.get(..file.promoted.count).unwrap_or_default();
        let promoted = list.iter().enumerate().filter(|(_, attribute)| is_read(attribute.scope)).collect();
        WantedOfFile { wanted: &self.columns, read, promoted }
    }

    /// The rows of a batch that are of these traces. A batch without the column `tenant` is all of the tenant's.
    pub(super) fn mask(&self, wanted: &IdSet, batch: &RecordBatch) -> Result<BooleanArray> {
        let ids = batch.column_by_name(FENCE_COLUMNS[1]).and_then(|column| column.as_fixed_size_binary_opt());
        let ids = ids.filter(|ids| ids.value_length() == 16);
        let ids = ids.ok_or_else(|| DataFusionError::Internal("the column trace_id has another type".to_owned()))?;
        // Rows of a trace stand together: each is asked about once.
        let (values, _) = ids.value_data().as_chunks::<16>();
        let mut last: Option<([u8; 16], bool)> = None;
        let is_wanted = |row: usize| {
            let id = values[row];
            let (_, holds) = last.filter(|(known, _)| *known == id).unwrap_or_else(|| (id, wanted.holds(&id)));
            last = Some((id, holds));
            holds && ids.is_valid(row)
        };
        let mask = BooleanArray::from(BooleanBuffer::collect_bool(ids.len(), is_wanted));
        match batch.column_by_name(FENCE_COLUMNS[0]) {
            Some(tenants) => Ok(arrow::compute::and(&mask, &self.own(tenants)?)?),
            None => Ok(mask),
        }
    }

    /// The rows that are the tenant's.
    pub(super) fn own(&self, tenants: &ArrayRef) -> Result<BooleanArray> {
        let own = StringArray::new_scalar(self.tenant.as_str());
        Ok(arrow::compute::kernels::cmp::eq(tenants, &own)?)
    }
}

impl WantedOfFile<'_> {
    /// The positions in the file of all columns that are read of it: those of promoted attributes come last.
    pub(super) fn columns(&self) -> Vec<usize> {
        let base = spans_schema().fields().len();
        self.read.iter().copied().chain(self.promoted.iter().map(|(position, _)| base + position)).collect()
    }

    /// The wanted columns of rows of which [`WantedOfFile::columns`] were read: values of promoted attributes are put back into the
    /// maps, and maps that were not read are empty.
    pub(super) fn restored(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (read, values) = batch.columns().split_at(self.read.len().min(batch.num_columns()));
        let mut read = read.to_vec();
        for scope in [Scope::Span, Scope::Resource] {
            let of_scope = self.promoted.iter().map(|(_, attribute)| *attribute).zip(values);
            let filled =
                |(attribute, column): &(&Promoted, &ArrayRef)| attribute.scope == scope && column.null_count() < column.len();
            let attributes: Vec<(&Promoted, &ArrayRef)> = of_scope.filter(filled).collect();
            let map = column_index(scope.residual_column()).and_then(|map| self.read.binary_search(&map).ok());
            if let Some(map) = map.filter(|_| !attributes.is_empty()) {
                read[map] = restored_map(&read[map], &attributes)?;
            }
        }
        let schema = Arc::new(spans_schema().project(self.wanted)?);
        let column = |(position, field): (&usize, &Arc<arrow::datatypes::Field>)| match self.read.binary_search(position) {
            Ok(place) => read[place].clone(),
            Err(_) => new_null_array(field.data_type(), batch.num_rows()),
        };
        let columns = self.wanted.iter().zip(schema.fields()).map(column).collect();
        Ok(RecordBatch::try_new(schema, columns)?)
    }
}

/// Positions in the schema of these columns, or of all, ascending.
fn positions(columns: Option<&[&str]>) -> Vec<usize> {
    let Some(names) = columns else { return (0..spans_schema().fields().len()).collect() };
    let mut positions: Vec<usize> = names.iter().filter_map(|name| column_index(name)).collect();
    positions.sort_unstable();
    positions
}
