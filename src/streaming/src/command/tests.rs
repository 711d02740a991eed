//! Clients of every protocol through the relay to a server of SPDY, over connections in memory.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{DuplexStream, duplex};

use super::{spdy::data, websocket::Protocol, *};
use crate::{
    Error,
    session::{IDLE, Sink, Source, relay},
    spdy::{Role, connect},
    status::Ended,
    websocket::{Side, over},
};

const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};

/// A client of `protocol`, what lies between, and `runtime` at the other end; ends when all have.
async fn session<R, C, F, G>(protocol: &str, streams: Streams, runtime: R, client: C) -> Result<(), Error>
where
    R: FnOnce(spdy::CommandSource, spdy::CommandSink) -> F,
    C: FnOnce(websocket::ServerSource<DuplexStream>, websocket::ServerSink<DuplexStream>) -> G,
    F: Future<Output = ()>,
    G: Future<Output = ()>,
{
    let protocol = Protocol::named(protocol).unwrap();
    let (clients, front) = duplex(4096);
    let (back, runtimes) = duplex(4096);
    let between = async {
        let served = websocket::serve(over(front, Side::Server).await, protocol, streams).await?;
        let (reader, writer, driver) = connect(back, Role::Client);
        let work = async { relay(served, spdy::open(reader, writer, streams).await?, IDLE).await };
        driver.during(work).await
    };
    let runtime = async {
        let (reader, writer, driver) = connect(runtimes, Role::Server);
        let work = async {
            let (source, sink) = spdy::accept(reader, writer, streams).await.unwrap();
            runtime(source, sink).await;
        };
        driver.during(work).await;
    };
    let client = async {
        let (source, sink) = websocket::connect(over(clients, Side::Client).await, protocol);
        client(source, sink).await;
    };
    let (outcome, (), ()) = tokio::join!(between, runtime, client);
    outcome
}

#[tokio::test]
async fn a_command_reads_to_the_end_of_its_input_and_tells_how_it_ended() {
    let runtime = |mut source: spdy::CommandSource, mut sink: spdy::CommandSink| async move {
        let mut read = Vec::new();
        loop {
            match source.next().await.unwrap() {
                Some(Message::Data(Channel::Stdin, bytes)) => read.extend_from_slice(&bytes),
                Some(Message::End(Channel::Stdin)) => break,
                other => panic!("{other:?}"),
            }
        }
        read.reverse();
        sink.send(data(Channel::Stdout, read)).await.unwrap();
        sink.send(data(Channel::Stderr, "oh")).await.unwrap();
        sink.send(data(Channel::Error, Ended::Code(7).to_json())).await.unwrap();
        sink.close().await.unwrap();
    };
    let client = |mut source: websocket::ServerSource<_>, mut sink: websocket::ServerSink<_>| async move {
        sink.send(data(Channel::Stdin, "abc")).await.unwrap();
        sink.send(data(Channel::Stdin, "def")).await.unwrap();
        sink.send(Message::End(Channel::Stdin)).await.unwrap();
        let mut heard = Vec::new();
        while let Some(message) = source.next().await.unwrap() {
            heard.push(message);
        }
        let Some(Message::Data(Channel::Error, ended)) = heard.pop() else {
            panic!("{heard:?}")
        };
        assert_eq!(Ended::parse(&ended), Ended::Code(7));
        assert_eq!(heard, [data(Channel::Stdout, "fedcba"), data(Channel::Stderr, "oh")]);
    };
    session("v5.channel.k8s.io", ALL, runtime, client).await.unwrap();
}

#[tokio::test]
async fn a_terminals_sizes_reach_the_command() {
    let streams = Streams { tty: true, ..ALL };
    let runtime = |mut source: spdy::CommandSource, mut sink: spdy::CommandSink| async move {
        assert!(!sink.is_open(Channel::Stderr), "a terminal has one output");
        let size = source.next().await.unwrap();
        assert_eq!(size, Some(data(Channel::Resize, r#"{"Width":80,"Height":24}"#)));
        sink.close().await.unwrap();
    };
    let client = |mut source: websocket::ServerSource<_>, mut sink: websocket::ServerSink<_>| async move {
        let size = data(Channel::Resize, r#"{"Width":80,"Height":24}"#);
        sink.send(size).await.unwrap();
        assert_eq!(source.next().await.unwrap(), None);
    };
    session("v4.channel.k8s.io", streams, runtime, client).await.unwrap();
}

#[tokio::test]
async fn old_protocols_tell_a_failure_in_words_and_success_not_at_all() {
    for (ended, told) in [
        (Ended::Success, None),
        (Ended::Code(2), Some("command terminated with non-zero exit code: 2")),
    ] {
        for protocol in ["", "channel.k8s.io", "base64.channel.k8s.io"] {
            let json = ended.to_json();
            let runtime = |_source: spdy::CommandSource, mut sink: spdy::CommandSink| async move {
                sink.send(data(Channel::Stdout, "é")).await.unwrap();
                sink.send(data(Channel::Error, json)).await.unwrap();
                sink.close().await.unwrap();
            };
            let client = |mut source: websocket::ServerSource<_>, _sink: websocket::ServerSink<_>| async move {
                assert_eq!(source.next().await.unwrap(), Some(data(Channel::Stdout, "é")));
                let last = source.next().await.unwrap();
                assert_eq!(last, told.map(|told| data(Channel::Error, told)), "{protocol:?}");
            };
            session(protocol, ALL, runtime, client).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_session_for_the_command() {
    let runtime = |mut source: spdy::CommandSource, sink: spdy::CommandSink| async move {
        while let Some(message) = source.next().await.unwrap() {
            assert!(matches!(message, Message::End(_)), "{message:?}");
        }
        drop(sink);
    };
    let client = |source: websocket::ServerSource<_>, mut sink: websocket::ServerSink<_>| async move {
        sink.close().await.unwrap();
        drop(source);
    };
    session("v5.channel.k8s.io", ALL, runtime, client).await.unwrap();
}

#[tokio::test]
async fn a_client_that_writes_where_only_the_command_may_is_turned_away() {
    let runtime = |mut source: spdy::CommandSource, _sink: spdy::CommandSink| async move {
        while source.next().await.unwrap().is_some() {}
    };
    let client = |mut source: websocket::ServerSource<_>, mut sink: websocket::ServerSink<_>| async move {
        sink.send(data(Channel::Stdout, "forged")).await.unwrap();
        while let Ok(Some(_)) = source.next().await {}
    };
    let outcome = session("v5.channel.k8s.io", ALL, runtime, client).await;
    assert!(matches!(outcome, Err(Error::Protocol(_))), "{outcome:?}");
}

#[tokio::test]
async fn ten_mebibytes_pass_each_way_while_little_is_held() {
    const SIZE: usize = 10 << 20;
    // Both write without reading first; only back-pressure and room in between keep them going.
    let runtime = |mut source: spdy::CommandSource, mut sink: spdy::CommandSink| async move {
        let chunk = Bytes::from(vec![7; 100_000]);
        let reading = async {
            let mut read = 0;
            loop {
                match source.next().await.unwrap() {
                    Some(Message::Data(Channel::Stdin, bytes)) => read += bytes.len(),
                    Some(Message::End(Channel::Stdin)) => break,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(read, SIZE);
        };
        let writing = async {
            let mut left = SIZE;
            while left > 0 {
                let part = chunk.slice(..left.min(chunk.len()));
                left -= part.len();
                sink.send(Message::Data(Channel::Stdout, part)).await.unwrap();
            }
        };
        tokio::join!(reading, writing);
        sink.close().await.unwrap();
    };
    let client = |mut source: websocket::ServerSource<_>, mut sink: websocket::ServerSink<_>| async move {
        let chunk = Bytes::from(vec![9; 32 << 10]);
        let writing = async {
            for _ in 0..SIZE / chunk.len() {
                sink.send(Message::Data(Channel::Stdin, chunk.clone())).await.unwrap();
            }
            sink.send(Message::End(Channel::Stdin)).await.unwrap();
        };
        let reading = async {
            let mut read = 0;
            while let Some(message) = source.next().await.unwrap() {
                if let Message::Data(Channel::Stdout, bytes) = message {
                    read += bytes.len();
                }
            }
            assert_eq!(read, SIZE);
        };
        tokio::join!(writing, reading);
    };
    session("v5.channel.k8s.io", ALL, runtime, client).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_holds_the_command_up_and_no_memory() {
    let written = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = written.clone();
    let runtime = |_source: spdy::CommandSource, mut sink: spdy::CommandSink| async move {
        let chunk = Bytes::from(vec![7; 4096]);
        while sink.send(Message::Data(Channel::Stdout, chunk.clone())).await.is_ok() {
            count.fetch_add(chunk.len(), std::sync::atomic::Ordering::Relaxed);
        }
    };
    let client = |source: websocket::ServerSource<_>, sink: websocket::ServerSink<_>| async move {
        // With the clock paused this passes once nothing else can go on.
        tokio::time::sleep(Duration::from_mins(1)).await;
        drop((source, sink));
    };
    let outcome = session("v5.channel.k8s.io", ALL, runtime, client).await;
    assert!(outcome.is_err(), "the client was gone");
    let written = written.load(std::sync::atomic::Ordering::Relaxed);
    assert!(written < 1 << 20, "{written} bytes are somewhere in between");
}
