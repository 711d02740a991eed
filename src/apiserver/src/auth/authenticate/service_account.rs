//! Service-account tokens (KEP-1205): signed by us, for an audience and a time, and good only as long as the objects they
//! are bound to are there.

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::{Authenticator, TokenOwner, TokenRefusal};
use crate::{
    User,
    auth::{
        names::{service_account, service_account_groups},
        objects::{Objects, text},
    },
};

/// An object that is being deleted still counts for so long.
const DELETION_LEEWAY: SignedDuration = SignedDuration::from_secs(60);
/// Another server's clock may be so far ahead.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// An object that a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) uid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Private {
    namespace: String,
    serviceaccount: Reference,
    pod: Option<Reference>,
    secret: Option<Reference>,
    node: Option<Reference>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Many(Vec<String>),
}

#[derive(Clone, Debug, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audiences,
    exp: i64,
    nbf: Option<i64>,
    #[serde(default)]
    jti: String,
    #[serde(rename = "kubernetes.io")]
    private: Private,
}

impl Claims {
    /// What can be told without asking for any object; the audiences asked for that it is good for.
    fn check(&self, issuer: &str, audiences: &[String], now: Timestamp) -> Result<Vec<String>, &'static str> {
        if self.iss != issuer {
            return Err("the token is another issuer's");
        }
        let second = now.as_second();
        if second >= self.exp {
            return Err("service account token has expired");
        }
        if self
            .nbf
            .is_some_and(|from| from > second.saturating_add(SKEW.as_secs()))
        {
            return Err("service account token is not valid yet");
        }
        let its: &[String] = match &self.aud {
            Audiences::One(audience) => std::slice::from_ref(audience),
            Audiences::Many(audiences) => audiences,
        };
        let common: Vec<_> = audiences
            .iter()
            .filter(|audience| its.contains(audience))
            .cloned()
            .collect();
        if common.is_empty() {
            return Err("token audiences don't fit");
        }
        if self.sub != service_account(&self.private.namespace, &self.private.serviceaccount.name) {
            return Err("the token's subject is not its service account");
        }
        Ok(common)
    }

    fn user(&self) -> User {
        let Private {
            namespace,
            serviceaccount,
            pod,
            node,
            ..
        } = &self.private;
        let mut user = User {
            name: self.sub.clone(),
            uid: serviceaccount.uid.clone(),
            groups: service_account_groups(namespace),
            ..User::default()
        };
        let mut extra = |key: &str, value: String| {
            if !value.is_empty() {
                user.extra
                    .insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
            }
        };
        for (of, object) in [("pod", pod), ("node", node)] {
            if let Some(object) = object {
                extra(&format!("{of}-name"), object.name.clone());
                extra(&format!("{of}-uid"), object.uid.clone());
            }
        }
        if !self.jti.is_empty() {
            extra("credential-id", format!("JTI={}", self.jti));
        }
        user
    }
}

/// Whose token this is.
pub(super) async fn authenticate(
    of: &Authenticator,
    token: &str,
    audiences: &[String],
    now: Timestamp,
) -> Result<TokenOwner, TokenRefusal> {
    let claims = of
        .token_keys()
        .verify(token)
        .map_err(|error| TokenRefusal::refused(error.to_string()))?;
    let claims = Claims::deserialize(claims).map_err(|_| TokenRefusal::refused("the token's claims are not ours"))?;
    let audiences = claims
        .check(&of.issuer, audiences, now)
        .map_err(TokenRefusal::refused)?;
    let Private {
        namespace,
        serviceaccount,
        pod,
        secret,
        node,
    } = &claims.private;
    let objects = of.objects();
    bound(objects, "serviceaccounts", namespace, serviceaccount, now).await?;
    if let Some(secret) = secret {
        bound(objects, "secrets", namespace, secret, now).await?;
    }
    match (pod, node) {
        // A pod's token tells its node, but is not bound to it: the pod goes when the node does.
        (Some(pod), _) => bound(objects, "pods", namespace, pod, now).await?,
        (None, Some(node)) => bound(objects, "nodes", "", node, now).await?,
        (None, None) => {}
    }
    Ok(TokenOwner {
        user: claims.user(),
        audiences,
    })
}

/// Whether an object that a token is bound to is still the same and there.
async fn bound(
    objects: &dyn Objects,
    plural: &str,
    namespace: &str,
    reference: &Reference,
    now: Timestamp,
) -> Result<(), TokenRefusal> {
    let stored = objects.get("", plural, namespace, &reference.name).await?;
    let stored =
        stored.ok_or_else(|| TokenRefusal::refused(format!("{plural} {:?} of the token is gone", reference.name)))?;
    still(&stored, &reference.uid, now).then_some(()).ok_or_else(|| {
        TokenRefusal::refused(format!(
            "{plural} {:?} of the token is gone or another one",
            reference.name
        ))
    })
}

fn still(stored: &Value, uid: &str, now: Timestamp) -> bool {
    let deleted: Option<Timestamp> = text(stored, "/metadata/deletionTimestamp").parse().ok();
    text(stored, "/metadata/uid") == uid && deleted.is_none_or(|at| at + DELETION_LEEWAY >= now)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(change: impl FnOnce(&mut Value)) -> Claims {
        let mut claims = json!({
            "iss": "https://us", "sub": "system:serviceaccount:a:sa", "aud": ["https://us", "vault"],
            "exp": 2000, "nbf": 1000, "jti": "j",
            "kubernetes.io": {"namespace": "a", "serviceaccount": {"name": "sa", "uid": "u"},
                "pod": {"name": "p", "uid": "pu"}, "node": {"name": "n", "uid": "nu"}},
        });
        change(&mut claims);
        Claims::deserialize(claims).unwrap()
    }

    #[test]
    fn claims_hold_for_their_time_issuer_and_audience() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let us = ["https://us".to_owned()];
        let check = |claims: &Claims, second| claims.check("https://us", &us, at(second));
        let plain = claims(|_| {});
        assert_eq!(check(&plain, 1000), Ok(us.to_vec()));
        assert_eq!(check(&plain, 1999), Ok(us.to_vec()));
        assert!(check(&plain, 2000).is_err());
        assert!(check(&plain, 939).is_err());
        assert_eq!(
            plain.check("https://us", &["vault".into(), "other".into()], at(1500)),
            Ok(vec!["vault".into()])
        );
        assert!(plain.check("https://us", &["other".into()], at(1500)).is_err());
        assert!(plain.check("https://them", &us, at(1500)).is_err());
        assert_eq!(
            check(&claims(|claims| claims["aud"] = "https://us".into()), 1500),
            Ok(us.to_vec())
        );
        assert!(
            check(
                &claims(|claims| claims["sub"] = "system:serviceaccount:a:other".into()),
                1500
            )
            .is_err()
        );
        assert!(check(&claims(|claims| claims["sub"] = "system:admin".into()), 1500).is_err());
    }

    #[test]
    fn a_user_says_what_its_token_is_bound_to() {
        let user = claims(|_| {}).user();
        assert_eq!(user.name, "system:serviceaccount:a:sa");
        assert_eq!(user.uid, "u");
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:a"]);
        let extra: Vec<_> = user
            .extra
            .iter()
            .map(|(key, value)| (key.as_str(), value[0].as_str()))
            .collect();
        assert_eq!(
            extra,
            [
                ("authentication.kubernetes.io/credential-id", "JTI=j"),
                ("authentication.kubernetes.io/node-name", "n"),
                ("authentication.kubernetes.io/node-uid", "nu"),
                ("authentication.kubernetes.io/pod-name", "p"),
                ("authentication.kubernetes.io/pod-uid", "pu"),
            ]
        );
    }

    #[test]
    fn an_object_counts_while_it_is_the_same_and_a_minute_into_its_deletion() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let stored = |deleted: Option<&str>| json!({"metadata": {"uid": "u", "deletionTimestamp": deleted}});
        assert!(still(&stored(None), "u", at(0)));
        assert!(!still(&stored(None), "v", at(0)));
        let going = stored(Some("1970-01-01T00:10:00Z"));
        assert!(still(&going, "u", at(660)));
        assert!(!still(&going, "u", at(661)));
    }
}
