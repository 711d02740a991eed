//! Tokens of pods' service accounts: bound to the pod, asked for once, and again when four fifths of their life are over.

use std::{collections::BTreeMap, time::Duration};

use bosun_api::{PodUid, core::Pod};
use bosun_client::call;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Client,
    api::{Api as KubeApi, PostParams},
};
use parking_lot::Mutex;

use crate::pod::{payload::TokenRef, words::chain, worker::pod_key};

/// However long a token lives, it is asked for anew after this.
const OLDEST: SignedDuration = SignedDuration::from_hours(24);
/// Refreshes of many pods are spread over so many milliseconds.
const JITTER: u64 = 10_000;

/// A token and when it is to be asked for anew.
#[derive(Clone)]
struct Token {
    text: String,
    expires_at: Timestamp,
    refresh_at: Timestamp,
}

/// The tokens of this node's pods.
pub struct Tokens {
    client: Client,
    known: Mutex<BTreeMap<(PodUid, TokenRef), Token>>,
}

impl Tokens {
    /// None yet; asked for by this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
        }
    }

    /// The token and when to ask again. One that should be refreshed and can't be is good for as long as it lives.
    pub async fn get(
        &self,
        pod: &Pod,
        uid: &PodUid,
        token: &TokenRef,
        now: Timestamp,
    ) -> Result<(String, Timestamp), String> {
        let key = (uid.clone(), token.clone());
        let known = self.known.lock().get(&key).cloned();
        if let Some(known) = known.as_ref().filter(|known| now < known.refresh_at) {
            return Ok((known.text.clone(), known.refresh_at));
        }
        match self.ask(pod, token, now).await {
            Ok(fresh) => {
                let told = (fresh.text.clone(), fresh.refresh_at);
                self.known.lock().insert(key, fresh);
                Ok(told)
            }
            Err(problem) => match known.filter(|known| now < known.expires_at) {
                Some(known) => {
                    tracing::warn!(problem, "a token can't be refreshed; it is good for a while yet");
                    let soon = now.saturating_add(Duration::from_secs(60)).unwrap_or(Timestamp::MAX);
                    Ok((known.text, soon))
                }
                None => Err(problem),
            },
        }
    }

    async fn ask(&self, pod: &Pod, token: &TokenRef, now: Timestamp) -> Result<Token, String> {
        let key = pod_key(pod);
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref());
        let account = account.filter(|name| !name.is_empty()).unwrap_or("default");
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!token.audience.is_empty()).then(|| vec![token.audience.clone()]),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(key.name.clone()),
                    uid: pod.metadata.uid.clone(),
                }),
                expiration_seconds: Some(token.seconds),
            }),
            ..TokenRequest::default()
        };
        let accounts: KubeApi<ServiceAccount> = KubeApi::namespaced(self.client.clone(), &key.namespace);
        let params = PostParams::default();
        let answer = call(accounts.create_token_request(account, &params, &request)).await;
        let answer = answer.map_err(|error| format!("failed to fetch token: {}", chain(&error)))?;
        let status = answer.status.unwrap_or_default();
        let (Some(text), Some(expires_at)) = (status.token, status.expiration_timestamp) else {
            return Err("failed to fetch token: the answer holds none".to_owned());
        };
        let jitter = Duration::from_millis(fastrand::u64(..JITTER));
        Ok(Token {
            text,
            refresh_at: refresh_at(now, expires_at.0, jitter),
            expires_at: expires_at.0,
        })
    }

    /// Forgets the tokens of a pod that is gone.
    pub fn forget(&self, uid: &PodUid) {
        self.known.lock().retain(|(owner, _), _| owner != uid);
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// When a token got now is to be asked for anew: after four fifths of its life or a day, a little later. Pure.
fn refresh_at(now: Timestamp, expires_at: Timestamp, jitter: Duration) -> Timestamp {
    let life = expires_at.duration_since(now).max(SignedDuration::ZERO);
    let four_fifths = SignedDuration::from_millis(i64::try_from(life.as_millis()).unwrap_or(i64::MAX) / 5 * 4);
    let wait = four_fifths.min(OLDEST);
    // Never so late that it has expired.
    let spread = SignedDuration::try_from(jitter).unwrap_or_default().min(life / 20);
    now.saturating_add(wait + spread).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_refreshed_at_four_fifths_of_its_life_and_every_day() {
        let start = Timestamp::UNIX_EPOCH;
        let at = |seconds: i64| start + SignedDuration::from_secs(seconds);
        // (life, jitter, refreshed after)
        let table = [
            (3600, 0, 2880),
            (3600, 10, 2890),
            (600, 100, 510),
            (1_000_000, 0, 86_400),
            (-5, 0, 0),
        ];
        for (life, jitter, expected) in table {
            let found = refresh_at(start, at(life), Duration::from_secs(jitter));
            assert_eq!(found, at(expected), "{life} {jitter}");
        }
    }
}
