//! The storage group: drivers, classes and what is attached where.

use bosun_api::{
    core::TopologySelectorTerm,
    field::{Errors, OrEmpty, Path, set_default},
    names,
    pod::validate::volume::source::csi_driver,
    quantity::Quantity,
    selector::{self, Labels},
};
use k8s_openapi::api::storage::v1::{
    CSIDriver, CSIDriverSpec, CSINode, CSINodeDriver, CSIStorageCapacity, StorageClass, VolumeAttachment,
    VolumeAttachmentSource, VolumeAttributesClass, VolumeError,
};

use crate::{core::volume::volume, kind::Kind};

/// The most parameters a class may have.
const MAX_PARAMETERS: usize = 512;
/// The most bytes of parameters, and of what a driver tells of an attached volume.
const MAX_BYTES: usize = 256 << 10;
const MAX_MESSAGE: usize = 1024;

pub(crate) struct Classes;

impl Kind for Classes {
    type Object = StorageClass;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(class: &mut StorageClass) {
        class.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        class.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(class: &StorageClass, errors: &mut Errors) {
        provisioner(&class.provisioner, &Path::root("provisioner"), errors);
        parameters(class.parameters.or_empty(), true, errors);
        errors.one_of(
            &Path::root("reclaimPolicy"),
            class.reclaim_policy.as_deref().filter(|policy| !policy.is_empty()),
            &["Delete", "Retain"],
        );
        let path = Path::root("volumeBindingMode");
        match &class.volume_binding_mode {
            None => errors.required(&path, ""),
            mode => errors.one_of(&path, mode.as_deref(), &["Immediate", "WaitForFirstConsumer"]),
        }
        for (path, term) in Path::root("allowedTopologies").each(class.allowed_topologies.or_empty()) {
            topology(term, &path, errors);
        }
    }

    fn validate_update(class: &StorageClass, old: &StorageClass, errors: &mut Errors) {
        for (field, changed) in [
            ("parameters", class.parameters.or_empty() != old.parameters.or_empty()),
            ("provisioner", class.provisioner != old.provisioner),
            ("reclaimPolicy", class.reclaim_policy != old.reclaim_policy),
        ] {
            if changed {
                errors.forbidden(&Path::root(field), format!("updates to {field} are forbidden."));
            }
        }
        errors.immutable(
            &Path::root("volumeBindingMode"),
            &class.volume_binding_mode,
            &old.volume_binding_mode,
        );
    }
}

fn provisioner(name: &str, path: &Path, errors: &mut Errors) {
    errors.required_check(path, name, |name| names::qualified(&name.to_lowercase()));
}

fn parameters(parameters: &Labels, may_be_empty: bool, errors: &mut Errors) {
    let path = Path::root("parameters");
    if parameters.len() > MAX_PARAMETERS {
        return errors.too_long(&path, MAX_PARAMETERS);
    }
    if parameters.contains_key("") {
        errors.invalid(&path, "", "field can not be empty.");
    }
    if bytes(parameters) > MAX_BYTES {
        errors.too_long(&path, MAX_BYTES);
    }
    if !may_be_empty && parameters.is_empty() {
        errors.required(&path, "must contain at least one key/value pair");
    }
}

fn bytes(pairs: &Labels) -> usize {
    pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn topology(term: &TopologySelectorTerm, path: &Path, errors: &mut Errors) {
    let expressions = term.match_label_expressions.or_empty();
    let path = path.child("matchLabelExpressions");
    for (index, expression) in expressions.iter().enumerate() {
        let path = path.index(index);
        let values = path.child("values");
        if expression.values.is_empty() {
            errors.required(&values, "");
        }
        for (at, value) in expression.values.iter().enumerate() {
            if expression.values[..at].contains(value) {
                errors.duplicate(&values.index(at), value.as_str());
            }
        }
        errors.check(&path.child("key"), &expression.key, names::qualified);
        if expressions[..index].iter().any(|other| other.key == expression.key) {
            errors.duplicate(&path.child("key"), "");
        }
    }
}

pub(crate) struct AttributesClasses;

impl Kind for AttributesClasses {
    type Object = VolumeAttributesClass;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(class: &VolumeAttributesClass, errors: &mut Errors) {
        provisioner(&class.driver_name, &Path::root("driverName"), errors);
        parameters(class.parameters.or_empty(), false, errors);
    }

    fn validate_update(class: &VolumeAttributesClass, old: &VolumeAttributesClass, errors: &mut Errors) {
        for (field, changed) in [
            ("driverName", class.driver_name != old.driver_name),
            ("parameters", class.parameters != old.parameters),
        ] {
            if changed {
                errors.forbidden(&Path::root(field), format!("updates to {field} are forbidden."));
            }
        }
        Self::validate(class, errors);
    }
}

pub(crate) struct Attachments;

impl Kind for Attachments {
    type Object = VolumeAttachment;

    const GENERATION: bool = false;

    fn validate(attachment: &VolumeAttachment, errors: &mut Errors) {
        let path = Path::root("spec");
        let spec = &attachment.spec;
        let attacher = path.child("attacher");
        if spec.attacher.is_empty() {
            errors.required(&attacher, "");
        }
        source(&spec.source, &path.child("source"), errors);
        errors.check(&path.child("nodeName"), &spec.node_name, names::dns_subdomain);
        told(attachment, errors);
    }

    fn validate_create(attachment: &VolumeAttachment, errors: &mut Errors) {
        Self::validate(attachment, errors);
        let spec = Path::root("spec");
        csi_driver(&attachment.spec.attacher, &spec.child("attacher"), errors);
        if let Some(name) = &attachment.spec.source.persistent_volume_name {
            errors.check(&spec.child("source.persistentVolumeName"), name, names::dns_subdomain);
        }
    }

    fn validate_update(attachment: &VolumeAttachment, old: &VolumeAttachment, errors: &mut Errors) {
        Self::validate(attachment, errors);
        errors.immutable(&Path::root("spec"), &attachment.spec, &old.spec);
    }

    fn validate_part(attachment: &VolumeAttachment, _: &VolumeAttachment, _: &str, errors: &mut Errors) {
        told(attachment, errors);
    }
}

fn source(source: &VolumeAttachmentSource, path: &Path, errors: &mut Errors) {
    let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (&source.inline_volume_spec, source.persistent_volume_name.as_deref()) {
        (None, None) => errors.required(path, detail),
        (Some(_), Some(_)) => errors.forbidden(path, detail),
        (None, Some("")) => errors.required(
            &path.child("persistentVolumeName"),
            "must specify non empty persistentVolumeName",
        ),
        (None, Some(_)) => {}
        (Some(inline), None) => volume(inline, true, &path.child("inlineVolumeSpec"), errors),
    }
}

fn told(attachment: &VolumeAttachment, errors: &mut Errors) {
    let Some(status) = &attachment.status else { return };
    let path = Path::root("status");
    if bytes(status.attachment_metadata.or_empty()) > MAX_BYTES {
        errors.too_long(&path.child("attachmentMetadata"), MAX_BYTES);
    }
    for (field, error) in [
        ("attachError", &status.attach_error),
        ("detachError", &status.detach_error),
    ] {
        if let Some(error) = error {
            volume_error(error, &path.child(field), errors);
        }
    }
}

fn volume_error(error: &VolumeError, path: &Path, errors: &mut Errors) {
    if error.message.or_empty().len() > MAX_MESSAGE {
        errors.too_long(&path.child("message"), MAX_BYTES);
    }
    errors.within(&path.child("errorCode"), error.error_code, 0, i32::MAX.into());
}

pub(crate) struct Drivers;

impl Kind for Drivers {
    type Object = CSIDriver;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn default(driver: &mut CSIDriver) {
        let spec = &mut driver.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        set_default(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
        if !spec.volume_lifecycle_modes.is_given() {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
    }

    fn validate(driver: &CSIDriver, errors: &mut Errors) {
        driver_spec(&driver.spec, &Path::root("spec"), errors);
    }

    fn validate_update(driver: &CSIDriver, old: &CSIDriver, errors: &mut Errors) {
        Self::validate(driver, errors);
        let (new, old) = (&driver.spec, &old.spec);
        errors.immutable(
            &Path::root("spec.attachedRequired"),
            &new.attach_required,
            &old.attach_required,
        );
        errors.immutable(
            &Path::root("spec.volumeLifecycleModes"),
            &new.volume_lifecycle_modes,
            &old.volume_lifecycle_modes,
        );
    }
}

fn driver_spec(spec: &CSIDriverSpec, path: &Path, errors: &mut Errors) {
    errors.one_of(
        &path.child("fsGroupPolicy"),
        spec.fs_group_policy.as_deref(),
        &["File", "None", "ReadWriteOnceWithFSType"],
    );
    let requests = spec.token_requests.or_empty();
    for (index, request) in requests.iter().enumerate() {
        let path = path.child("tokenRequests").index(index);
        if requests[..index].iter().any(|other| other.audience == request.audience) {
            errors.duplicate(&path.child("audience"), request.audience.as_str());
            continue;
        }
        let Some(seconds) = request.expiration_seconds else {
            continue;
        };
        let path = path.child("expirationSeconds");
        if seconds < 600 {
            errors.invalid(&path, seconds, "may not specify a duration less than 10 minutes");
        }
        if seconds > 1 << 32 {
            errors.invalid(&path, seconds, "may not specify a duration larger than 2^32 seconds");
        }
    }
    for mode in spec.volume_lifecycle_modes.or_empty() {
        errors.one_of(
            &path.child("volumeLifecycleModes"),
            Some(mode),
            &["Persistent", "Ephemeral"],
        );
    }
    if let Some(period) = spec
        .node_allocatable_update_period_seconds
        .filter(|period| *period < 10)
    {
        errors.invalid(
            &path.child("nodeAllocatableUpdatePeriodSeconds"),
            period,
            "must be greater than or equal to 10 seconds",
        );
    }
}

pub(crate) struct NodeDrivers;

impl Kind for NodeDrivers {
    type Object = CSINode;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(node: &CSINode, errors: &mut Errors) {
        let path = Path::root("spec.drivers");
        for (index, driver) in node.spec.drivers.iter().enumerate() {
            node_driver(driver, &node.spec.drivers[..index], &path.index(index), errors);
        }
    }

    fn validate_update(node: &CSINode, old: &CSINode, errors: &mut Errors) {
        Self::validate(node, errors);
        for old in &old.spec.drivers {
            for new in node.spec.drivers.iter().filter(|new| new.name == old.name) {
                // How many volumes fit may change.
                let mut same = old.clone();
                same.allocatable.clone_from(&new.allocatable);
                errors.immutable(&Path::root("spec.drivers"), new, &same);
            }
        }
    }
}

fn node_driver(driver: &CSINodeDriver, others: &[CSINodeDriver], path: &Path, errors: &mut Errors) {
    let name = path.child("name");
    csi_driver(&driver.name, &name, errors);
    let id = path.child("nodeID");
    if driver.node_id.is_empty() {
        errors.required(&id, "");
    }
    if driver.node_id.len() > 256 {
        errors.invalid(&id, driver.node_id.as_str(), "must be 256 characters or less");
    }
    let count = driver.allocatable.as_ref().and_then(|allocatable| allocatable.count);
    errors.at_least(&path.child("allocatable.count"), count, 0);
    if others.iter().any(|other| other.name == driver.name) {
        errors.duplicate(&name, driver.name.as_str());
    }
    let keys = driver.topology_keys.or_empty();
    for (index, key) in keys.iter().enumerate() {
        if key.is_empty() {
            errors.required(path, "");
        }
        if keys[..index].contains(key) {
            errors.duplicate(path, key.as_str());
        }
        errors.check(path, key, names::qualified);
    }
}

pub(crate) struct Capacities;

impl Kind for Capacities {
    type Object = CSIStorageCapacity;

    const STATUS: bool = false;
    const GENERATION: bool = false;

    fn validate(capacity: &CSIStorageCapacity, errors: &mut Errors) {
        selector::validate(capacity.node_topology.as_ref(), &Path::root("nodeTopology"), errors);
        errors.check(
            &Path::root("storageClassName"),
            &capacity.storage_class_name,
            names::dns_subdomain,
        );
        if let Some(written) = &capacity.capacity
            && let Ok(amount) = Quantity::of(written)
            && amount.is_negative()
        {
            errors.invalid(
                &Path::root("capacity"),
                amount.to_string(),
                "must be greater than or equal to 0",
            );
        }
    }

    fn validate_update(capacity: &CSIStorageCapacity, old: &CSIStorageCapacity, errors: &mut Errors) {
        errors.immutable(&Path::root("nodeTopology"), &capacity.node_topology, &old.node_topology);
        errors.immutable(
            &Path::root("storageClassName"),
            &capacity.storage_class_name,
            &old.storage_class_name,
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::{changes, create, mistakes};

    const GROUP: &str = "storage.k8s.io";

    fn object(kind: &str, rest: &Value) -> Value {
        let mut object = rest.clone();
        object["apiVersion"] = "storage.k8s.io/v1".into();
        object["kind"] = kind.into();
        object["metadata"] = json!({"name": "s"});
        object
    }

    #[test]
    fn a_class_says_how_volumes_come_to_be_and_stays() {
        let class = object("StorageClass", &json!({"provisioner": "example.com/Fast"}));
        let stored = create(GROUP, "StorageClass", class.clone()).unwrap();
        assert_eq!(stored["reclaimPolicy"], "Delete");
        assert_eq!(stored["volumeBindingMode"], "Immediate");
        mistakes(
            GROUP,
            "StorageClass",
            &class,
            &[
                ("/provisioner", json!(""), &["provisioner: Required value"]),
                (
                    "/reclaimPolicy",
                    json!("Recycle"),
                    &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""],
                ),
                (
                    "/parameters",
                    json!({"": "a"}),
                    &["parameters: Invalid value: \"\": field can not be empty."],
                ),
            ],
        );
        changes(
            GROUP,
            "StorageClass",
            &class,
            &[
                ("/allowVolumeExpansion", json!(true), &[]),
                (
                    "/parameters",
                    json!({"a": "b"}),
                    &["parameters: Forbidden: updates to parameters are forbidden."],
                ),
                (
                    "/volumeBindingMode",
                    json!("WaitForFirstConsumer"),
                    &["volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"],
                ),
            ],
        );
        let attributes = object(
            "VolumeAttributesClass",
            &json!({"driverName": "example.com", "parameters": {"a": "b"}}),
        );
        changes(
            GROUP,
            "VolumeAttributesClass",
            &attributes,
            &[(
                "/parameters",
                json!({}),
                &[
                    "parameters: Forbidden: updates to parameters are forbidden.",
                    "parameters: Required value: must contain at least one key/value pair",
                ],
            )],
        );
    }

    #[test]
    fn drivers_and_what_they_attach_are_checked() {
        let driver = object("CSIDriver", &json!({"spec": {}}));
        let stored = create(GROUP, "CSIDriver", driver.clone()).unwrap();
        assert_eq!(
            stored["spec"],
            json!({
                "attachRequired": true, "fsGroupPolicy": "ReadWriteOnceWithFSType", "podInfoOnMount": false,
                "requiresRepublish": false, "seLinuxMount": false, "storageCapacity": false,
                "volumeLifecycleModes": ["Persistent"],
            })
        );
        mistakes(
            GROUP,
            "CSIDriver",
            &driver,
            &[
                (
                    "/spec/tokenRequests",
                    json!([{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}]),
                    &[
                        "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less \
                         than 10 minutes",
                        "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
                    ],
                ),
                (
                    "/spec/fsGroupPolicy",
                    json!("x"),
                    &[
                        "spec.fsGroupPolicy: Unsupported value: \"x\": supported values: \"File\", \"None\", \
                         \"ReadWriteOnceWithFSType\"",
                    ],
                ),
            ],
        );
        let attachment = object(
            "VolumeAttachment",
            &json!({"spec": {
                "attacher": "example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"},
            }}),
        );
        mistakes(
            GROUP,
            "VolumeAttachment",
            &attachment,
            &[(
                "/spec/source",
                json!({}),
                &[
                    "spec.source: Required value: must specify exactly one of inlineVolumeSpec and \
                     persistentVolumeName",
                ],
            )],
        );
        let node = object(
            "CSINode",
            &json!({"spec": {"drivers": [{"name": "example.com", "nodeID": "n", "allocatable": {"count": 3}}]}}),
        );
        changes(
            GROUP,
            "CSINode",
            &node,
            &[
                ("/spec/drivers/0/allocatable/count", json!(4), &[]),
                (
                    "/spec/drivers/-",
                    json!({"name": "example.com", "nodeID": ""}),
                    &[
                        "spec.drivers[1].nodeID: Required value",
                        "spec.drivers[1].name: Duplicate value: \"example.com\"",
                        "spec.drivers: Invalid value: {\"name\":\"example.com\",\"nodeID\":\"\"}: field is immutable",
                    ],
                ),
            ],
        );
    }
}
