//! From what a query needs to what the scan of `spans` filters by.
//!
//! A scan knows columns, TraceQL knows attributes of any type that stand in one of several columns. So a predicate is asked twice: as
//! comparisons of columns, which files and pages are skipped by and which pass whatever they cannot say for certain; and as it is, by
//! [`Passes`], on the rows that are left. Neither loses a span that the query would find.

use datafusion::logical_expr::{Expr, bitwise_and, col, ident, lit};
use datafusion::scalar::ScalarValue;
use meshlake_storage::{ATTRIBUTE_COLUMNS, Form, Place, Promoted, Scope, ValueType, places};
use meshlake_traceql::{Attribute, Comparison, Intrinsic, Kind, Literal, Named, Predicate, Scope as Asked, Status, Test, Value};

use super::columns::ORIGINS;
use super::passes::Passes;
use crate::view::View;

/// What rows are let through.
pub(super) struct Filter<'a> {
    /// The attributes of the query, by slot.
    attributes: &'a [Named],
    /// Those that the tenant has columns for.
    promoted: Vec<&'a Promoted>,
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

impl<'a> Filter<'a> {
    pub(super) fn new(view: &'a View, attributes: &'a [Named]) -> Filter<'a> {
        Filter { attributes, promoted: view.snapshot.promotions.of(view.tenant.as_str()).collect() }
    }

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
            Predicate::Test(Attribute::Named(named), test) => Told { expr: self.of_named(named, test), exact: false },
        }
    }

    /// An attribute that its column has is as said, or the column has it not.
    fn of_named(&self, named: &Named, test: &Test) -> Option<Expr> {
        let scope = match named.scope {
            // What the span has counts, whatever the others have.
            Asked::Any | Asked::Span => Scope::Span,
            Asked::Resource => Scope::Resource,
            Asked::Instrumentation | Asked::Event | Asked::Link => return None,
        };
        let places: Vec<Place> = places(scope, &named.name).collect();
        let Some(first) = places.first() else { return self.of_promoted(scope, &named.name, test) };
        if places.iter().any(|place| place.column != first.column) {
            return None;
        }
        places.into_iter().filter_map(|place| of_place(place, test)).reduce(Expr::and)
    }

    /// A promoted column has the first value of its key, if it is of the column's type.
    fn of_promoted(&self, scope: Scope, key: &str, test: &Test) -> Option<Expr> {
        let promoted = self.promoted.iter().find(|promoted| promoted.scope == scope && promoted.key == key)?;
        let column = ident(promoted.column());
        let passes = match promoted.value_type {
            ValueType::String => text(column.clone(), test),
            ValueType::Int => int(column.clone(), test),
            ValueType::Double => double(column.clone(), test),
            ValueType::Bool => boolean(column.clone(), test),
            ValueType::Other => None,
        };
        Some(column.is_null().or(passes?))
    }
}

/// All of the expressions in a tree that is not deep.
fn joined(mut exprs: Vec<Expr>, join: fn(Expr, Expr) -> Expr) -> Option<Expr> {
    if exprs.len() < 2 {
        return exprs.pop();
    }
    let second = exprs.split_off(exprs.len() / 2);
    Some(join(joined(exprs, join)?, joined(second, join)?))
}

fn of_place(place: Place, test: &Test) -> Option<Expr> {
    let column = &ATTRIBUTE_COLUMNS[place.column];
    let passes = match column.sources[place.source].form {
        Form::Text => text(col(column.name), test),
        Form::Int => int(col(column.name), test),
        Form::Decimal => decimal(col(column.name), test),
        Form::Derived => None,
    };
    let other = col(column.name).is_null().or(passes?);
    if column.shift.is_none() {
        return Some(other);
    }
    // All bits of the column are those of its fourth source.
    let source = bitwise_and(col(ORIGINS), lit(column.origin_bits(3)));
    Some(source.not_eq(lit(column.origin_bits(place.source))).or(other))
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
