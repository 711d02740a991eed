//! What the API server asks of a kind.

use bosun_api::manifest::FieldError;
use serde_json::Value;

/// What a strategy may know of the request, beside the objects.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time of the request.
    pub now: jiff::Timestamp,
    /// `status`, `scale`, `ephemeralcontainers`…; empty for the object itself.
    pub subresource: &'a str,
}

/// What a strategy made of an object: warnings for the user, or everything that is wrong with it.
pub type Outcome = Result<Vec<String>, Vec<FieldError>>;

/// What is particular to a kind. The engine has checked the object against its schema before: types are right, unknown
/// fields gone. `metadata` is the engine's (name, namespace, labels, annotations, owners, finalizers are validated
/// there), but for `generation`, which it raises when [`Strategy::update`] leaves anything but metadata and status
/// changed.
pub trait Strategy: Send + Sync {
    /// Fills in what is absent. Idempotent; a value that is there stays.
    fn default(&self, object: &mut Value) {
        let _ = object;
    }

    /// Drops what a new object may not bring (its status), then validates it.
    fn create(&self, object: &mut Value, context: &Context<'_>) -> Outcome {
        let _ = (object, context);
        Ok(Vec::new())
    }

    /// Restores from `old` what this (sub)resource may not change (an object's own update keeps the status, the status'
    /// keeps the rest), then validates the new object and the change.
    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        let _ = (object, old, context);
        Ok(Vec::new())
    }

    /// Whether what the schema itself finds wrong is all there is to find: nothing particular is checked here.
    fn is_plain(&self) -> bool {
        false
    }

    /// Whether `metadata.generation` counts this kind's changes.
    fn has_generation(&self) -> bool {
        true
    }
}
