//! How many requests took how long, step by step.

use datafusion::error::Result;
use meshlake_hops::{Grid, Histogram};

use crate::error::QueryError;
use crate::hops::HopCounts;
use crate::latency::{self, Groups, LatencyQuery};
use crate::view::View;

/// The fewest and the most buckets that may be asked for.
const BUCKETS_MIN: usize = 4;
const BUCKETS_MAX: usize = 200;

/// A question for a heatmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeatmapQuery {
    /// Which requests, and who tells of them. A group is a heatmap of its own; quantiles are not answered.
    pub requests: LatencyQuery,
    /// The most buckets that the latencies are divided into.
    pub buckets: usize,
}

/// Latencies of a range by step and bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heatmap {
    /// OpenTelemetry's scale of the buckets: the finest at which there are no more than were asked for. That of histograms is 5, and no bucket of theirs
    /// is split.
    pub scale: i32,
    /// The least and the greatest latency of each bucket, nanoseconds, ascending; the same for all groups.
    pub buckets: Vec<(u64, u64)>,
    /// By group.
    pub series: Vec<HeatmapSeries>,
    /// The hops that they are made of.
    pub counts: HopCounts,
}

/// The heatmap of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeatmapSeries {
    /// The group; none where no span tells it, or nothing is grouped by.
    pub group: Option<String>,
    /// By time. Steps without latencies have none.
    pub columns: Vec<HeatmapColumn>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeatmapColumn {
    /// The end of the step, which belongs to it; microseconds since the epoch.
    pub end: i64,
    /// How many latencies are in each bucket.
    pub counts: Vec<u64>,
}

/// The heatmap of the range.
pub(crate) async fn heatmap(view: &View, query: &HeatmapQuery) -> Result<Heatmap> {
    if !(BUCKETS_MIN..=BUCKETS_MAX).contains(&query.buckets) {
        return Err(QueryError::invalid(format!("a heatmap has from {BUCKETS_MIN} to {BUCKETS_MAX} buckets")).into());
    }
    let Groups { steps, counts, memory } = latency::groups(view, &query.requests).await?;
    let mut all = Histogram::new();
    steps.values().flat_map(|steps| steps.values()).for_each(|totals| all.merge(&totals.latency));
    let grid = Grid::over(&all, query.buckets);
    let columns = steps.values().map(|steps| steps.len()).sum::<usize>();
    memory.try_grow(columns * grid.bounds().len() * size_of::<u64>())?;
    let series = steps.into_iter().map(|(name, steps)| HeatmapSeries {
        group: Some(name).filter(|name| !name.is_empty()),
        columns: steps
            .iter()
            .filter(|(_, totals)| totals.latency.count() > 0)
            .map(|(step, totals)| HeatmapColumn { end: query.requests.bounds(*step).1, counts: grid.counts(&totals.latency) })
            .collect(),
    });
    Ok(Heatmap { scale: grid.scale(), buckets: grid.bounds().to_vec(), series: series.collect(), counts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TimeRange;
    use crate::latency::{GroupBy, LatencySide};
    use crate::testing::{Chance, START, TestSource, mesh_rows, scatter, tenant, value};

    const START_MICROS: i64 = (START / 1000) as i64;

    fn asked(buckets: usize, group_by: Option<GroupBy>) -> HeatmapQuery {
        let requests = LatencyQuery {
            range: TimeRange { start: START_MICROS + 100_000_000, end: START_MICROS + 700_000_000 },
            step: 200_000_000,
            service: None,
            operation: None,
            workload: None,
            namespace: None,
            cluster: None,
            side: LatencySide::Caller,
            group_by,
            quantiles: Vec::new(),
        };
        HeatmapQuery { requests, buckets }
    }

    /// Scenario: random traces of a mesh, in few and in many buckets, by version or not. Guarantee: each count is that of the table `hops` between the
    /// bounds of its bucket and step, and none is left out (P3).
    #[tokio::test]
    async fn counts_are_those_of_hops() {
        let engine = scatter(&mut Chance(21), &mesh_rows(&mut Chance(22), "a", 150)).await.engine();
        for (buckets, group_by) in [(4, None), (60, None), (10, Some(GroupBy::Version))] {
            let query = asked(buckets, group_by);
            let heatmap = engine.heatmap(&tenant("a"), &query).await.unwrap();
            assert!((2..=buckets).contains(&heatmap.buckets.len()), "{heatmap:?}");
            let nanos = "cast(time as bigint) * 1000 + time_nanos";
            let mut latencies = 0;
            for series in &heatmap.series {
                let version = series.group.as_ref().map(|version| format!("callee_version = '{version}'"));
                let of_group = match group_by {
                    None => "true".to_owned(),
                    Some(_) => version.unwrap_or_else(|| "callee_version IS NULL".to_owned()),
                };
                for column in &series.columns {
                    let of_step = format!("{nanos} > {}000 AND {nanos} <= {}000", column.end - query.requests.step, column.end);
                    for ((low, high), count) in heatmap.buckets.iter().zip(&column.counts) {
                        let found = format!(
                            "SELECT count(*) FROM hops WHERE caller_latency BETWEEN {low} AND {high} AND {of_group} AND {of_step}"
                        );
                        assert_eq!(value(&engine, "a", &found).await, count.to_string(), "{found}");
                        latencies += count;
                    }
                }
            }
            let range = query.requests.range;
            let all = format!(
                "SELECT count(caller_latency) FROM hops WHERE {nanos} > {}000 AND {nanos} <= {}000",
                range.start, range.end
            );
            assert_eq!(value(&engine, "a", &all).await, latencies.to_string());
        }
    }

    /// Scenario: no spans; too few and too many buckets. Guarantee: an empty heatmap; a refusal that names the limits.
    #[tokio::test]
    async fn buckets_are_limited() {
        let engine = TestSource::new().engine();
        let heatmap = async |buckets| engine.heatmap(&tenant("a"), &asked(buckets, None)).await;
        let empty = heatmap(BUCKETS_MAX).await.unwrap();
        assert!(empty.buckets.is_empty() && empty.series.is_empty(), "{empty:?}");
        for buckets in [BUCKETS_MIN - 1, BUCKETS_MAX + 1] {
            assert_eq!(heatmap(buckets).await.unwrap_err().to_string(), "a heatmap has from 4 to 200 buckets");
        }
    }
}
