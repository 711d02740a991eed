//! Certificates and keys on disk, laid out as kubelet's, so that either can take over from the other.
//!
//! ```text
//!  <pki>/kubelet-client-current.pem ──▶ kubelet-client-2026-06-01-12-00-00.pem     certificate and key, 0600
//!  <pki>/kubelet-client.key.tmp                                                    the key of a request under way
//!  <pki>/kubelet-server-current.pem ──▶ …
//! ```
//!
//! A pair is written whole beside its place, then the link is changed: whenever the process dies, the link leads to the
//! former pair or the new one.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use bosun_client::connect::{Access, Identity, Trust};
use bosun_pki::{
    Certificate, FileError, PrivateKey,
    files::{private_directory, read_secret, write_atomically},
};
use jiff::Timestamp;
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};

/// The node as a client.
pub(super) const CLIENT: &str = "kubelet-client";
/// The node as a server.
pub(super) const SERVER: &str = "kubelet-server";

/// The directory.
pub(super) struct Store {
    dir: PathBuf,
}

/// A certificate and its key.
pub(super) struct Pair {
    /// The leaf.
    pub certificate: Certificate,
    /// All of it, for TLS.
    pub identity: Identity,
}

impl Store {
    /// Makes the directory, or closes it to others.
    pub(super) fn open(dir: &Path) -> Result<Self, FileError> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        private_directory(&dir)?;
        Ok(Self { dir })
    }

    /// Where the pair is that counts.
    pub(super) fn current_path(&self, prefix: &str) -> PathBuf {
        self.dir.join(format!("{prefix}-current.pem"))
    }

    /// The pair that counts; `None` if there is none.
    pub(super) fn current(&self, prefix: &str) -> Result<Option<Pair>, FileError> {
        let path = self.current_path(prefix);
        let Some(pem) = read_secret(&path)? else {
            return Ok(None);
        };
        let content = |why: String| FileError::Content {
            path: path.clone(),
            why,
            remedy: "put back the file from a backup, or move it away and join with a token of 'bosun token create'",
        };
        let certificate = Certificate::from_pem(&pem).map_err(|error| content(format!("is {error}")))?;
        // Also keys of other kinds than ours, as a kubelet may have left them.
        let identity = Identity::from_pem(&pem, &pem).map_err(|error| content(format!("holds no pair: {error}")))?;
        Ok(Some(Pair { certificate, identity }))
    }

    fn key_path(&self, prefix: &str) -> PathBuf {
        self.dir.join(format!("{prefix}.key.tmp"))
    }

    /// The key of a request under way, or a new one, which is on disk before anybody hears of it.
    pub(super) fn pending_key(&self, prefix: &str) -> Result<PrivateKey, FileError> {
        let path = self.key_path(prefix);
        // One that can't be read, or that others could, is of no use to anybody.
        if let Ok(Some(pem)) = read_secret(&path)
            && let Ok(der) = PrivatePkcs8KeyDer::from_pem_slice(&pem)
            && let Ok(key) = PrivateKey::from_pkcs8(der.secret_pkcs8_der())
        {
            return Ok(key);
        }
        let key = PrivateKey::generate();
        write_atomically(&path, key.secret_pem().as_bytes(), 0o600)?;
        Ok(key)
    }

    /// Forgets that key: the next request has another.
    pub(super) fn forget_key(&self, prefix: &str) -> Result<(), FileError> {
        let path = self.key_path(prefix);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(FileError::Write { path, source }),
            _ => Ok(()),
        }
    }

    /// Takes a pair: from now on it is the one that counts. The former stays beside it, older ones go.
    pub(super) fn put(&self, prefix: &str, chain: &[u8], key: &PrivateKey, now: Timestamp) -> Result<(), FileError> {
        let stamp = now.strftime("%Y-%m-%d-%H-%M-%S");
        let name = format!("{prefix}-{stamp}.pem");
        let mut pem = chain.to_vec();
        if !pem.ends_with(b"\n") {
            pem.push(b'\n');
        }
        pem.extend_from_slice(key.secret_pem().as_bytes());
        write_atomically(&self.dir.join(&name), &pem, 0o600)?;
        let current = self.current_path(prefix);
        let former = fs::read_link(&current).ok();
        self.link(&name, &current).map_err(|source| FileError::Write {
            path: current.clone(),
            source,
        })?;
        self.sweep(prefix, &name, former.as_deref());
        self.forget_key(prefix)
    }

    fn link(&self, name: &str, current: &Path) -> io::Result<()> {
        let beside = current.with_extension("pem.new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(name, &beside)?;
        fs::rename(&beside, current)?;
        File::open(&self.dir)?.sync_all()
    }

    /// What is left lying is only untidy.
    fn sweep(&self, prefix: &str, name: &str, former: Option<&Path>) {
        let former = former.and_then(Path::file_name);
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            let file = entry.file_name();
            let dated = file
                .to_str()
                .and_then(|file| file.strip_prefix(prefix)?.strip_prefix('-')?.strip_suffix(".pem"))
                .is_some_and(|middle| middle.starts_with(|first: char| first.is_ascii_digit()));
            if dated && file != name && Some(file.as_os_str()) != former {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// A kubeconfig that points at the pair that counts, whichever it is at the time.
pub(super) fn write_kubeconfig(path: &Path, access: &Access, pair: &Path) -> Result<(), FileError> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut cluster = vec![format!(
        "server: {}",
        quoted(access.server.to_string().trim_end_matches('/'))
    )];
    match &access.trust {
        Trust::Authorities(authorities) => {
            let pem: String = authorities
                .iter()
                .map(|authority| bosun_pki::key::pem("CERTIFICATE", authority))
                .collect();
            let data = k8s_openapi::ByteString(pem.into_bytes());
            // Bytes are base64 in JSON.
            let data = serde_json::to_string(&data).unwrap_or_default();
            cluster.push(format!("certificate-authority-data: {data}"));
        }
        Trust::Anybody => cluster.push("insecure-skip-tls-verify: true".to_owned()),
        Trust::System => {}
    }
    if let Some(name) = &access.server_name {
        cluster.push(format!("tls-server-name: {}", quoted(name)));
    }
    let cluster = cluster.join("\n    ");
    let pair = quoted(&pair.display().to_string());
    let text = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: default-cluster\n  cluster:\n    {cluster}\nusers:\n\
         - name: default-auth\n  user:\n    client-certificate: {pair}\n    client-key: {pair}\ncontexts:\n\
         - name: default-context\n  context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n\
         current-context: default-context\n"
    );
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|source| FileError::Write {
            path: dir.to_owned(),
            source,
        })?;
    }
    write_atomically(path, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use bosun_client::connect::kubeconfig;
    use bosun_pki::{Authority, Template};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_780_000_000 + second).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_link_leads_to_the_last_pair_and_one_former_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("pki")).unwrap();
        assert!(store.current(CLIENT).unwrap().is_none());
        let authority = Authority::generate("ca", at(0));
        for second in 0..4 {
            let key = store.pending_key(CLIENT).unwrap();
            let again = store.pending_key(CLIENT).unwrap();
            assert_eq!(
                key.public_info(),
                again.public_info(),
                "a start in between finds the same key"
            );
            assert_eq!(fs::metadata(store.key_path(CLIENT)).unwrap().mode() & 0o777, 0o600);
            let pem = bosun_pki::request::signing_request(&key, "system:node:a", &["system:nodes".into()], &[]);
            let request = bosun_pki::signer::SigningRequest::from_pem(pem.as_bytes()).unwrap();
            let usages = ["client auth".to_owned(), "digital signature".to_owned()];
            let signer = bosun_pki::signer::KUBELET_CLIENT;
            let certificate = bosun_pki::signer::sign(&authority, signer, &request, &usages, None, at(0)).unwrap();
            store
                .put(CLIENT, certificate.pem().as_bytes(), &key, at(second))
                .unwrap();
            let pair = store.current(CLIENT).unwrap().unwrap();
            assert_eq!(pair.certificate, certificate);
        }
        let found = names(&store.dir);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found.iter().filter(|name| name.contains("current")).count(), 1);
        assert_eq!(fs::metadata(store.current_path(CLIENT)).unwrap().mode() & 0o777, 0o600);
        assert!(store.current(SERVER).unwrap().is_none());
    }

    #[test]
    fn what_a_killed_process_or_a_stranger_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        fs::write(store.key_path(CLIENT), "half").unwrap();
        symlink("nowhere", store.current_path(CLIENT).with_extension("pem.new")).unwrap();
        let key = store.pending_key(CLIENT).unwrap();
        let authority = Authority::generate("ca", at(0));
        let (certificate, other) = authority.issue(&Template::client("system:node:a", &[]), at(0));
        assert_ne!(key.public_info(), other.public_info());
        store.put(CLIENT, certificate.pem().as_bytes(), &other, at(0)).unwrap();
        assert!(store.current(CLIENT).unwrap().is_some());
        // A damaged one is named, with a remedy.
        fs::write(store.current_path(CLIENT), "noise").unwrap();
        let error = store.current(CLIENT).err().unwrap().to_string();
        assert!(
            error.contains("kubelet-client-current.pem") && error.contains("bosun token create"),
            "{error}"
        );
    }

    #[test]
    fn the_kubeconfig_points_at_the_pair() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("pki")).unwrap();
        let authority = Authority::generate("ca", at(0));
        let (certificate, key) = authority.issue(&Template::client("system:node:a", &[]), at(0));
        store.put(CLIENT, certificate.pem().as_bytes(), &key, at(0)).unwrap();
        let trust = Trust::from_pem(authority.certificate.pem().as_bytes()).unwrap();
        let access = Access::new("https://192.0.2.7:6443".parse().unwrap(), trust);
        let path = dir.path().join("etc/kubelet.conf");
        write_kubeconfig(&path, &access, &store.current_path(CLIENT)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let read = kubeconfig::read(&path).unwrap();
        assert_eq!((read.server, read.trust), (access.server, access.trust));
        assert_eq!(read.certificate_file, Some(store.current_path(CLIENT)));
        assert!(read.identity.is_some());
    }
}
