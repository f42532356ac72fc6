use datafusion::error::Result;
use meshlake_traceql::{Accumulator, ComparedSpans, Conditions, Intrinsic, Kind, Query, Status};

use super::super::failed;
use super::super::rooted::RootedSpans;
use super::super::rows::SpanRows;
use super::Counted;
use super::cells::group;

/// Of which side spans are: of the selection, of the others, of none.
pub(super) enum Sides {
    /// What says it is different in every span.
    OfEach,
    /// Status and kind say it, and whether a span is in the window: all by their numbers, as far as it was asked.
    Alike([Option<Option<bool>>; ALIKE]),
}

const ALIKE: usize = Status::NAMES.len() * Kind::NAMES.len() * 2;

impl Sides {
    /// `conditions` are the query's.
    pub(super) fn new(query: &Query, conditions: &Conditions) -> Sides {
        let tells = |intrinsic: &Intrinsic| matches!(intrinsic, Intrinsic::Status | Intrinsic::Kind);
        let alike = query.attributes.is_empty() && conditions.intrinsics.iter().all(tells);
        if alike { Sides::Alike([None; ALIKE]) } else { Sides::OfEach }
    }

    /// The spans of a batch that count, as the series of the query say, whatever those have of spans.
    pub(super) fn counted(&mut self, rooted: &RootedSpans<'_>, rows: &SpanRows<'_>, empty: &Accumulator) -> Result<Vec<Counted>> {
        let mut counted = Vec::with_capacity(rooted.len());
        for row in 0..rooted.len() {
            let Some(at) = empty.compared_at(rows.start(row)) else { continue };
            let selects = || empty.selects(&rooted.span(row), at.in_window).map_err(failed);
            let selected = match self {
                Sides::OfEach => selects()?,
                Sides::Alike(known) => {
                    let alike = (rows.status(row) as usize * Kind::NAMES.len() + rows.kind(row) as usize) * 2;
                    let known = &mut known[alike + usize::from(at.in_window)];
                    match *known {
                        Some(selected) => selected,
                        None => *known.insert(selects()?),
                    }
                }
            };
            if let Some(selected) = selected {
                let group = group(ComparedSpans { selected, interval: at.interval });
                counted.push(Counted { row: row as u32, group });
            }
        }
        Ok(counted)
    }
}
