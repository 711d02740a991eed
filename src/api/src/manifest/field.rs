//! Fields of an object: their paths, and what can be wrong with them, in upstream's words.

use std::fmt;

/// What is wrong with a field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The object has no such field.
    Unknown,
    /// Nothing is given; the text says more where the name doesn't.
    Required(String),
    /// A value of another type, such as a number where a string must be.
    WrongType(String),
    /// The value itself, and what it must be.
    Invalid(String, String),
    /// The value itself, and the only ones there are.
    Unsupported(String, Vec<&'static str>),
    /// A value that may occur once.
    Duplicate(String),
    /// The value refers to something that isn't there.
    NotFound(String),
    /// May not be given here, and why.
    Forbidden(String),
}

/// One thing that is wrong with a manifest.
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
        match problem {
            Problem::Unknown => write!(f, "unknown field {field:?}"),
            Problem::Required(detail) if detail.is_empty() => write!(f, "{field}: Required value"),
            Problem::Required(detail) => write!(f, "{field}: Required value: {detail}"),
            Problem::WrongType(detail) => write!(f, "{field}: Invalid type: {detail}"),
            Problem::Invalid(value, detail) => write!(f, "{field}: Invalid value: {value:?}: {detail}"),
            Problem::Unsupported(value, supported) => {
                let quoted: Vec<_> = supported.iter().map(|value| format!("{value:?}")).collect();
                write!(
                    f,
                    "{field}: Unsupported value: {value:?}: supported values: {}",
                    quoted.join(", ")
                )
            }
            Problem::Duplicate(value) => write!(f, "{field}: Duplicate value: {value:?}"),
            Problem::NotFound(value) => write!(f, "{field}: Not found: {value:?}"),
            Problem::Forbidden(detail) => write!(f, "{field}: Forbidden: {detail}"),
        }
    }
}

/// All errors on one line.
pub(super) fn join(errors: &[FieldError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The path of a field on the way down into an object.
#[derive(Clone, Debug)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn root(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    pub(super) fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// Each item of a list with its path.
    pub(super) fn each<'a, T>(&self, items: &'a [T]) -> impl Iterator<Item = (Self, &'a T)> + use<'a, '_, T> {
        items.iter().enumerate().map(|(index, item)| (self.index(index), item))
    }
}

/// Collects what is wrong.
#[derive(Default)]
pub(super) struct Errors(pub(super) Vec<FieldError>);

impl Errors {
    fn push(&mut self, path: &Path, problem: Problem) {
        self.0.push(FieldError {
            field: path.0.clone(),
            problem,
        });
    }

    pub(super) fn required(&mut self, path: &Path, detail: &str) {
        self.push(path, Problem::Required(detail.to_owned()));
    }

    pub(super) fn invalid(&mut self, path: &Path, value: impl fmt::Display, detail: impl Into<String>) {
        self.push(path, Problem::Invalid(value.to_string(), detail.into()));
    }

    pub(super) fn duplicate(&mut self, path: &Path, value: impl fmt::Display) {
        self.push(path, Problem::Duplicate(value.to_string()));
    }

    pub(super) fn not_found(&mut self, path: &Path, value: &str) {
        self.push(path, Problem::NotFound(value.to_owned()));
    }

    pub(super) fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(path, Problem::Forbidden(detail.into()));
    }

    /// The value, if any, must be one of `supported`.
    pub(super) fn one_of(&mut self, path: &Path, value: Option<&str>, supported: &[&'static str]) {
        if let Some(value) = value
            && !supported.contains(&value)
        {
            self.push(path, Problem::Unsupported(value.to_owned(), supported.to_vec()));
        }
    }

    /// The number, if any, must be at least `least`.
    pub(super) fn at_least(&mut self, path: &Path, value: Option<impl Into<i64>>, least: i64) {
        if let Some(value) = value.map(Into::into)
            && value < least
        {
            self.invalid(path, value, format!("must be greater than or equal to {least}"));
        }
    }

    /// The value must pass `check`, which says what it must be.
    pub(super) fn check(&mut self, path: &Path, value: &str, check: impl Fn(&str) -> Result<(), &'static str>) {
        if let Err(detail) = check(value) {
            self.invalid(path, value, detail);
        }
    }
}
