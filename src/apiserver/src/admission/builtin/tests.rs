use bosun_store::{Compare, Op, Revision, Txn};
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::{
    Notes, Reason, Request, User,
    auth::{names::NODES, objects::fake::Stored},
    registry,
};

struct World {
    stored: Arc<Stored>,
    admission: BuiltIn,
}

fn named(namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = rest;
    object["metadata"]["name"] = name.into();
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn world(objects: &[(&str, &str, Value)]) -> World {
    let mut all = vec![
        ("", "namespaces", named("", "a", json!({}))),
        (
            "",
            "serviceaccounts",
            named("a", "default", json!({"metadata": {"uid": "u"}})),
        ),
    ];
    all.extend(objects.iter().cloned());
    let stored = Arc::new(Stored::of(&all));
    World {
        admission: BuiltIn::new(stored.clone(), Arc::new(Authorizer::default())),
        stored,
    }
}

fn request(user: &User, group: &str, plural: &str, subresource: &str, namespace: &str) -> Request {
    let rows = registry::builtin::rows();
    let row = rows
        .iter()
        .find(|row| &*row.group == group && &*row.plural == plural)
        .unwrap();
    Request {
        user: Arc::new(user.clone()),
        impersonator: None,
        verb: "create",
        resource: Some(row.clone()),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: String::new(),
        path: String::new(),
        now: Timestamp::UNIX_EPOCH,
        notes: Notes::default(),
    }
}

/// What becomes of an object that is created by `user`.
struct Outcome {
    object: Value,
    warnings: Vec<String>,
    txn: Txn,
}

impl World {
    async fn create(&self, group: &str, plural: &str, object: Value) -> Result<Outcome, Status> {
        let user = User {
            name: "jane".into(),
            ..User::default()
        };
        self.ask(&request(&user, group, plural, "", "a"), Operation::Create, object, None)
            .await
    }

    async fn ask(
        &self,
        request: &Request,
        operation: Operation,
        object: Value,
        old: Option<&Value>,
    ) -> Result<Outcome, Status> {
        let name = text(&object, "/metadata/name").to_owned();
        let options = Value::Null;
        let mut attributes = Attributes {
            request,
            name: &name,
            operation,
            object,
            old,
            options: &options,
            dry_run: false,
            txn: Txn::default(),
        };
        let warnings = self.admission.mutate(&mut attributes).await?;
        self.admission.validate(&mut attributes).await?;
        Ok(Outcome {
            object: attributes.object,
            warnings,
            txn: attributes.txn,
        })
    }
}

fn pod() -> Value {
    named("a", "p", json!({"spec": {"containers": [{"name": "c", "image": "i"}]}}))
}

#[tokio::test]
async fn a_pod_gets_all_that_it_depends_on() {
    let world = world(&[
        (
            "",
            "limitranges",
            named(
                "a",
                "l",
                json!({"spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}}),
            ),
        ),
        (
            "scheduling.k8s.io",
            "priorityclasses",
            named("", "usual", json!({"value": 5, "globalDefault": true})),
        ),
    ]);
    let pod = world.create("", "pods", pod()).await.unwrap().object;
    let spec = &pod["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert!(text(spec, "/volumes/0/name").starts_with("kube-api-access-"));
    assert_eq!(spec["containers"][0]["resources"]["limits"]["cpu"], "1");
    assert_eq!(
        (&spec["priority"], &spec["priorityClassName"]),
        (&json!(5), &json!("usual"))
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn refusals_are_told_as_upstream_does() {
    let world = world(&[
        (
            "",
            "limitranges",
            named(
                "a",
                "l",
                json!({"spec": {"limits": [{"type": "Container", "min": {"cpu": "1"}}]}}),
            ),
        ),
        (
            "",
            "namespaces",
            named(
                "",
                "a",
                json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}),
            ),
        ),
    ]);
    let with = |field: &str, value: Value| {
        let mut pod = pod();
        pod["spec"][field] = value;
        pod
    };
    let mut cpu = pod();
    cpu["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1"}});
    cpu["spec"]["hostNetwork"] = true.into();
    let table = [
        (
            with("serviceAccountName", "x".into()),
            "pods \"p\" is forbidden: error looking up service account a/x: serviceaccount \"x\" not found",
        ),
        (
            with("priorityClassName", "x".into()),
            "pods \"p\" is forbidden: no PriorityClass with name x was found",
        ),
        (
            with("runtimeClassName", "x".into()),
            "pods \"p\" is forbidden: pod rejected: RuntimeClass \"x\" not found",
        ),
        (
            pod(),
            "pods \"p\" is forbidden: minimum cpu usage per Container is 1.  No request is specified",
        ),
        (
            cpu,
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)",
        ),
    ];
    for (pod, message) in table {
        let refused = world.create("", "pods", pod).await.err().unwrap();
        assert_eq!((refused.reason, refused.message.as_str()), (Reason::Forbidden, message));
    }
}

#[tokio::test]
async fn a_quota_is_charged_in_the_same_transaction() {
    let quota = |used: &str| {
        named(
            "a",
            "q",
            json!({"spec": {"hard": {"pods": "2"}}, "status": {"hard": {"pods": "2"}, "used": {"pods": used}}}),
        )
    };
    let charged = world(&[("", "resourcequotas", quota("1"))]);
    let txn = charged.create("", "pods", pod()).await.unwrap().txn;
    let [Compare::Modified(key, revision)] = &txn.compares[..] else {
        panic!("{:?}", txn.compares)
    };
    assert_eq!(
        (&key[..], *revision),
        (&b"/registry/resourcequotas/a/q"[..], Revision(7))
    );
    let [Op::Put { value, .. }] = &txn.ops[..] else {
        panic!("{:?}", txn.ops)
    };
    let written: Value = serde_json::from_slice(value).unwrap();
    assert_eq!(written["status"], json!({"hard": {"pods": "2"}, "used": {"pods": "2"}}));
    // A config map is none of its business.
    assert_eq!(
        charged
            .create("", "configmaps", named("a", "c", json!({})))
            .await
            .unwrap()
            .txn,
        Txn::default()
    );
}

#[tokio::test]
async fn a_full_quota_is_counted_anew_before_it_refuses() {
    let quota = named(
        "a",
        "q",
        json!({"spec": {"hard": {"pods": "1"}}, "status": {"hard": {"pods": "1"}, "used": {"pods": "1"}}}),
    );
    let world = world(&[("", "resourcequotas", quota)]);
    // The pod it was charged for is gone.
    world.create("", "pods", pod()).await.unwrap();
    world.stored.0.lock().push((String::new(), "pods".into(), pod()));
    let refused = world.create("", "pods", pod()).await.err().unwrap();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    );
}

#[tokio::test]
async fn a_quota_wants_to_know_how_much() {
    let quota = named("a", "q", json!({"spec": {"hard": {"requests.cpu": "1"}}}));
    let refused = world(&[("", "resourcequotas", quota)])
        .create("", "pods", pod())
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: failed quota: q: must specify requests.cpu for: c"
    );
}

#[tokio::test]
async fn whoever_makes_pods_is_warned() {
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "baseline"}}});
    let world = world(&[("", "namespaces", named("", "a", labels))]);
    let object = named("a", "d", json!({"spec": {"template": {"spec": {"hostPID": true}}}}));
    let outcome = world.create("apps", "deployments", object).await.unwrap();
    assert_eq!(
        outcome.warnings,
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
    );
}

#[tokio::test]
async fn the_audit_log_is_told_what_is_enforced_and_what_is_only_spoken_of_there() {
    let labels = json!({"metadata": {"labels": {
        "pod-security.kubernetes.io/audit": "baseline", "pod-security.kubernetes.io/enforce": "privileged",
    }}});
    let world = world(&[("", "namespaces", named("", "a", labels))]);
    let mut risky = pod();
    risky["spec"]["hostPID"] = true.into();
    let request = request(&User::default(), "", "pods", "", "a");
    let outcome = world.ask(&request, Operation::Create, risky, None).await.unwrap();
    assert!(outcome.warnings.is_empty());
    let notes: Vec<_> = request.notes.all().into_iter().collect();
    assert_eq!(
        notes,
        [
            (
                "pod-security.kubernetes.io/audit-violations",
                "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)".to_owned()
            ),
            (
                "pod-security.kubernetes.io/enforce-policy",
                "privileged:latest".to_owned()
            ),
        ]
    );
}

#[tokio::test]
async fn nobody_gives_away_more_than_they_have() {
    let role = named(
        "",
        "r",
        json!({"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]}),
    );
    let user = User {
        name: "jane".into(),
        ..User::default()
    };
    let request = request(&user, rbac::GROUP, "clusterroles", "", "");
    let refused = world(&[])
        .ask(&request, Operation::Create, role, None)
        .await
        .err()
        .unwrap();
    assert!(
        refused
            .message
            .contains("is attempting to grant RBAC permissions not currently held"),
        "{}",
        refused.message
    );
}

#[tokio::test]
async fn nodes_are_restricted() {
    let node = User {
        name: "system:node:n".into(),
        groups: vec![NODES.into()],
        ..User::default()
    };
    let world = world(&[]);
    let refused = world
        .ask(&request(&node, "", "pods", "", "a"), Operation::Create, pod(), None)
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n\" can only create mirror pods"
    );
    let other = named("", "m", json!({}));
    let refused = world
        .ask(&request(&node, "", "nodes", "", ""), Operation::Create, other, None)
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.message,
        "nodes \"m\" is forbidden: node \"n\" is not allowed to modify node \"m\""
    );
    let own = named("", "n", json!({}));
    let made = world
        .ask(&request(&node, "", "nodes", "", ""), Operation::Create, own, None)
        .await
        .unwrap();
    assert_eq!(made.object["spec"]["taints"][0]["key"], "node.kubernetes.io/not-ready");
    let lease = named("kube-node-lease", "m", json!({}));
    let asked = request(&node, "coordination.k8s.io", "leases", "", "kube-node-lease");
    let refused = world.ask(&asked, Operation::Create, lease, None).await.err().unwrap();
    assert_eq!(
        refused.message,
        "leases.coordination.k8s.io \"m\" is forbidden: can only access node lease with the same name as the requesting node"
    );
}

#[tokio::test]
async fn approving_needs_the_right_for_the_signer() {
    let csr = named(
        "",
        "c",
        json!({"spec": {"signerName": "kubernetes.io/kube-apiserver-client"}}),
    );
    let user = User {
        name: "jane".into(),
        ..User::default()
    };
    let asked = request(
        &user,
        "certificates.k8s.io",
        "certificatesigningrequests",
        "approval",
        "",
    );
    let refused = world(&[])
        .ask(&asked, Operation::Update, csr.clone(), Some(&csr))
        .await
        .err()
        .unwrap();
    assert_eq!(
        refused.message,
        "certificatesigningrequests.certificates.k8s.io \"c\" is forbidden: user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\""
    );
}

#[tokio::test]
async fn a_bound_pod_learns_where_it_is() {
    let node = named(
        "",
        "n",
        json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "z"}}}),
    );
    let mut bound = pod();
    bound["spec"]["nodeName"] = "n".into();
    let user = User {
        name: "jane".into(),
        ..User::default()
    };
    let asked = request(&user, "", "pods", "binding", "a");
    let outcome = world(&[("", "nodes", node)])
        .ask(&asked, Operation::Update, bound, Some(&pod()))
        .await
        .unwrap();
    assert_eq!(
        outcome.object["metadata"]["labels"],
        json!({"topology.kubernetes.io/zone": "z"})
    );
}
