//! Builders for pod manifests: short for what most tests need, any field by its path for the rest.

use serde_json::{Map, Value, json};

/// The image that `hack/images` makes of a static busybox.
pub const DEMO_IMAGE: &str = "bosun.dev/demo:1";

/// A pod called `name`, without containers yet.
pub fn pod(name: &str) -> Pod {
    let manifest = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "terminationGracePeriodSeconds": 2, "containers": [] },
    });
    Pod(manifest)
}

/// A container of the demo image that runs `command`.
pub fn container(name: &str, command: &[&str]) -> Container {
    Container(json!({ "name": name, "image": DEMO_IMAGE, "imagePullPolicy": "Never", "command": command }))
}

/// A container whose main process is a shell with this script.
pub fn shell(name: &str, script: &str) -> Container {
    container(name, &["/bin/sh", "-c", script])
}

/// A container that runs until it is told to end, and then ends at once.
pub fn idle(name: &str) -> Container {
    shell(name, "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done")
}

/// A container that answers HTTP on port 8080 with `answer`.
pub fn web(name: &str, answer: &str) -> Container {
    let script = format!(
        "mkdir -p /tmp/www; echo {answer} >/tmp/www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp/www & wait"
    );
    shell(name, &script)
}

/// A pod manifest.
#[derive(Clone, Debug)]
pub struct Pod(Value);

impl Pod {
    /// Adds a container.
    pub fn with(self, container: Container) -> Self {
        self.push("/spec/containers", container.0)
    }

    /// Adds an init container.
    pub fn init(self, container: Container) -> Self {
        self.push("/spec/initContainers", container.0)
    }

    /// Adds a volume of this name: `{"emptyDir": {}}`, `{"hostPath": {…}}`.
    pub fn volume(self, name: &str, source: Value) -> Self {
        let mut volume = json!({ "name": name });
        if let (Some(volume), Value::Object(source)) = (volume.as_object_mut(), source) {
            volume.extend(source);
        }
        self.push("/spec/volumes", volume)
    }

    /// Sets the field at a JSON pointer, making what is missing above it.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        *at(&mut self.0, pointer) = value;
        self
    }

    /// `Always`, `OnFailure` or `Never`.
    pub fn restart(self, policy: &str) -> Self {
        self.set("/spec/restartPolicy", policy.into())
    }

    /// Seconds between a polite end and a forced one.
    pub fn grace(self, seconds: u32) -> Self {
        self.set("/spec/terminationGracePeriodSeconds", seconds.into())
    }

    /// The pod's name.
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// The manifest's text.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.0)
    }

    fn push(mut self, pointer: &str, value: Value) -> Self {
        let list = at(&mut self.0, pointer);
        match list {
            Value::Array(list) => list.push(value),
            other => *other = Value::Array(vec![value]),
        }
        self
    }
}

/// A container in a manifest.
#[derive(Clone, Debug)]
pub struct Container(Value);

impl Container {
    /// Sets the field at a JSON pointer, making what is missing above it.
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        *at(&mut self.0, pointer) = value;
        self
    }

    /// Another image.
    pub fn image(self, image: &str) -> Self {
        self.set("/image", image.into())
    }

    /// An environment variable.
    pub fn env(self, name: &str, value: &str) -> Self {
        self.push("/env", json!({ "name": name, "value": value }))
    }

    /// A place for a volume.
    pub fn mount(self, volume: &str, path: &str) -> Self {
        self.push("/volumeMounts", json!({ "name": volume, "mountPath": path }))
    }

    /// A probe of one kind (`liveness`, `readiness`, `startup`), looking every second from the start on.
    pub fn probe(self, kind: &str, handler: Value) -> Self {
        let mut probe = json!({ "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 2 });
        if let (Some(probe), Value::Object(handler)) = (probe.as_object_mut(), handler) {
            probe.extend(handler);
        }
        self.set(&format!("/{kind}Probe"), probe)
    }

    fn push(mut self, pointer: &str, value: Value) -> Self {
        match at(&mut self.0, pointer) {
            Value::Array(list) => list.push(value),
            other => *other = Value::Array(vec![value]),
        }
        self
    }
}

/// The value at a JSON pointer of object keys, made if missing.
fn at<'a>(value: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(value, |value, key| {
        if let Value::Array(list) = value {
            let index = key.parse::<usize>().expect("an index into a list");
            return &mut list[index];
        }
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        value
            .as_object_mut()
            .expect("made an object above")
            .entry(key)
            .or_insert(Value::Null)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_has_what_was_asked_for() {
        let pod = pod("a")
            .with(idle("x").env("A", "1").mount("v", "/v"))
            .volume("v", json!({ "emptyDir": {} }));
        let pod = pod
            .set("/metadata/labels/app", "web".into())
            .set("/spec/containers/0/tty", true.into());
        let value: Value = serde_json::from_str(&pod.text()).expect("json");
        assert_eq!(value["metadata"]["labels"]["app"], "web");
        assert_eq!(
            value["spec"]["containers"][0]["env"],
            json!([{ "name": "A", "value": "1" }])
        );
        assert_eq!(value["spec"]["containers"][0]["tty"], true);
        assert_eq!(value["spec"]["volumes"], json!([{ "name": "v", "emptyDir": {} }]));
        assert_eq!(pod.name(), "a");
    }

    #[test]
    fn a_probe_keeps_its_handler_beside_the_timing() {
        let container = idle("x").probe("liveness", json!({ "tcpSocket": { "port": 1 }, "periodSeconds": 5 }));
        assert_eq!(container.0["livenessProbe"]["tcpSocket"]["port"], 1);
        assert_eq!(container.0["livenessProbe"]["periodSeconds"], 5);
    }
}
