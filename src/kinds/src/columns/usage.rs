//! What nodes and pods consume (`metrics.k8s.io`), as metrics-server shows it.

use bosun_api::Quantity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;
use serde_json::Value;

use super::{Column, NAME, Table, cell, text};

const COLUMNS: &[Column] = &[
    NAME,
    text("cpu", "Cores that are used"),
    text("memory", "Memory that cannot be taken back"),
    Column {
        format: "duration",
        ..text("Window", "Over which time the use was measured")
    },
];

pub(super) static NODES: Table = Table {
    columns: COLUMNS,
    row: |object, _| {
        vec![
            cell::name(object),
            cell::string(object, "/usage/cpu"),
            cell::string(object, "/usage/memory"),
            cell::string(object, "/window"),
        ]
    },
};

pub(super) static PODS: Table = Table {
    columns: COLUMNS,
    row: |object, _| {
        vec![
            cell::name(object),
            sum(object, "/usage/cpu"),
            sum(object, "/usage/memory"),
            cell::string(object, "/window"),
        ]
    },
};

/// What all containers use together.
fn sum(object: &Value, pointer: &str) -> Value {
    let containers = object["containers"].as_array().into_iter().flatten();
    let amounts = containers.filter_map(|container| {
        let written = Written(cell::str(container, pointer).to_owned());
        Quantity::of(&written).ok()
    });
    Written::from(amounts.sum::<Quantity>()).0.into()
}
