//! Who may do what, and what else looks at requests.

use serde_json::Value;

use super::{
    AGE, NAME, Table,
    cell::{self, NONE, UNSET},
    column, text, wide,
};

pub(super) static BINDINGS: Table = Table {
    columns: &[
        NAME,
        text("Role", "What they may do"),
        AGE,
        wide("Users", "string", "Users who may"),
        wide("Groups", "string", "Groups that may"),
        wide("ServiceAccounts", "string", "Service accounts that may"),
    ],
    row: |object, now| {
        let subjects = |kind: &str| {
            let names: Vec<_> = cell::items(object, "/subjects")
                .iter()
                .filter(|subject| subject["kind"] == kind)
                .map(|subject| {
                    let name = cell::str(subject, "/name");
                    match (kind, cell::str(subject, "/namespace")) {
                        ("ServiceAccount", namespace) => format!("{namespace}/{name}"),
                        _ => name.to_owned(),
                    }
                })
                .collect();
            Value::from(names.join(", "))
        };
        let role = format!(
            "{}/{}",
            cell::str(object, "/roleRef/kind"),
            cell::str(object, "/roleRef/name")
        );
        vec![
            cell::name(object),
            role.into(),
            cell::age(object, now),
            subjects("User"),
            subjects("Group"),
            subjects("ServiceAccount"),
        ]
    },
};

pub(super) static WEBHOOKS: Table = Table {
    columns: &[NAME, column("Webhooks", "integer", "How many are called"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::count(object, "/webhooks").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static VALIDATING: Table = Table {
    columns: &[
        NAME,
        column("Validations", "integer", "How many rules it has"),
        text("ParamKind", "The kind of its parameters"),
        AGE,
    ],
    row: |object, now| policy(object, "/spec/validations", now),
};

pub(super) static MUTATING: Table = Table {
    columns: &[
        NAME,
        column("Mutations", "integer", "How many changes it makes"),
        text("ParamKind", "The kind of its parameters"),
        AGE,
    ],
    row: |object, now| policy(object, "/spec/mutations", now),
};

fn policy(object: &Value, rules: &str, now: jiff::Timestamp) -> Vec<Value> {
    let kind = object.pointer("/spec/paramKind").filter(|kind| !kind.is_null());
    let kind = kind.map_or(UNSET.to_owned(), |kind| {
        format!("{}/{}", cell::str(kind, "/apiVersion"), cell::str(kind, "/kind"))
    });
    vec![
        cell::name(object),
        cell::count(object, rules).into(),
        kind.into(),
        cell::age(object, now),
    ]
}

pub(super) static POLICY_BINDINGS: Table = Table {
    columns: &[
        NAME,
        text("PolicyName", "The policy it puts to work"),
        text("ParamRef", "The parameters it gives it"),
        AGE,
    ],
    row: |object, now| {
        let (name, namespace) = (
            cell::str(object, "/spec/paramRef/name"),
            cell::str(object, "/spec/paramRef/namespace"),
        );
        let selector = object
            .pointer("/spec/paramRef/selector")
            .and_then(crate::scale::selector);
        let reference = match (name, namespace, selector) {
            ("", _, Some(selector)) => selector,
            ("", _, None) => UNSET.to_owned(),
            (name, "", _) => format!("*/{name}"),
            (name, namespace, _) => format!("{namespace}/{name}"),
        };
        vec![
            cell::name(object),
            cell::string(object, "/spec/policyName"),
            reference.into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static FLOWS: Table = Table {
    columns: &[
        NAME,
        text("PriorityLevel", "The level its requests belong to"),
        text("MatchingPrecedence", "The lower, the earlier it is asked"),
        text("DistinguisherMethod", "How its flows are told apart"),
        AGE,
        text("MissingPL", "Whether there is no such level"),
    ],
    row: |object, now| {
        let dangling = cell::condition(object, "Dangling");
        vec![
            cell::name(object),
            cell::string(object, "/spec/priorityLevelConfiguration/name"),
            cell::int(object, "/spec/matchingPrecedence").into(),
            cell::string_or(object, "/spec/distinguisherMethod/type", NONE),
            cell::age(object, now),
            if dangling.is_empty() {
                "?".into()
            } else {
                dangling.into()
            },
        ]
    },
};

pub(super) static LEVELS: Table = Table {
    columns: &[
        NAME,
        text("Type", "Whether its requests are limited"),
        text("NominalConcurrencyShares", "Its part of all requests at a time"),
        text("Queues", "How many queues it has"),
        text("HandSize", "How many of them a flow may use"),
        text("QueueLengthLimit", "How many requests may wait in each"),
        AGE,
    ],
    row: |object, now| {
        let number = |pointer: &str| {
            let number = object.pointer(pointer).filter(|number| number.is_number());
            number.cloned().unwrap_or_else(|| NONE.into())
        };
        vec![
            cell::name(object),
            cell::string(object, "/spec/type"),
            number("/spec/limited/nominalConcurrencyShares"),
            number("/spec/limited/limitResponse/queuing/queues"),
            number("/spec/limited/limitResponse/queuing/handSize"),
            number("/spec/limited/limitResponse/queuing/queueLengthLimit"),
            cell::age(object, now),
        ]
    },
};

pub(super) static API_SERVICES: Table = Table {
    columns: &[
        NAME,
        text("Service", "Who answers for this group and version"),
        text("Available", "Whether it does"),
        AGE,
    ],
    row: |object, now| {
        let service = object.pointer("/spec/service").filter(|service| !service.is_null());
        let service = service.map_or("Local".to_owned(), |service| {
            format!("{}/{}", cell::str(service, "/namespace"), cell::str(service, "/name"))
        });
        let conditions = cell::items(object, "/status/conditions");
        let available = conditions.iter().find(|condition| condition["type"] == "Available");
        let available = match available {
            None => "Unknown".to_owned(),
            Some(condition) if condition["status"] == "True" => "True".to_owned(),
            Some(condition) => format!(
                "{} ({})",
                cell::str(condition, "/status"),
                cell::str(condition, "/reason")
            ),
        };
        vec![
            cell::name(object),
            service.into(),
            available.into(),
            cell::age(object, now),
        ]
    },
};
