//! What a containerd that was killed leaves and the next one does not see: shims of containers that it was just
//! creating or deleting, their bundles, and network namespaces of sandboxes that it was just making.
//!
//! containerd records a container before it starts its shim. So a shim or bundle seen first, of a container that is
//! not on the list asked for afterwards, is on its way out; seen so twice, some time apart, it is left over. A sandbox
//! that was being created is on the list at first, and goes when it is removed, without its shim: hence several looks.
//! A sandbox's namespace comes before its record: one that no record names is left over if it is older than this
//! containerd.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use containerd_client::services::v1::{
    CreateRequest, DeleteRequest, Lease, ListContainersRequest, ListRequest, containers_client::ContainersClient,
    leases_client::LeasesClient,
};
use tokio::time::{sleep, timeout};
use tonic::Status;
use tracing::{debug, info, warn};

use super::{ManagedConfig, process, teardown};
use crate::{CriClient, client::MAX_MESSAGE, native::in_namespace};

/// Between two looks: far longer than containerd takes to delete a container.
const PERIOD: Duration = Duration::from_secs(5);

/// Looks after a start: what it recovered in a state that can't be used is removed within the first few.
const LOOKS: usize = 6;

/// How often containerd is asked, while it recovers, and how long it may take for an answer.
const ASKS: usize = 24;
const DEADLINE: Duration = Duration::from_secs(30);

/// Removes what is left over after a start of containerd.
pub(super) async fn sweep(config: &ManagedConfig) {
    let mut before = BTreeSet::new();
    let mut looks = 0;
    for _ in 0..ASKS {
        match left_over(config).await {
            Ok(found) => {
                let left: BTreeSet<String> = found.ids.intersection(&before).cloned().collect();
                if !left.is_empty() {
                    remove(config, &left).await;
                }
                remove_namespaces(&found.namespaces);
                before = found.ids;
                looks += 1;
                if (looks == 2 || looks == LOOKS)
                    && let Err(status) = collect_garbage(config).await
                {
                    debug!(%status, "containerd will collect what nothing refers to later");
                }
                if looks == LOOKS {
                    return;
                }
            }
            Err(status) => debug!(%status, "containerd does not list its containers yet"),
        }
        sleep(PERIOD).await;
    }
}

/// What is there without a container.
#[derive(Default)]
struct LeftOver {
    /// Of shims and bundles.
    ids: BTreeSet<String>,
    /// Where network namespaces are mounted that were made before this containerd started.
    namespaces: BTreeSet<PathBuf>,
}

async fn left_over(config: &ManagedConfig) -> Result<LeftOver, Status> {
    let mut seen = LeftOver {
        ids: shims(&config.socket),
        namespaces: old_namespaces(config),
    };
    seen.ids.extend(bundle_dirs(config).iter().flat_map(|dir| ids_in(dir)));
    if seen.ids.is_empty() && seen.namespaces.is_empty() {
        return Ok(seen);
    }
    let client = CriClient::connect(&config.endpoint()).map_err(|error| Status::internal(error.to_string()))?;
    let mut containers = ContainersClient::new(client.channel().clone()).max_decoding_message_size(MAX_MESSAGE);
    let answer = containers.list(in_namespace(ListContainersRequest { filters: vec![] }));
    let answer = timeout(DEADLINE, answer).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no list of containers from containerd in time"))??;
    for container in answer.into_inner().containers {
        seen.ids.remove(&container.id);
        let spec = container.spec.map(|spec| spec.value).unwrap_or_default();
        for path in network_namespaces(&spec) {
            seen.namespaces.remove(&path);
        }
    }
    Ok(seen)
}

/// Where the network namespaces are mounted that an earlier containerd made, in use or not.
fn old_namespaces(config: &ManagedConfig) -> BTreeSet<PathBuf> {
    let started = started(config);
    let entries = fs::read_dir(config.state.join("io.containerd.grpc.v1.cri/netns"));
    let entries = entries.into_iter().flatten().flatten();
    let old = entries.filter(|entry| {
        let made = entry.metadata().and_then(|namespace| namespace.modified()).ok();
        made.zip(started).is_some_and(|(made, started)| made < started)
    });
    old.map(|entry| entry.path()).collect()
}

/// The network namespaces that an OCI configuration names.
fn network_namespaces(spec: &[u8]) -> Vec<PathBuf> {
    let spec: serde_json::Value = serde_json::from_slice(spec).unwrap_or_default();
    let namespaces = spec.pointer("/linux/namespaces").and_then(|all| all.as_array());
    let of_networks = namespaces.into_iter().flatten().filter(|one| one["type"] == "network");
    of_networks
        .filter_map(|one| one["path"].as_str().map(PathBuf::from))
        .collect()
}

/// Takes the namespaces' last mounts away, with which they and their links go; their addresses are then free.
fn remove_namespaces(paths: &BTreeSet<PathBuf>) {
    let mut left = Vec::new();
    for path in paths {
        info!(path = %path.display(), "removing a network namespace that a killed containerd left");
        teardown::unmount_below(path, &mut left);
        teardown::tolerate(fs::remove_file(path), path, &mut left);
    }
    if !left.is_empty() {
        warn!(?left, "some of what a killed containerd left could not be removed");
    }
}

/// When this containerd was started: its configuration is written right before.
fn started(config: &ManagedConfig) -> Option<SystemTime> {
    fs::metadata(config.config_file()).and_then(|file| file.modified()).ok()
}

/// The containers that shims of this socket were started for.
fn shims(socket: &Path) -> BTreeSet<String> {
    let pids = process::all().unwrap_or_default().into_iter();
    let of_shims = pids
        .map(process::arguments)
        .filter(|arguments| teardown::is_shim(arguments, socket));
    of_shims
        .filter_map(|arguments| process::option(&arguments, "-id"))
        .collect()
}

/// Where containerd and runc keep a directory for each container.
fn bundle_dirs(config: &ManagedConfig) -> [PathBuf; 3] {
    let tasks = "io.containerd.runtime.v2.task/k8s.io";
    [
        config.state.join(tasks),
        config.root.join(tasks),
        config.state.join("runc/k8s.io"),
    ]
}

/// Ids of a directory's entries; a bundle that is being deleted has a dot before its id.
fn ids_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.map(|name| name.trim_start_matches('.').to_owned()).collect()
}

/// Has containerd collect what nothing refers to, such as the snapshot of a container that it was just creating: by
/// itself it does so only after many changes. It collects when a lease ends, if asked to.
async fn collect_garbage(config: &ManagedConfig) -> Result<(), Status> {
    let client = CriClient::connect(&config.endpoint()).map_err(|error| Status::internal(error.to_string()))?;
    let mut leases = LeasesClient::new(client.channel().clone());
    let started = started(config);
    let collected = async {
        // A call that was cut off still claims, for a day, what it was creating.
        let all = leases
            .list(in_namespace(ListRequest { filters: vec![] }))
            .await?
            .into_inner()
            .leases;
        for lease in all.into_iter().filter(|lease| is_stale(lease, started)) {
            let end = DeleteRequest {
                id: lease.id,
                sync: false,
            };
            leases.delete(in_namespace(end)).await?;
        }
        let lease = leases
            .create(in_namespace(CreateRequest::default()))
            .await?
            .into_inner()
            .lease;
        let id = lease.ok_or_else(|| Status::internal("containerd gave no lease"))?.id;
        leases
            .delete(in_namespace(DeleteRequest { id, sync: true }))
            .await
            .map(drop)
    };
    let collected = timeout(DEADLINE, collected).await;
    collected.unwrap_or_else(|_| Err(Status::deadline_exceeded("no end of collecting in time")))
}

/// Whether a lease is of a containerd before the one that was started then. An import of ours lives on with its own
/// process.
fn is_stale(lease: &Lease, started: Option<SystemTime>) -> bool {
    let created = lease.created_at.and_then(|created| SystemTime::try_from(created).ok());
    let before = created.zip(started).is_some_and(|(created, started)| created < started);
    before && !lease.id.starts_with("bosun-import-")
}

async fn remove(config: &ManagedConfig, ids: &BTreeSet<String>) {
    info!(
        ?ids,
        "removing what a killed containerd left of containers that are no more"
    );
    let mut left = Vec::new();
    let of_these = |arguments: &[std::ffi::OsString]| {
        teardown::is_shim(arguments, &config.socket)
            && process::option(arguments, "-id").is_some_and(|id| ids.contains(&id))
    };
    teardown::kill(&of_these, &mut left).await;
    if left.is_empty() {
        let bundles = teardown::bundles(&config.state);
        let bundles = bundles
            .into_iter()
            .filter(|(id, _)| ids.contains(id.trim_start_matches('.')));
        teardown::remove_cgroups(&bundles.collect(), &mut left).await;
        for dir in bundle_dirs(config) {
            for path in ids.iter().flat_map(|id| [dir.join(id), dir.join(format!(".{id}"))]) {
                teardown::unmount_below(&path, &mut left);
                teardown::tolerate(fs::remove_dir_all(&path), &path, &mut left);
            }
        }
    }
    if !left.is_empty() {
        warn!(?left, "some of what a killed containerd left could not be removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_stale_that_was_made_before_containerd_started_and_is_no_import_of_ours() {
        let started = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100));
        let lease = |id: &str, seconds| Lease {
            id: id.into(),
            created_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Lease::default()
        };
        for (lease, stale) in [
            (lease("1-abc", 99), true),
            (lease("1-abc", 101), false),
            (lease("bosun-import-1", 99), false),
            (Lease::default(), false),
        ] {
            assert_eq!(is_stale(&lease, started), stale, "{lease:?}");
        }
        assert!(!is_stale(&lease("1-abc", 99), None), "nobody knows when it started");
    }

    #[test]
    fn the_network_namespaces_of_a_container_are_those_its_configuration_names() {
        let spec = br#"{"linux": {"namespaces": [
            {"type": "pid"}, {"type": "network", "path": "/run/netns/cni-1"}, {"type": "ipc", "path": "/proc/1/ns/ipc"}
        ]}}"#;
        assert_eq!(network_namespaces(spec), [PathBuf::from("/run/netns/cni-1")]);
        for none in [&b""[..], b"{}", br#"{"linux": {"namespaces": [{"type": "network"}]}}"#] {
            assert!(network_namespaces(none).is_empty());
        }
    }

    #[test]
    fn a_bundle_that_is_being_deleted_bears_its_id_after_a_dot() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["abc", ".def"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let mut ids = ids_in(dir.path());
        ids.sort();
        assert_eq!(ids, ["abc", "def"]);
        assert!(ids_in(&dir.path().join("none")).is_empty());
    }
}
