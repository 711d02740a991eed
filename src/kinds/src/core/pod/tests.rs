use serde_json::{Value, json};

use super::*;
use crate::testing::{changes, context, create, mistakes, pod_spec, update, with};

fn pod(spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"}});
    pod["spec"] = spec;
    pod
}

fn stored(spec: Value) -> Value {
    create("", "Pod", pod(spec)).unwrap()
}

#[test]
fn a_pod_is_stored_with_upstreams_defaults() {
    let created = stored(pod_spec());
    assert_eq!(
        created["spec"],
        json!({
            "containers": [{
                "image": "web:1", "imagePullPolicy": "IfNotPresent", "name": "web", "resources": {},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "dnsPolicy": "ClusterFirst", "enableServiceLinks": true, "restartPolicy": "Always",
            "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30,
        })
    );
    assert_eq!(created["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
}

#[test]
fn sources_of_volumes_have_defaults_of_their_own() {
    let mut spec = pod_spec();
    spec["serviceAccountName"] = "web".into();
    spec["volumes"] = json!([
        {"name": "a", "secret": {"secretName": "s"}},
        {"name": "b", "configMap": {"name": "c"}},
        {"name": "c", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {"name": "e", "image": {"reference": "r:latest"}},
        {"name": "f", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        }}}},
    ]);
    let created = stored(spec);
    let volumes = &created["spec"]["volumes"];
    for (pointer, expected) in [
        ("/0/secret/defaultMode", json!(420)),
        ("/1/configMap/defaultMode", json!(420)),
        ("/2/downwardAPI/defaultMode", json!(420)),
        ("/2/downwardAPI/items/0/fieldRef/apiVersion", json!("v1")),
        ("/3/projected/defaultMode", json!(420)),
        (
            "/3/projected/sources/0/serviceAccountToken/expirationSeconds",
            json!(3600),
        ),
        ("/4/image/pullPolicy", json!("Always")),
        ("/5/ephemeral/volumeClaimTemplate/spec/volumeMode", json!("Filesystem")),
    ] {
        assert_eq!(volumes.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert_eq!(created["spec"]["serviceAccount"], "web");
}

#[test]
fn a_pod_held_back_says_so_and_selects_by_its_own_labels() {
    let mut spec = pod_spec();
    spec["schedulingGates"] = json!([{"name": "a.b/c"}]);
    spec["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{
        "labelSelector": {}, "topologyKey": "zone", "matchLabelKeys": ["app", "absent"], "mismatchLabelKeys": ["tenant"],
    }]}});
    let mut pod = pod(spec);
    pod["metadata"]["labels"] = json!({"app": "web", "tenant": "t"});
    let created = create("", "Pod", pod).unwrap();
    assert_eq!(created["status"]["conditions"][0]["reason"], "SchedulingGated");
    let term = &created["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(
        term["labelSelector"]["matchExpressions"],
        json!([
            {"key": "app", "operator": "In", "values": ["web"]}, {"key": "tenant", "operator": "NotIn", "values": ["t"]},
        ])
    );
}

#[test]
fn mistakes_in_a_pod_are_told_in_upstreams_words() {
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    let bad_name = format!("spec.containers[0].name: Invalid value: \"Web\": {label}");
    let table: &[(&str, Value, &[&str])] = &[
        ("/spec/containers", json!([]), &["spec.containers: Required value"]),
        (
            "/spec/containers/0/name",
            json!(""),
            &["spec.containers[0].name: Required value"],
        ),
        ("/spec/containers/0/name", json!("Web"), &[&bad_name]),
        (
            "/spec/containers/0/image",
            json!(""),
            &["spec.containers[0].image: Required value"],
        ),
        (
            "/spec/containers/0/imagePullPolicy",
            json!("Sometimes"),
            &[
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \
               \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            "/spec/containers/0/ports",
            json!([{"containerPort": 0}, {"containerPort": 80, "protocol": "tcp"}]),
            &[
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \
                 \"TCP\", \"UDP\"",
            ],
        ),
        (
            "/spec/containers/0/env",
            json!([
                {"name": "A", "value": "b", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                {"name": "B", "valueFrom": {}}, {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": ""}}},
            ]),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not \
                 empty",
                "spec.containers[0].env[1].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, \
                 `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                "spec.containers[0].env[2].valueFrom.configMapKeyRef.key: Required value",
            ],
        ),
        (
            "/spec/containers/0/envFrom",
            json!([{}]),
            &["spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`"],
        ),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"cpu": "1", "gpu": "1", "a.b/c": "0.5"}, "requests": {"cpu": "2"}}),
            &[
                "spec.containers[0].resources.limits[a.b/c]: Invalid value: \"500m\": must be an integer",
                "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or \
                 fully qualified",
                "spec.containers[0].resources.limits[gpu]: Invalid value: \"gpu\": must be a standard resource for \
                 containers",
                "spec.containers[0].resources.requests[a.b/c]: Invalid value: \"500m\": must be an integer",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource type \
                 or fully qualified",
                "spec.containers[0].resources.requests[gpu]: Invalid value: \"gpu\": must be a standard resource for \
                 containers",
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit \
                 of 1",
            ],
        ),
        (
            "/spec/containers/0/resources",
            json!({"claims": [{"name": "x"}]}),
            &[
                "spec.containers[0].resources.claims[0]: Not found: \"x\": must be one of the names in \
               pod.spec.resourceClaims which is empty",
            ],
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "none", "mountPath": "/a"}, {"name": "", "mountPath": ""}]),
            &[
                "spec.containers[0].volumeMounts[0].name: Not found: \"none\"",
                "spec.containers[0].volumeMounts[1].name: Required value",
                "spec.containers[0].volumeMounts[1].name: Not found: \"\"",
                "spec.containers[0].volumeMounts[1].mountPath: Required value",
            ],
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({"httpGet": {"port": 70000}, "exec": {"command": ["a"]}, "successThreshold": 2}),
            &[
                "spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            "/spec/containers/0/lifecycle",
            json!({"preStop": {"sleep": {"seconds": 31}}}),
            &[
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than \
               terminationGracePeriodSeconds (30)",
            ],
        ),
        (
            "/spec/containers/0/restartPolicyRules",
            json!([{"action": "Wait"}]),
            &[
                "spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are \
                 used",
                "spec.containers[0].restartPolicyRules[0].action: Unsupported value: \"Wait\": supported values: \
                 \"Restart\", \"RestartAllContainers\"",
                "spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified",
            ],
        ),
        (
            "/spec/initContainers",
            json!([{"name": "web", "image": "a:1", "readinessProbe": {"tcpSocket": {"port": 1}}}]),
            &[
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without \
                 restartPolicy=Always",
                "spec.initContainers[0].name: Duplicate value: \"web\"",
            ],
        ),
        (
            "/spec/ephemeralContainers",
            json!([{"name": "look", "image": "a:1", "ports": [{"containerPort": 1}], "targetContainerName": "none"}]),
            &[
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"none\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers: Forbidden: cannot be set on create",
            ],
        ),
        (
            "/spec/volumes",
            json!([{"name": "a", "secret": {}}, {"name": "a", "nfs": {"server": "s", "path": "p"}}]),
            &[
                "spec.volumes[0].secret.secretName: Required value",
                "spec.volumes[1].name: Duplicate value: \"a\"",
                "spec.volumes[1].nfs.path: Invalid value: \"p\": must be an absolute path",
            ],
        ),
        (
            "/spec/volumes",
            json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/a"}}]),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            "/spec/volumes",
            json!([{"name": "a", "projected": {"sources": [
                {"secret": {"name": "s", "items": [{"key": "k", "path": "../x"}]}},
                {"serviceAccountToken": {"path": "t", "expirationSeconds": 1}},
            ]}}]),
            &[
                "spec.volumes[0].projected.sources[0].secret.items[0].path: Invalid value: \"../x\": must not contain \
                 '..'",
                "spec.volumes[0].projected.sources[1].serviceAccountToken.expirationSeconds: Invalid value: 1: may not \
                 specify a duration less than 10 minutes",
                "spec.volumes[0].projected.sources[1].serviceAccountToken: Forbidden: must not be specified when \
                 serviceAccountName is not set",
            ],
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Equal"}, {"key": "a", "operator": "Exists", "value": "b"},
                   {"key": "a", "tolerationSeconds": 1}, {"key": "a", "effect": "Go"}]),
            &[
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, \
                 which means \"match all values and all keys\"",
                "spec.tolerations[1].operator: Invalid value: \"b\": value must be empty when `operator` is 'Exists'",
                "spec.tolerations[2].effect: Invalid value: \"\": effect must be 'NoExecute' when \
                 `tolerationSeconds` is set",
                "spec.tolerations[3].effect: Unsupported value: \"Go\": supported values: \"NoSchedule\", \
                 \"PreferNoSchedule\", \"NoExecute\"",
            ],
        ),
        (
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 0, "podAffinityTerm": {"topologyKey": "a"}},
            ]}}),
            &[
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: \
                 Required value: must have at least one node selector term",
                "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: \
                 0: must be in the range 1-100",
            ],
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"},
                   {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule", "minDomains": 0}]),
            &[
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: \"{a, \
                 DoNotSchedule}\"",
                "spec.topologySpreadConstraints[1].minDomains: Invalid value: 0: must be greater than zero",
            ],
        ),
        (
            "/spec/securityContext",
            json!({"runAsUser": -1, "seccompProfile": {"type": "Localhost"}, "appArmorProfile": {"type": "Mine"},
                   "sysctls": [{"name": "A", "value": "1"}]}),
            &[
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive",
                "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253 characters and \
                 match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type \
                 is Localhost",
                "spec.securityContext.appArmorProfile.type: Unsupported value: \"Mine\": supported values: \
                 \"Localhost\", \"RuntimeDefault\", \"Unconfined\"",
            ],
        ),
        (
            "/spec/dnsConfig",
            json!({"nameservers": ["a"], "searches": ["-"], "options": [{}]}),
            &[
                "spec.dnsConfig.nameservers[0]: Invalid value: \"a\": must be a valid IP address, (e.g. 10.9.8.7 or \
                 2001:db8::ffff)",
                "spec.dnsConfig.searches[0]: Invalid value: \"-\": a lowercase RFC 1123 subdomain must consist of \
                 lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric \
                 character (e.g. 'example.com', regex used for validation is \
                 '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
                "spec.dnsConfig.options[0]: Required value: must not be empty",
            ],
        ),
        (
            "/spec/os",
            json!({"name": "plan9"}),
            &["spec.os: Unsupported value: \"plan9\": supported values: \"linux\", \"windows\""],
        ),
        (
            "/spec/activeDeadlineSeconds",
            json!(0),
            &["spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive"],
        ),
    ];
    mistakes("", "Pod", &pod(pod_spec()), table);
}

#[test]
fn a_pod_that_exists_changes_in_few_fields() {
    let forbidden =
        |line: &str| format!("spec: Forbidden: pod updates may not change fields other than {UPDATABLE}\n{line}\n");
    let hostname = forbidden("- spec.hostname: null -> \"other\"");
    let command = forbidden("- spec.containers[0].command: null -> [\"a\"]");
    changes(
        "",
        "Pod",
        &pod({
            let mut spec = pod_spec();
            spec["tolerations"] = json!([{"key": "a", "operator": "Exists"}]);
            spec["activeDeadlineSeconds"] = 10.into();
            spec
        }),
        &[
            ("/spec/containers/0/image", json!("web:2"), &[]),
            ("/metadata/labels", json!({"a": "b"}), &[]),
            ("/spec/activeDeadlineSeconds", json!(5), &[]),
            (
                "/spec/activeDeadlineSeconds",
                json!(11),
                &["spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value"],
            ),
            (
                "/spec/activeDeadlineSeconds",
                Value::Null,
                &[
                    "spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value",
                ],
            ),
            ("/spec/tolerations/-", json!({"key": "b", "operator": "Exists"}), &[]),
            (
                "/spec/tolerations",
                json!([]),
                &["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"],
            ),
            ("/spec/hostname", json!("other"), &[&hostname]),
            ("/spec/containers/0/command", json!(["a"]), &[&command]),
            (
                "/spec/containers/-",
                json!({"name": "b", "image": "b:1"}),
                &["spec.containers: Forbidden: pod updates may not add or remove containers"],
            ),
            (
                "/spec/schedulingGates",
                json!([{"name": "g"}]),
                &[
                    "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
                ],
            ),
            (
                "/metadata/annotations",
                json!({"kubernetes.io/config.mirror": "x"}),
                &[
                    "metadata.annotations[kubernetes.io/config.mirror]: Invalid value: \"x\": must set spec.nodeName \
                     if mirror pod annotation is set",
                    "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation",
                ],
            ),
        ],
    );
}

#[test]
fn the_status_changes_through_its_own_door_only() {
    let old = stored(pod_spec());
    let both = with(
        &with(&old, "/spec/hostname", json!("x")),
        "/status/podIP",
        json!("10.0.0.1"),
    );
    let through_status = update("", "Pod", both.clone(), &old, "status").unwrap();
    assert_eq!(through_status["spec"], old["spec"]);
    assert_eq!(through_status["status"]["podIP"], "10.0.0.1");
    let status_only = with(&old, "/status/podIP", json!("10.0.0.1"));
    assert_eq!(
        update("", "Pod", status_only, &old, "").unwrap()["status"],
        old["status"]
    );

    let mut ended = pod_spec();
    ended["restartPolicy"] = "Never".into();
    let mut ended = stored(ended);
    ended["status"]["containerStatuses"] = json!([{
        "name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 0}},
    }]);
    let back = with(&ended, "/status/containerStatuses/0/state", json!({"running": {}}));
    assert_eq!(
        update("", "Pod", back, &ended, "status").unwrap_err(),
        ["status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"]
    );
    let ips = with(
        &ended,
        "/status/podIPs",
        json!([{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]),
    );
    assert_eq!(
        update("", "Pod", ips, &ended, "status").unwrap_err(),
        [
            "status.podIPs: Invalid value: [\"10.0.0.1\",\"10.0.0.2\"]: may specify no more than one IP for each IP family"
        ]
    );
}

#[test]
fn containers_to_look_inside_are_added_and_stay() {
    let old = stored(pod_spec());
    let asked = with(
        &with(&old, "/spec/hostname", json!("ignored")),
        "/spec/ephemeralContainers",
        json!([{"name": "look", "image": "busybox", "targetContainerName": "web"}]),
    );
    let added = update("", "Pod", asked, &old, "ephemeralcontainers").unwrap();
    assert_eq!(added["spec"].get("hostname"), None);
    assert_eq!(added["spec"]["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    let changed = with(&added, "/spec/ephemeralContainers/0/image", json!("other"));
    let told = update("", "Pod", changed, &added, "ephemeralcontainers").unwrap_err();
    assert!(
        told[0].starts_with(
            "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"look\" may not be changed"
        ),
        "{told:?}"
    );
    let removed = with(&added, "/spec/ephemeralContainers", json!([]));
    assert_eq!(
        update("", "Pod", removed, &added, "ephemeralcontainers").unwrap_err(),
        ["spec.ephemeralContainers: Forbidden: existing ephemeral containers \"look\" may not be removed\n"]
    );
}

#[test]
fn a_resize_changes_processor_and_memory_within_the_class() {
    let mut spec = pod_spec();
    spec["containers"][0]["resources"] =
        json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}});
    let old = stored(spec);
    let asked = |resources: Value| with(&old, "/spec/containers/0/resources", resources);
    let more = json!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "3", "memory": "3Gi"}});
    let resized = update(
        "",
        "Pod",
        with(&asked(more.clone()), "/spec/hostname", json!("x")),
        &old,
        "resize",
    )
    .unwrap();
    assert_eq!(resized["spec"]["containers"][0]["resources"], more);
    assert_eq!(resized["spec"].get("hostname"), None);
    for (resources, expected) in [
        (
            json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}),
            "spec.containers[0].resources.limits[memory]: Forbidden: memory limits cannot be decreased unless \
             resizePolicy is RestartContainer",
        ),
        (
            json!({"requests": {"cpu": "2", "memory": "2Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}}),
            "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
        ),
        (
            json!({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}),
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
    ] {
        let told = update("", "Pod", asked(resources.clone()), &old, "resize").unwrap_err();
        assert_eq!(told[0], expected, "{resources}");
    }
}

#[test]
fn what_is_hardly_meant_is_warned_of() {
    let mut spec = pod_spec();
    spec["containers"][0]["env"] = json!([{"name": "A"}, {"name": "A"}]);
    spec["containers"][0]["ports"] = json!([{"containerPort": 80}, {"containerPort": 80}]);
    spec["containers"][0]["resources"] = json!({"limits": {"memory": "500m"}});
    let strategy = crate::strategy("", "Pod");
    let mut object = pod(spec);
    strategy.default(&mut object);
    assert_eq!(
        strategy.create(&mut object, &context("")).unwrap(),
        [
            "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
            "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
            "spec.containers[0].resources.limits[memory]: fractional byte value \"500m\" is invalid, must be an integer",
            "spec.containers[0].resources.requests[memory]: fractional byte value \"500m\" is invalid, must be an integer",
        ]
    );
}
