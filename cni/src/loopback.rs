//! The plugin `loopback`: runtimes before containerd 2 call one of that name for every pod, beside the network's own.

use std::path::Path;

use crate::{
    answer::{self, CniError, Code, Output},
    call::{Call, Verb},
    verbs::open_netns,
};
use bosun_net::{
    addr, link,
    message::RouteNetlinkMessage as Message,
    netns::Netns,
    socket::{self, Socket},
    wire::TIMEOUT,
};

/// Brings `lo` up, or tells whether it is. Nothing is ever left to remove.
pub(crate) fn perform(call: &Call) -> Result<Output, CniError> {
    match &call.verb {
        Verb::Add(add) => {
            let addresses = in_namespace(Path::new(&add.netns), |socket| {
                socket.perform(&[link::up(link::LOOPBACK)])?;
                Ok(socket.list(&addr::dump())?.iter().filter_map(told).collect::<Vec<_>>())
            })?;
            // With a plugin before it in the list, that one's result is the list's.
            let previous = add.previous.clone();
            Ok(Output::success(previous.unwrap_or_else(|| {
                answer::added_loopback(call.version, &add.netns, &addresses)
            })))
        }
        Verb::Check { netns, .. } => {
            let up = in_namespace(netns, |socket| {
                let links = socket.perform(&[link::get_by_index(link::LOOPBACK)])?;
                Ok(links
                    .iter()
                    .any(|message| matches!(message, Message::NewLink(m) if link::Link::from(m).up)))
            })?;
            if up {
                Ok(Output::nothing())
            } else {
                Err(CniError::new(
                    Code::Changed,
                    format!("link lo is down in {}", netns.display()),
                ))
            }
        }
        Verb::Version => Ok(Output::success(answer::versions(&call.version_text))),
        Verb::Del { .. } | Verb::Gc { .. } | Verb::Status(_) => Ok(Output::nothing()),
    }
}

fn told(message: &Message) -> Option<bosun_net::Cidr> {
    match message {
        Message::NewAddress(message) => addr::parse(message)
            .filter(|address| address.link == link::LOOPBACK)
            .map(|address| address.address),
        _ => None,
    }
}

fn in_namespace<T>(path: &Path, work: impl FnOnce(&mut Socket) -> Result<T, socket::Error>) -> Result<T, CniError> {
    let netns: Netns = open_netns(path)?;
    netns
        .within(|| work(&mut Socket::open(TIMEOUT)?))
        .map_err(|e| CniError::from_error(Code::Io, &e))?
        .map_err(|e| CniError::from_error(Code::Io, &e))
}
