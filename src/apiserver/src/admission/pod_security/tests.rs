use serde_json::json;

use super::*;

fn broken(level: &str, version: &str, spec: &Value) -> String {
    let labels =
        json!({"pod-security.kubernetes.io/enforce": level, "pod-security.kubernetes.io/enforce-version": version});
    enforce(&labels, &Value::Null, spec).unwrap_or_default()
}

#[test]
fn a_plain_pod_keeps_the_baseline_and_not_the_restricted_level() {
    let spec = json!({"containers": [{"name": "c"}]});
    assert_eq!(broken("privileged", "latest", &json!({"hostNetwork": true})), "");
    assert_eq!(broken("baseline", "latest", &spec), "");
    assert_eq!(
        broken("restricted", "latest", &spec),
        "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false (container \"c\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"c\" must set \
         securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"c\" must set \
         securityContext.runAsNonRoot=true), seccompProfile (pod or container \"c\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
}

#[test]
fn a_careful_pod_keeps_the_restricted_level() {
    let spec = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "projected": {}}],
    });
    assert_eq!(broken("restricted", "latest", &spec), "");
}

#[test]
fn what_breaks_the_baseline_is_told_as_upstream_does() {
    let with = |context: Value| json!({"containers": [{"name": "a", "securityContext": context}, {"name": "b"}]});
    let table = [
        (
            json!({"hostNetwork": true, "hostIPC": true}),
            "host namespaces (hostNetwork=true, hostIPC=true)",
        ),
        (
            json!({"volumes": [{"name": "x", "hostPath": {}}, {"name": "y", "hostPath": {}}]}),
            "hostPath volumes (volumes \"x\", \"y\")",
        ),
        (
            json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 443}]}]}),
            "hostPort (container \"a\" uses hostPorts 443, 80)",
        ),
        (
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "x"}}}, {"name": "b", "lifecycle": {"preStop": {"tcpSocket": {"host": "y"}}}}]}),
            "probe or lifecycle host (containers \"a\", \"b\" use probe or lifecycle hosts \"x\", \"y\")",
        ),
        (
            with(json!({"privileged": true})),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            with(json!({"capabilities": {"add": ["CHOWN", "NET_RAW", "SYS_ADMIN"]}})),
            "non-default capabilities (container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            with(json!({"procMount": "Unmasked"})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            with(json!({"seLinuxOptions": {"type": "x_t", "user": "u"}})),
            "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"x_t\"; user may not be set)",
        ),
        (
            with(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            with(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(
            broken("baseline", "latest", &spec),
            format!("violates PodSecurity \"baseline:latest\": {expected}")
        );
    }
}

#[test]
fn what_breaks_the_restricted_level_is_told_as_upstream_does() {
    let good = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    let with = |field: &str, value: Value| {
        let mut context = good.clone();
        context[field] = value;
        json!({"containers": [{"name": "a", "securityContext": context}]})
    };
    let mut paths = with("runAsNonRoot", true.into());
    paths["volumes"] = json!([{"name": "x", "hostPath": {}}, {"name": "y", "nfs": {}}]);
    let mut pod = with("runAsUser", 0.into());
    pod["securityContext"] = json!({"runAsUser": 0});
    let table = [
        (
            with("runAsNonRoot", false.into()),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            paths,
            "restricted volume types (volumes \"x\", \"y\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (pod, "runAsUser=0 (pod and container \"a\" must not set runAsUser=0)"),
        (
            with("capabilities", json!({"add": ["CHOWN"]})),
            "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            with("seccompProfile", json!({"type": "Unconfined"})),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
    ];
    for (spec, expected) in table {
        assert_eq!(
            broken("restricted", "latest", &spec),
            format!("violates PodSecurity \"restricted:latest\": {expected}")
        );
    }
}

#[test]
fn levels_are_as_of_a_version() {
    let spec = json!({"containers": [{"name": "a"}], "securityContext": {"runAsNonRoot": true}});
    assert_eq!(broken("restricted", "v1.7", &spec), "");
    assert!(broken("restricted", "v1.8", &spec).starts_with("violates PodSecurity \"restricted:v1.8\": allowPriv"));
    let rmem = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    assert!(!broken("baseline", "v1.31", &rmem).is_empty());
    assert!(broken("baseline", "v1.32", &rmem).is_empty());
}

#[test]
fn what_is_not_understood_is_strict() {
    let plain = json!({"containers": [{"name": "a"}]});
    assert!(broken("restrictive", "latest", &plain).starts_with("violates PodSecurity \"restricted:latest\""));
    assert!(broken("restricted", "1.20", &plain).starts_with("violates PodSecurity \"restricted:latest\""));
}

#[test]
fn makers_of_pods_are_warned() {
    let labels = json!({"pod-security.kubernetes.io/warn": "baseline"});
    let deployment = json!({"spec": {"template": {"spec": {"hostPID": true}}}});
    let (metadata, spec) = template("apps", "deployments", &deployment).unwrap();
    assert_eq!(
        warn(&labels, metadata, spec).unwrap(),
        "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"
    );
    assert!(template("apps", "controllerrevisions", &deployment).is_none());
    assert_eq!(enforce(&labels, metadata, spec), None);
}

#[test]
fn labels_are_checked() {
    let namespace =
        |key: &str, value: &str| json!({"metadata": {"name": "n", "labels": {format!("{PREFIX}{key}"): value}}});
    check_labels(&namespace("enforce", "baseline")).unwrap();
    check_labels(&namespace("warn-version", "v1.30")).unwrap();
    assert_eq!(
        check_labels(&namespace("enforce", "x")).unwrap_err().message,
        "Namespace \"n\" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": must be one of privileged, baseline, restricted"
    );
    for version in ["1.30", "v1.030", "v2.0", ""] {
        assert!(
            check_labels(&namespace("audit-version", version)).is_err(),
            "{version:?}"
        );
    }
}

#[test]
fn an_update_counts_if_it_runs_something_else() {
    let pod = |image: &str| json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": image}]}});
    assert!(!differs(&pod("x"), &pod("x")));
    assert!(differs(&pod("x"), &pod("y")));
    let mut debugged = pod("x");
    debugged["spec"]["ephemeralContainers"] = json!([{"name": "d", "image": "x"}]);
    assert!(differs(&pod("x"), &debugged));
}

#[test]
fn pods_that_break_a_new_level_are_named() {
    let pod = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let pods = [
        pod("c", json!({"hostPID": true})),
        pod("a", json!({"hostPID": true})),
        pod(
            "b",
            json!({"containers": [{"name": "x", "securityContext": {"privileged": true}}]}),
        ),
        pod("d", json!({})),
    ];
    let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
    assert_eq!(
        existing("n", &labels, &pods),
        [
            "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 1 other pod): host namespaces",
            "b: privileged",
        ]
    );
    assert!(existing("n", &labels, &pods[3..]).is_empty());
    assert!(tightens(&labels, &json!({})));
    assert!(!tightens(&labels, &labels));
    assert!(!tightens(&json!({}), &labels));
}
