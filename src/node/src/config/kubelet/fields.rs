//! Every field of `KubeletConfiguration` in 1.36.

use serde_json::Value;

use super::value;

/// A field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As it is written.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What it is if nobody says, in JSON; empty: nothing.
    pub default: &'static str,
    /// Whether zero, or an empty text, list or map, counts as if nobody had said anything. So it is with those that are
    /// no pointers upstream.
    pub zero_is_unset: bool,
    /// What becomes of it here.
    pub done: Use,
}

/// What becomes of a field here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is done, or handed to who does it.
    Done,
    /// What it tunes does not exist here (a poll that is an event, a limit that is not needed): nothing is lost.
    Moot,
    /// It is not done.
    Missing,
}

/// What a field may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// True or false.
    Bool,
    /// A whole number, from and to.
    Int(i64, i64),
    /// A number, from and to.
    Float(f64, f64),
    /// Any text.
    Text,
    /// A text that is one of these.
    Choice(&'static [&'static str]),
    /// An absolute path.
    Path,
    /// A time as Go writes it: `1h30m`, `100ms`; not negative.
    Duration,
    /// An amount: `10Mi`.
    Quantity,
    /// An amount, or a share of what there is: `100Mi`, `10%`.
    Threshold,
    /// An address.
    Ip,
    /// A range, or two of both families.
    Cidr,
    /// A Unix socket's URL.
    Endpoint,
    /// A taint's effect.
    Object(&'static [Field]),
    /// A list.
    List(&'static Kind),
    /// A map, of these keys (any, if there are none).
    Map {
        /// Keys.
        keys: &'static [&'static str],
        /// What each holds.
        values: &'static Kind,
    },
}

impl Field {
    pub(super) fn default_value(&self) -> Value {
        if self.default.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(self.default).expect("defaults in the table are JSON, as a test shows")
    }

    pub(super) fn is_unset(&self, given: &Value) -> bool {
        given.is_null() || self.zero_is_unset && value::is_zero(given, &self.kind)
    }
}

/// One whose zero counts as nothing said.
const fn f(name: &'static str, kind: Kind, default: &'static str, done: Use) -> Field {
    Field {
        name,
        kind,
        default,
        zero_is_unset: true,
        done,
    }
}

/// One whose zero is meant.
const fn p(name: &'static str, kind: Kind, default: &'static str, done: Use) -> Field {
    Field {
        zero_is_unset: false,
        ..f(name, kind, default, done)
    }
}

/// A group of fields.
const fn o(name: &'static str, fields: &'static [Field]) -> Field {
    f(name, Kind::Object(fields), "", Done)
}

use Kind::{Bool, Choice, Cidr, Duration, Endpoint, Float, Int, Ip, List, Map, Path, Quantity, Text, Threshold};
use Use::{Done, Missing, Moot};

const NATURAL: Kind = Int(0, i32::MAX as i64);
const PORT: Kind = Int(1, 65535);
const PORT_OR_NONE: Kind = Int(0, 65535);
const PERCENT: Kind = Int(0, 100);
const TEXTS: Kind = List(&Text);
const TEXT_MAP: Kind = Map {
    keys: &[],
    values: &Text,
};
/// What evictions are decided by.
const SIGNALS: &[&str] = &[
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "containerfs.available",
    "containerfs.inodesFree",
    "allocatableMemory.available",
    "pid.available",
];
const THRESHOLDS: Kind = Map {
    keys: SIGNALS,
    values: &Threshold,
};
const RESERVED: Kind = Map {
    keys: &["cpu", "memory", "ephemeral-storage", "pid"],
    values: &Quantity,
};
const QUANTITIES: Kind = Map {
    keys: &[],
    values: &Quantity,
};

const TAINT: &[Field] = &[
    f("key", Text, "", Done),
    f("value", Text, "", Done),
    f(
        "effect",
        Choice(&["NoSchedule", "PreferNoSchedule", "NoExecute"]),
        "",
        Done,
    ),
    f("timeAdded", Text, "", Done),
];
const RESERVATION: &[Field] = &[
    f("numaNode", NATURAL, "0", Missing),
    f("limits", QUANTITIES, "", Missing),
];
const BY_PRIORITY: &[Field] = &[
    f("priority", Int(i32::MIN as i64, i32::MAX as i64), "0", Missing),
    f("shutdownGracePeriodSeconds", Int(0, i64::MAX), "0", Missing),
];
const LOG_BUFFER: &[Field] = &[
    f("splitStream", Bool, "false", Missing),
    f("infoBufferSize", Quantity, "\"0\"", Missing),
];
const VMODULE: &[Field] = &[
    f("filePattern", Text, "", Missing),
    f("verbosity", NATURAL, "0", Missing),
];

/// The type's fields, in upstream's order.
pub const FIELDS: &[Field] = &[
    p("enableServer", Bool, "true", Missing),
    f("staticPodPath", Path, "", Done),
    f("podLogsDir", Path, "\"/var/log/pods\"", Missing),
    f("syncFrequency", Duration, "\"1m\"", Moot),
    f("fileCheckFrequency", Duration, "\"20s\"", Moot),
    f("httpCheckFrequency", Duration, "\"20s\"", Moot),
    f("staticPodURL", Text, "", Missing),
    f(
        "staticPodURLHeader",
        Map {
            keys: &[],
            values: &TEXTS,
        },
        "",
        Missing,
    ),
    f("address", Ip, "\"0.0.0.0\"", Done),
    f("port", PORT, "10250", Done),
    f("readOnlyPort", PORT_OR_NONE, "0", Missing),
    f("tlsCertFile", Path, "", Done),
    f("tlsPrivateKeyFile", Path, "", Done),
    f("tlsCipherSuites", TEXTS, "", Missing),
    f("tlsCurvePreferences", List(&NATURAL), "", Missing),
    f(
        "tlsMinVersion",
        Choice(&["VersionTLS10", "VersionTLS11", "VersionTLS12", "VersionTLS13"]),
        "\"VersionTLS12\"",
        Missing,
    ),
    f("rotateCertificates", Bool, "false", Done),
    f("serverTLSBootstrap", Bool, "false", Done),
    o(
        "authentication",
        &[
            o("x509", &[f("clientCAFile", Path, "", Done)]),
            o(
                "webhook",
                &[
                    p("enabled", Bool, "true", Done),
                    f("cacheTTL", Duration, "\"2m\"", Done),
                ],
            ),
            o("anonymous", &[p("enabled", Bool, "false", Done)]),
        ],
    ),
    o(
        "authorization",
        &[
            f("mode", Choice(&["AlwaysAllow", "Webhook"]), "\"Webhook\"", Done),
            o(
                "webhook",
                &[
                    f("cacheAuthorizedTTL", Duration, "\"5m\"", Done),
                    f("cacheUnauthorizedTTL", Duration, "\"30s\"", Done),
                ],
            ),
        ],
    ),
    p("registryPullQPS", NATURAL, "5", Missing),
    f("registryBurst", NATURAL, "10", Missing),
    f(
        "imagePullCredentialsVerificationPolicy",
        Choice(&[
            "NeverVerify",
            "NeverVerifyPreloadedImages",
            "NeverVerifyAllowlistedImages",
            "AlwaysVerify",
        ]),
        "\"NeverVerifyPreloadedImages\"",
        Missing,
    ),
    f("preloadedImagesVerificationAllowlist", TEXTS, "", Missing),
    p("eventRecordQPS", NATURAL, "50", Moot),
    f("eventBurst", NATURAL, "100", Moot),
    p("enableDebuggingHandlers", Bool, "true", Missing),
    f("enableContentionProfiling", Bool, "false", Moot),
    p("healthzPort", PORT_OR_NONE, "10248", Done),
    f("healthzBindAddress", Ip, "\"127.0.0.1\"", Done),
    p("oomScoreAdj", Int(-1000, 1000), "-999", Missing),
    f("clusterDomain", Text, "", Done),
    f("clusterDNS", List(&Ip), "[]", Done),
    f("streamingConnectionIdleTimeout", Duration, "\"4h\"", Done),
    f("nodeStatusUpdateFrequency", Duration, "\"10s\"", Done),
    f("nodeStatusReportFrequency", Duration, "", Done),
    f("nodeLeaseDurationSeconds", Int(0, i32::MAX as i64), "40", Done),
    f("imageMinimumGCAge", Duration, "\"2m\"", Missing),
    f("imageMaximumGCAge", Duration, "\"0s\"", Missing),
    p("imageGCHighThresholdPercent", PERCENT, "85", Missing),
    p("imageGCLowThresholdPercent", PERCENT, "80", Missing),
    f("volumeStatsAggPeriod", Duration, "\"1m\"", Moot),
    f("kubeletCgroups", Text, "", Missing),
    f("systemCgroups", Text, "", Missing),
    f("cgroupRoot", Path, "", Done),
    p("cgroupsPerQOS", Bool, "true", Missing),
    f(
        "cgroupDriver",
        Choice(&["cgroupfs", "systemd"]),
        "\"cgroupfs\"",
        Missing,
    ),
    f(
        "cpuManagerPolicy",
        Choice(&["none", "static", "None"]),
        "\"none\"",
        Missing,
    ),
    p("singleProcessOOMKill", Bool, "", Missing),
    f("cpuManagerPolicyOptions", TEXT_MAP, "", Missing),
    f("cpuManagerReconcilePeriod", Duration, "\"10s\"", Moot),
    f("draManagerReconcilePeriod", Duration, "\"60s\"", Moot),
    f(
        "memoryManagerPolicy",
        Choice(&["None", "Static", "none"]),
        "\"None\"",
        Missing,
    ),
    f(
        "topologyManagerPolicy",
        Choice(&["none", "best-effort", "restricted", "single-numa-node"]),
        "\"none\"",
        Missing,
    ),
    f(
        "topologyManagerScope",
        Choice(&["container", "pod"]),
        "\"container\"",
        Missing,
    ),
    f("topologyManagerPolicyOptions", TEXT_MAP, "", Missing),
    f("qosReserved", TEXT_MAP, "", Missing),
    f("runtimeRequestTimeout", Duration, "\"2m\"", Missing),
    // Pods' links are routed, and what they send to themselves comes back in every mode.
    f(
        "hairpinMode",
        Choice(&["promiscuous-bridge", "hairpin-veth", "none"]),
        "\"promiscuous-bridge\"",
        Moot,
    ),
    f("maxPods", NATURAL, "110", Done),
    f("podCIDR", Cidr, "", Done),
    p("podPidsLimit", Int(i64::MIN, i64::MAX), "-1", Missing),
    p("resolvConf", Text, "\"/etc/resolv.conf\"", Done),
    f("runOnce", Bool, "false", Missing),
    p("cpuCFSQuota", Bool, "true", Missing),
    p("cpuCFSQuotaPeriod", Duration, "\"100ms\"", Missing),
    p("nodeStatusMaxImages", Int(-1, i32::MAX as i64), "50", Missing),
    f("maxOpenFiles", Int(0, i64::MAX), "1000000", Moot),
    f("contentType", Text, "\"application/vnd.kubernetes.protobuf\"", Moot),
    p("kubeAPIQPS", Int(i32::MIN as i64, i32::MAX as i64), "50", Moot),
    f("kubeAPIBurst", NATURAL, "100", Moot),
    p("serializeImagePulls", Bool, "", Done),
    p("maxParallelImagePulls", Int(1, i32::MAX as i64), "", Done),
    f("evictionHard", THRESHOLDS, "", Missing),
    f("evictionSoft", THRESHOLDS, "", Missing),
    f(
        "evictionSoftGracePeriod",
        Map {
            keys: SIGNALS,
            values: &Duration,
        },
        "",
        Missing,
    ),
    f("evictionPressureTransitionPeriod", Duration, "\"5m\"", Moot),
    f(
        "evictionMaxPodGracePeriod",
        Int(i32::MIN as i64, i32::MAX as i64),
        "0",
        Missing,
    ),
    f("evictionMinimumReclaim", THRESHOLDS, "", Missing),
    p("mergeDefaultEvictionSettings", Bool, "false", Moot),
    f("podsPerCore", NATURAL, "0", Missing),
    p("enableControllerAttachDetach", Bool, "true", Missing),
    f("protectKernelDefaults", Bool, "false", Missing),
    p("makeIPTablesUtilChains", Bool, "true", Moot),
    p("iptablesMasqueradeBit", Int(0, 31), "14", Moot),
    p("iptablesDropBit", Int(0, 31), "15", Moot),
    f(
        "featureGates",
        Map {
            keys: &[],
            values: &Bool,
        },
        "",
        Missing,
    ),
    // Pods run the same with swap: none of theirs is swapped where they have limits.
    p("failSwapOn", Bool, "true", Moot),
    o(
        "memorySwap",
        &[f(
            "swapBehavior",
            Choice(&["NoSwap", "LimitedSwap"]),
            "\"NoSwap\"",
            Missing,
        )],
    ),
    f("containerLogMaxSize", Quantity, "\"10Mi\"", Missing),
    p("containerLogMaxFiles", Int(2, i32::MAX as i64), "5", Missing),
    p("containerLogMaxWorkers", Int(1, i32::MAX as i64), "1", Moot),
    p("containerLogMonitorInterval", Duration, "\"10s\"", Moot),
    f(
        "configMapAndSecretChangeDetectionStrategy",
        Choice(&["Get", "Cache", "Watch"]),
        "\"Watch\"",
        Missing,
    ),
    f("systemReserved", RESERVED, "", Missing),
    f("kubeReserved", RESERVED, "", Missing),
    f("reservedSystemCPUs", Text, "", Missing),
    f("showHiddenMetricsForVersion", Text, "", Moot),
    f("systemReservedCgroup", Text, "", Missing),
    f("kubeReservedCgroup", Text, "", Missing),
    p(
        "enforceNodeAllocatable",
        List(&Choice(&[
            "none",
            "pods",
            "system-reserved",
            "system-reserved-compressible",
            "kube-reserved",
            "kube-reserved-compressible",
        ])),
        "[\"pods\"]",
        Missing,
    ),
    f("allowedUnsafeSysctls", TEXTS, "", Missing),
    f(
        "volumePluginDir",
        Path,
        "\"/usr/libexec/kubernetes/kubelet-plugins/volume/exec/\"",
        Missing,
    ),
    f("providerID", Text, "", Missing),
    f("kernelMemcgNotification", Bool, "false", Moot),
    o(
        "logging",
        &[
            f("format", Choice(&["text", "json"]), "\"text\"", Missing),
            // Upstream takes a time or a number of nanoseconds. Nothing is buffered here.
            f("flushFrequency", Text, "", Moot),
            f("verbosity", NATURAL, "0", Missing),
            f("vmodule", List(&Kind::Object(VMODULE)), "", Missing),
            o("options", &[o("text", LOG_BUFFER), o("json", LOG_BUFFER)]),
        ],
    ),
    p("enableSystemLogHandler", Bool, "true", Missing),
    p("enableSystemLogQuery", Bool, "false", Missing),
    f("shutdownGracePeriod", Duration, "\"0s\"", Missing),
    f("shutdownGracePeriodCriticalPods", Duration, "\"0s\"", Missing),
    f(
        "shutdownGracePeriodByPodPriority",
        List(&Kind::Object(BY_PRIORITY)),
        "",
        Missing,
    ),
    o(
        "crashLoopBackOff",
        &[p("maxContainerRestartPeriod", Duration, "\"300s\"", Done)],
    ),
    f("reservedMemory", List(&Kind::Object(RESERVATION)), "", Missing),
    p("enableProfilingHandler", Bool, "true", Moot),
    p("enableDebugFlagsHandler", Bool, "true", Moot),
    p("seccompDefault", Bool, "false", Missing),
    p("memoryThrottlingFactor", Float(0.0, 1.0), "0.9", Moot),
    f(
        "memoryReservationPolicy",
        Choice(&["None", "TieredReservation"]),
        "\"None\"",
        Missing,
    ),
    f("registerWithTaints", List(&Kind::Object(TAINT)), "[]", Done),
    p("registerNode", Bool, "true", Done),
    f(
        "tracing",
        Kind::Object(&[
            f("endpoint", Text, "", Missing),
            f("samplingRatePerMillion", NATURAL, "0", Missing),
        ]),
        "",
        Missing,
    ),
    p("localStorageCapacityIsolation", Bool, "true", Missing),
    f("containerRuntimeEndpoint", Endpoint, "", Done),
    f("imageServiceEndpoint", Endpoint, "", Missing),
    // The agent runs on both; to refuse one is not its business.
    p("failCgroupV1", Bool, "", Moot),
    o(
        "userNamespaces",
        &[p("idsPerPod", Int(65536, u32::MAX as i64), "65536", Missing)],
    ),
    p("podHousekeepingPeriod", Duration, "\"2s\"", Moot),
];
