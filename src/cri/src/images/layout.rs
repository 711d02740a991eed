//! What an image archive contains: an OCI layout or the output of `docker save`, as an uncompressed tar.
//!
//! Reads the archive's directory and its small documents, checks them, and says which blobs to store in which order
//! and under which names. Layers stay where they are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::name;

/// An index, manifest or configuration beyond this is no such thing.
const MAX_DOCUMENT: u64 = 8 << 20;

/// How deep indexes may nest.
const MAX_DEPTH: usize = 4;

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// Why an archive can't be imported.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutError {
    #[error("can't read the archive: {0}")]
    Io(io::Error),
    #[error("the archive is compressed ({0}): decompress it first")]
    Compressed(&'static str),
    #[error("neither an OCI layout (index.json) nor the output of docker save (manifest.json)")]
    Unknown,
    #[error("{path} in the archive: {reason}")]
    Document { path: String, reason: String },
    #[error("the archive lacks {0}")]
    Missing(String),
    #[error("no image in the archive has a name: set the annotation io.containerd.image.name in index.json")]
    Nameless,
}

impl From<io::Error> for LayoutError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What to store.
#[derive(Debug)]
pub(super) struct Layout {
    /// Children before those who refer to them.
    pub(super) blobs: Vec<Blob>,
    pub(super) images: Vec<NamedImage>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) source: Source,
    /// containerd's garbage collector follows these to the blobs this one refers to.
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// In the archive file, from here on.
    Archive { offset: u64 },
    /// Not in the archive: made from what is.
    Bytes(Vec<u8>),
}

#[derive(Debug)]
pub(super) struct NamedImage {
    pub(super) name: String,
    pub(super) target: Descriptor,
    /// Digests of the configurations it may be known by, one for each platform.
    pub(super) configs: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    annotations: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// One image in `docker save`'s manifest.json.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// `sha256:` and the hash in hexadecimal.
pub(super) fn hex_digest(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads the archive at `path`. Blocks.
pub(super) fn read(path: &Path) -> Result<Layout, LayoutError> {
    let mut archive = Archive::open(path)?;
    let mut layout = Builder {
        archive: &mut archive,
        blobs: Vec::new(),
        stored: BTreeSet::new(),
        images: Vec::new(),
    };
    if layout.archive.find("index.json").is_some() {
        layout.oci()?;
    } else if layout.archive.find("manifest.json").is_some() {
        layout.saved()?;
    } else {
        return Err(LayoutError::Unknown);
    }
    if layout.images.is_empty() {
        return Err(LayoutError::Nameless);
    }
    Ok(Layout {
        blobs: layout.blobs,
        images: layout.images,
    })
}

/// The directory of a tar file.
struct Archive {
    file: File,
    entries: HashMap<PathBuf, Entry>,
}

#[derive(Clone)]
enum Entry {
    File { offset: u64, size: u64 },
    Link(PathBuf),
}

impl Archive {
    fn open(path: &Path) -> Result<Self, LayoutError> {
        let mut file = File::open(path)?;
        let mut magic = [0; 4];
        if file.read(&mut magic)? >= 2 {
            match magic {
                [0x1f, 0x8b, ..] => return Err(LayoutError::Compressed("gzip")),
                [0x28, 0xb5, 0x2f, 0xfd] => return Err(LayoutError::Compressed("zstd")),
                [0xfd, b'7', b'z', b'X'] => return Err(LayoutError::Compressed("xz")),
                _ => {}
            }
        }
        file.seek(SeekFrom::Start(0))?;
        let mut entries = HashMap::new();
        let mut tar = tar::Archive::new(&file);
        for entry in tar.entries_with_seek()? {
            let entry = entry?;
            let path = clean(&entry.path()?);
            let kind = entry.header().entry_type();
            let link = || io::Result::Ok(entry.link_name()?.map(std::borrow::Cow::into_owned).unwrap_or_default());
            let found = if kind.is_file() {
                Entry::File {
                    offset: entry.raw_file_position(),
                    size: entry.size(),
                }
            } else if kind.is_symlink() {
                Entry::Link(clean(&path.parent().unwrap_or(Path::new("")).join(link()?)))
            } else if kind.is_hard_link() {
                Entry::Link(clean(&link()?))
            } else {
                continue;
            };
            entries.insert(path, found);
        }
        Ok(Self { file, entries })
    }

    /// Place and size of a file, links followed.
    fn find(&self, path: impl AsRef<Path>) -> Option<(u64, u64)> {
        let mut entry = self.entries.get(&clean(path.as_ref()))?;
        for _ in 0..8 {
            match entry {
                Entry::File { offset, size } => return Some((*offset, *size)),
                Entry::Link(to) => entry = self.entries.get(to)?,
            }
        }
        None
    }

    fn require(&self, path: &str) -> Result<(u64, u64), LayoutError> {
        self.find(path).ok_or_else(|| LayoutError::Missing(path.to_owned()))
    }

    fn bytes(&mut self, path: &str) -> Result<Vec<u8>, LayoutError> {
        let (offset, size) = self.require(path)?;
        if size > MAX_DOCUMENT {
            return Err(LayoutError::Document {
                path: path.to_owned(),
                reason: format!("{size} bytes are too many"),
            });
        }
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; size as usize];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn hash(&mut self, offset: u64, size: u64) -> io::Result<String> {
        self.file.seek(SeekFrom::Start(offset))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        let mut left = size;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file.read_exact(&mut buffer[..want])?;
            hash.update(&buffer[..want]);
            left -= want as u64;
        }
        Ok(hex_digest(&hash.finalize()))
    }
}

/// A path within the archive without `.`, `..` and a leading `/`.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => cleaned.push(part),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

fn parse<'a, T: Deserialize<'a>>(path: &str, bytes: &'a [u8]) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes).map_err(|e| LayoutError::Document {
        path: path.to_owned(),
        reason: format!("not as expected: {e}"),
    })
}

struct Builder<'a> {
    archive: &'a mut Archive,
    blobs: Vec<Blob>,
    stored: BTreeSet<String>,
    images: Vec<NamedImage>,
}

impl Builder<'_> {
    fn oci(&mut self) -> Result<(), LayoutError> {
        let bytes = self.archive.bytes("index.json")?;
        let index: Index = parse("index.json", &bytes)?;
        for target in index.manifests {
            let named = target
                .annotations
                .get("io.containerd.image.name")
                .and_then(|n| name::normalise(n));
            let reference = || target.annotations.get("org.opencontainers.image.ref.name");
            let Some(name) = named.or_else(|| reference().and_then(|r| name::from_ref(r))) else {
                continue;
            };
            let mut configs = BTreeSet::new();
            self.tree(&target, &mut configs, 0)?;
            self.images.push(NamedImage { name, target, configs });
        }
        Ok(())
    }

    /// Adds what `target` refers to and then itself.
    fn tree(&mut self, target: &Descriptor, configs: &mut BTreeSet<String>, depth: usize) -> Result<(), LayoutError> {
        let path = blob_path(&target.digest)?;
        let bytes = self.archive.bytes(&path)?;
        let found = hex_digest(&Sha256::digest(&bytes));
        if found != target.digest {
            return Err(LayoutError::Document {
                path,
                reason: format!("its content is {found}: the archive is damaged"),
            });
        }
        let mut labels = BTreeMap::new();
        match target.media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => {
                let manifest: Manifest = parse(&path, &bytes)?;
                for child in manifest.layers.iter().chain([&manifest.config]) {
                    self.leaf(child)?;
                }
                configs.insert(manifest.config.digest.clone());
                labels = references(&manifest);
            }
            OCI_INDEX | DOCKER_INDEX if depth < MAX_DEPTH => {
                let index: Index = parse(&path, &bytes)?;
                let mut present = 0;
                for (n, child) in index.manifests.iter().enumerate() {
                    // Of an image for many platforms, an archive may carry one.
                    if self.archive.find(blob_path(&child.digest)?).is_some() {
                        self.tree(child, configs, depth + 1)?;
                        labels.insert(format!("containerd.io/gc.ref.content.m.{n}"), child.digest.clone());
                        present += 1;
                    }
                }
                if present == 0 {
                    return Err(LayoutError::Missing(format!(
                        "every manifest that {} lists",
                        target.digest
                    )));
                }
            }
            other => {
                let reason = format!("{other:?} is neither a manifest nor an index");
                return Err(LayoutError::Document { path, reason });
            }
        }
        let (offset, size) = self.archive.require(&path)?;
        self.add(Blob {
            digest: target.digest.clone(),
            size,
            source: Source::Archive { offset },
            labels,
        });
        Ok(())
    }

    /// A layer or a configuration; its content is checked when it is read for the upload.
    fn leaf(&mut self, descriptor: &Descriptor) -> Result<(), LayoutError> {
        let path = blob_path(&descriptor.digest)?;
        let (offset, size) = self.archive.require(&path)?;
        if size != descriptor.size {
            let reason = format!("{size} bytes instead of {}: the archive is damaged", descriptor.size);
            return Err(LayoutError::Document { path, reason });
        }
        let source = Source::Archive { offset };
        self.add(Blob {
            digest: descriptor.digest.clone(),
            size,
            source,
            labels: BTreeMap::new(),
        });
        Ok(())
    }

    fn saved(&mut self) -> Result<(), LayoutError> {
        let bytes = self.archive.bytes("manifest.json")?;
        let images: Vec<Saved> = parse("manifest.json", &bytes)?;
        for saved in images {
            let config = self.file(&saved.config, DOCKER_CONFIG)?;
            let mut layers = Vec::new();
            for layer in &saved.layers {
                layers.push(self.layer(layer)?);
            }
            let media_type = DOCKER_MANIFEST.to_owned();
            let manifest = Manifest {
                schema_version: 2,
                media_type: media_type.clone(),
                config,
                layers,
            };
            let bytes = serde_json::to_vec(&manifest).map_err(io::Error::from)?;
            let digest = hex_digest(&Sha256::digest(&bytes));
            let size = bytes.len() as u64;
            let target = Descriptor {
                media_type,
                digest: digest.clone(),
                size,
                annotations: HashMap::new(),
            };
            self.add(Blob {
                digest,
                size,
                source: Source::Bytes(bytes),
                labels: references(&manifest),
            });
            for name in saved.repo_tags.iter().flatten().filter_map(|tag| name::normalise(tag)) {
                let configs = BTreeSet::from([manifest.config.digest.clone()]);
                self.images.push(NamedImage {
                    name,
                    target: target.clone(),
                    configs,
                });
            }
        }
        Ok(())
    }

    /// A file whose digest nobody wrote down.
    fn file(&mut self, path: &str, media_type: &str) -> Result<Descriptor, LayoutError> {
        let (offset, size) = self.archive.require(path)?;
        let digest = self.archive.hash(offset, size)?;
        let source = Source::Archive { offset };
        self.add(Blob {
            digest: digest.clone(),
            size,
            source,
            labels: BTreeMap::new(),
        });
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            annotations: HashMap::new(),
        })
    }

    fn layer(&mut self, path: &str) -> Result<Descriptor, LayoutError> {
        let (offset, size) = self.archive.require(path)?;
        let mut magic = [0; 2];
        if size >= 2 {
            self.archive.file.seek(SeekFrom::Start(offset))?;
            self.archive.file.read_exact(&mut magic)?;
        }
        self.file(
            path,
            if magic == [0x1f, 0x8b] {
                DOCKER_LAYER_GZIP
            } else {
                DOCKER_LAYER
            },
        )
    }

    fn add(&mut self, blob: Blob) {
        if self.stored.insert(blob.digest.clone()) {
            self.blobs.push(blob);
        }
    }
}

/// The garbage collector's references of a manifest.
fn references(manifest: &Manifest) -> BTreeMap<String, String> {
    let config = (
        "containerd.io/gc.ref.content.config".to_owned(),
        manifest.config.digest.clone(),
    );
    let layers = manifest.layers.iter().enumerate();
    let layers = layers.map(|(n, layer)| (format!("containerd.io/gc.ref.content.l.{n}"), layer.digest.clone()));
    layers.chain([config]).collect()
}

/// Where an OCI layout keeps a blob.
fn blob_path(digest: &str) -> Result<String, LayoutError> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if name::is_digest(digest) => Ok(format!("blobs/sha256/{hex}")),
        _ => Err(LayoutError::Document {
            path: "index.json".to_owned(),
            reason: format!("no digest: {digest:?}"),
        }),
    }
}

#[cfg(test)]
mod tests;
