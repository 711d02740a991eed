//! What a single value may be.

use std::{net::IpAddr, path::Path, time::Duration};

use bosun_api::Quantity;
use bosun_net::cidr::Cidr;
use serde_json::Value;

use super::fields::Kind;

/// Whether a value that is no list, map or group fits; if not, why.
pub(super) fn check(value: &Value, kind: &Kind) -> Result<(), String> {
    let text = || {
        value
            .as_str()
            .ok_or_else(|| format!("must be a text, not {}", told(value)))
    };
    match kind {
        Kind::Bool if value.is_boolean() => Ok(()),
        Kind::Bool => Err(format!("must be true or false, not {}", told(value))),
        Kind::Int(from, to) => match value.as_i64() {
            Some(number) if (from..=to).contains(&&number) => Ok(()),
            Some(number) => Err(format!("must be between {from} and {to}, not {number}")),
            None => Err(format!("must be a whole number, not {}", told(value))),
        },
        Kind::Float(from, to) => match value.as_f64() {
            Some(number) if (from..=to).contains(&&number) => Ok(()),
            _ => Err(format!("must be a number between {from} and {to}, not {}", told(value))),
        },
        // The one text that may be a number of nanoseconds too: logging.flushFrequency.
        Kind::Text if value.is_u64() => Ok(()),
        Kind::Text => text().map(drop),
        Kind::Choice(allowed) => match text()? {
            "" => Ok(()),
            given if allowed.contains(&given) => Ok(()),
            given => Err(format!("must be one of {}, not {given:?}", allowed.join(", "))),
        },
        Kind::Path => match text()? {
            "" => Ok(()),
            given if Path::new(given).is_absolute() => Ok(()),
            given => Err(format!("must be an absolute path, not {given:?}")),
        },
        Kind::Duration => {
            let given = text()?;
            duration(given)
                .map(drop)
                .ok_or_else(|| format!("must be a time such as 30s, 5m or 1h30m, not {given:?}"))
        }
        Kind::Quantity => {
            let given = number_or_text(value)?;
            quantity(&given)
                .map(drop)
                .ok_or_else(|| format!("must be an amount such as 100Mi, not {given:?}"))
        }
        Kind::Threshold => {
            let given = text()?;
            Threshold::parse(given)
                .map(drop)
                .ok_or_else(|| format!("must be an amount such as 100Mi, or a share such as 10%, not {given:?}"))
        }
        Kind::Ip => match text()? {
            "" => Ok(()),
            given => given
                .parse::<IpAddr>()
                .map(drop)
                .map_err(|_| format!("must be an IP address, not {given:?}")),
        },
        Kind::Cidr => match text()? {
            "" => Ok(()),
            given => cidrs(given).map(drop).ok_or_else(|| {
                format!("must be a range such as 10.244.0.0/24, or two of both families, not {given:?}")
            }),
        },
        Kind::Endpoint => match text()? {
            "" => Ok(()),
            given => endpoint(given).map(drop).ok_or_else(|| {
                format!("must be a socket such as unix:///run/containerd/containerd.sock, not {given:?}")
            }),
        },
        Kind::Object(_) | Kind::List(_) | Kind::Map { .. } => Ok(()),
    }
}

fn told(value: &Value) -> String {
    match value {
        Value::Object(_) => "a map".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "nothing".to_owned(),
        other => other.to_string(),
    }
}

/// Amounts may be written as bare numbers.
fn number_or_text(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("must be an amount such as 100Mi, not {}", told(other))),
    }
}

/// Whether it is its type's zero.
pub(super) fn is_zero(value: &Value, kind: &Kind) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(given) => !given,
        Value::Number(given) => given.as_f64() == Some(0.0),
        Value::String(given) => {
            given.is_empty() || matches!(kind, Kind::Duration) && duration(given) == Some(Duration::ZERO)
        }
        Value::Array(items) => items.is_empty(),
        Value::Object(items) => items.is_empty(),
    }
}

/// Whether both mean the same.
pub(super) fn same(left: &Value, right: &Value, kind: &Kind) -> bool {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match (kind, text(left), text(right)) {
        (Kind::Duration, Some(left), Some(right)) => duration(&left) == duration(&right),
        (Kind::Quantity, _, Some(right)) => {
            number_or_text(left).ok().and_then(|left| quantity(&left)) == quantity(&right)
        }
        // Of these upstream takes two ways of writing.
        (Kind::Choice(_), Some(left), Some(right)) => left.eq_ignore_ascii_case(&right),
        (Kind::Path, Some(left), Some(right)) => left.trim_end_matches('/') == right.trim_end_matches('/'),
        _ => left == right || left.as_f64().is_some_and(|left| Some(left) == right.as_f64()),
    }
}

/// A time as Go writes it: numbers, perhaps with a fraction, each with its unit; `0` alone. Negative ones are refused.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() {
        return None;
    }
    let mut nanoseconds: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let number_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .filter(|end| *end > 0)?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, more) = after.split_at(unit_end);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || whole.len() > 19 || fraction.contains('.') {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanoseconds += whole * unit;
        let mut part = unit;
        for digit in fraction.bytes().take(19) {
            part /= 10;
            nanoseconds += u128::from(digit - b'0') * part;
        }
        rest = more;
    }
    // Go's are 64 bits.
    let nanoseconds = i64::try_from(nanoseconds).ok()?.unsigned_abs();
    Some(Duration::from_nanos(nanoseconds))
}

fn quantity(text: &str) -> Option<Quantity> {
    let amount: Quantity = text.parse().ok()?;
    (!amount.is_negative()).then_some(amount)
}

/// How little of something may be left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// This much.
    Amount(Quantity),
    /// This share of all there is, from 0 to 1.
    Share(f64),
}

impl Threshold {
    /// An amount, or a share in percent.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(number) => {
                let share: f64 = number.parse().ok()?;
                (0.0..=100.0).contains(&share).then_some(Self::Share(share / 100.0))
            }
            None => quantity(text).map(Self::Amount),
        }
    }
}

/// One range, or two of both families.
pub(super) fn cidrs(text: &str) -> Option<Vec<Cidr>> {
    let cidrs: Vec<Cidr> = text
        .split(',')
        .map(|cidr| cidr.trim().parse().ok())
        .collect::<Option<_>>()?;
    match cidrs.as_slice() {
        [_] => Some(cidrs),
        [one, other] if one.family() != other.family() => Some(cidrs),
        _ => None,
    }
}

/// The path of a Unix socket's URL, or a bare path, which upstream takes too.
pub(super) fn endpoint(text: &str) -> Option<std::path::PathBuf> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    path.starts_with('/').then(|| path.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        for (text, nanoseconds) in [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("1m0s", Some(60_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("100ms", Some(100_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5m", Some(30_000_000_000)),
            ("1us", Some(1_000)),
            ("+3ns", Some(3)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1d", None),
            ("-1s", None),
            ("1s ", None),
            ("1.2.3s", None),
            ("99999999999999999999h", None),
            ("9223372036854775808ns", None),
        ] {
            let read = duration(text).map(|read| read.as_nanos());
            assert_eq!(read, nanoseconds, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_time_or_none(text in ".{0,30}") {
            let _ = duration(&text);
            let _ = Threshold::parse(&text);
            let _ = cidrs(&text);
        }

        #[test]
        fn a_time_is_the_sum_of_its_parts(h in 0u64..1000, m in 0u64..1000, s in 0u64..1000, ms in 0u64..1000) {
            let text = format!("{h}h{m}m{s}s{ms}ms");
            let wanted = Duration::from_secs(h * 3600 + m * 60 + s) + Duration::from_millis(ms);
            prop_assert_eq!(duration(&text), Some(wanted));
        }
    }
}
