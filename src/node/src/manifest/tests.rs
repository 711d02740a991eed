//! The source, on real directories.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bosun_api::core::Pod;
use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;
use tokio::{runtime::Handle, sync::mpsc::Receiver, time::timeout};

use super::{ManifestEvent, ManifestSource};

/// Nothing here takes this long, however busy the machine is.
const SOON: Duration = Duration::from_secs(20);

fn manifest(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec:\n  containers:\n  - name: c\n    image: \"{image}\"\n"
    )
}

/// A directory, its source, and what has been heard from it.
struct Heard {
    root: TempDir,
    source: Option<ManifestSource>,
    events_rx: Receiver<ManifestEvent>,
    pods: BTreeMap<String, Arc<Pod>>,
    problems: BTreeMap<String, String>,
    synced: bool,
}

impl Heard {
    /// Starts a source over a directory that holds `files`.
    async fn start(files: &[(&str, &str)]) -> Self {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("manifests")).unwrap();
        for (file, content) in files {
            fs::write(root.path().join("manifests").join(file), content).unwrap();
        }
        let mut heard = Self::over(root);
        heard.until_synced().await;
        heard
    }

    fn over(root: TempDir) -> Self {
        let (source, events_rx) = open(root.path());
        let (pods, problems) = Default::default();
        Self {
            root,
            source: Some(source),
            events_rx,
            pods,
            problems,
            synced: false,
        }
    }

    /// Ends the source and starts another, as a restart of the agent does.
    async fn restart(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { root, source, .. } = self;
        drop(source);
        meanwhile(&root.path().join("manifests"));
        let mut heard = Self::over(root);
        heard.until_synced().await;
        heard
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join("manifests").join(file)
    }

    fn write(&self, file: &str, content: &str) {
        fs::write(self.path(file), content).unwrap();
    }

    /// Takes one event into account.
    async fn next(&mut self) -> ManifestEvent {
        let event = timeout(SOON, self.events_rx.recv()).await;
        let event = event
            .unwrap_or_else(|_| panic!("nothing more is heard: {self:?}"))
            .expect("the source has ended");
        match event.clone() {
            ManifestEvent::Valid { file, pod } => {
                self.problems.remove(&file);
                self.pods.insert(file, pod);
            }
            ManifestEvent::Invalid { file, error } => {
                self.problems.insert(file, error.to_string());
            }
            ManifestEvent::Removed { file } => {
                self.problems.remove(&file);
                self.pods.remove(&file);
            }
            ManifestEvent::Synced => self.synced = true,
        }
        event
    }

    async fn until_synced(&mut self) {
        while !self.synced {
            self.next().await;
        }
    }

    /// Listens until the pods are these, each `file=pod/image`.
    async fn until(&mut self, expected: &str) {
        while self.told() != expected {
            self.next().await;
        }
    }

    /// Listens until a file has a problem whose words contain these.
    async fn until_problem(&mut self, file: &str, words: &str) {
        while !self.problems.get(file).is_some_and(|problem| problem.contains(words)) {
            self.next().await;
        }
    }

    fn told(&self) -> String {
        let word = |(file, pod): (&String, &Arc<Pod>)| {
            let name = pod.metadata.name.as_deref().unwrap().trim_end_matches("-node");
            let image = pod.spec.as_ref().unwrap().containers[0].image.as_deref().unwrap();
            format!("{file}={name}/{image}")
        };
        self.pods.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    /// The newest event about a file that is written now: everything before has been heard.
    async fn nothing_but(&mut self, marker: &str) {
        self.write(marker, &manifest("marker", "m"));
        let event = self.next().await;
        assert!(
            matches!(&event, ManifestEvent::Valid { file, .. } if file == marker),
            "{event:?}"
        );
        fs::remove_file(self.path(marker)).unwrap();
        assert_eq!(
            self.next().await,
            ManifestEvent::Removed {
                file: marker.to_owned()
            }
        );
    }
}

impl std::fmt::Debug for Heard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "pods {}, problems {:?}, synced {}",
            self.told(),
            self.problems,
            self.synced
        )
    }
}

fn open(root: &Path) -> (ManifestSource, Receiver<ManifestEvent>) {
    ManifestSource::start(root.join("manifests"), "node".to_owned(), root.join("memory"))
}

#[tokio::test]
async fn what_is_there_at_the_start_is_told_in_the_order_of_names_and_then_that_it_was_all() {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("manifests");
    fs::create_dir(&dir).unwrap();
    for (file, content) in [
        ("c.yaml", manifest("c", "i")),
        ("a.yaml", manifest("a", "i")),
        ("b.json", "{".to_owned()),
        ("d", manifest("a", "i")),
    ] {
        fs::write(dir.join(file), content).unwrap();
    }
    for ignored in [".hidden.yaml", "a.yaml~", "#a.yaml#", ".a.yaml.swp"] {
        fs::write(dir.join(ignored), manifest("ignored", "i")).unwrap();
    }
    fs::create_dir(dir.join("directory")).unwrap();
    let mut heard = Heard::over(root);
    let mut order = Vec::new();
    while !heard.synced {
        order.push(match heard.next().await {
            ManifestEvent::Valid { file, .. } => format!("{file} good"),
            ManifestEvent::Invalid { file, .. } => format!("{file} bad"),
            ManifestEvent::Removed { file } => format!("{file} gone"),
            ManifestEvent::Synced => "synced".to_owned(),
        });
    }
    assert_eq!(order, ["a.yaml good", "c.yaml good", "b.json bad", "d bad", "synced"]);
    assert_eq!(
        heard.problems["d"],
        "defines the pod default/a-node, as the file a.yaml does: change the name of one, or remove a file"
    );
}

#[tokio::test]
async fn files_written_changed_and_removed_are_followed() {
    let mut heard = Heard::start(&[]).await;
    heard.write("a.yaml", &manifest("a", "1"));
    heard.until("a.yaml=a/1").await;
    heard.write("a.yaml", &manifest("a", "2"));
    heard.until("a.yaml=a/2").await;
    fs::write(heard.path(".a.tmp"), manifest("a", "3")).unwrap();
    fs::rename(heard.path(".a.tmp"), heard.path("a.yaml")).unwrap();
    heard.until("a.yaml=a/3").await;
    fs::rename(heard.path("a.yaml"), heard.path("b.yaml")).unwrap();
    heard.until("b.yaml=a/3").await;
    fs::hard_link(heard.path("b.yaml"), heard.path("a.yaml")).unwrap();
    heard.until_problem("b.yaml", "as the file a.yaml does").await;
    heard.until("a.yaml=a/3").await;
    fs::remove_file(heard.path("a.yaml")).unwrap();
    heard.until("b.yaml=a/3").await;
    fs::remove_file(heard.path("b.yaml")).unwrap();
    heard.until("").await;
}

#[tokio::test]
async fn a_change_is_acted_upon_within_100_ms() {
    let mut heard = Heard::start(&[]).await;
    let mut took = Vec::new();
    for version in 0..10 {
        heard.write("a.yaml", &manifest("a", &version.to_string()));
        let written = Instant::now();
        heard.until(&format!("a.yaml=a/{version}")).await;
        took.push(written.elapsed());
    }
    // Other tests share the machine: the quickest says what the source itself needs.
    let quickest = took.iter().min().unwrap();
    assert!(*quickest < Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn a_file_is_read_when_its_writer_closes_it() {
    let mut heard = Heard::start(&[]).await;
    let text = manifest("a", "1");
    let mut file = fs::File::create(heard.path("a.yaml")).unwrap();
    file.write_all(&text.as_bytes()[..40]).unwrap();
    heard.nothing_but("marker").await;
    file.write_all(&text.as_bytes()[40..]).unwrap();
    drop(file);
    let event = heard.next().await;
    assert!(matches!(event, ManifestEvent::Valid { .. }), "{event:?}");
}

#[tokio::test]
async fn a_broken_file_is_told_and_leaves_its_earlier_pod_and_the_others_alone() {
    let mut heard = Heard::start(&[("a.yaml", &manifest("a", "1")), ("b.yaml", &manifest("b", "1"))]).await;
    let broken = manifest("a", "2").replace("image", "imge");
    heard.write("a.yaml", &broken);
    heard
        .until_problem("a.yaml", r#"unknown field "spec.containers[0].imge""#)
        .await;
    heard.write("a.yaml", "apiVersion: v1\nkind: Po");
    heard.until_problem("a.yaml", "holds a Po of v1, not a Pod").await;
    assert_eq!(heard.told(), "a.yaml=a/1 b.yaml=b/1");
    heard.write("a.yaml", &manifest("a", "3"));
    heard.until("a.yaml=a/3 b.yaml=b/1").await;
    assert!(heard.problems.is_empty(), "{heard:?}");
}

#[tokio::test]
async fn a_file_broken_while_the_agent_is_down_leaves_its_pod_alone() {
    let heard = Heard::start(&[("a.yaml", &manifest("a", "1")), ("b.yaml", &manifest("b", "1"))]).await;
    let uid = heard.pods["a.yaml"].metadata.uid.clone();
    let mut heard = heard
        .restart(|dir| {
            fs::write(dir.join("a.yaml"), "half of it").unwrap();
            fs::remove_file(dir.join("b.yaml")).unwrap();
        })
        .await;
    assert_eq!(heard.told(), "a.yaml=a/1");
    assert_eq!(heard.pods["a.yaml"].metadata.uid, uid, "it is the same pod");
    assert!(heard.problems["a.yaml"].contains("not a Pod"), "{heard:?}");
    let remembered = |root: &Path| fs::read_dir(root.join("memory")).unwrap().count();
    assert_eq!(remembered(heard.root.path()), 1, "what is gone is forgotten");
    fs::remove_file(heard.path("a.yaml")).unwrap();
    heard.until("").await;
    assert_eq!(remembered(heard.root.path()), 0);
    let heard = heard
        .restart(|dir| fs::write(dir.join("a.yaml"), "half").unwrap())
        .await;
    assert_eq!(heard.told(), "", "a pod that was removed does not come back");
}

#[tokio::test]
async fn what_can_not_be_remembered_is_no_obstacle() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("memory"), "a file in the way").unwrap();
    let mut heard = Heard::over(root);
    heard.until_synced().await;
    heard.write("a.yaml", &manifest("a", "1"));
    heard.until("a.yaml=a/1").await;
    fs::remove_file(heard.path("a.yaml")).unwrap();
    heard.until("").await;
}

#[tokio::test]
async fn links_are_followed_and_their_targets_watched() {
    let mut heard = Heard::start(&[]).await;
    let target = heard.root.path().join("elsewhere.yaml");
    fs::write(&target, manifest("a", "1")).unwrap();
    symlink(&target, heard.path("a.yaml")).unwrap();
    heard.until("a.yaml=a/1").await;
    fs::write(&target, manifest("a", "2")).unwrap();
    heard.until("a.yaml=a/2").await;
    // Replaced by name, as configuration management does; the new target is watched in turn.
    let next = heard.root.path().join("next.yaml");
    for version in ["3", "4"] {
        fs::write(&next, manifest("a", version)).unwrap();
        fs::rename(&next, &target).unwrap();
        heard.until(&format!("a.yaml=a/{version}")).await;
    }
    fs::remove_file(&target).unwrap();
    heard.until("").await;
}

#[tokio::test]
async fn a_directory_of_links_through_one_link_is_followed_when_that_is_swapped() {
    let mut heard = Heard::start(&[]).await;
    for version in ["1", "2"] {
        let data = heard.path(&format!("..v{version}"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("a.yaml"), manifest("a", version)).unwrap();
    }
    symlink("..v1", heard.path("..data")).unwrap();
    symlink("..data/a.yaml", heard.path("a.yaml")).unwrap();
    heard.until("a.yaml=a/1").await;
    symlink("..v2", heard.path("..data_tmp")).unwrap();
    fs::rename(heard.path("..data_tmp"), heard.path("..data")).unwrap();
    heard.until("a.yaml=a/2").await;
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_without_being_opened() {
    let mut heard = Heard::start(&[]).await;
    mkfifo(&heard.path(".pipe"), Mode::S_IRWXU).unwrap();
    fs::rename(heard.path(".pipe"), heard.path("pipe")).unwrap();
    heard.until_problem("pipe", "is not a regular file").await;
    symlink("/dev/null", heard.path("null")).unwrap();
    heard.until_problem("null", "is not a regular file").await;
    symlink("loop", heard.path("loop")).unwrap();
    heard.until_problem("loop", "cannot be read: ").await;
    symlink("nowhere", heard.path("dangling")).unwrap();
    fs::create_dir(heard.path("directory")).unwrap();
    heard.nothing_but("marker").await;
    fs::remove_file(heard.path("pipe")).unwrap();
    assert_eq!(
        heard.next().await,
        ManifestEvent::Removed {
            file: "pipe".to_owned()
        }
    );
}

#[tokio::test]
async fn a_directory_that_goes_takes_its_pods_and_one_that_comes_brings_its_own() {
    let mut heard = Heard::start(&[("a.yaml", &manifest("a", "1"))]).await;
    let dir = heard.path("");
    let aside = heard.root.path().join("aside");
    fs::rename(&dir, &aside).unwrap();
    heard.until("").await;
    fs::rename(&aside, &dir).unwrap();
    heard.until("a.yaml=a/1").await;
    fs::remove_dir_all(&dir).unwrap();
    heard.until("").await;
    fs::create_dir(&dir).unwrap();
    heard.write("b.yaml", &manifest("b", "1"));
    heard.until("b.yaml=b/1").await;
    // Swapped for another at once.
    let other = heard.root.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("c.yaml"), manifest("c", "1")).unwrap();
    fs::rename(&dir, &aside).unwrap();
    fs::rename(&other, &dir).unwrap();
    heard.until("c.yaml=c/1").await;
    heard.write("c.yaml", &manifest("c", "2"));
    heard.until("c.yaml=c/2").await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_created_for_root_only() {
    use std::os::unix::fs::PermissionsExt;
    let mut heard = Heard::over(TempDir::new().unwrap());
    heard.until_synced().await;
    assert_eq!(
        fs::metadata(heard.path("")).unwrap().permissions().mode() & 0o777,
        0o700
    );
}

#[tokio::test]
async fn a_directory_that_can_not_be_created_is_waited_for_all_the_way() {
    let root = TempDir::new().unwrap();
    let way = root.path().join("file");
    fs::write(&way, "in the way").unwrap();
    let dir = way.join("more/manifests");
    let (_source, mut events_rx) = ManifestSource::start(dir.clone(), "node".to_owned(), root.path().join("memory"));
    assert_eq!(
        timeout(SOON, events_rx.recv()).await.unwrap(),
        Some(ManifestEvent::Synced)
    );
    fs::remove_file(&way).unwrap();
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("a.yaml"), manifest("a", "1")).unwrap();
    let event = timeout(SOON, events_rx.recv()).await.unwrap();
    assert!(matches!(event, Some(ManifestEvent::Valid { .. })), "{event:?}");
}

#[tokio::test]
async fn lost_events_are_made_good_by_looking_at_everything() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let mut heard = Heard::start(&[("a.yaml", &manifest("a", "1"))]).await;
    // Nothing here waits, so the source, which shares the thread, reads no event before the queue is full.
    let (first, second) = (heard.path(".first"), heard.path(".second"));
    fs::write(&first, "").unwrap();
    for _ in 0..=limit / 4 {
        fs::rename(&first, &second).unwrap();
        fs::rename(&second, &first).unwrap();
    }
    fs::remove_file(heard.path("a.yaml")).unwrap();
    heard.write("b.yaml", &manifest("b", "1"));
    heard.until("b.yaml=b/1").await;
    heard.write("b.yaml", &manifest("b", "2"));
    heard.until("b.yaml=b/2").await;
}

#[tokio::test]
async fn a_source_that_is_dropped_ends() {
    let mut heard = Heard::start(&[("a.yaml", &manifest("a", "1"))]).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 1);
    drop(heard.source.take());
    assert_eq!(timeout(SOON, heard.events_rx.recv()).await.unwrap(), None);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test]
async fn after_any_churn_what_was_told_is_what_is_there() {
    for seed in 0..8 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut heard = Heard::start(&[]).await;
        for _ in 0..150 {
            let name = format!("{}.yaml", random.u8(0..5));
            let path = heard.path(&name);
            let pod = manifest(&format!("p{}", random.u8(0..4)), &random.u8(0..3).to_string());
            match random.u8(0..8) {
                0..3 => heard.write(&name, &pod),
                3 => heard.write(&name, &pod[..random.usize(0..pod.len())]),
                4 => {
                    fs::write(heard.path(".tmp"), pod).unwrap();
                    fs::rename(heard.path(".tmp"), path).unwrap();
                }
                5 => drop(fs::remove_file(path)),
                6 => drop(fs::rename(path, heard.path(&format!("{}.yaml", random.u8(0..5))))),
                _ => tokio::time::sleep(Duration::from_millis(random.u64(0..15))).await,
            }
        }
        // A last word from every file: good ones, so that no earlier version is in force.
        let mut expected = Vec::new();
        for number in 0..5 {
            let name = format!("{number}.yaml");
            heard.write(&name, &manifest(&format!("p{}", number % 4), &format!("last{seed}")));
            if number < 4 {
                expected.push(format!("{name}=p{number}/last{seed}"));
            }
        }
        heard.until(&expected.join(" ")).await;
        heard.until_problem("4.yaml", "as the file 0.yaml does").await;
        let uids: BTreeSet<_> = heard.pods.values().map(|pod| pod.metadata.uid.clone()).collect();
        assert_eq!(uids.len(), 4);
    }
}
