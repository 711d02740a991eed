//! Clients over TLS, a fake container runtime, and a server of SPDY that stands in for its streaming server.

use std::{collections::BTreeSet, fs};

use async_trait::async_trait;
use bosun_cri::{FakeRuntime, v1};
use bosun_pki::{Authority, PrivateKey, Template};
use bosun_streaming::{
    command::{self, Channel, Message, Streams, spdy::data, websocket::Protocol},
    protocol::{self, STREAM_PROTOCOL},
    session::{Sink, Source},
    spdy::{self, Event, Headers, Role},
    status::Ended,
    tunnel::Tunnel,
    upgrade::{self, Dialed},
    websocket::{self, Side},
};
use bytes::Bytes;
use http::{HeaderValue, header};
use jiff::Timestamp;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::sign::any_ecdsa_type,
    pki_types::{PrivatePkcs8KeyDer, ServerName},
    server::ClientHello,
    sign::CertifiedKey,
};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    auth::{Unanswered, User, attributes::Attributes},
    *,
};

const DEADLINE: Duration = Duration::from_secs(60);
const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// Knows one token, and lets its owner and the API server do all but read files.
struct Cluster;

#[async_trait]
impl Auth for Cluster {
    async fn whose(&self, token: &str) -> Result<Option<User>, Unanswered> {
        let user = |name: &str| User {
            name: name.to_owned(),
            ..User::default()
        };
        Ok(match token {
            "good" => Some(user("ann")),
            "other" => Some(user("bob")),
            _ => None,
        })
    }

    async fn may(&self, user: &User, attributes: &Attributes) -> Result<bool, Unanswered> {
        let known = user.name == "ann" || user.groups.iter().any(|group| group == "kubeadm:cluster-admins");
        Ok(known && attributes.subresource != "log")
    }
}

struct OnePod(PodStatus);

impl Pods for OnePod {
    fn all(&self) -> Vec<(Arc<Pod>, PodStatus)> {
        let pod = json!({
            "metadata": {"namespace": "default", "name": "web", "uid": "u1"},
            "spec": {"containers": [{"name": "app"}, {"name": "late"}]},
        });
        vec![(Arc::new(serde_json::from_value(pod).unwrap()), self.0.clone())]
    }
}

#[derive(Debug)]
struct Fixed(Arc<CertifiedKey>);

impl ResolvesServerCert for Fixed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

fn certified(pair: &(Certificate, PrivateKey)) -> CertifiedKey {
    let key = PrivatePkcs8KeyDer::from(pair.1.secret_pkcs8().to_vec());
    CertifiedKey::new(vec![pair.0.der().clone()], any_ecdsa_type(&key.into()).unwrap())
}

/// A node's API, and all that it stands on.
struct Fixture {
    address: SocketAddr,
    authority: Authority,
    dir: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Fixture {
    async fn new() -> Self {
        let runtime = FakeRuntime::new();
        runtime.add_image("shell");
        let labels = |more: &[(&str, &str)]| {
            let all = [("io.kubernetes.pod.uid", "u1")]
                .into_iter()
                .chain(more.iter().copied());
            all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let sandbox_config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".to_owned(),
                uid: "u1".to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            labels: labels(&[]),
            ..v1::PodSandboxConfig::default()
        };
        let sandbox = runtime.run_sandbox(&sandbox_config, "").await.unwrap();
        let config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata {
                name: "app".to_owned(),
                attempt: 0,
            }),
            image: Some(v1::ImageSpec {
                image: "shell".to_owned(),
                ..v1::ImageSpec::default()
            }),
            labels: labels(&[("io.kubernetes.container.name", "app")]),
            log_path: "app/0.log".to_owned(),
            ..v1::ContainerConfig::default()
        };
        let id = runtime
            .create_container(&sandbox, &config, &sandbox_config)
            .await
            .unwrap();
        runtime.start_container(&id).await.unwrap();
        let status = json!({"containerStatuses": [
            {"name": "app", "image": "", "imageID": "", "ready": true, "restartCount": 0,
             "containerID": format!("containerd://{id}"), "state": {"running": {}}},
            {"name": "late", "image": "", "imageID": "", "ready": false, "restartCount": 0,
             "state": {"waiting": {"reason": "ContainerCreating"}}},
        ]});
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("pods/default_web_u1/app/0.log");
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        fs::write(log, "2026-11-20T12:00:00Z stdout F hello\n").unwrap();

        let mut tasks = JoinSet::new();
        let streaming = TcpListener::bind("127.0.0.1:0").await.unwrap();
        runtime.stream_at(&format!("http://{}", streaming.local_addr().unwrap()));
        tasks.spawn(streaming_server(streaming));

        let now = Timestamp::now();
        let authority = Authority::generate("ca", now);
        let own = authority.issue(&Template::server("n1", &["127.0.0.1".to_owned()]), now);
        let (authorities_tx, authorities) = watch::channel(Arc::new(vec![authority.certificate.clone()]));
        let tls = Tls {
            certificate: Arc::new(Fixed(Arc::new(certified(&own)))),
            authorities,
        };
        let agent = Agent {
            node_name: "n1".to_owned(),
            pods: Arc::new(OnePod(serde_json::from_value(status).unwrap())),
            runtime: Arc::new(runtime),
            places: Places {
                data: dir.path().into(),
                root: dir.path().into(),
                logs: dir.path().into(),
                run: dir.path().into(),
            },
            stats: None,
            config: json!({"maxPods": 110}),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tasks.spawn(async move {
            let _authorities_tx = authorities_tx;
            run(listener, tls, Arc::new(Cluster), Arc::new(agent), Limits::default()).await;
        });
        Self {
            address,
            authority,
            dir,
            _tasks: tasks,
        }
    }

    async fn connect(&self, user: Option<&str>) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.certificate.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match user {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let template = Template::client(name, &["kubeadm:cluster-admins".to_owned()]);
                let pair = self.authority.issue(&template, Timestamp::now());
                let key = PrivatePkcs8KeyDer::from(pair.1.secret_pkcs8().to_vec());
                builder
                    .with_client_auth_cert(vec![pair.0.der().clone()], key.into())
                    .unwrap()
            }
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap()
    }

    async fn dial(&self, mut request: Request<()>) -> Dialed {
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("node"));
        let stream = self.connect(Some("kube-apiserver-kubelet-client")).await;
        timeout(DEADLINE, upgrade::dial(stream, request))
            .await
            .unwrap()
            .unwrap()
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (u16, String) {
        let mut request = Request::get(path).header(header::HOST, "node");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let stream = self.connect(None).await;
        let dialed = upgrade::dial(stream, request.body(()).unwrap()).await.unwrap();
        let Dialed::Refused(response) = dialed else {
            panic!("{dialed:?}")
        };
        let body = String::from_utf8(response.body().to_vec()).unwrap();
        (response.status().as_u16(), body)
    }
}

/// Takes any upgrade: a command echoes its input and ends with 3; a port echoes with `<port>:` before it.
async fn streaming_server(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(async move {
            let (upgrades_tx, mut upgrades) = mpsc::channel(1);
            let service = service_fn(move |mut request: Request<Incoming>| {
                let upgrades_tx = upgrades_tx.clone();
                async move {
                    let offered = protocol::offered(request.headers(), protocol::Upgrade::Spdy);
                    let chosen = HeaderValue::from_str(offered[0]).unwrap();
                    let path = request.uri().path().to_owned();
                    upgrades_tx
                        .send((path, hyper::upgrade::on(&mut request)))
                        .await
                        .unwrap();
                    let response = Response::builder()
                        .status(101)
                        .header(header::CONNECTION, "Upgrade")
                        .header(header::UPGRADE, "SPDY/3.1")
                        .header(STREAM_PROTOCOL, chosen);
                    Ok::<_, Infallible>(response.body(body::empty()).unwrap())
                }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connection.with_upgrades().await.unwrap();
            let (path, upgrade) = upgrades.recv().await.unwrap();
            let (reader, writer, driver) = spdy::connect(TokioIo::new(upgrade.await.unwrap()), Role::Server);
            if path.starts_with("/portforward/") {
                driver.during(echo_ports(reader, writer)).await;
            } else {
                driver.during(echo_command(reader, writer)).await;
            }
        });
    }
}

async fn echo_command(reader: spdy::Reader, writer: spdy::Writer) {
    let (mut source, mut sink) = command::spdy::accept(reader, writer, ALL).await.unwrap();
    while let Ok(Some(message)) = source.next().await {
        match message {
            Message::Data(Channel::Stdin, bytes) => sink.send(Message::Data(Channel::Stdout, bytes)).await.unwrap(),
            Message::End(Channel::Stdin) => break,
            _ => {}
        }
    }
    // Who has left is told nothing.
    let _ = sink.send(data(Channel::Error, Ended::Code(3).to_json())).await;
    let _ = sink.close().await;
}

async fn echo_ports(mut reader: spdy::Reader, writer: spdy::Writer) {
    let mut ports = std::collections::BTreeMap::new();
    while let Ok(Some(event)) = reader.next().await {
        match event {
            Event::Opened { stream, headers } if headers.get("streamtype") == Some("data") => {
                ports.insert(stream, headers.get("port").unwrap().to_owned());
            }
            Event::Data { stream, data } => {
                let said = [ports[&stream].as_bytes(), b":", &data].concat();
                writer.send(stream, said.into()).await.unwrap();
                writer.finish(stream).await.unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn only_who_is_known_and_allowed_is_let_in() {
    let node = Fixture::new().await;
    for (token, path, code, said) in [
        (None, "/pods", 401, "Unauthorized"),
        (Some("bad"), "/pods", 401, "Unauthorized"),
        (
            Some("other"),
            "/pods",
            403,
            "Forbidden (user=bob, verb=get, resource=nodes, subresource(s)=[pods proxy])",
        ),
        (Some("good"), "/logs/", 403, "subresource(s)=[log]"),
        (Some("good"), "/pods", 200, "\"kind\":\"PodList\""),
        (Some("good"), "/runningpods/", 200, "\"uid\":\"u1\""),
        (Some("good"), "/configz", 200, "\"maxPods\":110"),
        (Some("good"), "/healthz", 200, "ok"),
        (Some("good"), "/nothing", 404, ""),
        (Some("good"), "/run/default/web/app", 405, ""),
    ] {
        let (answered, body) = node.get(path, token).await;
        assert_eq!(answered, code, "{path} {body}");
        assert!(body.contains(said), "{path} {body}");
    }
    // Two connections: what is let in by one certificate is not by none.
    let with = Request::get("/pods").body(()).unwrap();
    let Dialed::Refused(response) = node.dial(with).await else {
        panic!("no upgrade was asked for")
    };
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn logs_are_read_or_there_is_a_reason_why_not() {
    let node = Fixture::new().await;
    for (path, code, said) in [
        ("/containerLogs/default/web/app", 200, "hello\n"),
        (
            "/containerLogs/default/web/late",
            400,
            "container \"late\" in pod \"web\" is waiting to start: ContainerCreating",
        ),
        (
            "/containerLogs/default/web/none",
            404,
            "container \"none\" not found in pod \"web\"\n",
        ),
        (
            "/containerLogs/default/other/app",
            404,
            "pod \"other\" does not exist\n",
        ),
        (
            "/containerLogs/default/web/app?previous=true",
            400,
            "previous terminated container \"app\" in pod \"web\" not found",
        ),
        (
            "/exec/default/web/app?stdout=1&command=ls",
            400,
            "Upgrade request required",
        ),
    ] {
        let answer = node.get(path, Some("good")).await;
        assert_eq!(answer, (code, said.to_owned()), "{path}");
    }
    assert!(node.dir.path().exists());
}

const EXEC: &str = "/exec/default/web/app?stdin=true&stdout=true&stderr=true&command=cat";

#[tokio::test]
async fn a_command_is_talked_to_over_websocket() {
    let node = Fixture::new().await;
    for action in [EXEC, "/attach/default/web/app?stdin=1&stdout=1&stderr=1"] {
        let mut request = Request::get(action).body(()).unwrap();
        websocket::ask(&mut request, &["v5.channel.k8s.io"]);
        let Dialed::Upgraded(io, parts) = node.dial(request).await else {
            panic!("{action}")
        };
        assert_eq!(parts.headers[header::SEC_WEBSOCKET_PROTOCOL], "v5.channel.k8s.io");
        let protocol = Protocol::named("v5.channel.k8s.io").unwrap();
        let (mut source, mut sink) = command::websocket::connect(websocket::over(io, Side::Client).await, protocol);
        sink.send(data(Channel::Stdin, "hello")).await.unwrap();
        assert_eq!(source.next().await.unwrap(), Some(data(Channel::Stdout, "hello")));
        sink.send(Message::End(Channel::Stdin)).await.unwrap();
        let ended = source.next().await.unwrap();
        assert_eq!(ended, Some(data(Channel::Error, Ended::Code(3).to_json())));
        assert_eq!(source.next().await.unwrap(), None);
    }
}

fn ask_spdy(path: &str, offered: &'static str) -> Request<()> {
    Request::post(path)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(STREAM_PROTOCOL, offered)
        .body(())
        .unwrap()
}

#[tokio::test]
async fn a_command_is_talked_to_over_spdy() {
    const SIZE: usize = 4 << 20;
    let node = Fixture::new().await;
    let request = ask_spdy(EXEC, "v4.channel.k8s.io");
    let Dialed::Upgraded(io, parts) = node.dial(request).await else {
        panic!("refused")
    };
    assert_eq!(parts.headers[STREAM_PROTOCOL], "v4.channel.k8s.io");
    let (reader, writer, driver) = spdy::connect(io, Role::Client);
    let talk = async {
        let (mut source, mut sink) = command::spdy::open(reader, writer, ALL).await.unwrap();
        let chunk = Bytes::from(vec![7; 64 << 10]);
        let writing = async {
            for _ in 0..SIZE / chunk.len() {
                sink.send(Message::Data(Channel::Stdin, chunk.clone())).await.unwrap();
            }
            sink.send(Message::End(Channel::Stdin)).await.unwrap();
        };
        let reading = async {
            let mut read = 0;
            loop {
                match source.next().await.unwrap() {
                    Some(Message::Data(Channel::Stdout, bytes)) => read += bytes.len(),
                    Some(Message::Data(Channel::Error, ended)) => break (read, Ended::parse(&ended)),
                    Some(_) => {}
                    None => panic!("no status"),
                }
            }
        };
        let ((), heard) = tokio::join!(writing, reading);
        assert_eq!(heard, (SIZE, Ended::Code(3)));
    };
    timeout(DEADLINE, driver.during(talk)).await.unwrap();
}

#[tokio::test]
async fn a_port_is_reached_through_a_tunnel_and_over_spdy() {
    let node = Fixture::new().await;
    let mut tunnelled = Request::get("/portForward/default/web").body(()).unwrap();
    websocket::ask(&mut tunnelled, &[protocol::PORT_FORWARD_TUNNEL]);
    let plain = ask_spdy("/portForward/default/web", protocol::PORT_FORWARD);
    let mut seen = BTreeSet::new();
    for request in [tunnelled, plain] {
        let Dialed::Upgraded(io, parts) = node.dial(request).await else {
            panic!("refused")
        };
        let tunnel = parts.headers.get(header::SEC_WEBSOCKET_PROTOCOL).is_some();
        seen.insert(tunnel);
        let (mut reader, writer, driver) = if tunnel {
            spdy::connect(Tunnel::new(websocket::over(io, Side::Client).await), Role::Client)
        } else {
            spdy::connect(io, Role::Client)
        };
        let talk = async move {
            for kind in ["error", "data"] {
                let headers = Headers::new([("streamtype", kind), ("port", "80"), ("requestid", "0")]);
                let stream = writer.open(headers, false).await.unwrap();
                assert_eq!(reader.next().await.unwrap(), Some(Event::Accepted { stream }));
                if kind == "data" {
                    writer.send(stream, "ping".into()).await.unwrap();
                    let answer = Event::Data {
                        stream,
                        data: "80:ping".into(),
                    };
                    assert_eq!(reader.next().await.unwrap(), Some(answer));
                    assert_eq!(reader.next().await.unwrap(), Some(Event::Finished { stream }));
                }
            }
        };
        timeout(DEADLINE, driver.during(talk)).await.unwrap();
    }
    assert_eq!(seen.len(), 2);
}
