//! What is particular to objects of a defined kind, and to the definitions themselves.

use std::sync::Arc;

use bosun_kinds::{Context, Outcome, Strategy, keep};
use bosun_schema::custom::{CustomVersion, Definition};
use serde_json::{Value, json};

use super::names;

/// Objects of one version of a definition.
pub(super) struct Defined {
    definition: Arc<Definition>,
    version: usize,
}

impl Defined {
    pub(super) fn new(definition: Arc<Definition>, version: usize) -> Self {
        Self { definition, version }
    }

    fn version(&self) -> &CustomVersion {
        &self.definition.versions[self.version]
    }

    fn outcome(&self, object: &Value, old: Option<&Value>) -> Outcome {
        let errors = self.version().validate(object, old);
        if errors.is_empty() {
            Ok(self.version().deprecation.iter().cloned().collect())
        } else {
            Err(errors)
        }
    }
}

impl Strategy for Defined {
    fn default(&self, object: &mut Value) {
        self.version().default(object);
    }

    fn create(&self, object: &mut Value, _: &Context<'_>) -> Outcome {
        if self.version().status
            && let Some(fields) = object.as_object_mut()
        {
            fields.remove("status");
        }
        self.outcome(object, None)
    }

    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        if self.version().status {
            keep(object, old, context.subresource);
        }
        self.outcome(object, Some(old))
    }
}

/// Definitions.
pub(crate) struct Definitions;

impl Strategy for Definitions {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
            return;
        };
        if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut)
            && let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned)
            && !kind.is_empty()
        {
            for (field, value) in [("singular", kind.to_lowercase()), ("listKind", format!("{kind}List"))] {
                if names.get(field).is_none_or(|given| given == "") {
                    names.insert(field.to_owned(), value.into());
                }
            }
        }
        spec.entry("conversion").or_insert_with(|| json!({"strategy": "None"}));
    }

    fn create(&self, object: &mut Value, _: &Context<'_>) -> Outcome {
        object["status"] = json!({
            "acceptedNames": {"plural": "", "kind": ""}, "conditions": [], "storedVersions": names::stored(object, &[]),
        });
        Definition::parse(object).map(|_| Vec::new())
    }

    fn update(&self, object: &mut Value, old: &Value, context: &Context<'_>) -> Outcome {
        keep(object, old, context.subresource);
        if !context.subresource.is_empty() {
            return Ok(Vec::new());
        }
        let stored: Vec<_> = names::stored_versions(old);
        object["status"]["storedVersions"] = names::stored(object, &stored);
        Definition::parse(object).map(|_| ())?;
        match Definition::check_update(object, old, names::is_established(&old["status"])) {
            errors if errors.is_empty() => Ok(Vec::new()),
            errors => Err(errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_gets_its_names_and_versions_filled_in() {
        let mut object = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object"
                }}}]
            }
        });
        let context = Context {
            now: jiff::Timestamp::UNIX_EPOCH,
            subresource: "",
        };
        Definitions.default(&mut object);
        assert_eq!(
            object["spec"]["names"],
            json!({"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"})
        );
        assert_eq!(object["spec"]["conversion"], json!({"strategy": "None"}));
        Definitions.create(&mut object, &context).expect("it is good");
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));

        let mut moved = object.clone();
        moved["spec"]["group"] = "other.example.com".into();
        moved["metadata"]["name"] = "widgets.other.example.com".into();
        Definitions
            .update(&mut moved, &object, &context)
            .expect_err("the group is for ever");
    }
}
