//! The engine: every question, within its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::ScalarUDF;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use meshlake_config::{Query, Tenant};
use meshlake_storage::{AttributeCounts, Deletions, Scope, Summary};
use meshlake_traceql::{Attribute, MetricsAnswer, Value};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio::time::{Instant, timeout_at};

use crate::attribute::AttributeFunction;
use crate::attributes::{AttributeNames, AttributeValues};
use crate::critical_path::{self, CriticalPaths, PathQuery, TracePath};
use crate::error::{MAX_ROWS_SETTING, QueryError, TIMEOUT_SETTING};
use crate::file_attributes::FileAttributes;
use crate::file_items::FileItems;
use crate::file_summaries::FileSummaries;
use crate::graph::{self, Graph, GraphDiff, GraphDiffQuery, GraphQuery, KeptGraphs};
use crate::heatmap::{self, Heatmap, HeatmapQuery};
use crate::hops::{HopsTable, Traces};
use crate::latency::{self, Latency, LatencyQuery};
use crate::lookup::{FoundRows, Lookups};
use crate::nested_names::NestedNames;
use crate::otlp::traces_data;
use crate::propagation::{self, PropagationQuery, Propagations};
use crate::rollups::{FileRollups, Summed};
use crate::search::{Search, SearchPage};
use crate::services::{OperationSummary, ServiceSummary};
use crate::session::{Sessions, plan_sql, store_url};
use crate::source::SpanSource;
use crate::spans::SpansTable;
use crate::trace_id::TraceId;
use crate::traceql::{MetricsPart, MetricsSoFar, TraceQlFound, TraceQlMetrics, TraceQlSearch};
use crate::types::TimeRange;
use crate::view::View;
use crate::{attributes, find, nested_names, services, traceql};

/// The part of `query.metadata_cache` that file summaries get. Lookups get four of them, footers for scans the rest.
const CACHE_SHARE: usize = 8;

/// Answers queries. Cheap to clone; all clones share the limits.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    source: Arc<dyn SpanSource>,
    sessions: Sessions,
    lookups: Arc<Lookups>,
    summaries: Arc<FileSummaries<Summary>>,
    attribute_counts: Arc<FileSummaries<AttributeCounts>>,
    file_attributes: Arc<FileSummaries<FileAttributes>>,
    file_items: Arc<FileSummaries<FileItems>>,
    rollups: Arc<FileRollups>,
    graphs: Arc<KeptGraphs>,
    attribute: Arc<ScalarUDF>,
    permits: Arc<Semaphore>,
    timeout: Duration,
    max_rows: u64,
    memory_limit: u64,
}

/// The rows of a SQL query, as they are computed.
pub struct SqlAnswer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows. After an error the stream ends. Dropping it cancels the query; until then, or its end, it counts as one of
    /// the queries that run.
    pub batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Engine").field("timeout", &self.inner.timeout).finish_non_exhaustive()
    }
}

impl fmt::Debug for SqlAnswer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("SqlAnswer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over `source` with the limits of `config`.
    ///
    /// # Errors
    ///
    /// [`QueryError::Internal`] if the execution environment cannot be made.
    pub fn new(source: Arc<dyn SpanSource>, config: &Query) -> Result<Engine, QueryError> {
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads as usize,
        };
        let share = config.metadata_cache.as_usize() / CACHE_SHARE;
        let footers_bytes = config.metadata_cache.as_usize() - 5 * share;
        let store = source.object_store().clone();
        let summaries = Arc::new(FileSummaries::new(store.clone(), share / 2));
        let attribute_counts = Arc::new(FileSummaries::new(store.clone(), share / 4));
        let file_attributes = Arc::new(FileSummaries::new(store.clone(), 7 * share / 32));
        let file_items = Arc::new(FileSummaries::new(store.clone(), share / 32));
        let sessions =
            Sessions::new(&store, threads, config.memory_limit.as_usize(), footers_bytes).map_err(QueryError::internal)?;
        let lookups = Lookups::new(store, 4 * share, sessions.runtime().clone());
        let eighth = config.rollup_cache.as_usize() / 8;
        let rollups = Arc::new(FileRollups::new(&lookups.store, 5 * eighth));
        let graphs = Arc::new(KeptGraphs::new(3 * eighth));
        let inner = Inner {
            source,
            sessions,
            lookups: Arc::new(lookups),
            summaries,
            attribute_counts,
            file_attributes,
            file_items,
            rollups,
            graphs,
            attribute: Arc::new(ScalarUDF::from(AttributeFunction::new())),
            permits: Arc::new(Semaphore::new(config.concurrency as usize)),
            timeout: config.timeout,
            max_rows: config.max_rows,
            memory_limit: config.memory_limit.as_u64(),
        };
        Ok(Engine { inner: Arc::new(inner) })
    }

    /// The services with spans that start in the range, by name, namespace and cluster.
    ///
    /// # Errors
    ///
    /// [`QueryError`], of any kind but `Invalid`.
    pub async fn services(&self, tenant: &Tenant, range: TimeRange) -> Result<Vec<ServiceSummary>, QueryError> {
        self.run(tenant, async move |view| services::services(&view, range).await).await
    }

    /// The operations of a service with spans that start in the range, by name and kind; empty for an unknown service.
    ///
    /// # Errors
    ///
    /// [`QueryError`], of any kind but `Invalid`.
    pub async fn operations(&self, tenant: &Tenant, service: &str, range: TimeRange) -> Result<Vec<OperationSummary>, QueryError> {
        let service = service.to_owned();
        self.run(tenant, async move |view| services::operations(&view, &service, range).await).await
    }

    /// The attributes of the spans that start in the range.
    ///
    /// # Errors
    ///
    /// [`QueryError`], of any kind but `Invalid`.
    pub async fn attribute_names(&self, tenant: &Tenant, range: TimeRange) -> Result<AttributeNames, QueryError> {
        self.run(tenant, async move |view| attributes::names(&view, range).await).await
    }

    /// The attributes of events and links of spans that start in the range; of very many spans, some of them.
    ///
    /// # Errors
    ///
    /// [`QueryError`], of any kind but `Invalid`.
    pub async fn nested_names(&self, tenant: &Tenant, range: TimeRange) -> Result<NestedNames, QueryError> {
        self.run(tenant, async move |view| nested_names::names(&view, range).await).await
    }

    /// The most frequent values of an attribute, at most `limit`, of the spans that start in the range; in all scopes unless one
    /// is named. None for an unknown attribute.
    ///
    /// # Errors
    ///
    /// [`QueryError`], of any kind but `Invalid`.
    pub async fn attribute_values(
        &self,
        tenant: &Tenant,
        scope: Option<Scope>,
        key: &str,
        range: TimeRange,
        limit: usize,
    ) -> Result<AttributeValues, QueryError> {
        let key = key.to_owned();
        self.run(tenant, async move |view| attributes::values(&view, scope, &key, range, limit).await).await
    }

    /// All spans of a trace as the OTLP that came in (P5): ordered by start and span id, equal resources and scopes together;
    /// none for a trace that the tenant does not have.
    ///
    /// # Errors
    ///
    /// [`QueryError`], of any kind but `Invalid`; `TooManyRows` for a trace of more spans than `query.max_rows`.
    pub async fn trace(&self, tenant: &Tenant, id: TraceId) -> Result<Option<TracesData>, QueryError> {
        self.run(tenant, async move |view| trace(&view, id).await).await
    }

    /// What is to be deleted, and what was.
    pub fn deletions(&self) -> &Arc<Deletions> {
        self.inner.source.deletions()
    }

    /// One page of the traces that a search finds.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for a limit, range or cursor that cannot be.
    pub async fn search(&self, tenant: &Tenant, search: &Search) -> Result<SearchPage, QueryError> {
        let (search, attribute) = (search.clone(), self.inner.attribute.clone());
        self.run(tenant, async move |view| find::search(&view, &attribute, &search).await).await
    }

    /// The newest traces that a search in TraceQL finds.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for a query of metrics, for a limit or range that cannot be, and where the query fails on a span.
    pub async fn traceql_search(&self, tenant: &Tenant, search: &TraceQlSearch) -> Result<TraceQlFound, QueryError> {
        let search = search.clone();
        self.run(tenant, async move |view| traceql::search(&view, &search).await).await
    }

    /// The series of a query of metrics in TraceQL; [`TraceQlMetrics::grid`] tells the times of its numbers.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for a search, for a range, step or limit that cannot be, and where the query fails on a span.
    pub async fn traceql_metrics(&self, tenant: &Tenant, query: &TraceQlMetrics) -> Result<MetricsAnswer, QueryError> {
        let query = query.clone();
        self.run(tenant, async move |view| traceql::metrics(&view, &query).await).await
    }

    /// Reads one more of the [`TraceQlMetrics::parts`] of a query, and says what the series are with it: whole at the times of the parts that were
    /// read; after the last one, all that [`Engine::traceql_metrics`] answers. `so_far` is what came of the part before.
    ///
    /// # Errors
    ///
    /// As of [`Engine::traceql_metrics`].
    pub async fn traceql_metrics_part(
        &self,
        tenant: &Tenant,
        query: &TraceQlMetrics,
        part: MetricsPart,
        so_far: Option<MetricsSoFar>,
    ) -> Result<(MetricsSoFar, MetricsAnswer), QueryError> {
        let query = query.clone();
        self.run(tenant, async move |view| traceql::part(&view, &query, part, so_far).await).await
    }

    /// The names of the attributes that the spans have which start in the range and which a search leaves, by whose they are: their own, or
    /// those of their resource, library, events or links.
    ///
    /// # Errors
    ///
    /// As of [`Engine::traceql_values`].
    pub async fn traceql_names(
        &self,
        tenant: &Tenant,
        filter: &meshlake_traceql::Query,
        range: TimeRange,
    ) -> Result<BTreeMap<meshlake_traceql::Scope, BTreeSet<String>>, QueryError> {
        let filter = filter.clone();
        self.run(tenant, async move |view| traceql::names(&view, &filter, range).await).await
    }

    /// The values that an attribute has on the spans that start in the range and that a search, if there is one, leaves, each with
    /// how many spans have it: the most frequent first, at most `limit` of them. What `span.meshlake.node`, `.caller` and `.callee` are
    /// without a search, says the graph of the whole minutes of the range: its nodes with the requests that they received, or made.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for a filter that is no search, for an empty range, and where the filter fails on a span.
    pub async fn traceql_values(
        &self,
        tenant: &Tenant,
        attribute: &Attribute,
        filter: Option<&meshlake_traceql::Query>,
        range: TimeRange,
        limit: usize,
    ) -> Result<Vec<(Value<'static>, u64)>, QueryError> {
        let (attribute, filter) = (attribute.clone(), filter.cloned());
        self.run(tenant, async move |view| traceql::values(&view, &attribute, filter.as_ref(), range, limit).await).await
    }

    /// Who called whom in the range: all hops of it as nodes and edges.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for an empty range.
    pub async fn graph(&self, tenant: &Tenant, query: &GraphQuery) -> Result<Graph, QueryError> {
        let query = query.clone();
        self.run(tenant, async move |view| graph::graph(&view, &query).await).await
    }

    /// What the graph of the range has that the graph of the baseline has not, and the other way round.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` where [`GraphDiffQuery::check`] is.
    pub async fn graph_diff(&self, tenant: &Tenant, query: &GraphDiffQuery) -> Result<GraphDiff, QueryError> {
        let query = query.clone();
        self.run(tenant, async move |view| graph::diff(&view, &query).await).await
    }

    /// How long the requests of the range took, step by step.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` where [`LatencyQuery::steps`] is.
    pub async fn latency(&self, tenant: &Tenant, query: &LatencyQuery) -> Result<Latency, QueryError> {
        let query = query.clone();
        self.run(tenant, async move |view| latency::latency(&view, &query).await).await
    }

    /// How many requests of the range took how long, step by step.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` where [`LatencyQuery::steps`] is, and for fewer than 4 or more than 200 buckets.
    pub async fn heatmap(&self, tenant: &Tenant, query: &HeatmapQuery) -> Result<Heatmap, QueryError> {
        let query = query.clone();
        self.run(tenant, async move |view| heatmap::heatmap(&view, &query).await).await
    }

    /// What the end-to-end time of a trace consists of; none for a trace that the tenant does not have.
    ///
    /// # Errors
    ///
    /// [`QueryError`], of any kind but `Invalid`; `TooManyRows` for a path of more segments than `query.max_rows`.
    pub async fn critical_path(&self, tenant: &Tenant, id: TraceId) -> Result<Option<TracePath>, QueryError> {
        self.run(tenant, async move |view| critical_path::of_trace(&view, id).await).await
    }

    /// What the end-to-end times of the traces, or of the requests, of a range consist of.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for an empty range, and if no trace may be read.
    pub async fn critical_paths(&self, tenant: &Tenant, query: &PathQuery) -> Result<CriticalPaths, QueryError> {
        let query = query.clone();
        self.run(tenant, async move |view| critical_path::of_range(&view, &query).await).await
    }

    /// Who receives traced requests and begins new traces instead of continuing them.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for an empty range, and if no trace may be read.
    pub async fn propagation(&self, tenant: &Tenant, query: &PropagationQuery) -> Result<Propagations, QueryError> {
        let query = *query;
        self.run(tenant, async move |view| propagation::propagation(&view, &query).await).await
    }

    /// Runs one SQL statement that only reads, on the tables `spans` and `hops` of the tenant. Errors of parsing and planning come
    /// from here, those of running from the stream. The deadline is one for both.
    ///
    /// # Errors
    ///
    /// [`QueryError`]; `Invalid` for SQL that cannot be parsed or planned, and for statements that do not only read.
    pub async fn sql(&self, tenant: &Tenant, sql: &str) -> Result<SqlAnswer, QueryError> {
        let sql = sql.to_owned();
        let deadline = self.inner.deadline();
        let plan = async move |view: View| plan_sql(view.state, &sql).await?.execute_stream().await;
        let (permit, rows) = self.start(tenant, deadline, plan).await?;
        let schema = rows.schema();
        let running = Running::new(self.inner.clone(), rows, deadline, permit);
        Ok(SqlAnswer { schema, batches: running.stream() })
    }

    /// Runs a query to its end, see [`Engine::start`].
    pub(crate) async fn run<T, F>(&self, tenant: &Tenant, query: impl FnOnce(View) -> F) -> Result<T, QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DataFusionError>> + Send + 'static,
    {
        Ok(self.start(tenant, self.inner.deadline(), query).await?.1)
    }

    /// Waits for a permit, then runs the query in a task of its own, so that the deadline is kept even while it computes.
    async fn start<T, F>(
        &self,
        tenant: &Tenant,
        deadline: Instant,
        query: impl FnOnce(View) -> F,
    ) -> Result<(OwnedSemaphorePermit, T), QueryError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, DataFusionError>> + Send + 'static,
    {
        let started = async {
            let permit = self.inner.permits.clone().acquire_owned().await.map_err(QueryError::internal)?;
            let task = SpawnedTask::spawn(query(self.inner.view(tenant)?));
            let answer = task.join().await.map_err(joined)?;
            Ok((permit, answer?))
        };
        self.inner.by(deadline, started).await
    }
}

fn joined(error: JoinError) -> DataFusionError {
    DataFusionError::ExecutionJoin(Box::new(error))
}

/// All spans of a trace.
async fn trace(view: &View, id: TraceId) -> Result<Option<TracesData>, DataFusionError> {
    let (mut parts, mut rows) = (Vec::new(), 0);
    let add = |found: FoundRows| {
        rows += found.batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        parts.push(found);
        view.check_rows(rows)
    };
    view.each_of(vec![id], None, add).await?;
    let batches = parts.iter().flat_map(|found| &found.batches);
    Ok(if rows == 0 { None } else { Some(traces_data(batches)?) })
}

impl Inner {
    fn view(&self, tenant: &Tenant) -> Result<View, DataFusionError> {
        let snapshot = Arc::new(self.source.snapshot()?);
        let metadata = self.lookups.runtime.cache_manager.get_file_metadata_cache();
        let table = SpansTable::new(tenant.clone(), snapshot.clone(), store_url()?, self.lookups.store.clone(), metadata);
        let table = Arc::new(table);
        let traces = Traces { tenant: tenant.clone(), snapshot: snapshot.clone(), lookups: self.lookups.clone() };
        let (lookups, rollups) = (self.lookups.clone(), self.rollups.clone());
        let summed = Summed { tenant: tenant.clone(), snapshot: snapshot.clone(), lookups, rollups };
        let state = self.sessions.open(table.clone(), Arc::new(HopsTable::new(table.clone(), traces.clone())), &summed)?;
        Ok(View {
            tenant: tenant.clone(),
            snapshot,
            table,
            state,
            lookups: self.lookups.clone(),
            summaries: self.summaries.clone(),
            attribute_counts: self.attribute_counts.clone(),
            file_attributes: self.file_attributes.clone(),
            file_items: self.file_items.clone(),
            summed,
            graphs: self.graphs.clone(),
            traces,
            max_rows: self.max_rows,
        })
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    async fn by<T>(&self, deadline: Instant, query: impl Future<Output = Result<T, DataFusionError>>) -> Result<T, QueryError> {
        let timeout = QueryError::Timeout { limit: self.timeout, setting: TIMEOUT_SETTING };
        // Rows that wait to be taken are not given after the deadline either.
        if Instant::now() >= deadline {
            return Err(timeout);
        }
        timeout_at(deadline, query).await.map_err(|_| timeout)?.map_err(|error| self.classify(&error))
    }

    fn classify(&self, error: &DataFusionError) -> QueryError {
        QueryError::classify(error, self.memory_limit)
    }
}

/// A SQL query that gives its rows.
struct Running {
    inner: Arc<Inner>,
    rows: Receiver<Result<RecordBatch, DataFusionError>>,
    deadline: Instant,
    rows_left: u64,
    task: Option<SpawnedTask<()>>,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    /// Computes the rows in a task of its own, one batch ahead of who takes them.
    fn new(inner: Arc<Inner>, mut rows: SendableRecordBatchStream, deadline: Instant, permit: OwnedSemaphorePermit) -> Self {
        let (sender, receiver) = channel(1);
        let task = SpawnedTask::spawn(async move {
            while let Some(batch) = rows.next().await {
                if sender.send(batch).await.is_err() {
                    return;
                }
            }
        });
        let rows_left = inner.max_rows;
        Running { inner, rows: receiver, deadline, rows_left, task: Some(task), _permit: permit }
    }

    fn stream(self) -> BoxStream<'static, Result<RecordBatch, QueryError>> {
        let next = |running: Option<Running>| async move {
            let mut running = running?;
            match running.next().await.transpose()? {
                Ok(batch) => Some((Ok(batch), Some(running))),
                Err(error) => Some((Err(error), None)),
            }
        };
        stream::unfold(Some(self), next).boxed()
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        let next = async {
            match (self.rows.recv().await, &mut self.task) {
                (None, task) => match task.take() {
                    // Rows that ended because the task broke down are no whole answer.
                    Some(task) => task.join().await.map(|()| None).map_err(joined),
                    None => Ok(None),
                },
                (Some(batch), _) => batch.map(Some),
            }
        };
        let Some(batch) = self.inner.by(self.deadline, next).await? else { return Ok(None) };
        let rows_left = self.rows_left.checked_sub(batch.num_rows() as u64);
        self.rows_left = rows_left.ok_or(QueryError::TooManyRows { limit: self.inner.max_rows, setting: MAX_ROWS_SETTING })?;
        Ok(Some(batch))
    }
}

#[cfg(test)]
mod tests {
    use meshlake_config::ByteSize;

    use super::*;
    use crate::testing::{Chance, TestSource, random_rows, scatter, sql, tenant, value};

    /// Work that does not end before any deadline of these tests.
    const ENDLESS: &str =
        "SELECT count(*) FROM spans a, spans b, spans c, spans d WHERE a.duration + b.duration + c.duration + d.duration = 1";
    const RECURSIVE: &str = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t";

    async fn engine(config: Query) -> Engine {
        let mut chance = Chance(31);
        let rows = random_rows(&mut chance, "a", 300);
        scatter(&mut chance, &rows).await.engine_with(&Query { threads: 2, ..config })
    }

    /// Scenario: more rows than allowed, just as many, and a query that needs few of many. Guarantee: only the first fails,
    /// after the rows that fit, and names the setting.
    #[tokio::test]
    async fn rows_are_limited() {
        let engine = engine(Query { max_rows: 10, ..Query::default() }).await;
        let error = sql(&engine, "a", "SELECT name FROM spans").await.unwrap_err();
        assert_eq!(error, QueryError::TooManyRows { limit: 10, setting: "query.max_rows" });
        assert!(error.to_string().contains("query.max_rows"), "{error}");
        let rows = sql(&engine, "a", "SELECT name FROM spans LIMIT 10").await.unwrap();
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 10);
        assert!(value(&engine, "a", "SELECT count(*) > 500 FROM spans").await.contains("true"));
    }

    /// Scenario: a query that runs past the deadline, and one that is not read. Guarantee: both end with the setting's name,
    /// and the next query runs.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn time_is_limited() {
        let engine = engine(Query { timeout: Duration::from_secs(2), concurrency: 1, ..Query::default() }).await;
        let timeout = QueryError::Timeout { limit: Duration::from_secs(2), setting: "query.timeout" };
        assert_eq!(sql(&engine, "a", ENDLESS).await.unwrap_err(), timeout);
        assert_eq!(sql(&engine, "a", RECURSIVE).await.unwrap_err(), timeout);
        let mut answer = engine.sql(&tenant("a"), "SELECT * FROM spans").await.unwrap();
        tokio::time::sleep(Duration::from_millis(2_100)).await;
        let late = loop {
            match answer.batches.next().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert_eq!(late, Some(Err(timeout)));
        drop(answer);
        assert_eq!(value(&engine, "a", "SELECT 1").await, "1");
    }

    /// Scenario: one query at a time, the first endless. Guarantee: the second waits within its own deadline, and runs as soon
    /// as the first is dropped.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn queries_wait_for_their_turn_and_dropping_gives_it() {
        let engine = engine(Query { timeout: Duration::from_secs(2), concurrency: 1, ..Query::default() }).await;
        let first = engine.sql(&tenant("a"), ENDLESS).await.unwrap();
        assert!(matches!(sql(&engine, "a", "SELECT 1").await, Err(QueryError::Timeout { .. })));
        drop(first);
        assert_eq!(value(&engine, "a", "SELECT 1").await, "1");
    }

    /// Scenario: a sort and the lookup of all hops that need more memory than queries may use. Guarantee: the error names the
    /// setting, and nothing of the pool stays taken.
    #[tokio::test]
    async fn memory_is_limited() {
        let engine = engine(Query { memory_limit: ByteSize::kib(64), ..Query::default() }).await;
        let big = "SELECT * FROM spans ORDER BY name, span_id";
        let expected = QueryError::OutOfMemory { limit: 65536, setting: "query.memory_limit" };
        assert_eq!(sql(&engine, "a", big).await.unwrap_err(), expected);
        assert_eq!(engine.inner.lookups.runtime.memory_pool.reserved(), 0);
        assert_eq!(value(&engine, "a", "SELECT count(*) FROM spans WHERE name = 'none'").await, "0");
        // Hops take less for fewer traces at once, but not nothing.
        let engine = self::engine(Query { memory_limit: ByteSize::kib(8), ..Query::default() }).await;
        let expected = QueryError::OutOfMemory { limit: 8192, setting: "query.memory_limit" };
        assert_eq!(sql(&engine, "a", "SELECT count(*) FROM hops").await.unwrap_err(), expected);
    }

    /// Scenario: mistakes in SQL. Guarantee: the user's, with a message that names what is wrong and no prefix of the engine's.
    #[tokio::test]
    async fn mistakes_are_explained() {
        let engine = TestSource::new().engine();
        for (query, expected) in [
            ("SELECT nope FROM spans", "no field named nope"),
            ("SELECT * FROM nope", "'meshlake.public.nope' not found"),
            ("SELEC 1", "expected: an SQL statement"),
            ("SELECT nope(1)", "nope"),
            ("SELECT CAST('x' AS INT)", "cast string 'x'"),
            ("SELECT sum(name) FROM spans", "sum"),
        ] {
            let error = sql(&engine, "a", query).await.unwrap_err();
            let QueryError::Invalid { message } = &error else { panic!("{query}: {error:?}") };
            assert!(message.contains(expected), "{query}: {message}");
            assert!(!message.contains("Error") && !message.contains("DataFusion"), "{query}: {message}");
        }
    }

    /// Scenario: ids in SQL. Guarantee: binary literals find them and `encode` shows them.
    #[tokio::test]
    async fn ids_are_binary_in_sql() {
        let engine = engine(Query::default()).await;
        let id = value(&engine, "a", "SELECT encode(trace_id, 'hex') FROM spans LIMIT 1").await;
        assert_eq!(id.len(), 32);
        assert_ne!(value(&engine, "a", &format!("SELECT count(*) FROM spans WHERE trace_id = X'{id}'")).await, "0");
    }
}
