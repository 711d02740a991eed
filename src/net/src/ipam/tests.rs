use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use proptest::prelude::*;

use super::*;

fn pools(ranges: &[&str]) -> Vec<Pool> {
    ranges
        .iter()
        .map(|range| Pool::new(range.parse().unwrap()).unwrap())
        .collect()
}

fn record(container: &str, inode: u64) -> Record {
    Record {
        attachment: Attachment {
            container: container.into(),
            ifname: "eth0".into(),
        },
        netns: format!("/run/netns/{container}").into(),
        inode,
        pod: None,
        created: 0,
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn never(_: &Record) -> bool {
    false
}

#[test]
fn an_attachment_gets_one_address_of_each_range_and_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let pools = pools(&["10.0.0.0/24", "fd00::/64"]);
    let given = ipam.allocate(&record("a", 1), &pools, &mut never).unwrap();
    assert_eq!(given, addresses(&["10.0.0.2", "fd00::2"]));
    assert_eq!(
        ipam.allocate(&record("a", 1), &pools, &mut never).unwrap(),
        given,
        "asked again"
    );
    assert_eq!(ipam.find(&record("a", 1).attachment).unwrap(), given);
    let Listing { records, unreadable } = ipam.list().unwrap();
    assert_eq!(records.iter().map(|(address, _)| *address).collect::<Vec<_>>(), given);
    assert!(records.iter().all(|(_, r)| *r == record("a", 1)) && unreadable.is_empty());
}

#[test]
fn the_same_container_in_another_namespace_gets_other_addresses_and_frees_the_old() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let pools = pools(&["10.0.0.0/24"]);
    ipam.allocate(&record("a", 1), &pools, &mut never).unwrap();
    assert_eq!(
        ipam.allocate(&record("a", 2), &pools, &mut never).unwrap(),
        addresses(&["10.0.0.3"])
    );
    assert_eq!(ipam.list().unwrap().records.len(), 1);
}

#[test]
fn a_released_address_rests_until_the_range_has_been_gone_round() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let pools = pools(&["10.0.0.0/29"]);
    let mut seen = Vec::new();
    for i in 0..6 {
        let record = record("a", i);
        seen.extend(ipam.allocate(&record, &pools, &mut never).unwrap());
        assert_eq!(ipam.release(&record.attachment).unwrap(), seen[seen.len() - 1..]);
        assert_eq!(
            ipam.release(&record.attachment).unwrap(),
            Vec::<IpAddr>::new(),
            "a second time"
        );
    }
    assert_eq!(
        seen,
        addresses(&["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"])
    );
}

#[test]
fn a_full_range_says_how_full_it_is_and_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let pools = pools(&["fd00::/64", "10.0.0.0/30"]);
    ipam.allocate(&record("a", 1), &pools, &mut never).unwrap();
    let error = ipam
        .allocate(&record("b", 2), &pools, &mut never)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "no address is left in 10.0.0.0/30: 1 usable, 1 held by live pods, 0 with unreadable records; delete pods or \
         give the node a larger range"
    );
    assert_eq!(ipam.list().unwrap().records.len(), 2, "only the first pod's");
    assert_eq!(ipam.count(&pools[0]).unwrap(), 1);
}

#[test]
fn a_search_takes_the_address_of_a_pod_whose_namespace_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let pools = pools(&["10.0.0.0/30", "fd00::/64"]);
    ipam.allocate(&record("a", 1), &pools, &mut never).unwrap();
    let given = ipam
        .allocate(&record("b", 2), &pools, &mut |record| record.inode == 1)
        .unwrap();
    assert_eq!(given, addresses(&["10.0.0.2", "fd00::3"]));
    // The other family's record of the dead pod stays until it is met or collected, and is still found by its owner.
    assert_eq!(ipam.find(&record("a", 1).attachment).unwrap(), addresses(&["fd00::2"]));
    assert_eq!(
        ipam.release(&record("a", 1).attachment).unwrap(),
        addresses(&["fd00::2"])
    );
    assert_eq!(ipam.find(&record("b", 2).attachment).unwrap(), given);
}

#[test]
fn releasing_what_another_has_by_now_leaves_it_to_him() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let pools = pools(&["10.0.0.0/30"]);
    ipam.allocate(&record("a", 1), &pools, &mut never).unwrap();
    let owner = ipam.files.owner_path(&record("a", 1).attachment);
    let named = fs::read_link(&owner).unwrap();
    ipam.release(&record("a", 1).attachment).unwrap();
    ipam.allocate(&record("b", 2), &pools, &mut never).unwrap();
    // As a killed DEL left it: the record is gone, the owner's link is not.
    std::os::unix::fs::symlink(named, owner).unwrap();
    assert_eq!(ipam.release(&record("a", 1).attachment).unwrap(), Vec::<IpAddr>::new());
    assert_eq!(ipam.find(&record("b", 2).attachment).unwrap(), addresses(&["10.0.0.2"]));
}

#[test]
fn an_unreadable_record_is_never_given_out_but_collected() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let pools = pools(&["10.0.0.0/29"]);
    ipam.create_dirs().unwrap();
    fs::write(ipam.dir().join("10.0.0.2"), "").unwrap();
    assert_eq!(
        ipam.allocate(&record("a", 1), &pools, &mut never).unwrap(),
        addresses(&["10.0.0.3"])
    );
    let freed = ipam.collect(&mut |_| true).unwrap();
    assert_eq!(freed, addresses(&["10.0.0.2"]));
    assert_eq!(
        ipam.list().unwrap(),
        Listing {
            records: vec![("10.0.0.3".parse().unwrap(), record("a", 1))],
            unreadable: vec![]
        }
    );
}

#[test]
fn an_owners_link_that_leads_nowhere_goes_when_its_owner_is_gone_or_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let ipam = Ipam::new(dir.path(), "n");
    let owners = || entries(&dir.path().join("ipam/n/.owners")).unwrap();
    let held = record("held", 1);
    ipam.allocate(&held, &pools(&["10.0.0.0/29"]), &mut never).unwrap();
    std::os::unix::fs::symlink("10.0.0.5", ipam.files.owner_path(&record("stray", 1).attachment)).unwrap();
    std::os::unix::fs::symlink("10.0.0.5", dir.path().join("ipam/n/.owners/.held@eth0")).unwrap();

    let (now, later) = (
        SystemTime::now(),
        SystemTime::now() + ABANDONED + Duration::from_mins(1),
    );
    ipam.collect_strays(&|_| false, now).unwrap();
    assert_eq!(owners().len(), 3, "an ADD may be at work");
    ipam.collect_strays(&|owner| owner.container == "stray", now).unwrap();
    assert_eq!(owners().len(), 2);
    ipam.collect_strays(&|_| true, later).unwrap();
    assert_eq!(owners(), ["held@eth0"], "what leads to a record stays");
}

#[test]
fn a_record_may_say_more_than_is_known_here() {
    let text = r#"{"containerID":"a","ifname":"eth0","netns":"/n","inode":7,"created":1,"later":{"x":1}}"#;
    let record: Record = serde_json::from_str(text).unwrap();
    assert_eq!((record.attachment.container.as_str(), record.inode), ("a", 7));
}

#[test]
fn many_at_once_never_get_one_address_twice() {
    const THREADS: usize = 8;
    const ROUNDS: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    // Barely enough for all, so that they collide, and every other namespace dies without a DEL.
    let pools = pools(&["10.0.0.0/27"]);
    let in_use = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (dir, pools, in_use) = (dir.path(), &pools, &in_use);
            scope.spawn(move || {
                let ipam = Ipam::new(dir, "n");
                for round in 0..ROUNDS {
                    let record = record(&format!("c{thread}-{round}"), round);
                    let given = ipam
                        .allocate(&record, pools, &mut |record: &Record| {
                            record.pod.as_deref() == Some("dead")
                        })
                        .unwrap();
                    assert!(in_use.lock().unwrap().insert(given[0]), "{} is in use", given[0]);
                    std::thread::yield_now();
                    in_use.lock().unwrap().remove(&given[0]);
                    assert_eq!(ipam.release(&record.attachment).unwrap(), given);
                }
            });
        }
    });
    assert_eq!(Ipam::new(dir.path(), "n").list().unwrap(), Listing::default());
}

#[test]
fn many_at_once_taking_over_from_the_dead_never_get_one_address_twice() {
    const THREADS: usize = 6;
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let pools = pools(&["10.0.0.0/28"]);
        let ipam = Ipam::new(dir.path(), "n");
        for i in 0..13 {
            ipam.allocate(&record(&format!("dead{round}-{i}"), 1), &pools, &mut never)
                .unwrap();
        }
        let given = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (dir, pools, given) = (dir.path(), &pools, &given);
                scope.spawn(move || {
                    let ipam = Ipam::new(dir, "n");
                    for i in 0..2 {
                        let record = record(&format!("new{thread}-{i}"), 2);
                        let addresses = ipam.allocate(&record, pools, &mut |r: &Record| r.inode == 1).unwrap();
                        given.lock().unwrap().push((record.attachment, addresses));
                    }
                });
            }
        });
        let given = given.into_inner().unwrap();
        let distinct: BTreeSet<_> = given.iter().map(|(_, a)| a.clone()).collect();
        assert_eq!(distinct.len(), THREADS * 2, "{given:?}");
        for (owner, addresses) in given {
            assert_eq!(ipam.find(&owner).unwrap(), addresses);
        }
    }
}

#[test]
fn two_that_take_over_from_the_same_dead_pod_do_not_take_from_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let pools = pools(&["10.0.0.0/29"]);
    Ipam::new(dir.path(), "n")
        .allocate(&record("dead", 1), &pools, &mut never)
        .unwrap();
    fs::remove_file(dir.path().join("ipam/n/.cursor-4")).unwrap();
    let take_over = |ipam: &Ipam, container: &str| {
        ipam.allocate(&record(container, 2), &pools, &mut |record: &Record| record.inode == 1)
            .unwrap()
    };
    std::thread::scope(|scope| {
        let (second_tx, second_rx) = std::sync::mpsc::channel();
        let (go_tx, go_rx) = std::sync::mpsc::channel::<()>();
        let (dir, take_over) = (dir.path(), &take_over);
        scope.spawn(move || {
            go_rx.recv().unwrap();
            second_tx.send(take_over(&Ipam::new(dir, "n"), "second")).unwrap();
        });
        let mut first = Ipam::new(dir, "n");
        let second = Arc::new(Mutex::new(None));
        let second_rx = Arc::new(Mutex::new(second_rx));
        let (seen, rx) = (Arc::clone(&second), Arc::clone(&second_rx));
        first.killer = Some(Box::new(move |step| {
            if step == Step::SawAgain {
                // The first is about to remove the record: now the second comes. It can't finish in between.
                go_tx.send(()).unwrap();
                *seen.lock().unwrap() = rx.lock().unwrap().recv_timeout(Duration::from_millis(300)).ok();
            }
            false
        }));
        let given = take_over(&first, "first");
        let second = second.lock().unwrap().take();
        let second = second.unwrap_or_else(|| second_rx.lock().unwrap().recv_timeout(Duration::from_secs(30)).unwrap());
        assert_ne!(given, second);
        let ipam = Ipam::new(dir, "n");
        assert_eq!(ipam.find(&record("first", 2).attachment).unwrap(), given);
        assert_eq!(ipam.find(&record("second", 2).attachment).unwrap(), second);
    });
}

#[derive(Clone, Debug)]
enum Op {
    /// An ADD, killed after so many steps, if it takes that many.
    Add(u8, Option<u8>),
    /// A DEL, likewise.
    Del(u8, Option<u8>),
    /// The container's namespace goes without a DEL.
    Vanish(u8),
    /// A collection of what is gone, likewise killed.
    Collect(Option<u8>),
}

fn op() -> impl Strategy<Value = Op> {
    let kill = || proptest::option::of(0u8..8);
    prop_oneof![
        4 => (0u8..7, kill()).prop_map(|(c, kill)| Op::Add(c, kill)),
        3 => (0u8..7, kill()).prop_map(|(c, kill)| Op::Del(c, kill)),
        2 => (0u8..7).prop_map(Op::Vanish),
        1 => kill().prop_map(Op::Collect),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is killed wherever, no address is used twice, none is lost, and nothing is left in the end.
    #[test]
    fn killed_at_any_step_nothing_leaks_and_nothing_is_used_twice(ops in proptest::collection::vec(op(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let steps_left = Arc::new(Mutex::new(None::<u8>));
        let mut ipam = Ipam::new(dir.path(), "n");
        let counter = Arc::clone(&steps_left);
        ipam.killer = Some(Box::new(move |_| {
            let mut left = counter.lock().unwrap();
            let dies = *left == Some(0);
            *left = left.map(|n| n.saturating_sub(1));
            dies
        }));
        let pools = pools(&["10.0.0.0/29", "fd00::/125"]);
        // The namespace of each container (a new one after the old one vanished), and what its ADD was told.
        let mut namespaces: BTreeMap<u8, u64> = BTreeMap::new();
        let mut running: BTreeMap<u8, Vec<IpAddr>> = BTreeMap::new();
        let mut next_namespace = 0;
        for op in ops {
            let (kill, container) = match &op {
                Op::Add(c, kill) | Op::Del(c, kill) => (*kill, *c),
                Op::Vanish(c) => (None, *c),
                Op::Collect(kill) => (*kill, 0),
            };
            *steps_left.lock().unwrap() = kill;
            let live: BTreeSet<u64> = namespaces.values().copied().collect();
            let gone = |record: &Record| !live.contains(&record.inode);
            match op {
                Op::Add(..) => {
                    let inode = *namespaces.entry(container).or_insert_with(|| { next_namespace += 1; next_namespace });
                    let live: BTreeSet<u64> = namespaces.values().copied().collect();
                    let mut gone = |record: &Record| !live.contains(&record.inode);
                    match ipam.allocate(&record(&container.to_string(), inode), &pools, &mut gone) {
                        Ok(given) => {
                            if let Some(before) = running.get(&container) {
                                prop_assert_eq!(before, &given, "an ADD again");
                            }
                            running.insert(container, given);
                        }
                        Err(Error::Exhausted { held, .. }) => {
                            // Honest: that many namespaces are really there (killed ADDs hold one, too).
                            prop_assert!(held as usize <= namespaces.len(), "{} of {}", held, namespaces.len());
                            prop_assert!(!running.contains_key(&container));
                            *steps_left.lock().unwrap() = None;
                            ipam.release(&record(&container.to_string(), inode).attachment).unwrap();
                        }
                        Err(Error::Killed) => {}
                        Err(e) => prop_assert!(false, "{}", e),
                    }
                }
                Op::Del(..) => {
                    running.remove(&container);
                    match ipam.release(&record(&container.to_string(), 0).attachment) {
                        Ok(_) => {
                            prop_assert_eq!(ipam.find(&record(&container.to_string(), 0).attachment).unwrap(), Vec::<IpAddr>::new());
                        }
                        Err(Error::Killed) => {}
                        Err(e) => prop_assert!(false, "{}", e),
                    }
                }
                Op::Vanish(_) => {
                    namespaces.remove(&container);
                    running.remove(&container);
                }
                Op::Collect(_) => match ipam.collect(&mut |record| !gone(record)) {
                    Ok(_) | Err(Error::Killed) => {}
                    Err(e) => prop_assert!(false, "{}", e),
                },
            }
            let mut used = BTreeSet::new();
            for (container, given) in &running {
                prop_assert_eq!(&ipam.find(&record(&container.to_string(), 0).attachment).unwrap(), given);
                for address in given {
                    prop_assert!(used.insert(*address), "{} is used twice", address);
                }
            }
        }
        *steps_left.lock().unwrap() = None;
        let later = SystemTime::now() + ABANDONED + Duration::from_mins(1);
        ipam.collect(&mut |_| false).unwrap();
        ipam.collect_strays(&|_| false, later).unwrap();
        prop_assert_eq!(entries(&dir.path().join("ipam/n")).unwrap().iter().filter(|n| !n.starts_with('.')).count(), 0);
        prop_assert_eq!(entries(&dir.path().join("ipam/n/.owners")).unwrap(), Vec::<String>::new());
    }
}
