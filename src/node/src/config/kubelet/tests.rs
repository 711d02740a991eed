use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use proptest::prelude::*;
use serde_json::json;

use super::*;

const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

fn one(text: &str) -> Result<Loaded, ConfigError> {
    parse(&[("config.yaml".into(), format!("{HEAD}{text}"))])
}

/// As kubeadm 1.36 writes it.
const KUBEADM: &str = r#"
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: ""
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
resolvConf: /run/systemd/resolve/resolv.conf
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
"#;

#[test]
fn a_file_of_kubeadm_works_as_it_is() {
    let loaded = parse(&[("config.yaml".into(), KUBEADM.to_owned())]).unwrap();
    assert_eq!(loaded.ignored, ["cgroupDriver"]);
    assert!(loaded.warning().unwrap().contains("cgroupDriver"));
    let settings = loaded.settings;
    assert_eq!(
        settings.static_pod_path.unwrap(),
        Path::new("/etc/kubernetes/manifests")
    );
    assert_eq!(settings.cluster_dns, ["10.96.0.10".parse::<IpAddr>().unwrap()]);
    assert_eq!(settings.cluster_domain, "cluster.local");
    assert!(settings.rotate_certificates && !settings.server_tls_bootstrap);
    let authentication = settings.authentication;
    assert_eq!(
        authentication.x509.client_ca_file.unwrap(),
        Path::new("/etc/kubernetes/pki/ca.crt")
    );
    assert!(authentication.webhook.enabled && !authentication.anonymous.enabled);
    assert_eq!(
        authentication.webhook.cache_ttl,
        Duration::from_secs(120),
        "zero is the default"
    );
    assert_eq!(settings.authorization.mode, AuthorizationMode::Webhook);
    assert_eq!(
        settings.resolv_conf.unwrap(),
        Path::new("/run/systemd/resolve/resolv.conf")
    );
    assert_eq!(settings.container_runtime_endpoint, None);
    assert_eq!(
        settings.crash_loop_back_off.max_container_restart_period,
        Duration::from_secs(300)
    );
}

#[test]
fn nothing_said_is_the_defaults() {
    let loaded = parse(&[]).unwrap();
    assert_eq!(loaded, one("").unwrap());
    assert_eq!(loaded.warning(), None);
    let settings = loaded.settings;
    assert_eq!(
        (settings.port, settings.max_pods, settings.healthz_port),
        (10250, 110, 10248)
    );
    assert_eq!(settings.node_lease_duration_seconds, 40);
    assert_eq!(settings.parallel_pulls(), Some(1));
    assert!(settings.register_node && settings.register_with_taints.is_empty());
}

#[test]
fn what_is_not_done_is_named_once_and_only_where_it_asks_for_something() {
    let loaded = one(
        "enableServer: true\nevictionHard: {memory.available: 200Mi}\nimageGCHighThresholdPercent: 85\n\
         seccompDefault: true\nlogging: {format: json}\nsyncFrequency: 10s\nmemorySwap: {swapBehavior: NoSwap}\n\
         containerLogMaxSize: 10240Ki\nvolumePluginDir: /usr/libexec/kubernetes/kubelet-plugins/volume/exec\n\
         topologyManagerPolicy: none\ncpuManagerPolicy: None\nmemoryThrottlingFactor: 0.5\nuserNamespaces: {idsPerPod: 131072}\n",
    )
    .unwrap();
    assert_eq!(
        loaded.ignored,
        [
            "evictionHard",
            "logging.format",
            "seccompDefault",
            "userNamespaces.idsPerPod"
        ]
    );
}

#[test]
fn a_mistake_is_told_with_its_path() {
    for (text, wanted) in [
        (
            "evictionHard: {memory.available: lots}",
            "evictionHard[\"memory.available\"]: must be an amount",
        ),
        (
            "evictionHard: {memory.available: 101%}",
            "evictionHard[\"memory.available\"]",
        ),
        (
            "evictionHard: {memory: 1Gi}",
            "evictionHard[\"memory\"]: must be one of memory.available",
        ),
        ("evictionHard: [1]", "evictionHard: must be a map"),
        (
            "staticPodpath: /x",
            "staticPodpath: there is no such field; it is written staticPodPath",
        ),
        ("colour: red", "colour: there is no such field"),
        (
            "authentication: {x509: {clientCaFile: /x}}",
            "authentication.x509.clientCaFile: there is no such field",
        ),
        ("authentication: true", "authentication: must be a map"),
        ("port: \"10250\"", "port: must be a whole number, not \"10250\""),
        ("port: 70000", "port: must be between 1 and 65535"),
        ("maxPods: -1", "maxPods: must be between 0"),
        ("maxPods: 1.5", "maxPods: must be a whole number"),
        ("syncFrequency: 5", "syncFrequency: must be a text"),
        ("syncFrequency: soon", "syncFrequency: must be a time such as 30s"),
        ("registerNode: \"yes\"", "registerNode: must be true or false"),
        ("clusterDNS: [10.96.0.10, x]", "clusterDNS[1]: must be an IP address"),
        ("cgroupDriver: runc", "cgroupDriver: must be one of cgroupfs, systemd"),
        ("staticPodPath: manifests", "staticPodPath: must be an absolute path"),
        ("podCIDR: 10.0.0.0/33", "podCIDR: must be a range"),
        (
            "containerRuntimeEndpoint: tcp://x",
            "containerRuntimeEndpoint: must be a socket",
        ),
        (
            "registerWithTaints: [{key: a, effect: Never}]",
            "registerWithTaints[0].effect: must be one of",
        ),
        (
            "registerWithTaints: [{key: a}]",
            "registerWithTaints[0].effect: must be given",
        ),
        (
            "tlsCertFile: /x",
            "tlsCertFile: must be given together with tlsPrivateKeyFile",
        ),
        (
            "imageGCLowThresholdPercent: 90",
            "imageGCLowThresholdPercent: must be less",
        ),
        (
            "serializeImagePulls: true\nmaxParallelImagePulls: 3",
            "maxParallelImagePulls: must not be more than 1",
        ),
        (
            "evictionSoft: {nodefs.available: 5%}",
            "evictionSoftGracePeriod[\"nodefs.available\"]: must be given",
        ),
        (
            "crashLoopBackOff: {maxContainerRestartPeriod: 10m}",
            "maxContainerRestartPeriod: must be between 1s and 5m",
        ),
        (
            "authentication: {anonymous: {enabled: true}}\nauthorization: {mode: AlwaysAllow}",
            "authorization.mode",
        ),
        ("port: 1\nport: 2", "config.yaml"),
        ("[", "config.yaml"),
    ] {
        let error = one(text).unwrap_err().to_string();
        assert!(
            error.contains(wanted) && error.contains("config.yaml"),
            "{text}: {error}"
        );
    }
    for text in ["", "[]", "kind: KubeletConfiguration", "apiVersion: v1\nkind: Pod"] {
        assert!(parse(&[("config.yaml".into(), text.to_owned())]).is_err(), "{text:?}");
    }
    let both = one("colour: red\nport: 0x\n").unwrap_err().to_string();
    assert!(
        both.contains("colour") && both.contains("port"),
        "every mistake is told: {both}"
    );
}

#[test]
fn drop_ins_are_merged_in_the_order_of_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{HEAD}{text}")).unwrap();
    };
    write(
        "config.yaml",
        "maxPods: 10\nclusterDNS: [10.0.0.1]\nevictionHard: {memory.available: 1Gi}\nport: 1\n",
    );
    write("d/20-b.conf", "maxPods: 30\nclusterDNS: [10.0.0.3, 10.0.0.4]\n");
    write(
        "d/10-a.conf",
        "maxPods: 20\nevictionHard: {nodefs.available: 5%}\nport: null\n",
    );
    write("d/15/x.conf", "registerNode: false\nmaxPods: 15\n");
    write("d/30-c.yaml", "maxPods: 99\n");
    let load = || load(Some(&dir.path().join("config.yaml")), Some(&dir.path().join("d")));
    let settings = load().unwrap().settings;
    assert_eq!(settings.max_pods, 30);
    assert_eq!(settings.cluster_dns.len(), 2, "lists are replaced");
    assert_eq!(settings.port, 10250, "null takes away");
    assert!(!settings.register_node);
    write("d/40-d.conf", "maxPods: many\n");
    let error = load().unwrap_err().to_string();
    assert!(error.contains("d/40-d.conf: maxPods"), "the file is named: {error}");
    assert!(super::load(Some(&dir.path().join("nowhere")), None).is_err());
    let mut merged = json!({"a": {"b": 1, "c": [1]}, "d": 1});
    merge(
        &mut merged,
        json!({"a": {"b": null, "c": [2], "e": {"f": null, "g": 1}}, "d": {"h": null}}),
    );
    assert_eq!(merged, json!({"a": {"c": [2], "e": {"g": 1}}, "d": {}}));
}

#[test]
fn pulls_are_one_at_a_time_unless_more_are_allowed() {
    for (text, wanted) in [
        ("", Some(1)),
        ("serializeImagePulls: true", Some(1)),
        ("serializeImagePulls: false", None),
        ("serializeImagePulls: false\nmaxParallelImagePulls: 4", Some(4)),
        ("maxParallelImagePulls: 4", Some(4)),
        ("maxParallelImagePulls: 1", Some(1)),
    ] {
        assert_eq!(one(text).unwrap().settings.parallel_pulls(), wanted, "{text}");
    }
}

fn walk(fields: &[Field], path: &str, seen: &mut BTreeSet<String>) {
    for field in fields {
        let path = below(path, field.name);
        assert!(seen.insert(path.clone()), "{path} twice");
        let mut problems = Vec::new();
        let default = field.default_value();
        if let Kind::Object(fields) = field.kind {
            walk(fields, &path, seen);
        } else if !default.is_null() {
            check(&default, &field.kind, &path, &mut problems);
        }
        assert!(problems.is_empty(), "{problems:?}");
    }
}

#[test]
fn the_table_holds_each_field_once_and_defaults_that_fit() {
    let mut seen = BTreeSet::new();
    walk(FIELDS, "", &mut seen);
    assert!(seen.len() > 130, "{}", seen.len());
}

/// A value of any shape.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9%/.:-]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z.A-Z]{1,8}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_an_error(text in ".{0,200}") {
        let _ = parse(&[("x".into(), text.clone())]);
        let _ = one(&text);
    }

    #[test]
    fn any_value_in_any_field_is_taken_or_told_with_that_fields_name(at in 0..FIELDS.len(), value in anything()) {
        let name = FIELDS[at].name;
        let text = json!({"apiVersion": API_VERSION, "kind": KIND, name: value}).to_string();
        match parse(&[("x".into(), text)]) {
            Ok(_) => {}
            Err(ConfigError::Fields { problems, .. }) => {
                prop_assert!(problems.iter().any(|problem| problem.path.contains(name)) || contradicts(name), "{problems:?}");
            }
            Err(other) => prop_assert!(matches!(other, ConfigError::Syntax { .. }), "{other}"),
        }
    }

    #[test]
    fn a_patch_applied_twice_is_a_patch_applied_once(mut target in anything(), patch in anything()) {
        merge(&mut target, patch.clone());
        let once = target.clone();
        merge(&mut target, patch);
        prop_assert_eq!(target, once);
    }
}

/// Fields that are refused by the name of another that they contradict.
fn contradicts(name: &str) -> bool {
    [
        "tlsPrivateKeyFile",
        "imageGCHighThresholdPercent",
        "imageMinimumGCAge",
        "maxPods",
        "evictionSoft",
    ]
    .contains(&name)
}
