use bosun_pki::{
    Authority, PrivateKey, Template, TokenKeys,
    authority::{BACKDATE, LEAF_LIFE},
    names::Reached,
};
use http::HeaderValue;
use proptest::prelude::*;
use rustls::pki_types::CertificateDer;
use serde_json::json;

use super::*;
use crate::auth::{objects::fake::Stored, token_request};

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const BOOTSTRAP: &str = "abcdef.0123456789abcdef";

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

struct World {
    _directory: tempfile::TempDir,
    keeper: Arc<Keeper>,
    stored: Arc<Stored>,
    authenticator: Authenticator,
}

fn world() -> World {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let directory = tempfile::tempdir().unwrap();
    let reached = Reached {
        cluster_domain: "cluster.local".into(),
        ..Reached::default()
    };
    let keeper = Arc::new(Keeper::open(directory.path(), reached, now()).unwrap());
    let object = |namespace: &str, name: &str, uid: &str| json!({"metadata": {"namespace": namespace, "name": name, "uid": uid}});
    let mut pod = object("a", "p", "pod-uid");
    pod["spec"] = json!({"serviceAccountName": "sa", "nodeName": "n"});
    let secret = json!({
        "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {"token-id": STANDARD.encode("abcdef"), "token-secret": STANDARD.encode("0123456789abcdef"),
                 "usage-bootstrap-authentication": STANDARD.encode("true")},
    });
    let stored = Arc::new(Stored::of(&[
        ("", "serviceaccounts", object("a", "sa", "sa-uid")),
        ("", "pods", pod),
        ("", "nodes", json!({"metadata": {"name": "n", "uid": "node-uid"}})),
        ("", "secrets", secret),
    ]));
    let authenticator = Authenticator::new(keeper.clone(), stored.clone(), ISSUER.to_owned());
    World {
        _directory: directory,
        keeper,
        stored,
        authenticator,
    }
}

impl World {
    async fn ask(&self, peer: &Peer, token: Option<&str>, path: &str) -> Result<Arc<User>, Status> {
        self.ask_at(peer, token, path, now()).await
    }

    async fn ask_at(&self, peer: &Peer, token: Option<&str>, path: &str, at: Timestamp) -> Result<Arc<User>, Status> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert(
                AUTHORIZATION,
                HeaderValue::from_str(&format!("Bearer {token}")).unwrap(),
            );
        }
        self.authenticator.authenticate(peer, &headers, path, at).await
    }

    async fn token(&self, spec: serde_json::Value) -> String {
        let request = json!({"kind": "TokenRequest", "spec": spec});
        let answer = token_request::create(&self.authenticator, "a", "sa", request, now())
            .await
            .unwrap();
        answer["status"]["token"].as_str().unwrap().to_owned()
    }
}

fn client(authority: &Authority, user: &str, groups: &[&str], at: Timestamp) -> Peer {
    let groups: Vec<_> = groups.iter().map(|&group| group.to_owned()).collect();
    Peer::new(vec![
        authority.issue(&Template::client(user, &groups), at).0.der().clone(),
    ])
}

#[tokio::test]
async fn a_certificate_says_who() {
    let world = world();
    let peer = client(&world.keeper.authority(), "jane", &["devs", "ops"], now());
    for _ in 0..2 {
        let user = world.ask(&peer, None, "/api").await.unwrap();
        assert_eq!(user.name, "jane");
        assert_eq!(user.groups, ["devs", "ops", "system:authenticated"]);
    }
}

#[tokio::test]
async fn no_good_certificate_is_nobodys() {
    let world = world();
    let ours = world.keeper.authority();
    let theirs = Authority::generate("bosun-ca", now());
    let server = ours.issue(&Template::server("jane", &["jane".into()]), now()).0;
    let table = [
        (
            "another authority's",
            client(&theirs, "jane", &["system:masters"], now()),
        ),
        ("expired", client(&ours, "jane", &[], now() - LEAF_LIFE - BACKDATE)),
        ("not yet valid", client(&ours, "jane", &[], now() + LEAF_LIFE / 2)),
        ("a server's", Peer::new(vec![server.der().clone()])),
        ("nameless", client(&ours, "", &["devs"], now())),
        (
            "no certificate",
            Peer::new(vec![CertificateDer::from(vec![0x30, 0x03, 1, 1, 0xff])]),
        ),
    ];
    for (case, peer) in table {
        for path in ["/api", "/healthz"] {
            assert_eq!(world.ask(&peer, None, path).await, Err(unauthorized()), "{case} {path}");
        }
        let user = world.ask(&peer, Some(BOOTSTRAP), "/api").await.unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef", "{case}: a token still says who");
    }
}

#[tokio::test]
async fn a_connection_outlives_its_certificate_but_not_as_somebody() {
    let world = world();
    let peer = client(&world.keeper.authority(), "jane", &[], now());
    world.ask(&peer, None, "/api").await.unwrap();
    let late = now() + LEAF_LIFE + BACKDATE;
    assert_eq!(world.ask_at(&peer, None, "/api", late).await, Err(unauthorized()));
}

#[tokio::test]
async fn nobody_may_only_look_whether_the_server_lives() {
    let world = world();
    let nobody = Peer::default();
    let open = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    for path in ["/healthz", "/livez", "/readyz", open] {
        let user = world.ask(&nobody, None, path).await.unwrap();
        assert_eq!(
            (user.name.as_str(), &user.groups[..]),
            ("system:anonymous", &["system:unauthenticated".to_owned()][..])
        );
        assert_eq!(
            world.ask(&nobody, Some("wrong"), path).await,
            Err(unauthorized()),
            "{path} with a wrong token"
        );
    }
    for path in [
        "/",
        "/api",
        "/version",
        "/healthz/x",
        "/api/v1/namespaces/kube-public/configmaps",
    ] {
        let refused = world.ask(&nobody, None, path).await.unwrap_err();
        assert_eq!(
            (refused.reason, refused.message.as_str()),
            (Reason::Unauthorized, "Unauthorized"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_service_accounts_token_says_who_while_it_lasts() {
    let world = world();
    let nobody = Peer::default();
    let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "pod-uid"}});
    let token = world.token(bound).await;
    let user = world.ask(&nobody, Some(&token), "/api").await.unwrap();
    assert_eq!(user.name, "system:serviceaccount:a:sa");
    assert_eq!(user.uid, "sa-uid");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:a",
            "system:authenticated"
        ]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-uid"], ["pod-uid"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["node-uid"]);
    let hour = jiff::SignedDuration::from_hours(1);
    world
        .ask_at(
            &nobody,
            Some(&token),
            "/api",
            now() + hour - jiff::SignedDuration::from_secs(1),
        )
        .await
        .unwrap();
    assert_eq!(
        world.ask_at(&nobody, Some(&token), "/api", now() + hour).await,
        Err(unauthorized())
    );
    let other = world.token(json!({"audiences": ["vault"]})).await;
    assert_eq!(
        world.ask(&nobody, Some(&other), "/api").await,
        Err(unauthorized()),
        "another audience"
    );
    world.stored.0.lock().retain(|(_, plural, _)| plural != "pods");
    assert_eq!(
        world.ask(&nobody, Some(&token), "/api").await,
        Err(unauthorized()),
        "its pod is gone"
    );
}

#[tokio::test]
async fn a_token_of_an_object_that_was_replaced_is_refused() {
    let world = world();
    let token = world.token(json!({})).await;
    let nobody = Peer::default();
    world.ask(&nobody, Some(&token), "/api").await.unwrap();
    for (_, plural, object) in world.stored.0.lock().iter_mut() {
        if plural == "serviceaccounts" {
            object["metadata"]["uid"] = "another".into();
        }
    }
    assert_eq!(world.ask(&nobody, Some(&token), "/api").await, Err(unauthorized()));
}

#[tokio::test]
async fn tokens_of_other_keys_are_refused() {
    let world = world();
    let claims = json!({"iss": ISSUER, "aud": [ISSUER], "sub": "system:serviceaccount:a:sa", "exp": now().as_second() + 60,
        "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "sa", "uid": "sa-uid"}}});
    let theirs = TokenKeys::new(vec![PrivateKey::generate()]).unwrap();
    let nobody = Peer::default();
    assert_eq!(
        world.ask(&nobody, Some(&theirs.sign(&claims)), "/api").await,
        Err(unauthorized())
    );
    world
        .ask(&nobody, Some(&world.keeper.token_keys.sign(&claims)), "/api")
        .await
        .unwrap();
}

#[tokio::test]
async fn requests_for_tokens_are_checked() {
    let world = world();
    let ask = |spec: serde_json::Value| {
        let request = json!({"spec": spec});
        token_request::create(&world.authenticator, "a", "sa", request, now())
    };
    let reference = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
    let table = [
        (
            json!({"expirationSeconds": 599}),
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 1u64 << 33}),
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 8589934592: may not specify a duration larger than 2^32 seconds",
        ),
        (reference("Pod", "q", ""), "pods \"q\" not found"),
        (
            reference("Pod", "p", "old"),
            "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (
            reference("ConfigMap", "c", ""),
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
    ];
    for (spec, message) in table {
        assert_eq!(ask(spec).await.unwrap_err().message, message);
    }
    let answer = ask(json!({})).await.unwrap();
    assert_eq!(answer["status"]["expirationTimestamp"], "2026-06-01T13:00:00Z");
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    let missing = token_request::create(&world.authenticator, "a", "nobody", json!({}), now()).await;
    assert_eq!(missing.unwrap_err().message, "serviceaccounts \"nobody\" not found");
}

#[tokio::test]
async fn an_hour_for_a_pod_is_a_year_with_a_warning() {
    let world = world();
    let pod = json!({"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": "pod-uid"});
    let claims = |token: &str| world.keeper.token_keys.verify(token).unwrap();
    let long = claims(
        &world
            .token(json!({"expirationSeconds": 3607, "boundObjectRef": pod}))
            .await,
    );
    assert_eq!(long["exp"].as_i64().unwrap() - now().as_second(), 365 * 24 * 3600);
    assert_eq!(
        long["kubernetes.io"]["warnafter"].as_i64().unwrap() - now().as_second(),
        3607
    );
    let short = claims(
        &world
            .token(json!({"expirationSeconds": 3607, "boundObjectRef": pod, "audiences": ["vault"]}))
            .await,
    );
    assert_eq!(short["exp"].as_i64().unwrap() - now().as_second(), 3607);
}

#[test]
fn the_header_is_read_as_upstream_does() {
    let table = [
        ("Bearer abc", Bearer::Token("abc")),
        ("bearer  abc ", Bearer::Token("abc")),
        ("Bearer", Bearer::Unreadable),
        ("Bearer ", Bearer::Unreadable),
        ("Basic abc", Bearer::None),
        ("", Bearer::None),
    ];
    for (value, expected) in table {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())]);
        assert_eq!(bearer(&headers), expected, "{value:?}");
    }
    let mut two = HeaderMap::new();
    two.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
    two.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
    assert_eq!(bearer(&two), Bearer::Unreadable);
    assert_eq!(bearer(&HeaderMap::new()), Bearer::None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_sent_as_a_token_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let world = world();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        if let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", &bytes[..]].concat()) {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
            let nobody = Peer::default();
            let asked = world.authenticator.authenticate(&nobody, &headers, "/healthz", now());
            prop_assert_eq!(runtime.block_on(asked), Err(unauthorized()));
        }
    }

    #[test]
    fn whatever_claims_are_signed_only_whole_ones_are_believed(
        missing in 0usize..7, wrong in "(null|1|\"x\"|\\[\\]|\\{\\}|-1|\"\")"
    ) {
        let world = world();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut claims = json!({"iss": ISSUER, "aud": [ISSUER], "sub": "system:serviceaccount:a:sa", "exp": now().as_second() + 60,
            "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "sa", "uid": "sa-uid"}}});
        let at = ["/iss", "/aud", "/sub", "/exp", "/kubernetes.io", "/kubernetes.io/namespace", "/kubernetes.io/serviceaccount"][missing];
        *claims.pointer_mut(at).unwrap() = serde_json::from_str(&wrong).unwrap();
        let token = world.keeper.token_keys.sign(&claims);
        let nobody = Peer::default();
        let asked = world.ask(&nobody, Some(&token), "/api");
        prop_assert_eq!(runtime.block_on(asked), Err(unauthorized()));
    }
}
