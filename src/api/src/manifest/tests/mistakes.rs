//! What can be wrong with a manifest, and the words for it.

use super::{edited, read};

/// Edits of `WEB`, each with the errors it must give.
#[test]
fn every_mistake_is_reported_with_its_field() {
    let web = "    image: busybox:1.36\n";
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        // strictness
        (
            "image: busybox:1.36",
            "imge: busybox",
            r#"unknown field "spec.containers[0].imge"; spec.containers[0].image: Required value"#,
        ),
        ("labels:", "lables:", r#"unknown field "metadata.lables""#),
        (
            "periodSeconds: 2",
            "periodSecond: 2",
            r#"unknown field "spec.containers[0].readinessProbe.periodSecond""#,
        ),
        (
            "\"8080\"",
            "8080",
            "spec.containers[0].env[0].value: Invalid type: integer `8080`, expected a string (put it in quotes)",
        ),
        (
            "periodSeconds: 2",
            "periodSeconds: often",
            r#"spec.containers[0].readinessProbe.periodSeconds: Invalid type: string "often", expected i32"#,
        ),
        (
            "command: [sh, -c, \"exec httpd -f -p $(PORT)\"]",
            "command: sh",
            r#"spec.containers[0].command: Invalid type: string "sh", expected a sequence"#,
        ),
        (
            "version: \"2\"",
            "version: 2",
            "metadata.labels.version: Invalid type: integer `2`, expected a string (put it in quotes)",
        ),
        // metadata
        (
            "  name: web\n  labels",
            "  namespace: web\n  labels",
            "metadata.name: Required value",
        ),
        (
            "  name: web\n  labels",
            "  name: Web\n  labels",
            r#"metadata.name: Invalid value: "Web": a lowercase RFC 1123 subdomain must"#,
        ),
        (
            "  name: web\n  labels",
            "  name: web\n  namespace: a.b\n  labels",
            r#"metadata.namespace: Invalid value: "a.b": must not contain dots"#,
        ),
        (
            "{app: web,",
            "{-app: web,",
            r#"metadata.labels: Invalid value: "-app": name part must"#,
        ),
        (
            "{app: web,",
            "{app: web!,",
            r#"metadata.labels: Invalid value: "web!": a valid label must"#,
        ),
        // spec
        (
            "hostNetwork: no",
            "restartPolicy: always",
            r#"spec.restartPolicy: Unsupported value: "always": supported values: "Always", "OnFailure", "Never""#,
        ),
        (
            "hostNetwork: no",
            "dnsPolicy: None",
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "hostNetwork: no",
            "dnsConfig: {nameservers: [x]}",
            r#"spec.dnsConfig.nameservers[0]: Invalid value: "x": must be a valid IP"#,
        ),
        (
            "hostNetwork: no",
            "terminationGracePeriodSeconds: -1",
            "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0; spec.containers[0].lifecycle",
        ),
        (
            "hostNetwork: no",
            "activeDeadlineSeconds: 0",
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            "hostNetwork: no",
            "hostname: a.b",
            r#"spec.hostname: Invalid value: "a.b""#,
        ),
        (
            "hostNetwork: no",
            "os: {name: windows}",
            r#"spec.os.name: Unsupported value: "windows""#,
        ),
        (
            "hostNetwork: no",
            "hostAliases: [{ip: x, hostnames: [A]}]",
            r#"spec.hostAliases[0].ip: Invalid value: "x""#,
        ),
        (
            "hostNetwork: no",
            "securityContext: {runAsUser: -1}",
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 4294967295, inclusive",
        ),
        (
            "hostNetwork: no",
            "securityContext: {sysctls: [{name: A, value: b}]}",
            r#"spec.securityContext.sysctls[0].name: Invalid value: "A""#,
        ),
        (
            "hostNetwork: no",
            "securityContext: {seccompProfile: {type: Localhost}}",
            "spec.securityContext.seccompProfile.localhostProfile: Required value",
        ),
        (
            "hostNetwork: no",
            "{hostPID: true, shareProcessNamespace: true}",
            "not valid YAML",
        ),
        (
            "hostNetwork: no",
            "hostPID: true\n  shareProcessNamespace: true",
            "spec.securityContext.shareProcessNamespace: Invalid value: true: ",
        ),
        (
            "hostNetwork: no",
            "resources: {limits: {pods: 1}}",
            r#"spec.resources.limits[pods]: Unsupported value: "pods""#,
        ),
        // what needs an API server
        (
            "hostNetwork: no",
            "serviceAccountName: me",
            "spec.serviceAccountName: Forbidden: a pod from a file may not reference service accounts: that needs an API server",
        ),
        (
            "hostNetwork: no",
            "imagePullSecrets: [{name: a}]",
            "spec.imagePullSecrets: Forbidden: ",
        ),
        (
            "hostNetwork: no",
            "resourceClaims: [{name: a}]",
            "spec.resourceClaims: Forbidden: ",
        ),
        (
            "hostNetwork: no",
            "runtimeClassName: a",
            "spec.runtimeClassName: Forbidden: ",
        ),
        (
            "hostNetwork: no",
            "ephemeralContainers: [{name: a}]",
            "spec.ephemeralContainers: Forbidden: ",
        ),
        (
            "hostPath: {path: /var/lib/data}",
            "configMap: {name: a}",
            "spec.volumes[1].configMap: Forbidden: a pod from a file may not reference config maps: that needs an API server",
        ),
        (
            "hostPath: {path: /var/lib/data}",
            "secret: {secretName: a}",
            "spec.volumes[1].secret: Forbidden: ",
        ),
        (
            "hostPath: {path: /var/lib/data}",
            "persistentVolumeClaim: {claimName: a}",
            "spec.volumes[1].persistentVolumeClaim: Forbidden: ",
        ),
        (
            "hostPath: {path: /var/lib/data}",
            "projected: {sources: []}",
            "spec.volumes[1].projected: Forbidden: ",
        ),
        (
            "fieldRef: {fieldPath: spec.nodeName}",
            "secretKeyRef: {name: a, key: b}",
            "spec.containers[0].env[1].valueFrom.secretKeyRef: Forbidden: ",
        ),
        (
            web,
            "    image: b:1\n    envFrom: [{configMapRef: {name: a}}]\n",
            "spec.containers[0].envFrom[0].configMapRef: Forbidden: ",
        ),
        // volumes and mounts
        (
            "hostPath: {path: /var/lib/data}",
            "nfs: {server: a, path: /b}",
            "spec.volumes[1]: Forbidden: this type of volume is not supported",
        ),
        (
            "hostPath: {path: /var/lib/data}",
            "hostPath: {path: /a}\n    emptyDir: {}",
            "spec.volumes[1]: Forbidden: may not specify more than 1 volume type",
        ),
        (
            "path: /var/lib/data",
            "path: var",
            r#"spec.volumes[1].hostPath.path: Invalid value: "var": must be an absolute path"#,
        ),
        (
            "path: /var/lib/data",
            "path: /var/../etc",
            r#"spec.volumes[1].hostPath.path: Invalid value: "/var/../etc": must not contain '..'"#,
        ),
        (
            "path: /var/lib/data",
            "path: /a, type: Dir",
            r#"spec.volumes[1].hostPath.type: Unsupported value: "Dir""#,
        ),
        (
            "- name: data\n",
            "- name: data\n    emptyDir: {sizeLimit: lots}\n",
            "spec.volumes[0].emptyDir.sizeLimit: Invalid value: \"lots\": ",
        ),
        (
            "- name: data\n",
            "- name: data\n    emptyDir: {medium: memory}\n",
            "spec.volumes[0].emptyDir.medium: Unsupported value: \"memory\"",
        ),
        (
            "  - name: host\n",
            "  - name: data\n",
            r#"spec.volumes[1].name: Duplicate value: "data"; spec.containers[0].volumeMounts[1].name: Not found: "host""#,
        ),
        (
            "{name: data, ",
            "{name: date, ",
            r#"spec.containers[0].volumeMounts[0].name: Not found: "date""#,
        ),
        (
            "mountPath: /data",
            "mountPath: data",
            r#"spec.containers[0].volumeMounts[0].mountPath: Invalid value: "data": must be an absolute path"#,
        ),
        (
            "mountPath: /data",
            "mountPath: /host/",
            r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/host": must be unique"#,
        ),
        (
            "mountPath: /data",
            "mountPath: /data, subPath: ../x",
            r#"spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'"#,
        ),
        (
            "mountPath: /data",
            "mountPath: /data, mountPropagation: Bidirectional",
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden: ",
        ),
        // containers
        (
            "- name: sidecar",
            "- name: web",
            r#"spec.initContainers[0].name: Duplicate value: "web""#,
        ),
        (
            "- name: sidecar",
            "- name: side_car",
            r#"spec.initContainers[0].name: Invalid value: "side_car""#,
        ),
        (
            "restartPolicy: Always",
            "restartPolicy: Never",
            r#"spec.initContainers[0].restartPolicy: Unsupported value: "Never": supported values: "Always""#,
        ),
        (
            "restartPolicy: Always",
            "livenessProbe: {tcpSocket: {port: 1}}",
            "spec.initContainers[0].livenessProbe: Forbidden: ",
        ),
        (
            web,
            "    image: b:1\n    restartPolicy: Always\n",
            "spec.containers[0].restartPolicy: Forbidden: ",
        ),
        (
            web,
            "    image: b:1\n    imagePullPolicy: Sometimes\n",
            r#"spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes""#,
        ),
        (
            web,
            "    image: ' b'\n",
            r#"spec.containers[0].image: Invalid value: " b": must not have leading"#,
        ),
        (
            web,
            "    image: b:1\n    terminationMessagePath: x\n",
            "spec.containers[0].terminationMessagePath: Invalid value: \"x\": must be an absolute path",
        ),
        (
            web,
            "    image: b:1\n    securityContext: {privileged: true, allowPrivilegeEscalation: false}\n",
            r#"spec.containers[0].securityContext: Invalid value: {"allowPrivilegeEscalation":false,"privileged":true}: cannot set"#,
        ),
        (
            "{name: PORT,",
            "{name: 'A=B',",
            r#"spec.containers[0].env[0].name: Invalid value: "A=B""#,
        ),
        (
            "{name: PORT,",
            "{name: '',",
            "spec.containers[0].env[0].name: Required value",
        ),
        (
            "fieldPath: spec.nodeName",
            "fieldPath: spec.nodename",
            r#"spec.containers[0].env[1].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nodename": error converting fieldPath: field label not supported: spec.nodename"#,
        ),
        (
            "containerPort: 8080",
            "containerPort: 70000",
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            "containerPort: 8080",
            "containerPort: 1, hostPort: 80}\n    - {containerPort: 2, hostPort: 80",
            r#"spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80""#,
        ),
        (
            "{name: http, containerPort",
            "{name: HTTP, containerPort",
            r#"spec.containers[0].ports[0].name: Invalid value: "HTTP""#,
        ),
        // resources
        (
            "requests: {cpu: 0.5}",
            "requests: {cpu: 2}",
            r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
        ),
        (
            "requests: {cpu: 0.5}",
            "requests: {cpu: fast}",
            r#"spec.containers[0].resources.requests[cpu]: Invalid value: "fast": "fast" is not a quantity"#,
        ),
        (
            "requests: {cpu: 0.5}",
            "requests: {cpu: -1}",
            r#"spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater"#,
        ),
        (
            "requests: {cpu: 0.5}",
            "requests: {cpus: 1}",
            r#"spec.containers[0].resources.requests[cpus]: Invalid value: "cpus": must be a standard"#,
        ),
        (
            "requests: {cpu: 0.5}",
            "requests: {example.com/gpu: 1}",
            "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        // handlers
        ("httpGet: {port: http}", "{}", "not valid YAML"),
        (
            "httpGet: {port: http}",
            "initialDelaySeconds: 1",
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            "httpGet: {port: http}",
            "httpGet: {port: http}\n      grpc: {port: 1}",
            "spec.containers[0].readinessProbe.grpc: Forbidden: may not specify more than 1 handler type",
        ),
        (
            "httpGet: {port: http}",
            "httpGet: {port: 0}",
            "spec.containers[0].readinessProbe.httpGet.port: Invalid value: 0",
        ),
        (
            "httpGet: {port: http}",
            "httpGet: {port: http, scheme: http}",
            r#"spec.containers[0].readinessProbe.httpGet.scheme: Unsupported value: "http""#,
        ),
        (
            "httpGet: {port: http}",
            "httpGet: {port: http, httpHeaders: [{name: 'a b', value: c}]}",
            "spec.containers[0].readinessProbe.httpGet.httpHeaders: Invalid value",
        ),
        (
            "httpGet: {port: http}",
            "exec: {command: []}",
            "spec.containers[0].readinessProbe.exec.command: Required value",
        ),
        (
            "periodSeconds: 2",
            "periodSeconds: -2",
            "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -2",
        ),
        (
            "periodSeconds: 2",
            "terminationGracePeriodSeconds: 2",
            "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value",
        ),
        (
            "    readinessProbe:",
            "    livenessProbe:\n      successThreshold: 2",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "{sleep: {seconds: 1}}",
            "{sleep: {seconds: 31}}",
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            "{sleep: {seconds: 1}}",
            "{}",
            "spec.containers[0].lifecycle.preStop: Required value",
        ),
    ] {
        let error = read(&edited(from, to)).expect_err(to).to_string();
        if !error.starts_with(expected) {
            wrong.push(format!(
                "with {to:?} in place of {from:?}:\n  {error}\ninstead of\n  {expected}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
