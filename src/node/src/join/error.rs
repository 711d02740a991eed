//! Why a node can't join: the step that failed, what happened, and what to do.

use std::{fmt, path::Path};

use bosun_client::connect::{AccessError, Failure, TlsFailure};
use bosun_pki::FileError;
use jiff::{SignedDuration, SpanRound, Unit};

use super::{
    decide::{Refusal, Unfit},
    shown,
};

/// Where on the way a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading what is there.
    Credentials,
    /// Getting to the server.
    Reach,
    /// Finding out whether it is the right one.
    Trust,
    /// Comparing clocks.
    Clock,
    /// Proving oneself with a token.
    Token,
    /// Asking for a certificate.
    Request,
    /// Waiting for the request's approval.
    Approval,
    /// Taking the certificate.
    Certificate,
    /// Keeping it.
    Store,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "reading the node's credentials",
            Self::Reach => "reaching the server",
            Self::Trust => "checking that it is the right server",
            Self::Clock => "comparing this machine's clock with the server's",
            Self::Token => "proving ourselves with the token",
            Self::Request => "asking for a certificate",
            Self::Approval => "waiting for the certificate request to be approved",
            Self::Certificate => "checking the certificate that was issued",
            Self::Store => "storing the certificate",
        })
    }
}

/// A node can't join.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {what}; {remedy}")]
pub struct JoinError {
    /// The step that failed.
    pub step: Step,
    /// What happened.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// What the server or the way to it had to do with it.
    pub failure: Option<Failure>,
    refused: bool,
}

impl JoinError {
    pub(super) fn new(step: Step, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            step,
            what: what.into(),
            remedy: remedy.into(),
            failure: None,
            refused: false,
        }
    }

    /// A request that the server did not answer well, while at `step`.
    pub(super) fn failed(step: Step, failure: Failure) -> Self {
        let (step, remedy) = match &failure {
            Failure::Resolve { .. } => (
                Step::Reach,
                "check the server's name, and that this machine's DNS knows it",
            ),
            Failure::Refused { .. } => (
                Step::Reach,
                "check that the server runs, and that the port is the one it says when it is ready",
            ),
            Failure::Unreachable { .. } | Failure::Silent | Failure::Closed(_) => (
                Step::Reach,
                "check the address, and firewalls between this machine and the server",
            ),
            Failure::Tls { problem, .. } => match problem {
                TlsFailure::WrongAuthority => (
                    Step::Trust,
                    "this is another server than the token or file is from: check the URL, or make a new token with \
                     'bosun token create' on the server that is meant",
                ),
                TlsFailure::WrongName(_) => (
                    Step::Trust,
                    "use a name that the certificate is for, or start the server with --advertise-address set to this one",
                ),
                TlsFailure::Expired | TlsFailure::NotYetValid => (
                    Step::Clock,
                    "set this machine's clock, or the server's, if it is wrong; else renew the server's certificate",
                ),
                TlsFailure::NotTls => (
                    Step::Reach,
                    "check the port: the API server's is 6443 unless told otherwise",
                ),
                TlsFailure::Ours(_) => (Step::Token, "join anew with a token of 'bosun token create'"),
                TlsFailure::Certificate(_) | TlsFailure::Other(_) => {
                    (Step::Trust, "check that the URL is that of the API server")
                }
            },
            Failure::Unauthorized(_) if step == Step::Request || step == Step::Token => (
                Step::Token,
                "the token is wrong, has expired or was deleted: make a new one with 'bosun token create' on the server",
            ),
            Failure::Forbidden(_) => (
                step,
                "its role bindings don't let whoever comes with these credentials do this: those named kubeadm:* do \
                 where they are there",
            ),
            _ => (step, "look into the server's log"),
        };
        let what = failure.to_string();
        Self {
            failure: Some(failure),
            ..Self::new(step, what, remedy)
        }
    }

    /// The request was denied, or the signer failed.
    pub(super) fn denied(name: &str, what: String) -> Self {
        Self {
            refused: true,
            ..Self::new(
                Step::Approval,
                what,
                format!(
                    "find out why with 'kubectl describe csr {name}'; to try again: 'kubectl delete csr {name}', then \
                     start the node again"
                ),
            )
        }
    }

    /// Nobody approved the request in time.
    pub(super) fn unapproved(name: &str, minutes: u64) -> Self {
        Self::new(
            Step::Approval,
            format!("the request {name} was neither approved nor denied within {minutes} minutes"),
            format!(
                "approve it with 'kubectl certificate approve {name}', then start the node again: it takes this request up"
            ),
        )
    }

    pub(super) fn refused(why: &Refusal, kubeconfig: &Path) -> Self {
        let kubeconfig = shown(kubeconfig);
        let again = "join with a token: 'bosun token create' on the server prints the command";
        let (what, remedy) = match why {
            Refusal::NoCredentials => (format!("there is no usable {kubeconfig}"), again.to_owned()),
            Refusal::Expired(at) => (
                format!("the node's certificate has expired at {at}"),
                format!("set the clock if that is not past; else {again}"),
            ),
            Refusal::OtherNode(name) => (
                format!("the stored certificate is {name:?}'s, which is another node's name"),
                format!(
                    "give the node its name back with --node-name; or, to make it a new node, remove {kubeconfig} and {again}"
                ),
            ),
            Refusal::OtherCluster => (
                format!("{kubeconfig} is of another cluster than the token"),
                format!("to leave that one for good, remove {kubeconfig} and start again; else start without --token"),
            ),
        };
        Self::new(Step::Credentials, what, remedy)
    }

    pub(super) fn unfit(unfit: &Unfit, request: &str) -> Self {
        let remedy = format!("delete the request with 'kubectl delete csr {request}' and start the node again");
        match unfit {
            Unfit::NotYet(early) => Self::clock(*early),
            Unfit::Malformed(why) => Self::new(Step::Certificate, format!("it can't be read: {why}"), remedy),
            Unfit::OtherKey => Self::new(Step::Certificate, "it is for another key than this node's", remedy),
            Unfit::Expired => Self::new(Step::Certificate, "it has expired already", remedy),
        }
    }

    /// The server's clock is ahead (negative: behind) by this much.
    pub(super) fn clock(offset: SignedDuration) -> Self {
        let which = if offset.is_negative() { "behind" } else { "ahead of" };
        Self::new(
            Step::Clock,
            format!("the server's is {} {which} ours", amount(offset)),
            "set the wrong one of the two (timedatectl set-ntp true): certificates hold for a time",
        )
    }

    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Whether trying again may help though nobody does anything.
    pub fn is_passing(&self) -> bool {
        self.failure.as_ref().is_some_and(Failure::is_passing)
    }
}

/// Such as `3h 12m`.
fn amount(time: SignedDuration) -> String {
    let round = SpanRound::new().largest(Unit::Hour).smallest(Unit::Minute);
    jiff::Span::try_from(time.abs())
        .and_then(|span| span.round(round))
        .map_or_else(|_| "far".to_owned(), |span| format!("{span:#}"))
}

impl From<FileError> for JoinError {
    fn from(error: FileError) -> Self {
        Self::new(
            Step::Store,
            bosun_client::connect::failure::chain(&error),
            "check that the disk is writable and not full",
        )
    }
}

impl From<AccessError> for JoinError {
    fn from(error: AccessError) -> Self {
        Self::new(
            Step::Credentials,
            bosun_client::connect::failure::chain(&error),
            "mend the file; or remove it and join with a token of 'bosun token create'",
        )
    }
}
