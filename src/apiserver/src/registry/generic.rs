//! The strategy of kinds that have nothing particular: the status is its own subresource's, the rest is not.

use bosun_kinds::{Context, Outcome, Strategy};
use bosun_schema::ResourceFacts;
use serde_json::Value;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Generic {
    /// Whether the status has a subresource of its own.
    status: bool,
}

impl Generic {
    pub(super) fn new(facts: &ResourceFacts) -> Self {
        Self {
            status: facts.subresources.iter().any(|sub| sub.name == "status"),
        }
    }
}

impl Strategy for Generic {
    fn create(&self, object: &mut Value, _context: &Context<'_>) -> Outcome {
        if self.status
            && let Some(object) = object.as_object_mut()
        {
            object.shift_remove("status");
        }
        Ok(Vec::new())
    }

    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        let (Some(new), Some(old)) = (object.as_object_mut(), old.as_object()) else {
            return Ok(Vec::new());
        };
        match context.subresource {
            "status" => {
                // All but status and metadata is as it was.
                new.retain(|field, _| matches!(field.as_str(), "status" | "metadata"));
                for (field, value) in old {
                    if !matches!(field.as_str(), "status" | "metadata") {
                        new.insert(field.clone(), value.clone());
                    }
                }
            }
            _ if self.status => match old.get("status") {
                Some(status) => {
                    new.insert("status".into(), status.clone());
                }
                None => {
                    new.shift_remove("status");
                }
            },
            _ => {}
        }
        Ok(Vec::new())
    }
}
