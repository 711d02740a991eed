//! Bootstrap tokens, from their Secrets in `kube-system`.

use base64::{Engine, engine::general_purpose::STANDARD};
use bosun_pki::bootstrap::{BootstrapToken, GROUP, SECRET_TYPE};
use jiff::Timestamp;
use serde_json::Value;

use super::TokenRefusal;
use crate::{
    User,
    auth::objects::{Objects, text},
};

/// How the names of those who come with a token begin; its id follows.
const USER_PREFIX: &str = "system:bootstrap:";

/// Who comes with this token.
pub(super) async fn authenticate(
    objects: &dyn Objects,
    token: &BootstrapToken,
    now: Timestamp,
) -> Result<User, TokenRefusal> {
    let secret = objects.get("", "secrets", "kube-system", &token.secret_name()).await?;
    let secret = secret.ok_or_else(|| TokenRefusal::refused("no such bootstrap token"))?;
    let groups = check(&secret, token, now).map_err(TokenRefusal::refused)?;
    Ok(User {
        name: format!("{USER_PREFIX}{}", token.id),
        groups,
        ..User::default()
    })
}

/// The groups of whoever comes with `token`, if the Secret is one that lets them in now.
fn check(secret: &Value, token: &BootstrapToken, now: Timestamp) -> Result<Vec<String>, &'static str> {
    let field = |name: &str| STANDARD.decode(secret["data"][name].as_str()?).ok();
    if secret["metadata"].get("deletionTimestamp").is_some() {
        return Err("the bootstrap token is being deleted");
    }
    if text(secret, "/type") != SECRET_TYPE {
        return Err("the Secret is no bootstrap token's");
    }
    if !token.has_secret(&field("token-secret").unwrap_or_default())
        || field("token-id").as_deref() != Some(token.id.as_bytes())
    {
        return Err("wrong bootstrap token");
    }
    if let Some(expiration) = field("expiration").filter(|text| !text.is_empty()) {
        let until: Option<Timestamp> = std::str::from_utf8(&expiration).ok().and_then(|text| text.parse().ok());
        if until.is_none_or(|until| until <= now) {
            return Err("the bootstrap token has expired");
        }
    }
    if field("usage-bootstrap-authentication").as_deref() != Some(b"true") {
        return Err("the bootstrap token is not for authentication");
    }
    let mut groups = vec![GROUP.to_owned()];
    let extra = String::from_utf8(field("auth-extra-groups").unwrap_or_default()).map_err(|_| "malformed groups")?;
    for group in extra.split(',').filter(|group| !group.is_empty()) {
        if !is_bootstrap_group(group) {
            return Err("the bootstrap token has groups that are not system:bootstrappers:…");
        }
        if !groups.iter().any(|known| known == group) {
            groups.push(group.to_owned());
        }
    }
    groups[1..].sort_unstable();
    Ok(groups)
}

/// `system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]`: a token must not make anyone something else.
fn is_bootstrap_group(group: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    group.strip_prefix("system:bootstrappers:").is_some_and(|rest| {
        (1..=256).contains(&rest.len())
            && rest.bytes().all(|byte| plain(byte) || byte == b':' || byte == b'-')
            && rest.bytes().next_back().is_some_and(plain)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "abcdef.0123456789abcdef";

    fn secret(fields: &[(&str, &str)]) -> Value {
        let mut secret = json!({"type": SECRET_TYPE, "metadata": {}, "data": {}});
        let usual = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        for (name, value) in usual.iter().chain(fields) {
            secret["data"][*name] = STANDARD.encode(value).into();
        }
        secret
    }

    #[test]
    fn a_token_lets_in_while_its_secret_says_so() {
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        let ok = |groups: &[&str]| Ok(groups.iter().map(|&group| group.to_owned()).collect::<Vec<_>>());
        let table = [
            (secret(&[]), ok(&[GROUP])),
            (secret(&[("expiration", "2026-06-01T12:00:01Z")]), ok(&[GROUP])),
            (secret(&[("expiration", "2026-06-01T14:00:01+02:00")]), ok(&[GROUP])),
            (
                secret(&[("expiration", "2026-06-01T12:00:00Z")]),
                Err("the bootstrap token has expired"),
            ),
            (
                secret(&[("expiration", "soon")]),
                Err("the bootstrap token has expired"),
            ),
            (
                secret(&[("token-secret", "0123456789abcdee")]),
                Err("wrong bootstrap token"),
            ),
            (secret(&[("token-secret", "")]), Err("wrong bootstrap token")),
            (secret(&[("token-id", "abcdeg")]), Err("wrong bootstrap token")),
            (
                secret(&[("usage-bootstrap-authentication", "false")]),
                Err("the bootstrap token is not for authentication"),
            ),
            (
                secret(&[("auth-extra-groups", "system:bootstrappers:b,system:bootstrappers:a:1")]),
                ok(&[GROUP, "system:bootstrappers:a:1", "system:bootstrappers:b"]),
            ),
            (
                secret(&[("auth-extra-groups", "system:masters")]),
                Err("the bootstrap token has groups that are not system:bootstrappers:…"),
            ),
            (
                secret(&[("auth-extra-groups", "system:bootstrappers:a-")]),
                Err("the bootstrap token has groups that are not system:bootstrappers:…"),
            ),
        ];
        for (secret, expected) in table {
            assert_eq!(check(&secret, &TOKEN.parse().unwrap(), now), expected, "{secret}");
        }
        let mut other = secret(&[]);
        other["type"] = "Opaque".into();
        assert!(check(&other, &TOKEN.parse().unwrap(), now).is_err());
        let mut going = secret(&[]);
        going["metadata"]["deletionTimestamp"] = "2026-06-01T11:00:00Z".into();
        assert!(check(&going, &TOKEN.parse().unwrap(), now).is_err());
    }
}
