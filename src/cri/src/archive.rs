//! Image archives: an OCI image layout in one tar file, as `ctr images import` and CRI runtimes take it.
//!
//! [`Archive`] is a value; writing it is pure and deterministic: the same files give the same bytes, hence the same
//! digests, on every machine. So an image that is already there is recognised by its id alone.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

mod busybox;

pub use busybox::busybox;

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Mode of the directories that are only there because something is inside.
const PARENT_MODE: u32 = 0o755;

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name can't be the name of an image in a runtime.
    #[error("the image name {name:?} lacks {lacks}: a full name is registry/repository:tag")]
    Name {
        /// The name as given.
        name: String,
        /// What is not there.
        lacks: &'static str,
    },
    /// A path that would lead out of the image, or is not in its plain form.
    #[error("the path {path:?} in the image {image}: it must be relative, without empty, `.` or `..` parts")]
    Path {
        /// The image's name.
        image: String,
        /// The path as given.
        path: String,
    },
    /// Two entries have one path.
    #[error("the path {path:?} is twice in the image {image}")]
    Twice {
        /// The image's name.
        image: String,
        /// The path as given.
        path: String,
    },
    /// An entry lies below something that is not a directory.
    #[error("the path {path:?} in the image {image} is below a file or a link")]
    BelowFile {
        /// The image's name.
        image: String,
        /// The path as given.
        path: String,
    },
    /// The archive could not be written to where it should go.
    #[error("writing the archive of the image {image}")]
    Write {
        /// The image's name.
        image: String,
        /// What the writer said.
        source: io::Error,
    },
    /// The program that should become the image could not be read or run.
    #[error("{doing} {program}")]
    Program {
        /// What was being done to it.
        doing: &'static str,
        /// Its path.
        program: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What one path in an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    File(Cow<'static, [u8]>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A directory; one that only holds others need not be named.
    Directory,
}

/// One path in an image, owned by root, of the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the image's root, such as `bin/sh`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

impl Entry {
    /// A regular file.
    pub fn file(path: impl Into<String>, mode: u32, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        Self {
            path: path.into(),
            mode,
            content: Content::File(bytes.into()),
        }
    }

    /// A symbolic link at `path` to `target`.
    pub fn symlink(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            mode: 0o777,
            content: Content::Symlink(target.into()),
        }
    }

    /// A directory.
    pub fn directory(path: impl Into<String>, mode: u32) -> Self {
        Self {
            path: path.into(),
            mode,
            content: Content::Directory,
        }
    }
}

/// An image of one layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Archive {
    /// Full name, such as `bosun.dev/pause:0.1.0`.
    pub name: String,
    /// In the image specification's words, such as `amd64`; [`host_architecture`] for this machine's.
    pub architecture: String,
    /// What a container runs when nothing else is said.
    pub entrypoint: Vec<String>,
    /// Arguments of the entry point, or the command when there is none.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Directory the process starts in.
    pub working_dir: String,
    /// In any order.
    pub files: Vec<Entry>,
}

/// The ids by which a runtime knows what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Digest of the configuration: CRI's image id.
    pub image_id: String,
    /// Digest of the manifest: what follows the `@` of a reference.
    pub manifest: String,
}

/// The image specification's word for the machine this program was built for.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Archive {
    /// Writes the archive to `out`.
    pub fn write(&self, out: impl Write) -> Result<Digests, Error> {
        let tag = self.tag()?;
        let entries = self.entries()?;
        let written = |source| Error::Write {
            image: self.name.clone(),
            source,
        };

        let layer = Blob::new(LAYER_TYPE, layer(&entries).map_err(written)?);
        let config = Blob::new(CONFIG_TYPE, self.config(&layer).to_string().into());
        let manifest = Blob::new(MANIFEST_TYPE, manifest(&config, &layer).to_string().into());
        let index = index(&manifest, &self.name, tag).to_string();
        let digests = Digests {
            image_id: config.digest(),
            manifest: manifest.digest(),
        };

        let mut files = BTreeMap::from([
            ("blobs", None),
            ("blobs/sha256", None),
            ("index.json", Some(index.as_bytes())),
            ("oci-layout", Some(br#"{"imageLayoutVersion":"1.0.0"}"#.as_slice())),
        ]);
        for blob in [&layer, &config, &manifest] {
            files.insert(&blob.path, Some(&blob.bytes));
        }
        let mut tar = tar::Builder::new(out);
        for (path, bytes) in files {
            match bytes {
                Some(bytes) => append(&mut tar, path, 0o644, tar::EntryType::Regular, bytes),
                None => append(&mut tar, path, PARENT_MODE, tar::EntryType::Directory, &[]),
            }
            .map_err(written)?;
        }
        tar.into_inner().and_then(|mut out| out.flush()).map_err(written)?;
        Ok(digests)
    }

    /// The archive in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }

    /// The ids the image will have, without keeping the archive.
    pub fn digests(&self) -> Result<Digests, Error> {
        self.write(io::sink())
    }

    fn tag(&self) -> Result<&str, Error> {
        let lacks = |lacks| Error::Name {
            name: self.name.clone(),
            lacks,
        };
        let (registry, rest) = self.name.split_once('/').ok_or_else(|| lacks("a registry"))?;
        if !(registry.contains(['.', ':']) || registry == "localhost") {
            return Err(lacks("a registry"));
        }
        match rest.rsplit_once(':') {
            Some((repository, tag)) if !repository.is_empty() && !tag.is_empty() => Ok(tag),
            _ => Err(lacks("a tag")),
        }
    }

    /// The entries by path, parents included and before what is inside.
    fn entries(&self) -> Result<BTreeMap<&str, (u32, Cow<'_, Content>)>, Error> {
        let image = || self.name.clone();
        let mut entries = BTreeMap::new();
        for Entry { path, mode, content } in &self.files {
            if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
                return Err(Error::Path {
                    image: image(),
                    path: path.clone(),
                });
            }
            if entries.insert(path.as_str(), (*mode, Cow::Borrowed(content))).is_some() {
                return Err(Error::Twice {
                    image: image(),
                    path: path.clone(),
                });
            }
        }
        for Entry { path, .. } in &self.files {
            for (end, _) in path.match_indices('/') {
                let parent = entries
                    .entry(&path[..end])
                    .or_insert((PARENT_MODE, Cow::Owned(Content::Directory)));
                if *parent.1 != Content::Directory {
                    return Err(Error::BelowFile {
                        image: image(),
                        path: path.clone(),
                    });
                }
            }
        }
        Ok(entries)
    }

    fn config(&self, layer: &Blob) -> Value {
        let mut process = serde_json::Map::new();
        for (name, list) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd), ("Env", &self.env)] {
            if !list.is_empty() {
                process.insert(name.into(), json!(list));
            }
        }
        if !self.working_dir.is_empty() {
            process.insert("WorkingDir".into(), json!(self.working_dir));
        }
        json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": process,
            "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
        })
    }
}

/// Something named by its digest.
struct Blob {
    media_type: &'static str,
    path: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, bytes: Vec<u8>) -> Self {
        Self {
            media_type,
            path: format!("blobs/sha256/{}", sha256(&bytes)),
            bytes,
        }
    }

    fn digest(&self) -> String {
        self.path["blobs/".len()..].replacen('/', ":", 1)
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len() })
    }
}

/// The digest in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
    Sha256::digest(bytes).iter().flat_map(digits).collect()
}

fn manifest(config: &Blob, layer: &Blob) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    })
}

fn index(manifest: &Blob, name: &str, tag: &str) -> Value {
    let mut descriptor = manifest.descriptor();
    descriptor["annotations"] = json!({
        // The whole name for containerd, the tag alone for tools that follow the specification's letter.
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": tag,
    });
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [descriptor] })
}

fn layer(entries: &BTreeMap<&str, (u32, Cow<'_, Content>)>) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, (mode, content)) in entries {
        match content.as_ref() {
            Content::File(bytes) => append(&mut tar, path, *mode, tar::EntryType::Regular, bytes)?,
            Content::Directory => append(&mut tar, path, *mode, tar::EntryType::Directory, &[])?,
            Content::Symlink(target) => {
                let mut header = header(*mode, tar::EntryType::Symlink, 0);
                tar.append_link(&mut header, path, target)?;
            }
        }
    }
    tar.into_inner()
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    path: &str,
    mode: u32,
    kind: tar::EntryType,
    bytes: &[u8],
) -> io::Result<()> {
    tar.append_data(&mut header(mode, kind, bytes.len() as u64), path, bytes)
}

/// Owned by root, of the epoch: nothing of the machine or the moment it is written on.
fn header(mode: u32, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests;
