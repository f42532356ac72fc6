//! Sorted files as one sorted stream, a slice at a time.
//!
//! Of each file a batch or two are held, and of its row group the compressed pages. A slice is what can be known to come before
//! everything that was not read yet, so memory does not depend on how much there is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{FieldRef, SchemaRef};
use futures::StreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::async_reader::ParquetRecordBatchStream;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::LakeError;
use super::deletion::Doomed;
use super::keys::{Key, Keys};
use crate::encode::columns_with_values;
use crate::promoted::{Promoted, demote, lake_schema};
use crate::reader::FileReader;
use crate::schema::spans_schema;
use crate::snapshot::SpanFile;

/// Rows of a file that are read at once.
const BATCH_ROWS: usize = 2_048;
/// Of fewer, more are read before the next slice: slices of a few rows of each file would take longer to arrange than to write.
const ROWS_MIN: usize = BATCH_ROWS / 2;

/// A file to be merged, and what is left out of it.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub file: Arc<SpanFile>,
    /// How often its spans were written to the lake before, at most.
    pub rewrites: u32,
    pub doomed: Vec<Arc<Doomed>>,
}

/// One file.
struct Run {
    input: Input,
    stream: ParquetRecordBatchStream<FileReader>,
    /// The columns of the file, and which of them are read: the others have no value.
    schema: SchemaRef,
    valued: Vec<bool>,
    nulls: Arc<Nulls>,
    /// The promoted attributes that the file has columns for.
    promoted: Vec<Promoted>,
    /// Read and not merged; none of them is empty.
    rows: VecDeque<RecordBatch>,
    /// Rows of the first of them that were taken: not all.
    taken: usize,
    ended: bool,
    /// Spans that were left out, by deletion.
    dropped: BTreeMap<String, u64>,
}

/// Columns without a value, of as many rows as are read at once.
struct Nulls(Vec<ArrayRef>);

impl Nulls {
    /// Of a table with these promoted attributes.
    fn new(promoted: &[Promoted]) -> Nulls {
        let null = |field: &FieldRef| new_null_array(field.data_type(), BATCH_ROWS);
        Nulls(lake_schema(promoted).fields().iter().map(null).collect())
    }

    fn column(&self, index: usize, rows: usize) -> ArrayRef {
        if rows == BATCH_ROWS { self.0[index].clone() } else { self.0[index].slice(0, rows) }
    }
}

/// Spans of a file that were left out for a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub deletion: String,
    pub file: String,
    pub spans: u64,
}

/// Rows that come before all that was not taken yet.
#[derive(Default)]
pub(crate) struct Slice {
    /// Unsorted; none of them is empty.
    pub batches: Vec<RecordBatch>,
    /// For each of them, how often its spans were written to the lake before, at most.
    pub rewrites: Vec<u32>,
}

impl Slice {
    fn push(&mut self, rows: RecordBatch, rewrites: u32) {
        self.batches.push(rows);
        self.rewrites.push(rewrites);
    }
}

/// Files that are being merged.
pub(crate) struct Merge {
    runs: Vec<Run>,
}

fn defect(what: &str) -> LakeError {
    arrow::error::ArrowError::SchemaError(format!("spans: {what}")).into()
}

impl Run {
    async fn open(store: &Arc<dyn ObjectStore>, input: Input, promoted: &[Promoted], nulls: Arc<Nulls>) -> Result<Run, LakeError> {
        let file = &input.file;
        let promoted = promoted.get(..file.promoted.count).ok_or_else(|| defect("more promoted attributes than the table has"))?;
        let path = Path::parse(&file.path).map_err(object_store::Error::from)?;
        let reader = FileReader::new(store.clone(), path, file.size);
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await?.with_batch_size(BATCH_ROWS);
        if builder.schema().fields() != lake_schema(promoted).fields() {
            return Err(defect(&format!("{} has other columns", file.path)));
        }
        let valued = columns_with_values(builder.metadata());
        let columns = valued.iter().enumerate().filter(|(_, valued)| **valued).map(|(column, _)| column);
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        Ok(Run {
            schema: lake_schema(promoted),
            stream: builder.with_projection(mask).build()?,
            valued,
            nulls,
            promoted: promoted.to_vec(),
            input,
            rows: VecDeque::new(),
            taken: 0,
            ended: false,
            dropped: BTreeMap::new(),
        })
    }

    /// Rows as they were read, with the columns that were not.
    fn whole(&self, read: &RecordBatch) -> Result<RecordBatch, LakeError> {
        let mut columns = read.columns().iter().cloned();
        let column = |(index, valued): (usize, &bool)| match valued {
            true => columns.next(),
            false => Some(self.nulls.column(index, read.num_rows())),
        };
        let columns = self.valued.iter().enumerate().filter_map(column).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }

    /// Reads on.
    async fn read(&mut self) -> Result<(), LakeError> {
        match self.stream.next().await.transpose()? {
            None => self.ended = true,
            Some(batch) => {
                let batch = self.without_doomed(demote(&self.whole(&batch)?, &self.promoted)?)?;
                match self.rows.back_mut() {
                    // Of which a deletion left little.
                    Some(last) if last.num_rows() + batch.num_rows() <= BATCH_ROWS => {
                        *last = concat_batches(&spans_schema(), [&*last, &batch])?;
                    }
                    _ => self.rows.extend((batch.num_rows() > 0).then_some(batch)),
                }
            }
        }
        Ok(())
    }

    fn held(&self) -> usize {
        self.rows.iter().map(RecordBatch::num_rows).sum::<usize>() - self.taken
    }

    fn without_doomed(&mut self, mut batch: RecordBatch) -> Result<RecordBatch, LakeError> {
        for doomed in &self.input.doomed {
            let kept = doomed.keep(&batch)?;
            let dropped = batch.num_rows() - kept.num_rows();
            if dropped > 0 {
                *self.dropped.entry(doomed.id.clone()).or_default() += dropped as u64;
            }
            batch = kept;
        }
        Ok(batch)
    }

    fn last(&self) -> Result<Option<Key>, LakeError> {
        self.rows.back().map(|rows| Ok(Keys::new(rows)?.key(rows.num_rows() - 1))).transpose()
    }

    /// Moves the rows before `bound`, or all, to `slice`.
    fn take(&mut self, bound: Option<&Key>, slice: &mut Slice) -> Result<(), LakeError> {
        while let Some(rows) = self.rows.front() {
            let (from, count) = (self.taken, rows.num_rows());
            let until = bound.map_or(Ok(count), |bound| rows_before(rows, from, bound))?;
            if from < until {
                let some = if until - from == count { rows.clone() } else { rows.slice(from, until - from) };
                slice.push(some, self.input.rewrites);
            }
            if until < count {
                self.taken = until;
                break;
            }
            self.rows.pop_front();
            self.taken = 0;
        }
        Ok(())
    }
}

/// How many of the sorted rows are before `bound`: at least `low`.
fn rows_before(rows: &RecordBatch, mut low: usize, bound: &Key) -> Result<usize, LakeError> {
    let keys = Keys::new(rows)?;
    let mut high = rows.num_rows();
    while low < high {
        let middle = usize::midpoint(low, high);
        if keys.is_before(middle, bound) { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

impl Merge {
    /// Opens files of a table with these promoted attributes.
    pub(crate) async fn open(store: &Arc<dyn ObjectStore>, inputs: Vec<Input>, promoted: &[Promoted]) -> Result<Merge, LakeError> {
        let nulls = Arc::new(Nulls::new(promoted));
        let mut runs = Vec::with_capacity(inputs.len());
        for input in inputs {
            runs.push(Run::open(store, input, promoted, nulls.clone()).await?);
        }
        Ok(Merge { runs })
    }

    /// What was left out so far.
    pub(crate) fn dropped(&self) -> Vec<Dropped> {
        let of_run = |run: &Run| {
            let file = run.input.file.path.clone();
            run.dropped.clone().into_iter().map(move |(deletion, spans)| Dropped { deletion, file: file.clone(), spans })
        };
        self.runs.iter().flat_map(of_run).collect()
    }

    /// The next slice, and none at the end. Rows that are equal in the order of files are in one slice.
    pub(crate) async fn next(&mut self) -> Result<Option<Slice>, LakeError> {
        for run in &mut self.runs {
            while run.held() < ROWS_MIN && !run.ended {
                run.read().await?;
            }
        }
        loop {
            let mut bound: Option<Key> = None;
            for run in self.runs.iter().filter(|run| !run.ended) {
                let last = run.last()?;
                bound = if bound.is_none() || last < bound { last } else { bound };
            }
            let mut slice = Slice::default();
            for run in &mut self.runs {
                run.take(bound.as_ref(), &mut slice)?;
            }
            if !slice.batches.is_empty() || bound.is_none() {
                return Ok((!slice.batches.is_empty()).then_some(slice));
            }
            // Everything held of some file has one key.
            for run in &mut self.runs {
                if !run.ended && run.last()? == bound {
                    run.read().await?;
                }
            }
        }
    }
}
