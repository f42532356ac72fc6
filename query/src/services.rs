//! Which services there are, and what they do.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::logical_expr::{Expr, case, col, lit};
use meshlake_storage::OperationCount;

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
    let of_file =
        |one: &OperationCount| one.service.is_some().then(|| [one.service.clone(), one.namespace.clone(), one.cluster.clone()]);
    let counts = counts(view, range, filter, ["service", "namespace", "cluster"], of_file).await?;
    let service = |([service, namespace, cluster], (spans, errors)): ([Option<String>; 3], _)| {
        Some(ServiceSummary { service: service?, namespace, cluster, spans, errors })
    };
    Ok(counts.into_iter().filter_map(service).collect())
}

/// The operations of a service, by name and kind.
pub(crate) async fn operations(view: &View, service: &str, range: TimeRange) -> Result<Vec<OperationSummary>> {
    let filter = starts_in(range).and(col("service").eq(lit(service)));
    let of_file =
        |one: &OperationCount| (one.service.as_deref() == Some(service)).then(|| [Some(one.name.clone()), Some(one.kind.clone())]);
    let counts = counts(view, range, filter, ["name", "kind"], of_file).await?;
    let operation = |([operation, kind], (spans, errors)): ([Option<String>; 2], _)| {
        Some(OperationSummary { operation: operation?, kind: kind?, spans, errors })
    };
    Ok(counts.into_iter().filter_map(operation).collect())
}

/// Groups, with their spans and those with an error.
type Counts<const N: usize> = BTreeMap<[Option<String>; N], (u64, u64)>;

/// Counts spans: in files that say it themselves by `of_file`, in all else by a scan.
async fn counts<const N: usize>(
    view: &View,
    range: TimeRange,
    filter: Expr,
    by: [&str; N],
    of_file: impl Fn(&OperationCount) -> Option<[Option<String>; N]>,
) -> Result<Counts<N>> {
    let (summaries, rest) = view.summaries.split(&view.snapshot, &view.tenant, range).await;
    let mut counts = Counts::new();
    for one in summaries.iter().flat_map(|summary| &summary.operations) {
        if let Some(group) = of_file(one) {
            let count = counts.entry(group).or_default();
            *count = (count.0 + one.spans, count.1 + one.errors);
        }
    }
    let errors = sum(case(col("error")).when(lit(true), lit(1i64)).otherwise(lit(0i64))?);
    let groups = by.iter().map(|name| col(*name)).collect();
    let frame = view.spans_of(rest)?.filter(filter)?.aggregate(groups, vec![count(lit(1i64)), errors])?;
    for batch in &view.collect(frame).await? {
        read_counts(batch, &mut counts)?;
    }
    view.check_rows(counts.len())?;
    Ok(counts)
}

fn read_counts<const N: usize>(batch: &RecordBatch, counts: &mut Counts<N>) -> Result<()> {
    let text = |column: &ArrayRef| cast(column, &DataType::Utf8);
    let texts: Vec<ArrayRef> = batch.columns()[..N].iter().map(text).collect::<Result<_, _>>()?;
    let number = |index: usize| batch.column(index).as_primitive::<Int64Type>();
    let (spans, errors) = (number(N), number(N + 1));
    let name = |column: &ArrayRef, row: usize| column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned());
    for row in 0..batch.num_rows() {
        let count = counts.entry(std::array::from_fn(|index| name(&texts[index], row))).or_default();
        *count = (count.0 + spans.value(row) as u64, count.1 + errors.value(row) as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
