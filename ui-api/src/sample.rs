//! What answers have in common that read whole traces, and no more than they are told to.

use meshlake_query::TraceSample;
use serde::Serialize;

use crate::params::Params;
use crate::problem::Problem;

const TRACES_DEFAULT: usize = 10_000;
const TRACES_MAX: usize = 100_000;

/// How much of what it is about an answer was made of.
#[derive(Serialize)]
pub(crate) struct Sample {
    traces_found: u64,
    traces_read: u64,
    left_out: u64,
    partial: bool,
}

impl From<TraceSample> for Sample {
    fn from(sample: TraceSample) -> Sample {
        let TraceSample { found, read, left_out } = sample;
        Sample { traces_found: found, traces_read: read, left_out, partial: sample.is_partial() }
    }
}

/// `traces`: how many are read at most.
pub(crate) fn traces(params: &Params) -> Result<usize, Problem> {
    params.number("traces", 1..=TRACES_MAX, TRACES_DEFAULT)
}
