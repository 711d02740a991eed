//! Requests to servers written for the purpose, on loopback.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bosun_api::core::{Container, HTTPGetAction, HTTPHeader, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::runtime::{Scripted, Step};
use crate::probe::action::{Action, MAX_ANSWER, Outcome, Target};

/// What a server does with a connection once it has read the head of a request.
#[derive(Clone)]
enum Reply {
    /// Writes this and closes.
    Close(Vec<u8>),
    /// Writes this and leaves the connection open.
    Keep(Vec<u8>),
    /// Writes this over and over.
    Endless(Vec<u8>),
    /// Says nothing.
    Silence,
}

struct Server {
    port: u16,
    heads_rx: mpsc::UnboundedReceiver<String>,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(tls: bool, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heads_tx, heads_rx) = mpsc::unbounded_channel();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut serving = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let reply = replies.get(number).or(replies.last()).unwrap().clone();
                let heads_tx = heads_tx.clone();
                serving.spawn(async move {
                    let served = if tls {
                        let stream = acceptor().accept(stream).await.unwrap();
                        serve(stream, port, reply, heads_tx).await
                    } else {
                        serve(stream, port, reply, heads_tx).await
                    };
                    // The prober may well be gone before the server has said all.
                    drop(served);
                });
            }
        });
        Self {
            port,
            heads_rx,
            connections,
            _tasks: tasks,
        }
    }

    async fn replying(reply: &str) -> Self {
        Self::start(false, vec![Reply::Close(reply.as_bytes().to_vec())]).await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The lines of the next request's head.
    async fn head(&mut self) -> Vec<String> {
        let head = timeout(Duration::from_secs(10), self.heads_rx.recv())
            .await
            .unwrap()
            .unwrap();
        head.trim_end().split("\r\n").map(str::to_owned).collect()
    }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from(include_bytes!("certificate.der").to_vec());
    let key = PrivateKeyDer::try_from(include_bytes!("key.der").to_vec()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Serves one connection; `PORT` in what it says is its own.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    port: u16,
    reply: Reply,
    heads_tx: mpsc::UnboundedSender<String>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let _ = heads_tx.send(String::from_utf8(head).unwrap());
    let words = |bytes: Vec<u8>| match String::from_utf8(bytes) {
        Ok(text) => text.replace("PORT", &port.to_string()).into_bytes(),
        Err(binary) => binary.into_bytes(),
    };
    match reply {
        Reply::Close(bytes) => {
            stream.write_all(&words(bytes)).await?;
            stream.shutdown().await
        }
        Reply::Keep(bytes) => {
            stream.write_all(&words(bytes)).await?;
            stream.read_u8().await.map(drop)
        }
        Reply::Endless(bytes) => loop {
            stream.write_all(&bytes).await?;
        },
        Reply::Silence => stream.read_u8().await.map(drop),
    }
}

fn get(port: u16) -> HTTPGetAction {
    HTTPGetAction {
        port: IntOrString::Int(port.into()),
        ..HTTPGetAction::default()
    }
}

async fn run(probe: &Probe) -> Outcome {
    let target = Target {
        address: "127.0.0.1".parse().ok(),
        container: &Container::default(),
    };
    let action = Action::of_probe(probe, &target);
    let runtime = Scripted::new(|_, _| Step::Exit(0));
    let limit = Duration::from_secs(10);
    timeout(limit, action.run(&*runtime, &"id".into(), limit, "kube-probe/1.36"))
        .await
        .expect("no outcome in time")
}

async fn ask(get: HTTPGetAction) -> Outcome {
    run(&Probe {
        http_get: Some(get),
        ..Probe::default()
    })
    .await
}

fn header(name: &str, value: &str) -> HTTPHeader {
    HTTPHeader {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn success(words: &str) -> Outcome {
    Outcome::Success(words.to_owned())
}

fn failure(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failure(message) => message,
        outcome => panic!("{outcome:?}"),
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes";

#[tokio::test]
async fn a_request_carries_upstreams_headers() {
    let mut server = Server::replying(OK).await;
    assert_eq!(
        ask(HTTPGetAction {
            path: Some("/healthz?a=b".to_owned()),
            ..get(server.port)
        })
        .await,
        success("yes")
    );
    let mut head = server.head().await;
    assert_eq!(head.remove(0), "GET /healthz?a=b HTTP/1.1");
    head.sort();
    let host = format!("host: 127.0.0.1:{}", server.port);
    assert_eq!(
        head,
        ["accept: */*", "connection: close", &host, "user-agent: kube-probe/1.36"]
    );
}

#[tokio::test]
async fn headers_of_ones_own_replace_the_usual_ones_and_empty_ones_remove_them() {
    let mut server = Server::replying(OK).await;
    let headers = vec![
        header("Host", "web.example"),
        header("User-Agent", ""),
        header("Accept", "text/plain"),
        header("X-Twice", "1"),
        header("X-Twice", "2"),
    ];
    ask(HTTPGetAction {
        http_headers: Some(headers),
        ..get(server.port)
    })
    .await;
    let mut head = server.head().await;
    head.sort();
    let expected = [
        "GET / HTTP/1.1",
        "accept: text/plain",
        "connection: close",
        "host: web.example",
        "x-twice: 1",
        "x-twice: 2",
    ];
    assert_eq!(head, expected);
}

#[tokio::test]
async fn the_status_decides() {
    for (reply, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", success("")),
        ("HTTP/1.0 200 OK\r\n\r\nold style", success("old style")),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
            success("yes"),
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", success("stopped at a redirect: ")),
        (
            "HTTP/1.1 404 Not Found\r\n\r\n",
            Outcome::Failure("HTTP probe failed with statuscode: 404".to_owned()),
        ),
        (
            "HTTP/1.1 500 No\r\n\r\n",
            Outcome::Failure("HTTP probe failed with statuscode: 500".to_owned()),
        ),
    ] {
        let server = Server::replying(reply).await;
        assert_eq!(ask(get(server.port)).await, expected, "{reply:?}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_failure_that_says_why() {
    let head = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1_000_000));
    for reply in [
        "",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nyes",
        &head,
    ] {
        let server = Server::replying(reply).await;
        let message = failure(ask(get(server.port)).await);
        assert!(
            message.starts_with(&format!("GET http://127.0.0.1:{}/: ", server.port)),
            "{message}"
        );
        assert!(message.len() < 300, "{message}");
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let message = failure(ask(get(port)).await);
    assert_eq!(
        message,
        format!("connect to 127.0.0.1:{port}: Connection refused (os error 111)")
    );
}

#[tokio::test]
async fn redirects_on_the_same_host_are_followed_with_the_same_headers() {
    let there = "HTTP/1.1 302 Found\r\nLocation: ../there?x=1\r\n\r\n";
    let mut server = Server::start(false, vec![Reply::Close(there.into()), Reply::Close(OK.into())]).await;
    let headers = Some(vec![header("Host", "web.example"), header("X-Mine", "1")]);
    assert_eq!(
        ask(HTTPGetAction {
            http_headers: headers,
            ..get(server.port)
        })
        .await,
        success("yes")
    );
    server.head().await;
    let head = server.head().await;
    assert_eq!(head[0], "GET /there?x=1 HTTP/1.1");
    assert!(
        head.contains(&"host: web.example".to_owned()) && head.contains(&"x-mine: 1".to_owned()),
        "{head:?}"
    );

    let absolute = "HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:PORT/x\r\n\r\n";
    let mut server = Server::start(false, vec![Reply::Close(absolute.into()), Reply::Close(OK.into())]).await;
    let headers = Some(vec![header("Host", "web.example")]);
    assert_eq!(
        ask(HTTPGetAction {
            http_headers: headers,
            ..get(server.port)
        })
        .await,
        success("yes")
    );
    server.head().await;
    let host = format!("host: 127.0.0.1:{}", server.port);
    assert!(
        server.head().await.contains(&host),
        "a Host of one's own goes no further than its address"
    );
}

#[tokio::test]
async fn a_redirect_to_another_host_is_success_and_not_followed() {
    for location in ["http://other.example/", "//other.example/", "https://127.0.0.2:1/"] {
        let server = Server::replying(&format!("HTTP/1.1 302 Found\r\nLocation: {location}\r\n\r\nelsewhere")).await;
        assert_eq!(ask(get(server.port)).await, success("stopped at a redirect: elsewhere"));
        assert_eq!(server.connections(), 1);
    }
}

#[tokio::test]
async fn redirects_end_after_ten() {
    let server = Server::replying("HTTP/1.1 307 Again\r\nLocation: /\r\n\r\n").await;
    assert!(failure(ask(get(server.port)).await).ends_with("stopped after 10 redirects"));
    assert_eq!(server.connections(), 11);
    let server = Server::replying("HTTP/1.1 302 Found\r\nLocation: ftp://x/\r\n\r\n").await;
    assert!(failure(ask(get(server.port)).await).contains("\"ftp://x/\", which is no HTTP address"));
}

#[tokio::test]
async fn no_more_of_an_answer_is_read_than_is_kept() {
    let endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let server = Server::start(false, vec![Reply::Endless([endless, vec![b'x'; 4000]].concat())]).await;
    let Outcome::Success(words) = ask(get(server.port)).await else {
        panic!()
    };
    assert_eq!(words.len(), MAX_ANSWER);
}

#[tokio::test]
async fn a_server_that_does_not_close_when_told_costs_no_time() {
    let server = Server::start(false, vec![Reply::Keep(OK.into())]).await;
    let start = Instant::now();
    assert_eq!(ask(get(server.port)).await, success("yes"));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn nobodys_certificate_is_good_enough() {
    let mut server = Server::start(true, vec![Reply::Close(OK.into())]).await;
    let scheme = Some("HTTPS".to_owned());
    assert_eq!(
        ask(HTTPGetAction {
            scheme: scheme.clone(),
            ..get(server.port)
        })
        .await,
        success("yes")
    );
    assert_eq!(server.head().await[0], "GET / HTTP/1.1");
    let host = Some("localhost".to_owned());
    assert_eq!(
        ask(HTTPGetAction {
            scheme: scheme.clone(),
            host,
            ..get(server.port)
        })
        .await,
        success("yes")
    );

    let plain = Server::replying(OK).await;
    // The handshake's first bytes are no request: nothing comes back before the time is over.
    let message = timeout(
        Duration::from_secs(1),
        ask(HTTPGetAction {
            scheme,
            ..get(plain.port)
        }),
    )
    .await;
    assert!(message.is_err() || failure(message.unwrap()).contains("TLS"));
}

#[tokio::test]
async fn a_silent_server_keeps_nothing_open_once_the_request_is_dropped() {
    let mut server = Server::start(false, vec![Reply::Silence]).await;
    assert!(
        timeout(Duration::from_millis(200), ask(get(server.port)))
            .await
            .is_err()
    );
    server.head().await;
    assert_eq!(sockets(server.port), Vec::<String>::new());
}

#[tokio::test]
async fn no_request_leaves_a_socket_in_time_wait() {
    let server = Server::replying(OK).await;
    for _ in 0..20 {
        assert_eq!(ask(get(server.port)).await, success("yes"));
    }
    assert_eq!(sockets(server.port), Vec::<String>::new());
    assert_eq!(server.connections(), 20);
}

/// The states of our sockets to `port`, from the kernel's table.
fn sockets(port: u16) -> Vec<String> {
    let peer = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2] == peer).map(|row| row[3].to_owned()).collect()
}

#[tokio::test]
async fn a_tcp_probe_only_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = |host: Option<&str>| Probe {
        tcp_socket: Some(TCPSocketAction {
            host: host.map(str::to_owned),
            port: IntOrString::Int(port.into()),
        }),
        ..Probe::default()
    };
    assert_eq!(run(&tcp(None)).await, success(""));
    let (mut stream, _) = listener.accept().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it closes in order");
    assert_eq!(run(&tcp(Some("localhost"))).await, success(""));
    drop(listener);
    assert!(failure(run(&tcp(None)).await).contains("Connection refused"));
}
