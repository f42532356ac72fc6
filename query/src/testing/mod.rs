//! A source with live batches and small Parquet files, and chance that repeats.

mod mesh;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use meshlake_config::{Config, Query, Tenant};
use meshlake_storage::{
    AttributeCounter, Counted, Deletions, LiveBatch, LiveSource, Promoted, PromotedColumns, Rollups, Scope, Snapshot, SpanFile,
    ValueType, lake_schema, promote,
};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;

use crate::condition::SqlConditions;
use crate::{Engine, HopRollups, QueryError, SpanSource};

pub(crate) use mesh::{each_trace, mesh_rows, span};
pub(crate) use rows::{SpanRow, batch, int, key_value, text};

/// Spans in memory and in files.
#[derive(Debug)]
pub(crate) struct TestSource {
    pub snapshot: Snapshot,
    promoted: Vec<Promoted>,
    store: Arc<dyn ObjectStore>,
    deletions: Arc<Deletions>,
}

impl SpanSource for TestSource {
    fn snapshot(&self) -> Result<Snapshot, ArrowError> {
        Ok(self.snapshot.clone())
    }

    fn object_store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    fn deletions(&self) -> &Arc<Deletions> {
        &self.deletions
    }
}

impl TestSource {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    pub(crate) fn over(store: Arc<dyn ObjectStore>) -> Self {
        let deletions = Arc::new(Deletions::new(store.clone(), Arc::new(SqlConditions::new()), BTreeMap::new));
        let snapshot = Snapshot { live: Vec::new(), files: Arc::default(), promotions: Arc::default() };
        TestSource { snapshot, promoted: promoted(), store, deletions }
    }

    /// With other promoted attributes than [`promoted`].
    pub(crate) fn promoting(list: Vec<Promoted>) -> Self {
        TestSource { promoted: list, ..Self::new() }
    }

    pub(crate) fn add_live(&mut self, rows: &[SpanRow]) {
        if let Some((start_min, start_max)) = bounds(rows) {
            let source = LiveSource { generation: self.snapshot.live.len() as u64, shard: 0 };
            self.snapshot.live.push(LiveBatch { batch: batch(rows), start_min, start_max, source, first_row: 0 });
        }
    }

    /// Writes a file of the rows in pages of a few rows, several row groups. The first has columns for no promoted attribute, and each
    /// that follows for one more of [`promoted`], as files of a lake do.
    pub(crate) async fn add_file(&mut self, rows: &[SpanRow]) {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(64))
            .set_data_page_row_count_limit(8)
            .set_write_batch_size(4);
        self.add_file_with(rows, properties.build()).await;
    }

    pub(crate) async fn add_file_with(&mut self, rows: &[SpanRow], properties: WriterProperties) {
        let path = format!("fresh/a%b/{}.parquet", self.snapshot.files.len());
        self.put_file(path, rows, properties).await;
    }

    /// Writes a lake file of the rows, which are of one tenant; beside it what attributes they have, if it `tells`.
    pub(crate) async fn add_lake_file(&mut self, rows: &[SpanRow], tells: bool) {
        let path = format!("lake/data/2026-01-01/{}.parquet", self.snapshot.files.len());
        if tells {
            let mut counter = AttributeCounter::new(Counted::All);
            rows.chunks(50).for_each(|rows| counter.add(&batch(rows)).unwrap());
            counter.finish().put(self.store.as_ref(), &path).await.unwrap();
        }
        self.put_file(path, rows, WriterProperties::default()).await;
    }

    /// Writes a lake file of the rows, which are of one tenant, with the sums of their hops beside it.
    pub(crate) async fn add_summed_file(&mut self, rows: &[SpanRow]) {
        let before = self.snapshot.files.clone();
        let path = format!("lake/data/2026-01-01/{}.parquet", before.len());
        self.put_file(path.clone(), rows, WriterProperties::default()).await;
        let Some(file) = self.snapshot.files.iter().find(|file| file.path == path).cloned() else { return };
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| (row.trace, row.start));
        let mut rollup = HopRollups::new(self.store.clone(), &Config::default()).unwrap().begin(&self.snapshot.promotions.list);
        rows.chunks(37).for_each(|rows| rollup.add(&batch(rows)).unwrap());
        let earlier = before.iter().filter(|other| other.is_in_lake() && other.tenants == file.tenants).cloned().collect();
        let rollup = rollup.finish(&file, earlier).await.unwrap();
        rollup.put(self.store.as_ref(), &path).await.unwrap();
        let summed = SpanFile { rollup: Some(rollup.bounds), ..(*file).clone() };
        let files = before.iter().cloned().chain([Arc::new(summed)]);
        self.snapshot.files = Arc::new(files.collect());
    }

    /// Takes a file out, as if it had never been.
    pub(crate) fn remove_file(&mut self, path: &str) {
        self.snapshot.files = Arc::new(self.snapshot.files.iter().filter(|file| file.path != path).cloned().collect());
    }

    async fn put_file(&mut self, path: String, rows: &[SpanRow], properties: WriterProperties) {
        let Some((start_min, start_max)) = bounds(rows) else { return };
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| (row.tenant.clone(), row.trace, row.start));
        let list = &self.promoted[..self.snapshot.files.len() % (self.promoted.len() + 1)];
        let mut writer = ArrowWriter::try_new(Vec::new(), lake_schema(list), Some(properties)).unwrap();
        let stored = promote(&batch(&rows), list).unwrap();
        let mut columns = PromotedColumns::new(list);
        columns.note(&stored);
        writer.write(&stored).unwrap();
        let bytes = writer.into_inner().unwrap();
        let size = bytes.len() as u64;
        let path = object_store::path::Path::from(path);
        self.store.put(&path, bytes.into()).await.unwrap();
        let mut tenants: Vec<String> = rows.iter().map(|row| row.tenant.clone()).collect();
        tenants.sort();
        tenants.dedup();
        let file = SpanFile {
            path: path.to_string(),
            size,
            rows: rows.len() as u64,
            start_min,
            start_max,
            end_max: i64::MAX,
            tenants,
            window: self.snapshot.files.len().is_multiple_of(2).then_some(start_min),
            promoted: columns,
            version: path.as_ref().starts_with("lake/").then_some(self.snapshot.files.len() as u64),
            ..SpanFile::default()
        };
        let promotions = Arc::make_mut(&mut self.snapshot.promotions);
        promotions.list = Arc::new(self.promoted.clone());
        promotions.note(&file);
        Arc::make_mut(&mut self.snapshot.files).extend([Arc::new(file)]);
    }

    pub(crate) fn engine(self) -> Engine {
        self.engine_with(&Query { threads: 2, ..Query::default() })
    }

    pub(crate) fn engine_with(self, config: &Query) -> Engine {
        Engine::new(Arc::new(self), config).unwrap()
    }
}

/// The promoted attributes of the lakes of tests.
pub(crate) fn promoted() -> Vec<Promoted> {
    let promoted = |scope, key: &str, value_type| Promoted { scope, key: key.to_owned(), value_type };
    vec![
        promoted(Scope::Span, "retries", ValueType::Int),
        promoted(Scope::Span, "x", ValueType::String),
        promoted(Scope::Resource, "x", ValueType::String),
        promoted(Scope::Span, "ok", ValueType::Bool),
        promoted(Scope::Span, "d", ValueType::Double),
    ]
}

fn bounds(rows: &[SpanRow]) -> Option<(i64, i64)> {
    let starts = || rows.iter().map(SpanRow::start_micros);
    Some((starts().min()?, starts().max()?))
}

pub(crate) fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).unwrap()
}

/// All rows of a SQL query.
pub(crate) async fn sql(engine: &Engine, name: &str, sql: &str) -> Result<Vec<RecordBatch>, QueryError> {
    engine.sql(&tenant(name), sql).await?.batches.try_collect().await
}

/// Batches as a table in text.
pub(crate) fn pretty(batches: &[RecordBatch]) -> String {
    let batches: Vec<RecordBatch> = batches.iter().filter(|batch| batch.num_rows() > 0).cloned().collect();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// All rows of a SQL query as a table in text.
pub(crate) async fn table(engine: &Engine, name: &str, query: &str) -> String {
    pretty(&sql(engine, name, query).await.unwrap_or_else(|error| panic!("{query}: {error}")))
}

/// The one value of a SQL query, in text.
pub(crate) async fn value(engine: &Engine, name: &str, query: &str) -> String {
    let table = table(engine, name, query).await;
    let cell = table.lines().nth(3).unwrap_or_default();
    cell.trim_matches(|letter| letter == '|' || letter == ' ').to_owned()
}

/// Numbers that look random and are the same each time.
pub(crate) struct Chance(pub u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

/// Traces of `tenant` whose spans start in 1,000 s from `SECOND_0`; few services, names and attributes, so that filters hit.
pub(crate) fn random_rows(chance: &mut Chance, tenant: &str, traces: u64) -> Vec<SpanRow> {
    let mut rows = Vec::new();
    for _ in 0..traces {
        let trace = u128::from(chance.next()) << 64 | u128::from(chance.next());
        let start = START + chance.below(1_000_000_000_000);
        let root = chance.next();
        for index in 0..=chance.below(6) {
            let has_root = index == 0 && chance.below(8) > 0;
            let span = if index == 0 { root } else { chance.next() };
            let service = chance.pick(&["productpage", "reviews", "details", "ratings"]);
            let mut attributes =
                vec![text("http.method", chance.pick(&["GET", "POST"])), text("http.status_code", chance.pick(&["200", "503"]))];
            attributes.push(int("retries", chance.below(3) as i64));
            let status = chance.pick(&["unset", "ok", "error"]);
            rows.push(SpanRow {
                tenant: tenant.to_owned(),
                trace,
                span,
                parent: if has_root { None } else { Some(chance.next()) },
                start: start + chance.below(5_000_000_000),
                duration: chance.below(2_000_000_000) as i64 - 1_000_000,
                name: chance.pick(&["GET /", "reviews.svc:9080/*", "db"]).to_owned(),
                kind: Some(chance.pick(&["server", "client"])),
                status: Some(status),
                error: status == "error",
                service: (chance.below(10) > 0).then(|| service.to_owned()),
                namespace: Some("bookinfo".to_owned()),
                attributes,
                ..SpanRow::default()
            });
        }
    }
    rows
}

/// 2026-01-01T00:00:00Z in nanoseconds.
pub(crate) const START: u64 = 1_767_225_600_000_000_000;

/// The rows of each trace at random in one of some live batches and files.
pub(crate) async fn scatter(chance: &mut Chance, rows: &[SpanRow]) -> TestSource {
    scatter_over(TestSource::new(), chance, rows).await
}

/// The same over a source that is empty yet.
pub(crate) async fn scatter_over(mut source: TestSource, chance: &mut Chance, rows: &[SpanRow]) -> TestSource {
    let mut parts: Vec<Vec<SpanRow>> = vec![Vec::new(); 7];
    for row in rows {
        // By time, with some far off, so that bounds of parts differ but overlap.
        let window = ((row.start - START) / 170_000_000_000).min(5) as usize;
        let part = if chance.below(20) == 0 { 6 } else { window };
        parts[part].push(row.clone());
    }
    for (index, part) in parts.iter().enumerate() {
        match index {
            1 | 5 | 6 => source.add_live(part),
            _ => source.add_file(part).await,
        }
    }
    source
}
