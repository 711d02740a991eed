mod mistakes;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// A pod with one container of each kind of thing, as a person would write it.
const WEB: &str = r#"
# the demo
apiVersion: v1
kind: Pod
metadata:
  name: web
  labels: {app: web, version: "2"}
spec:
  hostNetwork: no
  initContainers:
  - name: sidecar
    image: registry.example:5000/side
    restartPolicy: Always
  containers:
  - name: web
    image: busybox:1.36
    command: [sh, -c, "exec httpd -f -p $(PORT)"]
    env:
    - {name: PORT, value: "8080"}
    - name: NODE
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    ports:
    - {name: http, containerPort: 8080}
    resources:
      requests: {cpu: 0.5}
      limits: {cpu: 1, memory: 64Mi}
    readinessProbe:
      httpGet: {port: http}
      periodSeconds: 2
    lifecycle:
      preStop: {sleep: {seconds: 1}}
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: host, mountPath: /host, readOnly: true}
  volumes:
  - name: data
  - name: host
    hostPath: {path: /var/lib/data}
"#;

fn read(text: &str) -> Result<Pod, ManifestError> {
    decode(text.as_bytes(), "web.yaml", "Node-1")
}

/// `WEB` with one piece of text replaced.
fn edited(from: &str, to: &str) -> String {
    assert!(WEB.contains(from), "{from} is not in the manifest");
    WEB.replacen(from, to, 1)
}

fn uid(text: &str) -> String {
    read(text).unwrap().metadata.uid.unwrap()
}

#[test]
fn a_manifest_becomes_a_pod_with_upstreams_defaults_and_identity() {
    let pod = serde_json::to_value(read(WEB).unwrap()).unwrap();
    let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
    assert_eq!(uid.len(), 32);
    let at = |path: &str| pod.pointer(path).cloned().unwrap_or(Value::Null);
    for (path, expected) in [
        ("/metadata/name", json!("web-node-1")),
        ("/metadata/namespace", json!("default")),
        ("/metadata/annotations/kubernetes.io~1config.source", json!("file")),
        ("/metadata/annotations/kubernetes.io~1config.hash", json!(uid)),
        ("/spec/nodeName", json!("Node-1")),
        ("/spec/hostNetwork", json!(false)),
        ("/spec/restartPolicy", json!("Always")),
        ("/spec/dnsPolicy", json!("ClusterFirst")),
        ("/spec/schedulerName", json!("default-scheduler")),
        ("/spec/enableServiceLinks", json!(true)),
        ("/spec/securityContext", json!({})),
        ("/spec/terminationGracePeriodSeconds", json!(30)),
        (
            "/spec/tolerations",
            json!([{"effect": "NoExecute", "operator": "Exists"}]),
        ),
        ("/spec/initContainers/0/imagePullPolicy", json!("Always")),
        ("/spec/containers/0/imagePullPolicy", json!("IfNotPresent")),
        (
            "/spec/containers/0/terminationMessagePath",
            json!("/dev/termination-log"),
        ),
        ("/spec/containers/0/terminationMessagePolicy", json!("File")),
        ("/spec/containers/0/ports/0/protocol", json!("TCP")),
        ("/spec/containers/0/ports/0/hostPort", Value::Null),
        ("/spec/containers/0/env/1/valueFrom/fieldRef/apiVersion", json!("v1")),
        (
            "/spec/containers/0/resources/requests",
            json!({"cpu": "0.5", "memory": "64Mi"}),
        ),
        (
            "/spec/containers/0/resources/limits",
            json!({"cpu": "1", "memory": "64Mi"}),
        ),
        (
            "/spec/containers/0/readinessProbe",
            json!({
                "httpGet": {"path": "/", "port": "http", "scheme": "HTTP"},
                "periodSeconds": 2, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3,
            }),
        ),
        ("/spec/volumes/0", json!({"name": "data", "emptyDir": {}})),
        (
            "/spec/volumes/1",
            json!({"name": "host", "hostPath": {"path": "/var/lib/data", "type": ""}}),
        ),
        ("/status", Value::Null),
    ] {
        assert_eq!(at(path), expected, "{path}");
    }
}

#[test]
fn setting_defaults_twice_changes_nothing() {
    let mut pod = read(WEB).unwrap();
    let once = pod.clone();
    defaults(&mut pod);
    assert_eq!(pod, once);
}

#[test]
fn images_are_pulled_always_when_their_tag_is_latest() {
    for (image, policy) in [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("registry.example:5000/busybox", "Always"),
        ("busybox:latest@sha256:00", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        ("registry.example:5000/busybox:1.36", "IfNotPresent"),
        ("busybox@sha256:00", "IfNotPresent"),
    ] {
        let pod = read(&edited("busybox:1.36", image)).unwrap();
        assert_eq!(
            pod.spec.unwrap().containers[0].image_pull_policy.as_deref(),
            Some(policy),
            "{image}"
        );
    }
}

#[test]
fn the_ports_of_a_pod_in_the_nodes_network_are_the_nodes() {
    let pod = read(&edited("hostNetwork: no", "hostNetwork: yes")).unwrap();
    assert_eq!(
        pod.spec.unwrap().containers[0].ports.as_ref().unwrap()[0].host_port,
        Some(8080)
    );
}

#[test]
fn requests_of_the_whole_pod_default_to_what_its_containers_need_together() {
    let pod = read(&edited("hostNetwork: no", "resources: {limits: {cpu: 4, memory: 1Gi}}")).unwrap();
    let requests = pod.spec.unwrap().resources.unwrap().requests.unwrap();
    assert_eq!(requests["cpu"].0, "500m");
    assert_eq!(requests["memory"].0, "64Mi");
}

#[test]
fn file_modes_in_octal_and_json_with_tabs_are_read() {
    let json = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\n\t\t\"containers\": [{\"name\": \"a\", \"image\": \"b\"}]}}";
    assert_eq!(read(json).unwrap().metadata.name.as_deref(), Some("a-node-1"));
    let octal = syntax::parse(b"mode: 0644").unwrap();
    assert_eq!(octal["mode"], 420);
}

#[test]
fn a_file_that_holds_no_pod_is_told_so() {
    for (text, expected) in [
        ("", "holds no object"),
        ("# nothing yet\n---\n", "holds no object"),
        ("just words", "holds a bare value, not a Pod"),
        ("[1, 2]", "holds a bare value, not a Pod"),
        ("kind: Pod", "holds a Pod without an apiVersion"),
        ("apiVersion: v1", "holds an object without a kind"),
        ("apiVersion: apps/v1\nkind: Deployment", "holds a Deployment of apps/v1"),
        (
            "apiVersion: v1\nkind: PodList\nitems: []",
            "holds a PodList: write each pod",
        ),
        ("apiVersion: v1\nkind: List\nitems: []", "holds a List: write each pod"),
        (
            "a: 1\n---\nb: 2\n",
            "holds 2 documents: write each pod in a file of its own",
        ),
        ("a: [1, 2", "not valid YAML or JSON: "),
        ("a: 1\na: 2", "not valid YAML or JSON: "),
        ("{\"a\": 1, \"a\": 2}", "not valid YAML or JSON: "),
        (
            "apiVersion: v1\nkind: Pod\nspec:\n  contai",
            "spec: Invalid type: string \"contai\"",
        ),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text:?} gave {error:?}");
        assert!(!error.contains('\n'), "{error:?} takes several lines");
    }
    assert_eq!(
        decode(b"a: \xff", "f", "n").unwrap_err().to_string(),
        "not valid YAML or JSON: byte 3 is not UTF-8"
    );
}

#[test]
fn several_documents_of_which_one_says_something_are_one() {
    assert!(read(&format!("---\n# comment\n---\n{WEB}\n---\n")).is_ok());
}

#[test]
fn all_mistakes_are_reported_at_once() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {}\nspec:\n  containers:\n  - {}\n";
    assert_eq!(
        read(text).unwrap_err().to_string(),
        "metadata.name: Required value; spec.containers[0].name: Required value; \
         spec.containers[0].image: Required value"
    );
    assert_eq!(
        read("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n")
            .unwrap_err()
            .to_string(),
        "spec: Required value"
    );
}

#[test]
fn the_uid_follows_what_is_written_and_nothing_else() {
    let original = uid(WEB);
    assert_eq!(uid(WEB), original, "it is the same each time");
    assert_eq!(
        uid(&edited("# the demo", "# another comment")),
        original,
        "comments don't count"
    );
    assert_eq!(
        uid(&edited("{app: web, version: \"2\"}", "{version: '2', app: web}")),
        original,
        "order doesn't count"
    );
    assert_ne!(
        uid(&edited("busybox:1.36", "busybox:1.37")),
        original,
        "an image counts"
    );
    assert_ne!(
        uid(&edited("hostNetwork: no", "hostPID: no")),
        original,
        "a field's name counts"
    );
    assert_ne!(
        decode(WEB.as_bytes(), "other.yaml", "Node-1")
            .unwrap()
            .metadata
            .uid
            .unwrap(),
        original,
        "the file counts"
    );
    assert_ne!(
        decode(WEB.as_bytes(), "web.yaml", "node-2")
            .unwrap()
            .metadata
            .uid
            .unwrap(),
        original,
        "the node counts"
    );
    let json = serde_json::to_string(&syntax::parse(WEB.as_bytes()).unwrap()).unwrap();
    assert_eq!(uid(&json), original, "YAML or JSON doesn't count");
}

#[test]
fn what_only_an_api_server_says_is_dropped() {
    let from_a_cluster = edited(
        "  name: web\n  labels",
        "  name: web\n  uid: 1-2\n  resourceVersion: '7'\n  creationTimestamp: null\n  labels",
    ) + "status: {phase: Running}\n";
    let pod = read(&from_a_cluster).unwrap();
    assert_eq!(pod.metadata.resource_version, None);
    assert_ne!(pod.metadata.uid.as_deref(), Some("1-2"));
    assert_eq!(pod.status, None);
}

#[test]
fn a_name_too_long_with_the_nodes_is_refused() {
    let name = "a".repeat(250);
    let error = read(&edited("  name: web\n  labels", &format!("  name: {name}\n  labels")))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("metadata.name: Invalid value") && error.contains("no more than 253"),
        "{error}"
    );
}

#[test]
fn bombs_are_refused_before_they_cost_anything() {
    use std::fmt::Write;
    let mut aliases = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let references = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(aliases, "a{level}: &a{level} [{references}]").unwrap();
    }
    let deep = "[".repeat(100_000);
    let wide = format!("a: [{}]", "1,".repeat(1_000_000));
    for (name, bomb) in [("aliases", aliases), ("deep", deep), ("wide", wide)] {
        let error = read(&bomb).unwrap_err();
        assert!(matches!(error, ManifestError::Syntax(_)), "{name}: {error}");
        assert!(
            error.to_string().len() < 1000,
            "{name}: the message is as long as the bomb"
        );
    }
    assert_eq!(
        decode(&vec![b'#'; MAX_BYTES + 1], "f", "n"),
        Err(ManifestError::TooLong)
    );
}

/// Pieces that meet the parser and the typed decoder deeper than random text does.
fn piece() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "apiVersion: v1\n",
        "kind: Pod\n",
        "metadata:\n",
        "  name: a\n",
        "spec:\n",
        "  containers:\n",
        "  - name: a\n",
        "    image: b\n",
        "    env: [{name: A, value: 1}]\n",
        "    ports: [{containerPort: -1}]\n",
        "- ",
        "  ",
        "\n",
        "---\n",
        "&a ",
        "*a",
        "<<: *a\n",
        "!!binary ",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "#",
        "0644",
        "1e999",
        ".nan",
        "~",
        "\t",
        "\u{0}",
        "\u{feff}",
        "é",
        "    resources: {limits: {cpu: 1}}\n",
        "    livenessProbe: {httpGet: {port: a}}\n",
        "  volumes: [{name: v}]\n",
        "%YAML 1.2\n",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&bytes, "file", "node");
    }

    #[test]
    fn any_words_of_a_manifest_are_read_or_refused_without_a_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let _ = decode(pieces.concat().as_bytes(), "file", "node");
    }

    #[test]
    fn a_manifest_cut_off_or_damaged_anywhere_is_read_or_refused(end in 0..WEB.len(), place in 0..WEB.len(), byte in any::<u8>()) {
        let _ = decode(&WEB.as_bytes()[..end], "file", "node");
        let mut damaged = WEB.as_bytes().to_vec();
        damaged[place] = byte;
        let _ = decode(&damaged, "file", "node");
    }
}
