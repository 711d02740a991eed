//! Which cluster it is, before it is trusted: kubeadm's token discovery.
//!
//! 1. `kube-public/cluster-info` is read over a connection that nobody vouches for.
//! 2. Its authority must have the hash that the token carries; its signature, where there is one of this token, must be
//!    one that only who knows the token can make. Where there is no hash, the signature must be there.
//! 3. Over a connection verified by that authority the token is tried.
//!
//! Nothing secret is sent before the third. With a file that holds the authority the first two are left out.

use std::{fs, path::Path, time::Duration};

use bosun_client::connect::{Access, Connection, Failure, Options, TlsFailure, Trust, kubeconfig};
use bosun_pki::{
    Certificate,
    bootstrap::{BootstrapToken, CaHash, JoinToken},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Uri, header::DATE};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::client::Body;
use tokio::time::{Instant, sleep};

use super::{
    Known, Way, decide,
    error::{JoinError, Step},
    with_token,
};

const CLUSTER_INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
/// Far more than a `ConfigMap` may hold.
const MAX_BYTES: usize = 4 << 20;
/// Between two tries.
const RETRY: Duration = Duration::from_secs(2);

/// How the server is reached with the right to ask for a certificate.
pub(super) async fn access(way: &Way, patience: Duration) -> Result<Access, JoinError> {
    let give_up = Instant::now() + patience;
    loop {
        match attempt(way).await {
            Err(error) if error.is_passing() && Instant::now() + RETRY < give_up => {
                tracing::warn!(step = %error.step, problem = error.what, remedy = error.remedy, "can't join yet; trying again");
                sleep(RETRY).await;
            }
            done => return done,
        }
    }
}

async fn attempt(way: &Way) -> Result<Access, JoinError> {
    let access = match way {
        Way::Kubeconfig(path) => kubeconfig::read(path)?,
        Way::Token { server, token, known } => {
            let trust = match known {
                Known::File(path) => authority(path)?,
                Known::Hash | Known::Nothing => ask(server, token, known).await?,
            };
            with_token(Access::new(server.clone(), trust), token)
        }
    };
    check(&access).await?;
    Ok(access)
}

fn authority(path: &Path) -> Result<Trust, JoinError> {
    let wrong = |why: String| {
        let what = format!("the authority's certificate {}: {why}", path.display());
        JoinError::new(
            Step::Trust,
            what,
            "name the file that holds it in PEM, /etc/kubernetes/pki/ca.crt of the server",
        )
    };
    let pem = fs::read(path).map_err(|error| wrong(error.to_string()))?;
    Trust::from_pem(&pem).map_err(|error| wrong(error.to_string()))
}

/// Steps 1 and 2.
async fn ask(server: &Uri, token: &JoinToken, known: &Known) -> Result<Trust, JoinError> {
    if token.authority.is_none() && *known == Known::Hash {
        return Err(JoinError::new(
            Step::Trust,
            "the token does not say how to know the right server",
            "use one of 'bosun token create', add @sha256:HASH to it (kubeadm's --discovery-token-ca-cert-hash), or \
             name the authority's certificate with --ca-file",
        ));
    }
    let answer = get(Access::new(server.clone(), Trust::Anybody)).await;
    let answer = answer.map_err(|failure| JoinError::failed(Step::Reach, failure))?;
    clock(&answer.headers)?;
    if answer.code != 200 {
        return Err(match Failure::status(answer.code, &answer.message()) {
            failure if failure.is_passing() => JoinError::failed(Step::Trust, failure),
            failure => JoinError::new(
                Step::Trust,
                format!("{CLUSTER_INFO} can't be read: {failure}"),
                "a cluster that does not show it to everybody is joined with --ca-file, which names its authority's \
                 certificate",
            ),
        });
    }
    let map = serde_json::from_slice::<ConfigMap>(&answer.body);
    let map = map.map_err(|error| malformed(&format!("it is no ConfigMap: {error}")))?;
    let data = map.data.unwrap_or_default();
    let text = data
        .get("kubeconfig")
        .ok_or_else(|| malformed("it has no kubeconfig"))?;
    signature(
        &token.token,
        data.get(&format!("jws-kubeconfig-{}", token.token.id)),
        text,
        known,
    )?;
    let found = kubeconfig::parse("cluster-info".as_ref(), text).map_err(|error| malformed(&error.to_string()))?;
    right(found.trust, token.authority, server)
}

fn malformed(why: &str) -> JoinError {
    JoinError::new(
        Step::Trust,
        format!("kube-public/cluster-info: {why}"),
        "check that the URL is that of a Kubernetes API server",
    )
}

/// The signature must be the token's. Only with the authority's hash in hand is it no matter that there is none yet.
fn signature(
    token: &BootstrapToken,
    signature: Option<&String>,
    content: &str,
    known: &Known,
) -> Result<(), JoinError> {
    match signature {
        Some(signature) if token.verify_detached(signature, content.as_bytes()) => Ok(()),
        Some(_) => Err(JoinError::new(
            Step::Token,
            format!("the server knows a token {} with another secret", token.id),
            "copy the whole token again, or make a new one with 'bosun token create' on the server",
        )),
        None if *known == Known::Hash => Ok(()),
        None => Err(JoinError::new(
            Step::Token,
            format!("the server has not signed its cluster-info with the token {}", token.id),
            "the token is wrong, has expired or was deleted: make a new one with 'bosun token create' on the server",
        )),
    }
}

/// Of the authorities that were shown, those with the hash that the token carries.
fn right(shown: Trust, hash: Option<CaHash>, server: &Uri) -> Result<Trust, JoinError> {
    let Trust::Authorities(authorities) = shown else {
        return Err(malformed("it names no certificate authority"));
    };
    let Some(hash) = hash else {
        return Ok(Trust::Authorities(authorities));
    };
    let hash_of = |der: &rustls::pki_types::CertificateDer<'static>| {
        Certificate::from_der(der.clone())
            .ok()
            .map(|authority| CaHash::of(&authority))
    };
    let found: Vec<_> = authorities
        .iter()
        .filter_map(hash_of)
        .map(|hash| hash.to_string())
        .collect();
    let right: Vec<_> = authorities
        .into_iter()
        .filter(|der| hash_of(der) == Some(hash))
        .collect();
    if right.is_empty() {
        return Err(JoinError::new(
            Step::Trust,
            format!(
                "{server} is another cluster's: its authority is {}, the token is for {hash}",
                found.join(", ")
            ),
            "check the URL; or make a token with 'bosun token create' on the server that is meant",
        ));
    }
    Ok(Trust::Authorities(right))
}

/// Step 3: a verified connection, on which the server takes us for who we say.
async fn check(access: &Access) -> Result<(), JoinError> {
    let answer = match get(access.clone()).await {
        Ok(answer) => answer,
        Err(failure) => return Err(unreached(access, failure).await),
    };
    clock(&answer.headers)?;
    match Failure::status(answer.code, &answer.message()) {
        failure @ Failure::Unauthorized(_) => Err(JoinError::failed(Step::Token, failure)),
        // Whether we may read it is no matter.
        failure @ Failure::Status { .. } if failure.is_passing() => Err(JoinError::failed(Step::Reach, failure)),
        _ => Ok(()),
    }
}

/// Certificates out of their time are mostly clocks out of theirs: the server says what its own shows.
async fn unreached(access: &Access, failure: Failure) -> JoinError {
    if let Failure::Tls {
        problem: TlsFailure::Expired | TlsFailure::NotYetValid,
        ..
    } = &failure
    {
        let stranger = Access::new(access.server.clone(), Trust::Anybody);
        if let Ok(answer) = get(stranger).await
            && let Some(offset) = offset(&answer.headers)
            && offset.abs() > decide::OFF
        {
            return JoinError::clock(offset);
        }
    }
    JoinError::failed(Step::Reach, failure)
}

fn offset(headers: &HeaderMap) -> Option<jiff::SignedDuration> {
    decide::clock_offset(headers.get(DATE)?.to_str().ok()?, Timestamp::now())
}

fn clock(headers: &HeaderMap) -> Result<(), JoinError> {
    match offset(headers) {
        Some(offset) if offset.abs() > decide::FAR_OFF => Err(JoinError::clock(offset)),
        Some(offset) if offset.abs() > decide::OFF => {
            tracing::warn!(
                seconds = offset.as_secs(),
                "this machine's clock and the server's differ"
            );
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What a server answered.
struct Answer {
    code: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    /// The message of its Status, if it is one.
    fn message(&self) -> String {
        serde_json::from_slice::<serde_json::Value>(&self.body)
            .ok()
            .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
            .unwrap_or_else(|| format!("HTTP status {}", self.code))
    }
}

async fn get(access: Access) -> Result<Answer, Failure> {
    let other = |error: &dyn std::fmt::Display| Failure::Other(error.to_string());
    let client = Connection::new(access, Options::default())
        .map_err(|error| other(&error))?
        .client();
    let request = Request::get(CLUSTER_INFO)
        .header(http::header::ACCEPT, "application/json")
        .body(Body::empty())
        .map_err(|error| other(&error))?;
    let response = client.send(request).await.map_err(|error| Failure::of(&error))?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_BYTES).collect().await;
    let body = body.map_err(|error| Failure::find(&*error))?.to_bytes();
    Ok(Answer {
        code: parts.status.as_u16(),
        headers: parts.headers,
        body,
    })
}
