//! Commands and ports through containerd's own streaming server, which speaks SPDY as all clients of Kubernetes do.

use bosun_cri::Terminal;
use bosun_streaming::{
    command::{self, Channel, Message, Streams, spdy::data},
    forward,
    session::{Sink, Source},
    spdy::{self, Driver, Reader, Role, Writer},
    status::Ended,
    translate::Plan,
    upgrade::{self, Dialed},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// An upgraded connection, as a WebSocket client's session would have it translated.
async fn open(url: &str, plan: &Plan) -> (Reader, Writer, Driver) {
    let url: http::Uri = url.parse().expect("a URL");
    let address = url.authority().expect("an address").as_str();
    let stream = TcpStream::connect(address).await.expect("a connection");
    let path = url.path();
    let mut request = http::Request::post(path)
        .header("host", address)
        .body(())
        .expect("a request");
    plan.ask(&http::HeaderMap::new(), &mut request);
    match upgrade::dial(stream, request).await.expect("an answer") {
        Dialed::Upgraded(io, _) => spdy::connect(io, Role::Client),
        Dialed::Refused(response) => panic!("{response:?}"),
    }
}

fn wanted(streams: Streams) -> (Plan, Terminal) {
    let terminal = Terminal {
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
        tty: streams.tty,
    };
    (
        Plan::Command {
            name: "v5.channel.k8s.io",
            streams,
        },
        terminal,
    )
}

/// Writes `input` and closes it; all output, and how the command ended.
async fn talk(url: &str, streams: Streams, input: Vec<Message>) -> (Vec<u8>, Vec<u8>, Ended) {
    let (reader, writer, driver) = open(url, &wanted(streams).0).await;
    let work = async move {
        let (mut source, mut sink) = command::spdy::open(reader, writer, streams).await.expect("streams");
        let writing = async {
            for message in input {
                sink.send(message).await.expect("room");
            }
        };
        let reading = async {
            let (mut out, mut errors) = (Vec::new(), Vec::new());
            loop {
                match source.next().await.expect("a message") {
                    Some(Message::Data(Channel::Stdout, bytes)) => out.extend_from_slice(&bytes),
                    Some(Message::Data(Channel::Stderr, bytes)) => errors.extend_from_slice(&bytes),
                    Some(Message::Data(Channel::Error, said)) => break (out, errors, Ended::parse(&said)),
                    Some(_) => {}
                    None => panic!("it does not say how it ended"),
                }
            }
        };
        let ((), heard) = tokio::join!(writing, reading);
        heard
    };
    timeout(DEADLINE, driver.during(work)).await.expect("in time")
}

const PIPES: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const TERMINAL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: false,
    tty: true,
};

#[test]
fn commands_and_ports_are_reached_through_the_runtimes_own_server() {
    alone(async |ground| {
        let (_managed, runtime, env) = ground.start().await;
        let pod = Pod::run(&runtime, &env).await;
        let mut config = pod.container(&["sh", "-c", "while read line; do echo \"got $line\"; done"]);
        config.stdin = true;
        let id = runtime
            .create_container(&pod.id, &config, &pod.config)
            .await
            .expect("a container");
        runtime.start_container(&id).await.expect("it starts");
        let shell = |script: &str| ["sh", "-c", script].map(str::to_owned);

        // Input to its end, both outputs, an exit code.
        let input = vec![7_u8; 3 << 20];
        let command = shell("cat; echo oops >&2; exit 7");
        let url = runtime.exec_url(&id, &command, &wanted(PIPES).1).await.expect("a URL");
        let mut messages: Vec<_> = input
            .chunks(50_000)
            .map(|chunk| data(Channel::Stdin, chunk.to_vec()))
            .collect();
        messages.push(Message::End(Channel::Stdin));
        let (out, errors, ended) = talk(&url, PIPES, messages).await;
        assert!(out == input, "{} bytes", out.len());
        assert_eq!((&errors[..], ended), (&b"oops\n"[..], Ended::Code(7)));

        // A terminal, and its size.
        let command =
            shell("while [ \"$(busybox stty size 2>/dev/null)\" != '24 80' ]; do sleep 0.1; done; echo sized");
        let url = runtime
            .exec_url(&id, &command, &wanted(TERMINAL).1)
            .await
            .expect("a URL");
        let size = data(Channel::Resize, r#"{"Width":80,"Height":24}"#);
        let (out, _, ended) = talk(&url, TERMINAL, vec![size]).await;
        assert_eq!((&out[..], ended), (&b"sized\r\n"[..], Ended::Success));

        // What is not there can't be run, and that is said.
        let url = runtime
            .exec_url(&id, &["nothing".to_owned()], &wanted(PIPES).1)
            .await
            .expect("a URL");
        let (_, _, ended) = talk(&url, PIPES, vec![]).await;
        assert!(
            matches!(&ended, Ended::Failure(why) if why.contains("nothing")),
            "{ended:?}"
        );

        attached(&*runtime, &id).await;
        forwarded(&*runtime, &pod).await;
        pod.remove().await;
    });
}

async fn attached(runtime: &dyn Runtime, id: &bosun_api::ContainerId) {
    let (plan, terminal) = wanted(PIPES);
    let url = runtime.attach_url(id, &terminal).await.expect("a URL");
    let (reader, writer, driver) = open(&url, &plan).await;
    let work = async move {
        let (mut source, mut sink) = command::spdy::open(reader, writer, PIPES).await.expect("streams");
        sink.send(data(Channel::Stdin, "a\n")).await.expect("room");
        assert_eq!(
            source.next().await.expect("output"),
            Some(data(Channel::Stdout, "got a\n"))
        );
    };
    timeout(DEADLINE, driver.during(work)).await.expect("in time");
}

async fn forwarded(runtime: &dyn Runtime, pod: &Pod) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let open_port = listener.local_addr().expect("an address").port();
    let closed_port = {
        let another = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        another.local_addr().expect("an address").port()
    };
    let mut server = JoinSet::new();
    server.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.expect("four bytes");
        stream
            .write_all(&[b"heard ", &heard[..]].concat())
            .await
            .expect("an answer");
    });
    let ports = vec![open_port, closed_port];
    let url = runtime.port_forward_url(&pod.id).await.expect("a URL");
    let plan = Plan::Ports {
        name: "v4.channel.k8s.io",
        ports: ports.clone(),
    };
    let (reader, writer, driver) = open(&url, &plan).await;
    let work = async move {
        let (mut source, mut sink) = forward::spdy::open(reader, writer, &ports).await.expect("streams");
        sink.send(forward::Message::Data(0, "ping".into())).await.expect("room");
        let (mut answer, mut error) = (Vec::new(), Vec::new());
        while answer.len() < 10 || error.is_empty() {
            match source.next().await.expect("a message") {
                Some(forward::Message::Data(0, bytes)) => answer.extend_from_slice(&bytes),
                Some(forward::Message::Error(1, bytes)) => error.extend_from_slice(&bytes),
                Some(_) => {}
                None => panic!("it ended: {answer:?} {error:?}"),
            }
        }
        assert_eq!(answer, b"heard ping");
        let error = String::from_utf8_lossy(&error);
        assert!(error.contains(&closed_port.to_string()), "{error}");
    };
    timeout(DEADLINE, driver.during(work)).await.expect("in time");
}
