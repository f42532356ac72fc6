//! Where a query runs: one DataFusion session a query, over what all queries share.
//!
//! A session knows the tables `spans`, `hops` and their sums of one tenant and nothing else: no files, no URLs, no other catalogs (P8). Memory for
//! all queries comes from one pool and nothing spills to disk, so a query that needs more ends with an error (P6).

use std::sync::Arc;

use datafusion::catalog::{CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::common::{Result, plan_err};
use datafusion::dataframe::DataFrame;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::{LogicalPlan, ScalarUDF};
use datafusion::prelude::{SQLOptions, SessionConfig};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use object_store::ObjectStore;

use crate::attribute::{self, AttributeFunction};
use crate::histograms;
use crate::hops::HopsTable;
use crate::rollups::{RollupTable, Rows, STEPS, Summed};
use crate::spans::SpansTable;
use crate::yielding::GiveWay;

/// The names of the tables.
pub(crate) const SPANS: &str = "spans";
const HOPS: &str = "hops";
const CATALOG: &str = "meshlake";
const SCHEMA: &str = "public";

/// What all sessions share.
#[derive(Clone)]
pub(crate) struct Sessions {
    template: SessionState,
}

/// Where the sessions' object store is registered; no SQL can name it.
pub(crate) fn store_url() -> Result<ObjectStoreUrl> {
    ObjectStoreUrl::parse("meshlake://store")
}

impl Sessions {
    /// `memory_limit` and `metadata_cache` in bytes, for all sessions together.
    pub(crate) fn new(store: &Arc<dyn ObjectStore>, threads: usize, memory_limit: usize, metadata_cache: usize) -> Result<Self> {
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_limit)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .with_metadata_cache_limit(metadata_cache)
            .build_arc()?;
        // P8: the local file system is there by default.
        runtime.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
        runtime.register_object_store(store_url()?.as_ref(), store.clone());
        Ok(Sessions { template: template(runtime, threads) })
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        self.template.runtime_env()
    }

    /// A session that sees the tables of one tenant.
    pub(crate) fn open(&self, spans: Arc<SpansTable>, hops: Arc<HopsTable>, summed: &Summed) -> Result<SessionState> {
        let schema = MemorySchemaProvider::new();
        schema.register_table(SPANS.to_owned(), spans)?;
        schema.register_table(HOPS.to_owned(), hops)?;
        for (name, rows) in Rows::ALL {
            for (end, step) in STEPS {
                let table = RollupTable::new(summed.clone(), rows, step);
                schema.register_table(format!("{name}_{end}"), Arc::new(table))?;
            }
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(SCHEMA, Arc::new(schema))?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state = self.template.clone();
        state.register_catalog_list(Arc::new(catalogs));
        state.mark_start_execution();
        Ok(state)
    }
}

fn template(runtime: Arc<RuntimeEnv>, threads: usize) -> SessionState {
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.push(Arc::new(ScalarUDF::from(AttributeFunction::new())));
    functions.extend(histograms::scalar_functions());
    let mut aggregates = SessionStateDefaults::default_aggregate_functions();
    aggregates.extend(histograms::aggregate_functions());
    SessionStateBuilder::new()
        .with_config(config(threads))
        .with_runtime_env(runtime)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(functions)
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(aggregates)
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_physical_optimizer_rule(Arc::new(GiveWay))
        .build()
}

fn config(threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true)
        .with_target_partitions(threads)
        .with_batch_size(8192);
    let parquet = &mut config.options_mut().execution.parquet;
    parquet.pushdown_filters = true;
    parquet.reorder_filters = true;
    parquet.enable_page_index = true;
    config
}

/// Plans one statement that only reads: SELECT, VALUES, EXPLAIN, DESCRIBE or SHOW.
pub(crate) async fn plan_sql(state: SessionState, sql: &str) -> Result<DataFrame> {
    let dialect = state.config().options().sql_parser.dialect;
    let mut statement = state.sql_to_statement(sql, &dialect)?;
    check_reads_only(&statement)?;
    let calls = attribute::rewrite(&mut statement)?;
    let plan = state.statement_to_plan(statement).await.map_err(|error| attribute::explain(error, calls))?;
    if matches!(plan, LogicalPlan::Analyze(_)) {
        // P8: its counters tell about other tenants' rows in the same files.
        return plan_err!("EXPLAIN ANALYZE is not offered; use EXPLAIN");
    }
    let reads_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reads_only.verify_plan(&plan)?;
    Ok(DataFrame::new(state, plan))
}

fn check_reads_only(statement: &Statement) -> Result<()> {
    let reads = match statement {
        Statement::Explain(explain) => return check_reads_only(&explain.statement),
        Statement::Statement(statement) => is_read(statement),
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    };
    if reads {
        return Ok(());
    }
    plan_err!("only statements that read are offered: SELECT, VALUES, EXPLAIN, DESCRIBE, SHOW")
}

fn is_read(statement: &ast::Statement) -> bool {
    match statement {
        ast::Statement::Explain { statement, .. } => is_read(statement),
        ast::Statement::Query(_)
        | ast::Statement::ExplainTable { .. }
        | ast::Statement::ShowTables { .. }
        | ast::Statement::ShowColumns { .. }
        | ast::Statement::ShowFunctions { .. }
        | ast::Statement::ShowVariable { .. } => true,
        _ => false,
    }
}
