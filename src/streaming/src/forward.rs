//! A port-forward: connections to ports of a pod, each with its data and a word about what went wrong.

pub mod spdy;
pub mod websocket;

use bytes::Bytes;

/// What passes, on the connection of this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Bytes from or for the port.
    Data(usize, Bytes),
    /// What went wrong, in words.
    Error(usize, Bytes),
    /// No more data.
    End(usize),
}

/// So many ports at a time.
pub const MAX_PORTS: usize = 64;

/// The ports of a request's query parameters `ports`, each of which may be a list with commas.
pub fn ports<'a>(parameters: impl Iterator<Item = &'a str>) -> Result<Vec<u16>, String> {
    let words = parameters.flat_map(|parameter| parameter.split(','));
    let ports = words.map(|word| match word.trim().parse() {
        Ok(0) | Err(_) => Err(format!("port {word:?} is not a number from 1 to 65535")),
        Ok(port) => Ok(port),
    });
    let ports: Vec<u16> = ports.take(MAX_PORTS + 1).collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err("query parameter \"ports\" is required".to_owned()),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(format!("no more than {MAX_PORTS} ports can be forwarded at a time")),
    }
}

#[cfg(test)]
mod tests;
