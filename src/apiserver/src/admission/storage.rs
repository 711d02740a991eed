//! Volumes: the default class of claims, the finalizers of what is in use, and growth.

use bosun_api::Quantity;
use serde_json::{Value, json};

use super::service_account::push;
use crate::{auth::objects::text, pod::items};

/// Marks the default class; the second is the older name.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// The older place of a claim's class.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Whether a new claim says nothing of a class. An empty one says that it wants none.
pub(super) fn wants_class(claim: &Value) -> bool {
    claim["spec"].get("storageClassName").is_none_or(Value::is_null)
        && claim["metadata"]["annotations"].get(CLASS_ANNOTATION).is_none()
}

/// Gives a claim the default class, the newest if there are several, if there is one.
pub(super) fn set_class(claim: &mut Value, classes: &[Value]) {
    if let Some(class) = default_of(classes, &DEFAULT) {
        claim["spec"]["storageClassName"] = class["metadata"]["name"].clone();
    }
}

/// The newest of those that an annotation marks; of equally new ones, the first by name.
pub(super) fn default_of<'a>(classes: &'a [Value], marks: &[&str]) -> Option<&'a Value> {
    let marked = |class: &&Value| {
        marks
            .iter()
            .any(|mark| class["metadata"]["annotations"][*mark] == "true")
    };
    classes.iter().filter(marked).min_by(|left, right| {
        let (age, name) = ("/metadata/creationTimestamp", "/metadata/name");
        text(right, age)
            .cmp(text(left, age))
            .then_with(|| text(left, name).cmp(text(right, name)))
    })
}

/// The class a claim is of.
pub(super) fn class_of(claim: &Value) -> &str {
    let annotated = claim["metadata"]["annotations"][CLASS_ANNOTATION].as_str();
    annotated.unwrap_or_else(|| text(claim, "/spec/storageClassName"))
}

/// Keeps what is in use from going: a controller takes the finalizer away.
pub(super) fn protect(object: &mut Value, finalizer: &str) {
    if !items(&object["metadata"]["finalizers"]).contains(&json!(finalizer)) {
        push(&mut object["metadata"]["finalizers"], finalizer.into());
    }
}

/// Whether a claim asks for more than it did.
pub(super) fn grows(claim: &Value, old: &Value) -> bool {
    let size = |of: &Value| text(of, "/spec/resources/requests/storage").parse::<Quantity>().ok();
    size(claim) > size(old)
}

/// Whether it may: it is bound, and its class can.
pub(super) fn check_growth(old: &Value, class: Option<&Value>) -> Result<(), String> {
    if text(old, "/status/phase") != "Bound" {
        return Err("Only bound persistent volume claims can be expanded".to_owned());
    }
    if class.is_none_or(|class| class["allowVolumeExpansion"] != true) {
        return Err(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                    support resize"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, created: &str, default: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {DEFAULT[0]: default}}})
    }

    #[test]
    fn claims_get_the_newest_default_unless_they_say_something() {
        let classes = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("new-b", "2026-02-01T00:00:00Z", "true"),
            class("new-a", "2026-02-01T00:00:00Z", "true"),
            class("other", "2026-03-01T00:00:00Z", "false"),
        ];
        let mut claim = json!({"spec": {}});
        assert!(wants_class(&claim));
        set_class(&mut claim, &classes);
        assert_eq!(class_of(&claim), "new-a");
        assert!(!wants_class(&claim));
        assert!(!wants_class(&json!({"spec": {"storageClassName": ""}})));
        assert!(!wants_class(
            &json!({"metadata": {"annotations": {CLASS_ANNOTATION: "x"}}, "spec": {}})
        ));
        let mut none = json!({"spec": {}});
        set_class(&mut none, &classes[3..]);
        assert!(wants_class(&none));
    }

    #[test]
    fn what_is_in_use_is_protected_once() {
        let mut claim = json!({"metadata": {"finalizers": ["x"]}});
        protect(&mut claim, "kubernetes.io/pvc-protection");
        protect(&mut claim, "kubernetes.io/pvc-protection");
        assert_eq!(
            claim["metadata"]["finalizers"],
            json!(["x", "kubernetes.io/pvc-protection"])
        );
    }

    #[test]
    fn only_bound_claims_of_classes_that_can_grow() {
        let claim = |size: &str, phase: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
        assert!(grows(&claim("2Gi", ""), &claim("1Gi", "")));
        assert!(!grows(&claim("1024Mi", ""), &claim("1Gi", "")));
        let able = json!({"allowVolumeExpansion": true});
        check_growth(&claim("1Gi", "Bound"), Some(&able)).unwrap();
        assert_eq!(
            check_growth(&claim("1Gi", "Pending"), Some(&able)),
            Err("Only bound persistent volume claims can be expanded".to_owned())
        );
        assert!(check_growth(&claim("1Gi", "Bound"), Some(&json!({}))).is_err());
        assert!(check_growth(&claim("1Gi", "Bound"), None).is_err());
    }
}
