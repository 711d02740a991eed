//! What a pod's tree holds: its containers, and the objects that it refers to.

use serde_json::Value;

/// The items of a list; none if it is not there.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// All containers of a pod's spec.
pub(crate) fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| items(&spec[field]))
}

/// Shows the name of each Secret that a pod's spec refers to.
pub(crate) fn secret_names<'a>(spec: &'a Value, found: &mut impl FnMut(&'a Value)) {
    for secret in items(&spec["imagePullSecrets"]) {
        found(&secret["name"]);
    }
    for container in containers(spec) {
        for source in items(&container["envFrom"]) {
            found(&source["secretRef"]["name"]);
        }
        for variable in items(&container["env"]) {
            found(&variable["valueFrom"]["secretKeyRef"]["name"]);
        }
    }
    for volume in items(&spec["volumes"]) {
        found(&volume["secret"]["secretName"]);
        found(&volume["azureFile"]["secretName"]);
        found(&volume["csi"]["nodePublishSecretRef"]["name"]);
        for kind in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
            found(&volume[kind]["secretRef"]["name"]);
        }
        for source in items(&volume["projected"]["sources"]) {
            found(&source["secret"]["name"]);
        }
    }
}

/// Shows the name of each `ConfigMap` that a pod's spec refers to.
pub(crate) fn config_map_names<'a>(spec: &'a Value, found: &mut impl FnMut(&'a Value)) {
    for container in containers(spec) {
        for source in items(&container["envFrom"]) {
            found(&source["configMapRef"]["name"]);
        }
        for variable in items(&container["env"]) {
            found(&variable["valueFrom"]["configMapKeyRef"]["name"]);
        }
    }
    for volume in items(&spec["volumes"]) {
        found(&volume["configMap"]["name"]);
        for source in items(&volume["projected"]["sources"]) {
            found(&source["configMap"]["name"]);
        }
    }
}
