//! What the schema alone says is wrong with an object of a built-in kind: enough for kinds that have no validation of
//! their own.
//!
//! Upstream's decoder can't tell an absent field from a zero, so of what the specification calls required only text and
//! bytes count here: an absent number is 0, an absent list is empty, and an absent object is one without fields, whose
//! required texts are missed in turn.

use std::{collections::HashMap, sync::LazyLock};

use serde_json::Value;

use crate::{
    check::{MAX_REPORTED, Path, Segment},
    facts::{PREFIX, Upstream, upstream},
    types::{Shape, Type, TypeId, Types},
};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: `spec.metrics[0].type`.
    pub path: String,
    /// What.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is missing, or empty.
    Required,
    /// It has none of the values it may have.
    Unsupported {
        /// What it has.
        value: String,
        /// What it may have, sorted.
        supported: &'static [&'static str],
    },
}

/// The values that fields may have: by type, each field and its values.
type Values = HashMap<TypeId, Vec<(&'static str, Vec<&'static str>)>>;

static VALUES: LazyLock<Values> = LazyLock::new(|| {
    let mut all = Values::new();
    for fact in upstream() {
        if let Upstream::Values { ty, field, values } = fact {
            let ty = Types::builtin()
                .find(&format!("{PREFIX}{ty}"))
                .expect("a fact is of a type");
            all.entry(ty).or_default().push((field, values));
        }
    }
    all
});

/// Everything wrong with an object of a built-in type, which has been checked against it; at most [`MAX_REPORTED`]
/// faults. Its own metadata and status aren't looked at: the one is the engine's, the other a controller's.
pub fn validate(ty: TypeId, object: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let declared = Types::builtin().get(ty);
    if let Shape::Object { fields, .. } = &declared.shape {
        for field in fields {
            if !matches!(&*field.name, "apiVersion" | "kind" | "metadata" | "status") {
                member(ty, declared, &field.name, object, &Path::ROOT, &mut faults);
            }
        }
    }
    faults
}

/// One field of an object.
fn member(ty: TypeId, declared: &Type, name: &str, object: &Value, path: &Path<'_>, faults: &mut Vec<Fault>) {
    let (types, Some(field)) = (Types::builtin(), declared.field(name)) else {
        return;
    };
    let value = object.get(name).unwrap_or(&Value::Null);
    let shape = &types.get(field.ty).shape;
    let at = Path {
        parent: Some(path),
        segment: Segment::Field(name),
        owner: None,
    };
    let mut fault = |problem| {
        if faults.len() < MAX_REPORTED {
            faults.push(Fault {
                path: at.to_string(),
                problem,
            });
        }
    };
    match (shape, value) {
        (Shape::String | Shape::Bytes, Value::Null) if field.required => fault(Problem::Required),
        (Shape::String | Shape::Bytes, Value::String(text)) if text.is_empty() => {
            if field.required {
                fault(Problem::Required);
            }
        }
        (Shape::String, Value::String(text)) => {
            let of_field = VALUES.get(&ty).into_iter().flatten().find(|(field, _)| *field == name);
            if let Some((_, supported)) = of_field
                && !supported.contains(&text.as_str())
            {
                fault(Problem::Unsupported {
                    value: text.clone(),
                    supported,
                });
            }
        }
        (Shape::Object { .. }, Value::Null) if !field.required => {}
        _ => inside(field.ty, value, &at, faults),
    }
}

/// What is within a value that isn't plain.
fn inside(ty: TypeId, value: &Value, path: &Path<'_>, faults: &mut Vec<Fault>) {
    let declared = Types::builtin().get(ty);
    match (&declared.shape, value) {
        (Shape::Object { fields, .. }, object) => {
            for field in fields {
                member(ty, declared, &field.name, object, path, faults);
            }
        }
        (Shape::Map { values, .. }, Value::Object(map)) => {
            for (key, value) in map {
                let at = Path {
                    parent: Some(path),
                    segment: Segment::Key(key),
                    owner: None,
                };
                inside(*values, value, &at, faults);
            }
        }
        (Shape::List { items, .. }, Value::Array(list)) => {
            for (index, value) in list.iter().enumerate() {
                let at = Path {
                    parent: Some(path),
                    segment: Segment::Index(index),
                    owner: None,
                };
                inside(*items, value, &at, faults);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{resources, type_of_kind};

    fn faults(group: &str, version: &str, kind: &str, object: &Value) -> Vec<String> {
        let ty = type_of_kind(group, version, kind).expect("a built-in kind");
        let text = |fault: Fault| match fault.problem {
            Problem::Required => format!("{}: Required", fault.path),
            Problem::Unsupported { value, supported } => format!("{}: {value} not in {supported:?}", fault.path),
        };
        validate(ty, object).into_iter().map(text).collect()
    }

    #[test]
    fn required_texts_are_missed_in_what_is_there_and_in_what_must_be() {
        let scaler = json!({"spec": {"maxReplicas": 0, "metrics": [{"type": "Pods", "pods": {"metric": {}}}]}});
        assert_eq!(
            faults("autoscaling", "v2", "HorizontalPodAutoscaler", &scaler),
            [
                "spec.metrics[0].pods.metric.name: Required",
                "spec.metrics[0].pods.target.type: Required",
                "spec.scaleTargetRef.kind: Required",
                "spec.scaleTargetRef.name: Required",
            ]
        );
        assert_eq!(
            faults("storage.k8s.io", "v1", "StorageClass", &json!({"provisioner": ""})),
            ["provisioner: Required"]
        );
    }

    #[test]
    fn what_upstream_takes_for_empty_is_not_missed() {
        let slice = json!({"addressType": "IPv4", "metadata": {"ownerReferences": [{}]}});
        assert_eq!(faults("discovery.k8s.io", "v1", "EndpointSlice", &slice), [""; 0]);
        assert_eq!(faults("scheduling.k8s.io", "v1", "PriorityClass", &json!({})), [""; 0]);
        assert_eq!(faults("resource.k8s.io", "v1", "DeviceClass", &json!({})), [""; 0]);
    }

    #[test]
    fn values_that_a_field_may_not_have_are_told_with_those_it_may() {
        let hooks = json!({"webhooks": [{"name": "a.b.c", "sideEffects": "Some", "clientConfig": {}, "failurePolicy": "Fail"}]});
        assert_eq!(
            faults(
                "admissionregistration.k8s.io",
                "v1",
                "ValidatingWebhookConfiguration",
                &hooks
            ),
            ["webhooks[0].sideEffects: Some not in [\"None\", \"NoneOnDryRun\"]"]
        );
    }

    #[test]
    fn every_fact_about_values_is_of_a_text_field_and_sorted() {
        for fact in upstream() {
            let Upstream::Values { ty, field, values } = fact else {
                continue;
            };
            let types = Types::builtin();
            let declared = types
                .get(types.find(&format!("{PREFIX}{ty}")).expect(ty))
                .field(field)
                .expect(field);
            assert_eq!(types.get(declared.ty).shape, Shape::String, "{ty}.{field}");
            assert!(values.is_sorted(), "{ty}.{field}");
        }
    }

    #[test]
    fn no_type_requires_itself_without_end() {
        for row in resources() {
            let _ = validate(row.ty, &json!({}));
        }
    }
}
