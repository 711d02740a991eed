//! Which requests are written to the audit log, and how much of them: the `Policy` of `audit.k8s.io/v1`.

use serde::{Deserialize, Serialize};

use crate::Request;

/// How much of a request is written.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    None,
    /// Who asked for what, when, and what the answer's code was.
    Metadata,
    /// Also the body that came.
    Request,
    /// Also the body that was answered.
    RequestResponse,
}

/// When something is written.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum Stage {
    /// The request has come.
    RequestReceived,
    /// The answer to a lasting request has begun.
    ResponseStarted,
    /// The answer has ended.
    ResponseComplete,
    /// The handler panicked.
    Panic,
}

/// Rules, the first that matches a request counting; a request that none matches is not written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Option<Ignored>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Ignored {}

/// A rule: what it matches (nothing said: anything), and what is written then.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a policy says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How much is written.
    pub level: Level,
    /// When nothing is written.
    pub omit_stages: Vec<Stage>,
    /// Whether `metadata.managedFields` are left out of bodies.
    pub omit_managed_fields: bool,
}

/// Why a file is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not YAML, or not of a policy's form.
    #[error("not a policy: {0}")]
    Syntax(String),
    /// Another kind of object.
    #[error("holds {0:?}, not a Policy: begin with apiVersion: audit.k8s.io/v1 and kind: Policy")]
    Kind(String),
    /// A rule about both resources and paths, or without a meaning.
    #[error("rules[{0}]: {1}")]
    Rule(usize, &'static str),
}

impl Policy {
    /// What is written unless a policy says otherwise: who did what, once it is done; not the questions that monitors
    /// and clients ask all day of the server itself.
    pub fn metadata() -> Self {
        let quiet = Rule {
            level: Level::None,
            verbs: vec!["get".to_owned()],
            non_resource_urls: ["/healthz*", "/livez*", "/readyz*", "/version", "/metrics"]
                .map(str::to_owned)
                .to_vec(),
            ..Rule::any(Level::None)
        };
        Self {
            rules: vec![quiet, Rule::any(Level::Metadata)],
            omit_stages: vec![Stage::RequestReceived],
            ..Self::default()
        }
    }

    /// Reads a file, in YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let options = serde_saphyr::options! { with_snippet: false };
        let policy: Self = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| PolicyError::Syntax(error.to_string().lines().collect::<Vec<_>>().join(" ")))?;
        if (&*policy.api_version, &*policy.kind) != ("audit.k8s.io/v1", "Policy") {
            return Err(PolicyError::Kind(format!("{} {}", policy.api_version, policy.kind)));
        }
        for (at, rule) in policy.rules.iter().enumerate() {
            rule.validate().map_err(|why| PolicyError::Rule(at, why))?;
        }
        Ok(policy)
    }

    /// What it says of a request.
    pub fn judge(&self, request: &Request) -> Judgement {
        let rule = self.rules.iter().find(|rule| rule.matches(request));
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(rule.iter().flat_map(|rule| &rule.omit_stages));
        Judgement {
            level: rule.map_or(Level::None, |rule| rule.level),
            omit_stages,
            omit_managed_fields: rule
                .and_then(|rule| rule.omit_managed_fields)
                .unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn any(level: Level) -> Self {
        Self {
            level,
            users: Vec::new(),
            user_groups: Vec::new(),
            verbs: Vec::new(),
            resources: Vec::new(),
            namespaces: Vec::new(),
            non_resource_urls: Vec::new(),
            omit_stages: Vec::new(),
            omit_managed_fields: None,
        }
    }

    fn validate(&self) -> Result<(), &'static str> {
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.non_resource_urls.is_empty() {
            return Err("a rule is about resources and namespaces, or about nonResourceURLs, not about both");
        }
        let odd = |url: &String| {
            !(url == "*" || url.starts_with('/')) || url.trim_end_matches('*').contains('*') || url.ends_with("**")
        };
        if self.non_resource_urls.iter().any(odd) {
            return Err("nonResourceURLs begin with a slash and have a star at their end at most");
        }
        let nameless = |one: &GroupResources| !one.resource_names.is_empty() && one.resources.is_empty();
        if self.resources.iter().any(nameless) {
            return Err("resourceNames need resources to be the names of");
        }
        Ok(())
    }

    fn matches(&self, request: &Request) -> bool {
        let among = |list: &[String], word: &str| list.is_empty() || list.iter().any(|one| one == word);
        let groups = || self.user_groups.iter().any(|group| request.user.groups.contains(group));
        if !among(&self.users, &request.user.name)
            || !(self.user_groups.is_empty() || groups())
            || !among(&self.verbs, request.verb)
        {
            return false;
        }
        match &request.resource {
            Some(resource) => {
                self.non_resource_urls.is_empty()
                    && among(&self.namespaces, &request.namespace)
                    && (self.resources.is_empty()
                        || self
                            .resources
                            .iter()
                            .any(|one| one.matches(&resource.group, &resource.plural, request)))
            }
            None => {
                self.resources.is_empty()
                    && self.namespaces.is_empty()
                    && (self.non_resource_urls.is_empty()
                        || self.non_resource_urls.iter().any(|url| covers(url, &request.path)))
            }
        }
    }
}

impl GroupResources {
    fn matches(&self, group: &str, plural: &str, request: &Request) -> bool {
        if self.group != group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&request.name);
        let sub = &*request.subresource;
        named
            && self.resources.iter().any(|pattern| match pattern.split_once('/') {
                _ if pattern == "*" => true,
                None => sub.is_empty() && pattern == plural,
                Some((of, what)) => !sub.is_empty() && (of == "*" || of == plural) && (what == "*" || what == sub),
            })
    }
}

/// Whether a path is, or with a star begins, as a pattern says.
fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    }
}
