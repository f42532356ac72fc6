//! From what a query needs to what the scan of `spans` filters by.
//!
//! A scan knows columns, TraceQL knows attributes of any type that stand in one of several columns. So a predicate is asked twice:
//! as comparisons of columns, which files and pages are skipped by and which let through whatever they cannot say for certain; and
//! as it is, by [`Passes`], on the rows that are left. Neither loses a span that the query would find. Lake files say where their
//! attributes stand ([`Stand`]): where that is in columns, comparisons say all.

use std::collections::BTreeMap;

use datafusion::logical_expr::{Expr, bitwise_and, col, ident, lit};
use datafusion::scalar::ScalarValue;
use meshlake_storage::{ATTRIBUTE_COLUMNS, Form, Place, Promoted, Scope, ValueType, places};
use meshlake_traceql::{Attribute, Comparison, Intrinsic, Kind, Literal, Named, Predicate, Scope as Asked, Status, Test, Value};

use super::columns::ORIGINS;
use super::passes::Passes;
use crate::file_attributes::Stand;

/// What rows of some files are let through.
pub(super) struct Filter<'a> {
    /// The attributes of the query, by slot.
    pub attributes: &'a [Named],
    /// Those that the tenant has columns for.
    pub promoted: &'a [&'a Promoted],
    /// Where attributes stand in all of the files; of others that is not known.
    pub stands: &'a BTreeMap<(Scope, String), Stand>,
}

/// What a comparison of columns says.
struct Told {
    /// None: nothing.
    expr: Option<Expr>,
    /// Whether the rows that it lets through are just those that pass.
    exact: bool,
}

impl Told {
    const NOTHING: Told = Told { expr: None, exact: false };

    fn exactly(expr: Expr) -> Told {
        Told { expr: Some(expr), exact: true }
    }
}

impl Filter<'_> {
    /// The rows that may pass, told by comparisons of columns; nothing if all may.
    pub(super) fn coarse(&self, predicate: &Predicate) -> Option<Expr> {
        self.told(predicate).expr
    }

    /// The rows that pass; those of spans of which only their trace knows, too. Nothing if all may.
    pub(super) fn fine(&self, predicate: &Predicate) -> Option<Expr> {
        let Told { expr, exact } = self.told(predicate);
        let passes = if exact { None } else { Passes::expr(predicate, self.attributes) };
        expr.into_iter().chain(passes).reduce(Expr::and)
    }

    fn told(&self, predicate: &Predicate) -> Told {
        match predicate {
            Predicate::All(parts) => {
                let parts: Vec<Told> = parts.iter().map(|part| self.told(part)).collect();
                let exact = parts.iter().all(|part| part.exact);
                Told { expr: joined(parts.into_iter().filter_map(|part| part.expr).collect(), Expr::and), exact }
            }
            Predicate::Any(parts) if parts.is_empty() => Told::exactly(lit(false)),
            Predicate::Any(parts) => {
                let parts: Vec<Told> = parts.iter().map(|part| self.told(part)).collect();
                let exact = parts.iter().all(|part| part.exact);
                let exprs: Option<Vec<Expr>> = parts.into_iter().map(|part| part.expr).collect();
                Told { expr: exprs.and_then(|exprs| joined(exprs, Expr::or)), exact }
            }
            Predicate::Test(Attribute::Intrinsic(intrinsic), test) => of_intrinsic(*intrinsic, test),
            Predicate::Test(Attribute::Named(named), test) => self.of_named(named, test),
        }
    }

    fn stand(&self, scope: Scope, key: &str) -> Stand {
        self.stands.get(&(scope, key.to_owned())).copied().unwrap_or(Stand::Anywhere)
    }

    fn of_named(&self, named: &Named, test: &Test) -> Told {
        let key = &named.name;
        match named.scope {
            Asked::Any => Told { expr: self.of_any(key, test), exact: false },
            Asked::Span => self.of_scope(Scope::Span, key, test),
            Asked::Resource => self.of_scope(Scope::Resource, key, test),
            Asked::Instrumentation => self.of_scope(Scope::Instrumentation, key, test),
            Asked::Event | Asked::Link => Told::NOTHING,
        }
    }

    fn of_scope(&self, scope: Scope, key: &str, test: &Test) -> Told {
        let columns = self.columns(scope, key);
        match self.stand(scope, key) {
            Stand::Absent => Told::exactly(lit(false)),
            Stand::Alone(_) | Stand::Columns => {
                let exact = columns.iter().all(|column| column.says(test).is_some());
                Told { expr: columns.iter().map(|column| column.passes(test)).reduce(Expr::or), exact }
            }
            Stand::Anywhere => Told { expr: unless_elsewhere(&columns, test), exact: false },
        }
    }

    /// What the span has counts, then what its resource has; what nobody's column has, events, links and libraries may have.
    fn of_any(&self, key: &str, test: &Test) -> Option<Expr> {
        let mut told = None;
        for scope in [Scope::Resource, Scope::Span] {
            let columns = self.columns(scope, key);
            told = match self.stand(scope, key) {
                Stand::Absent => told,
                Stand::Alone(_) | Stand::Columns => {
                    let has = columns.iter().map(Column::has).reduce(Expr::or)?;
                    let passes = columns.iter().map(|column| column.passes(test)).reduce(Expr::or)?;
                    let missing = told.into_iter().fold(!has, Expr::and);
                    Some(passes.or(missing))
                }
                Stand::Anywhere => unless_elsewhere(&columns, test),
            };
        }
        told
    }

    /// The columns in which an attribute of a scope may stand: those that all files have, or else the promoted one.
    fn columns(&self, scope: Scope, key: &str) -> Vec<Column> {
        if let Stand::Alone(place) = self.stand(scope, key) {
            // To ask each row whose the value is would decode `origins` of all of them.
            return vec![Column { own: None, ..Column::of_place(place) }];
        }
        let built_in: Vec<Column> = places(scope, key).map(Column::of_place).collect();
        if !built_in.is_empty() {
            return built_in;
        }
        let promoted = self.promoted.iter().find(|promoted| promoted.scope == scope && promoted.key == key);
        promoted.map(|promoted| Column::of_promoted(promoted)).into_iter().collect()
    }
}

/// A column in which an attribute may stand.
struct Column {
    expr: Expr,
    holds: Holds,
    /// Whether what stands there is the attribute's, where it may be another's.
    own: Option<Expr>,
    /// The column's name.
    name: String,
}

/// How values stand in a column.
#[derive(Clone, Copy)]
enum Holds {
    Texts,
    Ints,
    /// Integers that were texts.
    Decimals,
    Doubles,
    Bools,
    Nothing,
}

impl Column {
    fn of_place(place: Place) -> Column {
        let column = &ATTRIBUTE_COLUMNS[place.column];
        let holds = match column.sources[place.source].form {
            Form::Text => Holds::Texts,
            Form::Int => Holds::Ints,
            Form::Decimal => Holds::Decimals,
            Form::Derived => Holds::Nothing,
        };
        // All bits of the column are those of its fourth source.
        let source = || bitwise_and(col(ORIGINS), lit(column.origin_bits(3)));
        let own = column.shift.map(|_| source().eq(lit(column.origin_bits(place.source))));
        Column { expr: col(column.name), holds, own, name: column.name.to_owned() }
    }

    fn of_promoted(promoted: &Promoted) -> Column {
        let holds = match promoted.value_type {
            ValueType::String => Holds::Texts,
            ValueType::Int => Holds::Ints,
            ValueType::Double => Holds::Doubles,
            ValueType::Bool => Holds::Bools,
            ValueType::Other => Holds::Nothing,
        };
        Column { expr: ident(promoted.column()), holds, own: None, name: promoted.column() }
    }

    /// Whether a value that stands there is as said; none if that cannot be told.
    fn says(&self, test: &Test) -> Option<Expr> {
        let column = self.expr.clone();
        match (test, self.holds) {
            (Test::Exists, _) => Some(lit(true)),
            (_, Holds::Texts) => text(column, test),
            (_, Holds::Ints) => int(column, test),
            (_, Holds::Decimals) => decimal(column, test),
            (_, Holds::Doubles) => double(column, test),
            (_, Holds::Bools) => boolean(column, test),
            (_, Holds::Nothing) => None,
        }
    }

    /// Whether the attribute stands there.
    fn has(&self) -> Expr {
        self.own.iter().cloned().fold(self.expr.clone().is_not_null(), Expr::and)
    }

    /// Whether it does and may be as said.
    fn passes(&self, test: &Test) -> Expr {
        match self.says(test) {
            // A null compares with nothing. To ask for it first would decode the column twice.
            Some(says @ Expr::BinaryExpr(_)) => self.own.iter().cloned().fold(says, Expr::and),
            says => says.into_iter().fold(self.has(), Expr::and),
        }
    }

    /// Whether it does not, or may be as said; none if it may always.
    fn passes_or_is_elsewhere(&self, test: &Test) -> Option<Expr> {
        let other = self.expr.clone().is_null().or(self.says(test)?);
        Some(self.own.iter().cloned().fold(other, |other, own| other.or(!own)))
    }
}

/// Whether an attribute is as said in the columns in which it may stand, or may stand elsewhere.
fn unless_elsewhere(columns: &[Column], test: &Test) -> Option<Expr> {
    // Of values in several columns the first counts.
    let first = columns.first()?;
    if columns.iter().any(|column| column.name != first.name) {
        return None;
    }
    columns.iter().filter_map(|column| column.passes_or_is_elsewhere(test)).reduce(Expr::and)
}

/// All of the expressions in a tree that is not deep.
fn joined(mut exprs: Vec<Expr>, join: fn(Expr, Expr) -> Expr) -> Option<Expr> {
    if exprs.len() < 2 {
        return exprs.pop();
    }
    let second = exprs.split_off(exprs.len() / 2);
    Some(join(joined(exprs, join)?, joined(second, join)?))
}

fn compared(column: Expr, op: Comparison, with: Expr) -> Expr {
    match op {
        Comparison::Eq => column.eq(with),
        Comparison::Ne => column.not_eq(with),
        Comparison::Lt => column.lt(with),
        Comparison::Le => column.lt_eq(with),
        Comparison::Gt => column.gt(with),
        Comparison::Ge => column.gt_eq(with),
    }
}

/// Whether a column of texts is as said; nothing if that cannot be told.
fn text(column: Expr, test: &Test) -> Option<Expr> {
    match test {
        Test::Compare(op, Literal::Text(with)) => Some(compared(column, *op, lit(with.as_str()))),
        Test::Compare(..) => Some(lit(false)),
        Test::Match(..) | Test::Exists => None,
    }
}

fn int(column: Expr, test: &Test) -> Option<Expr> {
    match test {
        Test::Compare(op, Literal::Int(with) | Literal::Duration(with)) => Some(compared(column, *op, lit(*with))),
        Test::Compare(_, Literal::Float(_)) | Test::Exists => None,
        Test::Compare(..) | Test::Match(..) => Some(lit(false)),
    }
}

/// A column of numbers that were texts.
fn decimal(column: Expr, test: &Test) -> Option<Expr> {
    match test {
        Test::Compare(op @ (Comparison::Eq | Comparison::Ne), Literal::Text(with)) => {
            let number = with.parse::<i64>().ok().filter(|number| number.to_string() == *with);
            Some(number.map_or(lit(*op == Comparison::Ne), |number| compared(column, *op, lit(number))))
        }
        Test::Compare(_, Literal::Text(_)) | Test::Match(..) | Test::Exists => None,
        Test::Compare(..) => Some(lit(false)),
    }
}

fn double(column: Expr, test: &Test) -> Option<Expr> {
    match test {
        Test::Compare(op, literal) => match literal.value().number() {
            // Columns know two zeros.
            Some(0.0) => None,
            Some(with) => Some(compared(column, *op, lit(with))),
            None => Some(lit(false)),
        },
        Test::Match(..) => Some(lit(false)),
        Test::Exists => None,
    }
}

fn boolean(column: Expr, test: &Test) -> Option<Expr> {
    match test {
        Test::Compare(op @ (Comparison::Eq | Comparison::Ne), Literal::Bool(with)) => Some(compared(column, *op, lit(*with))),
        Test::Compare(..) | Test::Match(..) => Some(lit(false)),
        Test::Exists => None,
    }
}

fn of_intrinsic(intrinsic: Intrinsic, test: &Test) -> Told {
    match (intrinsic, test) {
        (Intrinsic::Name, Test::Compare(op, Literal::Text(name))) => Told::exactly(compared(col("name"), *op, lit(name.as_str()))),
        (Intrinsic::Duration, Test::Compare(op, Literal::Duration(with) | Literal::Int(with))) => {
            Told::exactly(compared(col("duration"), *op, lit(*with)))
        }
        (Intrinsic::Status, Test::Compare(op, Literal::Status(status))) => named(*op, "status", *status, &Status::NAMES),
        (Intrinsic::Kind, Test::Compare(op, Literal::Kind(kind))) => named(*op, "kind", *kind, &Kind::NAMES),
        (Intrinsic::TraceId, Test::Compare(Comparison::Eq, Literal::Text(id))) => is_id::<16>("trace_id", id),
        (Intrinsic::SpanId, Test::Compare(Comparison::Eq, Literal::Text(id))) => is_id::<8>("span_id", id),
        (Intrinsic::ParentId, Test::Compare(Comparison::Eq, Literal::Text(id))) => is_id::<8>("parent_span_id", id),
        (Intrinsic::ParentId, Test::Exists) => Told::exactly(col("parent_span_id").is_not_null()),
        (Intrinsic::NestedSetParent, test) if test.tells_roots() => match [-1, 0].map(|parent| test.passes(&Value::Int(parent))) {
            [true, true] => Told { expr: None, exact: true },
            [true, false] => Told::exactly(col("parent_span_id").is_null()),
            [false, true] => Told::exactly(col("parent_span_id").is_not_null()),
            [false, false] => Told::exactly(lit(false)),
        },
        _ => Told::NOTHING,
    }
}

/// A column of names, of which the first stands for all that are not among them, too.
fn named<T: PartialEq>(op: Comparison, column: &str, value: T, names: &[(&str, T)]) -> Told {
    let is_one = |(name, _): &(&str, T)| col(column).eq(lit(*name));
    let is = match names.iter().position(|(_, of)| *of == value) {
        Some(0) => names[1..].iter().map(is_one).reduce(Expr::or).map(|others| !others),
        Some(place) => Some(is_one(&names[place])),
        None => None,
    };
    match (op, is) {
        (Comparison::Eq, Some(is)) => Told::exactly(is),
        (Comparison::Ne, Some(is)) => Told::exactly(!is),
        _ => Told::NOTHING,
    }
}

/// An id as TraceQL writes it: all digits, in lower case.
fn is_id<const N: usize>(column: &str, text: &str) -> Told {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let number = (text.len() == 2 * N && text.bytes().all(is_digit)).then(|| u128::from_str_radix(text, 16).ok()).flatten();
    Told::exactly(number.map_or(lit(false), |number| {
        let bytes = number.to_be_bytes()[16 - N..].to_vec();
        col(column).eq(lit(ScalarValue::FixedSizeBinary(N as i32, Some(bytes))))
    }))
}
