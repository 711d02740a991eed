//! What is done here, typed; and what no field alone can show to be wrong.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use bosun_api::core::Taint;
use bosun_net::cidr::Cidr;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use super::{Problem, problem, value};

/// The fields that are done here, with their defaults.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeletSettings {
    /// Manifests of static pods.
    #[serde(deserialize_with = "path")]
    pub static_pod_path: Option<PathBuf>,
    /// Where the node's API listens.
    pub address: IpAddr,
    /// At this port.
    pub port: u16,
    /// Its certificate.
    #[serde(deserialize_with = "path")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its key.
    #[serde(deserialize_with = "path")]
    pub tls_private_key_file: Option<PathBuf>,
    /// Whether the client certificate is renewed in time.
    pub rotate_certificates: bool,
    /// Whether the cluster signs the serving certificate.
    #[serde(rename = "serverTLSBootstrap")]
    pub server_tls_bootstrap: bool,
    /// Who may come to the node's API.
    pub authentication: AuthenticationSettings,
    /// What they may do there.
    pub authorization: AuthorizationSettings,
    /// Where `healthz` is served without TLS; 0: nowhere.
    pub healthz_port: u16,
    /// At this address.
    pub healthz_bind_address: IpAddr,
    /// The DNS domain of the cluster; empty: none.
    #[serde(deserialize_with = "text")]
    pub cluster_domain: String,
    /// Its DNS servers.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<IpAddr>,
    /// Streams that are silent for so long are closed.
    #[serde(deserialize_with = "duration")]
    pub streaming_connection_idle_timeout: Duration,
    /// How often the node's status is looked at.
    #[serde(deserialize_with = "duration")]
    pub node_status_update_frequency: Duration,
    /// How often it is written though nothing has changed; `None`: five minutes, or the update frequency if that was set.
    #[serde(deserialize_with = "maybe_duration")]
    pub node_status_report_frequency: Option<Duration>,
    /// How long the node's lease holds.
    pub node_lease_duration_seconds: u32,
    /// The cgroup that pods' are made in; `None`: the root.
    #[serde(deserialize_with = "text")]
    pub cgroup_root: String,
    /// The most pods.
    pub max_pods: u32,
    /// Ranges of pods' addresses where no control plane assigns them.
    #[serde(rename = "podCIDR", deserialize_with = "ranges")]
    pub pod_cidrs: Vec<Cidr>,
    /// What pods' DNS configuration is based on; `None`: nothing.
    #[serde(rename = "resolvConf", deserialize_with = "path")]
    pub resolv_conf: Option<PathBuf>,
    /// Whether images are pulled one after the other; `None`: unless several at a time are allowed.
    pub serialize_image_pulls: Option<bool>,
    /// How many at a time; `None`: any.
    pub max_parallel_image_pulls: Option<u32>,
    /// The longest wait before a container that keeps ending is started again.
    pub crash_loop_back_off: CrashLoopSettings,
    /// Taints of the node when it is registered.
    pub register_with_taints: Vec<Taint>,
    /// Whether the node makes its own Node object.
    pub register_node: bool,
    /// The runtime's socket; `None`: nothing is said.
    #[serde(deserialize_with = "socket")]
    pub container_runtime_endpoint: Option<PathBuf>,
}

impl KubeletSettings {
    /// How many images are pulled at a time; `None`: any number.
    pub fn parallel_pulls(&self) -> Option<u32> {
        match (self.serialize_image_pulls, self.max_parallel_image_pulls) {
            (Some(true), _) | (None, None | Some(1)) => Some(1),
            (_, most) => most,
        }
    }
}

/// `authentication`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AuthenticationSettings {
    /// By certificate.
    pub x509: X509Settings,
    /// By token, which the server reviews.
    pub webhook: WebhookAuthenticationSettings,
    /// Without anything.
    pub anonymous: AnonymousSettings,
}

/// `authentication.x509`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct X509Settings {
    /// Certificates that lead to these authorities are believed; `None`: nobody's.
    #[serde(rename = "clientCAFile", deserialize_with = "path")]
    pub client_ca_file: Option<PathBuf>,
}

/// `authentication.webhook`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookAuthenticationSettings {
    /// Whether tokens are reviewed at all.
    pub enabled: bool,
    /// How long an answer counts.
    #[serde(rename = "cacheTTL", deserialize_with = "duration")]
    pub cache_ttl: Duration,
}

/// `authentication.anonymous`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AnonymousSettings {
    /// Whether nobody is let in.
    pub enabled: bool,
}

/// `authorization`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct AuthorizationSettings {
    /// Who decides.
    pub mode: AuthorizationMode,
    /// How long answers count.
    pub webhook: WebhookAuthorizationSettings,
}

/// Who decides what a user may do with the node's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AuthorizationMode {
    /// Whoever is known may do all.
    AlwaysAllow,
    /// The server, by `SubjectAccessReview`.
    Webhook,
}

/// `authorization.webhook`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct WebhookAuthorizationSettings {
    /// How long a yes counts.
    #[serde(rename = "cacheAuthorizedTTL", deserialize_with = "duration")]
    pub cache_authorized_ttl: Duration,
    /// How long a no counts.
    #[serde(rename = "cacheUnauthorizedTTL", deserialize_with = "duration")]
    pub cache_unauthorized_ttl: Duration,
}

/// `crashLoopBackOff`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CrashLoopSettings {
    /// From a second to five minutes.
    #[serde(deserialize_with = "duration")]
    pub max_container_restart_period: Duration,
}

fn text<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

fn path<'de, D: Deserializer<'de>>(source: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Some(text(source)?).filter(|text| !text.is_empty()).map(PathBuf::from))
}

fn duration<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(source)?;
    value::duration(&text).ok_or_else(|| D::Error::custom("no time"))
}

fn maybe_duration<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Duration>, D::Error> {
    let text = Option::<String>::deserialize(source)?;
    text.map(|text| value::duration(&text).ok_or_else(|| D::Error::custom("no time")))
        .transpose()
}

fn ranges<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Cidr>, D::Error> {
    let text = text(source)?;
    if text.is_empty() {
        return Ok(vec![]);
    }
    value::cidrs(&text).ok_or_else(|| D::Error::custom("no range"))
}

fn socket<'de, D: Deserializer<'de>>(source: D) -> Result<Option<PathBuf>, D::Error> {
    let text = text(source)?;
    if text.is_empty() {
        return Ok(None);
    }
    value::endpoint(&text)
        .map(Some)
        .ok_or_else(|| D::Error::custom("no socket"))
}

/// From what was checked and completed.
pub(super) fn read(merged: Value) -> Result<KubeletSettings, Problem> {
    serde_path_to_error::deserialize(merged)
        .map_err(|error| problem(error.path().to_string(), error.inner().to_string()))
}

/// What contradicts itself between fields; upstream refuses the same.
pub(super) fn contradictions(config: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |wrong: bool, path: &str, why: &str| {
        if wrong {
            problems.push(problem(path, why));
        }
    };
    let text = |name: &str| config[name].as_str().unwrap_or_default();
    let number = |name: &str| config[name].as_i64();
    let time = |value: &Value| value.as_str().and_then(value::duration).unwrap_or_default();
    refuse(
        text("tlsCertFile").is_empty() != text("tlsPrivateKeyFile").is_empty(),
        "tlsCertFile",
        "must be given together with tlsPrivateKeyFile",
    );
    refuse(
        number("imageGCLowThresholdPercent") >= number("imageGCHighThresholdPercent"),
        "imageGCLowThresholdPercent",
        "must be less than imageGCHighThresholdPercent",
    );
    let maximum = time(&config["imageMaximumGCAge"]);
    refuse(
        !maximum.is_zero() && maximum <= time(&config["imageMinimumGCAge"]),
        "imageMaximumGCAge",
        "must be more than imageMinimumGCAge",
    );
    refuse(
        config["serializeImagePulls"] == true && number("maxParallelImagePulls").is_some_and(|most| most > 1),
        "maxParallelImagePulls",
        "must not be more than 1 while serializeImagePulls is true",
    );
    refuse(
        number("podsPerCore") > number("maxPods"),
        "podsPerCore",
        "must not be more than maxPods",
    );
    let period = time(&config["crashLoopBackOff"]["maxContainerRestartPeriod"]);
    refuse(
        !(Duration::from_secs(1)..=Duration::from_mins(5)).contains(&period),
        "crashLoopBackOff.maxContainerRestartPeriod",
        "must be between 1s and 5m",
    );
    refuse(
        time(&config["shutdownGracePeriodCriticalPods"]) > time(&config["shutdownGracePeriod"]),
        "shutdownGracePeriodCriticalPods",
        "must not be more than shutdownGracePeriod",
    );
    for (signal, _) in config["evictionSoft"].as_object().into_iter().flatten() {
        refuse(
            config["evictionSoftGracePeriod"].get(signal).is_none(),
            &format!("evictionSoftGracePeriod[{signal:?}]"),
            "must be given for each signal of evictionSoft",
        );
    }
    for (at, taint) in config["registerWithTaints"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        for part in ["key", "effect"] {
            refuse(
                taint[part].as_str().is_none_or(str::is_empty),
                &format!("registerWithTaints[{at}].{part}"),
                "must be given",
            );
        }
    }
    refuse(
        config["authentication"]["anonymous"]["enabled"] == true && config["authorization"]["mode"] == "AlwaysAllow",
        "authorization.mode",
        "must not be AlwaysAllow while authentication.anonymous.enabled is true: anybody could run anything here",
    );
    problems
}
