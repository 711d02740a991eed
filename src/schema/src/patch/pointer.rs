//! JSON pointers (RFC 6901): a place inside the last container of a path.

use serde_json::{Map, Value};

/// A place in a container, where there may be nothing yet.
pub(super) enum Pointer<'d> {
    /// A field of an object.
    Field(&'d mut Map<String, Value>, String),
    /// An item of a list, by what the path says of its place.
    Item(&'d mut Vec<Value>, String),
}

/// Why there is nothing at a place, or nothing may be put there.
#[derive(Debug, thiserror::Error)]
pub(super) enum PointerError {
    #[error("Unable to remove nonexistent key: {0}: missing value")]
    NoSuchKey(String),
    #[error("value was not a proper array index: '{0}': strconv.Atoi: parsing {0:?}: invalid syntax")]
    NotAnIndex(String),
    #[error("Unable to access invalid index: {0}: invalid index referenced")]
    OutOfRange(i64),
}

/// The last step's place in a list.
type Index = Result<usize, PointerError>;

impl<'d> Pointer<'d> {
    /// Where `path` leads; `None` if a container on the way is missing, or for the document itself.
    pub(super) fn find(document: &'d mut Value, path: &str) -> Option<Self> {
        let (containers, last) = path.rsplit_once('/')?;
        let mut at = document;
        for step in containers.split('/').skip(1).map(decode) {
            at = match at {
                Value::Object(map) => map.get_mut(&step)?,
                Value::Array(list) => {
                    let index = index(&step, list.len(), 0).ok()?;
                    list.get_mut(index)?
                }
                _ => return None,
            };
        }
        match at {
            Value::Object(map) => Some(Self::Field(map, decode(last))),
            Value::Array(list) => Some(Self::Item(list, decode(last))),
            _ => None,
        }
    }

    /// How many neighbours a change may shift.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Field(map, _) => map.len(),
            Self::Item(list, _) => list.len(),
        }
    }

    /// What is there.
    pub(super) fn get(&self) -> Result<Option<&Value>, PointerError> {
        match self {
            Self::Field(map, name) => Ok(map.get(name)),
            Self::Item(list, step) => Ok(list.get(index(step, list.len(), 0)?)),
        }
    }

    /// Puts a value there: an item before the one that is there, a field in place of it.
    pub(super) fn add(self, value: Value) -> Result<(), PointerError> {
        match self {
            Self::Field(map, name) => {
                map.insert(name, value);
            }
            Self::Item(list, step) if step == "-" => list.push(value),
            Self::Item(list, step) => {
                let index = index(&step, list.len(), 1)?;
                list.insert(index, value);
            }
        }
        Ok(())
    }

    /// Puts a value in place of the one that is there.
    pub(super) fn set(self, value: Value) -> Result<(), PointerError> {
        match self {
            Self::Field(map, name) => {
                map.insert(name, value);
            }
            Self::Item(list, step) => {
                let index = index(&step, list.len(), 0)?;
                list[index] = value;
            }
        }
        Ok(())
    }

    /// Takes out what is there.
    pub(super) fn remove(self) -> Result<Value, PointerError> {
        match self {
            Self::Field(map, name) => map.shift_remove(&name).ok_or(PointerError::NoSuchKey(name)),
            Self::Item(list, step) => {
                let index = index(&step, list.len(), 0)?;
                Ok(list.remove(index))
            }
        }
    }
}

/// The place in a list of `length` items, or up to `beyond` places after them; negative ones count from the end.
fn index(step: &str, length: usize, beyond: usize) -> Index {
    let number: i64 = step.parse().map_err(|_| PointerError::NotAnIndex(step.to_owned()))?;
    let places = length + beyond;
    let index = if number < 0 { places as i64 + number } else { number };
    usize::try_from(index)
        .ok()
        .filter(|index| *index < places)
        .ok_or(PointerError::OutOfRange(number))
}

fn decode(step: &str) -> String {
    step.replace("~1", "/").replace("~0", "~")
}
