//! A port of the test's own loopback interface, made one of a namespace's: how a node reaches a server that the test
//! reaches too.

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::netns::Netns;

/// Carries connections for as long as it lives.
#[derive(Debug)]
pub struct Tunnel {
    _task: JoinSet<()>,
}

impl Tunnel {
    /// From now on whoever connects to `address` in the namespace is connected to `address` here.
    pub fn open(netns: &Netns, address: SocketAddr) -> anyhow::Result<Self> {
        // A socket stays in the namespace that it was made in.
        let listener = netns.run(|| Ok(std::net::TcpListener::bind(address)?))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener).context("listening in the namespace")?;
        let mut task = JoinSet::new();
        task.spawn(carry(listener, address));
        Ok(Self { _task: task })
    }
}

async fn carry(listener: TcpListener, address: SocketAddr) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((mut near, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        connections.spawn(async move {
            // Whoever connected learns by the end of its connection that nobody is there.
            if let Ok(mut far) = TcpStream::connect(address).await {
                let _ = copy_bidirectional(&mut near, &mut far).await;
            }
        });
    }
}
