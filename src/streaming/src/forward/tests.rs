use futures_util::{SinkExt, StreamExt};
use tokio::io::duplex;
use tokio_tungstenite::tungstenite;

use super::*;
use crate::{
    session::{IDLE, relay},
    spdy::{Event, Role, connect},
    websocket::{Side, over},
};

#[test]
fn ports_are_numbers_listed_or_repeated() {
    assert_eq!(ports(["80,443", "8080"].into_iter()), Ok(vec![80, 443, 8080]));
    for bad in [&["0"][..], &["http"], &["65536"], &[""], &[]] {
        assert!(ports(bad.iter().copied()).is_err(), "{bad:?}");
    }
    let many = vec!["1"; MAX_PORTS + 1].join(",");
    assert!(ports([&*many].into_iter()).is_err());
}

#[tokio::test]
async fn channels_reach_the_ports_they_stand_for() {
    let (clients, front) = duplex(4096);
    let (back, runtimes) = duplex(4096);
    let between = async {
        let socket = over(front, Side::Server).await;
        let served = websocket::serve(socket, websocket::form(""), &[80, 81]).await?;
        let (reader, writer, driver) = connect(back, Role::Client);
        let work = async { relay(served, spdy::open(reader, writer, &[80, 81]).await?, IDLE).await };
        driver.during(work).await
    };
    let runtime = async {
        let (mut reader, writer, driver) = connect(runtimes, Role::Server);
        let work = async move {
            let mut opened = Vec::new();
            while let Some(event) = reader.next().await.unwrap() {
                match event {
                    Event::Opened { stream, headers } => {
                        let of = |name| headers.get(name).unwrap().to_owned();
                        opened.push((stream, of("streamtype"), of("port"), of("requestid")));
                    }
                    Event::Data { stream, data } => {
                        let (_, kind, port, _) = opened.iter().find(|one| one.0 == stream).unwrap();
                        assert_eq!((&**kind, &**port), ("data", "81"));
                        writer.send(stream, data).await.unwrap();
                        let (errors, ..) = opened.iter().find(|one| one.1 == "error" && one.2 == "80").unwrap();
                        writer.send(*errors, "refused".into()).await.unwrap();
                        for (stream, ..) in &opened {
                            writer.finish(*stream).await.unwrap();
                        }
                    }
                    _ => {}
                }
            }
            let ids: Vec<_> = opened
                .iter()
                .map(|(_, kind, port, id)| format!("{kind} {port} {id}"))
                .collect();
            assert_eq!(ids, ["error 80 0", "data 80 0", "error 81 1", "data 81 1"]);
        };
        driver.during(work).await;
    };
    let client = async {
        let mut socket = over(clients, Side::Client).await;
        let mut heard = Vec::new();
        socket
            .send(tungstenite::Message::binary(vec![2, b'h', b'i']))
            .await
            .unwrap();
        while let Some(Ok(tungstenite::Message::Binary(bytes))) = socket.next().await {
            heard.push(bytes.to_vec());
        }
        let first: Vec<_> = [(0, 80), (1, 80), (2, 81), (3, 81)]
            .map(|(channel, port)| vec![channel, port, 0])
            .into();
        assert_eq!(heard[..4], first);
        assert_eq!(heard[4..], [b"\x02hi".to_vec(), b"\x01refused".to_vec()]);
    };
    let (outcome, (), ()) = tokio::join!(between, runtime, client);
    outcome.unwrap();
}
