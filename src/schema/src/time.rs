//! Points in time as the API writes them.

use jiff::Timestamp;

/// A time in RFC 3339, such as `2026-01-02T15:04:05Z` or with an offset and a fraction; `None` if it isn't one.
///
/// Stricter than what jiff reads: `T` stands between date and time, and an offset is there.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped = bytes.len() >= 20
        && bytes[..19]
            .iter()
            .zip(b"0000-00-00T00:00:00")
            .all(|(byte, shape)| match shape {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            });
    if !shaped {
        return None;
    }
    let rest = &text[19..];
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    let (whole, digits) = (offset == "Z", offset.as_bytes());
    let numeric = digits.len() == 6 && matches!(digits[0], b'+' | b'-') && digits[3] == b':';
    if (whole || numeric) && !rest.starts_with(".Z") {
        text.parse().ok()
    } else {
        None
    }
}

/// As `metav1.Time` is written: whole seconds, UTC.
pub(crate) fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As `metav1.MicroTime` is written: six digits of a fraction, UTC.
pub(crate) fn micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_and_written_in_utc() {
        let table = [
            (
                "2026-01-02T15:04:05Z",
                "2026-01-02T15:04:05Z",
                "2026-01-02T15:04:05.000000Z",
            ),
            (
                "2026-01-02T15:04:05.123456789Z",
                "2026-01-02T15:04:05Z",
                "2026-01-02T15:04:05.123456Z",
            ),
            (
                "2026-01-02T15:04:05+02:00",
                "2026-01-02T13:04:05Z",
                "2026-01-02T13:04:05.000000Z",
            ),
            (
                "0001-01-01T00:00:00Z",
                "0001-01-01T00:00:00Z",
                "0001-01-01T00:00:00.000000Z",
            ),
        ];
        for (text, whole, fine) in table {
            let time = parse(text).expect(text);
            assert_eq!((seconds(time).as_str(), micros(time).as_str()), (whole, fine));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        let wrong = [
            "",
            "now",
            "2026-01-02",
            "2026-01-02 15:04:05Z",
            "2026-01-02T15:04:05",
            "2026-13-02T15:04:05Z",
        ];
        for text in wrong.into_iter().chain([
            "2026-01-02T15:04:05.Z",
            "2026-01-02t15:04:05z",
            "2026-01-02T15:04:05+0200",
        ]) {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
