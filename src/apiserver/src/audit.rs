//! Who did what: one line of JSON for each request, by policy (`audit.k8s.io/v1`).
//!
//! - [`policy`]: which requests are written, and how much of them; pure.
//! - [`log`]: the file, written by a thread of its own, so that no request waits for it.
//!
//! A request is judged once its sender is known, and written when its answer has ended ([`Record`]). What a Secret or a
//! token holds is never written, whatever the policy says.

pub mod log;
pub mod policy;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

pub use self::{
    log::{Log, Rotation},
    policy::{Level, Policy, Stage},
};
use crate::{Request, User};

/// The audit log, with the policy that fills it. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    policy: Arc<Policy>,
    log: Option<Log>,
}

/// A request that will be written, at the stages its policy names.
pub struct Record {
    log: Log,
    level: Level,
    omit: Vec<Stage>,
    omit_managed_fields: bool,
    id: String,
    uri: String,
    agent: String,
    source: Option<String>,
    request: Request,
    decision: Option<(bool, String)>,
    request_object: Option<Bytes>,
    response_object: Option<Bytes>,
    status: Option<Value>,
}

/// What is known of a request beside who asks for what.
pub struct Origin {
    /// Its number, which the answer carries too.
    pub id: String,
    /// As it was sent, with the query.
    pub uri: String,
    /// What the client calls itself.
    pub agent: String,
    /// Its address; `None` for clients within the process.
    pub source: Option<String>,
}

impl Audit {
    /// Requests as `policy` says, into `log`.
    pub fn new(policy: Policy, log: Log) -> Self {
        Self {
            policy: Arc::new(policy),
            log: Some(log),
        }
    }

    /// Nothing is written.
    pub fn off() -> Self {
        Self {
            policy: Arc::new(Policy::default()),
            log: None,
        }
    }

    /// Waits until all that was written is in the file.
    pub fn flush(&self) {
        if let Some(log) = &self.log {
            log.flush();
        }
    }

    /// A request has come. `None` if the policy has nothing of it written.
    pub fn begin(&self, request: &Request, origin: impl FnOnce() -> Origin) -> Option<Record> {
        let log = self.log.as_ref()?;
        let rule = self.policy.judge(request);
        let level = if holds_secrets(request) {
            rule.level.min(Level::Metadata)
        } else {
            rule.level
        };
        if level == Level::None {
            return None;
        }
        let origin = origin();
        let record = Record {
            log: log.clone(),
            level,
            omit: rule.omit_stages,
            omit_managed_fields: rule.omit_managed_fields,
            id: origin.id,
            uri: origin.uri,
            agent: origin.agent,
            source: origin.source,
            request: request.clone(),
            decision: None,
            request_object: None,
            response_object: None,
            status: None,
        };
        record.write(Stage::RequestReceived, None);
        Some(record)
    }
}

/// Whether what is sent or answered holds what nobody should read in a log.
fn holds_secrets(request: &Request) -> bool {
    let Some(resource) = &request.resource else {
        return false;
    };
    matches!(
        (&*resource.group, &*resource.plural, &*request.subresource),
        ("", "secrets", _) | ("", "serviceaccounts", "token") | ("authentication.k8s.io", "tokenreviews", _)
    )
}

impl Record {
    /// Whether requests' bodies are wanted.
    pub fn wants_request(&self) -> bool {
        self.level >= Level::Request
    }

    /// Whether answers' bodies are wanted.
    pub fn wants_response(&self) -> bool {
        self.level >= Level::RequestResponse
    }

    /// What was decided on whether it may.
    pub fn decided(&mut self, allowed: bool, reason: &str) {
        self.decision = Some((allowed, reason.to_owned()));
    }

    /// The body that came, as JSON.
    pub fn request_object(&mut self, json: Bytes) {
        self.request_object = Some(json);
    }

    /// The body that is answered, as JSON.
    pub fn response_object(&mut self, json: Bytes) {
        self.response_object = Some(json);
    }

    /// Why it failed.
    pub fn failed(&mut self, status: Value) {
        self.status = Some(status);
    }

    /// The answer to a lasting request has begun.
    pub fn started(&self, code: u16) {
        self.write(Stage::ResponseStarted, Some(code));
    }

    /// The answer has ended.
    pub fn complete(self, code: u16) {
        self.write(Stage::ResponseComplete, Some(code));
    }

    /// The handler panicked.
    pub fn panicked(self) {
        self.write(Stage::Panic, Some(500));
    }

    fn write(&self, stage: Stage, code: Option<u16>) {
        if self.omit.contains(&stage) {
            return;
        }
        let ended = matches!(stage, Stage::ResponseComplete | Stage::Panic);
        let event = Event {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: self.level,
            audit_id: &self.id,
            stage,
            request_uri: &self.uri,
            verb: self.request.verb,
            user: UserInfo::from(&**self.request.impersonator.as_ref().unwrap_or(&self.request.user)),
            impersonated_user: self
                .request
                .impersonator
                .as_ref()
                .map(|_| UserInfo::from(&*self.request.user)),
            source_ips: self.source.iter().collect(),
            user_agent: &self.agent,
            object_ref: self.object_ref(),
            response_status: code.map(|code| self.response_status(code)),
            request_object: self.object(self.request_object.as_ref()),
            response_object: self.object(self.response_object.as_ref()).filter(|_| ended),
            request_received_timestamp: micro(self.request.now),
            stage_timestamp: micro(if stage == Stage::RequestReceived {
                self.request.now
            } else {
                Timestamp::now()
            }),
            annotations: self.annotations(),
        };
        match serde_json::to_vec(&event) {
            Ok(mut line) => {
                line.push(b'\n');
                self.log.write(line);
            }
            Err(error) => tracing::error!(%error, "an audit event can't be written as JSON"),
        }
    }

    fn object_ref(&self) -> Option<ObjectRef<'_>> {
        let resource = self.request.resource.as_ref()?;
        Some(ObjectRef {
            resource: &resource.plural,
            namespace: &self.request.namespace,
            name: &self.request.name,
            api_group: &resource.group,
            api_version: &resource.version,
            subresource: &self.request.subresource,
        })
    }

    fn response_status(&self, code: u16) -> Value {
        let mut status = serde_json::json!({"metadata": {}});
        if let Some(Value::Object(failure)) = &self.status {
            for field in ["status", "message", "reason", "details"] {
                if let Some(value) = failure.get(field) {
                    status[field] = value.clone();
                }
            }
        }
        status["code"] = code.into();
        status
    }

    fn object(&self, json: Option<&Bytes>) -> Option<Box<RawValue>> {
        let json = json?;
        if self.omit_managed_fields
            && let Ok(mut value) = serde_json::from_slice::<Value>(json)
            && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
            && metadata.remove("managedFields").is_some()
        {
            return RawValue::from_string(value.to_string()).ok();
        }
        RawValue::from_string(String::from_utf8(json.to_vec()).ok()?).ok()
    }

    fn annotations(&self) -> BTreeMap<&'static str, String> {
        let decision = self.decision.iter().flat_map(|(allowed, reason)| {
            [
                (
                    "authorization.k8s.io/decision",
                    if *allowed { "allow" } else { "forbid" }.to_owned(),
                ),
                ("authorization.k8s.io/reason", reason.clone()),
            ]
        });
        decision.chain(self.request.notes.all()).collect()
    }
}

fn micro(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    kind: &'a str,
    api_version: &'a str,
    level: Level,
    #[serde(rename = "auditID")]
    audit_id: &'a str,
    stage: Stage,
    #[serde(rename = "requestURI")]
    request_uri: &'a str,
    verb: &'a str,
    user: UserInfo<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impersonated_user: Option<UserInfo<'a>>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    source_ips: Vec<&'a String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_ref: Option<ObjectRef<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_object: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_object: Option<Box<RawValue>>,
    request_received_timestamp: String,
    stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct UserInfo<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: &'a BTreeMap<String, Vec<String>>,
}

impl<'a> From<&'a User> for UserInfo<'a> {
    fn from(user: &'a User) -> Self {
        Self {
            username: &user.name,
            uid: &user.uid,
            groups: &user.groups,
            extra: &user.extra,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef<'a> {
    resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    api_group: &'a str,
    api_version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    subresource: &'a str,
}

#[cfg(test)]
mod tests;
