//! What `bosun server` can be told: by flags, by a file, by neither. Flags win.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use bosun_net::cidr::Cidr;
use clap::Args;
use serde::Deserialize;

use crate::cli::NodeArgs;

const EXAMPLES: &str = "\
kubectl and every client library take it for a Kubernetes 1.36 API server. All it stores is in one directory; it may be \
stopped, upgraded and killed: what was acknowledged is there when it comes back.

Examples:
  bosun server
      on port 6443, the data in /var/lib/bosun, the administrator's kubeconfig written beside it; this machine runs
      pods, in a containerd of its own
  bosun server --no-agent --data-dir ./b --port 7443 --write-kubeconfig ./b/kubeconfig
      without root, for a try; then: kubectl --kubeconfig ./b/kubeconfig get namespaces
  bosun server --no-agent --service-cidr 10.96.0.0/12,fd00:96::/112 --advertise-address 192.0.2.7
      Services of both families, a server that others reach at 192.0.2.7
  bosun server --no-agent --datastore etcd=http://192.0.2.1:2379,http://192.0.2.2:2379
      several servers on one etcd; the folder server/pki of the first one's data directory is copied to the others'
  bosun server --no-agent --datastore etcd=https://192.0.2.1:2379 --etcd-cafile ca.crt --etcd-certfile me.crt \
      --etcd-keyfile me.key
      etcd that is known by its certificate, and knows its clients by theirs

A file given with --config holds the same settings, named as the flags are:
  data-dir: /srv/bosun
  service-cidr: 10.96.0.0/12";

/// Run a cluster's control plane, and this machine as a node of it
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[command(after_help = EXAMPLES)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(crate) struct ServerArgs {
    /// What must outlive a reboot: objects, keys and certificates, the audit log [default: /var/lib/bosun]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The address to listen at [default: all, of both families]
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// The port to listen at; 0 for any that is free [default: 6443]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// The address that clients and nodes reach this server at [default: that of the default route]
    #[arg(long, value_name = "IP")]
    advertise_address: Option<IpAddr>,
    /// Services get their addresses from this range; a second one, of the other family, after a comma [default:
    /// 10.43.0.0/16]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    service_cidr: Option<String>,
    /// The DNS domain of Services [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// Where objects are stored: 'embedded', in the data directory, or etcd [default: embedded]
    #[arg(long, value_name = "embedded|etcd=URL,...")]
    datastore: Option<String>,
    /// Pods get their addresses from this range, a part of it on each node; a second one, of the other family, after a
    /// comma [default: 10.42.0.0/16]
    #[arg(long, value_name = "CIDR[,CIDR]")]
    cluster_cidr: Option<String>,
    /// For https URLs of etcd: the certificates of the authorities that it is known by, PEM
    #[arg(long, value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// For etcd that wants to know its clients: this server's certificate, PEM
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    etcd_certfile: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// Don't run pods on this machine
    #[arg(long)]
    no_agent: bool,
    /// Serve the API and nothing else: no controllers, no scheduler, no pods. Others may run these against it
    #[arg(long)]
    api_only: bool,
    /// The administrator's kubeconfig is written here [default: in the data directory,
    /// server/admin.kubeconfig]
    #[arg(long, value_name = "FILE")]
    write_kubeconfig: Option<PathBuf>,
    /// These settings from a YAML file; flags win
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    #[command(flatten)]
    #[serde(skip)]
    node: NodeArgs,
    /// Which requests the audit log holds, an audit.k8s.io/v1 Policy [default: all but health, without their bodies]
    #[arg(long, value_name = "FILE")]
    audit_policy: Option<PathBuf>,
}

/// What the server goes by.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) data_dir: PathBuf,
    /// `None`: all addresses.
    pub(crate) bind: Option<IpAddr>,
    pub(crate) port: u16,
    /// `None`: as the routes say.
    pub(crate) advertise_address: Option<IpAddr>,
    pub(crate) service_cidrs: Vec<Cidr>,
    pub(crate) cluster_cidrs: Vec<Cidr>,
    pub(crate) cluster_domain: String,
    pub(crate) datastore: Datastore,
    pub(crate) api_only: bool,
    /// What this machine is told as a node; `None`: it is none.
    pub(crate) node: Option<NodeArgs>,
    pub(crate) etcd_files: EtcdFiles,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) audit_policy: Option<PathBuf>,
}

/// Where objects are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Datastore {
    /// In the data directory.
    Embedded,
    /// In etcd, at these URLs.
    Etcd(Vec<String>),
}

/// How etcd is known, and how it knows this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EtcdFiles {
    pub(crate) authorities: Option<PathBuf>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// Why the settings make no server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    #[error("{0}: {1}; a setting is written as its flag is, such as data-dir: /srv/bosun")]
    Syntax(PathBuf, String),
    #[error("{0}")]
    Value(String),
}

impl ServerArgs {
    /// The settings, with those of the file where no flag is given.
    pub(crate) fn settings(&self) -> Result<Settings, SettingsError> {
        let file = match &self.config {
            Some(path) => read(path)?,
            None => Self::default(),
        };
        self.over(file)
    }

    fn over(&self, file: Self) -> Result<Settings, SettingsError> {
        let api_only = self.api_only || file.api_only;
        let no_agent = self.no_agent || file.no_agent || api_only;
        let either = |flag: &Option<PathBuf>, file: Option<PathBuf>| flag.clone().or(file).map(|path| absolute(&path));
        let data_dir = either(&self.data_dir, file.data_dir).unwrap_or_else(|| "/var/lib/bosun".into());
        let text = |flag: &Option<String>, file: Option<String>, default: &str| {
            flag.clone().or(file).unwrap_or_else(|| default.to_owned())
        };
        let datastore = datastore(&text(&self.datastore, file.datastore, "embedded"))
            .map_err(|why| SettingsError::Value(format!("--datastore: {why}")))?;
        let etcd_files = EtcdFiles {
            authorities: either(&self.etcd_cafile, file.etcd_cafile),
            certificate: either(&self.etcd_certfile, file.etcd_certfile),
            key: either(&self.etcd_keyfile, file.etcd_keyfile),
        };
        check_etcd(&datastore, &etcd_files).map_err(|why| SettingsError::Value(why.to_owned()))?;
        Ok(Settings {
            bind: self.bind.or(file.bind),
            port: self.port.or(file.port).unwrap_or(6443),
            advertise_address: self.advertise_address.or(file.advertise_address),
            service_cidrs: cidrs(&text(&self.service_cidr, file.service_cidr, "10.43.0.0/16"))
                .map_err(|why| SettingsError::Value(format!("--service-cidr: {why}")))?,
            cluster_cidrs: cidrs(&text(&self.cluster_cidr, file.cluster_cidr, "10.42.0.0/16"))
                .map_err(|why| SettingsError::Value(format!("--cluster-cidr: {why}")))?,
            api_only,
            node: if no_agent { None } else { Some(self.node.clone()) },
            cluster_domain: domain(&text(&self.cluster_domain, file.cluster_domain, "cluster.local"))
                .map_err(|why| SettingsError::Value(format!("--cluster-domain: {why}")))?,
            datastore,
            etcd_files,
            kubeconfig: either(&self.write_kubeconfig, file.write_kubeconfig)
                .unwrap_or_else(|| data_dir.join("server/admin.kubeconfig")),
            audit_policy: either(&self.audit_policy, file.audit_policy),
            data_dir,
        })
    }
}

fn read(path: &Path) -> Result<ServerArgs, SettingsError> {
    let text = fs::read_to_string(path).map_err(|error| SettingsError::Read(path.to_owned(), error))?;
    if text.trim().is_empty() {
        return Ok(ServerArgs::default());
    }
    let options = serde_saphyr::options! { with_snippet: false };
    serde_saphyr::from_str_with_options(&text, options).map_err(|error| {
        let words = error.to_string();
        SettingsError::Syntax(path.to_owned(), words.split_whitespace().collect::<Vec<_>>().join(" "))
    })
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn cidrs(text: &str) -> Result<Vec<Cidr>, String> {
    let cidrs = text.split(',').map(|cidr| cidr.trim().parse::<Cidr>());
    let cidrs = cidrs
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    match cidrs.as_slice() {
        [_] => Ok(cidrs),
        [one, other] if one.family() != other.family() => Ok(cidrs),
        _ => Err("give one range, or one IPv4 and one IPv6 range such as 10.43.0.0/16,fd00:43::/112".to_owned()),
    }
}

fn domain(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('.');
    bosun_api::names::dns_subdomain(text)
        .map(|()| text.to_owned())
        .map_err(str::to_owned)
}

fn datastore(text: &str) -> Result<Datastore, String> {
    let problem = || "write embedded, or etcd= and URLs, such as etcd=http://192.0.2.1:2379".to_owned();
    if text == "embedded" {
        return Ok(Datastore::Embedded);
    }
    let urls = text.strip_prefix("etcd=").ok_or_else(problem)?;
    let urls: Vec<_> = urls.split(',').map(|url| url.trim().to_owned()).collect();
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if urls.iter().all(is_url) {
        Ok(Datastore::Etcd(urls))
    } else {
        Err(problem())
    }
}

/// Whether the files for TLS are all there, and of use.
fn check_etcd(datastore: &Datastore, files: &EtcdFiles) -> Result<(), &'static str> {
    let tls = matches!(datastore, Datastore::Etcd(urls) if urls.iter().any(|url| url.starts_with("https://")));
    if files.certificate.is_some() != files.key.is_some() {
        return Err("--etcd-certfile and --etcd-keyfile: one is of no use without the other");
    }
    if tls && files.authorities.is_none() {
        return Err("--etcd-cafile: without it, an etcd at an https URL cannot be told from anyone else");
    }
    if !tls && *files != EtcdFiles::default() {
        return Err("--etcd-cafile and the like are for etcd at https URLs: see --datastore");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn settings(flags: &str) -> Result<Settings, String> {
        let words = ["bosun", "server"].into_iter().chain(flags.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.to_string())?.command {
            Command::Server(args) => args.settings().map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_flags_there_is_a_default_for_everything() {
        let found = settings("--no-agent").unwrap();
        assert_eq!(
            found,
            Settings {
                data_dir: "/var/lib/bosun".into(),
                bind: None,
                port: 6443,
                advertise_address: None,
                service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
                cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
                api_only: false,
                node: None,
                cluster_domain: "cluster.local".to_owned(),
                datastore: Datastore::Embedded,
                etcd_files: EtcdFiles::default(),
                kubeconfig: "/var/lib/bosun/server/admin.kubeconfig".into(),
                audit_policy: None,
            }
        );
        let node = settings("--node-name a").unwrap().node.unwrap();
        assert_eq!(node.name("h").as_deref(), Ok("a"));
        assert_eq!(settings("--api-only").unwrap().node, None);
    }

    #[test]
    fn a_file_holds_the_same_settings_and_flags_win() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        fs::write(
            &file,
            "no-agent: true\nport: 7000\ndata-dir: /srv/b\ndatastore: etcd=http://a:2379,http://b:2379\n",
        )
        .unwrap();
        let found = settings(&format!("--config {} --port 7001", file.display())).unwrap();
        assert_eq!((found.port, found.data_dir), (7001, "/srv/b".into()));
        assert_eq!(
            found.datastore,
            Datastore::Etcd(vec!["http://a:2379".into(), "http://b:2379".into()])
        );
        fs::write(&file, "prot: 7000\n").unwrap();
        let error = settings(&format!("--config {}", file.display())).unwrap_err();
        assert!(error.contains("prot") && error.contains("as its flag"), "{error}");
        assert!(
            settings("--config /nonexistent/f")
                .unwrap_err()
                .contains("/nonexistent/f")
        );
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_its_flag() {
        for (flags, words) in [
            ("--service-cidr 10.0.0.0/8,11.0.0.0/8", "one IPv4 and one IPv6"),
            ("--service-cidr x", "--service-cidr"),
            ("--cluster-cidr x", "--cluster-cidr"),
            ("--cluster-domain A_b", "--cluster-domain"),
            ("--datastore sqlite", "embedded, or etcd="),
            ("--datastore etcd=a", "embedded, or etcd="),
            ("--datastore etcd=https://a:2379", "--etcd-cafile"),
            ("--datastore etcd=http://a:2379 --etcd-cafile f", "https"),
            ("--etcd-cafile f", "https"),
            (
                "--datastore etcd=https://a:2379 --etcd-cafile f --etcd-certfile g",
                "--etcd-keyfile",
            ),
            ("--bind here", "--bind"),
            ("--port 70000", "--port"),
        ] {
            let error = settings(&format!("--no-agent {flags}")).unwrap_err();
            assert!(error.contains(words), "{flags}: {error}");
        }
    }
}
