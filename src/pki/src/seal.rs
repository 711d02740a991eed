//! Encryption at rest: AES-256-GCM, each value bound to the key it is stored under, so that nobody who can write to the
//! disk can pass one Secret off as another.
//!
//! A sealed value is `k8s:bosun:v1:<key id>:`, 12 bytes of nonce, and the ciphertext with its tag. The id says which key
//! it was: a new key is put first in the file, older ones stay until nothing is sealed with them.

use std::{fmt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};

use crate::{
    bootstrap::random_text,
    files::{self, FileError, wrong},
};

const PREFIX: &[u8] = b"k8s:bosun:v1:";

/// Why a stored value can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It was not sealed here.
    #[error("the stored value is not encrypted, as it must be")]
    NotSealed,
    /// Its key is not in the file any more.
    #[error("the stored value was encrypted with key {0:?}, which is not among the encryption keys: put it back")]
    UnknownKey(String),
    /// It was changed, or moved to another place.
    #[error("the stored value was damaged, or belongs to another object")]
    Damaged,
}

/// An opened value.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// What was sealed.
    pub plain: Vec<u8>,
    /// Whether it should be written again, as its key is not the present one.
    pub stale: bool,
}

/// Seals and opens values.
pub struct Sealer {
    /// The first seals, all open.
    keys: Vec<(String, LessSafeKey)>,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    keys: Vec<KeyEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    id: String,
    secret: String,
}

impl KeyFile {
    fn parse(content: &[u8]) -> Result<Self, &'static str> {
        // What serde would say could quote the secret.
        serde_json::from_slice(content).map_err(|_| "is no file of encryption keys")
    }
}

impl KeyEntry {
    fn generate() -> Self {
        let mut secret = [0; 32];
        SystemRandom::new()
            .fill(&mut secret)
            .expect("the system has randomness");
        Self {
            id: random_text(8),
            secret: STANDARD.encode(secret),
        }
    }
}

const REMEDY: &str = "put back the file from a backup; without it, stored Secrets can't be read";

impl Sealer {
    /// Reads the keys at `path`, or makes the first.
    pub fn open_or_create(path: &Path) -> Result<Self, FileError> {
        if let Some(content) = files::read_secret(path)? {
            return Self::parse(&content).map_err(|why| wrong(path, why, REMEDY));
        }
        let file = KeyFile {
            keys: vec![KeyEntry::generate()],
        };
        let content = serde_json::to_vec_pretty(&file).expect("strings can be written");
        files::write_atomically(path, &content, 0o600)?;
        Ok(Self::parse(&content).expect("a file just made can be read"))
    }

    /// Puts a new key first in the file at `path`; its id. From the next start on it seals, and the others still open.
    pub fn rotate(path: &Path) -> Result<String, FileError> {
        let content = files::read_secret(path)?.ok_or_else(|| {
            wrong(
                path,
                "is not there",
                "name the data directory of a server that has started once",
            )
        })?;
        Self::parse(&content).map_err(|why| wrong(path, why, REMEDY))?;
        let mut file = KeyFile::parse(&content).map_err(|why| wrong(path, why, REMEDY))?;
        file.keys.insert(0, KeyEntry::generate());
        let content = serde_json::to_vec_pretty(&file).expect("strings can be written");
        files::write_atomically(path, &content, 0o600)?;
        Ok(file.keys.swap_remove(0).id)
    }

    fn parse(content: &[u8]) -> Result<Self, &'static str> {
        let file = KeyFile::parse(content)?;
        let mut keys: Vec<(String, LessSafeKey)> = Vec::new();
        for entry in file.keys {
            if entry.id.is_empty() || entry.id.contains(':') || keys.iter().any(|(id, _)| *id == entry.id) {
                return Err("has a key whose id is empty, occurs twice or holds a colon");
            }
            let secret = STANDARD
                .decode(&entry.secret)
                .map_err(|_| "has a key whose secret is not base64")?;
            let key = UnboundKey::new(&AES_256_GCM, &secret).map_err(|_| "has a key that is not 32 bytes long")?;
            keys.push((entry.id, LessSafeKey::new(key)));
        }
        if keys.is_empty() {
            return Err("holds no key");
        }
        Ok(Self { keys })
    }

    /// Seals a value that is to be stored under `place`.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let (id, key) = &self.keys[0];
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the system has randomness");
        let mut sealed = Vec::with_capacity(PREFIX.len() + id.len() + 1 + NONCE_LEN + plain.len() + 16);
        sealed.extend_from_slice(PREFIX);
        sealed.extend_from_slice(id.as_bytes());
        sealed.push(b':');
        sealed.extend_from_slice(&nonce);
        let start = sealed.len();
        sealed.extend_from_slice(plain);
        let tag = key
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place),
                &mut sealed[start..],
            )
            .expect("a value is shorter than 64 GiB");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`Sealer::seal`] made for `place`.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Opened, SealError> {
        let rest = sealed.strip_prefix(PREFIX).ok_or(SealError::NotSealed)?;
        let colon = rest.iter().position(|byte| *byte == b':').ok_or(SealError::NotSealed)?;
        let (id, rest) = (&rest[..colon], &rest[colon + 1..]);
        let (index, (_, key)) = self
            .keys
            .iter()
            .enumerate()
            .find(|(_, (name, _))| name.as_bytes() == id)
            .ok_or_else(|| SealError::UnknownKey(String::from_utf8_lossy(id).into_owned()))?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut plain = sealed.to_vec();
        let length = key
            .open_in_place(nonce, Aad::from(place), &mut plain)
            .map_err(|_| SealError::Damaged)?
            .len();
        plain.truncate(length);
        Ok(Opened {
            plain,
            stale: index != 0,
        })
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opened {{ stale: {} }}", self.stale)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer() -> Sealer {
        let directory = tempfile::tempdir().unwrap();
        Sealer::open_or_create(&directory.path().join("encryption.json")).unwrap()
    }

    #[test]
    fn keys_outlive_a_restart_and_are_their_owners() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("encryption.json");
        let sealed = Sealer::open_or_create(&path).unwrap().seal(b"a", b"secret");
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        let opened = Sealer::open_or_create(&path).unwrap().open(b"a", &sealed).unwrap();
        assert_eq!(
            opened,
            Opened {
                plain: b"secret".to_vec(),
                stale: false
            }
        );
        assert!(files::read_secret(&path).unwrap().is_some());
    }

    #[test]
    fn a_value_opens_only_in_its_place_whole_and_with_its_key() {
        let sealer = sealer();
        let sealed = sealer.seal(b"/registry/secrets/a/b", b"secret");
        assert_eq!(sealer.open(b"/registry/secrets/a/c", &sealed), Err(SealError::Damaged));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(sealer.open(b"/registry/secrets/a/b", &changed), Err(SealError::Damaged));
        assert!(matches!(
            self::sealer().open(b"/registry/secrets/a/b", &sealed),
            Err(SealError::UnknownKey(_))
        ));
        assert_eq!(sealer.open(b"x", b"{\"kind\":\"Secret\"}"), Err(SealError::NotSealed));
    }

    #[test]
    fn a_value_sealed_with_a_former_key_is_stale() {
        let entry = |id: &str, fill: u8| serde_json::json!({"id": id, "secret": STANDARD.encode([fill; 32])});
        let file = |keys: &[serde_json::Value]| serde_json::json!({ "keys": keys }).to_string();
        let old = Sealer::parse(file(&[entry("one", 1)]).as_bytes()).unwrap();
        let new = Sealer::parse(file(&[entry("two", 2), entry("one", 1)]).as_bytes()).unwrap();
        assert!(new.open(b"p", &old.seal(b"p", b"x")).unwrap().stale);
        assert!(!new.open(b"p", &new.seal(b"p", b"x")).unwrap().stale);
    }

    #[test]
    fn a_new_key_seals_and_the_former_still_opens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("encryption.json");
        assert!(Sealer::rotate(&path).is_err());
        let sealed = Sealer::open_or_create(&path).unwrap().seal(b"a", b"secret");
        let id = Sealer::rotate(&path).unwrap();
        let sealer = Sealer::open_or_create(&path).unwrap();
        assert_eq!(sealer.keys.len(), 2);
        assert!(sealer.open(b"a", &sealed).unwrap().stale);
        let again = sealer.seal(b"a", b"secret");
        assert!(again.windows(id.len()).any(|part| part == id.as_bytes()));
        assert!(!sealer.open(b"a", &again).unwrap().stale);
    }

    #[test]
    fn damaged_key_files_are_refused() {
        for content in [
            "",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"id":"a","secret":"AAAA"}]}"#,
            r#"{"keys":[{"id":"a:b","secret":"AAAA"}]}"#,
            r#"{"keys":[{"id":"a","secret":"%"}]}"#,
        ] {
            assert!(Sealer::parse(content.as_bytes()).is_err(), "{content}");
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_again(place in ".{0,20}", plain in proptest::collection::vec(any::<u8>(), 0..300)) {
            let sealer = sealer();
            let sealed = sealer.seal(place.as_bytes(), &plain);
            prop_assert_eq!(sealer.open(place.as_bytes(), &sealed).unwrap().plain, plain);
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let sealer = sealer();
            prop_assert!(sealer.open(b"p", &bytes).is_err());
            let mut prefixed = PREFIX.to_vec();
            prefixed.extend_from_slice(sealer.keys[0].0.as_bytes());
            prefixed.push(b':');
            prefixed.extend_from_slice(&bytes);
            prop_assert!(sealer.open(b"p", &prefixed).is_err());
        }
    }
}
