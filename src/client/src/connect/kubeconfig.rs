//! Access as a kubeconfig file says (`clientcmd/v1` `Config`): its current context.
//!
//! What is not understood of how a user proves who he is is refused by name, never passed over: a request would go out as
//! somebody else.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::Uri;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::access::{Access, Identity, NotPem, Token, Trust};

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file can't be read.
    #[error("reading {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// A file is no kubeconfig.
    #[error("{} is no kubeconfig: {why}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A kubeconfig says something that can't be followed: where, and what.
    #[error("{}: {at}: {why}", .file.display())]
    Value {
        /// The kubeconfig.
        file: PathBuf,
        /// The field.
        at: String,
        /// What is wrong with it.
        why: String,
    },
    /// A server can't have such a name.
    #[error("{0:?} is neither a DNS name nor an address")]
    ServerName(String),
    /// No authority was named, and the machine trusts none.
    #[error("the server's authority is not given, and this machine has no list of authorities it trusts")]
    NoAuthorities,
    /// TLS can't use what was given.
    #[error("preparing TLS")]
    Tls(#[source] rustls::Error),
}

/// An absent list may be written as null.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(source: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default, deserialize_with = "list")]
    clusters: Vec<NamedCluster>,
    #[serde(default, deserialize_with = "list")]
    users: Vec<NamedUser>,
    #[serde(default, deserialize_with = "list")]
    contexts: Vec<NamedContext>,
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: Option<String>,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: Option<bool>,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    exec: Option<IgnoredAny>,
    auth_provider: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    user: Option<String>,
    namespace: Option<String>,
}

/// A kubeconfig, the files it named when it was last read, and how they looked then.
pub(super) struct Watched {
    path: PathBuf,
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// What changes when a file does: device, inode, length, time.
type Stamp = (u64, u64, u64, i64, i64);

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

impl Watched {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            seen: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a file is another one than was read.
    pub(super) fn changed(&self) -> bool {
        self.seen.iter().any(|(path, seen)| stamp(path) != *seen)
    }

    pub(super) fn read(&mut self) -> Result<Access, AccessError> {
        let mut seen = Vec::new();
        let access = read_noting(&self.path, &mut |path| seen.push((path.to_owned(), stamp(path))));
        self.seen = seen;
        access
    }
}

/// What the current context of a kubeconfig says.
pub fn read(path: &Path) -> Result<Access, AccessError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    read_noting(&path, &mut |_| {})
}

/// What the current context of a kubeconfig's text says; files that it names are relative to `path`.
pub fn parse(path: &Path, text: &str) -> Result<Access, AccessError> {
    Reader {
        file: path,
        note: &mut |_| {},
    }
    .access(text)
}

fn read_noting(path: &Path, note: &mut dyn FnMut(&Path)) -> Result<Access, AccessError> {
    let mut reader = Reader { file: path, note };
    let text = reader.text(path)?;
    reader.access(&text)
}

struct Reader<'a> {
    file: &'a Path,
    /// Is told of each file before it is read, so that a change in between is seen later.
    note: &'a mut dyn FnMut(&Path),
}

impl Reader<'_> {
    fn access(&mut self, text: &str) -> Result<Access, AccessError> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| self.syntax(error.to_string()))?;
        let wrong = |at: &str, why: &str| Err(self.wrong(at, why));
        // A file that describes one cluster and nobody, as cluster-info is, needs no context.
        let context = match file.current_context.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => match file.contexts.iter().find(|context| context.name == name) {
                Some(found) => Some(&found.context),
                None => return wrong("current-context", &format!("there is no context {name:?}")),
            },
            None => None,
        };
        let cluster = match context {
            Some(context) => file.clusters.iter().find(|cluster| cluster.name == context.cluster),
            None if file.clusters.len() == 1 => file.clusters.first(),
            None => {
                return wrong(
                    "current-context",
                    "it is not set: choose one with kubectl config use-context",
                );
            }
        };
        let Some(cluster) = cluster else {
            return wrong("contexts", "the current context names a cluster that is not there");
        };
        let nobody = User::default();
        let user = match context
            .and_then(|context| context.user.as_deref())
            .filter(|name| !name.is_empty())
        {
            Some(name) => match file.users.iter().find(|user| user.name == name) {
                Some(found) => found.user.as_ref().unwrap_or(&nobody),
                None => return wrong("contexts", "the current context names a user that is not there"),
            },
            None => &nobody,
        };
        let cluster = &cluster.cluster;
        let mut access = Access::new(self.server(cluster)?, self.trust(cluster)?);
        access.server_name = cluster.tls_server_name.clone().filter(|name| !name.is_empty());
        access.identity = self.identity(user)?;
        access.certificate_file = match (&user.client_certificate, &user.client_certificate_data) {
            (Some(path), None) if access.identity.is_some() => Some(self.beside(path)),
            _ => None,
        };
        access.token = self.token(user)?;
        if let Some(namespace) = context.and_then(|context| context.namespace.clone()) {
            access.namespace = namespace;
        }
        Ok(access)
    }

    fn server(&self, cluster: &Cluster) -> Result<Uri, AccessError> {
        if cluster.proxy_url.as_deref().is_some_and(|url| !url.is_empty()) {
            return Err(self.wrong("cluster.proxy-url", "proxies are not supported"));
        }
        let Some(text) = &cluster.server else {
            return Err(self.wrong("cluster.server", "it is not set"));
        };
        server_url(text).map_err(|why| self.wrong("cluster.server", &why))
    }

    fn trust(&mut self, cluster: &Cluster) -> Result<Trust, AccessError> {
        let pem = self.content(
            (
                "cluster.certificate-authority-data",
                cluster.certificate_authority_data.as_deref(),
            ),
            cluster.certificate_authority.as_deref(),
        )?;
        match (pem, cluster.insecure_skip_tls_verify) {
            (Some(_), Some(true)) => Err(self.wrong(
                "cluster.insecure-skip-tls-verify",
                "it makes no sense beside a certificate authority: take one of them out",
            )),
            (Some(pem), _) => Trust::from_pem(&pem).map_err(|error| self.pem("cluster.certificate-authority", &error)),
            (None, Some(true)) => Ok(Trust::Anybody),
            (None, _) => Ok(Trust::System),
        }
    }

    fn identity(&mut self, user: &User) -> Result<Option<Identity>, AccessError> {
        let unknown = [
            ("user.exec", user.exec.is_some()),
            ("user.auth-provider", user.auth_provider.is_some()),
            (
                "user.username",
                user.username.as_deref().is_some_and(|name| !name.is_empty()),
            ),
            (
                "user.as",
                user.impersonate.as_deref().is_some_and(|name| !name.is_empty()),
            ),
        ];
        if let Some((at, _)) = unknown.iter().find(|(_, given)| *given) {
            return Err(self.wrong(
                at,
                "this way of saying who one is is not supported: use a certificate or a token",
            ));
        }
        let certificate = self.content(
            ("user.client-certificate-data", user.client_certificate_data.as_deref()),
            user.client_certificate.as_deref(),
        )?;
        let key = self.content(
            ("user.client-key-data", user.client_key_data.as_deref()),
            user.client_key.as_deref(),
        )?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Identity::from_pem(&certificate, &key)
                .map(Some)
                .map_err(|error| self.pem("user.client-certificate", &error)),
            (None, None) => Ok(None),
            (Some(_), None) => Err(self.wrong("user.client-key", "the certificate's key is not given")),
            (None, Some(_)) => Err(self.wrong("user.client-certificate", "the key's certificate is not given")),
        }
    }

    fn token(&mut self, user: &User) -> Result<Option<Token>, AccessError> {
        // The file wins, as in upstream's clients.
        let (at, text) = match (&user.token_file, &user.token) {
            (Some(path), _) => {
                let path = self.beside(path);
                ("user.tokenFile", self.text(&path)?)
            }
            (None, Some(token)) if !token.is_empty() => ("user.token", token.clone()),
            _ => return Ok(None),
        };
        Token::new(&text)
            .map(Some)
            .ok_or_else(|| self.wrong(at, "it is empty, or holds what no token can"))
    }

    /// Base64 in the file wins over a file that it names, as in upstream's clients.
    fn content(
        &mut self,
        (at, data): (&str, Option<&str>),
        file: Option<&Path>,
    ) -> Result<Option<Vec<u8>>, AccessError> {
        if let Some(data) = data.filter(|data| !data.is_empty()) {
            let data: Vec<u8> = data.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            return match STANDARD.decode(data) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(self.wrong(at, &format!("no base64: {error}"))),
            };
        }
        let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) else {
            return Ok(None);
        };
        let path = self.beside(path);
        self.bytes(&path).map(Some)
    }

    fn beside(&self, path: &Path) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("/")).join(path)
    }

    fn bytes(&mut self, path: &Path) -> Result<Vec<u8>, AccessError> {
        (self.note)(path);
        fs::read(path).map_err(|error| AccessError::Read(path.to_owned(), error))
    }

    fn text(&mut self, path: &Path) -> Result<String, AccessError> {
        let bytes = self.bytes(path)?;
        String::from_utf8(bytes).map_err(|_| self.syntax(format!("{} is no text", path.display())))
    }

    fn syntax(&self, why: String) -> AccessError {
        AccessError::Syntax {
            file: self.file.to_owned(),
            why,
        }
    }

    fn wrong(&self, at: &str, why: &str) -> AccessError {
        AccessError::Value {
            file: self.file.to_owned(),
            at: at.to_owned(),
            why: why.to_owned(),
        }
    }

    fn pem(&self, at: &str, error: &NotPem) -> AccessError {
        self.wrong(at, &error.to_string())
    }
}

/// A server's URL; one without a scheme is taken for `https`, as kubectl does.
pub fn server_url(text: &str) -> Result<Uri, String> {
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("https://{text}")
    };
    let uri: Uri = whole.parse().map_err(|error| format!("{text:?} is no URL: {error}"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(host)) if !host.is_empty() => Ok(uri),
        _ => Err(format!("{text:?} is no URL such as https://192.0.2.7:6443")),
    }
}
