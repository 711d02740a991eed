//! The part of a URL after the question mark.

use std::time::Duration;

use super::target::decode;
use crate::status::{Reason, Status};

/// Parameters in the order they were written; the first of a name counts, as upstream has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `a=b&c`, with plus signs as blanks and escapes resolved.
    pub fn parse(text: &str) -> Result<Self, Status> {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decode(&text.replace('+', " ")).map(std::borrow::Cow::into_owned);
            plain(name).zip(plain(value))
        });
        let pairs = pairs.collect::<Option<_>>();
        pairs.map(Self).ok_or_else(|| {
            Status::new(
                Reason::BadRequest,
                "the query has an escape that is not one, or is not UTF-8",
            )
        })
    }

    /// The first parameter of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| &**value)
    }

    /// The first parameter of this name, unless it is empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// All parameters of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(given, _)| given == name)
            .map(|(_, value)| &**value)
    }

    /// Whether a switch is on: there, and neither `0` nor `false`.
    pub fn on(&self, name: &str) -> bool {
        self.get(name).is_some_and(truth)
    }

    /// A switch that may also be absent.
    pub fn switch(&self, name: &str) -> Option<bool> {
        self.get(name).map(truth)
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Status::new(
                Reason::BadRequest,
                format!("unable to convert the value of {name} to a number: {text:?}"),
            )
        })
    }

    /// A time in whole seconds; none or less is no limit.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, Status> {
        let seconds = self.number(name)?.and_then(|seconds| u64::try_from(seconds).ok());
        Ok(seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs))
    }
}

/// What a parameter's text says of a switch.
pub(super) fn truth(text: &str) -> bool {
    !matches!(text, "0") && !text.eq_ignore_ascii_case("false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_name_with_escapes_resolved() {
        let query = Query::parse("labelSelector=a%3Db%2Cc+in+(d)&watch&limit=5&dryRun=All&dryRun=x&=y&").unwrap();
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "x"]);
        assert!(query.on("watch") && !query.on("pretty"));
        assert_eq!(query.number("limit"), Ok(Some(5)));
        assert_eq!(query.text("watch"), None);
    }

    #[test]
    fn what_is_no_number_or_no_escape_is_a_bad_request() {
        let query = Query::parse("limit=many&timeoutSeconds=-1").unwrap();
        assert_eq!(query.number("limit").unwrap_err().reason, Reason::BadRequest);
        assert_eq!(query.seconds("timeoutSeconds"), Ok(None));
        assert_eq!(Query::parse("a=%zz").unwrap_err().reason, Reason::BadRequest);
    }
}
