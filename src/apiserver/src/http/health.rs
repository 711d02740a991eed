//! `/livez`, `/readyz`, `/healthz`: named checks, each of which can be asked for alone.

use std::{fmt::Write as _, time::Duration};

use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::time::timeout;

use super::query::Query;

/// What is checked.
#[derive(Default)]
pub struct Health {
    checks: Vec<Check>,
}

struct Check {
    name: String,
    /// Whether a server that fails it should be started anew, or only be spared requests.
    alive: bool,
    run: Box<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>,
}

/// No check may take longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is answered: a code and a text.
pub type Report = (StatusCode, String);

impl Health {
    /// Adds a check of whether the server can serve. What it answers as an error is logged, not told.
    #[must_use]
    pub fn ready<F>(self, name: &str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(name, false, check)
    }

    /// Adds a check of whether the server lives at all: one that fails it is beyond hope.
    #[must_use]
    pub fn live<F>(self, name: &str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.with(name, true, check)
    }

    fn with<F>(mut self, name: &str, alive: bool, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push(Check {
            name: name.to_owned(),
            alive,
            run: Box::new(move || Box::pin(check())),
        });
        self
    }

    /// Whether a path is one of health.
    pub fn is_path(path: &str) -> bool {
        let top = path.trim_start_matches('/').split('/').next();
        matches!(top, Some("healthz" | "livez" | "readyz"))
    }

    /// Runs the checks of a path such as `/readyz` or `/readyz/etcd`; `None` if there is no such check.
    pub async fn report(&self, path: &str, query: &Query) -> Option<Report> {
        let (kind, one) = path
            .trim_matches('/')
            .split_once('/')
            .unwrap_or((path.trim_matches('/'), ""));
        let of_kind = |check: &&Check| kind != "livez" || check.alive;
        if !one.is_empty() {
            let check = self.checks.iter().filter(of_kind).find(|check| check.name == one)?;
            return Some(if check.passes().await {
                (StatusCode::OK, "ok".to_owned())
            } else {
                let text = "internal server error: reason withheld\n";
                (StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
            });
        }
        let excluded: Vec<_> = query.all("exclude").collect();
        let mut lines = String::new();
        let mut failed = false;
        for check in self.checks.iter().filter(of_kind) {
            let name = &check.name;
            let _ = if excluded.contains(&&**name) {
                writeln!(lines, "[+]{name} excluded: ok")
            } else if check.passes().await {
                writeln!(lines, "[+]{name} ok")
            } else {
                failed = true;
                writeln!(lines, "[-]{name} failed: reason withheld")
            };
        }
        for name in excluded
            .iter()
            .filter(|name| !self.checks.iter().any(|check| check.name == **name))
        {
            let _ = writeln!(
                lines,
                "warn: some health checks cannot be excluded: no matches for {name:?}"
            );
        }
        Some(if failed {
            let _ = writeln!(lines, "{kind} check failed");
            (StatusCode::INTERNAL_SERVER_ERROR, lines)
        } else if query.get("verbose").is_some() {
            let _ = writeln!(lines, "{kind} check passed");
            (StatusCode::OK, lines)
        } else {
            (StatusCode::OK, "ok".to_owned())
        })
    }
}

impl Check {
    async fn passes(&self) -> bool {
        let outcome = timeout(PATIENCE, (self.run)()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        outcome
            .inspect_err(|reason| tracing::warn!(check = self.name, reason, "a health check failed"))
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    fn health() -> Health {
        Health::default()
            .live("ping", || ready(Ok(())))
            .ready("store", || ready(Err("disk full".to_owned())))
            .ready("stuck", pending)
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_names_what_failed_and_why_is_not_told() {
        for (path, query, code, text) in [
            ("/livez", "", 200, "ok"),
            ("/livez", "verbose", 200, "[+]ping ok\nlivez check passed\n"),
            (
                "/readyz",
                "",
                500,
                "[+]ping ok\n[-]store failed: reason withheld\n[-]stuck failed: reason withheld\nreadyz check failed\n",
            ),
            ("/readyz", "exclude=store&exclude=stuck", 200, "ok"),
            ("/readyz/ping", "", 200, "ok"),
            ("/readyz/store", "", 500, "internal server error: reason withheld\n"),
        ] {
            let report = health().report(path, &Query::parse(query).unwrap()).await.unwrap();
            assert_eq!((report.0.as_u16(), &*report.1), (code, text), "{path}?{query}");
        }
        for unknown in ["/readyz/nothing", "/livez/store"] {
            assert!(health().report(unknown, &Query::default()).await.is_none(), "{unknown}");
        }
    }

    #[test]
    fn only_paths_of_health_are() {
        for (path, expected) in [
            ("/livez", true),
            ("/readyz/etcd", true),
            ("/healthzz", false),
            ("/", false),
        ] {
            assert_eq!(Health::is_path(path), expected, "{path}");
        }
    }
}
