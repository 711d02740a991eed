//! A specification of which a little is read often, and all of it is needed at times.

use std::{ops::Deref, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned},
};
use serde_json::Value;

/// The fields that `S` names, decoded; and the whole as JSON, a tenth of what it would take decoded, for making pods
/// from its template and for writing the object back without losing what this program doesn't know.
#[derive(Clone, Debug)]
pub struct Spec<S> {
    read: S,
    json: Arc<str>,
}

impl<S> Spec<S> {
    /// The whole specification.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.json).expect("what was written as JSON is JSON")
    }

    /// One of its fields; `null` where it has none such.
    pub fn part(&self, field: &str) -> Value {
        self.json().get_mut(field).map_or(Value::Null, Value::take)
    }
}

impl<S> Deref for Spec<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.read
    }
}

impl<S: Default> Default for Spec<S> {
    fn default() -> Self {
        Self {
            read: S::default(),
            json: "{}".into(),
        }
    }
}

impl<'de, S: DeserializeOwned> Deserialize<'de> for Spec<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Value::deserialize(deserializer)?;
        Ok(Self {
            read: S::deserialize(&json).map_err(de::Error::custom)?,
            json: json.to_string().into(),
        })
    }
}
