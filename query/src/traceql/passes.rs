use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, col};
use meshlake_traceql::{Attribute, Named, Predicate, View};

use super::columns::{Columns, of_predicate};
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
        let predicate = of_the_span(predicate);
        let mut columns = Columns::new();
        of_predicate(&predicate, &mut columns);
        if columns.is_empty() {
            return None;
        }
        let columns: Vec<&'static str> = columns.into_iter().collect();
        let text = format!("{predicate:?}");
        let signature = Signature::variadic_any(Volatility::Immutable);
        let arguments = columns.iter().map(|name| col(*name)).collect();
        let function = Passes { signature, predicate, attributes: attributes.to_vec(), columns, text };
        Some(ScalarUDF::from(function).call(arguments))
    }

    fn evaluate(&self, args: &ScalarFunctionArgs) -> Result<BooleanArray> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let field = |(name, array): (&&str, &arrow::array::ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        let schema = Schema::new(self.columns.iter().zip(&arrays).map(field).collect::<Vec<_>>());
        let options = RecordBatchOptions::new().with_row_count(Some(arrays.first().map_or(args.number_rows, |array| array.len())));
        let batch = RecordBatch::try_new_with_options(Arc::new(schema), arrays, &options)?;
        let rows = TraceRows::new([&batch], &self.attributes)?;
        Ok(rows.spans().map(|span| Some(self.predicate.passes(&View::new(&span), 0))).collect())
    }
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
