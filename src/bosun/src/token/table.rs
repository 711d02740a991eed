//! Tokens as a list, without their secrets. Pure.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

/// What is shown of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    id: String,
    /// As it is written; empty: never.
    expires: String,
    usages: Vec<String>,
    groups: Vec<String>,
    description: String,
}

impl Listed {
    /// From a token's Secret; `None` for one without an id.
    pub(super) fn read(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| {
            data.get(key)
                .map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
                .unwrap_or_default()
        };
        let mut usages: Vec<_> = data
            .iter()
            .filter(|(_, value)| value.0 == b"true")
            .filter_map(|(key, _)| Some(key.strip_prefix("usage-bootstrap-")?.to_owned()))
            .collect();
        usages.sort_unstable();
        let listed = Self {
            id: text("token-id"),
            expires: text("expiration"),
            usages,
            groups: text("auth-extra-groups")
                .split(',')
                .filter(|group| !group.is_empty())
                .map(str::to_owned)
                .collect(),
            description: text("description"),
        };
        (!listed.id.is_empty()).then_some(listed)
    }

    fn left(&self, now: Timestamp) -> String {
        if self.expires.is_empty() {
            return "forever".to_owned();
        }
        let Ok(at) = self.expires.parse::<Timestamp>() else {
            return "<invalid>".to_owned();
        };
        let seconds = now.duration_until(at).as_secs();
        match seconds {
            ..=0 => "expired".to_owned(),
            1..60 => format!("{seconds}s"),
            60..3600 => format!("{}m", seconds / 60),
            3600..172_800 => format!("{}h", seconds / 3600),
            _ => format!("{}d", seconds / 86400),
        }
    }
}

/// The table, a line for each token.
pub(super) fn text(tokens: &[Listed], now: Timestamp) -> String {
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    let mut rows = vec![["ID", "TTL", "EXPIRES", "USAGES", "GROUPS", "DESCRIPTION"].map(str::to_owned)];
    rows.extend(tokens.iter().map(|token| {
        [
            token.id.clone(),
            token.left(now),
            if token.expires.is_empty() {
                "<never>".to_owned()
            } else {
                token.expires.clone()
            },
            or_none(token.usages.join(",")),
            or_none(token.groups.join(",")),
            or_none(token.description.clone()),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0) + 2;
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}").expect("writing to a string succeeds");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A list, for programs.
pub(super) fn json(tokens: &[Listed]) -> Value {
    let item = |token: &Listed| {
        json!({
            "id": token.id,
            "expires": (!token.expires.is_empty()).then_some(&token.expires),
            "usages": token.usages,
            "groups": token.groups,
            "description": token.description,
        })
    };
    json!({ "tokens": tokens.iter().map(item).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(fields: &[(&str, &str)]) -> Secret {
        Secret {
            data: Some(
                fields
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    #[test]
    fn tokens_are_shown_without_their_secrets() {
        let one = secret(&[
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("expiration", "2026-06-02T12:30:00Z"),
            ("usage-bootstrap-signing", "true"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:bootstrappers:a"),
            ("description", "rack 7"),
        ]);
        let two = secret(&[("token-id", "zzzzzz")]);
        let tokens: Vec<_> = [one, two, secret(&[])].iter().filter_map(Listed::read).collect();
        let shown = text(&tokens, "2026-06-01T12:00:00Z".parse().unwrap());
        let wanted = "\
ID      TTL      EXPIRES               USAGES   GROUPS                  DESCRIPTION
abcdef  24h      2026-06-02T12:30:00Z  signing  system:bootstrappers:a  rack 7
zzzzzz  forever  <never>               <none>   <none>                  <none>
";
        assert_eq!(shown, wanted);
        let listed = json(&tokens);
        assert_eq!(listed["tokens"][0]["usages"], json!(["signing"]));
        assert_eq!(listed["tokens"][1]["expires"], Value::Null);
        assert!(!listed.to_string().contains("0123456789"));
    }

    #[test]
    fn the_time_left_is_short_to_read() {
        let now = "2026-06-01T12:00:00Z".parse().unwrap();
        for (expires, left) in [
            ("2026-06-01T12:00:30Z", "30s"),
            ("2026-06-01T13:00:00Z", "1h"),
            ("2026-06-08T12:00:00Z", "7d"),
            ("2026-06-01T12:00:00Z", "expired"),
            ("soon", "<invalid>"),
        ] {
            let token = Listed::read(&secret(&[("token-id", "abcdef"), ("expiration", expires)])).unwrap();
            assert_eq!(token.left(now), left, "{expires}");
        }
    }
}
