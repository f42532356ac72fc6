//! `histogram_build` and `histogram_merge`.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use meshlake_hops::Histogram;

use super::decode;

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Values,
    Histograms,
}

impl Of {
    fn function(self) -> &'static str {
        match self {
            Of::Values => "histogram_build",
            Of::Histograms => "histogram_merge",
        }
    }

    fn argument(self) -> DataType {
        match self {
            Of::Values => DataType::Int64,
            Of::Histograms => DataType::Binary,
        }
    }
}

/// One of the aggregates.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct HistogramAggregate {
    of: Of,
    signature: Signature,
}

impl HistogramAggregate {
    pub(crate) fn all() -> [HistogramAggregate; 2] {
        let of = |of: Of| HistogramAggregate { of, signature: Signature::exact(vec![of.argument()], Volatility::Immutable) };
        [of(Of::Values), of(Of::Histograms)]
    }
}

impl AggregateUDFImpl for HistogramAggregate {
    fn name(&self) -> &str {
        self.of.function()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{}() counts every row; it takes no DISTINCT", self.of.function());
        }
        Ok(Box::new(Sum { of: self.of, histogram: Histogram::new() }))
    }
}

/// A histogram that grows. Its state is its encoding.
#[derive(Debug)]
struct Sum {
    of: Of,
    histogram: Histogram,
}

impl Sum {
    fn merge(&mut self, histograms: &ArrayRef) -> Result<()> {
        let Some(histograms) = histograms.as_binary_opt::<i32>() else {
            return exec_err!("{}: {} is no binary", self.of.function(), histograms.data_type());
        };
        for bytes in histograms.iter().flatten() {
            self.histogram.merge(&decode(self.of.function(), bytes)?);
        }
        Ok(())
    }
}

impl Accumulator for Sum {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [values] = values else { return exec_err!("{} takes one argument", self.of.function()) };
        match (self.of, values.as_primitive_opt::<Int64Type>()) {
            (Of::Values, Some(values)) => {
                let values = values.iter().flatten().filter_map(|value| u64::try_from(value).ok());
                values.for_each(|value| self.histogram.record(value));
                Ok(())
            }
            _ => self.merge(values),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.histogram.count() == 0 {
            return Ok(ScalarValue::Binary(None));
        }
        let mut bytes = Vec::new();
        self.histogram.encode(&mut bytes);
        Ok(ScalarValue::Binary(Some(bytes)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.histogram.heap_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states.iter().try_for_each(|state| self.merge(state))
    }
}
