//! Query parameters and `DeleteOptions` bodies as the registry's options.

use http::{HeaderMap, header};
use serde_json::Value;

use super::{negotiate, query::Query};
use crate::{
    options::{
        DeleteOptions, FieldValidation, ListOptions, PatchType, Preconditions, Propagation, VersionMatch, WriteOptions,
    },
    selector::{FieldSelector, LabelSelector},
    status::{Reason, Status},
};

/// How to list, watch or delete a collection.
pub fn list(query: &Query) -> Result<ListOptions, Status> {
    let selector = |error: crate::selector::label::SelectorError| bad(error.to_string());
    let limit = query.number("limit")?.unwrap_or(0);
    Ok(ListOptions {
        labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(selector)?,
        fields: FieldSelector::parse(query.get("fieldSelector").unwrap_or_default()).map_err(selector)?,
        resource_version: query.get("resourceVersion").unwrap_or_default().to_owned(),
        version_match: match query.text("resourceVersionMatch") {
            None => None,
            Some("Exact") => Some(VersionMatch::Exact),
            Some("NotOlderThan") => Some(VersionMatch::NotOlderThan),
            Some(other) => {
                return Err(unsupported("resourceVersionMatch", other, &["Exact", "NotOlderThan"]));
            }
        },
        limit: u64::try_from(limit).unwrap_or(0),
        continue_token: query.get("continue").unwrap_or_default().to_owned(),
        timeout: query.seconds("timeoutSeconds")?,
        bookmarks: query.on("allowWatchBookmarks"),
        send_initial_events: query.switch("sendInitialEvents"),
    })
}

/// How to create, update or patch.
pub fn write(query: &Query, headers: &HeaderMap) -> Result<WriteOptions, Status> {
    let manager = match query.text("fieldManager") {
        Some(name) => field_manager(name)?.to_owned(),
        None => default_manager(headers),
    };
    Ok(WriteOptions {
        dry_run: dry_run(query.all("dryRun"))?,
        field_manager: manager,
        field_validation: match query.text("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => return Err(unsupported("fieldValidation", other, &["Ignore", "Strict", "Warn"])),
        },
        force: query.on("force"),
    })
}

/// Which patch a body is, and what must be said with it. Custom resources don't say by which keys their lists are merged,
/// so there is no strategic merge of them.
pub fn patch(query: &Query, headers: &HeaderMap, custom: bool) -> Result<PatchType, Status> {
    const ALL: [&str; 4] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ];
    const CUSTOM: [&str; 3] = [ALL[0], ALL[1], ALL[3]];
    let kind = match &*negotiate::media_type(headers) {
        "application/json-patch+json" => PatchType::Json,
        "application/merge-patch+json" => PatchType::Merge,
        "application/strategic-merge-patch+json" if !custom => PatchType::Strategic,
        "application/apply-patch+yaml" => PatchType::Apply,
        _ if custom => return Err(negotiate::unsupported(&CUSTOM)),
        _ => return Err(negotiate::unsupported(&ALL)),
    };
    let invalid = |field: &str, why: &str| {
        Err(Status::new(
            Reason::Invalid,
            format!("PatchOptions.meta.k8s.io \"\" is invalid: {field}: {why}"),
        ))
    };
    match kind {
        PatchType::Apply if query.text("fieldManager").is_none() => {
            invalid("fieldManager", "Required value: is required for apply patch")
        }
        PatchType::Apply => Ok(kind),
        _ if query.get("force").is_some() => invalid("force", "Forbidden: may not be specified for non-apply patch"),
        _ => Ok(kind),
    }
}

/// How to delete: as the body says, or without one, the query.
pub fn delete(query: &Query, body: Option<&Value>) -> Result<DeleteOptions, Status> {
    let Some(body) = body.filter(|body| !body.is_null()) else {
        return Ok(DeleteOptions {
            grace_period_seconds: query.number("gracePeriodSeconds")?,
            preconditions: Preconditions::default(),
            propagation: query.text("propagationPolicy").map(propagation).transpose()?,
            orphan_dependents: query.switch("orphanDependents"),
            dry_run: dry_run(query.all("dryRun"))?,
        });
    };
    let wrong = |field: &str| {
        bad(format!(
            "the object provided is unrecognized (must be of type DeleteOptions): {field} is of the wrong type"
        ))
    };
    let text = |value: &Value, field: &str| match value.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong(field)),
    };
    if !body.is_object() {
        return Err(wrong("the body"));
    }
    let preconditions = body.get("preconditions").unwrap_or(&Value::Null);
    let dry = match body.get("dryRun") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(words)) => {
            let words = words.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
            words.ok_or_else(|| wrong("dryRun"))?
        }
        Some(_) => return Err(wrong("dryRun")),
    };
    Ok(DeleteOptions {
        grace_period_seconds: match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => None,
            Some(seconds) => Some(seconds.as_i64().ok_or_else(|| wrong("gracePeriodSeconds"))?),
        },
        preconditions: Preconditions {
            uid: text(preconditions, "uid")?,
            resource_version: text(preconditions, "resourceVersion")?,
        },
        propagation: text(body, "propagationPolicy")?
            .filter(|policy| !policy.is_empty())
            .map(|policy| propagation(&policy))
            .transpose()?,
        orphan_dependents: match body.get("orphanDependents") {
            None | Some(Value::Null) => None,
            Some(orphan) => Some(orphan.as_bool().ok_or_else(|| wrong("orphanDependents"))?),
        },
        dry_run: dry_run(dry.into_iter())?,
    })
}

fn propagation(text: &str) -> Result<Propagation, Status> {
    match text {
        "Orphan" => Ok(Propagation::Orphan),
        "Background" => Ok(Propagation::Background),
        "Foreground" => Ok(Propagation::Foreground),
        other => Err(unsupported(
            "propagationPolicy",
            other,
            &["Background", "Foreground", "Orphan"],
        )),
    }
}

fn dry_run<'a>(words: impl Iterator<Item = &'a str>) -> Result<bool, Status> {
    let mut dry = false;
    for word in words.filter(|word| !word.is_empty()) {
        if word != "All" {
            return Err(unsupported("dryRun", word, &["All"]));
        }
        dry = true;
    }
    Ok(dry)
}

/// What a client calls itself, before its version.
fn default_manager(headers: &HeaderMap) -> String {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let name = agent.unwrap_or_default().split('/').next().unwrap_or_default();
    let printable = name.chars().filter(|letter| !letter.is_control());
    match printable.take(128).collect::<String>() {
        name if name.is_empty() => "unknown".to_owned(),
        name => name,
    }
}

fn field_manager(name: &str) -> Result<&str, Status> {
    if name.chars().count() > 128 {
        return Err(bad("fieldManager: Too long: may not be more than 128 bytes"));
    }
    if name.chars().any(char::is_control) {
        return Err(bad(format!(
            "fieldManager: Invalid value: {name:?}: should only contain printable characters"
        )));
    }
    Ok(name)
}

fn unsupported(field: &str, value: &str, supported: &[&str]) -> Status {
    let supported: Vec<_> = supported.iter().map(|one| format!("{one:?}")).collect();
    Status::new(
        Reason::Invalid,
        format!(
            "{field}: Unsupported value: {value:?}: supported values: {}",
            supported.join(", ")
        ),
    )
}

fn bad(message: impl Into<String>) -> Status {
    Status::new(Reason::BadRequest, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap()
    }

    #[test]
    fn a_list_is_asked_for_by_the_query() {
        let options = list(&query(
            "labelSelector=a%3Db&fieldSelector=metadata.name%3Dx&limit=7&continue=c&resourceVersion=5\
             &resourceVersionMatch=Exact&timeoutSeconds=9&allowWatchBookmarks=true&sendInitialEvents=false",
        ))
        .unwrap();
        assert_eq!(
            (options.limit, &*options.continue_token, &*options.resource_version),
            (7, "c", "5")
        );
        assert_eq!(options.version_match, Some(VersionMatch::Exact));
        assert_eq!((options.bookmarks, options.send_initial_events), (true, Some(false)));
        assert_eq!(options.timeout.unwrap().as_secs(), 9);
        assert_eq!(options.fields.exact("metadata.name"), Some("x"));
        assert!(!options.labels.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, reason) in [
            ("labelSelector=%3D", Reason::BadRequest),
            ("fieldSelector=x", Reason::BadRequest),
            ("limit=x", Reason::BadRequest),
            ("resourceVersionMatch=x", Reason::Invalid),
        ] {
            assert_eq!(list(&query(text)).unwrap_err().reason, reason, "{text}");
        }
        for text in ["dryRun=Some", "fieldValidation=x"] {
            let refused = write(&query(text), &HeaderMap::new()).unwrap_err();
            assert_eq!(refused.reason, Reason::Invalid, "{text}");
        }
    }

    #[test]
    fn who_writes_is_told_by_the_query_or_the_clients_name() {
        let agent = HeaderMap::from_iter([(header::USER_AGENT, "kubectl/v1.36 (linux)".parse().unwrap())]);
        for (text, headers, manager) in [
            ("fieldManager=me", &agent, "me"),
            ("", &agent, "kubectl"),
            ("", &HeaderMap::new(), "unknown"),
        ] {
            assert_eq!(write(&query(text), headers).unwrap().field_manager, manager);
        }
        let long = format!("fieldManager={}", "x".repeat(129));
        assert!(write(&query(&long), &agent).is_err());
    }

    #[test]
    fn a_patch_is_of_the_kind_its_header_says() {
        let headers = |kind: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, kind.parse().unwrap())]);
        let strategic = headers("application/strategic-merge-patch+json");
        let refused = patch(&query(""), &strategic, true).unwrap_err();
        assert_eq!(refused.reason, Reason::UnsupportedMediaType);
        assert!(!refused.message.contains("strategic"), "{refused}");
        for (kind, text, expected) in [
            ("application/json-patch+json", "", Ok(PatchType::Json)),
            ("application/merge-patch+json; charset=utf-8", "", Ok(PatchType::Merge)),
            ("application/strategic-merge-patch+json", "", Ok(PatchType::Strategic)),
            (
                "application/apply-patch+yaml",
                "fieldManager=a&force=1",
                Ok(PatchType::Apply),
            ),
            ("application/apply-patch+yaml", "", Err(Reason::Invalid)),
            ("application/merge-patch+json", "force=1", Err(Reason::Invalid)),
            (
                "application/apply-patch+cbor",
                "fieldManager=a",
                Err(Reason::UnsupportedMediaType),
            ),
            ("application/json", "", Err(Reason::UnsupportedMediaType)),
        ] {
            let found = patch(&query(text), &headers(kind), false).map_err(|status| status.reason);
            assert_eq!(found, expected, "{kind}");
        }
    }

    #[test]
    fn a_deletions_body_wins_over_its_query() {
        let text = query("gracePeriodSeconds=3&propagationPolicy=Orphan&dryRun=All");
        let by_query = delete(&text, None).unwrap();
        assert_eq!(by_query.grace_period_seconds, Some(3));
        assert_eq!(by_query.propagation, Some(Propagation::Orphan));
        assert!(by_query.dry_run);
        let body = json!({"kind": "DeleteOptions", "preconditions": {"uid": "u"}, "propagationPolicy": "Foreground"});
        let by_body = delete(&text, Some(&body)).unwrap();
        assert_eq!(by_body.preconditions.uid.as_deref(), Some("u"));
        assert_eq!(by_body.propagation, Some(Propagation::Foreground));
        assert!(!by_body.dry_run && by_body.grace_period_seconds.is_none());
        for wrong in [
            json!([]),
            json!({"gracePeriodSeconds": "x"}),
            json!({"dryRun": "All"}),
            json!({"preconditions": {"uid": 1}}),
        ] {
            assert_eq!(
                delete(&text, Some(&wrong)).unwrap_err().reason,
                Reason::BadRequest,
                "{wrong}"
            );
        }
    }
}
