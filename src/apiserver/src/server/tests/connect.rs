//! Clients over TLS, and somebody in memory who answers in place of nodes and pods.

use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{HeaderValue, Request as HttpRequest, Response, header};
use async_trait::async_trait;
use bosun_pki::Template;
use bosun_streaming::{
    command::{self, Channel, Message, Streams, spdy::data, websocket::Protocol},
    protocol::{self, STREAM_PROTOCOL},
    session::{Sink, Source},
    spdy::{self, Role},
    status::Ended,
    upgrade::{self, Dialed},
    websocket::{self, Side},
};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::io::duplex;

use super::*;
use crate::connect::{
    BoxConnection, Dialer,
    place::{Endpoint, Trust},
};

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// Answers all calls; remembers to whom they were.
#[derive(Default)]
struct Others {
    dialed: Mutex<Vec<Endpoint>>,
    tasks: Mutex<JoinSet<()>>,
    open: Arc<AtomicUsize>,
}

#[async_trait]
impl Dialer for Others {
    async fn dial(&self, to: &Endpoint) -> std::io::Result<BoxConnection> {
        self.dialed.lock().push(to.clone());
        let (near, far) = duplex(4096);
        let open = self.open.clone();
        self.tasks.lock().spawn(async move {
            open.fetch_add(1, Ordering::SeqCst);
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service_fn(other));
            // However it ends: that it ends is what counts.
            let _ = connection.with_upgrades().await;
            open.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Box::pin(near))
    }
}

type Said = UnsyncBoxBody<Bytes, Infallible>;

fn said(code: u16, text: impl Into<Bytes>) -> Response<Said> {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = code.try_into().unwrap();
    response
}

/// An agent, and a pod that tells what it was asked.
async fn other(mut request: HttpRequest<Incoming>) -> Result<Response<Said>, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(match &*path {
        "/containerLogs/default/web/app" if request.uri().query() == Some("follow=true&tailLines=5") => {
            said(200, "hello\n")
        }
        "/containerLogs/default/web/app" => said(
            400,
            "container \"app\" in pod \"web\" is waiting to start: ContainerCreating",
        ),
        "/exec/default/web/app" => {
            let query = request.uri().query().unwrap_or_default();
            assert_eq!(query, "input=1&output=1&error=1&command=sh&command=-c&command=a%26b");
            let offered = protocol::offered(request.headers(), protocol::Upgrade::Spdy)[0].to_owned();
            let upgrade = hyper::upgrade::on(&mut request);
            let mut session = JoinSet::new();
            session.spawn(async move {
                let (reader, writer, driver) = spdy::connect(TokioIo::new(upgrade.await.unwrap()), Role::Server);
                driver.during(echo(reader, writer)).await;
            });
            session.detach_all();
            let response = Response::builder()
                .status(101)
                .header(header::CONNECTION, "Upgrade")
                .header(header::UPGRADE, "SPDY/3.1")
                .header(STREAM_PROTOCOL, offered);
            response.body(Full::default().boxed_unsync()).unwrap()
        }
        "/portForward/default/web" => said(500, "no sandbox"),
        "/redirect" => {
            let mut response = said(302, "");
            response
                .headers_mut()
                .insert(header::LOCATION, HeaderValue::from_static("/login?a=b"));
            response
        }
        _ => {
            let headers: Vec<_> = request.headers().keys().map(|name| name.as_str().to_owned()).collect();
            let line = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body = String::from_utf8(body.to_vec()).unwrap();
            said(200, json!({"line": line, "headers": headers, "body": body}).to_string())
        }
    })
}

async fn echo(reader: spdy::Reader, writer: spdy::Writer) {
    let (mut source, mut sink) = command::spdy::accept(reader, writer, ALL).await.unwrap();
    while let Ok(Some(message)) = source.next().await {
        match message {
            Message::Data(Channel::Stdin, bytes) => sink.send(Message::Data(Channel::Stdout, bytes)).await.unwrap(),
            Message::End(Channel::Stdin) => break,
            _ => {}
        }
    }
    let _ = sink.send(data(Channel::Error, Ended::Code(9).to_json())).await;
    let _ = sink.close().await;
}

/// A cluster with a node, and a pod on it.
struct Cluster {
    fixture: Fixture,
    address: SocketAddr,
    others: Arc<Others>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    async fn new() -> Self {
        let mut fixture = fixture(http::Limits::default()).await;
        let others = Arc::new(Others::default());
        fixture.router = fixture.router.reaching(others.clone());
        let put = async |method: &str, path: &str, object: Value| {
            let request = HttpRequest::builder()
                .method(method)
                .uri(path)
                .header(header::CONTENT_TYPE, "application/json")
                .body(Full::new(Bytes::from(object.to_string())));
            let answer = fixture.router.answer(as_master(request.unwrap())).await;
            let code = answer.status();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(code.is_success(), "{path}: {}", String::from_utf8_lossy(&body));
            serde_json::from_slice::<Value>(&body).unwrap()
        };
        put("POST", "/api/v1/namespaces", json!({"metadata": {"name": "default"}})).await;
        let node = json!({
            "metadata": {"name": "n1"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            },
        });
        put("POST", "/api/v1/nodes", node).await;
        let pod = json!({
            "metadata": {"name": "web"},
            "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 8080}]}]},
        });
        let mut pod = put("POST", "/api/v1/namespaces/default/pods", pod).await;
        pod["status"]["podIP"] = json!("10.1.0.5");
        pod["status"]["podIPs"] = json!([{"ip": "10.1.0.5"}]);
        put("PUT", "/api/v1/namespaces/default/pods/web/status", pod).await;
        let mut tasks = JoinSet::new();
        let address = fixture.listen(Limits::default(), &mut tasks).await;
        Self {
            fixture,
            address,
            others,
            _tasks: tasks,
        }
    }

    /// As a member of these groups.
    async fn dial(&self, groups: &[&str], mut request: HttpRequest<()>) -> Dialed {
        let authority = self.fixture.keeper.authority();
        let groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        let (own, key) = authority.issue(&Template::client("ann", &groups), Timestamp::now());
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate.der().clone()).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.secret_pkcs8().to_vec());
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own.der().clone()], key.into())
            .unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector
            .connect(ServerName::from(self.address.ip()), stream)
            .await
            .unwrap();
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("api"));
        timeout(PATIENCE, upgrade::dial(stream, request))
            .await
            .unwrap()
            .unwrap()
    }

    async fn ask(&self, request: HttpRequest<()>) -> Response<Bytes> {
        match self.dial(&["system:masters"], request).await {
            Dialed::Refused(response) => response,
            Dialed::Upgraded(..) => panic!("no upgrade was asked for"),
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.ask(HttpRequest::get(path).body(()).unwrap()).await;
        let text = String::from_utf8(response.body().to_vec()).unwrap();
        (response.status().as_u16(), text)
    }
}

const POD: &str = "/api/v1/namespaces/default/pods/web";

#[tokio::test]
async fn logs_come_from_the_pods_node_and_so_do_the_reasons_for_none() {
    let cluster = Cluster::new().await;
    let log = cluster.get(&format!("{POD}/log?tailLines=5&follow=true")).await;
    assert_eq!(log, (200, "hello\n".to_owned()));
    let agent = Endpoint {
        host: "10.0.0.1".to_owned(),
        port: 10250,
        trust: Trust::Node,
    };
    assert_eq!(*cluster.others.dialed.lock(), [agent]);
    for (path, code, message) in [
        (
            "/log",
            400,
            r#"container \"app\" in pod \"web\" is waiting to start: ContainerCreating"#,
        ),
        ("/log?container=x", 400, "container x is not valid for pod web"),
        ("/log?tailLines=-1", 422, "tailLines"),
        ("/exec?stdout=1&command=ls", 400, "Upgrade request required"),
        ("/exec", 400, "you must specify at least 1 of stdin, stdout, stderr"),
    ] {
        let (answered, said) = cluster.get(&format!("{POD}{path}")).await;
        assert_eq!(answered, code, "{path} {said}");
        assert!(
            said.contains(message) && said.contains("\"kind\":\"Status\""),
            "{path} {said}"
        );
    }
    let (code, _) = cluster.get("/api/v1/namespaces/default/pods/none/log").await;
    assert_eq!(code, 404);
}

fn exec() -> String {
    format!("{POD}/exec?stdin=true&stdout=true&stderr=true&command=sh&command=-c&command=a%26b")
}

#[tokio::test]
async fn a_command_is_talked_to_over_either_protocol_and_its_end_ends_all() {
    let cluster = Cluster::new().await;
    // WebSocket, for an agent that doesn't say it speaks that.
    let mut request = HttpRequest::get(exec()).body(()).unwrap();
    websocket::ask(&mut request, &["v5.channel.k8s.io"]);
    let Dialed::Upgraded(io, parts) = cluster.dial(&["system:masters"], request).await else {
        panic!("refused")
    };
    assert_eq!(parts.headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
    let protocol = Protocol::named("v5.channel.k8s.io").unwrap();
    let (mut source, mut sink) = command::websocket::connect(websocket::over(io, Side::Client).await, protocol);
    sink.send(data(Channel::Stdin, "hello")).await.unwrap();
    assert_eq!(source.next().await.unwrap(), Some(data(Channel::Stdout, "hello")));
    sink.send(Message::End(Channel::Stdin)).await.unwrap();
    assert_eq!(
        source.next().await.unwrap(),
        Some(data(Channel::Error, Ended::Code(9).to_json()))
    );
    assert_eq!(source.next().await.unwrap(), None);

    // SPDY, end to end.
    let request = HttpRequest::post(exec())
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(STREAM_PROTOCOL, "v4.channel.k8s.io");
    let dialed = cluster.dial(&["system:masters"], request.body(()).unwrap()).await;
    let Dialed::Upgraded(io, parts) = dialed else {
        panic!("refused")
    };
    assert_eq!(parts.headers[STREAM_PROTOCOL], "v4.channel.k8s.io");
    let (reader, writer, driver) = spdy::connect(io, Role::Client);
    let talk = async {
        let (mut source, mut sink) = command::spdy::open(reader, writer, ALL).await.unwrap();
        sink.send(data(Channel::Stdin, "hi")).await.unwrap();
        assert_eq!(source.next().await.unwrap(), Some(data(Channel::Stdout, "hi")));
        sink.send(Message::End(Channel::Stdin)).await.unwrap();
        loop {
            match source.next().await.unwrap() {
                Some(Message::Data(Channel::Error, ended)) => break assert_eq!(Ended::parse(&ended), Ended::Code(9)),
                Some(Message::End(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(PATIENCE, driver.during(talk)).await.unwrap();
    timeout(PATIENCE, async {
        while cluster.others.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("no connection is left over");
}

#[tokio::test]
async fn what_may_not_be_done_is_refused_before_anybody_is_asked() {
    let cluster = Cluster::new().await;
    for path in [exec(), format!("{POD}/log"), "/api/v1/nodes/n1/proxy/pods".to_owned()] {
        let mut request = HttpRequest::get(path).body(()).unwrap();
        websocket::ask(&mut request, &["v5.channel.k8s.io"]);
        let Dialed::Refused(response) = cluster.dial(&["nobody"], request).await else {
            panic!("let in")
        };
        assert_eq!(response.status(), 403);
    }
    assert!(cluster.others.dialed.lock().is_empty());
}

#[tokio::test]
async fn an_agents_refusal_of_an_upgrade_is_told_as_it_is() {
    let cluster = Cluster::new().await;
    let mut request = HttpRequest::get(format!("{POD}/portforward")).body(()).unwrap();
    websocket::ask(&mut request, &[protocol::PORT_FORWARD_TUNNEL]);
    let response = cluster.ask(request).await;
    assert_eq!(
        (response.status().as_u16(), &response.body()[..]),
        (500, &b"no sandbox"[..])
    );
}

#[tokio::test]
async fn a_proxy_passes_on_what_is_asked_and_answered_but_not_who_asks() {
    let cluster = Cluster::new().await;
    let request = HttpRequest::get(format!("{POD}:8080/proxy/a%2Fb?c=d"))
        .header(header::AUTHORIZATION, "Basic x")
        .header("x-own", "1");
    let response = cluster.ask(request.body(()).unwrap()).await;
    let told: Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(told["line"], "GET /a%2Fb?c=d");
    let headers = told["headers"].to_string();
    assert!(
        headers.contains("x-own") && headers.contains("x-forwarded-for"),
        "{headers}"
    );
    assert!(!headers.contains("authorization"), "{headers}");
    let pod = Endpoint {
        host: "10.1.0.5".to_owned(),
        port: 8080,
        trust: Trust::Plain,
    };
    assert_eq!(*cluster.others.dialed.lock(), [pod]);

    let response = cluster
        .ask(HttpRequest::get(format!("{POD}/proxy/redirect")).body(()).unwrap())
        .await;
    assert_eq!(response.status(), 302, "it is not followed");
    assert_eq!(
        response.headers()[header::LOCATION],
        "/api/v1/namespaces/default/pods/web/proxy/login?a=b"
    );
    let response = cluster
        .ask(HttpRequest::get(format!("{POD}/proxy")).body(()).unwrap())
        .await;
    assert_eq!(
        response.headers()[header::LOCATION],
        "/api/v1/namespaces/default/pods/web/proxy/"
    );

    let (code, told) = cluster.get("/api/v1/nodes/n1/proxy/configz").await;
    assert_eq!(code, 200);
    assert!(told.contains("GET /configz"), "{told}");
    let (code, told) = cluster.get("/api/v1/namespaces/default/services/none/proxy/").await;
    assert_eq!(code, 404, "{told}");

    let posted = HttpRequest::post(format!("{POD}/proxy/form"))
        .body(Full::new(Bytes::from_static(b"a=b")))
        .unwrap();
    let answer = cluster.fixture.router.answer(as_master(posted)).await;
    let told = answer.into_body().collect().await.unwrap().to_bytes();
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(
        (told["line"].as_str(), told["body"].as_str()),
        (Some("POST /form"), Some("a=b"))
    );
}
