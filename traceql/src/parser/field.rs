//! Expressions over one span, and their types.

use super::{Parsed, Parser};
use crate::ast::{Arithmetic, Comparison, FieldExpr, Literal, level};
use crate::attribute::{Attribute, Intrinsic, Scope};
use crate::error::ErrorKind;
use crate::token::TokenKind;
use crate::types::Type;
use crate::value::{Kind, Status};

/// An expression, and what is known of it.
pub(super) struct Typed {
    pub expr: FieldExpr,
    pub ty: Type,
    /// Where it begins.
    pub at: usize,
    /// Of its tree.
    pub height: usize,
    /// Whether it reads anything of the span.
    pub reads: bool,
}

enum Operator {
    And,
    Or,
    Match { negated: bool },
    Compare(Comparison),
    Arithmetic(Arithmetic),
}

impl Operator {
    fn of(token: &TokenKind<'_>) -> Option<(Operator, u8)> {
        let TokenKind::Symbol(symbol) = token else { return None };
        let operator = match *symbol {
            "&&" => Operator::And,
            "||" => Operator::Or,
            "=~" => Operator::Match { negated: false },
            "!~" => Operator::Match { negated: true },
            symbol => {
                let comparison = Comparison::SYMBOLS.into_iter().find(|(own, _)| *own == symbol);
                let arithmetic = Arithmetic::SYMBOLS.into_iter().find(|(own, _)| *own == symbol);
                let comparison = comparison.map(|(_, op)| Operator::Compare(op));
                comparison.or(arithmetic.map(|(_, op)| Operator::Arithmetic(op)))?
            }
        };
        let level = match &operator {
            Operator::And | Operator::Or => level::LOGIC,
            Operator::Match { .. } | Operator::Compare(_) => level::COMPARISON,
            Operator::Arithmetic(op) => op.level(),
        };
        Some((operator, level))
    }
}

impl Parser<'_> {
    /// An expression that is no `nil`.
    pub(super) fn field(&mut self) -> Parsed<Typed> {
        let typed = self.field_from(level::LOGIC)?;
        self.not_nil(typed)
    }

    /// The filter of a spanset, braces included.
    pub(super) fn braces(&mut self) -> Parsed<FieldExpr> {
        self.expect("{")?;
        if self.take("}") {
            return Ok(FieldExpr::Literal(Literal::Bool(true)));
        }
        let typed = self.field()?;
        if !self.take("}") {
            return Err(self.expected("an operator or `}`"));
        }
        if !typed.ty.is_bool() {
            let what = format!("expected a condition between `{{` and `}}`, found {}", typed.ty);
            return Err(self.error(typed.at, ErrorKind::Type, what));
        }
        Ok(typed.expr)
    }

    pub(super) fn not_nil(&self, typed: Typed) -> Parsed<Typed> {
        if typed.ty != Type::Nil {
            return Ok(typed);
        }
        Err(self.error(typed.at, ErrorKind::Syntax, "expected `nil` only beside `=` or `!=`".to_owned()))
    }

    /// An expression of operators that bind at least as tightly as this.
    fn field_from(&mut self, least: u8) -> Parsed<Typed> {
        self.nested(|parser| {
            let mut left = parser.operand()?;
            while let Some((operator, level)) = Operator::of(parser.peek()).filter(|(_, level)| *level >= least) {
                let at = parser.at();
                parser.advance();
                // From left to right, except for powers.
                let above = if level == level::POWER { level } else { level + 1 };
                let right = parser.field_from(above)?;
                let (start, height) = (left.at, left.height.max(right.height) + 1);
                let reads = left.reads || right.reads;
                let chained =
                    matches!((&operator, &left.expr), (Operator::And, FieldExpr::And(_)) | (Operator::Or, FieldExpr::Or(_)));
                let height = if chained { left.height.max(right.height + 1) } else { height };
                parser.check_height(height, at)?;
                let (expr, ty) = parser.combine(operator, left, right, at)?;
                left = Typed { expr, ty, at: start, height, reads };
            }
            Ok(left)
        })
    }

    fn combine(&mut self, operator: Operator, left: Typed, right: Typed, at: usize) -> Parsed<(FieldExpr, Type)> {
        if let Operator::Compare(op @ (Comparison::Eq | Comparison::Ne)) = operator
            && (left.ty == Type::Nil || right.ty == Type::Nil)
        {
            return self.nil_comparison(op, left, right);
        }
        let (left, right) = (self.not_nil(left)?, self.not_nil(right)?);
        match operator {
            Operator::Compare(op) => {
                Type::check_comparison(op, left.ty, right.ty).map_err(|what| self.error(left.at, ErrorKind::Type, what))?;
                Ok((FieldExpr::Compare { op, left: Box::new(left.expr), right: Box::new(right.expr) }, Type::Bool))
            }
            Operator::Match { negated } => {
                if !left.ty.is_text() {
                    let what = format!("expected a text to match, found {}", left.ty);
                    return Err(self.error(left.at, ErrorKind::Type, what));
                }
                let FieldExpr::Literal(Literal::Text(source)) = &right.expr else {
                    return Err(self.error(right.at, ErrorKind::Type, "expected a regular expression in quotes".to_owned()));
                };
                let pattern = self.pattern(source, right.at)?;
                Ok((FieldExpr::Match { value: Box::new(left.expr), negated, pattern }, Type::Bool))
            }
            Operator::Arithmetic(op) => {
                let ty = Type::check_arithmetic(op, left.ty, right.ty);
                let ty =
                    ty.map_err(|what| self.error(if left.ty.is_number() { right.at } else { left.at }, ErrorKind::Type, what))?;
                Ok((FieldExpr::Arithmetic { op, left: Box::new(left.expr), right: Box::new(right.expr) }, ty))
            }
            Operator::And | Operator::Or => {
                for side in [&left, &right] {
                    if !side.ty.is_bool() {
                        let what = format!("expected conditions at both sides of {}, found {}", self.tokens_at(at), side.ty);
                        return Err(self.error(side.at, ErrorKind::Type, what));
                    }
                }
                Ok((chain(matches!(operator, Operator::And), left.expr, right.expr), Type::Bool))
            }
        }
    }

    /// The token at a position, for an error.
    fn tokens_at(&self, at: usize) -> String {
        self.tokens.iter().find(|token| token.at == at).map(|token| token.kind.to_string()).unwrap_or_default()
    }

    /// `x = nil`, `x != nil`. Every comparison of nothing with nothing is false.
    fn nil_comparison(&mut self, op: Comparison, left: Typed, right: Typed) -> Parsed<(FieldExpr, Type)> {
        let other = match (left.ty, right.ty) {
            (Type::Nil, Type::Nil) => return Ok((FieldExpr::Literal(Literal::Bool(false)), Type::Bool)),
            (Type::Nil, _) => right,
            _ => left,
        };
        if op == Comparison::Ne {
            return Ok((FieldExpr::Exists(Box::new(other.expr)), Type::Bool));
        }
        use Intrinsic::{Callee, Caller, Node};
        let always_there = match &other.expr {
            FieldExpr::Attribute(Attribute::Intrinsic(intrinsic)) => !matches!(intrinsic, Node | Caller | Callee),
            FieldExpr::Attribute(Attribute::Named(named)) => named.scope == Scope::Resource && named.name == "service.name",
            _ => false,
        };
        if always_there {
            let what = format!("expected something that can be missing before `= nil`, found `{}`", other.expr);
            return Err(self.error(other.at, ErrorKind::Type, what));
        }
        Ok((FieldExpr::Absent(Box::new(other.expr)), Type::Bool))
    }

    fn operand(&mut self) -> Parsed<Typed> {
        let at = self.at();
        if self.take("(") {
            let inner = self.field_from(level::LOGIC)?;
            if !self.take(")") {
                return Err(self.expected("an operator or `)`"));
            }
            return Ok(Typed { at, ..inner });
        }
        if self.take("!") {
            let of = self.field_from(level::NOT + 1)?;
            let of = self.not_nil(of)?;
            if !of.ty.is_bool() {
                return Err(self.error(of.at, ErrorKind::Type, format!("expected a condition after `!`, found {}", of.ty)));
            }
            return Ok(Typed {
                expr: FieldExpr::Not(Box::new(of.expr)),
                ty: Type::Bool,
                at,
                height: of.height + 1,
                reads: of.reads,
            });
        }
        if self.take("-") {
            let of = self.field_from(level::SUM + 1)?;
            let of = self.not_nil(of)?;
            if !of.ty.is_number() {
                return Err(self.error(of.at, ErrorKind::Type, format!("expected a number after `-`, found {}", of.ty)));
            }
            return Ok(Typed { expr: negate(of.expr), ty: of.ty, at, height: of.height + 1, reads: of.reads });
        }
        if let Some(attribute) = self.try_attribute()? {
            let ty = Type::of_attribute(&attribute);
            return Ok(Typed { expr: FieldExpr::Attribute(attribute), ty, at, height: 1, reads: true });
        }
        self.literal()
    }

    /// A constant, or `nil`.
    pub(super) fn literal(&mut self) -> Parsed<Typed> {
        let at = self.at();
        let literal = match self.peek() {
            TokenKind::Text(text) => Some(Literal::Text(text.clone())),
            TokenKind::Int(value) => Some(Literal::Int(*value)),
            TokenKind::Float(value) => Some(Literal::Float(*value)),
            TokenKind::Duration(value) => Some(Literal::Duration(*value)),
            TokenKind::Word("nil") => {
                self.advance();
                let expr = FieldExpr::Literal(Literal::Bool(false));
                return Ok(Typed { expr, ty: Type::Nil, at, height: 1, reads: false });
            }
            TokenKind::Word(word) => keyword(word),
            _ => None,
        };
        let Some(literal) = literal else { return Err(self.expected("an attribute, an intrinsic, a constant, `(`, `!` or `-`")) };
        self.advance();
        let ty = Type::of_literal(&literal);
        Ok(Typed { expr: FieldExpr::Literal(literal), ty, at, height: 1, reads: false })
    }
}

fn keyword(word: &str) -> Option<Literal> {
    let status = Status::NAMES.into_iter().find(|(name, _)| *name == word).map(|(_, status)| Literal::Status(status));
    let kind = Kind::NAMES.into_iter().find(|(name, _)| *name == word).map(|(_, kind)| Literal::Kind(kind));
    match word {
        "true" => Some(Literal::Bool(true)),
        "false" => Some(Literal::Bool(false)),
        _ => status.or(kind),
    }
}

fn negate(expr: FieldExpr) -> FieldExpr {
    match expr {
        FieldExpr::Literal(Literal::Int(value)) => FieldExpr::Literal(Literal::Int(value.wrapping_neg())),
        FieldExpr::Literal(Literal::Float(value)) => FieldExpr::Literal(Literal::Float(-value)),
        FieldExpr::Literal(Literal::Duration(value)) => FieldExpr::Literal(Literal::Duration(value.wrapping_neg())),
        expr => FieldExpr::Negate(Box::new(expr)),
    }
}

/// Makes `x && y && z` one chain. (The left side is a chain already, for operators come from left to right.)
fn chain(and: bool, left: FieldExpr, right: FieldExpr) -> FieldExpr {
    let mut exprs = match left {
        FieldExpr::And(exprs) if and => exprs,
        FieldExpr::Or(exprs) if !and => exprs,
        left => vec![left],
    };
    exprs.push(right);
    if and { FieldExpr::And(exprs) } else { FieldExpr::Or(exprs) }
}
