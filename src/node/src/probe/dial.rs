//! Connections to a pod.

use std::{io, net::IpAddr};

use tokio::net::{TcpStream, lookup_host};

/// A host that can't be reached, by any of its addresses.
#[derive(Debug, thiserror::Error)]
#[error("connect to {host}:{port}: {cause}")]
pub struct Error {
    host: String,
    port: u16,
    /// Part of the message, as the operating system has nothing to add to it.
    cause: io::Error,
}

/// Opens a connection. Dropping it closes it in order.
pub async fn connect(host: &str, port: u16) -> Result<TcpStream, Error> {
    let connected = match host.parse::<IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) => connect_by_name(host, port).await,
    };
    connected.map_err(|cause| Error {
        host: host.to_owned(),
        port,
        cause,
    })
}

async fn connect_by_name(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut failure = None;
    for address in lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}
