//! Which file's pod counts, and what of that is news. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bosun_api::{PodKey, core::Pod};

use super::{ManifestEvent, Problem};

/// All files, by name, which is the order in which they count.
#[derive(Debug, Default)]
pub struct Index {
    files: BTreeMap<String, File>,
}

#[derive(Debug, Default)]
struct File {
    /// The pod of the last good version.
    good: Option<Arc<Pod>>,
    /// What is wrong with the newest version.
    problem: Option<Problem>,
    /// The pod that counts, as told.
    counted: Option<Arc<Pod>>,
    /// The problem, as told.
    told: Option<Problem>,
}

/// What is known of a pod by which two of them are one.
fn key(pod: &Pod) -> PodKey {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    PodKey {
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
    }
}

impl Index {
    /// The files known, good or not.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Whether a file ever had a good version.
    pub fn has_pod(&self, file: &str) -> bool {
        self.files.get(file).is_some_and(|file| file.good.is_some())
    }

    /// A file has a new version. [`Self::news`] says what follows.
    pub fn put(&mut self, file: &str, version: Result<Arc<Pod>, Problem>) {
        let file = self.files.entry(file.to_owned()).or_default();
        match version {
            Ok(pod) => {
                file.good = Some(pod);
                file.problem = None;
            }
            Err(problem) => file.problem = Some(problem),
        }
    }

    /// A file is gone. [`Self::news`] says what follows.
    pub fn remove(&mut self, file: &str) {
        if let Some(file) = self.files.get_mut(file) {
            file.good = None;
            file.problem = None;
        }
    }

    /// What has changed since the last time: first what counts no more, then what does, then what is wrong.
    pub fn news(&mut self) -> Vec<ManifestEvent> {
        let (mut removed, mut valid, mut invalid) = (Vec::new(), Vec::new(), Vec::new());
        let mut taken: BTreeMap<PodKey, String> = BTreeMap::new();
        for (name, file) in &mut self.files {
            let mut problem = file.problem.clone();
            let mut counts = file.good.clone();
            if let Some(pod) = &file.good
                && let Some(other) = taken.get(&key(pod))
            {
                // As with any other mistake, what the file defined before goes on, unless that is taken too.
                counts = file.counted.clone().filter(|pod| !taken.contains_key(&key(pod)));
                problem = problem.or_else(|| {
                    Some(Problem::Clash {
                        key: key(pod),
                        other: other.clone(),
                    })
                });
            }
            if let Some(pod) = &counts {
                taken.insert(key(pod), name.clone());
            }
            match (&counts, &problem) {
                (None, _) if file.counted.is_some() => removed.push(ManifestEvent::Removed { file: name.clone() }),
                // Told even of the pod that went on all the while, to say that the problem is gone.
                (Some(pod), None) if counts != file.counted || file.told.is_some() => {
                    valid.push(ManifestEvent::Valid {
                        file: name.clone(),
                        pod: Arc::clone(pod),
                    });
                }
                // Another pod than before counts, with a problem: told as valid first.
                (Some(pod), Some(_)) if counts != file.counted => {
                    valid.push(ManifestEvent::Valid {
                        file: name.clone(),
                        pod: Arc::clone(pod),
                    });
                    file.told = None;
                }
                (None, None) if file.told.is_some() => removed.push(ManifestEvent::Removed { file: name.clone() }),
                _ => {}
            }
            if let Some(problem) = &problem
                && (file.told.as_ref() != Some(problem) || removed.last().is_some_and(|event| is_about(event, name)))
            {
                invalid.push(ManifestEvent::Invalid {
                    file: name.clone(),
                    error: problem.clone(),
                });
            }
            file.counted = counts;
            file.told = problem;
        }
        self.files
            .retain(|_, file| file.good.is_some() || file.problem.is_some());
        removed.into_iter().chain(valid).chain(invalid).collect()
    }

    /// Pods that count, for tests and for a look from outside.
    pub fn pods(&self) -> impl Iterator<Item = (&str, &Arc<Pod>)> {
        self.files
            .iter()
            .filter_map(|(name, file)| Some((name.as_str(), file.counted.as_ref()?)))
    }

    /// Files that are known and not among `present`.
    pub fn gone(&self, present: &BTreeSet<String>) -> Vec<String> {
        self.files()
            .filter(|file| !present.contains(*file))
            .map(str::to_owned)
            .collect()
    }
}

fn is_about(event: &ManifestEvent, name: &str) -> bool {
    matches!(event, ManifestEvent::Removed { file } if file == name)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
    use proptest::prelude::*;

    use super::*;

    /// A pod `name`, in the version its UID tells.
    fn pod(name: &str, uid: &str) -> Arc<Pod> {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectMeta::default()
        };
        Arc::new(Pod {
            metadata,
            ..Pod::default()
        })
    }

    /// Does `steps` such as `a=web1` (file a holds version 1 of the pod web), `a!` (something is wrong with it),
    /// `a-` (it is gone), those joined by `,` at once; returns what is told after each.
    fn told(index: &mut Index, steps: &str) -> Vec<String> {
        steps
            .split(' ')
            .map(|step| {
                for change in step.split(',') {
                    let (file, change) = change.split_at(1);
                    match change.split_at(1) {
                        ("=", pod_and_version) => {
                            let name = pod_and_version.trim_end_matches(|c: char| c.is_ascii_digit());
                            index.put(file, Ok(pod(name, pod_and_version)));
                        }
                        ("!", what) => index.put(file, Err(Problem::Unreadable(what.to_owned()))),
                        _ => index.remove(file),
                    }
                }
                let news = index.news();
                let words = news.iter().map(|event| match event {
                    ManifestEvent::Valid { file, pod } => format!("{file}={}", pod.metadata.uid.as_deref().unwrap()),
                    ManifestEvent::Invalid {
                        file,
                        error: Problem::Clash { key, other },
                    } => format!("{file}!{}@{other}", key.name),
                    ManifestEvent::Invalid { file, error } => {
                        format!("{file}!{}", error.to_string().replace("cannot be read: ", ""))
                    }
                    ManifestEvent::Removed { file } => format!("{file}-"),
                    ManifestEvent::Synced => unreachable!("the index knows nothing of it"),
                });
                words.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }

    #[test]
    fn what_is_told_is_what_has_changed() {
        let cases: &[(&str, &str, &[&str])] = &[
            (
                "a pod comes, changes, goes",
                "a=web1 a=web2 a- a-",
                &["a=web1", "a=web2", "a-", ""],
            ),
            ("the same again is no news", "a=web1 a=web1", &["a=web1", ""]),
            ("what is wrong is told once", "a! a! a!x", &["a!", "", "a!x"]),
            (
                "a broken file that goes is told, to be forgotten",
                "a! a-",
                &["a!", "a-"],
            ),
            (
                "the earlier version goes on",
                "a=web1 a! a=web2",
                &["a=web1", "a!", "a=web2"],
            ),
            ("mended to what it was", "a=web1 a! a=web1", &["a=web1", "a!", "a=web1"]),
            ("broken, then gone", "a=web1 a! a-", &["a=web1", "a!", "a-"]),
            (
                "two files, two pods",
                "a=web1,b=db1 b- a-",
                &["a=web1 b=db1", "b-", "a-"],
            ),
            ("the first by name counts", "a=web1,b=web2", &["a=web1 b!web@a"]),
            (
                "the other takes over",
                "a=web1,b=web2 a-",
                &["a=web1 b!web@a", "a- b=web2"],
            ),
            (
                "the other takes over when the first becomes another pod",
                "a=web1,b=web2 a=db1",
                &["a=web1 b!web@a", "a=db1 b=web2"],
            ),
            (
                "the first comes later",
                "b=web2 a=web1",
                &["b=web2", "b- a=web1 b!web@a"],
            ),
            (
                "a broken first keeps its pod",
                "a=web1,b=web2 a!",
                &["a=web1 b!web@a", "a!"],
            ),
            (
                "a clash leaves the earlier pod",
                "a=web1,b=db1 b=web2",
                &["a=web1 b=db1", "b!web@a"],
            ),
            (
                "a clash leaves the earlier pod until it is taken",
                "a=web1,c=db1 c=web2 b=db2",
                &["a=web1 c=db1", "c!web@a", "c- b=db2 c!web@a"],
            ),
            (
                "three of one kind",
                "a=w1,b=w2,c=w3 a- b-",
                &["a=w1 b!w@a c!w@a", "a- b=w2 c!w@b", "b- c=w3"],
            ),
            (
                "a broken file in a clash tells what is broken",
                "a=w1,b=w2 b! a-",
                &["a=w1 b!w@a", "b!", "a- b=w2 b!"],
            ),
            (
                "two swap their pods",
                "a=web1,b=db1 a=db2,b=web2",
                &["a=web1 b=db1", "a=db2 b=web2"],
            ),
            (
                "one version of a pod in another file",
                "a=web1 a-,b=web1",
                &["a=web1", "a- b=web1"],
            ),
        ];
        for (case, steps, expected) in cases {
            assert_eq!(told(&mut Index::default(), steps), *expected, "{case}: {steps}");
        }
    }

    #[test]
    fn nothing_is_kept_of_files_that_are_gone() {
        let mut index = Index::default();
        told(&mut index, "a=web1,b!,c=web2 a-,b-,c-");
        assert_eq!(index.files().count(), 0);
    }

    proptest! {
        /// A listener that only keeps what it is told knows every pod that counts and every problem there is.
        #[test]
        fn the_news_add_up(steps in prop::collection::vec(prop::collection::vec(("[abcd]", "(=[xyz][12]|![pq]|-)"), 1..4), 1..12)) {
            let mut index = Index::default();
            let (mut pods, mut problems) = (BTreeMap::new(), BTreeSet::new());
            for step in steps {
                for (file, change) in step {
                    match change.split_at(1) {
                        ("=", uid) => index.put(&file, Ok(pod(&uid[..1], uid))),
                        ("!", what) => index.put(&file, Err(Problem::Unreadable(what.to_owned()))),
                        _ => index.remove(&file),
                    }
                }
                for event in index.news() {
                    match event {
                        ManifestEvent::Valid { file, pod } => {
                            problems.remove(&file);
                            pods.insert(file, pod);
                        }
                        ManifestEvent::Invalid { file, .. } => {
                            problems.insert(file);
                        }
                        ManifestEvent::Removed { file } => {
                            problems.remove(&file);
                            pods.remove(&file);
                        }
                        ManifestEvent::Synced => {}
                    }
                }
                let counted: BTreeMap<_, _> = index.pods().map(|(file, pod)| (file.to_owned(), Arc::clone(pod))).collect();
                prop_assert_eq!(&pods, &counted);
                let told: BTreeSet<_> = index.files.iter().filter(|(_, file)| file.told.is_some()).map(|(name, _)| name.clone()).collect();
                prop_assert_eq!(&problems, &told);
                let keys: BTreeSet<_> = pods.values().map(|pod| key(pod)).collect();
                prop_assert_eq!(keys.len(), pods.len(), "one pod counts twice");
                prop_assert!(index.news().is_empty(), "news twice");
            }
        }
    }
}
