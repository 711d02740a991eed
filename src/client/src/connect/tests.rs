use std::{convert::Infallible, fs, net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bosun_pki::{Authority, Certificate, PrivateKey, Template, kubeconfig::Kubeconfig, tls::AnyClient};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, service::service_fn};
use hyper_util::{rt::TokioIo, server::conn::auto};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, api::WatchParams};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Far longer than anything here takes; it only ends a test that has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn identity((certificate, key): &(Certificate, PrivateKey)) -> Identity {
    Identity::from_pem(certificate.pem().as_bytes(), key.secret_pem().as_bytes()).unwrap()
}

fn trust(authority: &Authority) -> Trust {
    Trust::from_pem(authority.certificate.pem().as_bytes()).unwrap()
}

/// A server that answers every question with one namespace, named after the common name of the client's certificate, or
/// after its token; watches are silent.
struct Server {
    address: SocketAddr,
    /// A common name for each request.
    asked: mpsc::UnboundedReceiver<(String, http::request::Parts)>,
    /// How many connections are open.
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(certificate: (Certificate, PrivateKey), authority: &Authority) -> Self {
        let key = PrivatePkcs8KeyDer::from(certificate.1.secret_pkcs8().to_vec());
        let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(AnyClient::new(&authority.certificate))
            .with_single_cert(vec![certificate.0.der().clone()], key.into())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked_tx, asked) = mpsc::unbounded_channel();
        let (open_tx, open) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), asked_tx, open_tx));
        Self {
            address,
            asked,
            open,
            _tasks: tasks,
        }
    }

    fn url(&self) -> Uri {
        format!("https://{}", self.address).parse().unwrap()
    }

    async fn asked(&mut self) -> (String, http::request::Parts) {
        timeout(PATIENCE, self.asked.recv()).await.unwrap().unwrap()
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    asked: mpsc::UnboundedSender<(String, http::request::Parts)>,
    open: watch::Sender<usize>,
) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, asked, open) = (acceptor.clone(), asked.clone(), open.clone());
        connections.spawn(async move {
            let Ok(tls) = acceptor.accept(tcp).await else { return };
            open.send_modify(|count| *count += 1);
            let name = tls.get_ref().1.peer_certificates().map_or_else(String::new, |chain| {
                Certificate::from_der(chain[0].clone().into_owned())
                    .unwrap()
                    .common_name
            });
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let (parts, _) = request.into_parts();
                let token = parts
                    .headers
                    .get(AUTHORIZATION)
                    .map(|token| token.to_str().unwrap().to_owned());
                let who = token.unwrap_or_else(|| name.clone());
                let answer = answer(&who, &parts);
                asked.send((who, parts)).ok();
                async { Ok::<_, Infallible>(answer) }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(tls), service).await;
            open.send_modify(|count| *count -= 1);
        });
    }
}

fn answer(who: &str, parts: &http::request::Parts) -> Response<BoxBody<Bytes, Infallible>> {
    let namespace = serde_json::json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": who}}).to_string();
    let code = |code: u16| {
        let status = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": "", "message": "no"});
        Response::builder()
            .status(code)
            .body(Full::from(status.to_string()).boxed())
            .unwrap()
    };
    match parts.uri.path() {
        path if path.ends_with("/401") => code(401),
        path if path.ends_with("/403") => code(403),
        path if path.ends_with("/silent") => {
            let begun = stream::iter([Ok(Frame::data(Bytes::from_static(b"{")))]).chain(stream::pending());
            Response::new(BodyExt::boxed(StreamBody::new(begun)))
        }
        _ if parts.uri.query().is_some_and(|query| query.contains("watch=true")) => {
            let event = format!("{{\"type\":\"ADDED\",\"object\":{namespace}}}\n");
            let begun = stream::iter([Ok(Frame::data(Bytes::from(event)))]).chain(stream::pending());
            Response::new(BodyExt::boxed(StreamBody::new(begun)))
        }
        _ => Response::new(Full::from(namespace).boxed()),
    }
}

fn now() -> Timestamp {
    Timestamp::now()
}

fn authority() -> Authority {
    Authority::generate("bosun-ca", now())
}

fn server_pair(authority: &Authority) -> (Certificate, PrivateKey) {
    authority.issue(&Template::server("server", &["127.0.0.1".into()]), now())
}

async fn who(client: &kube::Client) -> String {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.get("x").await.unwrap().metadata.name.unwrap()
}

#[tokio::test]
async fn a_replaced_certificate_is_used_at_once_and_the_former_connection_ends() {
    let authority = authority();
    let mut server = Server::start(server_pair(&authority), &authority).await;
    let mut access = Access::new(server.url(), trust(&authority));
    access.identity = Some(identity(&authority.issue(&Template::client("one", &[]), now())));
    let options = Options {
        grace: Duration::from_millis(300),
        ..Options::default()
    };
    let connection = Connection::new(access.clone(), options).unwrap();
    let client = connection.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let mut watch = namespaces.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(watch.next().await.unwrap().is_ok());
    assert_eq!(who(&client).await, "one");

    access.identity = Some(identity(&authority.issue(&Template::client("two", &[]), now())));
    connection.replace(access.clone()).unwrap();
    assert_eq!(who(&client).await, "two");
    // The watch went by the former one: it ends, to be begun anew.
    let ended = timeout(PATIENCE, watch.next()).await.unwrap();
    assert!(ended.is_none_or(|event| event.is_err()));
    timeout(PATIENCE, server.open.wait_for(|open| *open == 1))
        .await
        .unwrap()
        .unwrap();
    connection.replace(access).unwrap();
    assert_eq!(who(&client).await, "two");
    assert_eq!(*server.open.borrow(), 1, "the same access changes nothing");
    let (_, asked) = server.asked().await;
    assert_eq!(asked.version, http::Version::HTTP_2);
    assert_eq!(asked.headers[USER_AGENT], concat!("bosun/", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_kubeconfig_is_read_again_when_a_file_it_names_changes() {
    let authority = authority();
    let server = Server::start(server_pair(&authority), &authority).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    let token = directory.path().join("token");
    fs::write(&token, "first\n").unwrap();
    fs::write(directory.path().join("ca.crt"), authority.certificate.pem()).unwrap();
    let text = format!(
        "clusters: [{{name: c, cluster: {{server: \"{}\", certificate-authority: ca.crt}}}}]\n\
         users: [{{name: u, user: {{tokenFile: token}}}}]\n\
         contexts: [{{name: x, context: {{cluster: c, user: u, namespace: shop}}}}]\n\
         current-context: x\n",
        server.url()
    );
    fs::write(&path, text).unwrap();
    let connection = Connection::from_kubeconfig(&path, Options::default()).unwrap();
    assert_eq!(connection.access().namespace, "shop");
    let client = connection.client();
    assert_eq!(who(&client).await, "Bearer first");
    // A file that can't be used changes nothing.
    fs::write(&token, "").unwrap();
    let changed = async |wanted: &str| {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while who(&client).await != wanted {
            tick.tick().await;
        }
    };
    fs::write(&token, "second").unwrap();
    timeout(PATIENCE, changed("Bearer second")).await.unwrap();
    // The file itself, with a certificate instead.
    let (certificate, key) = authority.issue(&Template::client("jane", &[]), now());
    let config = Kubeconfig {
        cluster: "c",
        server: &server.url().to_string(),
        authority: &authority.certificate,
        user: "jane",
        certificate: &certificate,
        key: &key,
    };
    config.write(&path).unwrap();
    timeout(PATIENCE, changed("jane")).await.unwrap();
}

type Check = fn(&Failure) -> bool;

#[tokio::test]
async fn what_fails_is_told_by_its_step() {
    let ours = authority();
    let hours = SignedDuration::from_hours;
    let names = ["127.0.0.1".to_owned()];
    let at = |then: Timestamp| {
        let short = Template {
            life: Some(hours(1)),
            ..Template::server("server", &names)
        };
        ours.issue(&short, then)
    };
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let speaks_plainly = plain.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut tcp, _) = plain.accept().await.unwrap();
            let mut head = [0; 16];
            let _ = tcp.read(&mut head).await;
            let _ = tcp.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").await;
        }
    });
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
    let good = Server::start(server_pair(&ours), &ours).await;
    let foreign = authority();
    let foreign = Server::start(server_pair(&foreign), &foreign).await;
    let other_name = ours.issue(&Template::server("server", &["elsewhere".into()]), now());
    let misnamed = Server::start(other_name, &ours).await;
    let expired = Server::start(at(now() - hours(5)), &ours).await;
    let early = Server::start(at(now() + hours(5)), &ours).await;
    let silent = Options {
        request: Duration::from_millis(200),
        ..Options::default()
    };
    let tls = |address: SocketAddr| format!("https://{address}");
    let table: [(&str, String, &str, Check); 10] = [
        (
            "resolve",
            "https://nowhere.invalid".into(),
            "x",
            |failure| matches!(failure, Failure::Resolve { host, .. } if host == "nowhere.invalid"),
        ),
        ("refused", tls(nobody), "x", |failure| {
            matches!(failure, Failure::Refused { .. })
        }),
        ("no TLS", tls(speaks_plainly), "x", |failure| {
            matches!(
                failure,
                Failure::Tls {
                    problem: TlsFailure::NotTls,
                    ..
                }
            )
        }),
        ("another authority", tls(foreign.address), "x", |failure| {
            matches!(
                failure,
                Failure::Tls {
                    problem: TlsFailure::WrongAuthority,
                    ..
                }
            )
        }),
        (
            "another name",
            tls(misnamed.address),
            "x",
            |failure| matches!(failure, Failure::Tls { problem: TlsFailure::WrongName(names), .. } if names.concat().contains("elsewhere")),
        ),
        ("expired", tls(expired.address), "x", |failure| {
            matches!(
                failure,
                Failure::Tls {
                    problem: TlsFailure::Expired,
                    ..
                }
            )
        }),
        ("early", tls(early.address), "x", |failure| {
            matches!(
                failure,
                Failure::Tls {
                    problem: TlsFailure::NotYetValid,
                    ..
                }
            )
        }),
        ("401", tls(good.address), "401", |failure| {
            matches!(failure, Failure::Unauthorized(_))
        }),
        ("403", tls(good.address), "403", |failure| {
            matches!(failure, Failure::Forbidden(_))
        }),
        ("silent", tls(good.address), "silent", |failure| {
            matches!(failure, Failure::Silent)
        }),
    ];
    for (case, url, name, check) in table {
        let access = Access::new(url.parse().unwrap(), trust(&ours));
        let client = Connection::new(access, silent.clone()).unwrap().client();
        let error = Api::<Namespace>::all(client).get(name).await.unwrap_err();
        let failure = Failure::of(&error);
        assert!(check(&failure), "{case}: {failure:?} from {error:?}");
    }
}

#[tokio::test]
async fn a_watch_may_be_silent_for_any_time() {
    let authority = authority();
    let server = Server::start(server_pair(&authority), &authority).await;
    let options = Options {
        request: Duration::from_millis(100),
        ..Options::default()
    };
    let client = Connection::new(Access::new(server.url(), trust(&authority)), options)
        .unwrap()
        .client();
    let namespaces: Api<Namespace> = Api::all(client);
    let mut watch = namespaces.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(watch.next().await.unwrap().is_ok());
    timeout(Duration::from_millis(500), watch.next()).await.unwrap_err();
}

#[tokio::test]
async fn a_server_that_is_gone_without_a_word_is_noticed() {
    let authority = authority();
    let server = Server::start(server_pair(&authority), &authority).await;
    // What lies between can be cut: nothing goes through any more, nothing is closed.
    let wire = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", wire.local_addr().unwrap()).parse().unwrap();
    let (cut_tx, cut) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let far = server.address;
    tasks.spawn(async move {
        let mut kept = Vec::new();
        loop {
            let (mut near, _) = wire.accept().await.unwrap();
            let mut far = TcpStream::connect(far).await.unwrap();
            let mut cut = cut.clone();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = cut.wait_for(|cut| *cut) => kept.push((near, far)),
            }
        }
    });
    let options = Options {
        ping: Duration::from_millis(100),
        pong: Duration::from_millis(200),
        ..Options::default()
    };
    let client = Connection::new(Access::new(url, trust(&authority)), options)
        .unwrap()
        .client();
    let namespaces: Api<Namespace> = Api::all(client);
    let mut watch = namespaces.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(watch.next().await.unwrap().is_ok());
    cut_tx.send(true).unwrap();
    let ended = timeout(PATIENCE, watch.next()).await.expect("it is noticed");
    assert!(ended.is_none_or(|event| event.is_err()));
}

#[test]
fn a_kubeconfig_that_can_not_be_followed_says_where() {
    let authority = authority();
    let ca = STANDARD.encode(authority.certificate.pem());
    let pair = authority.issue(&Template::client("jane", &[]), now());
    let (certificate, key) = (STANDARD.encode(pair.0.pem()), STANDARD.encode(pair.1.secret_pem()));
    let other = STANDARD.encode(PrivateKey::generate().secret_pem());
    let file = |cluster: &str, user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\npreferences: {{}}\nclusters: [{{name: c, cluster: {{{cluster}}}}}]\n\
             users: [{{name: u, user: {{{user}}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
             current-context: x\n"
        )
    };
    let server = "server: \"https://192.0.2.7:6443\"";
    let good = [
        file(&format!("{server}, certificate-authority-data: {ca}"), ""),
        file(
            &format!("{server}, certificate-authority-data: {ca}, tls-server-name: api"),
            &format!("client-certificate-data: {certificate}, client-key-data: {key}"),
        ),
        file(&format!("{server}, insecure-skip-tls-verify: true"), "token: abc"),
        // As cluster-info is.
        format!(
            "clusters: [{{name: \"\", cluster: {{{server}, certificate-authority-data: {ca}}}}}]\ncontexts: null\nusers: null\ncurrent-context: \"\"\n"
        ),
    ];
    for text in good {
        let access = kubeconfig::parse("/etc/x.conf".as_ref(), &text).unwrap();
        assert_eq!(access.server, "https://192.0.2.7:6443", "{text}");
        Connector::new(&access, true, &Options::default(), CancellationToken::new()).unwrap();
    }
    let table = [
        ("x: [".to_owned(), "no kubeconfig"),
        ("current-context: y".to_owned(), "current-context: there is no context"),
        ("clusters: []".to_owned(), "current-context: it is not set"),
        (file("", ""), "cluster.server: it is not set"),
        (file("server: \"ftp://a\"", ""), "cluster.server"),
        (
            file(&format!("{server}, proxy-url: \"http://p\""), ""),
            "cluster.proxy-url",
        ),
        (
            file(&format!("{server}, certificate-authority-data: \"!\""), ""),
            "certificate-authority-data: no base64",
        ),
        (
            file(&format!("{server}, certificate-authority-data: AAAA"), ""),
            "there is no CERTIFICATE",
        ),
        (
            file(&format!("{server}, certificate-authority: /nowhere/ca"), ""),
            "reading /nowhere/ca",
        ),
        (file(server, "exec: {command: x}"), "user.exec"),
        (file(server, "as: admin"), "user.as"),
        (
            file(server, &format!("client-certificate-data: {certificate}")),
            "user.client-key",
        ),
        (
            file(
                server,
                &format!("client-certificate-data: {certificate}, client-key-data: {other}"),
            ),
            "make no pair",
        ),
        (file(server, "token: \"a\\nb\""), "user.token"),
    ];
    for (text, words) in table {
        let error = kubeconfig::parse("/etc/x.conf".as_ref(), &text)
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{text}: {error}");
        assert!(
            !error.contains(&other) && !error.contains(&key),
            "no secret is shown: {error}"
        );
    }
}

#[test]
fn paths_are_joined_and_silence_is_expected_of_watches_only() {
    for (server, request, wanted) in [
        ("https://h:1", "/api/v1?x=1", "https://h:1/api/v1?x=1"),
        ("https://h:1/", "/api", "https://h:1/api"),
        ("https://h:1/k8s/c1/", "/api?watch=1", "https://h:1/k8s/c1/api?watch=1"),
    ] {
        assert_eq!(absolute(&server.parse().unwrap(), &request.parse().unwrap()), wanted);
    }
    for (query, silent) in [
        ("", false),
        ("limit=5&watch=true", true),
        ("watch=1", true),
        ("watch=false", false),
        ("rewatch=true", false),
        ("follow=true&tailLines=1", true),
    ] {
        assert_eq!(may_be_silent(query), silent, "{query}");
    }
    for (text, url) in [
        ("192.0.2.7:6443", Some("https://192.0.2.7:6443/")),
        ("https://[fd00::1]:6443", Some("https://[fd00::1]:6443/")),
        ("unix:///x", None),
        ("", None),
    ] {
        assert_eq!(
            kubeconfig::server_url(text).ok().map(|url| url.to_string()).as_deref(),
            url,
            "{text}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_access_or_an_error(text in ".{0,200}", server in ".{0,30}") {
        let _ = kubeconfig::parse("/x".as_ref(), &text);
        let quoted = serde_json::Value::from(server);
        let file = format!("clusters: [{{name: c, cluster: {{server: {quoted}, insecure-skip-tls-verify: true}}}}]");
        if let Ok(access) = kubeconfig::parse("/x".as_ref(), &file) {
            // Whatever was taken makes connections or says why not.
            let _ = Connector::new(&access, true, &Options::default(), CancellationToken::new());
        }
    }
}
