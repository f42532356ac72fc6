//! The table `spans` of one tenant: live batches and fresh files of one snapshot.
//!
//! The tenant's filter is part of the scan, not of the query (P8): batches and files that hold other tenants' rows too are
//! filtered row by row where they are read, whatever the query says. Files and batches whose start times cannot fulfil the
//! query's filters are left out. Planning does no I/O.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, DFSchema, Result, ScalarValue, Statistics, internal_err};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, col, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::filter::FilterExecBuilder;
use datafusion::physical_plan::union::UnionExec;
use meshlake_config::Tenant;
use meshlake_storage::{Day, LiveBatch, Promoted, Snapshot, SpanFile, column_index, lake_schema, spans_schema};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use crate::plain_texts::PlainTexts;
use crate::promoted::Layout;

const TENANT: &str = "tenant";
const START_TIME: &str = "start_time";

/// The table.
#[derive(Debug)]
pub(crate) struct SpansTable {
    tenant: Tenant,
    snapshot: Arc<Snapshot>,
    /// The promoted attributes of which the tenant has values.
    promoted: Vec<Promoted>,
    schema: SchemaRef,
    plain: PlainTexts,
    store_url: ObjectStoreUrl,
    reader: Arc<dyn ParquetFileReaderFactory>,
}

impl SpansTable {
    pub(crate) fn new(
        tenant: Tenant,
        snapshot: Arc<Snapshot>,
        store_url: ObjectStoreUrl,
        store: Arc<dyn ObjectStore>,
        metadata: Arc<FileMetadataCache>,
    ) -> Self {
        let reader = Arc::new(CachedParquetFileReaderFactory::new(store, metadata));
        let promoted: Vec<Promoted> = snapshot.promotions.of(tenant.as_str()).cloned().collect();
        SpansTable { tenant, snapshot, schema: lake_schema(&promoted), plain: PlainTexts::default(), promoted, store_url, reader }
    }

    /// The same of another snapshot.
    pub(crate) fn with(&self, snapshot: Arc<Snapshot>) -> Self {
        let (tenant, store_url, reader) = (self.tenant.clone(), self.store_url.clone(), self.reader.clone());
        let (promoted, schema, plain) = (self.promoted.clone(), self.schema.clone(), self.plain.clone());
        SpansTable { tenant, snapshot, promoted, schema, plain, store_url, reader }
    }

    /// The same with plain texts.
    pub(crate) fn with_plain(self, plain: PlainTexts) -> Self {
        SpansTable { schema: plain.of_schema(&self.schema), plain, ..self }
    }
}

/// Whether a file holds rows of `tenant`.
pub(crate) fn may_hold(file: &SpanFile, tenant: &Tenant) -> bool {
    file.tenants.iter().any(|name| name == tenant.as_str())
}

/// Whether every row is of `tenant`, by the batch's dictionary.
pub(crate) fn holds_only(batch: &RecordBatch, tenant: &Tenant) -> bool {
    let column = column_index(TENANT).and_then(|index| batch.column(index).as_dictionary_opt::<Int32Type>());
    let names = column.and_then(|column| column.values().as_string_opt::<i32>());
    names.is_some_and(|names| names.iter().all(|name| name == Some(tenant.as_str())))
}

#[async_trait]
impl TableProvider for SpansTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Inexact: filters prune here; those that Parquet can apply row by row are pushed down by the physical optimizer.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let scan = Scan {
            table: self,
            partitions: state.config().target_partitions().max(1),
            tenant_filter: self.physical(state, col(TENANT).eq(lit(self.tenant.as_str())))?,
            wanted: projection.cloned().unwrap_or_else(|| (0..self.schema.fields().len()).collect()),
            limit,
        };
        let (live, files) = self.prune(state, filters);
        let mut inputs = Vec::new();
        let mut kinds = BTreeMap::<(bool, usize), Vec<&SpanFile>>::new();
        for file in files {
            kinds.entry((file.tenants.len() > 1, file.promoted.count)).or_default().push(file);
        }
        for ((shared, promoted), files) in kinds {
            inputs.push(scan.files(files, shared, promoted)?);
        }
        let (own, shared): (Vec<_>, Vec<_>) = live.into_iter().partition(|live| holds_only(&live.batch, &self.tenant));
        inputs.extend(scan.live(own, false)?);
        inputs.extend(scan.live(shared, true)?);
        match inputs.len() {
            0 => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(&scan.wanted)?)))),
            1 => Ok(inputs.remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }
}

impl SpansTable {
    /// The batches and files that may hold rows that the tenant may see and the filters let through.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> (Vec<&LiveBatch>, Vec<&SpanFile>) {
        let filters: Vec<_> = filters.iter().filter_map(|filter| self.physical(state, filter.clone()).ok()).collect();
        let live = self.snapshot.live.iter().filter(|live| live.batch.num_rows() > 0).collect();
        let live = self.matching(live, &filters, |live| (live.start_min, live.start_max));
        let days = self.matching(self.snapshot.files.days().collect(), &filters, |day| (day.start_min, day.start_max));
        let files = days.into_iter().flat_map(Day::files).map(Arc::as_ref);
        let files = files.filter(|file| may_hold(file, &self.tenant)).collect();
        (live, self.matching(files, &filters, |file| (file.start_min, file.start_max)))
    }

    /// Those whose bounds of start times the filters may let through.
    fn matching<'a, T>(&self, all: Vec<&'a T>, filters: &[Arc<dyn PhysicalExpr>], bounds: impl Fn(&T) -> (i64, i64)) -> Vec<&'a T> {
        let keep = StartTimes::new(all.iter().map(|one| bounds(one))).matching(&self.schema, filters);
        all.into_iter().zip(keep).filter_map(|(one, keep)| keep.then_some(one)).collect()
    }

    fn physical(&self, state: &dyn Session, filter: Expr) -> Result<Arc<dyn PhysicalExpr>> {
        state.create_physical_expr(filter, &DFSchema::try_from(self.schema.clone())?)
    }
}

/// One scan of the table.
struct Scan<'a> {
    table: &'a SpansTable,
    partitions: usize,
    tenant_filter: Arc<dyn PhysicalExpr>,
    /// Positions in the table's columns.
    wanted: Vec<usize>,
    limit: Option<usize>,
}

impl Scan<'_> {
    /// How inputs with columns for the first so many promoted attributes give the columns that are wanted.
    fn layout(&self, promoted: usize) -> Result<Layout> {
        let list = &self.table.snapshot.promotions.list;
        let Some(present) = list.get(..promoted) else {
            return internal_err!("a file has columns for {promoted} promoted attributes of {}", list.len());
        };
        let mut layout = Layout::new(&self.table.schema, &self.wanted, &self.table.promoted, present);
        layout.schema = self.table.plain.of_schema(&layout.schema);
        Ok(layout)
    }

    /// Files as one scan; where they are shared, Parquet rows of other tenants are dropped while decoding.
    fn files(&self, files: Vec<&SpanFile>, shared: bool, promoted: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let layout = self.layout(promoted)?;
        let mut source = ParquetSource::new(layout.schema.clone())
            .with_parquet_file_reader_factory(self.table.reader.clone())
            // Where rows of others are dropped by it (P8), whatever the session says.
            .with_pushdown_filters(shared)
            .with_reorder_filters(true)
            .with_enable_page_index(true);
        if shared {
            source = source.with_predicate(self.tenant_filter.clone());
        }
        let rows = files.iter().map(|file| file.rows as usize).sum();
        let statistics = Statistics { num_rows: Precision::Exact(rows), ..Statistics::new_unknown(&layout.schema) };
        let config = FileScanConfigBuilder::new(self.table.store_url.clone(), Arc::new(source))
            .with_file_groups(self.table.plain.of_files(spread(files, self.partitions, &layout.schema)?, &layout.schema))
            .with_statistics(statistics)
            .with_limit(self.limit)
            .with_projection_indices(Some(layout.read.clone()))?
            .build();
        layout.finish(DataSourceExec::from_data_source(config))
    }

    fn live(&self, live: Vec<&LiveBatch>, shared: bool) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if live.is_empty() {
            return Ok(None);
        }
        let mut partitions = vec![Vec::new(); self.partitions.min(live.len())];
        let count = partitions.len();
        for (index, live) in live.into_iter().enumerate() {
            partitions[index % count].push(live.batch.clone());
        }
        let layout = self.layout(0)?;
        if !shared {
            let source = MemorySourceConfig::try_new(&partitions, spans_schema(), Some(layout.read.clone()))?;
            let rows = layout.finish(DataSourceExec::from_data_source(source.with_limit(self.limit)))?;
            return self.table.plain.of_live(rows).map(Some);
        }
        let source = MemorySourceConfig::try_new_exec(&partitions, spans_schema(), None)?;
        let filter = FilterExecBuilder::new(self.tenant_filter.clone(), source);
        let rows = layout.finish(Arc::new(filter.apply_projection(Some(layout.read.clone()))?.build()?))?;
        self.table.plain.of_live(rows).map(Some)
    }
}

/// Files over partitions, so that each has about the same number of bytes; the newest first, for then a query of the newest
/// rows soon knows which of the other files to skip.
fn spread(mut files: Vec<&SpanFile>, partitions: usize, schema: &Schema) -> Result<Vec<FileGroup>> {
    files.sort_by_key(|file| Reverse(file.size));
    let mut groups = vec![(0u64, Vec::new()); partitions.min(files.len())];
    for file in files {
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.size;
            group.push(file);
        }
    }
    let newest_first = |(_, mut files): (u64, Vec<&SpanFile>)| {
        files.sort_by_key(|file| Reverse(file.start_max));
        let files = files.into_iter().map(|file| partitioned(file, schema));
        files.collect::<Result<_>>().map(FileGroup::new)
    };
    groups.into_iter().map(newest_first).collect()
}

/// The file with the bounds of its start times, by which it is skipped unread when a query has newer rows than it can hold.
fn partitioned(file: &SpanFile, schema: &Schema) -> Result<PartitionedFile> {
    let time = |micros| Precision::Exact(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())));
    let mut statistics = Statistics::new_unknown(schema);
    if let Some(start_time) = column_index(START_TIME).and_then(|index| statistics.column_statistics.get_mut(index)) {
        start_time.min_value = time(file.start_min);
        start_time.max_value = time(file.start_max);
    }
    Ok(PartitionedFile::new_from_meta(object_meta(file)?).with_statistics(Arc::new(statistics)))
}

/// The file as the object store would list it, with a constant modification time: files never change, and the metadata
/// cache compares it.
pub(crate) fn object_meta(file: &SpanFile) -> Result<ObjectMeta> {
    let mut meta = PartitionedFile::new("", file.size).object_meta;
    meta.location = Path::parse(&file.path).map_err(object_store::Error::from)?;
    Ok(meta)
}

/// Bounds of `start_time` of some containers.
struct StartTimes {
    min: ArrayRef,
    max: ArrayRef,
}

impl StartTimes {
    fn new(bounds: impl Iterator<Item = (i64, i64)>) -> Self {
        let (min, max): (Vec<i64>, Vec<i64>) = bounds.unzip();
        let times = |values: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"));
        StartTimes { min: times(min), max: times(max) }
    }

    /// For each container, whether it may hold a row that fulfils all filters. A filter that says nothing of time, or cannot
    /// be read here, prunes nothing: it is applied to the rows.
    fn matching(&self, schema: &SchemaRef, filters: &[Arc<dyn PhysicalExpr>]) -> Vec<bool> {
        let mut keep = vec![true; self.min.len()];
        for filter in filters {
            let predicate = PruningPredicateBuilder::new().with_file_schema(schema.clone()).try_build(filter.clone());
            let Ok(may_match) = predicate.and_then(|predicate| predicate.prune(self)) else { continue };
            keep.iter_mut().zip(may_match).for_each(|(keep, may_match)| *keep &= may_match);
        }
        keep
    }
}

impl PruningStatistics for StartTimes {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        (column.name == START_TIME).then(|| self.min.clone())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        (column.name == START_TIME).then(|| self.max.clone())
    }

    fn num_containers(&self) -> usize {
        self.min.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &std::collections::HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use datafusion::datasource::MemTable;
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::testing::{Chance, TestSource, pretty, random_rows, scatter, sql, table, value};

    const COLUMNS: &str =
        "encode(trace_id, 'hex') trace, encode(span_id, 'hex') span, start_time, duration, name, service, http_status_code";

    /// Scenario: random spans of two tenants over live batches and files, and filters on time and columns, written in every
    /// way that prunes. Guarantee: the rows are those of one table in memory that holds the tenant's spans and prunes nothing.
    #[tokio::test]
    async fn pruning_changes_no_answer() {
        let mut chance = Chance(1);
        let own = random_rows(&mut chance, "a", 300);
        let other = random_rows(&mut chance, "b", 200);
        let engine = scatter(&mut chance, &[own.clone(), other].concat()).await.engine();
        let plain = SessionContext::new();
        let all = MemTable::try_new(spans_schema(), vec![vec![crate::testing::batch(&own)]]).unwrap();
        plain.register_table("spans", Arc::new(all)).unwrap();
        for filter in [
            "true",
            "start_time >= '2026-01-01T00:05:00Z' AND start_time < '2026-01-01T00:06:00Z'",
            "start_time BETWEEN '2026-01-01T00:09:00Z' AND '2026-01-01T00:09:30Z' AND service = 'reviews'",
            "start_time < '2026-01-01T00:00:20Z' OR start_time > '2026-01-01T00:16:00Z'",
            "start_time > '2030-01-01T00:00:00Z'",
            "NOT (start_time > '2026-01-01T00:02:00Z')",
            "date_trunc('minute', start_time) = '2026-01-01T00:03:00Z'",
            "service IN ('reviews', 'ratings') AND duration > 1000000000",
            "service IS NULL AND status = 'error'",
            "http_status_code = 503 AND name LIKE 'reviews%'",
            "tenant = 'b'",
            "parent_span_id IS NULL AND kind = 'server' AND error",
        ] {
            let query = format!("SELECT {COLUMNS} FROM spans WHERE {filter} ORDER BY trace, span");
            let expected = plain.sql(&query).await.unwrap().collect().await.unwrap();
            assert_eq!(table(&engine, "a", &query).await, pretty(&expected), "{filter}");
        }
    }

    /// Scenario: counts with and without a filter, of a tenant alone in its files and of one that shares them.
    /// Guarantee: a count from statistics is of the tenant's rows only (P8).
    #[tokio::test]
    async fn counts_are_the_tenants_own() {
        let mut chance = Chance(2);
        let (a, b) = (random_rows(&mut chance, "a", 50), random_rows(&mut chance, "b", 30));
        let mut source = TestSource::new();
        source.add_file(&a[..a.len() / 2]).await;
        source.add_file(&[a[a.len() / 2..].to_vec(), b.clone()].concat()).await;
        source.add_live(&a);
        source.add_live(&[a.clone(), b.clone()].concat());
        let engine = source.engine();
        assert_eq!(value(&engine, "a", "SELECT count(*) FROM spans").await, (3 * a.len()).to_string());
        assert_eq!(value(&engine, "b", "SELECT count(*) FROM spans").await, (2 * b.len()).to_string());
        assert_eq!(value(&engine, "c", "SELECT count(*) FROM spans").await, "0");
        for limit in [1, 7, 100] {
            let rows = sql(&engine, "b", &format!("SELECT tenant FROM spans LIMIT {limit}")).await.unwrap();
            assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), limit.min(2 * b.len()));
        }
    }

    /// Scenario: a tenant tries to reach another one's rows by predicates, sub-queries, unions, joins, the catalog.
    /// Guarantee: every row and every name it gets is its own (P8).
    #[tokio::test]
    async fn tenants_never_see_each_other() {
        let mut chance = Chance(3);
        let rows = [random_rows(&mut chance, "a", 60), random_rows(&mut chance, "secret", 60)].concat();
        let engine = scatter(&mut chance, &rows).await.engine();
        for query in [
            "SELECT DISTINCT tenant FROM spans",
            "SELECT DISTINCT tenant FROM spans WHERE tenant = 'secret' OR true",
            "SELECT DISTINCT tenant FROM (SELECT * FROM spans UNION ALL SELECT * FROM meshlake.public.spans)",
            "SELECT DISTINCT x.tenant FROM spans s LEFT JOIN spans x ON s.name = x.name",
            "WITH t AS (SELECT tenant FROM spans) SELECT DISTINCT tenant FROM t WHERE EXISTS (SELECT 1 FROM spans s WHERE s.tenant <> 'zzz')",
            "SELECT max(tenant) FROM spans",
            "SELECT min(tenant) FROM spans",
            "SELECT (SELECT max(tenant) FROM spans) FROM spans LIMIT 1",
        ] {
            assert_eq!(value(&engine, "a", query).await, "a", "{query}");
        }
        assert_eq!(value(&engine, "a", "SELECT count(*) FROM spans WHERE tenant = 'secret'").await, "0");
        for query in ["SELECT * FROM information_schema.tables", "SHOW TABLES", "SELECT * FROM information_schema.schemata"] {
            assert!(!table(&engine, "a", query).await.contains("secret"), "{query}");
        }
    }

    /// Scenario: files named, listed and opened through every door that SQL engines have.
    /// Guarantee: the table `spans` is all there is to read, and nothing can be written.
    #[tokio::test]
    async fn sql_reads_nothing_but_spans() {
        let engine = TestSource::new().engine();
        for query in [
            "SELECT * FROM '/etc/passwd'",
            "SELECT * FROM 'file:///etc/passwd'",
            "SELECT * FROM 'meshlake://store/fresh/0.parquet'",
            "SELECT * FROM \"/etc/passwd\"",
            "SELECT * FROM read_csv('/etc/passwd')",
            "SELECT * FROM parquet_metadata('/etc/passwd')",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY spans TO '/tmp/x.parquet'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "INSERT INTO spans SELECT * FROM spans",
            "DELETE FROM spans",
            "UPDATE spans SET name = 'x'",
            "DROP TABLE spans",
            "CREATE TABLE t AS SELECT 1",
            "CREATE VIEW v AS SELECT 1",
            "SELECT 1 INTO t",
            "SET datafusion.execution.batch_size = 1",
            "PREPARE p AS SELECT 1",
            "BEGIN",
            "EXPLAIN ANALYZE SELECT * FROM spans",
            "EXPLAIN DELETE FROM spans",
            "EXPLAIN COPY spans TO '/tmp/x.parquet'",
            "SELECT 1; SELECT 2",
            "",
        ] {
            let answer = sql(&engine, "a", query).await;
            assert!(matches!(answer, Err(crate::QueryError::Invalid { .. })), "{query}: {answer:?}");
        }
        for query in
            ["VALUES (1)", "EXPLAIN SELECT * FROM spans", "DESCRIBE spans", "SHOW COLUMNS FROM spans", "SHOW TABLES", "SELECT 1"]
        {
            sql(&engine, "a", query).await.unwrap_or_else(|error| panic!("{query}: {error}"));
        }
    }
}
