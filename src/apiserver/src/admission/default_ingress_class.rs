//! Ingresses that say nothing of a class get the default one.

use serde_json::Value;

use super::storage::default_of;

const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// The older place of an ingress' class.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Whether a new ingress says nothing of a class.
pub(super) fn wants_class(ingress: &Value) -> bool {
    ingress["spec"].get("ingressClassName").is_none_or(Value::is_null)
        && ingress["metadata"]["annotations"].get(CLASS_ANNOTATION).is_none()
}

/// Gives it the default class, the newest if there are several, if there is one.
pub(super) fn set(ingress: &mut Value, classes: &[Value]) {
    if let Some(class) = default_of(classes, &[DEFAULT]) {
        ingress["spec"]["ingressClassName"] = class["metadata"]["name"].clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ingresses_get_the_default_unless_they_say_something() {
        let class = json!({"metadata": {"name": "c", "annotations": {DEFAULT: "true"}}});
        let mut ingress = json!({"spec": {}});
        assert!(wants_class(&ingress));
        set(&mut ingress, &[class]);
        assert_eq!(ingress["spec"]["ingressClassName"], "c");
        assert!(!wants_class(&ingress));
        assert!(!wants_class(
            &json!({"metadata": {"annotations": {CLASS_ANNOTATION: "x"}}, "spec": {}})
        ));
    }
}
