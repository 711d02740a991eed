use bosun_pki::{Keeper, names::Reached};
use jiff::Timestamp;

use super::*;
use crate::{
    Notes, Resource,
    auth::{authorize::rbac, objects::fake::Stored},
    registry::builtin,
};

fn reviews(directory: &std::path::Path) -> Reviews {
    let reached = Reached {
        cluster_domain: "cluster.local".into(),
        ..Reached::default()
    };
    let keeper = Keeper::open(directory, reached, Timestamp::UNIX_EPOCH).unwrap();
    let stored = Stored::of(&[(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "a", "name": "sa", "uid": "u"}}),
    )]);
    let authenticator = Authenticator::new(Arc::new(keeper), Arc::new(stored), "https://us".into());
    let authorizer = Authorizer::default();
    authorizer.upsert(rbac::GROUP, "clusterroles", &json!({"metadata": {"name": "r"}, "rules": [
        {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}, {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]}));
    authorizer.upsert(
        rbac::GROUP,
        "rolebindings",
        &json!({
        "metadata": {"namespace": "a", "name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "Group", "name": "devs"}]}),
    );
    authorizer.upsert(
        rbac::GROUP,
        "clusterrolebindings",
        &json!({
        "metadata": {"name": "b"}, "roleRef": {"kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "User", "name": "joe"}]}),
    );
    Reviews::new(Arc::new(authenticator), Arc::new(authorizer))
}

fn row(group: &str, plural: &str) -> Arc<Resource> {
    let rows = builtin::rows();
    let found = rows.iter().find(|row| &*row.group == group && &*row.plural == plural);
    found.unwrap().clone()
}

async fn ask(group: &str, plural: &str, namespace: &str, user: &User, object: Value) -> Result<Value, Status> {
    let directory = tempfile::tempdir().unwrap();
    let request = Request {
        user: Arc::new(user.clone()),
        impersonator: None,
        verb: "create",
        resource: Some(row(group, plural)),
        subresource: String::new(),
        namespace: namespace.to_owned(),
        name: String::new(),
        path: String::new(),
        now: Timestamp::UNIX_EPOCH,
        notes: Notes::default(),
    };
    reviews(directory.path()).create(&request, object).await
}

fn jane() -> User {
    User {
        name: "jane".into(),
        groups: vec!["devs".into()],
        ..User::default()
    }
}

#[tokio::test]
async fn access_is_told_of_oneself_and_of_others() {
    let pods = |namespace: &str| json!({"verb": "get", "resource": "pods", "namespace": namespace});
    let own = |of: Value| json!({"spec": {"resourceAttributes": of}});
    let allowed = json!({"allowed": true, "reason": "RBAC: allowed by RoleBinding \"b/a\" of ClusterRole \"r\" to Group \"devs\""});
    let no = json!({"allowed": false});
    let answer = async |plural: &str, namespace: &str, object: Value| {
        ask(AUTHORIZATION, plural, namespace, &jane(), object)
            .await
            .map(|object| object["status"].clone())
    };
    assert_eq!(
        answer("selfsubjectaccessreviews", "", own(pods("a"))).await.unwrap(),
        allowed
    );
    assert_eq!(
        answer("selfsubjectaccessreviews", "", own(pods("b"))).await.unwrap(),
        no
    );
    let of = |spec: Value| {
        let mut object = own(pods("a"));
        object["spec"]
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        object
    };
    assert_eq!(
        answer("subjectaccessreviews", "", of(json!({"user": "x", "groups": ["devs"]})))
            .await
            .unwrap(),
        allowed
    );
    assert_eq!(
        answer("subjectaccessreviews", "", of(json!({"user": "x"})))
            .await
            .unwrap(),
        no
    );
    assert_eq!(
        answer("localsubjectaccessreviews", "a", of(json!({"groups": ["devs"]})))
            .await
            .unwrap(),
        allowed
    );
    let path = json!({"spec": {"user": "joe", "nonResourceAttributes": {"verb": "get", "path": "/metrics"}}});
    assert_eq!(answer("subjectaccessreviews", "", path).await.unwrap()["allowed"], true);
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let both =
        json!({"spec": {"user": "x", "resourceAttributes": {"verb": "get"}, "nonResourceAttributes": {"verb": "get"}}});
    let table = [
        (
            "subjectaccessreviews",
            "",
            json!({"kind": "SubjectAccessReview", "spec": {"resourceAttributes": {}}}),
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ),
        (
            "subjectaccessreviews",
            "",
            json!({"spec": {"user": "x"}}),
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ),
        (
            "subjectaccessreviews",
            "",
            both,
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.nonResourceAttributes: Invalid value: {\"verb\":\"get\"}: cannot be specified in combination with resourceAttributes",
        ),
        (
            "localsubjectaccessreviews",
            "a",
            json!({"spec": {"user": "x", "resourceAttributes": {"namespace": "b"}}}),
            "spec.resourceAttributes.namespace must match namespace: a",
        ),
        (
            "selfsubjectrulesreviews",
            "",
            json!({"spec": {}}),
            "no namespace on request",
        ),
    ];
    for (plural, namespace, object, message) in table {
        let refused = ask(AUTHORIZATION, plural, namespace, &jane(), object)
            .await
            .unwrap_err();
        assert_eq!(refused.message, message);
    }
}

#[tokio::test]
async fn rules_are_listed() {
    let answer = ask(
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "",
        &jane(),
        json!({"spec": {"namespace": "a"}}),
    )
    .await
    .unwrap();
    assert_eq!(
        answer["status"],
        json!({
            "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}],
            "incomplete": false,
        })
    );
}

#[tokio::test]
async fn users_are_told_who_they_are() {
    let user = User {
        uid: "7".into(),
        extra: [("scopes".into(), vec!["a".into()])].into(),
        ..jane()
    };
    let answer = ask(
        "authentication.k8s.io",
        "selfsubjectreviews",
        "",
        &user,
        json!({"metadata": {}}),
    )
    .await
    .unwrap();
    assert_eq!(
        answer["status"],
        json!({"userInfo": {"username": "jane", "uid": "7", "groups": ["devs"], "extra": {"scopes": ["a"]}}})
    );
}

#[tokio::test]
async fn tokens_are_reviewed() {
    let directory = tempfile::tempdir().unwrap();
    let reviews = reviews(directory.path());
    let now = Timestamp::UNIX_EPOCH;
    let token = token_request::create(
        &reviews.authenticator,
        "a",
        "sa",
        json!({"spec": {"audiences": ["v", "https://us"]}}),
        now,
    )
    .await
    .unwrap();
    let token = token["status"]["token"].as_str().unwrap();
    let review = async |spec: Value| {
        let request = Request {
            user: Arc::new(jane()),
            impersonator: None,
            verb: "create",
            resource: Some(row("authentication.k8s.io", "tokenreviews")),
            subresource: String::new(),
            namespace: String::new(),
            name: String::new(),
            path: String::new(),
            now,
            notes: Notes::default(),
        };
        reviews
            .create(&request, json!({ "spec": spec }))
            .await
            .map(|object| object["status"].clone())
    };
    let status = review(json!({ "token": token })).await.unwrap();
    assert_eq!(status["authenticated"], true);
    assert_eq!(status["user"]["username"], "system:serviceaccount:a:sa");
    assert_eq!(status["audiences"], json!(["https://us"]));
    let status = review(json!({"token": token, "audiences": ["v", "w"]})).await.unwrap();
    assert_eq!(status["audiences"], json!(["v"]));
    let status = review(json!({"token": token, "audiences": ["w"]})).await.unwrap();
    assert_eq!(status, json!({"error": "token audiences don't fit"}));
    let status = review(json!({"token": "x.y.z"})).await.unwrap();
    assert_eq!(status, json!({"error": "malformed token"}));
    assert_eq!(
        review(json!({})).await.unwrap_err().message,
        "token is required for TokenReview in authentication"
    );
}

#[test]
fn only_these_are_questions() {
    assert!(Reviews::answers("", "serviceaccounts", "token"));
    assert!(Reviews::answers("authorization.k8s.io", "subjectaccessreviews", ""));
    assert!(!Reviews::answers("", "serviceaccounts", ""));
    assert!(!Reviews::answers("apps", "subjectaccessreviews", ""));
}
