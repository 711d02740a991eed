//! Times as people read them.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// About how long: precise while short, coarse when long. Clocks differ, so that a second in the future is now.
pub fn duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    // A part that is zero isn't said.
    let two = |great: i64, unit: char, small: i64, part: char| match small {
        0 => format!("{great}{unit}"),
        small => format!("{great}{unit}{small}{part}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(days / 365, 'y', days % 365, 'd'),
        () => format!("{}y", days / 365),
    }
}

/// How long ago a time was, as the API writes times; `<unknown>` if there is none.
pub(super) fn since(time: Option<&Value>, now: Timestamp) -> String {
    match moment(time) {
        Some(time) => duration(now.duration_since(time)),
        None => "<unknown>".to_owned(),
    }
}

/// A time as the API writes it.
pub(super) fn moment(time: Option<&Value>) -> Option<Timestamp> {
    time.and_then(Value::as_str).and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_precise_while_short_and_coarse_when_long() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (28_799, "7h59m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (176_400, "2d1h"),
            (691_199, "7d23h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
            (400_000_000, "12y"),
        ] {
            assert_eq!(duration(SignedDuration::from_secs(seconds)), expected, "{seconds}");
        }
    }
}
