//! How keys and certificates lie on disk.
//!
//! A key and its certificate are one PEM file, written beside its place, synced, and renamed into it: whenever the
//! process dies, the pair is the former or the new one, never half of each. What is found is checked before it is used;
//! what does not fit is an error that says what to do, never replaced.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};

use crate::{Authority, Certificate, PrivateKey};

/// No file here is longer.
const MAX_BYTES: u64 = 1 << 20;

/// Why a file could not be used or made. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused to read it.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system refused to write it.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Others than its owner could have read a secret.
    #[error(
        "{path} holds a secret and is open to others (mode {mode:o}): chmod {want:o} {path}, or remove it if it may be known"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// What it should be.
        want: u32,
    },
    /// It holds something else than it should.
    #[error("{path} {why}: {remedy}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Makes a directory for secrets, for its owner alone, or checks that it is one.
pub fn private_directory(path: &Path) -> Result<(), FileError> {
    let wrote = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(wrote)?;
    let mode = fs::metadata(path).map_err(wrote)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        // The directory may have been made by a package or by hand; nothing secret is known to have lain open in it,
        // as its files are checked one by one.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(wrote)?;
    }
    Ok(())
}

/// Writes a file so that it is there whole or not at all, also after a power cut.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let wrote = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    let directory = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // One name per file: what a killed process left is overwritten by the next try.
    let beside = directory.join(format!(".{name}.new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(wrote(error)),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(content)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(wrote)
}

/// Reads a whole file; `None` if it is not there.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    read_checked(path, false)
}

/// Reads a file that holds a secret, and refuses one that others may read.
pub fn read_secret(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    read_checked(path, true)
}

fn read_checked(path: &Path, secret: bool) -> Result<Option<Vec<u8>>, FileError> {
    let failed = |source| FileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.map_err(failed)?,
    };
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if secret && mode & 0o077 != 0 {
        return Err(FileError::Open {
            path: path.to_owned(),
            mode,
            want: 0o600,
        });
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content).map_err(failed)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(wrong(path, "is longer than a megabyte", "put back what was there"));
    }
    Ok(Some(content))
}

pub(crate) fn wrong(path: &Path, why: impl Into<String>, remedy: &'static str) -> FileError {
    FileError::Content {
        path: path.to_owned(),
        why: why.into(),
        remedy,
    }
}

const CA_REMEDY: &str = "put back the file from a backup; or, to begin with a new authority that nothing trusts yet, \
                         move the whole directory away";
const PAIR_REMEDY: &str = "put back the file from a backup, or move it away to have a new one issued";

/// The authority at `path`; `None` if there is no such file.
pub fn read_authority(path: &Path) -> Result<Option<Authority>, FileError> {
    let Some((certificate, key)) = read_parts(path, CA_REMEDY)? else {
        return Ok(None);
    };
    Authority::from_parts(certificate, key)
        .map(Some)
        .ok_or_else(|| wrong(path, "holds no authority's certificate with its key", CA_REMEDY))
}

/// The pair at `path`, issued by `authority`; `None` if there is no such file.
pub fn read_pair(path: &Path, authority: &Authority) -> Result<Option<(Certificate, PrivateKey)>, FileError> {
    let Some((certificate, key)) = read_parts(path, PAIR_REMEDY)? else {
        return Ok(None);
    };
    if certificate.public_info != key.public_info() {
        return Err(wrong(
            path,
            "holds a certificate and a key that don't belong together",
            PAIR_REMEDY,
        ));
    }
    if !certificate.is_signed_by(&authority.certificate) {
        return Err(wrong(
            path,
            "holds a certificate that another authority signed",
            PAIR_REMEDY,
        ));
    }
    Ok(Some((certificate, key)))
}

fn read_parts(path: &Path, remedy: &'static str) -> Result<Option<(Certificate, PrivateKey)>, FileError> {
    let Some(pem) = read_secret(path)? else {
        return Ok(None);
    };
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem)
        .map_err(|error| wrong(path, format!("holds no private key ({error})"), remedy))?;
    let key = PrivateKey::from_pkcs8(key.secret_pkcs8_der())
        .map_err(|error| wrong(path, format!("holds a key that is {error}"), remedy))?;
    let der = CertificateDer::from_pem_slice(&pem)
        .map_err(|error| wrong(path, format!("holds no certificate ({error})"), remedy))?;
    let certificate =
        Certificate::from_der(der).map_err(|error| wrong(path, format!("holds bytes that are {error}"), remedy))?;
    Ok(Some((certificate, key)))
}

/// A certificate and its key, as [`read_pair`] reads them.
pub fn write_pair(path: &Path, certificate: &Certificate, key: &PrivateKey) -> Result<(), FileError> {
    write_atomically(path, (certificate.pem() + &key.secret_pem()).as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::Template;

    fn authority() -> Authority {
        Authority::generate("bosun-ca", Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_pair_is_read_as_it_was_written_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.pem");
        let authority = authority();
        let (certificate, key) = authority.issue(&Template::server("x", &["x".into()]), Timestamp::UNIX_EPOCH);
        write_pair(&path, &certificate, &key).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (read, read_key) = read_pair(&path, &authority).unwrap().unwrap();
        assert_eq!((read, read_key.secret_pkcs8()), (certificate, key.secret_pkcs8()));
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing lies beside it"
        );
    }

    #[test]
    fn what_a_killed_process_left_beside_the_file_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        fs::write(directory.path().join(".ca.crt.new"), "half").unwrap();
        write_atomically(&path, b"whole", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert!(!directory.path().join(".ca.crt.new").exists());
    }

    #[test]
    fn damaged_and_foreign_files_are_named_with_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.pem");
        let ours = authority();
        let (certificate, key) = authority().issue(&Template::server("x", &["x".into()]), Timestamp::UNIX_EPOCH);
        let other = PrivateKey::generate();
        let table: [(&str, Vec<u8>, &str); 6] = [
            ("empty", vec![], "holds no private key"),
            ("noise", vec![0xff; 300], "holds no private key"),
            ("no certificate", key.secret_pem().into(), "holds no certificate"),
            (
                "cut",
                (certificate.pem() + &key.secret_pem()).into_bytes()[..200].to_vec(),
                "holds no private key",
            ),
            (
                "mismatched",
                (certificate.pem() + &other.secret_pem()).into(),
                "don't belong together",
            ),
            (
                "foreign",
                (certificate.pem() + &key.secret_pem()).into(),
                "another authority",
            ),
        ];
        for (case, content, why) in table {
            write_atomically(&path, &content, 0o600).unwrap();
            let error = read_pair(&path, &ours).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("move it away"), "{case}: {error}");
            assert_eq!(fs::read(&path).unwrap(), content, "{case}: left alone");
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        write_atomically(&path, b"secret", 0o644).unwrap();
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_directory_made_by_others_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/pki");
        private_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        private_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }
}
