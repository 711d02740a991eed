//! Events, in both of their versions: what was noticed.

use bosun_api::{
    core::Event,
    field::{Errors, OrEmpty, Path},
    names,
};
use k8s_openapi::api::events::v1;

use crate::kind::Kind;

/// The longest an event's action, reason or instance may be.
const MAX_NAME: usize = 128;
/// The longest message.
const MAX_NOTE: usize = 1024;

pub(crate) struct Events;

impl Kind for Events {
    type Object = Event;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(event: &mut Event) {
        event.source.get_or_insert_default();
        event.reporting_component.get_or_insert_default();
        event.reporting_instance.get_or_insert_default();
    }

    fn validate(event: &Event, errors: &mut Errors) {
        let namespace = event.metadata.namespace.or_empty();
        let involved = event.involved_object.namespace.or_empty();
        if event.event_time.is_none() {
            let matches = if involved.is_empty() {
                matches!(namespace, "" | "default")
            } else {
                namespace == involved
            };
            same_namespace(matches, involved, "involvedObject", errors);
        } else {
            let matches = !involved.is_empty() || matches!(namespace, "default" | "kube-system");
            same_namespace(matches, involved, "involvedObject", errors);
            reporter(
                event.reporting_component.or_empty(),
                event.reporting_instance.or_empty(),
                "reportingComponent",
                errors,
            );
            named(event.action.or_empty(), "action", errors);
            named(event.reason.or_empty(), "reason", errors);
            at_most(event.message.or_empty(), MAX_NOTE, "message", errors);
        }
    }
}

fn same_namespace(matches: bool, namespace: &str, field: &str, errors: &mut Errors) {
    if !matches {
        errors.invalid(
            &Path::root(field).child("namespace"),
            namespace,
            "does not match event.namespace",
        );
    }
}

fn reporter(controller: &str, instance: &str, field: &str, errors: &mut Errors) {
    let path = Path::root(field);
    if controller.is_empty() {
        errors.required(&path, "");
    }
    errors.check(&path, controller, names::qualified);
    named(instance, "reportingInstance", errors);
}

fn named(text: &str, field: &str, errors: &mut Errors) {
    if text.is_empty() {
        errors.required(&Path::root(field), "");
    }
    at_most(text, MAX_NAME, field, errors);
}

fn at_most(text: &str, most: usize, field: &str, errors: &mut Errors) {
    if text.len() > most {
        errors.invalid(&Path::root(field), "", format!("can have at most {most} characters"));
    }
}

/// The version in its own group, which asks for more.
pub(crate) struct NewEvents;

impl Kind for NewEvents {
    type Object = v1::Event;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(event: &v1::Event, errors: &mut Errors) {
        let namespace = event.metadata.namespace.or_empty();
        let regarding = event
            .regarding
            .as_ref()
            .map_or("", |object| object.namespace.or_empty());
        if event.event_time.is_some() {
            let matches = !regarding.is_empty() || matches!(namespace, "default" | "kube-system");
            same_namespace(matches, regarding, "involvedObject", errors);
            reporter(
                event.reporting_controller.or_empty(),
                event.reporting_instance.or_empty(),
                "reportingController",
                errors,
            );
            named(event.action.or_empty(), "action", errors);
            named(event.reason.or_empty(), "reason", errors);
            at_most(event.note.or_empty(), MAX_NOTE, "message", errors);
        } else {
            let matches = regarding == namespace || (regarding.is_empty() && namespace == "default");
            same_namespace(matches, regarding, "involvedObject", errors);
        }
    }

    fn validate_create(event: &v1::Event, errors: &mut Errors) {
        Self::validate(event, errors);
        series(event, errors);
        if event.event_time.is_none() {
            errors.required(&Path::root("eventTime"), "");
        }
        let type_ = event.type_.or_empty();
        if !matches!(type_, "Normal" | "Warning") {
            errors.invalid(&Path::root("type"), "", format!("has invalid value: {type_}"));
        }
        let source = event.deprecated_source.clone().unwrap_or_default();
        for (field, is_set) in [
            ("firstTimestamp", event.deprecated_first_timestamp.is_some()),
            ("lastTimestamp", event.deprecated_last_timestamp.is_some()),
            ("count", event.deprecated_count.is_some_and(|count| count != 0)),
            ("source.component", source.component.is_given()),
            ("source.host", source.host.is_given()),
        ] {
            if is_set {
                errors.invalid(&Path::root(field), "", "needs to be unset");
            }
        }
    }

    fn validate_update(event: &v1::Event, old: &v1::Event, errors: &mut Errors) {
        Self::validate(event, errors);
        series(event, errors);
        errors.immutable(&Path::root("eventTime"), &event.event_time, &old.event_time);
        errors.immutable(&Path::root("involvedObject"), &event.regarding, &old.regarding);
        errors.immutable(&Path::root("related"), &event.related, &old.related);
        errors.immutable(
            &Path::root("count"),
            &event.deprecated_count.unwrap_or_default(),
            &old.deprecated_count.unwrap_or_default(),
        );
        for (field, new, before) in [
            ("reason", &event.reason, &old.reason),
            ("message", &event.note, &old.note),
            ("type", &event.type_, &old.type_),
            ("action", &event.action, &old.action),
            (
                "reportingController",
                &event.reporting_controller,
                &old.reporting_controller,
            ),
            ("reportingInstance", &event.reporting_instance, &old.reporting_instance),
        ] {
            errors.immutable(&Path::root(field), &new.or_empty(), &before.or_empty());
        }
    }
}

fn series(event: &v1::Event, errors: &mut Errors) {
    let Some(series) = &event.series else { return };
    if series.count < 2 {
        errors.invalid(&Path::root("series.count"), "", "should be at least 2");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{changes, create, mistakes};

    fn old() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "a"},
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "a"}, "reason": "Started",
            "source": {"component": "kubelet"},
        })
    }

    fn new() -> Value {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "a"},
            "regarding": {"kind": "Pod", "name": "p", "namespace": "a"}, "reason": "Started", "action": "Start",
            "eventTime": "2024-01-01T00:00:00.000000Z", "reportingController": "example.com/c",
            "reportingInstance": "c-1", "type": "Normal",
        })
    }

    #[test]
    fn an_event_is_in_the_namespace_of_what_it_is_about() {
        let stored = create("", "Event", old()).unwrap();
        assert_eq!(stored["reportingComponent"], "");
        mistakes(
            "",
            "Event",
            &old(),
            &[
                (
                    "/involvedObject/namespace",
                    json!("b"),
                    &["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"],
                ),
                (
                    "/involvedObject/namespace",
                    Value::Null,
                    &["involvedObject.namespace: Invalid value: \"\": does not match event.namespace"],
                ),
            ],
        );
    }

    #[test]
    fn the_newer_version_asks_for_more() {
        mistakes(
            "events.k8s.io",
            "Event",
            &new(),
            &[
                ("/eventTime", Value::Null, &["eventTime: Required value"]),
                ("/action", Value::Null, &["action: Required value"]),
                (
                    "/type",
                    json!("Odd"),
                    &["type: Invalid value: \"\": has invalid value: Odd"],
                ),
                (
                    "/deprecatedCount",
                    json!(1),
                    &["count: Invalid value: \"\": needs to be unset"],
                ),
                (
                    "/note",
                    json!("x".repeat(1025)),
                    &["message: Invalid value: \"\": can have at most 1024 characters"],
                ),
            ],
        );
        changes(
            "events.k8s.io",
            "Event",
            &new(),
            &[
                (
                    "/series",
                    json!({"count": 2, "lastObservedTime": "2024-01-01T00:00:00.000000Z"}),
                    &[],
                ),
                (
                    "/note",
                    json!("b"),
                    &["message: Invalid value: \"b\": field is immutable"],
                ),
            ],
        );
    }
}
