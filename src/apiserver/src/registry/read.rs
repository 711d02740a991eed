//! Get, list and watch.

use std::{sync::Arc, time::Duration};

use bosun_api::field::{FieldError, Problem};
use bosun_store::Revision;
use bytes::Bytes;

use super::{Registry, continuation::Continuation, convert, fields, subresource, write::resource};
use crate::{
    Reason, Request, Resource, Status,
    cache::{CacheError, Entry, Listing, Scan, Watch, WatchOptions},
    options::{ListOptions, VersionMatch},
};

/// A watch that says nothing else ends after this, and up to as much again, as upstream.
const WATCH_TIMEOUT: Duration = Duration::from_secs(1800);

/// A list, or a page of one.
pub struct List {
    /// As of when.
    pub revision: Revision,
    /// In the order of their keys, in the version that is stored.
    pub entries: Arc<[Arc<Entry>]>,
    /// Where the next page begins; empty if there is none.
    pub continue_token: String,
    /// How many there are beyond this page, if that is known.
    pub remaining: Option<u64>,
    /// The row it was asked of.
    pub resource: Arc<Resource>,
}

/// A watch of a row.
pub struct Watching {
    /// The events, with objects in the version that is stored.
    pub watch: Watch,
    /// The row it was asked of.
    pub resource: Arc<Resource>,
}

impl Registry {
    /// One object, or the part of it that a subresource shows, in the version of the request.
    pub async fn get(&self, request: &Request, options: &ListOptions) -> Result<Bytes, Status> {
        let row = resource(request)?;
        let entry = self
            .entry(row, &request.namespace, &request.name, &options.resource_version)
            .await?;
        subresource::view(request, convert::json(row, &entry)?)
    }

    /// One object as it is cached. `version` is the least resource version: empty for the latest, `0` for any.
    pub async fn entry(
        &self,
        row: &Resource,
        namespace: &str,
        name: &str,
        version: &str,
    ) -> Result<Arc<Entry>, Status> {
        let cache = self.cache(row)?;
        match parse_version(version)? {
            None => cache.catch_up().await.map_err(unreadable)?,
            Some(revision) => cache.reach(revision).await.map_err(unreadable)?,
        };
        let found = cache.peek(&key(row, namespace, name));
        found.ok_or_else(|| Status::not_found(&row.group, &row.plural, name))
    }

    /// A list, or a page of one.
    pub async fn list(&self, request: &Request, options: &ListOptions) -> Result<List, Status> {
        let row = resource(request)?;
        let cache = self.cache(row)?;
        validate_list(options)?;
        let selection = fields::selection(row, &cache, &request.namespace, &request.name, options)?;
        let selects = !selection.labels.is_empty() || !selection.fields.is_empty();
        let under = selection.under();
        let mut scan = Scan {
            under: &under,
            start: None,
            limit: usize::try_from(options.limit).unwrap_or(usize::MAX),
            selection,
        };
        let listing = if options.continue_token.is_empty() {
            let asked = parse_version(&options.resource_version)?;
            let exact = match options.version_match {
                Some(rule) => rule == VersionMatch::Exact,
                // As it was before there were rules.
                None => options.limit > 0 && asked.is_some_and(|revision| revision.0 > 0),
            };
            match asked {
                Some(revision) if exact => cache.list_at(revision, &scan).await.map_err(unreadable)?,
                Some(revision) => {
                    cache.reach(revision).await.map_err(unreadable)?;
                    cache.list(&scan)
                }
                None => {
                    cache.catch_up().await.map_err(unreadable)?;
                    cache.list(&scan)
                }
            }
        } else {
            let next = Continuation::decode(&options.continue_token)?;
            if !next.start.starts_with(&*under) {
                return Err(Status::bad_request("continue key is not valid: it is of another list"));
            }
            scan.start = Some(&next.start);
            match next.revision {
                None => {
                    cache.catch_up().await.map_err(unreadable)?;
                    cache.list(&scan)
                }
                Some(revision) => match cache.list_at(revision, &scan).await {
                    Err(CacheError::TooOld { .. }) => return Err(expired_page(&next)),
                    other => other.map_err(unreadable)?,
                },
            }
        };
        Ok(page(row, listing, !selects))
    }

    /// A watch.
    pub async fn watch(&self, request: &Request, options: &ListOptions) -> Result<Watching, Status> {
        let row = resource(request)?;
        let cache = self.cache(row)?;
        validate_watch(options)?;
        let selection = fields::selection(row, &cache, &request.namespace, &request.name, options)?;
        let asked = parse_version(&options.resource_version)?;
        let initial = options
            .send_initial_events
            .unwrap_or(asked.is_none_or(|revision| revision.0 == 0));
        let at_least = match asked {
            // Without initial events: from now on.
            None => cache.catch_up().await.map_err(unreadable)?,
            Some(revision) => cache.reach(revision).await.map_err(unreadable)?,
        };
        let from = match asked {
            _ if initial => None,
            Some(revision) if revision.0 > 0 => Some(revision),
            _ => Some(at_least),
        };
        let jitter = Duration::from_millis(fastrand::u64(0..WATCH_TIMEOUT.as_millis() as u64));
        let options = WatchOptions {
            from,
            bookmarks: options.bookmarks,
            mark_initial_end: options.send_initial_events == Some(true) && options.bookmarks,
            at_least,
            timeout: Some(options.timeout.unwrap_or(WATCH_TIMEOUT + jitter)),
        };
        let watch = cache.watch(selection, options).map_err(unreadable)?;
        Ok(Watching {
            watch,
            resource: row.clone(),
        })
    }
}

fn page(row: &Arc<Resource>, listing: Listing, counted: bool) -> List {
    let Listing {
        revision,
        entries,
        more,
        remaining,
    } = listing;
    let last = entries.last().filter(|_| more);
    let continue_token = last.map(|last| Continuation::after(revision, last.key()).encode());
    List {
        revision,
        continue_token: continue_token.unwrap_or_default(),
        remaining: (more && counted).then_some(remaining as u64),
        entries,
        resource: row.clone(),
    }
}

/// The key below its row's prefix.
pub(super) fn key(row: &Resource, namespace: &str, name: &str) -> String {
    match row.scope {
        crate::Scope::Namespaced => format!("{namespace}/{name}"),
        crate::Scope::Cluster => name.to_owned(),
    }
}

/// A resource version as a revision; `None` if it is unset.
pub(super) fn parse_version(version: &str) -> Result<Option<Revision>, Status> {
    if version.is_empty() {
        return Ok(None);
    }
    let revision = version.parse().map_err(|_| {
        let invalid = FieldError {
            field: "resourceVersion".into(),
            problem: Problem::Invalid(
                version.into(),
                format!("strconv.ParseUint: parsing {version:?}: invalid syntax"),
            ),
        };
        Status::bad_request(invalid.to_string())
    })?;
    Ok(Some(Revision(revision)))
}

/// What is answered when the cache can't.
pub(super) fn unreadable(error: CacheError) -> Status {
    match &error {
        CacheError::TooOld { .. } => Status::new(Reason::Expired, error.to_string()),
        CacheError::TooLarge { .. } => {
            let message = format!("Timeout: {error}");
            Status::new(Reason::Timeout, message)
                .because("ResourceVersionTooLarge", "Too large resource version", "")
                .retry_after(1)
        }
        CacheError::Store(error) => error.clone().into(),
        CacheError::Damaged { .. } => Status::internal(error),
    }
}

fn expired_page(next: &Continuation) -> Status {
    let inconsistent = Continuation {
        revision: None,
        start: next.start.clone(),
    };
    let mut status = Status::new(
        Reason::Expired,
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.continue_token = Some(inconsistent.encode().into());
    status
}

fn forbidden_option(field: &str, why: &str) -> Status {
    let error = FieldError {
        field: field.into(),
        problem: Problem::Forbidden(why.into()),
    };
    Status::invalid("meta.k8s.io", "ListOptions", "", &[error])
}

fn validate_list(options: &ListOptions) -> Result<(), Status> {
    let unset = options.resource_version.is_empty();
    if options.send_initial_events.is_some() {
        return Err(forbidden_option(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for list",
        ));
    }
    if !options.continue_token.is_empty() {
        if options.version_match.is_some() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            return Err(forbidden_option("resourceVersionMatch", why));
        }
        if !unset && options.resource_version != "0" {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
    }
    match options.version_match {
        Some(_) if unset => {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            Err(forbidden_option("resourceVersionMatch", why))
        }
        Some(VersionMatch::Exact) if options.resource_version == "0" => {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            Err(forbidden_option("resourceVersionMatch", why))
        }
        _ => Ok(()),
    }
}

fn validate_watch(options: &ListOptions) -> Result<(), Status> {
    match (options.send_initial_events, options.version_match) {
        (None, Some(_)) => {
            let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            Err(forbidden_option("resourceVersionMatch", why))
        }
        (Some(_), rule) if rule != Some(VersionMatch::NotOlderThan) => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            Err(forbidden_option("resourceVersionMatch", why))
        }
        _ => Ok(()),
    }
}
