use std::fs;

use jiff::SignedDuration;

use super::*;
use crate::authority::{AUTHORITY_LIFE, LEAF_LIFE};

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn reached() -> Reached {
    Reached {
        cluster_domain: "cluster.local".into(),
        ..Reached::default()
    }
}

fn open(directory: &Path, now: Timestamp) -> Keeper {
    Keeper::open(directory, reached(), now).unwrap()
}

fn served(keeper: &Keeper) -> Certificate {
    Certificate::from_der(keeper.serving.certified.load().cert[0].clone()).unwrap()
}

#[test]
fn what_is_due_is_told_by_time_and_names() {
    let valid = Some((now(), now() + hours(300)));
    let table = [
        (0, valid, true, None),
        (199, valid, true, None),
        (200, valid, true, Some(Why::Expiring)),
        (400, valid, false, Some(Why::Expiring)),
        (-1, valid, true, Some(Why::NotYetValid)),
        (1, valid, false, Some(Why::Names)),
        (0, None, false, Some(Why::Absent)),
    ];
    for (hour, valid, fits, why) in table {
        let role = Role::Server;
        let plan = plan(now() + hours(hour), &[Held { role, valid, fits }]);
        assert_eq!(plan.first().map(|renewal| renewal.why), why, "after {hour} hours");
    }
}

#[test]
fn the_authority_comes_first() {
    let absent = |role| Held {
        role,
        valid: None,
        fits: false,
    };
    let roles = [Role::Admin, Role::Authority, Role::Server];
    let plan = plan(now(), &roles.map(absent));
    assert_eq!(
        plan.iter().map(|renewal| renewal.role).collect::<Vec<_>>(),
        [Role::Authority, Role::Server, Role::Admin]
    );
}

#[test]
fn a_second_start_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pki");
    open(&path, now());
    let read = |path: &Path| -> Vec<_> {
        let mut all: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (fs::read(&path).unwrap(), path))
            .collect();
        all.sort();
        all
    };
    let first = read(&path);
    assert_eq!(first.len(), 6);
    open(&path, now() + hours(1));
    assert_eq!(read(&path), first);
}

#[test]
fn a_running_server_gets_its_new_certificate_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = open(directory.path(), now());
    let first = served(&keeper);
    let next = keeper.renew(now() + hours(1)).unwrap();
    assert_eq!(served(&keeper), first);
    assert!(next < first.not_after && next > now() + LEAF_LIFE / 2);
    let later = keeper.renew(next).unwrap();
    let second = served(&keeper);
    assert!(second != first && second.not_after > first.not_after && later > next);
    assert!(second.is_signed_by(&keeper.authority().certificate));
    assert!(keeper.admin().0.not_after > first.not_after);
    assert_eq!(served(&open(directory.path(), next)), second, "a restart finds it");
}

#[test]
fn a_renewed_authority_keeps_its_key_and_is_published() {
    let directory = tempfile::tempdir().unwrap();
    let keeper = open(directory.path(), now());
    let first = keeper.authority().certificate.clone();
    let late = now() + AUTHORITY_LIFE * 2 / 3 + hours(1);
    keeper.renew(late).unwrap();
    let second = keeper.authority().certificate.clone();
    assert!(second.not_after > first.not_after && second.public_info == first.public_info);
    assert_eq!(
        fs::read_to_string(directory.path().join("ca.crt")).unwrap(),
        second.pem()
    );
    assert!(served(&keeper).is_signed_by(&first));
}

#[test]
fn new_names_are_served_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), now());
    let reached = Reached {
        dns_names: vec!["api.example.com".into()],
        ..reached()
    };
    let keeper = Keeper::open(directory.path(), reached, now()).unwrap();
    assert!(served(&keeper).names.contains(&"api.example.com".to_owned()));
}

#[test]
fn a_start_after_any_crash_makes_what_is_missing_and_keeps_what_is_there() {
    // Files are renamed into place in this order; a crash leaves a prefix of them, and perhaps half a file beside.
    let order = [
        "ca.pem",
        "ca.crt",
        "service-account.pem",
        "encryption.json",
        "server.pem",
        "admin.pem",
    ];
    for made in 0..=order.len() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        open(path, now());
        for file in &order[made..] {
            fs::remove_file(path.join(file)).unwrap();
        }
        if let Some(next) = order.get(made) {
            fs::write(path.join(format!(".{next}.new")), "-----BEGIN PRIV").unwrap();
        }
        let kept: Vec<_> = order[..made]
            .iter()
            .map(|file| fs::read(path.join(file)).unwrap())
            .collect();
        open(path, now());
        for (file, content) in order.iter().zip(kept) {
            assert_eq!(fs::read(path.join(file)).unwrap(), content, "{file} after {made}");
        }
        for file in order {
            assert!(path.join(file).exists(), "{file} after {made}");
        }
    }
}

#[test]
fn a_lost_authority_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), now());
    fs::remove_file(directory.path().join("ca.pem")).unwrap();
    let error = Keeper::open(directory.path(), reached(), now())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ca.pem is missing") && error.contains("backup"),
        "{error}"
    );
    assert!(!directory.path().join("ca.pem").exists());
}

#[test]
fn a_leaf_of_another_authority_is_not_replaced() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open(one.path(), now());
    open(two.path(), now());
    fs::copy(two.path().join("server.pem"), one.path().join("server.pem")).unwrap();
    let error = Keeper::open(one.path(), reached(), now()).unwrap_err().to_string();
    assert!(error.contains("another authority"), "{error}");
}

#[test]
fn a_clock_that_was_wrong_at_the_first_start_is_no_end() {
    let directory = tempfile::tempdir().unwrap();
    let wrong = Timestamp::UNIX_EPOCH + hours(24);
    let old = open(directory.path(), wrong).authority().certificate.clone();
    let keeper = open(directory.path(), now());
    assert!(keeper.authority().certificate.is_valid_at(now()) && served(&keeper).is_valid_at(now()));
    assert_eq!(keeper.authority().certificate.public_info, old.public_info);
}
