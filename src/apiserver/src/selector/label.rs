//! Label selectors: `app=web,tier in (a, b),!canary`, in upstream's grammar and with its words for mistakes.

use std::fmt;

use bosun_api::names;
use serde_json::Value;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `key=value`, `key==value`, `key in (…)`.
    In,
    /// `key!=value`, `key notin (…)`: also true without the label.
    NotIn,
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>1`
    GreaterThan,
    /// `key<1`
    LessThan,
}

/// One condition on one label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// How its value compares.
    pub operator: Operator,
    /// With what: sorted, each once; one number for `>` and `<`; none for existence.
    pub values: Vec<String>,
}

/// Conditions that must all hold; without any, everything is selected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LabelSelector {
    /// In the order of their keys.
    pub requirements: Vec<Requirement>,
}

/// What is wrong with a selector, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

fn error<T>(text: impl Into<String>) -> Result<T, SelectorError> {
    Err(SelectorError(text.into()))
}

impl LabelSelector {
    /// Reads the form of a query parameter.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser {
            tokens: tokens(text),
            at: 0,
        };
        let mut requirements = parser.selector()?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Reads the form of an object's field (`matchLabels`, `matchExpressions`). An absent selector (null) selects nothing
    /// and gives `None`, an empty one everything.
    pub fn from_object(selector: &Value) -> Result<Option<Self>, SelectorError> {
        let Some(selector) = selector.as_object() else {
            return Ok(None);
        };
        let mut requirements = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(requirement(key.clone(), Operator::In, vec![value])?);
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let text = |field: &str| expression[field].as_str().unwrap_or_default();
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return error(format!("{other:?} is not a valid label selector operator")),
            };
            let values = expression["values"].as_array().into_iter().flatten();
            let values = values.filter_map(Value::as_str).map(str::to_owned).collect();
            requirements.push(requirement(text("key").to_owned(), operator, values)?);
        }
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Some(Self { requirements }))
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object whose labels `get` looks up is selected.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|one| one.matches(get(&one.key)))
    }
}

impl Requirement {
    /// Whether a label with this value (`None`: there is no such label) meets it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|one| one == value);
        let compared = |value: &str, holds: fn(i64, i64) -> bool| {
            let bound = self.values.first().and_then(|bound| bound.parse().ok());
            matches!((value.parse(), bound), (Ok(value), Some(bound)) if holds(value, bound))
        };
        match (self.operator, value) {
            (Operator::In, Some(value)) => listed(value),
            (Operator::NotIn, Some(value)) => !listed(value),
            (Operator::NotIn | Operator::DoesNotExist, None) | (Operator::Exists, Some(_)) => true,
            (Operator::GreaterThan, Some(value)) => compared(value, |value, bound| value > bound),
            (Operator::LessThan, Some(value)) => compared(value, |value, bound| value < bound),
            _ => false,
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.requirements.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            one.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        match (operator, &values[..]) {
            (Operator::In, [value]) => write!(f, "{key}={value}"),
            (Operator::NotIn, [value]) => write!(f, "{key}!={value}"),
            (Operator::In, _) => write!(f, "{key} in ({})", values.join(",")),
            (Operator::NotIn, _) => write!(f, "{key} notin ({})", values.join(",")),
            (Operator::Exists, _) => f.write_str(key),
            (Operator::DoesNotExist, _) => write!(f, "!{key}"),
            (Operator::GreaterThan, _) => write!(f, "{key}>{}", values.join(",")),
            (Operator::LessThan, _) => write!(f, "{key}<{}", values.join(",")),
        }
    }
}

/// A requirement whose key and values are what labels may be.
fn requirement(key: String, operator: Operator, mut values: Vec<String>) -> Result<Requirement, SelectorError> {
    if let Err(detail) = names::qualified(&key) {
        return error(format!("key: Invalid value: {key:?}: {detail}"));
    }
    let quoted = |values: &[String]| {
        let values: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
        format!("[{}]", values.join(","))
    };
    match operator {
        Operator::In | Operator::NotIn if values.is_empty() => {
            return error("values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty");
        }
        Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
            let values = quoted(&values);
            return error(format!(
                "values: Invalid value: {values}: values set must be empty for exists and does not exist"
            ));
        }
        Operator::GreaterThan | Operator::LessThan if values.len() != 1 => {
            let values = quoted(&values);
            return error(format!(
                "values: Invalid value: {values}: for 'Gt', 'Lt' operators, exactly one value is required"
            ));
        }
        Operator::GreaterThan | Operator::LessThan if values[0].parse::<i64>().is_err() => {
            let value = &values[0];
            return error(format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ));
        }
        _ => {}
    }
    for (at, value) in values.iter().enumerate() {
        if let Err(detail) = names::label_value(value) {
            return error(format!("values[{at}][{key}]: Invalid value: {value:?}: {detail}"));
        }
    }
    values.sort();
    values.dedup();
    Ok(Requirement { key, operator, values })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    End,
    Close,
    Open,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Word(&'a str),
    /// Special characters that are no operator.
    Wrong(&'a str),
}

impl Token<'_> {
    /// As it was written, for messages.
    fn text(&self) -> String {
        match self {
            Self::End => "",
            Self::Close => ")",
            Self::Open => "(",
            Self::Comma => ",",
            Self::Not => "!",
            Self::Equals => "=",
            Self::DoubleEquals => "==",
            Self::NotEquals => "!=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Word(word) => word,
            Self::Wrong(text) => return format!("error expected: keyword found '{text}'"),
        }
        .to_owned()
    }
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let special = |byte: u8| b"=!(),><".contains(&byte);
    let blank = |byte: u8| b" \t\r\n".contains(&byte);
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if blank(byte) {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        let (token, length) = if special(byte) {
            let table = [
                ("==", Token::DoubleEquals),
                ("!=", Token::NotEquals),
                ("=", Token::Equals),
                ("!", Token::Not),
                ("(", Token::Open),
                (")", Token::Close),
                (",", Token::Comma),
                (">", Token::Greater),
                ("<", Token::Less),
            ];
            table
                .into_iter()
                .find(|(sign, _)| rest.starts_with(sign))
                .map_or((Token::Wrong(&rest[..1]), 1), |(sign, token)| (token, sign.len()))
        } else {
            let length = rest.bytes().position(|byte| special(byte) || blank(byte));
            let word = &rest[..length.unwrap_or(rest.len())];
            let token = match word {
                "in" => Token::In,
                "notin" => Token::NotIn,
                word => Token::Word(word),
            };
            (token, word.len())
        };
        tokens.push(token);
        at += length;
    }
    tokens.push(Token::End);
    tokens
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    /// The next token where an operator may stand; after the end there is only the end.
    fn peek_operator(&self) -> Token<'a> {
        self.tokens.get(self.at).copied().unwrap_or(Token::End)
    }

    /// The next token where `in` and `notin` are words as any other.
    fn peek(&self) -> Token<'a> {
        match self.peek_operator() {
            Token::In => Token::Word("in"),
            Token::NotIn => Token::Word("notin"),
            other => other,
        }
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::Word(_) | Token::Not => {}
                Token::End => return Ok(requirements),
                other => {
                    return error(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        other.text()
                    ));
                }
            }
            let one = self
                .requirement()
                .map_err(|SelectorError(text)| SelectorError(format!("unable to parse requirement: {text}")))?;
            requirements.push(one);
            match self.next() {
                Token::End => return Ok(requirements),
                Token::Comma => {
                    let next = self.peek();
                    if !matches!(next, Token::Word(_) | Token::Not) {
                        return error(format!("found '{}', expected: identifier after ','", next.text()));
                    }
                }
                other => return error(format!("found '{}', expected: ',' or 'end of string'", other.text())),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let mut first = self.next();
        let absent = first == Token::Not;
        if absent {
            first = self.next();
        }
        let Token::Word(key) = first else {
            return error(format!("found '{}', expected: identifier", first.text()));
        };
        if let Err(detail) = names::qualified(key) {
            return error(format!("key: Invalid value: {key:?}: {detail}"));
        }
        let key = key.to_owned();
        if absent {
            return requirement(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek(), Token::End | Token::Comma) {
            return requirement(key, Operator::Exists, Vec::new());
        }
        let sign = self.peek_operator();
        self.at += 1;
        let (operator, values) = match sign {
            Token::In => (Operator::In, self.values()?),
            Token::NotIn => (Operator::NotIn, self.values()?),
            Token::Equals | Token::DoubleEquals => (Operator::In, vec![self.value()?]),
            Token::NotEquals => (Operator::NotIn, vec![self.value()?]),
            Token::Greater => (Operator::GreaterThan, vec![self.value()?]),
            Token::Less => (Operator::LessThan, vec![self.value()?]),
            other => {
                return error(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    other.text()
                ));
            }
        };
        requirement(key, operator, values)
    }

    /// The one value of `=`; nothing is the empty value.
    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                self.at += 1;
                Ok(word.to_owned())
            }
            other => error(format!("found '{}', expected: identifier", other.text())),
        }
    }

    /// `(a, b)`; an item may be empty.
    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.next();
        if open != Token::Open {
            return error(format!("found '{}' expected: '('", open.text()));
        }
        let mut values = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => {
                    values.push(word.to_owned());
                    match self.next() {
                        Token::Comma if self.peek() == Token::Close => values.push(String::new()),
                        Token::Comma => {}
                        Token::Close => return Ok(values),
                        other => return error(format!("found '{}', expected: ',' or ')'", other.text())),
                    }
                }
                Token::Comma => {
                    values.push(String::new());
                    if self.peek() == Token::Close {
                        values.push(String::new());
                    }
                }
                Token::Close => {
                    if values.is_empty() {
                        values.push(String::new());
                    }
                    return Ok(values);
                }
                other => {
                    return error(format!("found '{}', expected: ',', ')' or identifier", other.text()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
