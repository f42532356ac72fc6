use std::sync::Arc;

use super::alike::Alike;
use super::compare::{Compared, ComparedCount, ComparedTime};
use super::grid::Grid;
use super::groups::Groups;
use super::math;
use super::series::Series;
use super::stages;
use crate::ast::{Function, Literal, MetricsQuery, SeriesExpr};
use crate::eval::{EvalError, View};
use crate::trace::Trace;
use crate::value::Value;

/// The numbers of the traces that were seen so far. Parts that were computed apart merge to what one would have been: counts, least
/// and greatest values, quantiles and sums of integers exactly, in any order (P4). So do those of `compare()`, as long as none of them
/// has more values of an attribute than are counted.
#[derive(Clone, Debug)]
pub struct Accumulator {
    expr: SeriesExpr,
    queries: Vec<Arc<MetricsQuery>>,
    grid: Grid,
    /// Spans that start after the first time and not after the second count now.
    counting: (u64, u64),
    limits: MetricsLimits,
    /// One of each query of spans, from left to right.
    parts: Vec<Part>,
}

/// How large an answer may be (P6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsLimits {
    /// Series of each query of spans, before quantiles.
    pub series: usize,
    /// Exemplars of all series.
    pub exemplars: usize,
}

/// What a metrics query says.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsAnswer {
    /// By labels.
    pub series: Vec<Series>,
    /// Whether series were left out at [`MetricsLimits::series`].
    pub truncated: bool,
}

#[derive(Clone, Debug)]
enum Part {
    Groups(Groups),
    Compared(Compared),
}

impl Accumulator {
    /// Of no traces.
    pub fn new(expr: &SeriesExpr, grid: Grid, limits: MetricsLimits) -> Accumulator {
        let part = |query: &Arc<MetricsQuery>| match &query.function {
            Function::Compare { selection, top, window } => Part::Compared(Compared::new(selection.clone(), *top, *window)),
            _ => Part::Groups(Groups::new(query.clone(), limits.series)),
        };
        let queries: Vec<_> = expr.queries().into_iter().cloned().map(Arc::new).collect();
        let parts = queries.iter().map(part).collect();
        Accumulator { expr: expr.clone(), queries, grid, counting: (0, u64::MAX), limits, parts }
    }

    /// Of no traces: to be merged with this one.
    pub fn apart(&self) -> Accumulator {
        Accumulator { counting: self.counting, ..Accumulator::new(&self.expr, self.grid, self.limits) }
    }

    /// From now on, only spans of a part of the range count: those that start after the first time and not after the second, nanoseconds
    /// since 1970. Parts that do not overlap make, one after the other, what the whole range makes at once.
    pub fn count_within(&mut self, after: u64, until: u64) {
        self.counting = (after, until);
    }

    /// Takes in a whole trace: its pipelines see all of it, and of what they leave, the spans that start within the range count.
    ///
    /// # Errors
    /// What fails the query; then no answer is right any more.
    pub fn add<T: Trace + ?Sized>(&mut self, trace: &T) -> Result<(), EvalError> {
        self.add_first(trace, trace.len())
    }

    /// Takes in spans of a trace, of which the first so many count, by their places: the others only say what is asked of them.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_first<T: Trace + ?Sized>(&mut self, trace: &T, spans: usize) -> Result<(), EvalError> {
        let interval = self.interval();
        self.each_left(trace, |part, view, span| {
            let interval = interval(trace.facts(span).start).filter(|_| span < spans);
            let Some(interval) = interval else { return Ok(()) };
            match part {
                Part::Groups(groups) => {
                    groups.add(view, span, interval);
                    Ok(())
                }
                Part::Compared(compared) => compared.add(view, span, interval),
            }
        })
    }

    /// Whether [`Accumulator::add`] might count a span of a trace, or fail on it, whenever its spans start.
    pub fn may_count<T: Trace + ?Sized>(&self, trace: &T) -> bool {
        let view = View::new(trace);
        let may = |query: &Arc<MetricsQuery>| view.pipeline(&query.pipeline).map_or(true, |spansets| !spansets.is_empty());
        self.queries.iter().any(may)
    }

    /// Takes in spans that are all as that of a trace of one span, but for their times and ids. The answer is as if each had been
    /// added, without exemplars, if [`crate::Query::sums`] says that sums are enough.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn add_alike<T: Trace + ?Sized>(&mut self, trace: &T, spans: &[Alike]) -> Result<(), EvalError> {
        self.each_left(trace, |part, view, span| {
            // No sum answers compare().
            if let Part::Groups(groups) = part {
                groups.add_alike(view, span, spans);
            }
            Ok(())
        })
    }

    /// Offers the spans of a trace as exemplars of what was taken in of them by [`Accumulator::add_alike`]. What fails is none.
    pub fn offer<T: Trace + ?Sized>(&mut self, trace: &T) {
        let interval = self.interval();
        // It was counted all the same.
        let _ = self.each_left(trace, |part, view, span| {
            if let (Part::Groups(groups), Some(interval)) = (part, interval(trace.facts(span).start)) {
                groups.offer(view, span, interval);
            }
            Ok(())
        });
    }

    /// How `compare()` counts spans that start then; nothing if it does not, or something stands beside it.
    pub fn compared_at(&self, start: u64) -> Option<ComparedTime> {
        let [Part::Compared(compared)] = self.parts.as_slice() else { return None };
        let interval = self.interval()(start)?;
        Some(ComparedTime { interval, in_window: compared.in_window(start) })
    }

    /// Whether `compare()` counts the first span of a trace as one of its selection, or of the other spans, or not at all. The span's
    /// start says whether it is in the window; the trace's other spans only say what is asked of it. To take in the values of all
    /// attributes of such spans with [`Accumulator::add_counts`] is as [`Accumulator::add_first`] of each.
    ///
    /// # Errors
    /// As [`Accumulator::add`].
    pub fn selects<T: Trace + ?Sized>(&self, trace: &T, in_window: bool) -> Result<Option<bool>, EvalError> {
        let ([query], [Part::Compared(compared)]) = (self.queries.as_slice(), self.parts.as_slice()) else { return Ok(None) };
        let (view, mut selected) = (View::new(trace), None);
        view.each_left(&query.pipeline, |span| {
            if span == 0 {
                selected = Some(compared.selects(&view, span, in_window)?);
            }
            Ok(())
        })?;
        Ok(selected)
    }

    /// Takes in how often an attribute has the values of a list in spans that `compare()` counts together. The attribute is named as
    /// queries write it. What is missing does not count.
    pub fn add_counts(&mut self, attribute: &str, values: &[Value<'_>], counts: &[ComparedCount]) {
        if let [Part::Compared(compared)] = self.parts.as_mut_slice() {
            compared.add_counts(attribute, values, counts);
        }
    }

    /// Of a time, the interval in which a span that starts then counts now.
    fn interval(&self) -> impl Fn(u64) -> Option<u32> + use<> {
        let (grid, (after, until)) = (self.grid, self.counting);
        move |start| grid.interval(start).filter(|_| after < start && start <= until)
    }

    /// Gives `take` each span that a query leaves of a trace, and what it is taken into.
    fn each_left<'t, T: Trace + ?Sized>(
        &mut self,
        trace: &'t T,
        mut take: impl FnMut(&mut Part, &View<'t, T>, usize) -> Result<(), EvalError>,
    ) -> Result<(), EvalError> {
        let view = View::new(trace);
        for (query, part) in self.queries.iter().zip(&mut self.parts) {
            view.each_left(&query.pipeline, |span| take(part, &view, span))?;
        }
        Ok(())
    }

    /// How many intervals it has.
    pub fn intervals(&self) -> usize {
        self.grid.len()
    }

    /// How much memory it takes, and its answer will, about.
    pub fn bytes(&self) -> usize {
        let of_part = |part: &Part| match part {
            Part::Groups(groups) => groups.bytes(&self.grid),
            Part::Compared(compared) => compared.bytes(&self.grid),
        };
        self.parts.iter().map(of_part).sum()
    }

    /// Takes in what another of the same query and intervals has seen.
    pub fn merge(&mut self, other: Accumulator) {
        for parts in self.parts.iter_mut().zip(other.parts) {
            match parts {
                (Part::Groups(own), Part::Groups(other)) => own.merge(other),
                (Part::Compared(own), Part::Compared(other)) => own.merge(&other),
                // Parts of one query are of one kind.
                _ => {}
            }
        }
    }

    /// The answer.
    pub fn finish(self) -> MetricsAnswer {
        self.so_far()
    }

    /// The answer if there were nothing more to be taken in.
    pub fn so_far(&self) -> MetricsAnswer {
        let truncated = self.parts.iter().any(|part| matches!(part, Part::Groups(groups) if groups.truncated));
        let mut parts = self.parts.iter();
        let mut series = match series(&self.expr, &mut parts, &self.grid) {
            Operand::Series(series) => series,
            Operand::Number(_) => Vec::new(),
        };
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        limit_exemplars(&mut series, self.limits.exemplars);
        MetricsAnswer { series, truncated }
    }
}

enum Operand {
    Series(Vec<Series>),
    Number(Literal),
}

fn series<'a>(expr: &SeriesExpr, parts: &mut impl Iterator<Item = &'a Part>, grid: &Grid) -> Operand {
    match expr {
        SeriesExpr::Number(number) => Operand::Number(number.clone()),
        SeriesExpr::Query(_) => Operand::Series(match parts.next() {
            Some(Part::Groups(groups)) => groups.finish(grid).into_iter().filter(Series::has_samples).collect(),
            Some(Part::Compared(compared)) => compared.finish(grid),
            None => Vec::new(),
        }),
        SeriesExpr::Stage { input, stage } => match series(input, parts, grid) {
            Operand::Series(series) => Operand::Series(stages::apply(stage, series)),
            number => number,
        },
        SeriesExpr::Math { op, left, right } => {
            let (left, right) = (series(left, parts, grid), series(right, parts, grid));
            Operand::Series(match (left, right) {
                (Operand::Series(left), Operand::Series(right)) => math::between(*op, left, right),
                (Operand::Series(left), Operand::Number(right)) => {
                    let right = stages::seconds(&right);
                    math::with_number(left, |left| math::compute(*op, left, right))
                }
                (Operand::Number(left), Operand::Series(right)) => {
                    let left = stages::seconds(&left);
                    math::with_number(right, |right| math::compute(*op, left, right))
                }
                (Operand::Number(_), Operand::Number(_)) => Vec::new(),
            })
        }
    }
}

/// Leaves exemplars of the least ids, whatever series they are of: ids are random, so they are of all times.
fn limit_exemplars(all: &mut [Series], limit: usize) {
    let mut ids: Vec<_> =
        all.iter().flat_map(|series| &series.exemplars).map(|exemplar| (exemplar.trace_id, exemplar.span_id)).collect();
    if ids.len() <= limit {
        return;
    }
    ids.sort_unstable();
    let bound = ids[limit];
    let mut left = limit;
    for series in all {
        series.exemplars.retain(|exemplar| {
            let kept = (exemplar.trace_id, exemplar.span_id) <= bound && left > 0;
            left -= usize::from(kept);
            kept
        });
    }
}
