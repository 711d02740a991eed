//! Who holds an address.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{names::Attachment, netns::Inode};

/// The holder of an address, as its record tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The attachment.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// Where its namespace was.
    pub netns: PathBuf,
    /// Which namespace that was.
    pub inode: Inode,
    /// `namespace/name` of the pod, where the runtime told it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// When the address was given out, in seconds since 1970.
    pub created: u64,
}

impl Record {
    /// Whether both are of one namespace.
    pub fn same_namespace(&self, other: &Self) -> bool {
        self.inode == other.inode && self.netns == other.netns
    }
}
