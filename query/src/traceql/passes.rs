use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, col};
use meshlake_traceql::{Attribute, Named, Predicate, Value, View};

use super::columns::{Columns, ORIGINS, of_named, of_predicate};
use super::trace::TraceRows;

/// Whether spans are as a predicate says, as a function of their columns. Not a function of SQL: only scans of TraceQL make calls
/// of it.
pub(super) struct Passes {
    signature: Signature,
    predicate: Predicate,
    attributes: Vec<Named>,
    columns: Vec<&'static str>,
    /// What tells one from another.
    text: String,
}

impl Passes {
    /// Whether a row of `spans` passes, as far as it can tell without the others of its trace; nothing if any may.
    pub(super) fn expr(predicate: &Predicate, attributes: &[Named]) -> Option<Expr> {
        let function = Passes::new(of_the_span(predicate), attributes);
        let arguments: Vec<Expr> = function.columns.iter().map(|name| col(*name)).collect();
        (!arguments.is_empty()).then(|| ScalarUDF::from(function).call(arguments))
    }

    fn new(predicate: Predicate, attributes: &[Named]) -> Passes {
        let mut columns = Columns::new();
        of_predicate(&predicate, &mut columns);
        let (columns, text) = (columns.into_iter().collect(), format!("{predicate:?}"));
        let signature = Signature::variadic_any(Volatility::Immutable);
        Passes { signature, predicate, attributes: attributes.to_vec(), columns, text }
    }

    fn evaluate(&self, args: &ScalarFunctionArgs) -> Result<BooleanArray> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let field = |(name, array): (&&str, &arrow::array::ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        let schema = Schema::new(self.columns.iter().zip(&arrays).map(field).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(arrays.first().map_or(args.number_rows, |array| array.len())));
        self.passed(&RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)?)
    }

    /// Whether each row passes. Where nulls tell it of most rows, these are not asked.
    fn passed(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        match may_pass(&self.predicate, batch).filter(|may| 2 * may.count_set_bits() < may.len()) {
            Some(may) => {
                let passed = self.asked(&filter_record_batch(batch, &BooleanArray::from(may.clone()))?)?;
                let mut rows = BooleanBufferBuilder::new(may.len());
                rows.append_n(may.len(), false);
                may.set_indices().zip(passed.values()).for_each(|(row, passes)| rows.set_bit(row, passes));
                Ok(rows.finish().into())
            }
            None => self.asked(batch),
        }
    }

    fn asked(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let rows = TraceRows::new([batch], &self.attributes)?;
        Ok(rows.spans().map(|span| Some(self.predicate.passes(&View::new(&span), 0))).collect())
    }
}

/// The rows that may pass, as far as nulls tell: a residual attribute stands in a map that most spans may not have. None if any may.
fn may_pass(predicate: &Predicate, batch: &RecordBatch) -> Option<BooleanBuffer> {
    match predicate {
        Predicate::All(parts) => parts.iter().filter_map(|part| may_pass(part, batch)).reduce(|all, part| &all & &part),
        Predicate::Any(parts) => any(parts.iter().map(|part| may_pass(part, batch))),
        Predicate::Test(Attribute::Named(named), test) if !test.passes(&Value::Nil) => {
            let mut columns = Columns::new();
            of_named(named, &mut columns);
            columns.remove(ORIGINS);
            any(columns.into_iter().map(|name| Some(batch.column_by_name(name)?.nulls()?.inner().clone())))
        }
        Predicate::Test(..) => None,
    }
}

/// The rows of any of these; none if one of them may be any.
fn any(parts: impl Iterator<Item = Option<BooleanBuffer>>) -> Option<BooleanBuffer> {
    parts.reduce(|any, part| Some(&any? | &part?)).flatten()
}

/// What a span has to be like as far as it knows: without its trace it has no position, no children and no root.
pub(super) fn of_the_span(predicate: &Predicate) -> Predicate {
    match predicate {
        Predicate::All(parts) => {
            let parts = parts.iter().map(of_the_span).filter(|part| *part != Predicate::ANY_SPAN);
            Predicate::All(parts.collect())
        }
        Predicate::Any(parts) => {
            let parts: Vec<Predicate> = parts.iter().map(of_the_span).collect();
            if parts.contains(&Predicate::ANY_SPAN) { Predicate::ANY_SPAN } else { Predicate::Any(parts) }
        }
        Predicate::Test(Attribute::Intrinsic(intrinsic), _) if intrinsic.is_of_trace() => Predicate::ANY_SPAN,
        test => test.clone(),
    }
}

impl ScalarUDFImpl for Passes {
    fn name(&self) -> &str {
        "traceql_passes"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(Arc::new(self.evaluate(&args)?)))
    }
}

impl PartialEq for Passes {
    fn eq(&self, other: &Passes) -> bool {
        self.text == other.text
    }
}

impl Eq for Passes {}

impl Hash for Passes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Debug for Passes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::query;
    use super::*;
    use crate::testing::{Chance, START, SpanRow, batch, int, text};

    /// Scenario: rows of which few have any of the attributes, in a map or in columns, and predicates that ask for them in every way.
    /// Guarantee: the rows that pass are those that do if each is asked; where attributes are asked of the span, nulls tell it of most.
    #[test]
    fn nulls_leave_out_no_row_that_passes() {
        let mut chance = Chance(11);
        let rows: Vec<SpanRow> = (0..500)
            .map(|number| {
                let all = [
                    text("far", "x"),
                    int("far", 1),
                    int("near", 1),
                    text("http.method", "GET"),
                    text("http.request.method", "GET"),
                ];
                let attributes = all.into_iter().filter(|_| chance.below(25) == 0).collect();
                SpanRow {
                    tenant: "a".to_owned(),
                    trace: 1,
                    span: number + 1,
                    start: START + number,
                    attributes,
                    ..SpanRow::default()
                }
            })
            .collect();
        let rows = batch(&rows);
        for (text, told) in [
            ("{ span.far = \"x\" }", true),
            ("{ span.far != nil && span.near = 1 }", true),
            ("{ span.far != \"x\" || span.http.method = \"GET\" }", true),
            ("{ span.http.request.method =~ \"G.*\" }", true),
            ("{ span.far = 1 || kind = server }", false),
            ("{ span.far = 1 || span.far = nil }", false),
            ("{ .far = 1 }", false),
        ] {
            let query = query(text);
            let passes = Passes::new(of_the_span(&query.conditions().answer), &query.attributes);
            let passed = passes.passed(&rows).unwrap();
            assert_eq!(passed, passes.asked(&rows).unwrap(), "{text}");
            assert!(!told || passed.true_count() > 0, "{text}");
            let may = may_pass(&passes.predicate, &rows).map_or(rows.num_rows(), |may| may.count_set_bits());
            assert!(!told || 2 * may < rows.num_rows(), "{text}: {may}");
        }
    }
}
