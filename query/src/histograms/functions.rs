//! `histogram_quantile`, `histogram_share_below` and `histogram_buckets`.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, ListArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, Int64Type};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::decode;

/// What is asked of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Question {
    Quantile,
    ShareBelow,
    Buckets,
}

impl Question {
    fn function(self) -> &'static str {
        match self {
            Question::Quantile => "histogram_quantile",
            Question::ShareBelow => "histogram_share_below",
            Question::Buckets => "histogram_buckets",
        }
    }

    fn arguments(self) -> Vec<DataType> {
        match self {
            Question::Quantile => vec![DataType::Binary, DataType::Float64],
            Question::ShareBelow => vec![DataType::Binary, DataType::Int64],
            Question::Buckets => vec![DataType::Binary],
        }
    }
}

/// One of the functions.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct HistogramFunction {
    question: Question,
    signature: Signature,
}

impl HistogramFunction {
    pub(crate) fn all() -> [HistogramFunction; 3] {
        let of = |question: Question| HistogramFunction {
            question,
            signature: Signature::exact(question.arguments(), Volatility::Immutable),
        };
        [of(Question::Quantile), of(Question::ShareBelow), of(Question::Buckets)]
    }
}

impl ScalarUDFImpl for HistogramFunction {
    fn name(&self) -> &str {
        self.question.function()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.question {
            Question::Quantile => DataType::Int64,
            Question::ShareBelow => DataType::Float64,
            Question::Buckets => DataType::List(bucket()),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays: Vec<ArrayRef> = args.args.iter().map(|argument| argument.to_array(args.number_rows)).collect::<Result<_>>()?;
        let function = self.question.function();
        let Some(histograms) = arrays.first().and_then(|array| array.as_binary_opt::<i32>()) else {
            return exec_err!("{function}: the first argument is a histogram");
        };
        let number = arrays.get(1);
        let answer: ArrayRef = match self.question {
            Question::Quantile => match number.and_then(|array| array.as_primitive_opt::<Float64Type>()) {
                Some(shares) => Arc::new(quantiles(function, histograms, shares)?),
                None => return exec_err!("{function}: the second argument is a number from 0 to 1"),
            },
            Question::ShareBelow => match number.and_then(|array| array.as_primitive_opt::<Int64Type>()) {
                Some(thresholds) => Arc::new(shares_below(function, histograms, thresholds)?),
                None => return exec_err!("{function}: the second argument is a number of nanoseconds"),
            },
            Question::Buckets => Arc::new(buckets(function, histograms)?),
        };
        Ok(ColumnarValue::Array(answer))
    }
}

fn quantiles(function: &str, histograms: &BinaryArray, shares: &Float64Array) -> Result<Int64Array> {
    let one = |(bytes, share): (Option<&[u8]>, Option<f64>)| {
        let (Some(bytes), Some(share)) = (bytes, share) else { return Ok(None) };
        if !(0.0..=1.0).contains(&share) {
            return exec_err!("{function}: {share} is no quantile; it is a number from 0 to 1");
        }
        Ok(decode(function, bytes)?.quantile(share).map(int))
    };
    histograms.iter().zip(shares.iter()).map(one).collect()
}

fn shares_below(function: &str, histograms: &BinaryArray, thresholds: &Int64Array) -> Result<Float64Array> {
    let one = |(bytes, threshold): (Option<&[u8]>, Option<i64>)| {
        let (Some(bytes), Some(threshold)) = (bytes, threshold) else { return Ok(None) };
        let histogram = decode(function, bytes)?;
        Ok(match u64::try_from(threshold) {
            Ok(threshold) => histogram.share_below(threshold),
            // No latency is negative.
            Err(_) => (histogram.count() > 0).then_some(0.0),
        })
    };
    histograms.iter().zip(thresholds.iter()).map(one).collect()
}

fn buckets(function: &str, histograms: &BinaryArray) -> Result<ListArray> {
    let (mut lows, mut highs, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lengths, mut valid) = (Vec::new(), Vec::new());
    for bytes in histograms {
        let before = counts.len();
        for bucket in bytes.map(|bytes| decode(function, bytes)).transpose()?.iter().flat_map(|histogram| histogram.buckets()) {
            lows.push(int(bucket.low));
            highs.push(int(bucket.high));
            counts.push(int(bucket.count));
        }
        lengths.push(counts.len() - before);
        valid.push(bytes.is_some());
    }
    let columns = [lows, highs, counts].map(|column| -> ArrayRef { Arc::new(Int64Array::from(column)) });
    let structs = StructArray::try_new(BUCKET_FIELDS.clone(), columns.to_vec(), None)?;
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(ListArray::try_new(bucket(), offsets, Arc::new(structs), Some(NullBuffer::from(valid)))?)
}

static BUCKET_FIELDS: LazyLock<Fields> =
    LazyLock::new(|| ["low", "high", "count"].map(|name| Field::new(name, DataType::Int64, false)).to_vec().into());

fn bucket() -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(BUCKET_FIELDS.clone()), true))
}

/// SQL has no unsigned numbers.
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
