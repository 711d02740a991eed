//! The schedules of cron jobs: five fields, or a name for some of them.

use std::time::Duration;

/// When something is done again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At the times whose parts are all among these, each a bit of its number.
    At {
        /// 0 to 59.
        minutes: u64,
        /// 0 to 23.
        hours: u64,
        /// Days of the month, from 1.
        days: u64,
        /// From 1.
        months: u64,
        /// Days of the week, from Sunday, 0.
        weekdays: u64,
        /// Whether the days of the month are all there are. A day counts if it is among both kinds of days, or, where
        /// neither kind is all there are, among either.
        any_day: bool,
        /// Whether the days of the week are all there are.
        any_weekday: bool,
    },
    /// Each time so long has passed.
    Every(Duration),
}

/// A field of a schedule: the least and the most it may be, and names for some.
struct Field(u64, u64, &'static [&'static str]);

const MINUTES: Field = Field(0, 59, &[]);
const HOURS: Field = Field(0, 23, &[]);
const DAYS: Field = Field(1, 31, &[]);
const MONTHS: Field = Field(
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
const WEEKDAYS: Field = Field(0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]);

impl Schedule {
    /// Reads a schedule, or tells what is wrong with it in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty spec string".to_owned());
        }
        let fields = match text {
            _ if !text.starts_with('@') => text,
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => {
                let every = text
                    .strip_prefix("@every ")
                    .ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
                return duration(every)
                    .map(Self::Every)
                    .map_err(|error| format!("failed to parse duration {text}: {error}"));
            }
        };
        let fields: Vec<_> = fields.split_whitespace().collect();
        let &[minutes, hours, days, months, weekdays] = fields.as_slice() else {
            let (found, shown) = (fields.len(), fields.join(" "));
            return Err(format!("expected exactly 5 fields, found {found}: [{shown}]"));
        };
        let (minutes, _) = MINUTES.parse(minutes)?;
        let (hours, _) = HOURS.parse(hours)?;
        let (days, any_day) = DAYS.parse(days)?;
        let (months, _) = MONTHS.parse(months)?;
        let (weekdays, any_weekday) = WEEKDAYS.parse(weekdays)?;
        Ok(Self::At {
            minutes,
            hours,
            days,
            months,
            weekdays,
            any_day,
            any_weekday,
        })
    }
}

impl Field {
    /// The bits of all items of the field, and whether one of them is everything.
    fn parse(&self, text: &str) -> Result<(u64, bool), String> {
        let mut bits = 0;
        let mut any = false;
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (more, all) = self.range(item)?;
            bits |= more;
            any |= all;
        }
        Ok((bits, any))
    }

    fn range(&self, text: &str) -> Result<(u64, bool), String> {
        let &Self(least, most, _) = self;
        let mut parts = text.split('/');
        let ends: Vec<_> = parts.next().unwrap_or_default().split('-').collect();
        let mut all = matches!(ends[0], "*" | "?");
        let (start, mut end) = if all {
            (least, most)
        } else {
            let start = self.number_or_name(ends[0])?;
            match ends.as_slice() {
                [_] => (start, start),
                [_, end] => (start, self.number_or_name(end)?),
                _ => return Err(format!("too many hyphens: {text}")),
            }
        };
        let step = match (parts.next(), parts.next()) {
            (None, _) => 1,
            (Some(step), None) => {
                // A single number with a step goes on to the end.
                if ends.len() == 1 {
                    end = most;
                }
                number(step)?
            }
            _ => return Err(format!("too many slashes: {text}")),
        };
        all &= step <= 1;
        if start < least {
            return Err(format!("beginning of range ({start}) below minimum ({least}): {text}"));
        }
        if end > most {
            return Err(format!("end of range ({end}) above maximum ({most}): {text}"));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {text}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {text}"));
        }
        let mut bits = 0;
        let mut at = start;
        while at <= end {
            bits |= 1 << at;
            at = at.saturating_add(step);
        }
        Ok((bits, all))
    }

    fn number_or_name(&self, text: &str) -> Result<u64, String> {
        let &Self(least, _, names) = self;
        let named = (least..).zip(names).find(|(_, name)| name.eq_ignore_ascii_case(text));
        named.map_or_else(|| number(text), |(number, _)| Ok(number))
    }
}

fn number(text: &str) -> Result<u64, String> {
    let number: i64 = text
        .parse()
        .map_err(|_| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))?;
    u64::try_from(number).map_err(|_| format!("negative number ({number}) not allowed: {text}"))
}

/// A duration such as `1h30m`, at least a second, in whole seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut seconds = 0.0;
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|char: char| !char.is_ascii_digit() && char != '.')
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let unit_end = rest
            .find(|char: char| char.is_ascii_digit() || char == '.')
            .unwrap_or(rest.len());
        let unit = &rest[..unit_end];
        rest = &rest[unit_end..];
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
            };
    }
    let whole = Duration::try_from_secs_f64(seconds).map_err(|_| invalid())?;
    Ok(Duration::from_secs(whole.as_secs().max(1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_written_is_a_schedule_or_told_not_to_be(text in "(@every )?[-0-9*/?, .@a-zµ]{0,40}") {
            if let Ok(Schedule::At { minutes, hours, days, months, weekdays, .. }) = Schedule::parse(&text) {
                prop_assert_eq!(minutes >> 60, 0);
                prop_assert_eq!(hours >> 24, 0);
                prop_assert_eq!(days & !0xffff_fffe, 0);
                prop_assert_eq!(months & !0x1ffe, 0);
                prop_assert_eq!(weekdays >> 7, 0);
            }
        }
    }

    #[test]
    fn fields_are_ranges_steps_lists_and_names() {
        let Schedule::At {
            minutes,
            hours,
            days,
            months,
            weekdays,
            any_day,
            any_weekday,
        } = Schedule::parse("*/20 1-3,5 ? Jan,MAR mon-fri/2").unwrap()
        else {
            panic!("a schedule of five fields")
        };
        assert_eq!(minutes, 1 | 1 << 20 | 1 << 40);
        assert_eq!(hours, 0b10_1110);
        assert_eq!(days, 0xffff_fffe);
        assert_eq!(months, 0b1010);
        assert_eq!(weekdays, 0b10_1010);
        assert!(any_day && !any_weekday);
        assert_eq!(Schedule::parse("@daily"), Schedule::parse("0 0 * * *"));
        let hour_and_half = Schedule::Every(Duration::from_mins(90));
        assert_eq!(Schedule::parse("@every 1h30m"), Ok(hour_and_half));
    }

    #[test]
    fn what_is_no_schedule_is_told_in_upstreams_words() {
        for (text, expected) in [
            ("", "empty spec string"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "a * * * *",
                "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax",
            ),
            ("@fortnightly", "unrecognized descriptor: @fortnightly"),
            (
                "@every day",
                "failed to parse duration @every day: time: invalid duration \"day\"",
            ),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err(), expected, "{text}");
        }
    }
}
