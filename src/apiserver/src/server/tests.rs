mod connect;

use bosun_pki::{Keeper, names::Reached, tls::AnyClient};
use bosun_store::{Embedded, embedded};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use jiff::Timestamp;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::{
    Registry, User,
    audit::Audit,
    auth::{Authenticator, Authorizer},
    http::{self, Gate, Health, Identity, Paths},
    metrics::Metrics,
    registry::{Config, builtin},
};

/// Longer than anything here takes, even beside others.
const PATIENCE: Duration = Duration::from_secs(30);

struct Fixture {
    router: Router,
    keeper: Arc<Keeper>,
    _dir: TempDir,
}

async fn fixture(limits: http::Limits) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(embedded::Options::new(dir.path().join("store")))
        .await
        .unwrap();
    let reached = Reached {
        cluster_domain: "cluster.local".to_owned(),
        ..Reached::default()
    };
    let keeper = Arc::new(Keeper::open(&dir.path().join("pki"), reached, Timestamp::now()).unwrap());
    let registry = Registry::open(store, builtin::rows(), Config::default()).await.unwrap();
    let authenticator = Arc::new(Authenticator::new(
        keeper.clone(),
        registry.clone(),
        "https://issuer".to_owned(),
    ));
    let gate = Gate::new(authenticator.clone(), Arc::new(Authorizer::default()));
    let health = Health::default().live("ping", || std::future::ready(Ok(())));
    let router = Router::new(
        registry,
        gate,
        Paths::new(health, "127.0.0.1:6443", authenticator),
        Audit::off(),
        Metrics::new("v1.36.0"),
        limits,
        CancellationToken::new(),
    );
    Fixture {
        router,
        keeper,
        _dir: dir,
    }
}

impl Fixture {
    /// Listens with these limits; the listener ends with the set.
    async fn listen(&self, limits: Limits, tasks: &mut JoinSet<()>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tls = tls_config(
            self.keeper.resolver(),
            AnyClient::new(&self.keeper.authority().certificate),
        )
        .unwrap();
        let end = CancellationToken::new();
        tasks.spawn(serve(listener, Arc::new(tls), self.router.clone(), limits, end));
        address
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        self.connect_by("http/1.1", address).await
    }

    async fn connect_by(&self, protocol: &str, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.keeper.authority().certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(address).await?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(ServerName::from(address.ip()), stream).await
    }
}

/// All that comes until the other end closes.
async fn rest(stream: &mut TlsStream<TcpStream>) -> String {
    let mut read = Vec::new();
    // A connection that is cut rather than closed is an error, and an end all the same.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut read))
        .await
        .expect("the connection stays open");
    String::from_utf8_lossy(&read).into_owned()
}

fn get(path: &str) -> ::http::Request<Full<Bytes>> {
    ::http::Request::get(path).body(Full::default()).unwrap()
}

fn as_master(mut request: ::http::Request<Full<Bytes>>) -> ::http::Request<Full<Bytes>> {
    let user = User {
        name: "controller".to_owned(),
        groups: vec!["system:masters".to_owned()],
        ..User::default()
    };
    request.extensions_mut().insert(Identity(Arc::new(user)));
    request
}

#[tokio::test]
async fn who_asks_from_within_is_known_and_who_only_says_so_is_not() {
    let fixture = fixture(http::Limits::default()).await;
    let answer = fixture.router.answer(as_master(get("/api/v1/namespaces"))).await;
    assert_eq!(answer.status(), 200);
    let mut pretending = get("/api/v1/namespaces");
    for name in ["identity", "x-remote-user", "impersonate-user"] {
        pretending.headers_mut().insert(name, "system:admin".parse().unwrap());
    }
    let answer = fixture.router.answer(pretending).await;
    assert_eq!(answer.status(), 401);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("\"reason\":\"Unauthorized\""));
}

#[tokio::test]
async fn a_request_that_waits_for_its_turn_takes_little() {
    let fixture = fixture(http::Limits::default()).await;
    let size = size_of_val(&fixture.router.answer(get("/livez")));
    assert!(size < 3 << 10, "{size} bytes for each of a connection's streams");
}

#[tokio::test]
async fn without_a_place_in_flight_a_request_is_told_to_come_again() {
    let fixture = fixture(http::Limits {
        reads: 0,
        ..http::Limits::default()
    })
    .await;
    let answer = fixture.router.answer(get("/version")).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    // What asks from within has bounds of its own, and whether the server lives can always be asked.
    let answer = fixture.router.answer(as_master(get("/api/v1/namespaces"))).await;
    assert_eq!(answer.status(), 200);
    assert_ne!(fixture.router.answer(get("/livez")).await.status(), 429);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_and_those_within_go_on() {
    let fixture = fixture(http::Limits::default()).await;
    let mut tasks = JoinSet::new();
    let limits = Limits {
        connections: 1,
        ..Limits::default()
    };
    let address = fixture.listen(limits, &mut tasks).await;
    let mut first = fixture.connect(address).await.unwrap();
    assert!(fixture.connect(address).await.is_err());
    first
        .write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    assert!(rest(&mut first).await.starts_with("HTTP/1.1 "));
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_in_time() {
    let fixture = fixture(http::Limits::default()).await;
    let mut tasks = JoinSet::new();
    let limits = Limits {
        idle: Duration::from_millis(100),
        drain: Duration::from_millis(100),
        ..Limits::default()
    };
    let address = fixture.listen(limits, &mut tasks).await;
    let mut idle = fixture.connect(address).await.unwrap();
    assert_eq!(rest(&mut idle).await, "");
}

#[tokio::test]
async fn a_connection_is_cut_whose_client_does_not_take_an_answer_in_time() {
    let fixture = fixture(http::Limits::default()).await;
    let mut tasks = JoinSet::new();
    let limits = Limits {
        request: Duration::from_millis(200),
        ..Limits::default()
    };
    let address = fixture.listen(limits, &mut tasks).await;
    let stream = fixture.connect_by("h2", address).await.unwrap();
    // One byte of each answer, and no more before it is read.
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let ended = async {
        let request = ::http::Request::get("https://x/livez").body(Full::<Bytes>::default());
        let answer = sender.send_request(request.unwrap()).await.unwrap();
        std::future::pending::<()>().await;
        drop(answer);
    };
    let cut = tokio::select! {
        end = timeout(PATIENCE, connection) => end.is_ok(),
        () = ended => false,
    };
    assert!(cut, "the connection stays open");
}

#[tokio::test]
async fn a_body_that_never_ends_is_not_waited_for() {
    let fixture = fixture(http::Limits {
        time: Duration::from_millis(200),
        ..http::Limits::default()
    })
    .await;
    let mut tasks = JoinSet::new();
    let address = fixture.listen(Limits::default(), &mut tasks).await;
    let mut slow = fixture.connect(address).await.unwrap();
    let head = "POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    slow.write_all(head.as_bytes()).await.unwrap();
    // Nobody's request is refused before its body is read, anyone's that is let in is not waited for.
    let said = rest(&mut slow).await;
    assert!(
        said.starts_with("HTTP/1.1 401") || said.starts_with("HTTP/1.1 504"),
        "{said}"
    );
}
