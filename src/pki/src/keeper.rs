//! The directory of keys and certificates, and their renewal.
//!
//! ```text
//!  <data directory>/pki        0700
//!      ca.pem                  authority: certificate and key
//!      ca.crt                  its certificate alone, for everybody
//!      server.pem              the API server's certificate and key
//!      admin.pem               the administrator's
//!      service-account.pem     keys of service accounts' tokens, the first signs
//!      encryption.json         keys of Secrets at rest, the first seals
//! ```
//!
//! The authority is written first: a leaf without an authority was not left by a crash, but lost its authority, and is
//! refused.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use rustls::{
    crypto::ring::sign::any_ecdsa_type,
    pki_types::PrivatePkcs8KeyDer,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    Authority, Certificate, PrivateKey, Sealer, Template, TokenKeys,
    files::{self, FileError, wrong},
    names::{Reached, api_server},
};

/// The authority's name.
const CA_NAME: &str = "bosun-ca";
/// The administrator's name as a user: upstream's, as `kubectl auth whoami` and audit logs show it.
pub const ADMIN: &str = "kubernetes-admin";
/// The administrator's group. Not `system:masters`, which nothing can take rights from: this one has its rights from a
/// `ClusterRoleBinding`, as kubeadm has it since 1.29, so a stolen kubeconfig can be shut out by changing that. Whoever
/// can read the authority's key can still issue anything.
pub const ADMIN_GROUP: &str = "kubeadm:cluster-admins";

/// A certificate that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The authority's own.
    Authority,
    /// The API server's.
    Server,
    /// The administrator's.
    Admin,
}

/// Why one is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is none.
    Absent,
    /// Less than a third of its time is left, or none.
    Expiring,
    /// The clock was set back before its time: nobody would believe it.
    NotYetValid,
    /// It is for other names than are wanted now.
    Names,
}

/// What is there of one role: `None` if nothing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub role: Role,
    /// When it is valid, from and to.
    pub valid: Option<(Timestamp, Timestamp)>,
    /// Whether subject and names are the wanted ones.
    pub fits: bool,
}

/// A certificate to be issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Which.
    pub role: Role,
    /// Why.
    pub why: Why,
}

/// What must be issued now, the authority first.
pub fn plan(now: Timestamp, held: &[Held]) -> Vec<Renewal> {
    let mut renewals: Vec<_> = held
        .iter()
        .filter_map(|held| {
            let why = match held.valid {
                None => Why::Absent,
                Some((from, _)) if now < from => Why::NotYetValid,
                Some((from, to)) if now >= due(from, to) => Why::Expiring,
                Some(_) if !held.fits => Why::Names,
                Some(_) => return None,
            };
            Some(Renewal { role: held.role, why })
        })
        .collect();
    renewals.sort_by_key(|renewal| renewal.role);
    renewals
}

/// When one is renewed: two thirds into its time.
fn due(from: Timestamp, to: Timestamp) -> Timestamp {
    from + from.duration_until(to) * 2 / 3
}

/// A certificate with its key.
type Pair = (Certificate, PrivateKey);

/// Everything the directory holds, kept current.
pub struct Keeper {
    directory: PathBuf,
    reached: Reached,
    authority: ArcSwap<Authority>,
    serving: Arc<Serving>,
    admin: ArcSwap<Pair>,
    /// Service accounts' token keys.
    pub token_keys: Arc<TokenKeys>,
    /// Encryption at rest.
    pub sealer: Arc<Sealer>,
    /// One renewal at a time.
    renewing: Mutex<()>,
}

/// The server's certificate for new connections, whatever it is at the moment.
struct Serving {
    certificate: ArcSwap<Certificate>,
    certified: ArcSwap<CertifiedKey>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Serving").field(&self.certificate.load()).finish()
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified.load_full())
    }
}

impl Keeper {
    /// Reads the directory; makes it and what is missing in it, and renews what is due.
    pub fn open(directory: &Path, reached: Reached, now: Timestamp) -> Result<Self, FileError> {
        files::private_directory(directory)?;
        let place = |file: &str| directory.join(file);
        let authority = open_authority(directory, now)?;
        let token_keys = TokenKeys::open_or_create(&place("service-account.pem"))?;
        let sealer = Sealer::open_or_create(&place("encryption.json"))?;
        let server = open_leaf(
            &place("server.pem"),
            &authority,
            &server_template(&reached),
            Role::Server,
            now,
        )?;
        let admin = open_leaf(&place("admin.pem"), &authority, &admin_template(), Role::Admin, now)?;
        Ok(Self {
            directory: directory.to_owned(),
            serving: Arc::new(Serving {
                certified: ArcSwap::from_pointee(certified(&server)),
                certificate: ArcSwap::from_pointee(server.0),
            }),
            reached,
            authority: ArcSwap::from_pointee(authority),
            admin: ArcSwap::from_pointee(admin),
            token_keys: Arc::new(token_keys),
            sealer: Arc::new(sealer),
            renewing: Mutex::new(()),
        })
    }

    /// Renews what is due, and answers when to call again. What fails stays as it is until then.
    pub fn renew(&self, now: Timestamp) -> Result<Timestamp, FileError> {
        let _one = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let place = |file: &str| self.directory.join(file);
        for renewal in plan(now, &self.held()) {
            tracing::info!(role = ?renewal.role, why = ?renewal.why, "issuing a certificate anew");
            let authority = self.authority.load();
            match renewal.role {
                Role::Authority => {
                    self.authority
                        .store(Arc::new(renew_authority(&self.directory, &authority, now)?));
                }
                Role::Server => {
                    let pair = issue(&place("server.pem"), &authority, &server_template(&self.reached), now)?;
                    self.serving.certified.store(Arc::new(certified(&pair)));
                    self.serving.certificate.store(Arc::new(pair.0));
                }
                Role::Admin => {
                    let pair = issue(&place("admin.pem"), &authority, &admin_template(), now)?;
                    self.admin.store(Arc::new(pair));
                }
            }
        }
        let next = self
            .held()
            .iter()
            .filter_map(|held| held.valid)
            .map(|(from, to)| due(from, to))
            .min();
        Ok(next.unwrap_or(now))
    }

    /// The present authority.
    pub fn authority(&self) -> Arc<Authority> {
        self.authority.load_full()
    }

    /// For a TLS listener: each new connection gets the certificate of the moment.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        self.serving.clone()
    }

    /// The administrator's certificate and key.
    pub fn admin(&self) -> Arc<(Certificate, PrivateKey)> {
        self.admin.load_full()
    }

    /// When and for what the certificates hold.
    fn held(&self) -> Vec<Held> {
        let held = |role, certificate: &Certificate, fits| Held {
            role,
            valid: Some((certificate.not_before, certificate.not_after)),
            fits,
        };
        vec![
            held(Role::Authority, &self.authority.load().certificate, true),
            held(
                Role::Server,
                &self.serving.certificate.load(),
                self.serving.certificate.load().names == api_server(&self.reached),
            ),
            held(Role::Admin, &self.admin.load().0, true),
        ]
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

fn server_template(reached: &Reached) -> Template {
    Template::server("kube-apiserver", &api_server(reached))
}

fn admin_template() -> Template {
    Template::client(ADMIN, &[ADMIN_GROUP.to_owned()])
}

fn open_authority(directory: &Path, now: Timestamp) -> Result<Authority, FileError> {
    let path = directory.join("ca.pem");
    let authority = if let Some(authority) = files::read_authority(&path)? {
        authority
    } else {
        for leaf in ["server.pem", "admin.pem", "ca.crt"] {
            if directory.join(leaf).exists() {
                return Err(wrong(
                    &path,
                    format!("is missing, but {leaf} of the same authority is there"),
                    "put it back from a backup; or, to begin with a new authority that nothing trusts yet, move the \
                     whole directory away",
                ));
            }
        }
        let authority = Authority::generate(CA_NAME, now);
        files::write_pair(&path, &authority.certificate, &authority.key)?;
        authority
    };
    let held = Held {
        role: Role::Authority,
        valid: Some((authority.certificate.not_before, authority.certificate.not_after)),
        fits: true,
    };
    if let [renewal] = plan(now, &[held])[..] {
        tracing::info!(role = ?renewal.role, why = ?renewal.why, "issuing a certificate anew");
        return renew_authority(directory, &authority, now);
    }
    publish(directory, &authority)?;
    Ok(authority)
}

/// The same key and name with a new time: what was signed before stays good, and what trusts the former trusts what
/// comes after until the former ends.
fn renew_authority(directory: &Path, old: &Authority, now: Timestamp) -> Result<Authority, FileError> {
    let key = PrivateKey::from_pkcs8(old.key.secret_pkcs8()).expect("a key in use is whole");
    let authority = Authority::over(key, &old.certificate.common_name, now);
    files::write_pair(&directory.join("ca.pem"), &authority.certificate, &authority.key)?;
    publish(directory, &authority)?;
    Ok(authority)
}

/// Keeps the copy for everybody as it must be; a crash may have come between the two files.
fn publish(directory: &Path, authority: &Authority) -> Result<(), FileError> {
    let (path, pem) = (directory.join("ca.crt"), authority.certificate.pem());
    if files::read(&path)?.as_deref() == Some(pem.as_bytes()) {
        return Ok(());
    }
    files::write_atomically(&path, pem.as_bytes(), 0o644)
}

fn open_leaf(
    path: &Path,
    authority: &Authority,
    template: &Template,
    role: Role,
    now: Timestamp,
) -> Result<Pair, FileError> {
    let found = files::read_pair(path, authority)?;
    let held = Held {
        role,
        valid: found.as_ref().map(|(held, _)| (held.not_before, held.not_after)),
        fits: found.as_ref().is_some_and(|(held, _)| fits(held, template)),
    };
    match (found, &plan(now, &[held])[..]) {
        (Some(pair), []) => Ok(pair),
        (_, renewals) => {
            for renewal in renewals {
                tracing::info!(?role, why = ?renewal.why, "issuing a certificate");
            }
            issue(path, authority, template, now)
        }
    }
}

fn fits(certificate: &Certificate, template: &Template) -> bool {
    let names = template.names.iter().map(|name| match name {
        crate::authority::AltName::Ip(address) => address.to_string(),
        crate::authority::AltName::Dns(text)
        | crate::authority::AltName::Email(text)
        | crate::authority::AltName::Uri(text) => text.clone(),
    });
    certificate.common_name == template.common_name
        && certificate.organizations == template.organizations
        && names.eq(certificate.names.iter().cloned())
}

fn issue(path: &Path, authority: &Authority, template: &Template, now: Timestamp) -> Result<Pair, FileError> {
    let pair = authority.issue(template, now);
    files::write_pair(path, &pair.0, &pair.1)?;
    Ok(pair)
}

/// As rustls serves it. The authority's certificate is not sent along: clients have it.
pub fn certified((certificate, key): &Pair) -> CertifiedKey {
    let der = PrivatePkcs8KeyDer::from(key.secret_pkcs8().to_vec());
    let key = any_ecdsa_type(&der.into()).expect("a P-256 key serves TLS");
    CertifiedKey::new(vec![certificate.der().clone()], key)
}

#[cfg(test)]
mod tests;
