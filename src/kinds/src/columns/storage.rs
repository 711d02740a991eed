//! Volumes, claims and what provides them.

use serde_json::Value;

use super::{
    AGE, NAME, Table,
    cell::{self, NONE, UNSET},
    column, text, wide,
};

/// Access modes in short, in a fixed order, each once.
fn modes(object: &Value, pointer: &str) -> String {
    let given = cell::items(object, pointer);
    let short: Vec<_> = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .iter()
    .filter(|(mode, _)| given.iter().any(|given| given == mode))
    .map(|(_, short)| *short)
    .collect();
    short.join(",")
}

/// The class, where it stood of old before where it stands now.
fn class(object: &Value) -> Value {
    let of_old = cell::str(object, "/metadata/annotations/volume.beta.kubernetes.io~1storage-class");
    match of_old {
        "" => cell::string(object, "/spec/storageClassName"),
        class => class.into(),
    }
}

fn phase(object: &Value) -> Value {
    if cell::is_going(object) {
        "Terminating".into()
    } else {
        cell::string(object, "/status/phase")
    }
}

pub(super) static VOLUMES: Table = Table {
    columns: &[
        NAME,
        text("Capacity", "How much it holds"),
        text("Access Modes", "How it may be mounted"),
        text("Reclaim Policy", "What becomes of it when it is released"),
        text("Status", "Where it is in its life"),
        text("Claim", "The claim that has it"),
        text("StorageClass", "Its class"),
        text("VolumeAttributesClass", "Its class of attributes"),
        text("Reason", "Why it is where it is"),
        AGE,
        wide("VolumeMode", "string", "File system or block device"),
    ],
    row: |object, now| {
        let claim = object.pointer("/spec/claimRef").filter(|claim| !claim.is_null());
        let claim = claim.map_or(String::new(), |claim| {
            format!("{}/{}", cell::str(claim, "/namespace"), cell::str(claim, "/name"))
        });
        vec![
            cell::name(object),
            cell::string_or(object, "/spec/capacity/storage", "0"),
            modes(object, "/spec/accessModes").into(),
            cell::string(object, "/spec/persistentVolumeReclaimPolicy"),
            phase(object),
            claim.into(),
            class(object),
            cell::string_or(object, "/spec/volumeAttributesClassName", UNSET),
            cell::string(object, "/status/reason"),
            cell::age(object, now),
            cell::string_or(object, "/spec/volumeMode", UNSET),
        ]
    },
};

pub(super) static CLAIMS: Table = Table {
    columns: &[
        NAME,
        text("Status", "Where it is in its life"),
        text("Volume", "The volume it has"),
        text("Capacity", "How much that holds"),
        text("Access Modes", "How it may be mounted"),
        text("StorageClass", "Its class"),
        text("VolumeAttributesClass", "Its class of attributes"),
        AGE,
        wide("VolumeMode", "string", "File system or block device"),
    ],
    row: |object, now| {
        let bound = !cell::str(object, "/spec/volumeName").is_empty();
        let (capacity, access) = if bound {
            (
                cell::str_or(object, "/status/capacity/storage", "0"),
                modes(object, "/status/accessModes"),
            )
        } else {
            ("", String::new())
        };
        vec![
            cell::name(object),
            phase(object),
            cell::string(object, "/spec/volumeName"),
            capacity.into(),
            access.into(),
            class(object),
            cell::string_or(object, "/spec/volumeAttributesClassName", UNSET),
            cell::age(object, now),
            cell::string_or(object, "/spec/volumeMode", UNSET),
        ]
    },
};

/// A name, with a word if it is what is taken when nothing is said.
fn default_marked(object: &Value, annotations: &[&str]) -> Value {
    let name = cell::str(object, "/metadata/name");
    let marked = object.pointer("/metadata/annotations").is_some_and(|given| {
        annotations
            .iter()
            .any(|key| given.get(key).is_some_and(|value| value == "true"))
    });
    if marked {
        format!("{name} (default)").into()
    } else {
        name.into()
    }
}

pub(super) static CLASSES: Table = Table {
    columns: &[
        NAME,
        text("Provisioner", "What makes its volumes"),
        text("ReclaimPolicy", "What becomes of them when they are released"),
        text("VolumeBindingMode", "When a claim gets its volume"),
        text("AllowVolumeExpansion", "Whether they may grow"),
        AGE,
    ],
    row: |object, now| {
        let name = default_marked(
            object,
            &[
                "storageclass.kubernetes.io/is-default-class",
                "storageclass.beta.kubernetes.io/is-default-class",
            ],
        );
        vec![
            name,
            cell::string(object, "/provisioner"),
            cell::string_or(object, "/reclaimPolicy", "Delete"),
            cell::string_or(object, "/volumeBindingMode", "Immediate"),
            cell::bool(object, "/allowVolumeExpansion").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static ATTRIBUTES_CLASSES: Table = Table {
    columns: &[NAME, text("DriverName", "The driver that knows the attributes"), AGE],
    row: |object, now| {
        vec![
            default_marked(object, &["storageclass.kubernetes.io/is-default-class"]),
            cell::string(object, "/driverName"),
            cell::age(object, now),
        ]
    },
};

pub(super) static ATTACHMENTS: Table = Table {
    columns: &[
        NAME,
        text("Attacher", "The driver that attaches"),
        text("PV", "What is attached"),
        text("Node", "Where to"),
        column("Attached", "boolean", "Whether it is"),
        AGE,
    ],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::string(object, "/spec/attacher"),
            cell::string(object, "/spec/source/persistentVolumeName"),
            cell::string(object, "/spec/nodeName"),
            cell::bool(object, "/status/attached").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static NODES: Table = Table {
    columns: &[NAME, column("Drivers", "integer", "How many drivers the node has"), AGE],
    row: |object, now| {
        vec![
            cell::name(object),
            cell::count(object, "/spec/drivers").into(),
            cell::age(object, now),
        ]
    },
};

pub(super) static DRIVERS: Table = Table {
    columns: &[
        NAME,
        column(
            "AttachRequired",
            "boolean",
            "Whether volumes are attached before they are mounted",
        ),
        column("PodInfoOnMount", "boolean", "Whether it is told of the pod"),
        column(
            "StorageCapacity",
            "boolean",
            "Whether the scheduler asks how much is left",
        ),
        text("TokenRequests", "Whose tokens it is given"),
        column("RequiresRepublish", "boolean", "Whether it is called again and again"),
        text("Modes", "What sorts of volume it makes"),
        AGE,
    ],
    row: |object, now| {
        let attach = object
            .pointer("/spec/attachRequired")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        let tokens = match object.pointer("/spec/tokenRequests").and_then(Value::as_array) {
            None => UNSET.to_owned(),
            Some(requests) => {
                let audiences: Vec<_> = requests.iter().map(|request| cell::str(request, "/audience")).collect();
                audiences.join(",")
            }
        };
        let modes = cell::joined(object, "/spec/volumeLifecycleModes", ",");
        vec![
            cell::name(object),
            attach.into(),
            cell::bool(object, "/spec/podInfoOnMount").into(),
            cell::bool(object, "/spec/storageCapacity").into(),
            tokens.into(),
            cell::bool(object, "/spec/requiresRepublish").into(),
            if modes.is_empty() { NONE.into() } else { modes.into() },
            cell::age(object, now),
        ]
    },
};

pub(super) static CAPACITIES: Table = Table {
    columns: &[
        NAME,
        text("StorageClassName", "The class it is about"),
        text("Capacity", "How much is left"),
    ],
    row: |object, _| {
        vec![
            cell::name(object),
            cell::string(object, "/storageClassName"),
            cell::string_or(object, "/capacity", UNSET),
        ]
    },
};
