//! Names of the labels and annotations that sandboxes, containers and pods from files carry.
//!
//! They are upstream's, so that the tools people have (`crictl`, log shippers, `kubectl`) read what we write.

/// Label of sandboxes and containers: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label of sandboxes and containers: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label of sandboxes and containers: the pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label of containers: the container's name in the pod.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Annotation of containers: a hash of the container's specification, in hexadecimal.
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// Annotation of containers: how many containers of this name came before it.
pub const CONTAINER_RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation of containers: where the container may leave its last words.
pub const CONTAINER_TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation of containers: whether the log stands in for missing last words.
pub const CONTAINER_TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation of containers: the `preStop` handler as JSON.
pub const CONTAINER_PRE_STOP_HANDLER: &str = "io.kubernetes.container.preStopHandler";
/// Annotation of containers: the ports as JSON.
pub const CONTAINER_PORTS: &str = "io.kubernetes.container.ports";
/// Annotation of containers: [`INIT_CONTAINER`] or [`APP_CONTAINER`].
pub const CONTAINER_TYPE: &str = "io.kubernetes.container.type";
/// Annotation of containers: `spec.terminationGracePeriodSeconds`.
pub const POD_TERMINATION_GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation of containers: the grace given when the pod was deleted, if it was.
pub const POD_DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";

/// Value of [`CONTAINER_TYPE`] for a container of `spec.initContainers`.
pub const INIT_CONTAINER: &str = "init";
/// Value of [`CONTAINER_TYPE`] for a container of `spec.containers`.
pub const APP_CONTAINER: &str = "container";

/// Annotation of pods: where the pod came from, such as [`CONFIG_SOURCE_FILE`].
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation of pods from files: the hash that tells one version of a manifest from the next.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation of pods: when this node first saw the pod.
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// Annotation of an API object that mirrors a pod from a file.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Value of [`CONFIG_SOURCE`] for a pod from a file.
pub const CONFIG_SOURCE_FILE: &str = "file";

/// Label of sandboxes and containers: the node whose agent made them. An agent touches no other's.
pub const NODE: &str = "bosun.dev/node";
