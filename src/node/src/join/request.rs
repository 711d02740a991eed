//! A `CertificateSigningRequest`: made once for a key, waited for, taken.

use std::{collections::BTreeSet, fmt::Write, net::IpAddr, time::Duration};

use bosun_client::connect::Failure;
use bosun_pki::{
    PrivateKey,
    authority::AltName,
    request::signing_request,
    signer::{KUBELET_CLIENT, KUBELET_SERVING},
};
use futures_util::StreamExt;
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams, WatchEvent, WatchParams},
};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout_at};

use super::{
    Names,
    error::{JoinError, Step},
};

/// How often the log says that it is still waited.
const REMIND: Duration = Duration::from_secs(60);
/// Between two tries, from and to.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// Watches are ended by the server after this time, and begun anew.
const WATCH: u32 = 290;

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The node as a client of the server.
    Client,
    /// The node as a server, by these names.
    Serving(Names),
}

/// A request to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name: the same for the same key, names and signer.
    pub name: String,
    object: CertificateSigningRequest,
}

impl Wanted {
    /// A node's request for a certificate over `key`.
    pub fn new(node: &str, key: &PrivateKey, purpose: &Purpose) -> Self {
        let (signer, usage, prefix, names) = match purpose {
            Purpose::Client => (KUBELET_CLIENT, "client auth", "node-csr", vec![]),
            Purpose::Serving(names) => (KUBELET_SERVING, "server auth", "node-serving-csr", alternatives(names)),
        };
        let user = format!("system:node:{node}");
        let mut digest = Sha256::new();
        for part in [
            user.as_bytes(),
            signer.as_bytes(),
            &key.public_info(),
            format!("{names:?}").as_bytes(),
        ] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest = digest.finalize();
        let hash = digest[..20].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let name = format!("{prefix}-{hash}");
        let request = signing_request(key, &user, &["system:nodes".to_owned()], &names);
        let object = CertificateSigningRequest {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                ..ObjectMeta::default()
            },
            spec: CertificateSigningRequestSpec {
                request: ByteString(request.into_bytes()),
                signer_name: signer.to_owned(),
                usages: Some(vec!["digital signature".to_owned(), usage.to_owned()]),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        Self { name, object }
    }
}

/// Sorted, each once, so that the same names make the same request.
fn alternatives(names: &Names) -> Vec<AltName> {
    let dns: BTreeSet<&String> = names.dns.iter().collect();
    let addresses: BTreeSet<&IpAddr> = names.addresses.iter().collect();
    let dns = dns.into_iter().map(|name| AltName::Dns(name.clone()));
    dns.chain(addresses.into_iter().map(|address| AltName::Ip(*address)))
        .collect()
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Neither approved nor denied.
    Pending,
    /// Approved, and to be signed.
    Approved,
    /// Signed: the certificate in PEM.
    Issued(Vec<u8>),
    /// Denied, or the signer would not sign: why.
    Refused(String),
}

/// How far a request is.
pub fn state(request: &CertificateSigningRequest) -> State {
    let Some(status) = &request.status else {
        return State::Pending;
    };
    let condition = |kind: &str| {
        let conditions = status.conditions.iter().flatten();
        conditions.into_iter().find(|condition| condition.type_ == kind)
    };
    for (kind, said) in [("Denied", "it was denied"), ("Failed", "the signer could not sign it")] {
        if let Some(condition) = condition(kind) {
            let words = [&condition.reason, &condition.message].map(|text| text.as_deref().unwrap_or_default());
            let words: Vec<_> = words.into_iter().filter(|text| !text.is_empty()).collect();
            return State::Refused(format!("{said} ({})", words.join(": ")));
        }
    }
    match &status.certificate {
        Some(pem) if !pem.0.is_empty() => State::Issued(pem.0.clone()),
        _ if condition("Approved").is_some() => State::Approved,
        _ => State::Pending,
    }
}

/// Makes the request if it is not there, and waits for its certificate: PEM.
pub(super) async fn obtain(client: &Client, wanted: &Wanted, patience: Duration) -> Result<Vec<u8>, JoinError> {
    let give_up = Instant::now() + patience;
    let requests: Api<CertificateSigningRequest> = Api::all(client.clone());
    let mut wait = Wait { wanted, reminded: None };
    let mut delay = BACKOFF.0;
    loop {
        let outcome = timeout_at(give_up, once(&requests, wanted, &mut wait)).await;
        match outcome {
            Err(_) => return Err(JoinError::unapproved(&wanted.name, patience.as_secs() / 60)),
            Ok(Ok(Some(pem))) => return Ok(pem),
            Ok(Ok(None)) => delay = BACKOFF.0,
            Ok(Err(error)) if error.is_passing() => {
                tracing::warn!(step = %error.step, problem = error.what, "trying again");
                delay = (delay * 2).min(BACKOFF.1);
            }
            Ok(Err(error)) => return Err(error),
        }
        if timeout_at(give_up, sleep(delay)).await.is_err() {
            return Err(JoinError::unapproved(&wanted.name, patience.as_secs() / 60));
        }
    }
}

struct Wait<'a> {
    wanted: &'a Wanted,
    reminded: Option<Instant>,
}

impl Wait<'_> {
    /// The certificate, if it is there; a word now and then, if not.
    fn look(&mut self, request: &CertificateSigningRequest) -> Result<Option<Vec<u8>>, JoinError> {
        let state = state(request);
        match state {
            State::Issued(pem) => return Ok(Some(pem)),
            State::Refused(why) => return Err(JoinError::denied(&self.wanted.name, why)),
            State::Pending | State::Approved => {}
        }
        if self.reminded.is_none_or(|last| last.elapsed() >= REMIND) {
            let name = &self.wanted.name;
            if self.reminded.is_some() && state == State::Pending {
                tracing::warn!(
                    request = name,
                    "still waiting for the certificate request to be approved: 'kubectl certificate approve {name}'"
                );
            } else {
                tracing::info!(request = name, ?state, "waiting for the certificate");
            }
            self.reminded = Some(Instant::now());
        }
        Ok(None)
    }
}

/// Looks, asks if there is nothing, and watches until there is more to see. `None`: look again.
async fn once(
    requests: &Api<CertificateSigningRequest>,
    wanted: &Wanted,
    wait: &mut Wait<'_>,
) -> Result<Option<Vec<u8>>, JoinError> {
    let failed = |error: kube::Error| JoinError::failed(Step::Request, Failure::of(&error));
    let found = match requests.get(&wanted.name).await {
        Ok(found) => found,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            match requests.create(&PostParams::default(), &wanted.object).await {
                Ok(made) => made,
                // Another try of ours, whose answer was lost.
                Err(kube::Error::Api(status)) if status.code == 409 => return Ok(None),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(error) => return Err(failed(error)),
    };
    if let Some(pem) = wait.look(&found)? {
        return Ok(Some(pem));
    }
    let version = found.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default()
        .fields(&format!("metadata.name={}", wanted.name))
        .timeout(WATCH);
    let stream = requests.watch(&params, &version).await.map_err(failed)?;
    let mut stream = std::pin::pin!(stream);
    loop {
        let next = tokio::time::timeout(REMIND, stream.next()).await;
        match next {
            Ok(Some(Ok(WatchEvent::Added(request) | WatchEvent::Modified(request)))) => {
                if let Some(pem) = wait.look(&request)? {
                    return Ok(Some(pem));
                }
            }
            Ok(Some(Ok(WatchEvent::Bookmark(_)))) => {}
            // Time for a word; the watch's end; gone, to be made again; a version that is too old: another look.
            Err(_) | Ok(None | Some(Ok(WatchEvent::Deleted(_) | WatchEvent::Error(_)))) => return Ok(None),
            Ok(Some(Err(error))) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_same_key_and_names_make_the_same_request() {
        let key = PrivateKey::generate();
        let names = |dns: &[&str], addresses: &[&str]| Names {
            dns: dns.iter().map(|&name| name.into()).collect(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let name = |node: &str, key: &PrivateKey, purpose: &Purpose| Wanted::new(node, key, purpose).name;
        let client = name("a", &key, &Purpose::Client);
        assert_eq!(client, name("a", &key, &Purpose::Client));
        let serving = |dns: &[&str], addresses: &[&str]| name("a", &key, &Purpose::Serving(names(dns, addresses)));
        let one = serving(&["a", "b"], &["10.0.0.1", "fd00::1"]);
        assert_eq!(one, serving(&["b", "a", "a"], &["fd00::1", "10.0.0.1"]));
        let others = [
            name("b", &key, &Purpose::Client),
            name("a", &PrivateKey::generate(), &Purpose::Client),
            serving(&["a"], &["10.0.0.1", "fd00::1"]),
            serving(&["a", "b"], &["10.0.0.2", "fd00::1"]),
            client.clone(),
            one.clone(),
        ];
        assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
    }

    #[test]
    fn how_far_a_request_is_stands_in_its_status() {
        let refused = |why: &str| State::Refused(why.to_owned());
        let approved = json!({"type": "Approved", "status": "True", "reason": "AutoApproved"});
        let table = [
            (json!(null), State::Pending),
            (json!({}), State::Pending),
            (json!({"conditions": [approved]}), State::Approved),
            (
                json!({"conditions": [approved], "certificate": "UEVN"}),
                State::Issued(b"PEM".to_vec()),
            ),
            (json!({"conditions": [approved], "certificate": ""}), State::Approved),
            (
                json!({"conditions": [{"type": "Denied", "status": "True", "reason": "Nope", "message": "who are you"}]}),
                refused("it was denied (Nope: who are you)"),
            ),
            (
                json!({"conditions": [approved, {"type": "Failed", "status": "True", "message": "bad usages"}]}),
                refused("the signer could not sign it (bad usages)"),
            ),
        ];
        for (status, wanted) in table {
            let object = json!({"metadata": {}, "spec": {"request": "", "signerName": "x"}, "status": status});
            let request: CertificateSigningRequest = serde_json::from_value(object).unwrap();
            assert_eq!(state(&request), wanted, "{status}");
        }
    }
}
