//! Copies of a store's files, cut off and garbled: what opens is a prefix of whole transactions with every byte as it was
//! written, and what is not is told.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use bosun_store::{Embedded, Error, Event, KeyValue, Op, Revision, Store, Txn, embedded::Options};
use bytes::Bytes;
use proptest::prelude::*;

use crate::contract::{all, just, key, put};

type State = BTreeMap<Bytes, KeyValue>;

/// A store's files at a moment, and all its states until then.
struct Original {
    dir: tempfile::TempDir,
    /// By revision; the first is empty.
    states: Vec<State>,
    /// What was in the store's main file, and synced, then.
    checkpointed: u64,
}

const STORE: &str = "store.db";
const LOG: &str = "store.db-wal";

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn options(dir: &Path) -> Options {
    Options {
        readers: 1,
        ..Options::new(dir)
    }
}

/// Random transactions of one to three changes, some large.
async fn write(store: &Embedded, states: &mut Vec<State>, random: &mut fastrand::Rng, count: usize) {
    for _ in 0..count {
        let mut state = states.last().unwrap().clone();
        let revision = Revision(states.len() as u64);
        let mut ops = BTreeMap::new();
        // At least one that changes something.
        let mut changes = false;
        while !changes {
            for _ in 0..random.usize(1..4) {
                let key = Bytes::from(format!("/{}", random.u8(..20)));
                let value = Bytes::from(vec![random.u8(..); random.choice([10, 300, 6000]).unwrap()]);
                let put = random.u8(..4) > 0;
                changes |= put || state.contains_key(&key);
                let op = if put {
                    Op::Put {
                        key: key.clone(),
                        value,
                        ttl: None,
                    }
                } else {
                    Op::Delete { key: key.clone() }
                };
                ops.insert(key, op);
            }
        }
        for op in ops.values() {
            match op {
                Op::Put { key, value, .. } => {
                    let created = state.get(key).map_or(revision, |kv| kv.created);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        created,
                        modified: revision,
                    };
                    state.insert(key.clone(), kv);
                }
                Op::Delete { key } => {
                    state.remove(key);
                }
            }
        }
        let txn = Txn {
            compares: Vec::new(),
            ops: ops.into_values().collect(),
        };
        assert_eq!(store.commit(txn).await, Ok(revision));
        states.push(state);
    }
}

/// Made once: an older part in the main file, a newer one in the log.
fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        runtime().block_on(async {
            let home = tempfile::tempdir().unwrap();
            let dir = tempfile::tempdir().unwrap();
            let mut random = fastrand::Rng::with_seed(11);
            let mut states = vec![State::new()];
            let store = Embedded::open(options(home.path())).await.unwrap();
            write(&store, &mut states, &mut random, 120).await;
            drop(store);
            let checkpointed = states.len() as u64 - 1;
            fs::copy(home.path().join(STORE), dir.path().join("older.db")).unwrap();
            let store = Embedded::open(options(home.path())).await.unwrap();
            write(&store, &mut states, &mut random, 60).await;
            for name in [STORE, LOG] {
                fs::copy(home.path().join(name), dir.path().join(name)).unwrap();
            }
            drop(store);
            // All of it in the main file.
            fs::copy(home.path().join(STORE), dir.path().join("newer.db")).unwrap();
            Original {
                dir,
                states,
                checkpointed,
            }
        })
    })
}

/// What is done to a file.
#[derive(Clone, Debug)]
enum Fault {
    /// Cut off at a part of its length.
    Cut(f64),
    /// A bit turned over, at a part of its length.
    Flip(f64, u8),
    /// A part filled with one byte.
    Fill(f64, u16, u8),
    /// A page of the main file as it was earlier, or as it would be later: a write that was lost, or came too early.
    Page(f64, bool),
    /// More behind its end.
    More(Vec<u8>),
    /// Gone.
    Gone,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        4 => (0.0..1.0).prop_map(Fault::Cut),
        6 => (0.0..1.0, 0_u8..8).prop_map(|(at, bit)| Fault::Flip(at, bit)),
        3 => (0.0..1.0, 1_u16..9000, any::<u8>()).prop_map(|(at, length, byte)| Fault::Fill(at, length, byte)),
        4 => (0.0..1.0, any::<bool>()).prop_map(|(at, later)| Fault::Page(at, later)),
        1 => proptest::collection::vec(any::<u8>(), 1..5000).prop_map(Fault::More),
        1 => Just(Fault::Gone),
    ]
}

impl Fault {
    fn apply(&self, path: &Path, original: &Path) {
        let length = fs::metadata(path).unwrap().len();
        let offset = |part: &f64| (length as f64 * part) as u64;
        let open = || OpenOptions::new().read(true).write(true).open(path).unwrap();
        match self {
            Self::Cut(at) => open().set_len(offset(at)).unwrap(),
            Self::Flip(at, bit) => {
                let mut byte = [0];
                open().read_exact_at(&mut byte, offset(at)).unwrap();
                byte[0] ^= 1 << bit;
                open().write_all_at(&byte, offset(at)).unwrap();
            }
            Self::Fill(at, count, byte) => {
                let count = u64::from(*count).min(length - offset(at));
                open().write_all_at(&vec![*byte; count as usize], offset(at)).unwrap();
            }
            Self::Page(at, later) => {
                let other = File::open(original.join(if *later { "newer.db" } else { "older.db" })).unwrap();
                let page = offset(at) / 4096 * 4096;
                let mut bytes = [0; 4096];
                // There may be no such page then.
                if other.read_exact_at(&mut bytes, page).is_ok() {
                    open().write_all_at(&bytes, page).unwrap();
                }
            }
            Self::More(bytes) => open().write_all_at(bytes, length).unwrap(),
            Self::Gone => fs::remove_file(path).unwrap(),
        }
    }
}

/// A copy of the store's files, in a store's place.
fn copy(original: &Original) -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("store");
    fs::create_dir(&dir).unwrap();
    for name in [STORE, LOG] {
        fs::copy(original.dir.path().join(name), dir.join(name)).unwrap();
    }
    (home, dir)
}

/// The store is as it was at some revision, from which it goes on; that revision.
async fn whole(store: &Embedded, states: &[State]) -> u64 {
    let now = store.range(all(), 0, None).await.unwrap();
    let revision = now.revision;
    let expected: Vec<_> = states[revision.0 as usize].values().cloned().collect();
    assert_eq!(now.kvs, expected, "at revision {revision}");
    for (key, kv) in &states[revision.0 as usize] {
        assert_eq!(store.get(key.clone()).await.unwrap().as_ref(), Some(kv));
    }
    // History, too.
    for at in [0, revision.0 / 3, revision.0 * 2 / 3] {
        let then = store.range(all(), 0, Some(Revision(at))).await.unwrap();
        let expected: Vec<_> = states[at as usize].values().cloned().collect();
        assert_eq!(then.kvs, expected, "at revision {at} of {revision}");
    }
    let mut watch = store.watch(all(), Revision(0)).await.unwrap();
    let mut state = State::new();
    let mut told = Revision(0);
    while told < revision {
        let batch = watch.recv().await.unwrap().unwrap();
        told = batch.revision;
        for event in batch.events {
            match event {
                Event::Put { kv } => drop(state.insert(kv.key.clone(), kv)),
                Event::Delete { key, .. } => drop(state.remove(&key)),
            }
        }
        assert_eq!(state, states[told.0 as usize], "watched up to {told}");
    }
    let next = store.commit(just([put("/next", "1")])).await.unwrap();
    assert_eq!(next.0, revision.0 + 1);
    revision.0
}

fn cases() -> u32 {
    if std::env::var_os("BOSUN_SOAK").is_some() {
        3000
    } else {
        160
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_faulty_file_opens_as_a_prefix_of_whole_transactions_or_is_reported(fault in fault(), log in any::<bool>()) {
        let original = original();
        let (_home, dir) = copy(original);
        fault.apply(&dir.join(if log { LOG } else { STORE }), original.dir.path());
        runtime().block_on(async {
            let last = original.states.len() as u64 - 1;
            match Embedded::open(options(&dir)).await {
                Ok(store) => {
                    let revision = whole(&store, &original.states).await;
                    if log {
                        // What the log had may be lost with it.
                        prop_assert!((original.checkpointed..=last).contains(&revision), "{revision}");
                    } else {
                        prop_assert_eq!(revision, last);
                    }
                }
                Err(Error::Damaged(what)) => prop_assert!(!what.is_empty()),
                Err(error) => prop_assert!(false, "{error}"),
            }
            Ok(())
        })?;
    }
}

#[test]
fn the_files_as_they_are_open_with_everything() {
    let original = original();
    let (_home, dir) = copy(original);
    runtime().block_on(async {
        let store = Embedded::open(options(&dir)).await.unwrap();
        let last = original.states.len() as u64 - 1;
        assert_eq!(whole(&store, &original.states).await, last);
    });
}

/// Turns a byte of `needle` over wherever a file has it.
fn spoil(path: &Path, needle: &[u8]) -> usize {
    let bytes = fs::read(path).unwrap();
    let found: Vec<_> = bytes
        .windows(needle.len())
        .enumerate()
        .filter_map(|(at, window)| (window == needle).then_some(at))
        .collect();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for at in &found {
        file.write_all_at(b"#", *at as u64).unwrap();
    }
    found.len()
}

#[tokio::test]
async fn a_damaged_value_is_named_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(options(dir.path())).await.unwrap();
    store.commit(just([put("/a", "harmless")])).await.unwrap();
    store.commit(just([put("/b", "needle in the hay")])).await.unwrap();
    drop(store);
    assert_eq!(spoil(&dir.path().join(STORE), b"needle in"), 1);
    let Err(Error::Damaged(what)) = Embedded::open(options(dir.path())).await else {
        panic!("it opened")
    };
    assert!(what.contains("/b") && what.contains("revision 2"), "{what}");
    assert!(!what.contains("/a"), "{what}");
    assert!(!what.contains("hay"), "values are not for messages: {what}");
}

#[tokio::test]
async fn a_damaged_page_is_reported_with_what_it_held() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(options(dir.path())).await.unwrap();
    for number in 0..200 {
        let name = format!("/key-{number:03}");
        let value = format!("value of {number:03} {}", "x".repeat(900));
        store.commit(just([put(&name, &value)])).await.unwrap();
    }
    drop(store);
    let path = dir.path().join(STORE);
    let whole = fs::read(&path).unwrap();
    let page_of = |needle: &[u8]| {
        let at = whole.windows(needle.len()).position(|window| window == needle).unwrap();
        at / 4096 * 4096
    };
    let history = page_of(b"value of 100");
    let held: Vec<_> = (0..200)
        .map(|number| format!("{number:03}"))
        .filter(|number| page_of(format!("value of {number}").as_bytes()) == history)
        .collect();
    assert!(held.len() >= 2, "{held:?}");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xaa; 4096], history as u64).unwrap();
    let Err(Error::Damaged(what)) = Embedded::open(options(dir.path())).await else {
        panic!("it opened")
    };
    for number in held {
        assert!(what.contains(&format!("/key-{number}")), "{number} is not in {what}");
    }
    assert!(!what.contains("/key-000") && !what.contains("/key-199"), "{what}");
    fs::write(&path, &whole).unwrap();
    let store = Embedded::open(options(dir.path())).await.unwrap();
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, 200);
}

/// Every key with its value, from a store that was salvaged and goes on.
async fn salvaged(dir: &Path) -> BTreeMap<Bytes, Bytes> {
    let store = Embedded::open(options(dir)).await.unwrap();
    let now = store.range(all(), 0, None).await.unwrap();
    assert!(now.revision > Revision(1_000_000), "{}", now.revision);
    let next = store.commit(just([put("/next", "1")])).await.unwrap();
    assert_eq!(next.0, now.revision.0 + 1);
    now.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect()
}

#[tokio::test]
async fn what_is_damaged_is_dropped_by_name_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(options(dir.path())).await.unwrap();
    let name = |number: usize| format!("/key-{number:03}");
    for number in 0..200 {
        let value = format!("value of {number:03} {}", "x".repeat(900));
        store.commit(just([put(&name(number), &value)])).await.unwrap();
    }
    drop(store);
    assert_eq!(Embedded::salvage(dir.path()), Ok(None));
    let path = dir.path().join(STORE);
    let whole = fs::read(&path).unwrap();
    let page_of = |needle: &[u8]| {
        let at = whole.windows(needle.len()).position(|window| window == needle).unwrap();
        at / 4096 * 4096
    };
    let has = |page: &[u8], needle: &[u8]| page.windows(needle.len()).any(|window| window == needle);
    let entries = whole
        .chunks(4096)
        .position(|page| has(page, b"/key-150") && !has(page, b"value of"));
    // A page of values is lost with its keys; one of entries is made again from the changes.
    for (page, values) in [(page_of(b"value of 100"), true), (entries.unwrap() * 4096, false)] {
        fs::write(&path, &whole).unwrap();
        let held: Vec<_> = (0..200)
            .filter(|number| values && page_of(format!("value of {number:03}").as_bytes()) == page)
            .map(name)
            .collect();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0xaa; 4096], page as u64).unwrap();
        let report = Embedded::salvage(dir.path()).unwrap().unwrap();
        assert_eq!(report.kept, 200 - held.len(), "{report:?}");
        assert_eq!(report.lost.len(), held.len(), "{report:?}");
        for key in &held {
            assert!(
                report.lost.iter().any(|line| line.starts_with(key)),
                "{key}: {report:?}"
            );
        }
        assert!(report.aside.iter().all(|path| path.exists()), "{report:?}");
        let now = salvaged(dir.path()).await;
        for number in 0..200 {
            let there = now.contains_key(name(number).as_bytes());
            assert_eq!(there, !held.contains(&name(number)), "{number}");
        }
        assert_eq!(Embedded::salvage(dir.path()), Ok(None));
    }
}

#[test]
fn a_salvage_that_was_interrupted_is_finished_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = Embedded::open(options(dir.path())).await.unwrap();
        store.commit(just([put("/a", "1")])).await.unwrap();
        store.snapshot(&dir.path().join("store.db.salvaged")).await.unwrap();
        store.commit(just([put("/b", "1")])).await.unwrap();
        drop(store);
        fs::write(dir.path().join(LOG), b"of the other store").unwrap();
        let store = Embedded::open(options(dir.path())).await.unwrap();
        assert_eq!(store.range(all(), 0, None).await.unwrap().count, 1);
    });
    assert!(!dir.path().join("store.db.salvaged").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_salvaged_was_stored_so_once(fault in fault(), log in any::<bool>()) {
        let original = original();
        let (_home, dir) = copy(original);
        fault.apply(&dir.join(if log { LOG } else { STORE }), original.dir.path());
        match Embedded::salvage(&dir) {
            Ok(Some(report)) => {
                let now = runtime().block_on(salvaged(&dir));
                prop_assert_eq!(now.len(), report.kept);
                for (key, value) in now {
                    let known = original.states.iter().any(|state| state.get(&key).is_some_and(|kv| kv.value == value));
                    prop_assert!(known, "{:?} never had this value", key);
                }
            }
            // Nothing was damaged, or nothing of it can be read.
            Ok(None) | Err(Error::Damaged(_)) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

#[tokio::test]
async fn what_is_damaged_while_the_store_is_open_is_named_and_not_served_and_the_rest_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(options(dir.path())).await.unwrap();
    // Far apart, so that they don't share a page.
    for name in ["/a", "/b", "/c"] {
        store
            .commit(just([put(name, &format!("{name} {}", "x".repeat(9000)))]))
            .await
            .unwrap();
    }
    drop(store);
    let store = Embedded::open(options(dir.path())).await.unwrap();
    assert_eq!(spoil(&dir.path().join(STORE), b"/b xxx"), 1);
    let damaged = store.get(key("/b")).await;
    assert!(
        matches!(&damaged, Err(Error::Damaged(what)) if what.contains("/b") && what.contains("revision 2")),
        "{damaged:?}"
    );
    let damaged = store.range(all(), 0, None).await;
    assert!(
        matches!(&damaged, Err(Error::Damaged(what)) if what.contains("/b")),
        "{damaged:?}"
    );
    assert!(store.get(key("/a")).await.unwrap().is_some());
    assert!(store.get(key("/c")).await.unwrap().is_some());
    // Whoever has the value elsewhere can mend it.
    store.commit(just([put("/b", "again")])).await.unwrap();
    assert_eq!(store.range(all(), 0, None).await.unwrap().count, 3);
}

#[test]
fn a_store_whose_file_is_gone_is_not_taken_for_a_new_one() {
    let (_home, dir) = copy(original());
    let open = || runtime().block_on(Embedded::open(options(&dir)));
    fs::remove_file(dir.join(STORE)).unwrap();
    let opened = open();
    assert!(matches!(opened, Err(Error::Damaged(_))), "{opened:?}");
    let long = [b'?'; 5000];
    for content in [&b""[..], b"not a store", &long] {
        fs::write(dir.join(STORE), content).unwrap();
        fs::write(dir.join(LOG), b"").unwrap();
        let opened = open();
        assert!(
            matches!(opened, Err(Error::Damaged(_))),
            "{} bytes: {opened:?}",
            content.len()
        );
    }
}
