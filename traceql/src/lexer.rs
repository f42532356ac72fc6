//! From text to tokens, in one pass.

use crate::attribute::{Intrinsic, Scope};
use crate::error::{Error, ErrorKind};
use crate::limits::QUERY_BYTES_MAX;
use crate::text::{UNITS, is_name_char};
use crate::token::{Token, TokenKind};

/// Longest first.
const SYMBOLS: [&str; 35] = [
    "!>>", "!<<", "&>>", "&<<", "!=", "!~", "!>", "!<", "=~", ">=", "<=", "&&", "||", "&>", "&<", "&~", ">>", "<<", "{", "}", "(",
    ")", "=", ">", "<", "+", "-", "*", "/", "%", "^", "!", "|", "~", ",",
];

/// The tokens of a text, the last of them its end.
///
/// # Errors
/// Characters that begin no token, texts without an end, numbers out of range, and texts longer than [`QUERY_BYTES_MAX`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Error> {
    let (tokens, error) = tokens_before_error(text);
    error.map_or(Ok(tokens), Err)
}

/// The tokens up to what is none, and what is wrong with that; without an error the last of them is the end.
pub(crate) fn tokens_before_error(text: &str) -> (Vec<Token<'_>>, Option<Error>) {
    let mut tokens = Vec::new();
    if text.len() > QUERY_BYTES_MAX {
        let what = format!("expected a query of at most {QUERY_BYTES_MAX} bytes, found {}", text.len());
        return (tokens, Some(Error::at(text, 0, ErrorKind::Limit, what)));
    }
    let mut lexer = Lexer { text, at: 0 };
    loop {
        match lexer.next_token() {
            Ok(token) => tokens.push(token),
            Err(error) => return (tokens, Some(error)),
        }
        if tokens.last().is_some_and(|token| token.kind == TokenKind::End) {
            return (tokens, None);
        }
    }
}

struct Lexer<'q> {
    text: &'q str,
    at: usize,
}

impl<'q> Lexer<'q> {
    fn rest(&self) -> &'q str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn take_while(&mut self, of: impl Fn(char) -> bool) -> &'q str {
        let rest = self.rest();
        let taken = rest.find(|char| !of(char)).map_or(rest, |end| &rest[..end]);
        self.at += taken.len();
        taken
    }

    fn take(&mut self, start: &str) -> bool {
        let found = self.rest().starts_with(start);
        if found {
            self.at += start.len();
        }
        found
    }

    fn error(&self, at: usize, what: String) -> Error {
        Error::at(self.text, at, ErrorKind::Syntax, what)
    }

    /// Skips white space and comments.
    fn skip_space(&mut self) -> Result<(), Error> {
        loop {
            self.take_while(char::is_whitespace);
            let at = self.at;
            if self.take("//") {
                self.take_while(|char| char != '\n');
            } else if self.take("/*") {
                let end = self.rest().find("*/");
                let end = end.ok_or_else(|| self.error(at, "expected `*/` after this `/*`, found the end".to_owned()))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn next_token(&mut self) -> Result<Token<'q>, Error> {
        self.skip_space()?;
        let at = self.at;
        Ok(Token { kind: self.token()?, at })
    }

    fn token(&mut self) -> Result<TokenKind<'q>, Error> {
        let at = self.at;
        let after = self.rest().chars().nth(1);
        match self.peek() {
            None => Ok(TokenKind::End),
            Some('"') => self.text_in_quotes(),
            Some('`') => self.raw_text(),
            Some('.') if after.is_some_and(|char| char.is_ascii_digit()) => self.number(),
            Some('.') => {
                self.at += 1;
                self.attribute(Scope::Any)
            }
            Some(char) if char.is_ascii_digit() => self.number(),
            Some(char) if char.is_alphabetic() || char == '_' => self.word(),
            Some(char) => match SYMBOLS.into_iter().find(|symbol| self.take(symbol)) {
                Some(symbol) => Ok(TokenKind::Symbol(symbol)),
                None => Err(self.error(at, format!("expected an expression or operator, found `{char}`"))),
            },
        }
    }

    fn word(&mut self) -> Result<TokenKind<'q>, Error> {
        let word = self.take_while(|char| char.is_alphanumeric() || char == '_');
        match word {
            "minInt" => return Ok(TokenKind::Int(i64::MIN)),
            "maxInt" => return Ok(TokenKind::Int(i64::MAX)),
            _ => {}
        }
        let scope = Scope::NAMES.into_iter().find(|(name, _)| *name == word).map(|(_, scope)| scope);
        if word == "parent" && self.take(".") {
            self.name()?;
            return Ok(TokenKind::ParentAttribute);
        }
        match scope {
            Some(scope) if self.take(".") => self.attribute(scope),
            _ if (scope.is_some_and(|scope| scope != Scope::Resource) || word == "trace") && self.take(":") => {
                self.scoped_intrinsic(word)
            }
            _ => Ok(TokenKind::Word(word)),
        }
    }

    fn scoped_intrinsic(&mut self, scope: &str) -> Result<TokenKind<'q>, Error> {
        self.skip_space()?;
        let at = self.at;
        let word = self.take_while(|char| char.is_alphanumeric() || char == '_');
        if let Some(intrinsic) = Intrinsic::named(&format!("{scope}:{word}")) {
            return Ok(TokenKind::Intrinsic(intrinsic));
        }
        let known = match scope {
            "trace" => "duration, rootName, rootService or id",
            "span" => "duration, name, kind, status, statusMessage, id, parentID or childCount",
            "event" => "name or timeSinceStart",
            "link" => "traceID or spanID",
            _ => "name or version",
        };
        let found = if word.is_empty() {
            self.peek().map_or("the end".to_owned(), |char| format!("`{char}`"))
        } else {
            format!("`{word}`")
        };
        Err(self.error(at, format!("expected {known} after `{scope}:`, found {found}")))
    }

    fn attribute(&mut self, scope: Scope) -> Result<TokenKind<'q>, Error> {
        Ok(TokenKind::Attribute(scope, self.name()?))
    }

    /// The name of an attribute: everything up to what ends it, with parts in quotes.
    fn name(&mut self) -> Result<String, Error> {
        let at = self.at;
        let mut name = String::new();
        let mut quoted = false;
        while let Some(char) = self.peek().filter(|char| is_name_char(*char)) {
            self.next();
            if char != '"' {
                name.push(char);
                continue;
            }
            quoted = true;
            self.quoted_part(&mut name)?;
        }
        if name.is_empty() && !quoted {
            let found = self.peek().map_or("the end".to_owned(), |char| format!("`{char}`"));
            return Err(self.error(at, format!("expected the name of an attribute, found {found}")));
        }
        Ok(name)
    }

    fn quoted_part(&mut self, name: &mut String) -> Result<(), Error> {
        let at = self.at;
        loop {
            match self.next() {
                Some('"') => return Ok(()),
                Some('\\') => match self.next() {
                    Some(char @ ('"' | '\\')) => name.push(char),
                    _ => return Err(self.error(at, "expected `\"` or `\\` after `\\` in the name of an attribute".to_owned())),
                },
                Some(char) => name.push(char),
                None => {
                    return Err(self.error(at, "expected `\"` at the end of the name of an attribute, found the end".to_owned()));
                }
            }
        }
    }

    fn raw_text(&mut self) -> Result<TokenKind<'q>, Error> {
        let at = self.at;
        self.next();
        let text = self.take_while(|char| char != '`');
        match self.next() {
            Some(_) => Ok(TokenKind::Text(text.replace('\r', ""))),
            None => Err(self.error(at, "expected a backquote at the end of this text, found the end".to_owned())),
        }
    }

    /// A text with Go's escapes.
    fn text_in_quotes(&mut self) -> Result<TokenKind<'q>, Error> {
        let start = self.at;
        self.next();
        let mut bytes = Vec::new();
        loop {
            let at = self.at;
            match self.next() {
                Some('"') => break,
                Some('\\') => self.escape(at, &mut bytes)?,
                Some(char) if char != '\n' => bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
                _ => return Err(self.error(start, "expected `\"` at the end of this text, found the end of the line".to_owned())),
            }
        }
        String::from_utf8(bytes).map(TokenKind::Text).map_err(|_| self.error(start, "expected a text in UTF-8".to_owned()))
    }

    fn escape(&mut self, at: usize, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let escaped = self.next();
        let (digits, radix) = match escaped {
            Some('x') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            Some('0'..='7') => {
                self.at -= 1;
                (3, 8)
            }
            _ => {
                let simple =
                    escaped.and_then(|char| "abfnrtv\\\"".find(char)).and_then(|index| b"\x07\x08\x0c\n\r\t\x0b\\\"".get(index));
                bytes.push(*simple.ok_or_else(|| self.error(at, "expected an escape such as \\n, \\\" or \\u00e9".to_owned()))?);
                return Ok(());
            }
        };
        let number = self.rest().get(..digits).filter(|text| text.chars().all(|char| char.is_digit(radix)));
        let number = number.and_then(|text| u32::from_str_radix(text, radix).ok());
        let decoded = match number {
            Some(number) if digits < 4 => u8::try_from(number).ok().map(|byte| bytes.push(byte)),
            Some(number) => char::from_u32(number).map(|char| bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes())),
            None => None,
        };
        self.at += digits;
        decoded.ok_or_else(|| self.error(at, format!("expected {digits} digits of a character in this escape")))
    }

    /// A number, or a duration if a unit follows at once.
    fn number(&mut self) -> Result<TokenKind<'q>, Error> {
        let start = self.at;
        let mut number = self.decimal();
        let unit = |char: char| matches!(char, 'n' | 's' | 'u' | 'm' | 'h' | 'µ' | 'd' | 'w' | 'y');
        if self.peek().is_some_and(unit) {
            return self.duration(start, number);
        }
        let exponent = self.rest();
        let digits = exponent.strip_prefix(['e', 'E']).map(|rest| rest.strip_prefix(['+', '-']).unwrap_or(rest));
        if let Some(digits) = digits.filter(|digits| digits.starts_with(|char: char| char.is_ascii_digit())) {
            self.at = self.text.len() - digits.len();
            self.take_while(|char| char.is_ascii_digit());
            number = &self.text[start..self.at];
        }
        if self.peek().is_some_and(|char| char.is_alphanumeric() || char == '_' || char == '.') {
            let end =
                self.rest().find(|char: char| !char.is_alphanumeric() && char != '_' && char != '.').unwrap_or(self.rest().len());
            let found = &self.text[start..self.at + end];
            return Err(self.error(start, format!("expected a decimal number or a duration such as 100ms, found `{found}`")));
        }
        let kind = if number.contains(['.', 'e', 'E']) {
            number.parse().ok().filter(|value: &f64| value.is_finite()).map(TokenKind::Float)
        } else {
            number.parse().ok().map(TokenKind::Int)
        };
        kind.ok_or_else(|| self.error(start, format!("expected a number of 64 bits, found `{number}`")))
    }

    fn decimal(&mut self) -> &'q str {
        let start = self.at;
        self.take_while(|char| char.is_ascii_digit());
        if self.take(".") {
            self.take_while(|char| char.is_ascii_digit());
        }
        &self.text[start..self.at]
    }

    /// Numbers with units, such as `1h30m` and `1.5s`. (Go's and Prometheus' durations, and mixtures of them.)
    fn duration(&mut self, start: usize, mut number: &'q str) -> Result<TokenKind<'q>, Error> {
        let mut nanos = Some(0i64);
        loop {
            let name = self.take_while(|char| char.is_alphabetic());
            let unit = UNITS.into_iter().find(|(unit, _)| *unit == name);
            let Some((_, unit)) = unit.filter(|_| number != ".") else {
                let found = &self.text[start..self.at];
                return Err(self.error(start, format!("expected a duration such as 100ms, 1.5s or 1h30m, found `{found}`")));
            };
            let part = match number.parse::<i64>() {
                Ok(whole) => whole.checked_mul(unit),
                Err(_) => number
                    .parse()
                    .ok()
                    .map(|value: f64| (value * unit as f64).round())
                    .filter(|nanos| *nanos < 9.2e18)
                    .map(|n| n as i64),
            };
            nanos = nanos.zip(part).and_then(|(nanos, part)| nanos.checked_add(part));
            if !self.peek().is_some_and(|char| char.is_ascii_digit() || char == '.') {
                break;
            }
            number = self.decimal();
        }
        let found = &self.text[start..self.at];
        nanos
            .map(TokenKind::Duration)
            .ok_or_else(|| self.error(start, format!("expected a duration of at most 292 years, found `{found}`")))
    }
}
