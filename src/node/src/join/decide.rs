//! What to do with what is there. Pure.

use bosun_pki::{Certificate, PrivateKey};
use jiff::{SignedDuration, Timestamp, fmt::rfc2822::DateTimeParser};

/// What a former start left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// No kubeconfig, or none that leads to a certificate.
    Nothing,
    /// A kubeconfig whose credentials are not kept by us: a token, a certificate of elsewhere.
    Given,
    /// A kubeconfig of another cluster than the token is for.
    OtherCluster,
    /// A certificate that holds.
    Valid,
    /// One whose time is over.
    Expired(Timestamp),
    /// One for another node.
    OtherNode(String),
}

impl Stored {
    /// What a certificate of ours is worth. One whose time has not begun is for the server to judge, whose clock counts.
    pub fn of(certificate: &Certificate, node: &str, now: Timestamp) -> Self {
        match certificate.common_name.strip_prefix("system:node:") {
            Some(name) if name == node => {}
            _ => return Self::OtherNode(certificate.common_name.clone()),
        }
        if certificate.not_after < now {
            Self::Expired(certificate.not_after)
        } else {
            Self::Valid
        }
    }
}

/// What comes next at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Go on with what is there.
    Use,
    /// Join.
    Bootstrap,
    /// Stop, and say why.
    Refuse(Refusal),
}

/// Why a node can't start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It never joined, and has nothing to join with.
    NoCredentials,
    /// Its certificate has expired, and it has nothing to join with again.
    Expired(Timestamp),
    /// Its certificate is for another node.
    OtherNode(String),
    /// It belongs to another cluster.
    OtherCluster,
}

/// What comes next. `way`: whether there is something to join with.
pub fn next(stored: &Stored, way: bool) -> Next {
    match (stored, way) {
        (Stored::Given | Stored::Valid, _) => Next::Use,
        (Stored::Nothing | Stored::Expired(_), true) => Next::Bootstrap,
        (Stored::Nothing, false) => Next::Refuse(Refusal::NoCredentials),
        (Stored::Expired(at), false) => Next::Refuse(Refusal::Expired(*at)),
        (Stored::OtherNode(name), _) => Next::Refuse(Refusal::OtherNode(name.clone())),
        (Stored::OtherCluster, _) => Next::Refuse(Refusal::OtherCluster),
    }
}

/// When a certificate is renewed: at 70 to 90 % of its life, as kubelet does; `share`, between 0 and 1, says where, so
/// that nodes that joined together don't ask together.
pub fn renewal(from: Timestamp, to: Timestamp, share: f64) -> Timestamp {
    let life = from.duration_until(to).as_secs_f64().max(0.0);
    let after = life * (0.7 + 0.2 * share.clamp(0.0, 1.0));
    from.saturating_add(SignedDuration::try_from_secs_f64(after).unwrap_or(SignedDuration::MAX))
        .map_or(to, |at| at.min(to))
}

/// Why what was issued is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is no certificate.
    Malformed(String),
    /// It is over another key.
    OtherKey,
    /// Its time is over: it was issued long ago.
    Expired,
    /// Its time begins this much later, by our clock.
    NotYet(SignedDuration),
}

/// A server whose clock is this much ahead is not worth a word: authorities date back their certificates.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(60);

/// Whether what was issued (PEM, the leaf first) can be used with `key`.
pub fn issued(pem: &[u8], key: &PrivateKey, now: Timestamp) -> Result<(), Unfit> {
    let certificate = Certificate::from_pem(pem).map_err(|error| Unfit::Malformed(error.to_string()))?;
    if certificate.public_info != key.public_info() {
        return Err(Unfit::OtherKey);
    }
    if certificate.not_after <= now {
        return Err(Unfit::Expired);
    }
    let early = now.duration_until(certificate.not_before);
    if early > TOLERANCE {
        return Err(Unfit::NotYet(early));
    }
    Ok(())
}

/// A clock that differs more from the server's makes certificates useless soon or now.
pub const FAR_OFF: SignedDuration = SignedDuration::from_hours(1);
/// A clock that differs more is worth a word.
pub const OFF: SignedDuration = SignedDuration::from_mins(1);

/// How far the server's clock is ahead of ours (negative: behind), from its `Date` header.
pub fn clock_offset(date: &str, now: Timestamp) -> Option<SignedDuration> {
    // HTTP's format is one of RFC 2822's but for its zone, which older mail had so too.
    let at = DateTimeParser::new().parse_timestamp(date.trim()).ok()?;
    Some(now.duration_until(at))
}

#[cfg(test)]
mod tests {
    use bosun_pki::{Authority, Template};
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_comes_next_follows_from_what_is_there() {
        let expired = at("2026-01-01T00:00:00Z");
        let other = "system:node:b".to_owned();
        let table = [
            (Stored::Nothing, true, Next::Bootstrap),
            (Stored::Nothing, false, Next::Refuse(Refusal::NoCredentials)),
            (Stored::Given, true, Next::Use),
            (Stored::Given, false, Next::Use),
            (Stored::Valid, true, Next::Use),
            (Stored::Valid, false, Next::Use),
            (Stored::Expired(expired), true, Next::Bootstrap),
            (Stored::Expired(expired), false, Next::Refuse(Refusal::Expired(expired))),
            (
                Stored::OtherNode(other.clone()),
                true,
                Next::Refuse(Refusal::OtherNode(other)),
            ),
            (Stored::OtherCluster, true, Next::Refuse(Refusal::OtherCluster)),
        ];
        for (stored, way, wanted) in table {
            assert_eq!(next(&stored, way), wanted, "{stored:?}, {way}");
        }
    }

    #[test]
    fn a_certificate_is_renewed_between_seventy_and_ninety_percent_of_its_life() {
        let (from, to) = (at("2026-01-01T00:00:00Z"), at("2026-01-11T00:00:00Z"));
        for (share, wanted) in [
            (0.0, "2026-01-08T00:00:00Z"),
            (0.5, "2026-01-09T00:00:00Z"),
            (1.0, "2026-01-10T00:00:00Z"),
            (7.0, "2026-01-10T00:00:00Z"),
        ] {
            let due = renewal(from, to, share);
            assert!(
                due.duration_until(at(wanted)).abs() < SignedDuration::from_secs(1),
                "{share}: {due}"
            );
        }
        assert_eq!(renewal(to, from, 0.5), from, "one that never holds is due at once");
    }

    #[test]
    fn what_was_issued_is_checked_before_it_is_kept() {
        let now = at("2026-06-01T12:00:00Z");
        let authority = Authority::generate("ca", now);
        let hours = SignedDuration::from_hours;
        let template = Template {
            life: Some(hours(1)),
            ..Template::client("system:node:a", &["system:nodes".into()])
        };
        for (issued_at, wanted) in [
            (now, Ok(())),
            (now - hours(2), Err(Unfit::Expired)),
            // Dated back by five minutes.
            (
                now + hours(3),
                Err(Unfit::NotYet(hours(3) - SignedDuration::from_mins(5))),
            ),
        ] {
            let (certificate, key) = authority.issue(&template, issued_at);
            assert_eq!(issued(certificate.pem().as_bytes(), &key, now), wanted);
            assert_eq!(
                issued(certificate.pem().as_bytes(), &PrivateKey::generate(), now),
                Err(Unfit::OtherKey)
            );
        }
        assert!(matches!(
            issued(b"no", &PrivateKey::generate(), now),
            Err(Unfit::Malformed(_))
        ));
    }

    #[test]
    fn a_certificate_is_worth_what_its_name_and_time_say() {
        let now = at("2026-06-01T12:00:00Z");
        let authority = Authority::generate("ca", now);
        let of = |name: &str, then: Timestamp| {
            let (certificate, _) = authority.issue(&Template::client(name, &[]), then);
            Stored::of(&certificate, "a", now)
        };
        assert_eq!(of("system:node:a", now), Stored::Valid);
        assert_eq!(of("system:node:a", now + SignedDuration::from_hours(5)), Stored::Valid);
        assert_eq!(of("system:node:b", now), Stored::OtherNode("system:node:b".into()));
        assert_eq!(of("a", now), Stored::OtherNode("a".into()));
        assert!(matches!(
            of("system:node:a", now - SignedDuration::from_hours(2 * 365 * 24)),
            Stored::Expired(_)
        ));
    }

    #[test]
    fn the_servers_clock_is_compared_with_ours() {
        let now = at("2026-06-01T12:00:00Z");
        for (date, seconds) in [
            ("Mon, 01 Jun 2026 12:00:00 GMT", Some(0)),
            ("Mon, 01 Jun 2026 15:00:00 GMT", Some(3 * 3600)),
            ("Mon, 01 Jun 2026 11:59:00 GMT", Some(-60)),
            ("yesterday", None),
            ("", None),
        ] {
            let offset = clock_offset(date, now).map(|offset| offset.as_secs());
            assert_eq!(offset, seconds, "{date}");
        }
    }

    proptest! {
        #[test]
        fn renewal_lies_within_the_life_of_what_is_renewed(from in 0i64..4_000_000_000, life in 0i64..400_000_000, share in any::<f64>()) {
            let from = Timestamp::from_second(from).unwrap();
            let to = from + SignedDuration::from_secs(life);
            let due = renewal(from, to, share);
            prop_assert!(from <= due && due <= to);
        }

        #[test]
        fn any_text_is_a_date_or_none(text in ".{0,40}") {
            let _ = clock_offset(&text, Timestamp::UNIX_EPOCH);
        }
    }
}
