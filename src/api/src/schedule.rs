//! The schedules of cron jobs: five fields, or a name for some of them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};

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

/// A schedule that has no time in so many years has none: `0 0 31 2 *`.
const YEARS: i16 = 5;

impl Schedule {
    /// The first time after `after` that the schedule names in `zone`; none if there is none within years.
    ///
    /// Times are those whose hands of the clock are named: one that the clock leaps over doesn't come, one that it
    /// passes twice comes twice.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let Self::At {
            minutes, hours, months, ..
        } = self
        else {
            return self.next_of_interval(after);
        };
        let whole = after.as_second() - after.as_second().rem_euclid(60);
        let mut at = Timestamp::from_second(whole)
            .ok()?
            .checked_add(MINUTE)
            .ok()?
            .to_zoned(zone.clone());
        let last = at.year().checked_add(YEARS)?;
        let named = |bits: &u64, number: i8| bits >> number & 1 == 1;
        while at.year() <= last {
            let next = if !named(months, at.month()) {
                at.last_of_month().ok()?.tomorrow().ok()?.start_of_day().ok()?
            } else if !self.names_day(&at) {
                at.tomorrow().ok()?.start_of_day().ok()?
            } else if !named(hours, at.hour()) {
                let left = SignedDuration::from_mins(60 - i64::from(at.minute()));
                at.checked_add(left).ok()?
            } else if !named(minutes, at.minute()) {
                at.checked_add(MINUTE).ok()?
            } else {
                return Some(at.timestamp());
            };
            // A day may begin within an hour that the clock passes twice.
            at = if next > at { next } else { at.checked_add(MINUTE).ok()? };
        }
        None
    }

    fn next_of_interval(&self, after: Timestamp) -> Option<Timestamp> {
        let Self::Every(interval) = self else { return None };
        let next = after.checked_add(SignedDuration::try_from(*interval).ok()?).ok()?;
        Timestamp::from_second(next.as_second()).ok()
    }

    fn names_day(&self, at: &Zoned) -> bool {
        let Self::At {
            days,
            weekdays,
            any_day,
            any_weekday,
            ..
        } = self
        else {
            return false;
        };
        let day = days >> at.day() & 1 == 1;
        let weekday = weekdays >> at.weekday().to_sunday_zero_offset() & 1 == 1;
        if *any_day || *any_weekday {
            day && weekday
        } else {
            day || weekday
        }
    }

    /// The last time up to `now` that the schedule names, of those after `after`; and how many there are, counted no
    /// further than 101.
    pub fn last(&self, after: Timestamp, now: Timestamp, zone: &TimeZone) -> Option<(Timestamp, usize)> {
        const MOST: usize = 101;
        let mut found = self.next(after, zone).filter(|at| *at <= now)?;
        if let Self::Every(interval) = self {
            // Their times follow from the first.
            let interval = i64::try_from(interval.as_secs()).ok()?;
            let more = now.duration_since(found).as_secs() / interval;
            let last = found.checked_add(SignedDuration::from_secs(more * interval)).ok()?;
            return Some((last, usize::try_from(more + 1).map_or(MOST, |count| count.min(MOST))));
        }
        for count in 1..MOST {
            match self.next(found, zone).filter(|at| *at <= now) {
                Some(later) => found = later,
                None => return Some((found, count)),
            }
        }
        // There may be any number of them: looks back from now, twice as far each time, until there is one.
        let mut back = MINUTE;
        let mut start = found;
        while let Some(from) = now.checked_sub(back).ok().filter(|from| *from > found) {
            if self.next(from, zone).is_some_and(|at| at <= now) {
                start = from;
                break;
            }
            back = back.saturating_mul(2);
        }
        while let Some(later) = self.next(start, zone).filter(|at| *at <= now) {
            (start, found) = (later, later);
        }
        Some((found, MOST))
    }
}

const MINUTE: SignedDuration = SignedDuration::from_mins(1);

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

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    #[test]
    fn the_next_time_is_the_first_whose_hands_are_named() {
        for (schedule, name, after, expected) in [
            ("* * * * *", "UTC", "2026-01-01T00:00:00Z", Some("2026-01-01T00:01:00Z")),
            (
                "* * * * *",
                "UTC",
                "2026-01-01T00:00:59.5Z",
                Some("2026-01-01T00:01:00Z"),
            ),
            (
                "*/15 * * * *",
                "UTC",
                "2026-01-01T00:46:00Z",
                Some("2026-01-01T01:00:00Z"),
            ),
            (
                "0 3 * * *",
                "Europe/Berlin",
                "2026-01-01T00:00:00Z",
                Some("2026-01-01T02:00:00Z"),
            ),
            (
                "0 0 29 2 *",
                "UTC",
                "2026-01-01T00:00:00Z",
                Some("2028-02-29T00:00:00Z"),
            ),
            ("0 0 31 2 *", "UTC", "2026-01-01T00:00:00Z", None),
            (
                "0 0 * * sun",
                "UTC",
                "2026-01-01T00:00:00Z",
                Some("2026-01-04T00:00:00Z"),
            ),
            // Either kind of day, where both are named.
            (
                "0 0 13 * fri",
                "UTC",
                "2026-01-03T00:00:00Z",
                Some("2026-01-09T00:00:00Z"),
            ),
            (
                "0 0 13 * fri",
                "UTC",
                "2026-01-09T00:00:00Z",
                Some("2026-01-13T00:00:00Z"),
            ),
            // The clock leaps over 2:30, and passes it twice.
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-03-28T23:00:00Z",
                Some("2026-03-30T00:30:00Z"),
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-24T23:00:00Z",
                Some("2026-10-25T00:30:00Z"),
            ),
            (
                "30 2 * * *",
                "Europe/Berlin",
                "2026-10-25T00:30:00Z",
                Some("2026-10-25T01:30:00Z"),
            ),
            (
                "@every 90s",
                "UTC",
                "2026-01-01T00:00:00.7Z",
                Some("2026-01-01T00:01:30Z"),
            ),
            (
                "@monthly",
                "Asia/Kathmandu",
                "2026-01-31T18:14:00Z",
                Some("2026-01-31T18:15:00Z"),
            ),
            // Its clocks move by half an hour.
            (
                "0 * * * *",
                "Australia/Lord_Howe",
                "2026-04-04T14:30:00Z",
                Some("2026-04-04T15:30:00Z"),
            ),
        ] {
            let found = Schedule::parse(schedule).unwrap().next(at(after), &zone(name));
            assert_eq!(found, expected.map(at), "{schedule} in {name} after {after}");
        }
    }

    #[test]
    fn the_last_time_is_found_however_many_were_missed() {
        for (schedule, after, now, expected) in [
            ("0 * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:59:00Z", None),
            (
                "0 * * * *",
                "2026-01-01T00:00:00Z",
                "2026-01-01T02:59:00Z",
                Some(("2026-01-01T02:00:00Z", 2)),
            ),
            (
                "* * * * *",
                "2020-01-01T00:00:00Z",
                "2026-01-01T02:59:30Z",
                Some(("2026-01-01T02:59:00Z", 101)),
            ),
            (
                "0 9-17 * * mon-fri",
                "2020-01-01T00:00:00Z",
                "2026-01-04T02:59:30Z",
                Some(("2026-01-02T17:00:00Z", 101)),
            ),
            (
                "@every 1h",
                "2026-01-01T00:10:00Z",
                "2026-01-01T02:59:00Z",
                Some(("2026-01-01T02:10:00Z", 2)),
            ),
            (
                "@every 1s",
                "2006-01-01T00:00:00Z",
                "2026-01-01T02:59:00.5Z",
                Some(("2026-01-01T02:59:00Z", 101)),
            ),
        ] {
            let found = Schedule::parse(schedule)
                .unwrap()
                .last(at(after), at(now), &TimeZone::UTC);
            assert_eq!(
                found,
                expected.map(|(time, count)| (at(time), count)),
                "{schedule} up to {now}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_next_time_is_named_and_none_before_it_is(
            minutes in 1_u64..1 << 60, hours in 1_u64..1 << 24, days in 1_u64..1 << 31, months in 1_u64..1 << 12,
            weekdays in 1_u64..1 << 7, any_day: bool, any_weekday: bool,
            after in 1_700_000_000_i64..1_900_000_000,
            name in prop::sample::select(vec!["UTC", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo"]),
        ) {
            let schedule = Schedule::At {
                minutes, hours, days: days << 1, months: months << 1, weekdays, any_day, any_weekday,
            };
            let (after, zone) = (Timestamp::from_second(after).unwrap(), zone(name));
            let Some(found) = schedule.next(after, &zone) else { return Ok(()) };
            let is_named = |time: Timestamp| {
                let at = time.to_zoned(zone.clone());
                minutes >> at.minute() & 1 == 1 && hours >> at.hour() & 1 == 1 && months >> (at.month() - 1) & 1 == 1
                    && schedule.names_day(&at)
            };
            prop_assert!(found > after && is_named(found));
            prop_assert_eq!(found.as_second() % 60, 0);
            // The minutes of up to two days before it.
            let mut time = found.checked_sub(MINUTE).unwrap();
            for _ in 0..2880 {
                if time <= after {
                    break;
                }
                prop_assert!(!is_named(time), "{} is named, and is before {}", time, found);
                time = time.checked_sub(MINUTE).unwrap();
            }
        }
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
