//! How long requests took, step by step.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use datafusion::error::Result;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use meshlake_hops::rollup::{Count, Grain, Keys, MINUTE, Measures, RollupBuilder, RollupKey, SideMeasures};
use meshlake_hops::{Histogram, Node};

use crate::error::QueryError;
use crate::hops::{HopCounts, SignedCounts};
use crate::quantile::Quantile;
use crate::rollups::{OpenPiece, Piece, on_the_fly, pieces};
use crate::types::TimeRange;
use crate::view::View;

/// The most steps of a range.
const STEPS_MAX: i64 = 11_000;
/// What a point takes, with a histogram of a hundred buckets.
const POINT_BYTES: usize = 2_048;
/// Microseconds of a minute.
const MINUTE_MICROS: i64 = (MINUTE / 1_000) as i64;

/// A question for latencies: of the requests that a callee received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyQuery {
    /// When the hops' key spans start; right-closed: `start < t <= end`, and so is each step.
    pub range: TimeRange,
    /// Length of a step, microseconds. The last one is shorter where the range is no multiple of it.
    pub step: i64,
    /// The callee's service.
    pub service: Option<String>,
    /// The name of the key span.
    pub operation: Option<String>,
    /// The callee's workload.
    pub workload: Option<String>,
    /// The callee's namespace.
    pub namespace: Option<String>,
    /// The callee's cluster.
    pub cluster: Option<String>,
    /// Who tells of them.
    pub side: LatencySide,
    /// What a series is of; one series of all without.
    pub group_by: Option<GroupBy>,
    /// Which quantiles are answered.
    pub quantiles: Vec<Quantile>,
}

/// Who tells of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LatencySide {
    /// The caller.
    Caller,
    /// The callee.
    #[default]
    Callee,
}

/// What a series is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The name of the key span.
    Operation,
    /// The callee's workload.
    Workload,
    /// The callee's version.
    Version,
    /// The callee's cluster.
    Cluster,
    /// The caller's service; its workload or its kind where it has none.
    Caller,
}

/// Latencies of a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// By group.
    pub series: Vec<LatencySeries>,
    /// The hops that they are made of.
    pub counts: HopCounts,
}

/// Latencies of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencySeries {
    /// The group; none where no span tells it, or nothing is grouped by.
    pub group: Option<String>,
    /// By time. Steps without requests have none.
    pub points: Vec<LatencyPoint>,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LatencyPoint {
    /// The end of the step, which belongs to it; microseconds since the epoch.
    pub end: i64,
    /// Hops.
    pub requests: u64,
    /// Requests a second.
    pub rate: f64,
    /// Requests that the side tells of.
    pub reports: u64,
    /// Those of which it tells that they failed.
    pub errors: u64,
    /// The quantiles of the latencies that it tells, nanoseconds, in the order in which they were asked for; none where it tells none.
    pub latency: Vec<Option<u64>>,
}

impl LatencyQuery {
    /// The number of steps.
    ///
    /// # Errors
    ///
    /// [`QueryError::Invalid`] for more than 11,000, for a step of no length, and for an empty range.
    pub fn steps(&self) -> Result<i64, QueryError> {
        self.range.check()?;
        if self.step < 1 {
            return Err(QueryError::invalid("a step is a microsecond at least"));
        }
        let steps = (self.range.end.saturating_sub(self.range.start) - 1) / self.step + 1;
        if steps > STEPS_MAX {
            return Err(QueryError::invalid(format!("the range has {steps} steps, {STEPS_MAX} are allowed; take a longer step")));
        }
        Ok(steps)
    }

    /// Whether steps are whole minutes, of which the last may be cut off.
    fn is_of_minutes(&self) -> bool {
        self.range.start % MINUTE_MICROS == 0 && self.step % MINUTE_MICROS == 0
    }

    /// The hops of the range, summed by minute or by step.
    async fn pieces(&self, view: &View) -> Result<Vec<Piece>> {
        if self.is_of_minutes() {
            return pieces(view, self.range).await;
        }
        let nanos = |micros: i64| u64::try_from(micros).unwrap_or(0).saturating_mul(1_000);
        let builder = RollupBuilder::stepped(nanos(self.range.start), nanos(self.step));
        on_the_fly(view, self.range, builder).await
    }

    /// The step, from 0, of a minute or of a step from 1.
    fn step_of(&self, slot: u64) -> i64 {
        let before = slot as i64 - 1;
        if self.is_of_minutes() { (before * MINUTE_MICROS - self.range.start) / self.step } else { before }
    }

    /// Begin and end of a step.
    pub(crate) fn bounds(&self, step: i64) -> (i64, i64) {
        let begin = self.range.start + step * self.step;
        (begin, begin.saturating_add(self.step).min(self.range.end))
    }

    /// Which keys are asked for.
    fn wanted(&self, keys: &Keys) -> Vec<bool> {
        let is = |asked: &Option<String>, part: &str| asked.as_deref().is_none_or(|asked| asked == part);
        keys.of_callees(self.operation.as_deref(), |callee| {
            let Node { service, workload, namespace, cluster, .. } = *callee;
            is(&self.service, service)
                && is(&self.workload, workload)
                && is(&self.namespace, namespace)
                && is(&self.cluster, cluster)
        })
    }

    /// The rows that tell the groups.
    fn grain(&self) -> Grain {
        if self.group_by == Some(GroupBy::Caller) { Grain::Keys } else { Grain::Operations }
    }

    fn group<'a>(&self, key: &RollupKey<'a>) -> &'a str {
        match self.group_by {
            None => "",
            Some(GroupBy::Operation) => key.operation,
            Some(GroupBy::Workload) => key.callee.workload,
            Some(GroupBy::Version) => key.callee.version,
            Some(GroupBy::Cluster) => key.callee.cluster,
            Some(GroupBy::Caller) => {
                let names = [key.caller.service, key.caller.workload];
                names.into_iter().find(|name| !name.is_empty()).unwrap_or(key.caller.kind.as_str())
            }
        }
    }
}

impl LatencySide {
    fn of(self, sums: &Measures) -> &SideMeasures {
        match self {
            LatencySide::Caller => &sums.caller,
            LatencySide::Callee => &sums.callee,
        }
    }
}

impl FromStr for LatencySide {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        match text {
            "caller" => Ok(LatencySide::Caller),
            "callee" => Ok(LatencySide::Callee),
            _ => Err(QueryError::invalid(format!("`{text}` is no side; it is callee or caller"))),
        }
    }
}

impl FromStr for GroupBy {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        match text {
            "operation" => Ok(GroupBy::Operation),
            "workload" => Ok(GroupBy::Workload),
            "version" => Ok(GroupBy::Version),
            "cluster" => Ok(GroupBy::Cluster),
            "caller" => Ok(GroupBy::Caller),
            _ => Err(QueryError::invalid(format!("`{text}` is none of operation, workload, version, cluster, caller"))),
        }
    }
}

/// The hops of one group in one step.
pub(crate) struct Totals {
    requests: u64,
    reports: u64,
    errors: u64,
    pub(crate) latency: Histogram,
}

/// The hops of each group, by step.
pub(crate) struct Groups {
    /// By name, empty for one that no span tells, then by step.
    pub(crate) steps: BTreeMap<String, BTreeMap<i64, Totals>>,
    pub(crate) counts: HopCounts,
    /// Held as long as they are.
    pub(crate) memory: MemoryReservation,
}

impl Totals {
    /// Of a step that has hops.
    fn of(StepSums { requests, side }: &StepSums) -> Option<Totals> {
        let requests = u64::try_from(*requests).ok().filter(|requests| *requests > 0)?;
        Some(Totals {
            requests,
            reports: u64::try_from(side.reports).unwrap_or(0),
            errors: side.errors(),
            latency: side.latency.histogram(),
        })
    }

    /// The point of the step with these bounds.
    fn point(&self, (begin, end): (i64, i64), quantiles: &[Quantile]) -> LatencyPoint {
        LatencyPoint {
            end,
            requests: self.requests,
            rate: self.requests as f64 / ((end - begin) as f64 / 1e6),
            reports: self.reports,
            errors: self.errors,
            latency: quantiles.iter().map(|quantile| self.latency.quantile(quantile.share())).collect(),
        }
    }
}

/// The same of one step in the making: each may be less than nothing.
#[derive(Default)]
struct StepSums {
    requests: i64,
    side: SideMeasures,
}

/// Sums by group and step, in the making.
#[derive(Default)]
struct Sums {
    numbers: HashMap<String, usize>,
    steps: Vec<BTreeMap<i64, StepSums>>,
    points: usize,
    counts: SignedCounts,
}

impl Sums {
    fn group(&mut self, name: &str) -> usize {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        self.numbers.insert(name.to_owned(), self.steps.len());
        self.steps.push(BTreeMap::new());
        self.steps.len() - 1
    }

    fn add(&mut self, query: &LatencyQuery, piece: &OpenPiece, scratch: &mut Measures) -> Result<()> {
        let mut last: Option<(u32, usize)> = None;
        piece.minutes(scratch, |slot, key, measures| {
            let known = last.filter(|(known, _)| *known == key).map(|(_, group)| group);
            let group = known.unwrap_or_else(|| self.group(query.group(&piece.keys.key(key))));
            last = Some((key, group));
            let points = &mut self.points;
            let sums = self.steps[group].entry(query.step_of(slot)).or_insert_with(|| {
                *points += 1;
                StepSums::default()
            });
            sums.requests = sums.requests.wrapping_add(measures.signed(Count::Requests));
            sums.side.merge(query.side.of(measures));
            self.counts.add(measures);
        })
    }

    /// Those steps of each group that have hops.
    fn finish(mut self, memory: MemoryReservation) -> Groups {
        let mut groups = Groups { steps: BTreeMap::new(), counts: self.counts.finish(), memory };
        for (name, number) in self.numbers {
            let steps = std::mem::take(&mut self.steps[number]).into_iter();
            let steps: BTreeMap<i64, Totals> = steps.filter_map(|(step, sums)| Some((step, Totals::of(&sums)?))).collect();
            if !steps.is_empty() {
                groups.steps.insert(name, steps);
            }
        }
        groups
    }
}

/// The latencies of the range.
pub(crate) async fn latency(view: &View, query: &LatencyQuery) -> Result<Latency> {
    let Groups { steps, counts, memory: _memory } = groups(view, query).await?;
    let series = steps.into_iter().map(|(name, steps)| LatencySeries {
        group: Some(name).filter(|name| !name.is_empty()),
        points: steps.iter().map(|(step, totals)| totals.point(query.bounds(*step), &query.quantiles)).collect(),
    });
    Ok(Latency { series: series.collect(), counts })
}

/// The hops that are asked for, by group and step: at most as many as an answer may have rows.
pub(crate) async fn groups(view: &View, query: &LatencyQuery) -> Result<Groups> {
    query.steps()?;
    let memory = MemoryConsumer::new("latency").register(&view.lookups.runtime.memory_pool);
    let (mut sums, mut scratch) = (Sums::default(), Measures::default());
    for piece in query.pieces(view).await? {
        let open = piece.rows(&view.summed, query.grain(), |keys| Some(query.wanted(keys))).await?;
        sums.add(query, &open, &mut scratch)?;
        sums.counts.leave_out(piece.left_out());
        memory.try_resize(sums.points * POINT_BYTES)?;
        tokio::task::yield_now().await;
    }
    let groups = sums.finish(memory);
    view.check_rows(groups.steps.values().map(BTreeMap::len).sum())?;
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;

    use super::*;
    use meshlake_hops::Histogram;

    use crate::Engine;
    use crate::testing::{Chance, START, TestSource, mesh_rows, scatter, sql, tenant, value};

    const START_MICROS: i64 = (START / 1000) as i64;

    fn asked(range: TimeRange, step: i64) -> LatencyQuery {
        LatencyQuery {
            range,
            step,
            service: None,
            operation: None,
            workload: None,
            namespace: None,
            cluster: None,
            side: LatencySide::Callee,
            group_by: None,
            quantiles: vec!["0.5".parse().unwrap(), "0.999".parse().unwrap()],
        }
    }

    /// All numbers of a SQL query, column by column.
    async fn numbers(engine: &Engine, query: &str) -> Vec<i64> {
        let batches = sql(engine, "a", query).await.unwrap();
        let columns = batches.iter().flat_map(|batch| batch.columns());
        columns.flat_map(|column| column.as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    /// Scenario: random traces of a mesh, asked for by service, workload or nothing, in steps that divide the range and that do not, from
    /// both sides. Guarantee: sums and quantiles of the points are those of the table `hops`, step by step (P3).
    #[tokio::test]
    async fn points_are_the_sums_of_hops() {
        let mut chance = Chance(11);
        let rows = mesh_rows(&mut chance, "a", 150);
        let engine = scatter(&mut chance, &rows).await.engine();
        let range = TimeRange { start: START_MICROS + 100_000_000, end: START_MICROS + 700_000_000 };
        for (service, side, name, step) in [
            (Some("reviews"), LatencySide::Callee, "callee", 60_000_000),
            (Some("reviews"), LatencySide::Caller, "caller", 70_000_000),
            (None, LatencySide::Callee, "callee", 600_000_000),
        ] {
            let query = LatencyQuery { service: service.map(str::to_owned), side, ..asked(range, step) };
            let latency = engine.latency(&tenant("a"), &query).await.unwrap();
            let points: Vec<LatencyPoint> = latency.series.iter().flat_map(|series| series.points.clone()).collect();
            assert_eq!(latency.series.len(), 1);
            let mut requests = 0;
            for point in &points {
                let begin = range.start + (point.end - 1 - range.start) / step * step;
                let nanos = "cast(time as bigint) * 1000 + time_nanos";
                let of_service = service.map_or("true".to_owned(), |service| format!("callee_service = '{service}'"));
                let of_step = format!("{of_service} AND {nanos} > {begin}000 AND {nanos} <= {}000", point.end);
                let sums = format!(
                    "SELECT count(*), count({name}_error), count(*) FILTER (WHERE {name}_error NOT IN ('none', 'http_4xx')) \
                     FROM hops WHERE {of_step}"
                );
                let found = [point.requests, point.reports, point.errors].map(|number| number as i64);
                assert_eq!(numbers(&engine, &sums).await, found, "{name} {begin}");
                let mut histogram = Histogram::new();
                let latencies = format!("SELECT {name}_latency FROM hops WHERE {name}_latency IS NOT NULL AND {of_step}");
                numbers(&engine, &latencies).await.iter().for_each(|latency| histogram.record(*latency as u64));
                assert_eq!(point.latency, [0.5, 0.999].map(|q| histogram.quantile(q)), "{name} {begin}");
                requests += point.requests;
            }
            assert_eq!(requests, latency.counts.requests);
            assert!(points.len() > 1 || step == 600_000_000);
        }
    }

    /// Scenario: the same of one namespace and of one cluster, and of those that are not. Guarantee: each filter leaves what the table `hops` has
    /// of it.
    #[tokio::test]
    async fn filters_are_those_of_hops() {
        let engine = scatter(&mut Chance(14), &mesh_rows(&mut Chance(15), "a", 100)).await.engine();
        let all = asked(TimeRange { start: START_MICROS - 1, end: START_MICROS + 2_000_000_000 }, 3_000_000_000);
        for (column, name) in [("namespace", "shop"), ("namespace", "other"), ("cluster", "c2"), ("cluster", "c9")] {
            let mut query = all.clone();
            let filter = if column == "namespace" { &mut query.namespace } else { &mut query.cluster };
            *filter = Some(name.to_owned());
            let found = engine.latency(&tenant("a"), &query).await.unwrap().counts.requests;
            let expected = format!("SELECT count(*) FROM hops WHERE callee_{column} = '{name}'");
            assert_eq!(value(&engine, "a", &expected).await, found.to_string(), "{column} {name}");
            assert_eq!(found > 0, ["shop", "c2"].contains(&name), "{column} {name}");
        }
    }

    /// Scenario: the same by each group. Guarantee: the groups are those of the table `hops`, and none loses a request.
    #[tokio::test]
    async fn groups_are_those_of_hops() {
        let mut chance = Chance(12);
        let engine = scatter(&mut chance, &mesh_rows(&mut Chance(13), "a", 100)).await.engine();
        let range = TimeRange { start: START_MICROS - 1, end: START_MICROS + 2_000_000_000 };
        for (group_by, column) in [
            (GroupBy::Operation, "operation"),
            (GroupBy::Workload, "callee_workload"),
            (GroupBy::Version, "callee_version"),
            (GroupBy::Cluster, "callee_cluster"),
            (GroupBy::Caller, "coalesce(caller_service, caller_workload, caller_kind)"),
        ] {
            let query = LatencyQuery { group_by: Some(group_by), ..asked(range, 3_000_000_000) };
            let latency = engine.latency(&tenant("a"), &query).await.unwrap();
            let groups = sql(&engine, "a", &format!("SELECT {column}, count(*) FROM hops GROUP BY 1")).await.unwrap();
            assert_eq!(latency.series.len(), groups.iter().map(|batch| batch.num_rows()).sum::<usize>(), "{column}");
            let requests: u64 = latency.series.iter().flat_map(|series| &series.points).map(|point| point.requests).sum();
            assert_eq!(value(&engine, "a", "SELECT count(*) FROM hops").await, requests.to_string(), "{column}");
        }
    }

    /// Scenario: the same of all minutes, by caller and of all together, as each side tells. Guarantee: sums by caller, which are those of keys, add up to
    /// those of operations, step by step.
    #[tokio::test]
    async fn callers_add_up() {
        let engine = scatter(&mut Chance(16), &mesh_rows(&mut Chance(17), "a", 150)).await.engine();
        let start = START_MICROS - START_MICROS % MINUTE_MICROS - MINUTE_MICROS;
        for side in [LatencySide::Caller, LatencySide::Callee] {
            let sums = async |group_by| {
                let range = TimeRange { start, end: start + 40 * MINUTE_MICROS };
                let query = LatencyQuery { side, group_by, ..asked(range, MINUTE_MICROS) };
                let latency = engine.latency(&tenant("a"), &query).await.unwrap();
                let mut sums = BTreeMap::<i64, [u64; 3]>::new();
                for point in latency.series.iter().flat_map(|series| &series.points) {
                    let more = [point.requests, point.reports, point.errors];
                    sums.entry(point.end).or_default().iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                }
                (sums, latency.counts)
            };
            let all = sums(None).await;
            assert!(all.0.len() > 1);
            assert_eq!(sums(Some(GroupBy::Caller)).await, all);
        }
    }

    /// Scenario: ranges of as many steps as are allowed, and one more; none at all; steps of no length. Guarantee: only the first is answered.
    #[tokio::test]
    async fn steps_are_limited() {
        let engine = TestSource::new().engine();
        let steps = async |start, end, step| engine.latency(&tenant("a"), &asked(TimeRange { start, end }, step)).await;
        assert_eq!(steps(0, 11_000 * 7, 7).await.unwrap(), Latency::default());
        for (start, end, step) in [(0, 11_000 * 7 + 1, 7), (5, 5, 7), (0, 7, 0)] {
            let refused = steps(start, end, step).await;
            assert!(matches!(refused, Err(QueryError::Invalid { .. })), "{start} {end} {step}: {refused:?}");
        }
    }
}
