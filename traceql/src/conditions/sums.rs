use super::Reach;
use super::reads::Reads;
use crate::ast::{Body, Function, Query};
use crate::attribute::{Attribute, Intrinsic};

const DURATION: Attribute = Attribute::Intrinsic(Intrinsic::Duration);

/// What sums of spans have to tell to answer a metrics query: see [`crate::Accumulator::add_alike`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SumsNeeded {
    /// The intrinsics that say whether and where a span counts, each once. So do all [`Query::attributes`].
    pub keys: Vec<Intrinsic>,
    /// Whether histograms of durations are needed, or only counts.
    pub durations: bool,
    /// Whether durations are added up. Then spans that end before they start, which a histogram takes for such that took no time, have to
    /// be known not to be there.
    pub totals: bool,
}

impl Query {
    /// What sums of spans have to tell to answer it; nothing if it has to see the spans.
    pub fn sums(&self) -> Option<SumsNeeded> {
        let Body::Metrics(series) = &self.body else { return None };
        if self.conditions().reach != Reach::Span {
            return None;
        }
        let (mut needed, mut reads) = (SumsNeeded::default(), Reads::default());
        for query in series.queries() {
            match &query.function {
                Function::Rate | Function::CountOverTime => {}
                Function::QuantileOverTime(of, _) | Function::HistogramOverTime(of) if *of == DURATION => needed.durations = true,
                Function::SumOverTime(of) | Function::AvgOverTime(of) if *of == DURATION => {
                    (needed.durations, needed.totals) = (true, true);
                }
                _ => return None,
            }
            reads.groups(query);
        }
        needed.keys = reads.intrinsics;
        needed.keys.sort_unstable();
        needed.keys.dedup();
        Some(needed)
    }
}
