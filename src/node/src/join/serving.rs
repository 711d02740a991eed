//! The certificate of the node's own API, for each new connection whatever it is at the moment.

use std::{
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use bosun_client::connect::Identity;
use bosun_pki::{Authority, Certificate, Template};
use jiff::Timestamp;
use parking_lot::Mutex;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::{
    JoinConfig, JoinError, Names, ServeWith, Step, identity,
    store::{self, Store},
};

/// Files are looked at for changes no more often.
const LOOK: Duration = Duration::from_secs(1);

/// What serves.
pub(super) struct Serving {
    held: ArcSwap<Held>,
    files: Option<Mutex<Files>>,
}

/// A certificate that serves, and what is to be known of it.
pub(super) struct Held {
    certified: Arc<CertifiedKey>,
    /// When it holds.
    pub(super) valid: (Timestamp, Timestamp),
    /// What it was asked for, sorted; of one found on disk, what it says.
    names: Vec<String>,
    /// Whether the cluster signed it.
    pub(super) signed: bool,
}

impl Held {
    /// Whether it is for exactly these.
    pub(super) fn is_for(&self, names: &Names) -> bool {
        self.names == texts(names)
    }
}

/// Names as a certificate lists them, sorted, each once.
fn texts(names: &Names) -> Vec<String> {
    let addresses = names.addresses.iter().map(ToString::to_string);
    let mut all: Vec<_> = names.dns.iter().cloned().chain(addresses).collect();
    all.sort();
    all.dedup();
    all
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
    stamps: [Option<(u64, u64, i64, i64)>; 2],
    looked: Instant,
}

fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

impl Files {
    fn read(&mut self) -> Result<Held, String> {
        self.stamps = [stamp(&self.certificate), stamp(&self.key)];
        let bytes = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let (certificate, key) = (bytes(&self.certificate)?, bytes(&self.key)?);
        let identity = Identity::from_pem(&certificate, &key)
            .map_err(|error| format!("{} and {}: {error}", self.certificate.display(), self.key.display()))?;
        let leaf = Certificate::from_pem(&certificate).map_err(|error| error.to_string())?;
        Ok(held(&leaf, identity.certified(), true))
    }
}

fn held(leaf: &Certificate, certified: Arc<CertifiedKey>, signed: bool) -> Held {
    let mut names = leaf.names.clone();
    names.sort();
    Held {
        certified,
        valid: (leaf.not_before, leaf.not_after),
        names,
        signed,
    }
}

impl Serving {
    /// What can serve at once: what was given, what the cluster signed before, else one of the node's own.
    pub(super) fn open(config: &JoinConfig, store: &Store, names: &Names) -> Result<Self, JoinError> {
        let (first, files) = match &config.serve_with {
            ServeWith::Files { certificate, key } => {
                let mut files = Files {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    stamps: [None; 2],
                    looked: Instant::now(),
                };
                let held = files.read().map_err(|why| {
                    let remedy = "mend tlsCertFile and tlsPrivateKeyFile, or leave both out";
                    JoinError::new(Step::Credentials, why, remedy)
                })?;
                (held, Some(Mutex::new(files)))
            }
            ServeWith::Own => (own(&config.node_name, names, Timestamp::now()), None),
            ServeWith::Cluster => {
                let now = Timestamp::now();
                let kept = store.current(store::SERVER).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the serving certificate can't be used; asking for another");
                    None
                });
                let kept = kept.filter(|pair| now < pair.certificate.not_after);
                let held = kept.map_or_else(
                    || own(&config.node_name, names, now),
                    |pair| held(&pair.certificate, pair.identity.certified(), true),
                );
                (held, None)
            }
        };
        Ok(Self {
            held: ArcSwap::from_pointee(first),
            files,
        })
    }

    /// What serves at the moment.
    pub(super) fn held(&self) -> Arc<Held> {
        self.held.load_full()
    }

    /// From now on this pair, which the cluster signed when it was asked for these names. If it signed others, asking
    /// again would change nothing.
    pub(super) fn take(&self, pair: &store::Pair, asked: &Names) {
        let held = Held {
            names: texts(asked),
            ..held(&pair.certificate, pair.identity.certified(), true)
        };
        self.held.store(Arc::new(held));
    }

    /// From now on one of the node's own.
    pub(super) fn take_own(&self, node: &str, names: &Names, now: Timestamp) {
        self.held.store(Arc::new(own(node, names, now)));
    }

    fn look(&self) {
        let Some(mut files) = self.files.as_ref().and_then(Mutex::try_lock) else {
            return;
        };
        if files.looked.elapsed() < LOOK {
            return;
        }
        files.looked = Instant::now();
        if files.stamps == [stamp(&files.certificate), stamp(&files.key)] {
            return;
        }
        match files.read() {
            Ok(held) => {
                tracing::info!(file = %files.certificate.display(), "read the serving certificate again: it has changed");
                self.held.store(Arc::new(held));
            }
            Err(problem) => tracing::warn!(
                problem,
                "the serving certificate has changed and can't be used; keeping the former"
            ),
        }
    }
}

/// One that nobody vouches for: better than no connection for those who don't check.
fn own(node: &str, names: &Names, now: Timestamp) -> Held {
    let authority = Authority::generate(&format!("{node}-ca"), now);
    let (certificate, key) = authority.issue(&Template::server(node, &texts(names)), now);
    let chain = certificate.pem() + &authority.certificate.pem();
    let identity = identity(chain.as_bytes(), &key).expect("a pair just made is one");
    Held {
        names: texts(names),
        ..held(&certificate, identity.certified(), false)
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.look();
        Some(self.held.load().certified.clone())
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.load();
        f.debug_struct("Serving")
            .field("names", &held.names)
            .field("signed", &held.signed)
            .finish_non_exhaustive()
    }
}
