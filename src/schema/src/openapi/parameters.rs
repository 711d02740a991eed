//! Parameters and media types of operations.

/// A parameter in a query or path: name, type, what it is for.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

/// Every parameter there is.
pub(super) const PARAMETERS: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "ask for BOOKMARK events in a watch"),
    ("command", "string", "a word of the command to run; given once for each"),
    (
        "container",
        "string",
        "the container; may be left out if the pod has one",
    ),
    (
        "continue",
        "string",
        "go on with a list where an earlier answer's metadata.continue left it",
    ),
    ("dryRun", "string", "with All, nothing is stored"),
    (
        "fieldManager",
        "string",
        "the name that what is changed here is owned by",
    ),
    ("fieldSelector", "string", "only objects whose fields match"),
    (
        "fieldValidation",
        "string",
        "what is done about unknown and duplicate fields: Ignore, Warn or Strict",
    ),
    ("follow", "boolean", "go on with what the container writes"),
    ("force", "boolean", "take over fields that others own (apply only)"),
    (
        "gracePeriodSeconds",
        "integer",
        "seconds an object has to end; 0 for none",
    ),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "delete an object that can't be read, without regard for finalizers",
    ),
    (
        "insecureSkipTLSVerifyBackend",
        "boolean",
        "don't verify the node's certificate",
    ),
    ("labelSelector", "string", "only objects whose labels match"),
    ("limit", "integer", "the most objects in one answer"),
    ("limitBytes", "integer", "the most bytes in the answer"),
    ("orphanDependents", "boolean", "deprecated: see propagationPolicy"),
    ("path", "string", "the path to ask for behind the proxy"),
    ("ports", "integer", "the ports to forward"),
    ("pretty", "string", "with true, the answer is indented"),
    (
        "previous",
        "boolean",
        "the log of the container's last run before this one",
    ),
    (
        "propagationPolicy",
        "string",
        "what becomes of dependents: Orphan, Background or Foreground",
    ),
    (
        "resourceVersion",
        "string",
        "the version that the answer may be as old as, or that a watch begins behind",
    ),
    (
        "resourceVersionMatch",
        "string",
        "how resourceVersion is meant in a list",
    ),
    ("sendInitialEvents", "boolean", "begin a watch with what is there"),
    ("shardSelector", "string", "only objects of a shard"),
    ("sinceSeconds", "integer", "only what was written in the last seconds"),
    ("stderr", "boolean", "attach to the standard error stream"),
    ("stdin", "boolean", "attach to the standard input stream"),
    ("stdout", "boolean", "attach to the standard output stream"),
    (
        "stream",
        "string",
        "which of the container's streams: All, Stdout or Stderr",
    ),
    ("tailLines", "integer", "only this many lines from the end"),
    (
        "timeoutSeconds",
        "integer",
        "seconds after which the server ends the answer",
    ),
    ("timestamps", "boolean", "begin every line with its time"),
    ("tty", "boolean", "the streams are a terminal"),
    ("watch", "boolean", "go on with changes as they happen"),
];

pub(super) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "pretty",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
    "watch",
];
pub(super) const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "pretty"];
pub(super) const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force", "pretty"];
pub(super) const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
];
pub(super) const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "shardSelector",
    "timeoutSeconds",
];
pub(super) const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "pretty",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];
pub(super) const READ: &[&str] = &["pretty"];

pub(super) const GROUPS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
pub(super) const CUSTOM: &[&str] = &["application/json", "application/yaml"];
pub(super) const CUSTOM_STREAM: &[&str] = &["application/json", "application/yaml", "application/json;stream=watch"];
pub(super) const STREAM: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
pub(super) const TEXT: &[&str] = &[
    "text/plain",
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
pub(super) const ANY: &[&str] = &["*/*"];

/// Sorts of patches, by media type.
pub(super) const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
/// Sorts of patches of custom resources.
pub(super) const CUSTOM_PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];
