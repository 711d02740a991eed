//! What of a log is wanted: the query of `/containerLogs`, which is that of `pods/log`. Pure.

use jiff::{SignedDuration, Timestamp};

use super::line::Line;

/// The part of a URL after the question mark.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c`, with plus signs as blanks and escapes resolved.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (plain(name), plain(value))
        });
        Self(pairs.collect())
    }

    /// All values of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |pair| pair.0 == name).map(|pair| &*pair.1)
    }

    /// The first value of a name, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|pair| pair.0 == name);
        found.map(|pair| &*pair.1).filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub fn on(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value, "1" | "true" | "t" | "T" | "TRUE" | "True"))
    }
}

fn plain(text: &str) -> String {
    let mut bytes = text.bytes().peekable();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut ahead = bytes.clone();
                let mut digit = || char::from(ahead.next()?).to_digit(16);
                if let Some(escaped) = digit().zip(digit()).map(|(high, low)| high * 16 + low) {
                    bytes = ahead;
                    escaped as u8
                } else {
                    b'%'
                }
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}

/// Which of the two streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wanted {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// And on as it grows.
    pub follow: bool,
    /// Of the attempt before.
    pub previous: bool,
    /// The time before each line.
    pub timestamps: bool,
    /// No more than the last lines.
    pub tail: Option<u64>,
    /// No more bytes.
    pub limit: Option<u64>,
    since: Option<Timestamp>,
    stream: Wanted,
}

impl Options {
    /// Reads a query; `now` is what `sinceSeconds` counts back from.
    pub fn parse(query: &str, now: Timestamp) -> Result<Self, String> {
        let query = Query::parse(query);
        let number = |name: &str, least: u64| match query.get(name) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) if number >= least => Ok(Some(number)),
                _ => Err(format!(
                    "{name}: Invalid value: {text:?}: must be a number, {least} or more"
                )),
            },
        };
        let since = match (number("sinceSeconds", 1)?, query.get("sinceTime")) {
            (Some(_), Some(_)) => {
                return Err("at most one of `sinceTime` or `sinceSeconds` may be specified".to_owned());
            }
            (Some(seconds), None) => {
                let back = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
                Some(now.checked_sub(back).unwrap_or(Timestamp::MIN))
            }
            (None, Some(text)) => {
                let time = text.parse();
                Some(time.map_err(|_| format!("sinceTime: Invalid value: {text:?}: must be a time as of RFC 3339"))?)
            }
            (None, None) => None,
        };
        let stream = match query.get("stream") {
            None | Some("All") => Wanted::All,
            Some("Stdout") => Wanted::Stdout,
            Some("Stderr") => Wanted::Stderr,
            Some(other) => {
                return Err(format!(
                    "stream: Unsupported value: {other:?}: supported values: \"All\", \"Stderr\", \"Stdout\""
                ));
            }
        };
        Ok(Self {
            follow: query.on("follow"),
            previous: query.on("previous"),
            timestamps: query.on("timestamps"),
            tail: number("tailLines", 0)?,
            limit: number("limitBytes", 1)?,
            since,
            stream,
        })
    }

    /// Whether a line is among those wanted.
    pub fn wants(&self, line: &Line<'_>) -> bool {
        let streamed = match self.stream {
            Wanted::All => true,
            Wanted::Stdout => line.stream == "stdout",
            Wanted::Stderr => line.stream == "stderr",
        };
        // A time that can't be read is shown rather than kept back.
        let late = self
            .since
            .is_none_or(|since| line.time.parse::<Timestamp>().map_or(true, |time| time >= since));
        streamed && late
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(query: &str) -> Result<Options, String> {
        Options::parse(query, "2026-11-20T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_query_says_what_is_wanted() {
        let options = parse("follow=true&timestamps=1&tailLines=0&limitBytes=10&previous=false").unwrap();
        assert!(options.follow && options.timestamps && !options.previous);
        assert_eq!((options.tail, options.limit), (Some(0), Some(10)));
        assert_eq!(parse(""), Ok(Options::default()));
        for bad in [
            "tailLines=-1",
            "limitBytes=0",
            "sinceSeconds=0",
            "sinceTime=yesterday",
            "sinceTime=2026-11-20T11:00:00Z&sinceSeconds=1",
            "stream=stdin",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_chosen_by_time_and_stream() {
        let early = Line::parse(b"2026-11-20T11:59:49.9Z stdout F x").unwrap();
        let late = Line::parse(b"2026-11-20T13:59:50.0+02:00 stderr F x").unwrap();
        for (query, expected) in [
            ("", (true, true)),
            ("sinceSeconds=10", (false, true)),
            ("sinceTime=2026-11-20T11%3A59%3A50Z", (false, true)),
            ("stream=Stdout", (true, false)),
            ("stream=Stderr", (false, true)),
        ] {
            let options = parse(query).unwrap();
            assert_eq!((options.wants(&early), options.wants(&late)), expected, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_read_without_a_panic(query in "(&|=|%|%4|[a-zA-Z0-9]|sinceSeconds=|9999999999999)*") {
            let _ = parse(&query);
        }
    }
}
