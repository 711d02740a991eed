//! A kind written against its typed structure, and what makes a [`Strategy`] of it.

use std::marker::PhantomData;

use bosun_api::{
    field::{Errors, Path, Problem},
    manifest::FieldError,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::strategy::{Context, Outcome, Strategy};

/// What is particular to one kind. Whatever is the same for all (the status that only its subresource may change) is
/// done before these are called.
pub(crate) trait Kind: Send + Sync + 'static {
    /// The structure of its objects.
    type Object: DeserializeOwned + Serialize;

    /// Whether it has a status with a subresource of its own.
    const STATUS: bool = true;

    /// Whether `metadata.generation` counts changes.
    const GENERATION: bool = true;

    /// Whether a new object may bring its status: a node says what it is when it registers.
    const STATUS_AT_BIRTH: bool = false;

    /// Fills in what is absent.
    fn default(object: &mut Self::Object) {
        let _ = object;
    }

    /// Makes a new object what it must be, whatever was sent.
    fn prepare_create(object: &mut Self::Object, context: &Context<'_>) {
        let _ = (object, context);
    }

    /// Checks an object, new or changed.
    fn validate(object: &Self::Object, errors: &mut Errors) {
        let _ = (object, errors);
    }

    /// Checks what is asked of new objects only.
    fn validate_create(object: &Self::Object, errors: &mut Errors) {
        Self::validate(object, errors);
    }

    /// Restores what this request may not change.
    fn prepare_update(object: &mut Self::Object, old: &Self::Object, context: &Context<'_>) {
        let _ = (object, old, context);
    }

    /// Checks a change of the object itself.
    fn validate_update(object: &Self::Object, old: &Self::Object, errors: &mut Errors) {
        let _ = old;
        Self::validate(object, errors);
    }

    /// Checks a change of a part: `status` and the like.
    fn validate_part(object: &Self::Object, old: &Self::Object, part: &str, errors: &mut Errors) {
        let _ = (object, old, part, errors);
    }

    /// What the user should know of an object that is valid.
    fn warnings(object: &Self::Object) -> Vec<String> {
        let _ = object;
        Vec::new()
    }
}

/// The strategy of a [`Kind`].
pub(crate) struct Typed<K>(PhantomData<K>);

impl<K> Typed<K> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Kind> Strategy for Typed<K> {
    fn default(&self, object: &mut Value) {
        let managed = take_managed_fields(object);
        // What doesn't decode can't be defaulted; validation will say why.
        if let Ok(mut typed) = decode::<K::Object>(object) {
            K::default(&mut typed);
            encode(&typed, object);
        }
        put_managed_fields(object, managed);
    }

    fn create(&self, object: &mut Value, context: &Context<'_>) -> Outcome {
        if K::STATUS
            && !K::STATUS_AT_BIRTH
            && let Some(fields) = object.as_object_mut()
        {
            fields.insert("status".to_owned(), json!({}));
        }
        let managed = take_managed_fields(object);
        let mut typed = decode::<K::Object>(object)?;
        K::prepare_create(&mut typed, context);
        let mut errors = Errors::default();
        K::validate_create(&typed, &mut errors);
        encode(&typed, object);
        put_managed_fields(object, managed);
        finish(errors, || K::warnings(&typed))
    }

    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        if K::STATUS {
            keep(object, old, context.subresource);
        }
        let managed = take_managed_fields(object);
        let mut typed = decode::<K::Object>(object)?;
        let old = decode::<K::Object>(old)?;
        K::prepare_update(&mut typed, &old, context);
        let mut errors = Errors::default();
        match context.subresource {
            "" => K::validate_update(&typed, &old, &mut errors),
            part => K::validate_part(&typed, &old, part, &mut errors),
        }
        encode(&typed, object);
        put_managed_fields(object, managed);
        finish(errors, || match context.subresource {
            "" => K::warnings(&typed),
            _ => Vec::new(),
        })
    }

    fn has_generation(&self) -> bool {
        K::GENERATION
    }
}

/// The strategy of kinds whose schema says all there is to say.
pub(crate) struct Plain {
    /// Whether there is a status with a subresource of its own.
    pub(crate) status: bool,
    /// Whether `metadata.generation` counts changes.
    pub(crate) generation: bool,
}

impl Strategy for Plain {
    fn create(&self, object: &mut Value, _: &Context<'_>) -> Outcome {
        if self.status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        Ok(Vec::new())
    }

    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        if self.status {
            keep(object, old, context.subresource);
        }
        Ok(Vec::new())
    }

    fn is_plain(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        self.generation
    }
}

/// The object itself may not change its status, nor the status anything else.
pub(crate) fn keep(object: &mut Value, old: &Value, subresource: &str) {
    let (Some(fields), Some(before)) = (object.as_object_mut(), old.as_object()) else {
        return;
    };
    match subresource {
        "" => match before.get("status") {
            Some(status) => {
                fields.insert("status".to_owned(), status.clone());
            }
            None => {
                fields.remove("status");
            }
        },
        "status" => {
            fields.retain(|name, _| matches!(name.as_str(), "metadata" | "status") || before.contains_key(name));
            for (name, value) in before {
                if !matches!(name.as_str(), "metadata" | "status") {
                    fields.insert(name.clone(), value.clone());
                }
            }
        }
        _ => {}
    }
}

fn finish(errors: Errors, warnings: impl FnOnce() -> Vec<String>) -> Outcome {
    match errors.into_vec() {
        none if none.is_empty() => Ok(warnings()),
        errors => Err(errors),
    }
}

/// The schema was checked before, so only a disagreement between it and the structure fails here.
fn decode<T: DeserializeOwned>(object: &Value) -> Result<T, Vec<FieldError>> {
    T::deserialize(object).map_err(|error| {
        let mut errors = Errors::default();
        errors.push(&Path::object(), Problem::Internal(error.to_string()));
        errors.into_vec()
    })
}

fn encode(typed: &impl Serialize, object: &mut Value) {
    *object = serde_json::to_value(typed).expect("what was decoded from JSON is encoded as JSON");
}

/// The owners of fields are the engine's, and more than all else: they are set aside rather than decoded.
fn take_managed_fields(object: &mut Value) -> Option<Value> {
    object
        .get_mut("metadata")?
        .as_object_mut()?
        .shift_remove("managedFields")
}

fn put_managed_fields(object: &mut Value, managed: Option<Value>) {
    if let Some(managed) = managed {
        object["metadata"]["managedFields"] = managed;
    }
}
