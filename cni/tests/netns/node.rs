//! A node on which the plugin is called.

use std::{
    fs,
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use bosun_net::Cidr;
use serde_json::{Value, json};

use crate::world::Namespace;

/// A node with the plugin's configuration.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) run_dir: tempfile::TempDir,
    pub(crate) config: Value,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) good: bool,
    pub(crate) json: Value,
}

impl Answer {
    pub(crate) fn result(self) -> Value {
        assert!(self.good, "{}", self.json);
        self.json
    }

    pub(crate) fn failure(self) -> (u64, String) {
        assert!(!self.good, "{}", self.json);
        assert!(self.json["cniVersion"].is_string(), "{}", self.json);
        (
            self.json["code"].as_u64().unwrap(),
            self.json["msg"].as_str().unwrap().to_owned(),
        )
    }
}

/// Container ids are new in every test, as a runtime's are.
pub(crate) fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Node {
    pub(crate) fn new(ranges: &[&str]) -> Self {
        let run_dir = tempfile::tempdir().unwrap();
        let config = json!({
            "cniVersion": "1.1.0",
            "name": "bosun",
            "type": "bosun-cni",
            "runDir": run_dir.path(),
            "ranges": ranges,
        });
        Self {
            namespace: Namespace::node(),
            run_dir,
            config,
        }
    }

    pub(crate) fn spawn(&self, verb: &str, id: &str, netns: Option<&str>, config: &Value) -> Child {
        #[allow(clippy::disallowed_methods, reason = "the plugin is a program")]
        let mut command = Command::new(env!("CARGO_BIN_EXE_bosun-cni"));
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/opt/cni/bin");
        command.env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=tests;K8S_POD_NAME=pod");
        if !id.is_empty() {
            command.env("CNI_CONTAINERID", id);
        }
        if let Some(netns) = netns {
            command.env("CNI_NETNS", netns);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // The child starts in the namespace of the thread that makes it.
        let mut child = self.namespace.run(|| command.spawn().unwrap());
        // A plugin killed by the test may be gone before it reads.
        let _ = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
        child
    }

    pub(crate) fn call(&self, verb: &str, id: &str, netns: Option<&str>, config: &Value) -> Answer {
        answer(self.spawn(verb, id, netns, config).wait_with_output().unwrap())
    }

    pub(crate) fn add(&self, id: &str, pod: &Namespace) -> Value {
        self.call("ADD", id, Some(pod.path()), &self.config).result()
    }

    pub(crate) fn del(&self, id: &str) {
        assert_eq!(self.call("DEL", id, None, &self.config).result(), Value::Null);
    }

    pub(crate) fn check(&self, id: &str, pod: &Namespace, previous: &Value) -> Answer {
        self.call(
            "CHECK",
            id,
            Some(pod.path()),
            &self.with("prevResult", previous.clone()),
        )
    }

    pub(crate) fn gc(&self, valid: &[&str]) -> Answer {
        let valid: Vec<_> = valid
            .iter()
            .map(|id| json!({ "containerID": id, "ifname": "eth0" }))
            .collect();
        self.call("GC", "", None, &self.with("cni.dev/valid-attachments", json!(valid)))
    }

    pub(crate) fn with(&self, key: &str, value: Value) -> Value {
        let mut config = self.config.clone();
        config[key] = value;
        config
    }

    pub(crate) fn ipam_dir(&self) -> PathBuf {
        self.run_dir.path().join("ipam/bosun")
    }

    /// The names of all records and owners.
    pub(crate) fn records(&self) -> Vec<String> {
        let names = |dir: &Path| {
            let entries = fs::read_dir(dir).into_iter().flatten();
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let mut records = names(&self.ipam_dir());
        records.retain(|name| !name.starts_with('.'));
        records.extend(names(&self.ipam_dir().join(".owners")));
        records
    }

    /// Nothing is left of any pod.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.namespace.wires(), Vec::<String>::new());
        assert_eq!(self.records(), Vec::<String>::new());
        assert!(
            self.namespace.routes().iter().all(|route| !route.ours),
            "{:?}",
            self.namespace.routes()
        );
    }
}

pub(crate) fn answer(output: Output) -> Answer {
    let text = String::from_utf8(output.stdout).unwrap();
    let json = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{json}");
    Answer {
        good: output.status.success(),
        json,
    }
}

/// The addresses an ADD gave.
pub(crate) fn ips(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap();
    ips.iter()
        .map(|ip| ip["address"].as_str().unwrap().parse::<Cidr>().unwrap().address())
        .collect()
}
