//! Which services there are, and what they do.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, case, col, lit};

use crate::types::TimeRange;
use crate::view::{View, starts_in};

/// One service and how many of its spans started in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSummary {
    /// The service.
    pub service: String,
    /// Its namespace, where known.
    pub namespace: Option<String>,
    /// Its cluster, where known.
    pub cluster: Option<String>,
    /// Spans.
    pub spans: u64,
    /// Spans whose `error` is true.
    pub errors: u64,
}

/// One operation (span name and kind) of a service and how many of its spans started in the range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationSummary {
    /// The span's name.
    pub operation: String,
    /// The span's kind: `server`, `client`, …
    pub kind: String,
    /// Spans.
    pub spans: u64,
    /// Spans whose `error` is true.
    pub errors: u64,
}

/// The services, by name, namespace, cluster. Spans without a service are left out.
pub(crate) async fn services(view: &View, range: TimeRange) -> Result<Vec<ServiceSummary>> {
    let filter = starts_in(range).and(col("service").is_not_null());
    let counts = counts(view, filter, &["service", "namespace", "cluster"]).await?;
    let mut services: Vec<ServiceSummary> = counts.into_iter().filter_map(service).collect();
    services.sort_by(|a, b| (&a.service, &a.namespace, &a.cluster).cmp(&(&b.service, &b.namespace, &b.cluster)));
    Ok(services)
}

fn service(count: Count) -> Option<ServiceSummary> {
    let [service, namespace, cluster] = <[Option<String>; 3]>::try_from(count.names).ok()?;
    Some(ServiceSummary { service: service?, namespace, cluster, spans: count.spans, errors: count.errors })
}

/// The operations of a service, by name and kind.
pub(crate) async fn operations(view: &View, service: &str, range: TimeRange) -> Result<Vec<OperationSummary>> {
    let filter = starts_in(range).and(col("service").eq(lit(service)));
    let counts = counts(view, filter, &["name", "kind"]).await?;
    let mut operations: Vec<OperationSummary> = counts.into_iter().filter_map(operation).collect();
    operations.sort_by(|a, b| (&a.operation, &a.kind).cmp(&(&b.operation, &b.kind)));
    Ok(operations)
}

fn operation(count: Count) -> Option<OperationSummary> {
    let [operation, kind] = <[Option<String>; 2]>::try_from(count.names).ok()?;
    Some(OperationSummary { operation: operation?, kind: kind?, spans: count.spans, errors: count.errors })
}

/// A group of spans.
struct Count {
    names: Vec<Option<String>>,
    spans: u64,
    errors: u64,
}

async fn counts(view: &View, filter: Expr, by: &[&str]) -> Result<Vec<Count>> {
    let errors = sum(case(col("error")).when(lit(true), lit(1i64)).otherwise(lit(0i64))?);
    let groups = by.iter().map(|name| col(*name)).collect();
    let frame = view.spans()?.filter(filter)?.aggregate(groups, vec![count(lit(1i64)), errors])?;
    let batches = view.collect(frame).await?;
    let mut counts = Vec::new();
    for batch in &batches {
        counts.extend(read_counts(batch, by.len())?);
    }
    Ok(counts)
}

fn read_counts(batch: &RecordBatch, names: usize) -> Result<Vec<Count>> {
    let text = |column: &ArrayRef| cast(column, &DataType::Utf8);
    let texts: Vec<ArrayRef> = batch.columns()[..names].iter().map(text).collect::<Result<_, _>>()?;
    let number = |index: usize| batch.column(index).as_primitive::<Int64Type>();
    let (spans, errors) = (number(names), number(names + 1));
    let name = |column: &ArrayRef, row: usize| column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned());
    let count = |row: usize| Count {
        names: texts.iter().map(|column| name(column, row)).collect(),
        spans: spans.value(row) as u64,
        errors: errors.value(row) as u64,
    };
    Ok((0..batch.num_rows()).map(count).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::testing::{Chance, START, random_rows, scatter, tenant};

    /// Scenario: services and operations of a part of the time, two tenants. Guarantee: names and counts are those of the
    /// tenant's spans that start in the range, in order of name.
    #[tokio::test]
    async fn services_and_operations_are_counted() {
        let mut chance = Chance(21);
        let rows = random_rows(&mut chance, "a", 200);
        let other = random_rows(&mut chance, "b", 50);
        let engine = scatter(&mut chance, &[rows.clone(), other].concat()).await.engine();
        let start = (START / 1000) as i64;
        let range = TimeRange { start: start + 200_000_000, end: start + 600_000_000 };
        let in_range = || rows.iter().filter(|row| (range.start..range.end).contains(&row.start_micros()));
        let mut services: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut operations: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
        for row in in_range() {
            let Some(service) = row.service.clone() else { continue };
            let counts = services.entry(service.clone()).or_default();
            (counts.0, counts.1) = (counts.0 + 1, counts.1 + u64::from(row.error));
            if service == "reviews" {
                let counts = operations.entry((row.name.clone(), row.kind.unwrap().to_owned())).or_default();
                (counts.0, counts.1) = (counts.0 + 1, counts.1 + u64::from(row.error));
            }
        }
        let of_service = |(service, (spans, errors))| ServiceSummary {
            service,
            namespace: Some("bookinfo".to_owned()),
            cluster: None,
            spans,
            errors,
        };
        let of_operation = |((operation, kind), (spans, errors))| OperationSummary { operation, kind, spans, errors };
        let found = engine.services(&tenant("a"), range).await.unwrap();
        assert_eq!(found, services.into_iter().map(of_service).collect::<Vec<_>>());
        let found = engine.operations(&tenant("a"), "reviews", range).await.unwrap();
        assert_eq!(found, operations.into_iter().map(of_operation).collect::<Vec<_>>());
        assert!(engine.operations(&tenant("a"), "nobody", range).await.unwrap().is_empty());
    }
}
