mod life;

use super::*;

// (wanted, workers with whether they end, expected)
type Case<'a> = (&'a [(&'a str, &'a str)], &'a [(&'a str, &'a str, bool)], Vec<Action>);

fn key(name: &str) -> PodKey {
    PodKey {
        namespace: "default".into(),
        name: name.into(),
    }
}

#[test]
fn a_pod_waits_until_none_of_its_name_is_left() {
    let start = |uid: &str| Action::Start(uid.into());
    let end = |uid: &str| Action::End(uid.into());
    let table: [Case<'_>; 7] = [
        (&[("u1", "web")], &[], vec![start("u1")]),
        (&[("u1", "web")], &[("u1", "web", false)], vec![]),
        (&[], &[("u1", "web", false)], vec![end("u1")]),
        (&[], &[("u1", "web", true)], vec![]),
        (&[("u2", "web")], &[("u1", "web", false)], vec![end("u1")]),
        (&[("u2", "web")], &[("u1", "web", true)], vec![]),
        // Removed and put back while it ends: it begins anew once it is gone.
        (&[("u1", "web")], &[("u1", "web", true)], vec![]),
    ];
    for (wanted, workers, expected) in table {
        let wanted = wanted
            .iter()
            .map(|(uid, name)| (PodUid::from(*uid), key(name)))
            .collect();
        let workers = workers
            .iter()
            .map(|(uid, name, ends)| (PodUid::from(*uid), (key(name), *ends)))
            .collect();
        assert_eq!(plan_workers(&wanted, &workers), expected, "{wanted:?} {workers:?}");
    }
}
