//! What a client needs to know of a cluster, in one file (`clientcmd/v1` `Config`).

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Certificate, PrivateKey,
    files::{FileError, write_atomically},
};

/// A cluster and a user.
pub struct Kubeconfig<'a> {
    /// Names the cluster and the context in the file.
    pub cluster: &'a str,
    /// Such as `https://192.0.2.7:6443`.
    pub server: &'a str,
    /// What the server's certificate is checked with.
    pub authority: &'a Certificate,
    /// Names the user in the file.
    pub user: &'a str,
    /// The user's certificate.
    pub certificate: &'a Certificate,
    /// Its key.
    pub key: &'a PrivateKey,
}

impl Kubeconfig<'_> {
    /// The file's content. It holds the user's key.
    pub fn to_yaml(&self) -> String {
        // Strings are written as JSON, which is YAML for strings: whatever they hold stays one.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let (cluster, user) = (quoted(self.cluster), quoted(self.user));
        let context = quoted(&format!("{}@{}", self.user, self.cluster));
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: {cluster}\n  \
               cluster:\n    \
                 server: {server}\n    \
                 certificate-authority-data: {authority}\n\
             users:\n\
             - name: {user}\n  \
               user:\n    \
                 client-certificate-data: {certificate}\n    \
                 client-key-data: {key}\n\
             contexts:\n\
             - name: {context}\n  \
               context:\n    \
                 cluster: {cluster}\n    \
                 user: {user}\n\
             current-context: {context}\n\
             preferences: {{}}\n",
            server = quoted(self.server),
            authority = STANDARD.encode(self.authority.pem()),
            certificate = STANDARD.encode(self.certificate.pem()),
            key = STANDARD.encode(self.key.secret_pem()),
        )
    }

    /// Writes the file whole, for its owner alone.
    pub fn write(&self, path: &Path) -> Result<(), FileError> {
        write_atomically(path, self.to_yaml().as_bytes(), 0o600)
    }
}

/// What tells machines that join which cluster this is: the cluster alone, without a user.
pub fn cluster_info(server: &str, authority: &Certificate) -> String {
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: \"\"\n  \
           cluster:\n    \
             certificate-authority-data: {authority}\n    \
             server: {server}\n\
         contexts: null\n\
         current-context: \"\"\n\
         preferences: {{}}\n\
         users: null\n",
        authority = STANDARD.encode(authority.pem()),
        server = serde_json::Value::from(server),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use jiff::Timestamp;

    use super::*;
    use crate::{Authority, Template};

    #[test]
    fn a_file_holds_all_a_client_needs_and_is_its_owners() {
        let authority = Authority::generate("bosun-ca", Timestamp::UNIX_EPOCH);
        let (certificate, key) = authority.issue(&Template::client("jane", &[]), Timestamp::UNIX_EPOCH);
        let config = Kubeconfig {
            cluster: "bosun",
            server: "https://[fd00::1]:6443",
            authority: &authority.certificate,
            user: "jane \"j\"\n",
            certificate: &certificate,
            key: &key,
        };
        let text = config.to_yaml();
        for line in [
            "    server: \"https://[fd00::1]:6443\"\n".to_owned(),
            "- name: \"jane \\\"j\\\"\\n\"\n".to_owned(),
            format!("    client-key-data: {}\n", STANDARD.encode(key.secret_pem())),
            format!(
                "    certificate-authority-data: {}\n",
                STANDARD.encode(authority.certificate.pem())
            ),
            "current-context: \"jane \\\"j\\\"\\n@bosun\"\n".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} in {text}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.kubeconfig");
        config.write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
