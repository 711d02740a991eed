//! The `JSONPath` that printer columns and scale are written in: fields, keys, indexes, wildcards, and filters that compare
//! a field with a literal: `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// No path has more steps.
const MAX_STEPS: usize = 64;

/// A path, ready to be followed.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Each,
    Filter {
        path: Vec<Step>,
        operator: Operator,
        literal: Value,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Exists,
}

const OPERATORS: [(&str, Operator); 6] = [
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

impl JsonPath {
    /// Reads a path; says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        let bare = bare.strip_prefix('$').unwrap_or(bare);
        if !bare.starts_with(['.', '[']) {
            return Err("must be a simple json path starting with .".to_owned());
        }
        Ok(Self(steps(bare)?))
    }

    /// The names of the fields, if the path is nothing else.
    pub fn fields(&self) -> Option<Vec<String>> {
        let names = self.0.iter().map(|step| match step {
            Step::Field(name) => Some(name.clone()),
            _ => None,
        });
        names.collect()
    }

    /// The first value the path leads to.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        first(&self.0, value)
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut rest = text;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == MAX_STEPS {
            return Err("is too long".to_owned());
        }
        let step;
        if let Some(inside) = rest.strip_prefix('[') {
            let end = end_of_brackets(inside).ok_or("unterminated array")?;
            step = Some(bracket(&inside[..end])?);
            rest = &inside[end + 1..];
        } else if let Some(name) = rest.strip_prefix('.') {
            let mut end = name.len();
            let mut escaped = false;
            for (at, letter) in name.char_indices() {
                if !escaped && matches!(letter, '.' | '[') {
                    end = at;
                    break;
                }
                escaped = !escaped && letter == '\\';
            }
            let field = name[..end].replace("\\.", ".");
            rest = &name[end..];
            // `.` before a bracket, or the path of the whole, is no step.
            step = match &*field {
                "" => None,
                "*" => Some(Step::Each),
                _ => Some(Step::Field(field)),
            };
        } else {
            return Err(format!("unrecognized character in action: {rest:?}"));
        }
        steps.extend(step);
    }
    Ok(steps)
}

/// Where the bracket that is open closes: not inside quotes or other brackets.
fn end_of_brackets(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    let text = text.trim();
    if text == "*" {
        return Ok(Step::Each);
    }
    if let Some(name) = quoted(text) {
        return Ok(Step::Field(name.to_owned()));
    }
    if let Ok(index) = text.parse() {
        return Ok(Step::Index(index));
    }
    let filter = text
        .strip_prefix("?(")
        .and_then(|text| text.strip_suffix(')'))
        .ok_or_else(|| format!("invalid array index {text}"))?;
    let filter = filter.trim();
    let found = OPERATORS
        .iter()
        .filter_map(|(sign, operator)| Some((filter.find(sign)?, *sign, *operator)))
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    let (left, operator, literal) = match found {
        Some((at, sign, operator)) => {
            let right = filter[at + sign.len()..].trim();
            let literal = match quoted(right) {
                Some(text) => Value::from(text),
                None => serde_json::from_str(right).map_err(|_| format!("invalid literal {right}"))?,
            };
            (filter[..at].trim(), operator, literal)
        }
        None => (filter, Operator::Exists, Value::Null),
    };
    let path = left
        .strip_prefix('@')
        .ok_or_else(|| format!("invalid filter {filter}"))?;
    Ok(Step::Filter {
        path: steps(path)?,
        operator,
        literal,
    })
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"']
        .into_iter()
        .find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

fn first<'v>(steps: &[Step], value: &'v Value) -> Option<&'v Value> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(value);
    };
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => first(rest, map.get(name)?),
        (Step::Index(index), Value::Array(list)) => {
            let length = list.len() as i64;
            let at = if *index < 0 {
                length.checked_add(*index)?
            } else {
                *index
            };
            first(rest, list.get(usize::try_from(at).ok()?)?)
        }
        (Step::Each, Value::Array(list)) => list.iter().find_map(|item| first(rest, item)),
        (Step::Each, Value::Object(map)) => map.values().find_map(|value| first(rest, value)),
        (
            Step::Filter {
                path,
                operator,
                literal,
            },
            Value::Array(list),
        ) => list
            .iter()
            .filter(|item| holds(*operator, first(path, item), literal))
            .find_map(|item| first(rest, item)),
        _ => None,
    }
}

fn holds(operator: Operator, found: Option<&Value>, literal: &Value) -> bool {
    let Some(found) = found else {
        return false;
    };
    let order = match (found, literal) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match (operator, order) {
        (Operator::Exists, _) => true,
        (Operator::NotEqual, order) => order.is_none_or(std::cmp::Ordering::is_ne),
        (_, None) => false,
        (Operator::Equal, Some(order)) => order.is_eq(),
        (Operator::Less, Some(order)) => order.is_lt(),
        (Operator::LessOrEqual, Some(order)) => order.is_le(),
        (Operator::Greater, Some(order)) => order.is_gt(),
        (Operator::GreaterOrEqual, Some(order)) => order.is_ge(),
    }
}
