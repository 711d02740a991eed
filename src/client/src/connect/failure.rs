//! What went wrong with a request, told by the step that failed, and what to do about it.

use std::{error::Error, io};

use rustls::{AlertDescription, CertificateError};

use super::{NoAnswer, tls::ConnectError};

/// Why a request got no good answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The server's name has no address.
    #[error("{host} can't be resolved: {why}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// Nothing listens there.
    #[error("{host} refuses the connection")]
    Refused {
        /// Host and port.
        host: String,
    },
    /// There is no way there.
    #[error("{host} can't be reached: {why}")]
    Unreachable {
        /// Host and port.
        host: String,
        /// What the system said.
        why: String,
    },
    /// There is no trust, or no TLS.
    #[error("no trusted connection to {host}: {problem}")]
    Tls {
        /// Host and port.
        host: String,
        /// Which.
        problem: TlsFailure,
    },
    /// The connection ended before the answer did.
    #[error("the connection ended: {0}")]
    Closed(String),
    /// The answer did not come in time.
    #[error("the server did not answer in time")]
    Silent,
    /// 401.
    #[error("the server does not accept who we say we are (401): {0}")]
    Unauthorized(String),
    /// 403.
    #[error("the server does not allow it (403): {0}")]
    Forbidden(String),
    /// Another refusal of the server.
    #[error("the server answers {code}: {message}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

/// What is wrong between two ends of TLS.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// The server's certificate leads to no authority that is trusted here.
    #[error("its certificate is not signed by the expected authority")]
    WrongAuthority,
    /// The server's certificate is for other names.
    #[error("its certificate is not for that name, but for {}", if .0.is_empty() { "none".to_owned() } else { .0.join(", ") })]
    WrongName(Vec<String>),
    /// The server's certificate has expired, by our clock.
    #[error("its certificate has expired by this machine's clock")]
    Expired,
    /// The server's certificate begins later, by our clock.
    #[error("its certificate is not yet valid by this machine's clock")]
    NotYetValid,
    /// The server's certificate is wrong in another way.
    #[error("its certificate is not accepted: {0}")]
    Certificate(String),
    /// The server refuses our certificate.
    #[error("it refuses this machine's certificate: {0}")]
    Ours(String),
    /// What answers speaks no TLS.
    #[error("what answers there does not speak TLS")]
    NotTls,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// What an error of the client means.
    pub fn of(error: &kube::Error) -> Self {
        if let kube::Error::Api(status) = error {
            return Self::status(status.code, &status.message);
        }
        Self::find(error)
    }

    /// What an answer of this HTTP status means.
    pub fn status(code: u16, message: &str) -> Self {
        let message = message.to_owned();
        match code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            code => Self::Status { code, message },
        }
    }

    /// What any error in whose sources a connection's may lie means.
    pub fn find(error: &(dyn Error + 'static)) -> Self {
        for inner in sources(error) {
            if let Some(connect) = inner.downcast_ref::<ConnectError>() {
                return connect_failure(connect);
            }
            if inner.downcast_ref::<NoAnswer>().is_some() {
                return Self::Silent;
            }
            // A server that refuses our certificate says so only after the handshake.
            if let Some(rustls::Error::AlertReceived(alert)) = inner.downcast_ref() {
                return Self::Tls {
                    host: "the server".to_owned(),
                    problem: TlsFailure::Ours(format!("{alert:?}")),
                };
            }
            if let Some(error) = inner.downcast_ref::<io::Error>()
                && let Some(inner) = error.get_ref()
            {
                let inner: &(dyn Error + 'static) = inner;
                match Self::find(inner) {
                    Self::Other(_) => {}
                    found => return found,
                }
            }
            if let Some(error) = inner.downcast_ref::<hyper::Error>()
                && (error.is_incomplete_message() || error.is_closed() || error.is_canceled())
            {
                return Self::Closed(chain(error));
            }
        }
        Self::Other(chain(error))
    }

    /// Whether the same request may succeed later though nobody does anything about it.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Resolve { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Closed(_)
            | Self::Silent
            | Self::Other(_) => true,
            Self::Tls { problem, .. } => matches!(problem, TlsFailure::NotTls | TlsFailure::Other(_)),
            Self::Unauthorized(_) | Self::Forbidden(_) => false,
            Self::Status { code, .. } => matches!(code, 408 | 429 | 500..),
        }
    }
}

fn connect_failure(error: &ConnectError) -> Failure {
    match error {
        ConnectError::Resolve { host, source } => Failure::Resolve {
            host: host.clone(),
            why: source.to_string(),
        },
        ConnectError::Tcp { host, source } => {
            let host = host.clone();
            let os = sources(source.as_ref()).find_map(|inner| inner.downcast_ref::<io::Error>());
            match os.map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => Failure::Refused { host },
                _ => Failure::Unreachable {
                    host,
                    why: os.map_or_else(|| chain(source.as_ref()), ToString::to_string),
                },
            }
        }
        ConnectError::Tls { host, source } => Failure::Tls {
            host: host.clone(),
            problem: tls_failure(source),
        },
        ConnectError::Deadline { host, after } => Failure::Unreachable {
            host: host.clone(),
            why: format!("no connection within {} s", after.as_secs()),
        },
    }
}

fn tls_failure(error: &io::Error) -> TlsFailure {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => TlsFailure::NotTls,
            _ => TlsFailure::Other(error.to_string()),
        };
    };
    match tls {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => TlsFailure::WrongAuthority,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => TlsFailure::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => TlsFailure::NotYetValid,
            CertificateError::NotValidForName => TlsFailure::WrongName(vec![]),
            CertificateError::NotValidForNameContext { presented, .. } => TlsFailure::WrongName(presented.clone()),
            other => TlsFailure::Certificate(other.to_string()),
        },
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::CertificateRequired),
        ) => TlsFailure::Ours(format!("{alert:?}")),
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => TlsFailure::NotTls,
        other => TlsFailure::Other(other.to_string()),
    }
}

/// The error and what it came from.
fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The error and its sources in one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    for part in sources(error).map(ToString::to_string) {
        if text.ends_with(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}
