//! Where things are on this node. Pure.

use std::path::{Path, PathBuf};

use bosun_api::{ContainerId, PodKey, PodUid};

/// The node's directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// What must survive a reboot (`/var/lib/bosun`).
    pub data: PathBuf,
    /// Pod directories are `<root>/pods/<uid>` (`/var/lib/kubelet`).
    pub root: PathBuf,
    /// Logs are under `<logs>/pods` and `<logs>/containers` (`/var/log`).
    pub logs: PathBuf,
    /// What must not survive a reboot (`/run/bosun`).
    pub run: PathBuf,
}

impl Places {
    /// The agent's local, read-only status socket.
    pub fn agent_socket(&self) -> PathBuf {
        self.run.join("agent.sock")
    }

    /// What the agent remembers of pods across its own restart.
    pub fn checkpoints(&self) -> PathBuf {
        self.data.join("checkpoints")
    }

    /// What the agent remembers of one pod.
    pub fn checkpoint(&self, uid: &PodUid) -> PathBuf {
        self.checkpoints().join(format!("{uid}.json"))
    }

    /// Good manifests, remembered for when a file is broken while the agent is down.
    pub fn manifests(&self) -> PathBuf {
        self.data.join("manifests")
    }

    /// Everything on disk that belongs to one pod.
    pub fn pod(&self, uid: &PodUid) -> PathBuf {
        self.root.join("pods").join(uid.as_str())
    }

    /// The pod's `/etc/hosts`.
    pub fn hosts_file(&self, uid: &PodUid) -> PathBuf {
        self.pod(uid).join("etc-hosts")
    }

    /// A volume of the pod, at upstream's place for its plugin (`kubernetes.io~empty-dir`).
    pub fn volume(&self, uid: &PodUid, plugin: &str, name: &str) -> PathBuf {
        self.pod(uid).join("volumes").join(plugin).join(name)
    }

    /// The file that a container may leave its last words in.
    pub fn termination_message(&self, uid: &PodUid, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid)
            .join("containers")
            .join(container)
            .join(attempt.to_string())
    }

    /// The pod's log directory.
    pub fn pod_logs(&self, key: &PodKey, uid: &PodUid) -> PathBuf {
        let name = format!("{}_{}_{uid}", key.namespace, key.name);
        self.logs.join("pods").join(name)
    }

    /// A container's log, relative to [`Places::pod_logs`].
    pub fn log_file(container: &str, attempt: u32) -> PathBuf {
        Path::new(container).join(format!("{attempt}.log"))
    }

    /// The link by which log shippers find a container's log.
    pub fn log_link(&self, key: &PodKey, container: &str, id: &ContainerId) -> PathBuf {
        let name = format!("{}_{}_{container}-{id}.log", key.name, key.namespace);
        self.logs.join("containers").join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_volumes_are_where_shippers_and_drivers_look() {
        let places = Places {
            data: "/var/lib/bosun".into(),
            root: "/var/lib/kubelet".into(),
            logs: "/var/log".into(),
            run: "/run/bosun".into(),
        };
        let key = PodKey {
            namespace: "default".into(),
            name: "web-node1".into(),
        };
        let uid = PodUid::from("u1");
        assert_eq!(
            places.pod_logs(&key, &uid).join(Places::log_file("app", 2)),
            Path::new("/var/log/pods/default_web-node1_u1/app/2.log")
        );
        assert_eq!(
            places.log_link(&key, "app", &"c9".into()),
            Path::new("/var/log/containers/web-node1_default_app-c9.log")
        );
        assert_eq!(
            places.volume(&uid, "kubernetes.io~empty-dir", "scratch"),
            Path::new("/var/lib/kubelet/pods/u1/volumes/kubernetes.io~empty-dir/scratch")
        );
    }
}
