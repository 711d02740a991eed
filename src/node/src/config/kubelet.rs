//! kubelet's configuration file, `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`.
//!
//! [`fields`] is a table of every field of 1.36: what it may hold, what it is if nobody says, and what becomes of it
//! here. A file is checked against the table, so that a mistake is told with its path and no field is passed over in
//! silence: what is not known is an error; what is known and not done here is a warning, unless it asks for no more than
//! the default. Drop-ins are merged over the file as upstream does it (JSON merge patch: maps are merged, lists
//! replaced), in the order of their names.
//!
//! Everything but [`load`] is pure.

pub mod fields;
mod settings;
pub mod value;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use self::fields::{FIELDS, Field, Kind, Use};
pub use self::settings::{
    AnonymousSettings, AuthenticationSettings, AuthorizationMode, AuthorizationSettings, KubeletSettings,
    WebhookAuthenticationSettings, WebhookAuthorizationSettings, X509Settings,
};

/// The group and version that are read.
const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
const KIND: &str = "KubeletConfiguration";
/// No file is longer.
const MAX_BYTES: u64 = 1 << 20;

/// A mistake, and where it is: `evictionHard["memory.available"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.why)
        } else {
            write!(f, "{}: {}", self.path, self.why)
        }
    }
}

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file or directory can't be read.
    #[error("reading {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is no YAML or JSON.
    #[error("{}: {why}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// Fields that are not known, or hold what they must not; all of them.
    #[error("{}: {}", .file.display(), list(.problems))]
    Fields {
        /// The file; of what all files together make, the first.
        file: PathBuf,
        /// At least one.
        problems: Vec<Problem>,
    },
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// What the files say.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// All that is done here, with defaults where nothing is said.
    pub settings: KubeletSettings,
    /// Fields that ask for what is not done here.
    pub ignored: Vec<String>,
}

impl Loaded {
    /// One sentence for the log, if anything is ignored.
    pub fn warning(&self) -> Option<String> {
        (!self.ignored.is_empty()).then(|| {
            format!(
                "the configuration asks for what this agent does not do; these fields are without effect: {}",
                self.ignored.join(", ")
            )
        })
    }
}

/// Reads `--config FILE` and the drop-ins of `--config-dir DIR`: its files `*.conf`, also in directories within.
pub fn load(file: Option<&Path>, drop_ins: Option<&Path>) -> Result<Loaded, ConfigError> {
    let mut paths: Vec<PathBuf> = file.into_iter().map(Path::to_owned).collect();
    if let Some(dir) = drop_ins {
        find_drop_ins(dir, &mut paths)?;
    }
    let texts = paths.into_iter().map(|path| {
        let failed = |error| ConfigError::Read(path.clone(), error);
        if fs::metadata(&path).map_err(failed)?.len() > MAX_BYTES {
            let why = "it is longer than a megabyte".to_owned();
            return Err(ConfigError::Syntax { file: path, why });
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Ok((path, text))
    });
    parse(&texts.collect::<Result<Vec<_>, _>>()?)
}

fn find_drop_ins(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), ConfigError> {
    let failed = |error| ConfigError::Read(dir.to_owned(), error);
    let entries = fs::read_dir(dir).map_err(failed)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    paths.sort();
    for path in paths {
        // Links to directories are not followed: they may lead round in a circle.
        if fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            find_drop_ins(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "conf") {
            found.push(path);
        }
    }
    Ok(())
}

/// What these files say, each over those before it.
pub fn parse(files: &[(PathBuf, String)]) -> Result<Loaded, ConfigError> {
    let mut merged = Value::Object(Map::new());
    for (file, text) in files {
        merge(&mut merged, read(file, text)?);
    }
    let file = files.first().map(|(path, _)| path.clone()).unwrap_or_default();
    let mut ignored = Vec::new();
    complete(&mut merged, FIELDS, "", &mut ignored);
    let fail = |problems| ConfigError::Fields {
        file: file.clone(),
        problems,
    };
    let problems = settings::contradictions(&merged);
    if !problems.is_empty() {
        return Err(fail(problems));
    }
    let settings = settings::read(merged).map_err(|problem| fail(vec![problem]))?;
    Ok(Loaded { settings, ignored })
}

/// One file, checked.
fn read(file: &Path, text: &str) -> Result<Value, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let parsed: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| ConfigError::Syntax {
        file: file.to_owned(),
        why: error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    })?;
    let mut problems = Vec::new();
    match parsed {
        Value::Object(mut object) => {
            for (name, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
                if object.remove(name).as_ref().and_then(Value::as_str) != Some(wanted) {
                    problems.push(problem(name, format!("must be {wanted}")));
                }
            }
            let value = Value::Object(object);
            check_object(&value, FIELDS, "", &mut problems);
            if problems.is_empty() {
                return Ok(value);
            }
        }
        _ => problems.push(problem("", format!("must be one {KIND}"))),
    }
    Err(ConfigError::Fields {
        file: file.to_owned(),
        problems,
    })
}

fn problem(path: impl Into<String>, why: impl Into<String>) -> Problem {
    Problem {
        path: path.into(),
        why: why.into(),
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn check_object(value: &Value, fields: &[Field], path: &str, problems: &mut Vec<Problem>) {
    let Some(object) = value.as_object() else {
        problems.push(problem(path, "must be a map of fields"));
        return;
    };
    for (name, value) in object {
        let path = below(path, name);
        match fields.iter().find(|field| field.name == name) {
            // Null is as if it were not there, as for upstream.
            Some(_) if value.is_null() => {}
            Some(field) => check(value, &field.kind, &path, problems),
            None => problems.push(problem(path, unknown(name, fields))),
        }
    }
}

/// A field that is written almost so is named.
fn unknown(name: &str, fields: &[Field]) -> String {
    let near = fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    match near {
        Some(field) => format!("there is no such field; it is written {}", field.name),
        None => "there is no such field".to_owned(),
    }
}

fn check(value: &Value, kind: &Kind, path: &str, problems: &mut Vec<Problem>) {
    match kind {
        Kind::Object(fields) => check_object(value, fields, path, problems),
        Kind::List(kind) => match value.as_array() {
            Some(items) => {
                for (at, item) in items.iter().enumerate() {
                    check(item, kind, &format!("{path}[{at}]"), problems);
                }
            }
            None => problems.push(problem(path, "must be a list")),
        },
        Kind::Map { keys, values } => match value.as_object() {
            Some(items) => {
                for (key, item) in items {
                    let path = format!("{path}[{key:?}]");
                    if !keys.is_empty() && !keys.contains(&key.as_str()) {
                        problems.push(problem(path, format!("must be one of {}", keys.join(", "))));
                    } else {
                        check(item, values, &path, problems);
                    }
                }
            }
            None => problems.push(problem(path, "must be a map")),
        },
        scalar => {
            if let Err(why) = value::check(value, scalar) {
                problems.push(problem(path, why));
            }
        }
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    target.shift_remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, Value::Object(patch)) => {
            *target = Value::Object(Map::new());
            merge(target, Value::Object(patch));
        }
        (target, patch) => *target = patch,
    }
}

/// Fills in defaults, and names what asks for more than is done here.
fn complete(value: &mut Value, fields: &[Field], path: &str, ignored: &mut Vec<String>) {
    let Some(object) = value.as_object_mut() else {
        return;
    };
    for field in fields {
        let path = below(path, field.name);
        if let Kind::Object(fields) = field.kind {
            let inner = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if inner.is_null() {
                *inner = Value::Object(Map::new());
            }
            complete(inner, fields, &path, ignored);
            continue;
        }
        let default = field.default_value();
        let given = object.get(field.name).filter(|given| !field.is_unset(given));
        match given {
            None => {
                object.insert(field.name.to_owned(), default);
            }
            Some(given) => {
                if field.done == Use::Missing && !value::same(given, &default, &field.kind) {
                    ignored.push(path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
