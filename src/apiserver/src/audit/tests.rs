use super::*;
use crate::{Notes, metrics::Metrics};

fn request(verb: &'static str, path: &str) -> Request {
    Request {
        user: Arc::new(User {
            name: "ann".to_owned(),
            groups: vec!["dev".to_owned()],
            ..User::default()
        }),
        impersonator: None,
        verb,
        resource: None,
        subresource: String::new(),
        namespace: String::new(),
        name: String::new(),
        path: path.to_owned(),
        now: "2026-11-20T14:00:00.5Z".parse().unwrap(),
        notes: Notes::default(),
    }
}

#[test]
fn the_first_rule_that_matches_counts() {
    let policy = Policy::parse(
        "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ['/healthz*', /version]
- level: RequestResponse
  users: [ann]
  verbs: [post]
- level: Metadata
  userGroups: [dev]
  omitStages: [ResponseStarted]
",
    )
    .unwrap();
    for (verb, path, level, omitted) in [
        ("get", "/healthz/etcd", Level::None, 1),
        ("get", "/version", Level::None, 1),
        ("get", "/versions", Level::Metadata, 2),
        ("post", "/x", Level::RequestResponse, 1),
    ] {
        let judged = policy.judge(&request(verb, path));
        assert_eq!((judged.level, judged.omit_stages.len()), (level, omitted), "{path}");
    }
    let mut stranger = request("get", "/x");
    stranger.user = Arc::default();
    assert_eq!(policy.judge(&stranger).level, Level::None);
}

#[test]
fn a_file_that_is_no_policy_is_refused_in_words() {
    let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
    for (text, words) in [
        ("kind: Pod".to_owned(), "apiVersion: audit.k8s.io/v1"),
        (format!("{head}rules: [{{level: Loud}}]"), "Loud"),
        (format!("{head}rules: [{{level: None, user: [a]}}]"), "user"),
        (
            format!("{head}rules: [{{level: None, namespaces: [a], nonResourceURLs: [/x]}}]"),
            "rules[0]: a rule is about",
        ),
        (format!("{head}rules: [{{level: None, nonResourceURLs: [x]}}]"), "slash"),
        (format!("{head}rules: ["), "not a policy"),
    ] {
        let error = Policy::parse(&text).unwrap_err().to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn a_request_becomes_one_line_when_its_answer_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let log = Log::open(&path, Rotation::default(), Metrics::new("v1.36.0")).unwrap();
    let audit = Audit::new(Policy::metadata(), log);
    let origin = || Origin {
        id: "7".to_owned(),
        uri: "/x?y=z".to_owned(),
        agent: "test".to_owned(),
        source: Some("127.0.0.1".to_owned()),
    };
    assert!(audit.begin(&request("get", "/readyz"), origin).is_none());
    let mut record = audit.begin(&request("get", "/x"), origin).unwrap();
    record.decided(true, "because");
    record.complete(404);
    audit.flush();
    let line = std::fs::read_to_string(&path).unwrap();
    let mut event: Value = serde_json::from_str(&line).unwrap();
    event["stageTimestamp"] = Value::Null;
    assert_eq!(
        event,
        serde_json::json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": "7",
            "stage": "ResponseComplete", "requestURI": "/x?y=z", "verb": "get",
            "user": {"username": "ann", "groups": ["dev"]},
            "sourceIPs": ["127.0.0.1"], "userAgent": "test",
            "responseStatus": {"metadata": {}, "code": 404},
            "requestReceivedTimestamp": "2026-11-20T14:00:00.500000Z", "stageTimestamp": null,
            "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": "because"},
        })
    );
}
