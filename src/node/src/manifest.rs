//! Pods from files.

use bosun_api::core::Pod;

/// What happened to a manifest.
#[derive(Clone, Debug)]
pub enum ManifestEvent {
    /// All manifests that were there at the start have been told.
    Synced,
    /// A manifest is there, new or changed.
    Valid {
        /// Its file.
        file: String,
        /// The pod it describes.
        pod: Box<Pod>,
    },
    /// A manifest can't be used; an earlier good version goes on.
    Invalid {
        /// Its file.
        file: String,
        /// What is wrong, with the field.
        error: String,
    },
    /// A manifest is gone.
    Removed {
        /// Its file.
        file: String,
    },
}
