//! Fields of an object: their paths, and what can be wrong with them, in upstream's words.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::Value;

/// What is wrong with a field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The object has no such field.
    Unknown,
    /// Nothing is given; the text says more where the name doesn't.
    Required(String),
    /// A value of another type, such as a number where a string must be.
    WrongType(String),
    /// A value that doesn't fit its schema: the value itself, and what it must be.
    TypeInvalid(Value, String),
    /// The value itself, and what it must be.
    Invalid(Value, String),
    /// What must be, where showing the value would help nobody.
    InvalidUnshown(String),
    /// The value itself, and the only ones there are.
    Unsupported(Value, Vec<&'static str>),
    /// The same, where what there is was defined at run time.
    UnsupportedOf(Value, Vec<String>),
    /// A value that may occur once, and why if that isn't plain.
    Duplicate(Value, String),
    /// The value refers to something that isn't there; the text says what is.
    NotFound(Value, String),
    /// May not be given here, and why.
    Forbidden(String),
    /// The most bytes it may have.
    TooLong(usize),
    /// How many there are, and the most there may be.
    TooMany(usize, usize),
    /// A fault of the server's own.
    Internal(String),
}

impl Problem {
    /// The name programs know it by (`metav1.CauseType`).
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Required(_) => "FieldValueRequired",
            Self::Invalid(..) | Self::InvalidUnshown(_) | Self::Unknown => "FieldValueInvalid",
            Self::WrongType(_) | Self::TypeInvalid(..) => "FieldValueTypeInvalid",
            Self::Unsupported(..) | Self::UnsupportedOf(..) => "FieldValueNotSupported",
            Self::Duplicate(..) => "FieldValueDuplicate",
            Self::NotFound(..) => "FieldValueNotFound",
            Self::Forbidden(_) => "FieldValueForbidden",
            Self::TooLong(_) => "FieldValueTooLong",
            Self::TooMany(..) => "FieldValueTooMany",
            Self::Internal(_) => "InternalError",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Such as `spec.containers[0].image`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, problem } = self;
        let (what, detail) = match problem {
            Problem::Unknown => return write!(f, "unknown field {field:?}"),
            Problem::Required(detail) => ("Required value".to_owned(), detail.as_str()),
            Problem::WrongType(detail) => ("Invalid type".to_owned(), detail.as_str()),
            Problem::TypeInvalid(value, detail) | Problem::Invalid(value, detail) => {
                (format!("Invalid value: {}", Shown(value)), detail.as_str())
            }
            Problem::InvalidUnshown(detail) => ("Invalid value".to_owned(), detail.as_str()),
            Problem::Unsupported(value, supported) => return unsupported(f, field, value, supported),
            Problem::UnsupportedOf(value, supported) => return unsupported(f, field, value, supported),
            Problem::Duplicate(value, detail) => (format!("Duplicate value: {}", Shown(value)), detail.as_str()),
            Problem::NotFound(value, detail) => (format!("Not found: {}", Shown(value)), detail.as_str()),
            Problem::Forbidden(detail) => ("Forbidden".to_owned(), detail.as_str()),
            Problem::TooLong(most) => return write!(f, "{field}: Too long: may not be more than {most} bytes"),
            Problem::TooMany(count, most) => {
                return write!(f, "{field}: Too many: {count}: must have at most {most} items");
            }
            Problem::Internal(detail) => ("Internal error".to_owned(), detail.as_str()),
        };
        if detail.is_empty() {
            write!(f, "{field}: {what}")
        } else {
            write!(f, "{field}: {what}: {detail}")
        }
    }
}

fn unsupported(f: &mut fmt::Formatter<'_>, field: &str, value: &Value, supported: &[impl fmt::Debug]) -> fmt::Result {
    let quoted: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
    let all = quoted.join(", ");
    write!(
        f,
        "{field}: Unsupported value: {}: supported values: {all}",
        Shown(value)
    )
}

/// A value as messages show it: text in quotes, anything else as JSON.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::String(text) => write!(f, "{text:?}"),
            other => write!(f, "{other}"),
        }
    }
}

/// All errors on one line.
pub(crate) fn join(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The path of a field on the way down into an object.
#[derive(Clone, Debug)]
pub struct Path(String);

impl Path {
    /// A field of the object itself.
    pub fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The object itself.
    pub fn object() -> Self {
        Self(String::new())
    }

    /// A field of this one: `spec` to `spec.containers`. The name may be a way of several, `metadata.labels`.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            return Self::root(name);
        }
        Self(format!("{}.{name}", self.0))
    }

    /// An item of this list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// A value of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// Each item of a list with its path.
    pub fn each<'a, T>(&self, items: &'a [T]) -> impl Iterator<Item = (Self, &'a T)> + use<'a, '_, T> {
        items.iter().enumerate().map(|(index, item)| (self.index(index), item))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Collects what is wrong.
#[derive(Debug, Default)]
pub struct Errors(Vec<FieldError>);

impl Errors {
    /// What was found.
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    /// How much was found, to see whether a check added to it.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Notes a problem.
    pub fn push(&mut self, path: &Path, problem: Problem) {
        // The object as a whole has no field to name; upstream writes it so.
        let field = if path.0.is_empty() { "[]" } else { &path.0 };
        self.0.push(FieldError {
            field: field.to_owned(),
            problem,
        });
    }

    /// Nothing is given.
    pub fn required(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Problem::Required(detail.into()));
    }

    /// The value isn't what it must be.
    pub fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(path, Problem::Invalid(value.into(), detail.into()));
    }

    /// The structure isn't what it must be.
    pub fn invalid_object(&mut self, path: &Path, value: &impl Serialize, detail: impl Into<String>) {
        self.push(path, Problem::Invalid(shown(value), detail.into()));
    }

    /// A value that may occur once.
    pub fn duplicate(&mut self, path: &Path, value: impl Into<Value>) {
        self.push(path, Problem::Duplicate(value.into(), String::new()));
    }

    /// The value refers to something that isn't there.
    pub fn not_found(&mut self, path: &Path, value: &str) {
        self.push(path, Problem::NotFound(value.into(), String::new()));
    }

    /// May not be given here.
    pub fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Problem::Forbidden(detail.into()));
    }

    /// More bytes than `most`.
    pub fn too_long(&mut self, path: &Path, most: usize) {
        self.push(path, Problem::TooLong(most));
    }

    /// More items than `most`; says whether there are.
    pub fn too_many(&mut self, path: &Path, count: usize, most: usize) -> bool {
        if count > most {
            self.push(path, Problem::TooMany(count, most));
        }
        count > most
    }

    /// A value that is none of `supported`.
    pub fn unsupported(&mut self, path: &Path, value: impl Into<Value>, supported: &[&'static str]) {
        self.push(path, Problem::Unsupported(value.into(), supported.to_vec()));
    }

    /// The value, if any, must be one of `supported`.
    pub fn one_of(&mut self, path: &Path, value: Option<&str>, supported: &[&'static str]) {
        if let Some(value) = value
            && !supported.contains(&value)
        {
            self.unsupported(path, value, supported);
        }
    }

    /// There must be a value, and it must be one of `supported`.
    pub fn required_one_of(&mut self, path: &Path, value: &str, supported: &[&'static str]) {
        if value.is_empty() {
            self.required(path, "");
        } else {
            self.one_of(path, Some(value), supported);
        }
    }

    /// The number, if any, must be at least `least`.
    pub fn at_least(&mut self, path: &Path, value: Option<impl Into<i64>>, least: i64) {
        if let Some(value) = value.map(Into::into)
            && value < least
        {
            self.invalid(path, value, format!("must be greater than or equal to {least}"));
        }
    }

    /// The number, if any, must lie in the range.
    pub fn within(&mut self, path: &Path, value: Option<impl Into<i64>>, least: i64, most: i64) {
        if let Some(value) = value.map(Into::into)
            && !(least..=most).contains(&value)
        {
            self.invalid(path, value, format!("must be between {least} and {most}, inclusive"));
        }
    }

    /// The value must pass `check`, which says what it must be.
    pub fn check(&mut self, path: &Path, value: &str, check: impl Fn(&str) -> Result<(), &'static str>) {
        if let Err(detail) = check(value) {
            self.invalid(path, value, detail);
        }
    }

    /// There must be a value, and it must pass `check`.
    pub fn required_check(&mut self, path: &Path, value: &str, check: impl Fn(&str) -> Result<(), &'static str>) {
        if value.is_empty() {
            self.required(path, "");
        } else {
            self.check(path, value, check);
        }
    }

    /// The value must be what it was.
    pub fn immutable<T: PartialEq + Serialize>(&mut self, path: &Path, new: &T, old: &T) {
        if new != old {
            self.invalid_object(path, new, "field is immutable");
        }
    }
}

fn shown(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// Reads optional fields the way the API means them: absent is empty.
pub trait OrEmpty {
    /// What is read.
    type Target: ?Sized;

    /// What is there, or nothing.
    fn or_empty(&self) -> &Self::Target;

    /// Whether there is anything.
    fn is_given(&self) -> bool;
}

impl<T> OrEmpty for Option<Vec<T>> {
    type Target = [T];

    fn or_empty(&self) -> &[T] {
        self.as_deref().unwrap_or_default()
    }

    fn is_given(&self) -> bool {
        !self.or_empty().is_empty()
    }
}

impl OrEmpty for Option<String> {
    type Target = str;

    fn or_empty(&self) -> &str {
        self.as_deref().unwrap_or_default()
    }

    fn is_given(&self) -> bool {
        !self.or_empty().is_empty()
    }
}

impl<K, V> OrEmpty for Option<BTreeMap<K, V>> {
    type Target = BTreeMap<K, V>;

    fn or_empty(&self) -> &BTreeMap<K, V> {
        self.as_ref().unwrap_or(const { &BTreeMap::new() })
    }

    fn is_given(&self) -> bool {
        !self.or_empty().is_empty()
    }
}

/// Fills in `default` where a text field says nothing; an empty one counts as saying nothing.
pub fn set_default(field: &mut Option<String>, default: &str) {
    if !field.is_given() {
        *field = Some(default.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn errors_are_told_in_upstreams_words() {
        let path = Path::root("spec").child("ports").index(0);
        let mut errors = Errors::default();
        errors.required(&path, "");
        errors.invalid(&path, "a\"b", "must be c");
        errors.invalid(&path, -1, "must be 1");
        errors.invalid_object(&path, &json!({"a": [1]}), "field is immutable");
        errors.unsupported(&path, "x", &["A", "B"]);
        errors.duplicate(&path, 80);
        errors.not_found(&path, "x");
        errors.forbidden(&path, "may not");
        errors.too_long(&Path::object(), 1_048_576);
        errors.too_many(&path, 3, 2);
        errors.at_least(&path, Some(-1), 0);
        errors.within(&path, Some(0), 1, 2);
        let told: Vec<_> = errors.into_vec().iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "spec.ports[0]: Required value",
                r#"spec.ports[0]: Invalid value: "a\"b": must be c"#,
                "spec.ports[0]: Invalid value: -1: must be 1",
                r#"spec.ports[0]: Invalid value: {"a":[1]}: field is immutable"#,
                r#"spec.ports[0]: Unsupported value: "x": supported values: "A", "B""#,
                "spec.ports[0]: Duplicate value: 80",
                r#"spec.ports[0]: Not found: "x""#,
                "spec.ports[0]: Forbidden: may not",
                "[]: Too long: may not be more than 1048576 bytes",
                "spec.ports[0]: Too many: 3: must have at most 2 items",
                "spec.ports[0]: Invalid value: -1: must be greater than or equal to 0",
                "spec.ports[0]: Invalid value: 0: must be between 1 and 2, inclusive",
            ]
        );
    }
}
