//! The blocking transport: several requests in one send, every receive with a deadline.

use std::{
    io,
    time::{Duration, Instant},
};

use netlink_packet_core::{
    DecodeError, NLM_F_ACK_TLVS, NLM_F_DUMP_INTR, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::TimeVal,
};

use crate::message::{Request, describe, encode};

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket could be had.
    #[error("cannot open a netlink socket")]
    Open(#[source] io::Error),
    /// The requests could not be sent or the answer not be received.
    #[error("cannot {doing}: the netlink socket failed")]
    Transport {
        /// What was to be done.
        doing: String,
        /// What the socket said.
        source: io::Error,
    },
    /// The kernel was silent for too long; trying again can help.
    #[error("cannot {doing}: no answer from the kernel within {after:?}")]
    Silent {
        /// What was to be done.
        doing: String,
        /// How long was waited.
        after: Duration,
    },
    /// The kernel refused.
    #[error("cannot {doing}{}", detail.as_ref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// What was to be done.
        doing: String,
        /// The kernel's own words, where it has some.
        detail: Option<String>,
        /// The error number.
        source: io::Error,
    },
    /// The answer could not be understood.
    #[error("cannot {doing}: the kernel's answer is malformed")]
    Malformed {
        /// What was to be done.
        doing: String,
        /// What is wrong with it.
        source: DecodeError,
    },
}

impl Error {
    /// The error number the kernel refused with.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A socket to the kernel's routing tables of the namespace it was opened in, whichever the thread enters later.
pub struct Socket {
    kernel: netlink_sys::Socket,
    timeout: Duration,
    sequence: u32,
    buffer: Vec<u8>,
}

/// How often a list that changed while it was being told is asked for again.
const LIST_ATTEMPTS: usize = 5;

impl Socket {
    /// Opens a socket in the namespace of this thread; an answer may take `timeout`.
    pub fn open(timeout: Duration) -> Result<Self, Error> {
        let mut socket = netlink_sys::Socket::new(NETLINK_ROUTE).map_err(Error::Open)?;
        let set_up = |socket: &mut netlink_sys::Socket| {
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            // The kernel's words about a refusal, without the request's bytes before them.
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            let timeout = TimeVal::new(timeout.as_secs() as _, timeout.subsec_micros().into());
            setsockopt(socket, ReceiveTimeout, &timeout).map_err(io::Error::from)
        };
        set_up(&mut socket).map_err(Error::Open)?;
        Ok(Self {
            kernel: socket,
            timeout,
            sequence: 1,
            buffer: Vec::with_capacity(32 * 1024),
        })
    }

    /// Performs requests in order and gives what the kernel told in answer. All are performed even when one fails: the
    /// error is the first one's.
    pub fn perform(&mut self, requests: &[Request]) -> Result<Vec<RouteNetlinkMessage>, Error> {
        debug_assert!(requests.iter().all(|r| !r.is_dump()), "a list is asked for by `list`");
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        self.exchange(requests).map(|(told, _)| told)
    }

    /// Asks for a list.
    pub fn list(&mut self, request: &Request) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let (told, changed_meanwhile) = self.exchange(std::slice::from_ref(request))?;
            if !changed_meanwhile || attempts == LIST_ATTEMPTS {
                return Ok(told);
            }
        }
    }

    fn exchange(&mut self, requests: &[Request]) -> Result<(Vec<RouteNetlinkMessage>, bool), Error> {
        let first = self.sequence;
        let last = first.wrapping_add(requests.len() as u32 - 1);
        self.sequence = last.wrapping_add(1);
        let doing = |sequence: u32| {
            describe(
                requests
                    .get(sequence.wrapping_sub(first) as usize)
                    .unwrap_or(&requests[requests.len() - 1]),
            )
        };
        let transport = |source| Error::Transport {
            doing: doing(last),
            source,
        };
        self.kernel.send(&encode(requests, first), 0).map_err(transport)?;

        let deadline = Instant::now() + self.timeout;
        let mut told = Vec::new();
        let mut refused = None;
        let mut interrupted = false;
        loop {
            self.buffer.clear();
            match self.kernel.recv(&mut self.buffer, 0) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted && Instant::now() < deadline => continue,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return Err(Error::Silent {
                        doing: doing(last),
                        after: self.timeout,
                    });
                }
                Err(e) => return Err(transport(e)),
            }
            let mut rest = &self.buffer[..];
            while !rest.is_empty() {
                let malformed = |source| Error::Malformed {
                    doing: doing(last),
                    source,
                };
                let frame = NetlinkBuffer::new_checked(rest).map_err(malformed)?;
                let (sequence, flags, length) = (frame.sequence_number(), frame.flags(), frame.length() as usize);
                let one = &rest[..length];
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
                // An answer to an earlier exchange that ran out of time.
                let Some(request) = requests.get(sequence.wrapping_sub(first) as usize) else {
                    continue;
                };
                interrupted |= flags & NLM_F_DUMP_INTR != 0;
                match NetlinkMessage::<RouteNetlinkMessage>::deserialize(one)
                    .map_err(malformed)?
                    .payload
                {
                    NetlinkPayload::InnerMessage(message) => told.push(message),
                    NetlinkPayload::Error(answer) => {
                        let errno = answer.raw_code().saturating_abs();
                        if errno != 0 && !request.accepted.contains(&errno) && refused.is_none() {
                            let detail = (flags & NLM_F_ACK_TLVS != 0)
                                .then(|| extended_words(&answer.header))
                                .flatten();
                            refused = Some(Error::Refused {
                                doing: describe(request),
                                detail,
                                source: answer.to_io(),
                            });
                        }
                        if sequence == last {
                            return refused.map_or(Ok((told, interrupted)), Err);
                        }
                    }
                    NetlinkPayload::Done(_) => return refused.map_or(Ok((told, interrupted)), Err),
                    _ => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Silent {
                    doing: doing(last),
                    after: self.timeout,
                });
            }
        }
    }
}

/// The kernel's words in an acknowledgement whose request was capped to its header: attributes after those 16 bytes.
fn extended_words(acknowledged: &[u8]) -> Option<String> {
    const HEADER: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let mut rest = acknowledged.get(HEADER..)?;
    while let [l0, l1, k0, k1, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) == NLMSGERR_ATTR_MSG {
            let words = String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned();
            return Some(words);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acknowledged(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 16];
        for (kind, value) in attributes {
            bytes.extend((4 + value.len() as u16).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(*value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn the_kernels_own_words_are_found_among_the_attributes() {
        let bytes = acknowledged(&[(2, &[8, 0, 0, 0]), (1, b"Unknown device type\0")]);
        assert_eq!(extended_words(&bytes).as_deref(), Some("Unknown device type"));
        assert_eq!(extended_words(&acknowledged(&[(2, &[8, 0, 0, 0])])), None);
        assert_eq!(extended_words(&[]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_words_reader_panic(bytes: Vec<u8>) {
            let _ = extended_words(&bytes);
        }
    }
}
