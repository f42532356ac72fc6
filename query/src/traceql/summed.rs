//! Metrics from sums of spans, as [`crate::rollups`] has them: by minute, service, name, kind and status.
//!
//! What a query says of a span that has these, the language says itself: each key is a trace of one span, and its sums are taken in
//! as that many spans. So an answer is that of a scan, to the last span (P3). What sums do not tell, is read: spans without a
//! service, which may have something else for it, and the spans of everything if one that ends before it starts would count.

mod held;
mod key_span;

use std::ops::RangeInclusive;
use std::pin::pin;

use datafusion::error::Result;
use datafusion::logical_expr::col;
use futures::{StreamExt, stream};
use meshlake_hops::rollup::MINUTE;
use meshlake_hops::span_rollup::{KeyParts, SpanKeys};
use meshlake_traceql::{Grid, Intrinsic, Named, Query, Scope};

use super::candidates::Candidates;
use super::failed;
use super::metrics::Sums;
use crate::rollups::Asked;
use held::Held;
use key_span::SERVICE;

/// Pieces that are read at once.
const PIECES: usize = 8;
/// Bytes of sums of pieces that are held before they are taken in.
const HELD_MAX: usize = 64 << 20;

/// How sums answer a query.
pub(super) struct Summable {
    /// What of their keys the query reads.
    parts: KeyParts,
    asked: Asked,
    /// Whether no span may have taken no time, as it may have ended before it started.
    totals: bool,
    intervals: Intervals,
    minutes: RangeInclusive<u64>,
}

/// Intervals of whole minutes.
#[derive(Clone, Copy)]
struct Intervals {
    /// The first minute.
    first: u64,
    /// Minutes of each.
    step: u32,
}

impl Intervals {
    /// Nothing if intervals begin or end within minutes.
    fn of_grid(grid: &Grid) -> Option<Intervals> {
        let step = grid.time(0).checked_sub(grid.start())?;
        let whole = grid.start().is_multiple_of(MINUTE) && step.is_multiple_of(MINUTE);
        let step = u32::try_from(step / MINUTE).ok().filter(|step| whole && *step > 0)?;
        Some(Intervals { first: grid.start() / MINUTE + 1, step })
    }

    /// The interval of a minute, which is none before the first.
    fn of(self, minute: u64) -> u32 {
        (minute - self.first) as u32 / self.step
    }
}

impl Summable {
    /// Nothing if a query has to be answered from spans.
    pub(super) fn of(query: &Query, grid: &Grid) -> Option<Summable> {
        let (needed, intervals) = (query.sums()?, Intervals::of_grid(grid)?);
        let is_service = |named: &Named| named.scope == Scope::Resource && named.name == SERVICE;
        if !query.attributes.iter().all(is_service) {
            return None;
        }
        let mut parts = KeyParts { service: !query.attributes.is_empty(), ..KeyParts::default() };
        for intrinsic in &needed.keys {
            match intrinsic {
                Intrinsic::Name => parts.name = true,
                Intrinsic::Kind => parts.kind = true,
                Intrinsic::Status => parts.status = true,
                _ => return None,
            }
        }
        let asked = if needed.durations { Asked::Durations } else { Asked::Counts };
        let minutes = intervals.first..=grid.end() / MINUTE;
        Some(Summable { parts, asked, totals: needed.totals, intervals, minutes })
    }

    /// The series, into which nothing was taken in yet; nothing if sums do not tell them after all.
    pub(super) async fn series(&self, candidates: &Candidates<'_>, mut series: Sums) -> Result<Option<Sums>> {
        let (summed, parts) = (&candidates.view.summed, self.parts);
        let mut held = Held::new(parts);
        let counts = self.asked == Asked::Counts;
        let pieces = stream::iter(summed.spans(self.minutes.clone()).await?).map(async |piece| {
            let fewer = if counts { piece.fewer(summed, parts).await } else { None };
            (piece, fewer)
        });
        let mut pieces = pin!(pieces.buffered(PIECES));
        while let Some((piece, fewer)) = pieces.next().await {
            let mut numbers = Vec::new();
            let wanted = |keys: &SpanKeys| {
                let wanted;
                (numbers, wanted) = held.numbers(keys, |span| series.accumulator.may_count(span));
                Some(wanted)
            };
            let open = match fewer {
                Some(counts) => piece.of_fewer(&counts, wanted),
                None => piece.open(summed, self.asked, wanted).await?,
            };
            held.add(&open, &numbers, self.intervals, self.asked)?;
            series.memory.try_resize(series.accumulator.bytes() + held.bytes())?;
            if held.bytes() > HELD_MAX && !self.take_in(&mut held, &mut series)? {
                return Ok(None);
            }
            tokio::task::yield_now().await;
        }
        if !self.take_in(&mut held, &mut series)? {
            return Ok(None);
        }
        if held.nameless {
            series.add_spans(candidates, Some(col("service_name").is_null())).await?;
        }
        Ok(Some(series))
    }

    /// Takes in what is held, as far as it tells enough; whether it all does.
    fn take_in(&self, held: &mut Held, series: &mut Sums) -> Result<bool> {
        let mut tells = true;
        held.drain(|span, spans| {
            tells &= !self.totals || spans.iter().all(|spans| spans.durations.min() != Some(0));
            if tells { series.accumulator.add_alike(span, spans).map_err(failed) } else { Ok(()) }
        })?;
        series.memory.try_resize(series.accumulator.bytes() + held.bytes())?;
        Ok(tells)
    }
}
