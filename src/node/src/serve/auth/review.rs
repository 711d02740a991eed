//! Asking the cluster, and remembering what it said for a while, as upstream's agent does.

use std::{collections::HashMap, hash::Hash, time::Duration};

use async_trait::async_trait;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};

use super::{Attributes, Auth, Unanswered, User};

/// For one question.
const DEADLINE: Duration = Duration::from_secs(10);
/// Answers that are remembered, of each kind.
const MOST: usize = 4096;

const TOKEN_GOOD: Duration = Duration::from_mins(2);
const TOKEN_BAD: Duration = Duration::from_secs(10);
const ALLOWED: Duration = Duration::from_mins(5);
const DENIED: Duration = Duration::from_secs(30);

/// What the cluster's API server says, by `TokenReview` and `SubjectAccessReview`.
pub struct ClusterAuth {
    client: Client,
    /// By the token's hash: what is remembered of a token must not be one.
    tokens: Memory<[u8; 32], Option<User>>,
    decisions: Memory<(User, Attributes), bool>,
}

impl ClusterAuth {
    /// Asks by this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            tokens: Memory::default(),
            decisions: Memory::default(),
        }
    }
}

#[async_trait]
impl Auth for ClusterAuth {
    async fn whose(&self, token: &str) -> Result<Option<User>, Unanswered> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.tokens.get(&hash, Instant::now()) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.to_owned(),
                ..TokenReviewSpec::default()
            },
            ..TokenReview::default()
        };
        let status = created(&self.client, &review).await?.status.unwrap_or_default();
        let good = status.authenticated == Some(true);
        let user = status.user.filter(|_| good).map(user);
        let time = if user.is_some() { TOKEN_GOOD } else { TOKEN_BAD };
        self.tokens.put(hash, user.clone(), Instant::now() + time);
        Ok(user)
    }

    async fn may(&self, user: &User, attributes: &Attributes) -> Result<bool, Unanswered> {
        let key = (user.clone(), attributes.clone());
        if let Some(known) = self.decisions.get(&key, Instant::now()) {
            return Ok(known);
        }
        let status = created(&self.client, &question(user, attributes)).await?.status;
        let allowed = status.is_some_and(|status| status.allowed);
        let time = if allowed { ALLOWED } else { DENIED };
        self.decisions.put(key, allowed, Instant::now() + time);
        Ok(allowed)
    }
}

async fn created<K>(client: &Client, review: &K) -> Result<K, Unanswered>
where
    K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api = Api::<K>::all(client.clone());
    match timeout(DEADLINE, api.create(&PostParams::default(), review)).await {
        Ok(answer) => answer.map_err(|error| Unanswered(error.to_string())),
        Err(_) => Err(Unanswered(format!("no answer within {} s", DEADLINE.as_secs()))),
    }
}

fn user(info: UserInfo) -> User {
    User {
        name: info.username.unwrap_or_default(),
        uid: info.uid.unwrap_or_default(),
        groups: info.groups.unwrap_or_default(),
        extra: info.extra.unwrap_or_default().into_iter().collect(),
    }
}

fn question(user: &User, attributes: &Attributes) -> SubjectAccessReview {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: text(&user.name),
            uid: text(&user.uid),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.iter().cloned().collect()),
            resource_attributes: Some(ResourceAttributes {
                verb: text(attributes.verb),
                version: text("v1"),
                resource: text("nodes"),
                subresource: text(attributes.subresource),
                name: text(&attributes.node_name),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}

/// Answers, each until its time.
struct Memory<K, V>(Mutex<HashMap<K, (V, Instant)>>);

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash, V: Clone> Memory<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<V> {
        let known = self.0.lock();
        let (value, until) = known.get(key)?;
        (now < *until).then(|| value.clone())
    }

    fn put(&self, key: K, value: V, until: Instant) {
        let mut known = self.0.lock();
        if known.len() >= MOST {
            let now = Instant::now();
            known.retain(|_, (_, until)| now < *until);
        }
        // Still full: somebody asks with ever new tokens. To ask the cluster again costs less than to keep them.
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(key, (value, until));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    /// A cluster that knows the token `good`, and lets `ann` read.
    fn cluster() -> (ClusterAuth, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = service_fn(move |request: Request<kube::client::Body>| {
            count.fetch_add(1, Ordering::Relaxed);
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                review["status"] = if review["kind"] == "TokenReview" {
                    let good = review["spec"]["token"] == "good";
                    json!({"authenticated": good, "user": {"username": "ann", "groups": ["dev"]}})
                } else {
                    let asked = &review["spec"]["resourceAttributes"];
                    let read = asked["verb"] == "get" && asked["resource"] == "nodes" && asked["name"] == "n1";
                    json!({"allowed": read && review["spec"]["user"] == "ann"})
                };
                Ok::<_, Infallible>(Response::new(Full::new(bytes::Bytes::from(review.to_string()))))
            }
        });
        (ClusterAuth::new(Client::new(service, "default")), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_is_asked_once_in_a_while() {
        let (auth, asked) = cluster();
        let ann = auth.whose("good").await.unwrap().unwrap();
        assert_eq!((&*ann.name, &*ann.groups), ("ann", &["dev".to_owned()][..]));
        assert_eq!(
            auth.whose("bad").await.unwrap(),
            None,
            "a name that comes with a refusal is none"
        );
        auth.whose("good").await.unwrap();
        auth.whose("bad").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        tokio::time::advance(TOKEN_BAD).await;
        auth.whose("good").await.unwrap();
        auth.whose("bad").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);

        let may = |verb| Attributes {
            verb,
            subresource: "pods",
            node_name: "n1".to_owned(),
        };
        assert!(auth.may(&ann, &may("get")).await.unwrap());
        assert!(!auth.may(&ann, &may("create")).await.unwrap());
        tokio::time::advance(DENIED).await;
        assert!(auth.may(&ann, &may("get")).await.unwrap());
        assert!(!auth.may(&ann, &may("create")).await.unwrap());
        assert_eq!(asked.load(Ordering::Relaxed), 6);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let memory = Memory::default();
        let until = Instant::now() + Duration::from_mins(1);
        for key in 0..3 * MOST {
            memory.put(key, (), until);
        }
        assert!(memory.0.lock().len() <= MOST);
    }
}
