//! From tokens to a query, in one pass and without going back: operators by their level (Pratt's method). Types are checked as
//! expressions are built, where the positions of their parts are at hand.
//!
//! What stands in round brackets outside of `{…}` may be a spanset, a pipeline, a number or series: [`node::Node`] is any of these,
//! and what each operator makes of two of them is decided when both are known.

mod field;
mod metrics;
mod node;
mod pipeline;
mod scalar;

use crate::ast::{Body, FieldExpr, Hint, Pattern, Pipeline, Query};
use crate::attribute::{Attribute, Intrinsic, Named, Scope};
use crate::dialect;
use crate::error::{Error, ErrorKind};
use crate::lexer::tokens;
use crate::limits::{ATTRIBUTES_MAX, DEPTH_MAX, PATTERNS_MAX};
use crate::token::{Token, TokenKind};

/// Parses and checks a query.
///
/// # Errors
/// The first thing that is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Query, Error> {
    let mut parser = Parser::new(text)?;
    let node = parser.pipeline()?;
    let at = node.at;
    let body = match node.node {
        node::Node::Series(series) => Body::Metrics(series),
        node => Body::Search(parser.as_pipeline(node, at)?),
    };
    let mut hints = Vec::new();
    while parser.peek().is_word("with") {
        parser.hints(&mut hints)?;
    }
    if *parser.peek() != TokenKind::End {
        let what = match &body {
            _ if !hints.is_empty() => "the end",
            Body::Search(_) => "`|`, an operator, `with(…)` or the end",
            Body::Metrics(_) => {
                "`|`, a comparison, `with(…)` or the end after a metrics query, which is computed with in brackets only"
            }
        };
        return Err(parser.expected(what));
    }
    Ok(Query { body, hints, attributes: parser.attributes })
}

pub(crate) struct Parser<'q> {
    text: &'q str,
    tokens: Vec<Token<'q>>,
    next: usize,
    depth: usize,
    patterns: usize,
    attributes: Vec<Named>,
}

/// Something that was parsed.
type Parsed<T> = Result<T, Error>;

impl<'q> Parser<'q> {
    fn new(text: &'q str) -> Parsed<Parser<'q>> {
        Ok(Parser { text, tokens: tokens(text)?, next: 0, depth: 0, patterns: 0, attributes: Vec::new() })
    }

    fn peek(&self) -> &TokenKind<'q> {
        // The last token is the end, and nothing takes it.
        &self.tokens[self.next.min(self.tokens.len() - 1)].kind
    }

    /// Where the next token begins.
    fn at(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].at
    }

    fn advance(&mut self) {
        self.next += 1;
    }

    /// Takes a symbol if it is next.
    fn take(&mut self, symbol: &str) -> bool {
        let found = self.peek().is(symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.take(symbol) { Ok(()) } else { Err(self.expected(&format!("`{symbol}`"))) }
    }

    /// The error that something else stands next.
    fn expected(&self, what: &str) -> Error {
        Error::at(self.text, self.at(), ErrorKind::Syntax, format!("expected {what}, found {}", self.peek()))
    }

    fn error(&self, at: usize, kind: ErrorKind, what: String) -> Error {
        Error::at(self.text, at, kind, what)
    }

    /// One level deeper, for as long as `parse` takes.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.check_height(self.depth + 1, self.at())?;
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Fails if a tree of this height would be too high.
    fn check_height(&self, height: usize, at: usize) -> Parsed<()> {
        if height <= DEPTH_MAX {
            return Ok(());
        }
        Err(self.error(at, ErrorKind::Limit, format!("expected a query that is nested at most {DEPTH_MAX} deep")))
    }

    fn pattern(&mut self, source: &str, at: usize) -> Parsed<Pattern> {
        self.patterns += 1;
        if self.patterns > PATTERNS_MAX {
            return Err(self.error(
                at,
                ErrorKind::Limit,
                format!("expected at most {PATTERNS_MAX} regular expressions in a query"),
            ));
        }
        dialect::compile(source).map_err(|why| self.error(at, ErrorKind::Type, format!("expected a regular expression: {why}")))
    }

    /// An attribute, if one is next.
    fn try_attribute(&mut self) -> Parsed<Option<Attribute>> {
        let attribute = match self.peek() {
            TokenKind::Attribute(scope, name) => {
                let (scope, name) = (*scope, name.clone());
                self.named(scope, name)?
            }
            TokenKind::Intrinsic(intrinsic) => Attribute::Intrinsic(*intrinsic),
            TokenKind::ParentAttribute => return Err(self.unsupported(self.at(), "the scope `parent.`")),
            TokenKind::Word("parent") => return Err(self.unsupported(self.at(), "the intrinsic `parent`")),
            TokenKind::Word(word) => match Intrinsic::named(word) {
                Some(intrinsic) => Attribute::Intrinsic(intrinsic),
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(attribute))
    }

    fn named(&mut self, scope: Scope, name: String) -> Parsed<Attribute> {
        if let Some(computed) = Intrinsic::of_attribute(scope, &name) {
            return Ok(Attribute::Intrinsic(computed));
        }
        let known = self.attributes.iter().position(|named| named.scope == scope && named.name == name);
        let slot = known.unwrap_or(self.attributes.len());
        let named = Named { scope, name, slot };
        if known.is_none() {
            if slot == ATTRIBUTES_MAX {
                let what = format!("expected at most {ATTRIBUTES_MAX} different attributes in a query");
                return Err(self.error(self.at(), ErrorKind::Limit, what));
            }
            self.attributes.push(named.clone());
        }
        Ok(Attribute::Named(named))
    }

    fn attribute(&mut self) -> Parsed<Attribute> {
        self.try_attribute()?.ok_or_else(|| self.expected("an attribute such as `span.x` or an intrinsic such as `name`"))
    }

    /// `x, y)`, the closing bracket included.
    fn attributes(&mut self) -> Parsed<Vec<Attribute>> {
        let mut attributes = vec![self.attribute()?];
        while self.take(",") {
            attributes.push(self.attribute()?);
        }
        if !self.take(")") {
            return Err(self.expected("`,` or `)`"));
        }
        Ok(attributes)
    }

    fn unsupported(&self, at: usize, what: &str) -> Error {
        self.error(at, ErrorKind::Unsupported, format!("{what} is not yet supported"))
    }

    fn hints(&mut self, hints: &mut Vec<Hint>) -> Parsed<()> {
        self.advance();
        self.expect("(")?;
        loop {
            let TokenKind::Word(name) = *self.peek() else { return Err(self.expected("the name of a hint")) };
            self.advance();
            self.expect("=")?;
            let constant = self.literal()?;
            let FieldExpr::Literal(value) = self.not_nil(constant)?.expr else { return Err(self.expected("a constant")) };
            hints.push(Hint { name: name.to_owned(), value });
            if !self.take(",") {
                break;
            }
        }
        if self.take(")") { Ok(()) } else { Err(self.expected("`,` or `)`")) }
    }

    /// What a node is as a pipeline of its own.
    fn as_pipeline(&self, node: node::Node, at: usize) -> Parsed<Pipeline> {
        node.into_pipeline()
            .map_err(|what| self.error(at, ErrorKind::Syntax, format!("expected a spanset `{{…}}` or a pipeline, found {what}")))
    }
}
