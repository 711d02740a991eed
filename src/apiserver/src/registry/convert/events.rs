//! `events.k8s.io` events, which are stored as the core group's.

use serde_json::Value;

use super::rename;

/// Names in the core group, and in `events.k8s.io`.
const NAMES: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

pub(super) fn from_core(event: &mut Value) {
    for (core, other) in NAMES {
        rename(event, core, other);
    }
}

pub(super) fn to_core(event: &mut Value) {
    for (core, other) in NAMES {
        rename(event, other, core);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_becomes_the_other_and_back() {
        let core = json!({
            "kind": "Event", "involvedObject": {"name": "p"}, "message": "m", "source": {"component": "c"}, "count": 2,
            "reportingComponent": "r", "reportingInstance": "i", "eventTime": null, "type": "Normal",
        });
        let mut event = core.clone();
        from_core(&mut event);
        assert_eq!(
            (&event["regarding"]["name"], &event["note"], event.get("message")),
            (&json!("p"), &json!("m"), None)
        );
        to_core(&mut event);
        assert_eq!(event, core);
    }
}
