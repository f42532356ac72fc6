//! The SQL function `attribute(name [, type [, scope]])`: any attribute by name and type, wherever it stands.
//!
//! | argument | values |
//! |---|---|
//! | name | the attribute's key, `'http.method'` |
//! | type | `'string'` (default; a value of any type as text), `'int'`, `'double'`, `'bool'`, or `'bytes'`: the OTLP `AnyValue` in protobuf of bytes, arrays, maps and empty values |
//! | scope | `'span'`, `'resource'` or `'scope'`; default: the span, then the resource |
//!
//! The answer is the first value of that name whose type is the asked one, or null. In text, arrays and maps are JSON,
//! bytes are base64, an empty value is null.
//!
//! SQL names no columns in the call, so the statement is rewritten before it is planned: the call gets the columns that may
//! hold the attribute as further arguments. Planning then treats it as any function of columns, in every clause. Where two
//! tables of a query are `spans`, `a.attribute('x')` says which one is meant.

use std::ops::ControlFlow;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue, SchemaError, exec_err, plan_datafusion_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, col, lit,
};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectNamePart, Value, VisitMut,
    visit_expressions_mut,
};
use meshlake_storage::{ATTRIBUTE_COLUMNS, Found, Place, Scope, places};

use crate::values::{ValueSource, as_text};

const NAME: &str = "attribute";
const ORIGINS: &str = "origins";
/// Literal arguments before the columns.
const LITERALS: usize = 3;

/// The type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Type {
    Text,
    Int,
    Double,
    Bool,
    Bytes,
}

impl FromStr for Type {
    type Err = DataFusionError;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "string" => Type::Text,
            "int" => Type::Int,
            "double" => Type::Double,
            "bool" => Type::Bool,
            "bytes" => Type::Bytes,
            _ => return plan_err!("the type of attribute() is 'string', 'int', 'double', 'bool' or 'bytes', not '{text}'"),
        })
    }
}

impl Type {
    fn data_type(self) -> DataType {
        match self {
            Type::Text => DataType::Utf8,
            Type::Int => DataType::Int64,
            Type::Double => DataType::Float64,
            Type::Bool => DataType::Boolean,
            Type::Bytes => DataType::Binary,
        }
    }
}

/// One call, without its columns.
#[derive(Clone, Debug, PartialEq)]
struct Call {
    key: String,
    value_type: Type,
    scopes: Vec<Scope>,
    /// The arguments as literals, defaults filled in.
    literals: [String; LITERALS],
}

impl Call {
    fn new(arguments: &[String]) -> Result<Self> {
        let [key, rest @ ..] = arguments else {
            return plan_err!("attribute() needs the attribute's name: attribute('http.method')");
        };
        let value_type = rest.first().map_or("string", String::as_str);
        let scope = rest.get(1).map_or("", String::as_str);
        if rest.len() > 2 || key.is_empty() {
            return plan_err!("attribute() takes a name, a type and a scope: attribute('http.method', 'string', 'span')");
        }
        let scopes = match (scope, scope.parse()) {
            ("", _) => vec![Scope::Span, Scope::Resource],
            (_, Ok(scope)) => vec![scope],
            (_, Err(_)) => return plan_err!("the scope of attribute() is 'span', 'resource' or 'scope', not '{scope}'"),
        };
        let literals = [key.clone(), value_type.to_owned(), scope.to_owned()];
        Ok(Call { key: key.clone(), value_type: value_type.parse()?, scopes, literals })
    }

    fn places(&self, scope: Scope) -> Vec<Place> {
        places(scope, &self.key).collect()
    }

    /// The columns that may hold the attribute, in the order in which [`AttributeFunction`] gets them.
    fn columns(&self) -> Vec<&'static str> {
        let mut columns = vec![ORIGINS];
        for scope in &self.scopes {
            columns.extend(self.places(*scope).iter().map(|place| ATTRIBUTE_COLUMNS[place.column].name));
            columns.push(scope.residual_column());
        }
        columns
    }
}

/// The text of the attribute `key`, of the span or else of the resource, as an expression over `spans`.
pub(crate) fn attribute_text(function: &Arc<ScalarUDF>, key: &str) -> Result<Expr> {
    let call = Call::new(&[key.to_owned()])?;
    let mut arguments: Vec<Expr> = call.literals.iter().map(|literal| lit(literal.as_str())).collect();
    arguments.extend(call.columns().into_iter().map(col));
    Ok(function.call(arguments))
}

/// Gives every call of `attribute` in the statement its columns; the answer is how many there are.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<usize> {
    match statement {
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        Statement::Statement(statement) => complete_all(statement),
        _ => Ok(0),
    }
}

/// Gives every call of `attribute` in a part of a statement its columns; the answer is how many there are.
pub(crate) fn complete_all(part: &mut impl VisitMut) -> Result<usize> {
    let mut calls = 0;
    let flow = visit_expressions_mut(part, |expr| match complete(expr) {
        Ok(completed) => {
            calls += usize::from(completed);
            ControlFlow::Continue(())
        }
        Err(error) => ControlFlow::Break(error),
    });
    flow.break_value().map_or(Ok(calls), Err)
}

/// Says of an error about a column that a call was given what it means for the call.
pub(crate) fn explain(error: DataFusionError, calls: usize) -> DataFusionError {
    let (DataFusionError::SchemaError(cause, _), true) = (error.find_root(), calls > 0) else { return error };
    match cause.as_ref() {
        SchemaError::FieldNotFound { field, .. } if field.name == ORIGINS => {
            plan_datafusion_err!("attribute() finds no columns of the table spans; select from spans where it is called")
        }
        SchemaError::AmbiguousReference { field } if field.name == ORIGINS => {
            plan_datafusion_err!("attribute() has several tables to read; name one: a.attribute('http.method')")
        }
        _ => error,
    }
}

/// Whether the expression is a call, which then has its columns.
fn complete(expr: &mut SqlExpr) -> Result<bool> {
    let SqlExpr::Function(function) = expr else { return Ok(false) };
    let parts: Option<Vec<Ident>> = function.name.0.iter().map(|part| part.as_ident().cloned()).collect();
    let Some((name, table)) = parts.as_deref().and_then(<[Ident]>::split_last) else { return Ok(false) };
    if !name.value.eq_ignore_ascii_case(NAME) {
        return Ok(false);
    }
    let call = Call::new(&literals(function)?)?;
    let literals = call.literals.iter().map(|text| SqlExpr::value(Value::SingleQuotedString(text.clone())));
    let columns = call.columns().into_iter().map(|column| column_of(table, column));
    let arguments = literals.chain(columns).map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)));
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = arguments.collect();
    }
    function.name.0 = vec![ObjectNamePart::Identifier(Ident::new(NAME))];
    Ok(true)
}

fn column_of(table: &[Ident], column: &str) -> SqlExpr {
    if table.is_empty() {
        return SqlExpr::Identifier(Ident::new(column));
    }
    SqlExpr::CompoundIdentifier(table.iter().cloned().chain([Ident::new(column)]).collect())
}

fn literals(function: &Function) -> Result<Vec<String>> {
    let FunctionArguments::List(list) = &function.args else {
        return plan_err!("attribute() takes its arguments in parentheses: attribute('http.method')");
    };
    let literal = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(SqlExpr::Value(value))) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    };
    let all: Option<Vec<String>> = list.args.iter().map(literal).collect();
    all.ok_or_else(|| {
        plan_datafusion_err!("the arguments of attribute() are texts in single quotes: attribute('http.method', 'string')")
    })
}

/// The function as DataFusion sees it: three literals, `origins`, and for each scope the columns and the residual map.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttributeFunction {
    signature: Signature,
}

impl AttributeFunction {
    pub(crate) fn new() -> Self {
        AttributeFunction { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

fn call_of<'a>(literals: impl Iterator<Item = Option<&'a ScalarValue>>) -> Result<Call> {
    let text = |literal: Option<&ScalarValue>| literal.and_then(|literal| literal.try_as_str().flatten()).map(str::to_owned);
    let texts: Option<Vec<String>> = literals.take(LITERALS).map(text).collect();
    match texts {
        Some(texts) if texts.len() == LITERALS => Call::new(&texts),
        _ => plan_err!("attribute() takes texts in single quotes"),
    }
}

impl ScalarUDFImpl for AttributeFunction {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        exec_err!("the type of attribute() depends on its arguments' values")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let call = call_of(args.scalar_arguments.iter().copied())?;
        Ok(Arc::new(Field::new(NAME, call.value_type.data_type(), true)))
    }

    /// The column's name in an answer: the call as it was written, with the table where it is not `spans`.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let literals = arguments.iter().take(LITERALS).map(|argument| match argument {
            Expr::Literal(value, _) => value.try_as_str().flatten().unwrap_or_default(),
            _ => "",
        });
        let literals: Vec<&str> = literals.collect();
        let written = match literals.as_slice() {
            [key, "string", ""] => format!("{NAME}('{key}')"),
            [key, value_type, ""] => format!("{NAME}('{key}','{value_type}')"),
            all => format!("{NAME}('{}')", all.join("','")),
        };
        let table = arguments.iter().find_map(|argument| argument.try_as_col()?.relation.as_ref());
        Ok(match table.map(|table| table.table()) {
            None | Some("spans") => written,
            Some(table) => format!("{table}.{written}"),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let literals = args.args.iter().map(|argument| match argument {
            ColumnarValue::Scalar(value) => Some(value),
            ColumnarValue::Array(_) => None,
        });
        let call = call_of(literals)?;
        let columns = ColumnarValue::values_to_arrays(&args.args[LITERALS..])?;
        let source = ValueSource::new(&columns, |scope| call.places(scope), &call.scopes, &call.key)?;
        Ok(ColumnarValue::Array(evaluate(call.value_type, &source, args.number_rows)?))
    }
}

fn evaluate(value_type: Type, source: &ValueSource, rows: usize) -> Result<ArrayRef> {
    Ok(match value_type {
        Type::Text => Arc::new(texts(source, rows)?),
        Type::Int => {
            let mut ints = Int64Builder::with_capacity(rows);
            (0..rows).for_each(|row| ints.append_option(source.find(row, |found| found.as_int())));
            Arc::new(ints.finish())
        }
        Type::Double => {
            let mut doubles = Float64Builder::with_capacity(rows);
            (0..rows).for_each(|row| doubles.append_option(source.find(row, |found| found.as_double())));
            Arc::new(doubles.finish())
        }
        Type::Bool => {
            let mut bools = BooleanBuilder::with_capacity(rows);
            (0..rows).for_each(|row| bools.append_option(source.find(row, |found| found.as_bool())));
            Arc::new(bools.finish())
        }
        Type::Bytes => {
            let mut bytes = BinaryBuilder::new();
            (0..rows).for_each(|row| bytes.append_option(source.find(row, |found| found.as_other())));
            Arc::new(bytes.finish())
        }
    })
}

fn texts(source: &ValueSource, rows: usize) -> Result<arrow::array::StringArray> {
    let mut texts = StringBuilder::new();
    for row in 0..rows {
        match source.find(row, Some) {
            Some(Found::Text(text)) => texts.append_value(text),
            Some(found) => texts.append_option(as_text(found)),
            None => texts.append_null(),
        }
    }
    Ok(texts.finish())
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::resource::v1::Resource;

    use crate::testing::{SpanRow, TestSource, int, key_value, sql, table, text, value};
    use crate::{Engine, QueryError};

    /// One span for each place where an attribute may stand, in a file and again live; `name` says which.
    async fn engine() -> Engine {
        let span = |name: &str, attributes, of_resource| SpanRow {
            tenant: "a".to_owned(),
            name: name.to_owned(),
            service: Some("reviews".to_owned()),
            attributes,
            resource: Resource { attributes: of_resource, ..Resource::default() },
            ..SpanRow::default()
        };
        let rows = [
            span("absent", vec![], vec![]),
            span("column", vec![text("http.method", "GET"), text("http.status_code", "200")], vec![text("host.name", "h")]),
            span("form", vec![int("http.status_code", 503), text("http.request.method", "PUT")], vec![text("http.method", "POST")]),
            span(
                "map",
                vec![int("http.method", 7), text("http.status_code", "0200"), key_value("ok", Value::BoolValue(true))],
                vec![],
            ),
            span("taken", vec![text("http.request.method", "PUT"), text("http.method", "GET")], vec![]),
            span("twice", vec![text("x", "first"), text("x", "second"), int("x", 3)], vec![text("x", "resource")]),
            span("bytes", vec![key_value("x", Value::BytesValue(vec![1]))], vec![text("istio.canonical_service", "no tag")]),
            span("tag", vec![text("istio.canonical_service", "reviews"), key_value("x", Value::DoubleValue(0.5))], vec![]),
        ];
        let mut source = TestSource::new();
        source.add_file(&rows).await;
        source.add_live(&rows);
        source.engine()
    }

    async fn of(engine: &Engine, name: &str, call: &str) -> String {
        let query = format!("SELECT {call} FROM spans WHERE name = '{name}' GROUP BY 1");
        let text = value(engine, "a", &query).await;
        if text.is_empty() { "null".to_owned() } else { text }
    }

    /// Scenario: attributes in a column, in another form or key of it, in the map, absent, of another scope, several times.
    /// Guarantee: the value is the one that was sent, by name and type, whether its row is live or in a file.
    #[tokio::test]
    async fn attributes_are_found_wherever_they_stand() {
        let engine = engine().await;
        for (name, call, expected) in [
            ("absent", "attribute('http.method')", "null"),
            ("column", "attribute('http.method')", "GET"),
            ("column", "attribute('http.request.method')", "null"),
            ("column", "attribute('http.status_code')", "200"),
            ("column", "attribute('http.status_code', 'int')", "null"),
            ("column", "attribute('host.name', 'string', 'resource')", "h"),
            ("column", "attribute('host.name', 'string', 'span')", "null"),
            ("column", "ATTRIBUTE('host.name')", "h"),
            ("form", "attribute('http.status_code', 'int')", "503"),
            ("form", "attribute('http.status_code')", "503"),
            ("form", "attribute('http.method')", "POST"),
            ("form", "attribute('http.method', 'string', 'span')", "null"),
            ("map", "attribute('http.method', 'int')", "7"),
            ("map", "attribute('http.status_code')", "0200"),
            ("map", "attribute('ok', 'bool')", "true"),
            ("map", "attribute('ok')", "true"),
            ("taken", "attribute('http.method')", "GET"),
            ("taken", "attribute('http.request.method')", "PUT"),
            ("twice", "attribute('x')", "first"),
            ("twice", "attribute('x', 'int')", "3"),
            ("twice", "attribute('x', 'string', 'resource')", "resource"),
            ("bytes", "attribute('x')", "AQ=="),
            ("bytes", "encode(attribute('x', 'bytes'), 'hex')", "3a0101"),
            ("bytes", "attribute('istio.canonical_service', 'string', 'span')", "null"),
            ("bytes", "attribute('istio.canonical_service')", "no tag"),
            ("tag", "attribute('istio.canonical_service')", "reviews"),
            ("tag", "attribute('x', 'double')", "0.5"),
            ("tag", "attribute('x', 'string', 'scope')", "null"),
        ] {
            assert_eq!(of(&engine, name, call).await, expected, "{name}: {call}");
        }
    }

    /// Scenario: the function in every clause, under sub-queries and joins, with a qualifier, on a filter that Parquet cannot
    /// apply. Guarantee: it means the same everywhere, and the answer's column bears the call's name.
    #[tokio::test]
    async fn the_function_works_in_every_clause() {
        let engine = engine().await;
        for (query, expected) in [
            ("SELECT count(*) FROM spans WHERE attribute('x') = 'first'", "2"),
            ("SELECT count(*) FROM spans WHERE attribute('x') = 'first' AND service = 'reviews' AND name > 'a'", "2"),
            ("SELECT name FROM spans ORDER BY attribute('x', 'double') NULLS LAST, name LIMIT 1", "tag"),
            (
                "SELECT attribute('http.method') FROM spans GROUP BY attribute('http.method') ORDER BY count(*) DESC, 1 LIMIT 1 OFFSET 1",
                "GET",
            ),
            ("SELECT count(DISTINCT attribute('http.method')) FROM spans", "3"),
            ("SELECT count(*) FROM spans GROUP BY service HAVING max(attribute('http.status_code')) = '503'", "16"),
            ("SELECT n FROM (SELECT name n, attribute('x', 'int') i FROM spans) WHERE i = 3 LIMIT 1", "twice"),
            (
                "SELECT count(*) FROM spans s JOIN (SELECT DISTINCT name FROM spans WHERE attribute('x') IS NOT NULL) t ON s.name = t.name WHERE s.attribute('x', 'double') > 0",
                "2",
            ),
            ("SELECT count(*) FROM spans a JOIN spans b ON a.name = b.name AND a.attribute('x') = b.attribute('x')", "12"),
            ("WITH t AS (SELECT * FROM spans) SELECT count(*) FROM t WHERE attribute('http.method') = 'GET'", "4"),
            ("SELECT count(*) FROM spans WHERE name IN (SELECT name FROM spans WHERE attribute('ok', 'bool'))", "2"),
        ] {
            assert_eq!(value(&engine, "a", query).await, expected, "{query}");
        }
        let names = table(
            &engine,
            "a",
            "SELECT attribute('x'), attribute('x', 'int'), attribute('x', 'string', 'span') FROM spans LIMIT 1",
        )
        .await;
        let names: Vec<&str> = names.lines().nth(1).unwrap().split('|').map(str::trim).collect();
        assert_eq!(names[1..4], ["attribute('x')", "attribute('x','int')", "attribute('x','string','span')"]);
    }

    /// Scenario: calls that cannot be. Guarantee: each is refused as the user's mistake with a text that says what is allowed.
    #[tokio::test]
    async fn wrong_calls_say_what_is_allowed() {
        let engine = engine().await;
        for (query, expected) in [
            ("SELECT attribute() FROM spans", "needs the attribute's name"),
            ("SELECT attribute('x', 'float') FROM spans", "'double'"),
            ("SELECT attribute('x', 'int', 'trace') FROM spans", "'resource'"),
            ("SELECT attribute(name) FROM spans", "single quotes"),
            ("SELECT attribute('x', 'int', 'span', 'y') FROM spans", "a name, a type and a scope"),
            ("SELECT attribute('x') FROM (SELECT name FROM spans)", "attribute()"),
            ("SELECT attribute('x')", "attribute()"),
            ("SELECT attribute('x') FROM spans a, spans b", "a.attribute("),
        ] {
            let error = sql(&engine, "a", query).await.unwrap_err();
            assert!(matches!(&error, QueryError::Invalid { message } if message.contains(expected)), "{query}: {error}");
        }
    }
}
