//! How `bosun agent` is told to join a cluster.

use std::path::{Path, PathBuf};

use bosun_client::connect::kubeconfig::server_url;
use bosun_node::{
    config::{AgentConfig, kubelet::KubeletSettings},
    join::{JoinConfig, Known, ServeWith, Way},
};
use bosun_pki::bootstrap::{CaHash, JoinToken};
use clap::Args;
use http::Uri;

/// How the node joins a cluster
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Joining a cluster")]
pub(crate) struct JoinArgs {
    /// Join the cluster of the API server at this URL; 'bosun token create' prints the whole command
    #[arg(long, value_name = "URL", value_parser = url)]
    server: Option<Uri>,
    /// What the node proves itself with when it joins: ID.SECRET@sha256:HASH. Not needed once it has joined
    #[arg(long, value_name = "TOKEN", env = "BOSUN_TOKEN", hide_env_values = true, requires = "server", value_parser = token)]
    token: Option<JoinToken>,
    /// The certificate of the cluster's authority, where the token carries no hash of it
    #[arg(long, value_name = "FILE", requires = "token")]
    ca_file: Option<PathBuf>,
    /// The hash of the authority's public key, where the token carries none
    #[arg(long, value_name = "sha256:HASH", requires = "token", conflicts_with = "ca_file", value_parser = hash)]
    discovery_token_ca_cert_hash: Option<CaHash>,
    /// Take any server that knows the token for the right one: so does whoever has seen the token
    #[arg(long, requires = "token", conflicts_with_all = ["ca_file", "discovery_token_ca_cert_hash"])]
    discovery_token_unsafe_skip_ca_verification: bool,
    /// Join as whom this file names, who may ask for a certificate
    #[arg(long, value_name = "FILE", conflicts_with = "server")]
    bootstrap_kubeconfig: Option<PathBuf>,
}

fn url(text: &str) -> Result<Uri, String> {
    server_url(text)
}

fn token(text: &str) -> Result<JoinToken, String> {
    // What was given is a secret, even if it is no token.
    text.trim().parse().map_err(|error| format!("{error}, perhaps followed by @sha256: and a hash"))
}

fn hash(text: &str) -> Result<CaHash, String> {
    text.parse().map_err(|error| format!("{error}"))
}

impl JoinArgs {
    /// What joining goes by; `None` if no cluster is named. `kubeconfig` is written when the node joins; where none is
    /// named it lies with the agent's data.
    pub(crate) fn config(
        &self,
        agent: &AgentConfig,
        kubeconfig: Option<&Path>,
        settings: Option<&KubeletSettings>,
    ) -> Option<JoinConfig> {
        let way = self.way();
        if way.is_none() && self.server.is_none() && kubeconfig.is_none() {
            return None;
        }
        let serve_with = match settings {
            Some(settings) => match (&settings.tls_cert_file, &settings.tls_private_key_file) {
                (Some(certificate), Some(key)) => ServeWith::Files {
                    certificate: certificate.clone(),
                    key: key.clone(),
                },
                _ if settings.server_tls_bootstrap => ServeWith::Cluster,
                _ => ServeWith::Own,
            },
            None => ServeWith::Cluster,
        };
        Some(JoinConfig {
            node_name: agent.node_name.clone(),
            pki: agent.places.root.join("pki"),
            kubeconfig: kubeconfig.map_or_else(|| agent.places.data.join("agent.kubeconfig"), Path::to_owned),
            way,
            serve_with,
            rotate: settings.is_none_or(|settings| settings.rotate_certificates),
            patience: JoinConfig::PATIENCE,
            approval: JoinConfig::APPROVAL,
        })
    }

    fn way(&self) -> Option<Way> {
        if let Some(path) = &self.bootstrap_kubeconfig {
            return Some(Way::Kubeconfig(path.clone()));
        }
        let (server, mut token) = (self.server.clone()?, self.token.clone()?);
        if let Some(hash) = self.discovery_token_ca_cert_hash {
            token.authority = Some(hash);
        }
        let known = match (&self.ca_file, self.discovery_token_unsafe_skip_ca_verification) {
            (Some(path), _) => Known::File(path.clone()),
            // A hash that is there is looked at all the same.
            (None, true) if token.authority.is_none() => Known::Nothing,
            (None, _) => Known::Hash,
        };
        Some(Way::Token { server, token, known })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: JoinArgs,
    }

    fn parsed(line: &str) -> Result<JoinArgs, String> {
        let words = ["agent"].into_iter().chain(line.split_whitespace());
        Line::try_parse_from(words)
            .map(|line| line.args)
            .map_err(|error| error.to_string())
    }

    const TOKEN: &str = "abcdef.0123456789abcdef";

    #[test]
    fn the_way_follows_from_what_is_given() {
        let hash = format!("sha256:{}", "0a".repeat(32));
        let known = |line: &str| match parsed(line).unwrap().way() {
            Some(Way::Token { token, known, .. }) => Some((token.authority.is_some(), known)),
            _ => None,
        };
        let base = format!("--server 192.0.2.7:6443 --token {TOKEN}");
        assert_eq!(known(&format!("{base}@{hash}")), Some((true, Known::Hash)));
        assert_eq!(
            known(&format!("{base} --discovery-token-ca-cert-hash {hash}")),
            Some((true, Known::Hash))
        );
        assert_eq!(known(&base), Some((false, Known::Hash)), "told later what to do");
        assert_eq!(
            known(&format!("{base} --ca-file /ca.crt")),
            Some((false, Known::File("/ca.crt".into())))
        );
        assert_eq!(
            known(&format!("{base} --discovery-token-unsafe-skip-ca-verification")),
            Some((false, Known::Nothing))
        );
        assert_eq!(
            parsed("--bootstrap-kubeconfig /b").unwrap().way(),
            Some(Way::Kubeconfig("/b".into()))
        );
        assert_eq!(parsed("--server 192.0.2.7").unwrap().way(), None, "it has joined before");
    }

    #[test]
    fn a_wrong_value_is_refused_and_no_secret_is_told() {
        for (line, words) in [
            ("--server https://", "no URL"),
            ("--token abcdef.0123456789abcdef", "--server"),
            ("--server h --token abcdef.0123456789abcde", "sixteen"),
            ("--server h --token abcdef.0123456789abcdef@sha256:00", "64 hexadecimal digits"),
            ("--server h --bootstrap-kubeconfig /b", "cannot be used with"),
            ("--server h --ca-file /c", "--token"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
