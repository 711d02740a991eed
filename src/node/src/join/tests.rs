use std::{collections::BTreeMap, convert::Infallible, fs, os::unix::fs::MetadataExt, sync::Arc};

use bosun_pki::{
    Authority, Template,
    bootstrap::BootstrapToken,
    kubeconfig::cluster_info,
    signer::{SigningRequest, sign},
    tls::AnyClient,
};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Collected, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use jiff::SignedDuration;
use k8s_openapi::api::{certificates::v1::CertificateSigningRequest, core::v1::Namespace};
use kube::Api;
use parking_lot::Mutex;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Far longer than anything here takes; it only ends a test that has failed.
const LONG: Duration = Duration::from_secs(60);

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Sign,
    Wait,
    Deny,
}

/// The part of an API server that a node needs to join, as the public API describes it.
struct Cluster {
    authority: Authority,
    token: BootstrapToken,
    /// Whether the token lets anybody in.
    token_counts: bool,
    /// Whether `cluster-info` is signed with the token.
    signed: bool,
    verdict: Verdict,
    /// How far its clock is ahead.
    ahead: SignedDuration,
    /// How long certificates hold.
    life: SignedDuration,
    requests: BTreeMap<String, Value>,
    watchers: Vec<mpsc::UnboundedSender<Value>>,
    /// Creations, by whom.
    created: Vec<(String, String)>,
    url: String,
}

impl Cluster {
    fn now(&self) -> Timestamp {
        Timestamp::now() + self.ahead
    }

    fn settle(&mut self, name: &str) {
        let object = self.requests.get_mut(name).unwrap();
        match self.verdict {
            Verdict::Wait => return,
            Verdict::Deny => {
                object["status"]["conditions"] =
                    json!([{"type": "Denied", "status": "True", "reason": "No", "message": "not on my ship"}]);
            }
            Verdict::Sign => {
                let request: CertificateSigningRequest = serde_json::from_value(object.clone()).unwrap();
                let parsed = SigningRequest::from_pem(&request.spec.request.0).unwrap();
                let usages = request.spec.usages.unwrap();
                let now = Timestamp::now() + self.ahead;
                let signed = sign(
                    &self.authority,
                    &request.spec.signer_name,
                    &parsed,
                    &usages,
                    Some(self.life),
                    now,
                );
                let pem = signed.unwrap().pem();
                object["status"] = json!({
                    "conditions": [{"type": "Approved", "status": "True"}],
                    "certificate": k8s_openapi::ByteString(pem.into_bytes()),
                });
            }
        }
        let object = object.clone();
        self.watchers.retain(|watcher| watcher.send(object.clone()).is_ok());
    }
}

/// A running one. What it does can be changed while it runs.
struct Server {
    cluster: Arc<Mutex<Cluster>>,
    _tasks: JoinSet<()>,
}

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

fn reply(code: u16, body: &Value, date: Timestamp) -> Reply {
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let builder = Response::builder().status(code).header("date", date);
    builder.body(Full::from(body.to_string()).boxed_unsync()).unwrap()
}

fn status(code: u16, message: &str, date: Timestamp) -> Reply {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message});
    reply(code, &body, date)
}

async fn answer(cluster: &Mutex<Cluster>, request: Request<Incoming>, user: Option<String>) -> Reply {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let mut cluster = cluster.lock();
    let now = cluster.now();
    let user = match parts.headers.get(AUTHORIZATION) {
        Some(given) => {
            let token = format!("Bearer {}.{}", cluster.token.id, cluster.token.secret);
            if !cluster.token_counts || *given != token {
                return status(401, "Unauthorized", now);
            }
            Some("bootstrap".to_owned())
        }
        None => user,
    };
    if parts.uri.path().ends_with("/cluster-info") {
        let text = cluster_info(&cluster.url, &cluster.authority.certificate);
        let mut data = json!({ "kubeconfig": text });
        if cluster.signed {
            data[format!("jws-kubeconfig-{}", cluster.token.id)] = cluster.token.sign_detached(text.as_bytes()).into();
        }
        return reply(
            200,
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": data}),
            now,
        );
    }
    let Some(user) = user else {
        return status(401, "Unauthorized", now);
    };
    if parts.uri.path().starts_with("/api/v1/namespaces/") {
        return reply(
            200,
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": user}}),
            now,
        );
    }
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let name = parts
        .uri
        .path()
        .strip_prefix(requests)
        .unwrap()
        .trim_start_matches('/')
        .to_owned();
    match (&parts.method, name.as_str()) {
        (&Method::POST, "") => {
            let mut object: Value = serde_json::from_slice(&body).unwrap();
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            if cluster.requests.contains_key(&name) {
                return status(409, "already exists", now);
            }
            object["metadata"]["resourceVersion"] = "7".into();
            cluster.requests.insert(name.clone(), object.clone());
            cluster.created.push((user, name.clone()));
            cluster.settle(&name);
            reply(201, &object, now)
        }
        (&Method::GET, "") => {
            let query = parts.uri.query().unwrap();
            assert!(
                query.contains("watch=true") && query.contains("metadata.name%3D"),
                "{query}"
            );
            let (tx, rx) = mpsc::unbounded_channel();
            for object in cluster.requests.values() {
                tx.send(object.clone()).unwrap();
            }
            cluster.watchers.push(tx);
            let query = query.to_owned();
            let objects = stream::unfold(rx, async |mut rx| Some((rx.recv().await?, rx)));
            let events = objects.filter_map(move |object: Value| {
                let name = object["metadata"]["name"].as_str().unwrap();
                let event = query
                    .contains(name)
                    .then(|| json!({"type": "MODIFIED", "object": object}));
                std::future::ready(event.map(|event| Ok(Frame::data(Bytes::from(format!("{event}\n"))))))
            });
            Response::new(UnsyncBoxBody::new(StreamBody::new(events)))
        }
        (&Method::GET, name) => match cluster.requests.get(name) {
            Some(object) => reply(200, object, now),
            None => status(404, "not found", now),
        },
        other => panic!("{other:?}"),
    }
}

impl Server {
    async fn start() -> Self {
        Self::ahead(SignedDuration::ZERO).await
    }

    /// One whose clock is ahead.
    async fn ahead(ahead: SignedDuration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let now = Timestamp::now() + ahead;
        let authority = Authority::generate("ca", now);
        let (certificate, key) = authority.issue(&Template::server("server", &["127.0.0.1".into()]), now);
        let key = PrivatePkcs8KeyDer::from(key.secret_pkcs8().to_vec());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(AnyClient::new(&authority.certificate))
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let cluster = Arc::new(Mutex::new(Cluster {
            authority,
            token: BootstrapToken::generate(),
            token_counts: true,
            signed: true,
            verdict: Verdict::Sign,
            ahead,
            life: SignedDuration::from_hours(24),
            requests: BTreeMap::new(),
            watchers: vec![],
            created: vec![],
            url: format!("https://{address}"),
        }));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), cluster.clone()));
        Self { cluster, _tasks: tasks }
    }

    fn way(&self) -> Way {
        let cluster = self.cluster.lock();
        Way::Token {
            server: cluster.url.parse().unwrap(),
            token: JoinToken {
                token: cluster.token.clone(),
                authority: Some(CaHash::of(&cluster.authority.certificate)),
            },
            known: Known::Hash,
        }
    }

    fn created(&self) -> usize {
        self.cluster.lock().created.len()
    }
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, cluster: Arc<Mutex<Cluster>>) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, cluster) = (acceptor.clone(), cluster.clone());
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            let chain = tls.get_ref().1.peer_certificates();
            let user = chain.map(|chain| {
                let leaf = Certificate::from_der(chain[0].clone().into_owned()).unwrap();
                assert!(leaf.is_signed_by(&cluster.lock().authority.certificate));
                leaf.common_name
            });
            let service = service_fn(|request: Request<Incoming>| {
                let (cluster, user) = (cluster.clone(), user.clone());
                async move { Ok::<_, Infallible>(answer(&cluster, request, user).await) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(tls), service).await;
        });
    }
}

/// A node's places on disk.
struct Node {
    dir: tempfile::TempDir,
    names: watch::Sender<Names>,
}

impl Node {
    fn new() -> Self {
        let names = Names {
            dns: vec!["a".into()],
            addresses: vec!["127.0.0.1".parse().unwrap()],
        };
        Self {
            dir: tempfile::tempdir().unwrap(),
            names: watch::channel(names).0,
        }
    }

    fn config(&self, way: Option<Way>) -> JoinConfig {
        JoinConfig {
            node_name: "a".into(),
            pki: self.dir.path().join("pki"),
            kubeconfig: self.dir.path().join("kubeconfig"),
            way,
            serve_with: ServeWith::Cluster,
            rotate: true,
            patience: Duration::ZERO,
            approval: LONG,
        }
    }

    async fn join(&self, way: Option<Way>) -> Result<Joined, JoinError> {
        self.with(self.config(way)).await
    }

    async fn with(&self, config: JoinConfig) -> Result<Joined, JoinError> {
        timeout(LONG, join(config, self.names.subscribe())).await.unwrap()
    }
}

async fn who(client: &kube::Client) -> String {
    Api::<Namespace>::all(client.clone())
        .get("x")
        .await
        .unwrap()
        .metadata
        .name
        .unwrap()
}

#[tokio::test]
async fn a_node_joins_with_a_token_and_comes_back_without_it_and_without_its_server() {
    let server = Server::start().await;
    let node = Node::new();
    let joined = node.join(Some(server.way())).await.unwrap();
    assert_eq!(who(&joined.client).await, "system:node:a");
    assert_eq!(joined.authorities.len(), 1);
    for file in ["kubeconfig", "pki/kubelet-client-current.pem"] {
        let mode = fs::metadata(node.dir.path().join(file)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    drop(joined);
    // The token has gone meanwhile.
    server.cluster.lock().token_counts = false;
    let again = node.join(None).await.unwrap();
    assert_eq!(who(&again.client).await, "system:node:a");
    assert_eq!(server.created(), 1);
    drop(server);
    node.join(None).await.unwrap();
}

#[tokio::test]
async fn what_stops_a_node_says_its_step_and_a_remedy() {
    let hours = SignedDuration::from_hours;
    let server = Server::start().await;
    let other = Server::start().await;
    let late = Server::ahead(hours(30)).await;
    let early = Server::ahead(hours(-30)).await;
    let good = server.way();
    let Way::Token { server: url, token, .. } = good.clone() else {
        unreachable!()
    };
    let way = |url: &Uri, token: &JoinToken, known: Known| Way::Token {
        server: url.clone(),
        token: token.clone(),
        known,
    };
    let unhashed = JoinToken {
        authority: None,
        ..token.clone()
    };
    let wrong_secret = JoinToken {
        token: BootstrapToken {
            id: token.token.id.clone(),
            secret: "0".repeat(16),
        },
        ..token.clone()
    };
    let strange = JoinToken {
        token: "zzzzzz.0123456789abcdef".parse().unwrap(),
        ..token.clone()
    };
    let nobody: Uri = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("https://{}", listener.local_addr().unwrap()).parse().unwrap()
    };
    let Way::Token { server: other_url, .. } = other.way() else {
        unreachable!()
    };
    let ca = tempfile::NamedTempFile::new().unwrap();
    fs::write(ca.path(), early.cluster.lock().authority.certificate.pem()).unwrap();
    let Way::Token {
        server: early_url,
        token: early_token,
        ..
    } = early.way()
    else {
        unreachable!()
    };
    // The server's certificate holds by its own clock only, and nothing but its Date header says why.
    early.cluster.lock().authority = Authority::generate("ca", Timestamp::now());
    let table = [
        (
            "another server",
            way(&other_url, &token, Known::Hash),
            Step::Trust,
            "another cluster",
            "check the URL",
        ),
        (
            "nobody there",
            way(&nobody, &token, Known::Hash),
            Step::Reach,
            "refuses",
            "the server runs",
        ),
        (
            "another secret",
            way(&url, &wrong_secret, Known::Hash),
            Step::Token,
            "another secret",
            "copy the whole token",
        ),
        (
            "an unknown token",
            way(&url, &strange, Known::Hash),
            Step::Token,
            "401",
            "bosun token create",
        ),
        (
            "no hash",
            way(&url, &unhashed, Known::Hash),
            Step::Trust,
            "right server",
            "--ca-file",
        ),
        (
            "no hash, an unknown token",
            way(
                &url,
                &JoinToken {
                    authority: None,
                    ..strange.clone()
                },
                Known::Nothing,
            ),
            Step::Token,
            "not signed",
            "bosun token create",
        ),
        (
            "another's authority",
            way(&url, &token, Known::File(ca.path().to_owned())),
            Step::Trust,
            "not signed by the expected authority",
            "check the URL",
        ),
        (
            "a clock behind",
            late.way(),
            Step::Clock,
            "30h ahead of ours",
            "timedatectl",
        ),
        (
            "a clock ahead",
            way(&early_url, &early_token, Known::File(ca.path().to_owned())),
            Step::Clock,
            "30h behind ours",
            "timedatectl",
        ),
    ];
    for (case, way, step, what, remedy) in table {
        let node = Node::new();
        let error = node.join(Some(way)).await.err().unwrap_or_else(|| panic!("{case}"));
        assert!(
            error.step == step && error.what.contains(what) && error.remedy.contains(remedy),
            "{case}: {error}"
        );
        assert!(
            !error.to_string().contains(&token.token.secret),
            "{case}: no secret is told"
        );
        assert!(!node.dir.path().join("kubeconfig").exists(), "{case}");
    }
    for (verdict, what, remedy) in [
        (Verdict::Deny, "not on my ship", "kubectl delete csr node-csr-"),
        (
            Verdict::Wait,
            "neither approved nor denied",
            "kubectl certificate approve node-csr-",
        ),
    ] {
        server.cluster.lock().verdict = verdict;
        let node = Node::new();
        let config = JoinConfig {
            approval: Duration::from_secs(1),
            ..node.config(Some(good.clone()))
        };
        let error = node.with(config).await.err().unwrap();
        assert!(
            error.step == Step::Approval && error.what.contains(what) && error.remedy.contains(remedy),
            "{error}"
        );
    }
    let error = Node::new().join(None).await.err().unwrap();
    assert!(
        error.step == Step::Credentials && error.remedy.contains("bosun token create"),
        "{error}"
    );
}

#[tokio::test]
async fn other_ways_to_know_the_cluster_serve_as_well() {
    let server = Server::start().await;
    let Way::Token { server: url, token, .. } = server.way() else {
        unreachable!()
    };
    let plain = JoinToken {
        authority: None,
        ..token.clone()
    };
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.crt");
    fs::write(&ca, server.cluster.lock().authority.certificate.pem()).unwrap();
    let bootstrap = dir.path().join("bootstrap-kubelet.conf");
    let text = format!(
        "clusters: [{{name: c, cluster: {{server: \"{url}\", certificate-authority: ca.crt}}}}]\n\
         users: [{{name: u, user: {{token: {}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         current-context: x\n",
        plain.secret_text()
    );
    fs::write(&bootstrap, text).unwrap();
    let of = |token: &JoinToken, known: Known| Way::Token {
        server: url.clone(),
        token: token.clone(),
        known,
    };
    for way in [
        of(&plain, Known::File(ca)),
        of(&plain, Known::Nothing),
        Way::Kubeconfig(bootstrap),
    ] {
        let joined = Node::new().join(Some(way)).await.unwrap();
        assert_eq!(who(&joined.client).await, "system:node:a");
    }
    // The hash is enough where the signature is still to be made.
    server.cluster.lock().signed = false;
    Node::new().join(Some(of(&token, Known::Hash))).await.unwrap();
}

#[tokio::test]
async fn a_node_that_is_killed_on_its_way_asks_for_nothing_twice() {
    let server = Server::start().await;
    server.cluster.lock().verdict = Verdict::Wait;
    let node = Node::new();
    for _ in 0..3 {
        // Dropped while it waits, as by a kill.
        let mut tasks = JoinSet::new();
        let (config, names) = (node.config(Some(server.way())), node.names.subscribe());
        tasks.spawn(async move { join(config, names).await.map(drop) });
        let waiting = async {
            while server.cluster.lock().watchers.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, waiting).await.unwrap();
        tasks.shutdown().await;
        server.cluster.lock().watchers.clear();
    }
    assert_eq!(server.created(), 1);
    let name = server.cluster.lock().created[0].1.clone();
    {
        let mut cluster = server.cluster.lock();
        cluster.verdict = Verdict::Sign;
        cluster.settle(&name);
    }
    node.join(Some(server.way())).await.unwrap();
    // Killed after the certificate was stored, and before the kubeconfig was.
    fs::remove_file(node.dir.path().join("kubeconfig")).unwrap();
    let joined = node.join(Some(server.way())).await.unwrap();
    assert_eq!(who(&joined.client).await, "system:node:a");
    assert_eq!(server.created(), 1, "nothing was asked for again");
}

#[tokio::test]
async fn a_request_that_is_approved_while_it_is_watched_goes_on_at_once() {
    let server = Server::start().await;
    server.cluster.lock().verdict = Verdict::Wait;
    let node = Node::new();
    let approve = async {
        while server.cluster.lock().watchers.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut cluster = server.cluster.lock();
        cluster.verdict = Verdict::Sign;
        let name = cluster.created[0].1.clone();
        cluster.settle(&name);
    };
    let (joined, ()) = tokio::join!(node.join(Some(server.way())), approve);
    joined.unwrap();
}

/// The names of the certificate that serves, and whether the cluster signed it.
fn serves(upkeep: &Upkeep) -> (bool, bool, bool) {
    let held = upkeep.serving.held();
    let named = |dns: &str| {
        held.is_for(&Names {
            dns: vec![dns.into()],
            addresses: vec!["127.0.0.1".parse().unwrap()],
        })
    };
    (held.signed, named("a"), named("b"))
}

#[tokio::test]
async fn the_serving_certificate_is_ones_own_until_the_cluster_signs_one_and_follows_the_names() {
    let server = Server::start().await;
    let node = Node::new();
    let joined = node.join(Some(server.way())).await.unwrap();
    server.cluster.lock().verdict = Verdict::Wait;
    assert_eq!(serves(&joined.upkeep), (false, true, false));
    let upkeep = Arc::new(joined.upkeep);
    let mut tasks = JoinSet::new();
    let running = upkeep.clone();
    tasks.spawn(async move { running.run().await });
    let until = async |wanted: &dyn Fn() -> bool| {
        let wait = async {
            while !wanted() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, wait).await.unwrap();
    };
    until(&|| server.created() == 2).await;
    assert_eq!(serves(&upkeep), (false, true, false));
    {
        let mut cluster = server.cluster.lock();
        assert_eq!(cluster.created[1].0, "system:node:a", "it asks as itself");
        cluster.verdict = Verdict::Sign;
        let name = cluster.created[1].1.clone();
        cluster.settle(&name);
    }
    until(&|| serves(&upkeep) == (true, true, false)).await;
    node.names.send_modify(|names| names.dns = vec!["b".into()]);
    until(&|| serves(&upkeep) == (true, false, true)).await;
    tasks.shutdown().await;
    // The next start serves with it at once.
    let again = node.join(None).await.unwrap();
    assert_eq!(serves(&again.upkeep), (true, false, true));
}

#[tokio::test]
async fn certificates_are_renewed_in_time_and_the_client_goes_on_with_the_new_one() {
    let server = Server::start().await;
    let node = Node::new();
    // Ten minutes is the least that signers give: of these, nine and more are over.
    {
        let mut cluster = server.cluster.lock();
        cluster.life = SignedDuration::from_mins(10);
        cluster.ahead = -SignedDuration::from_secs(580);
    }
    let joined = node.join(Some(server.way())).await.unwrap();
    let path = node.dir.path().join("pki/kubelet-client-current.pem");
    let first = fs::read(&path).unwrap();
    {
        let mut cluster = server.cluster.lock();
        cluster.life = SignedDuration::from_hours(24);
        cluster.ahead = SignedDuration::ZERO;
    }
    let mut tasks = JoinSet::new();
    let upkeep = joined.upkeep;
    tasks.spawn(async move { upkeep.run().await });
    let renewed = async {
        while fs::read(&path).unwrap() == first {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, renewed).await.unwrap();
    let second = Certificate::from_pem(&fs::read(&path).unwrap()).unwrap();
    // The client takes it up without being told.
    let taken = async {
        loop {
            assert_eq!(who(&joined.client).await, "system:node:a");
            let identity = joined.connection.access().identity.unwrap();
            if identity.certified().cert[0] == *second.der() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, taken).await.unwrap();
    let cluster = server.cluster.lock();
    assert!(
        cluster.created[1..].iter().all(|(user, _)| user == "system:node:a"),
        "renewed as itself"
    );
}

#[tokio::test]
async fn an_expired_node_joins_again_if_it_can_and_else_says_how() {
    let server = Server::start().await;
    let node = Node::new();
    {
        let mut cluster = server.cluster.lock();
        cluster.life = SignedDuration::from_mins(10);
        cluster.ahead = -SignedDuration::from_mins(9);
    }
    node.join(Some(server.way())).await.unwrap();
    // As if the clock had jumped: the stored one is replaced by one that ended.
    let store = Store::open(&node.dir.path().join("pki")).unwrap();
    let long_ago = Timestamp::now() - SignedDuration::from_hours(3 * 365 * 24);
    let template = Template::client("system:node:a", &["system:nodes".into()]);
    let (certificate, key) = server.cluster.lock().authority.issue(&template, long_ago);
    store
        .put(store::CLIENT, certificate.pem().as_bytes(), &key, Timestamp::now())
        .unwrap();
    let error = node.join(None).await.err().unwrap();
    assert!(
        error.step == Step::Credentials
            && error.what.contains("expired")
            && error.remedy.contains("bosun token create"),
        "{error}"
    );
    server.cluster.lock().ahead = SignedDuration::ZERO;
    let joined = node.join(Some(server.way())).await.unwrap();
    assert_eq!(who(&joined.client).await, "system:node:a");
}

#[tokio::test]
async fn a_node_of_another_cluster_or_name_is_not_taken_over() {
    let (server, other) = (Server::start().await, Server::start().await);
    let node = Node::new();
    node.join(Some(server.way())).await.unwrap();
    let error = node.join(Some(other.way())).await.err().unwrap();
    assert!(error.what.contains("another cluster"), "{error}");
    let renamed = JoinConfig {
        node_name: "b".into(),
        ..node.config(None)
    };
    let error = node.with(renamed).await.err().unwrap();
    assert!(
        error.what.contains("system:node:a") && error.remedy.contains("--node-name"),
        "{error}"
    );
}
