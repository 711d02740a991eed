//! Fields that a configuration may not have because others own them.

use std::fmt::{self, Write as _};

use crate::{
    fieldset::Element,
    managed::{Entry, Operation},
};

/// One field, and who owns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Such as `.spec.replicas`; the field of a Status' cause.
    pub field: String,
    /// Such as `"kubectl" using apps/v1`.
    pub manager: String,
    path: Vec<Element>,
}

impl Conflict {
    pub(super) fn new(owner: &Entry, path: &[&Element]) -> Self {
        let mut manager = format!("{:?}", owner.manager);
        if !owner.subresource.is_empty() {
            let _ = write!(manager, " with subresource {:?}", owner.subresource);
        }
        if owner.operation == Operation::Update {
            manager.push_str(" using ");
            manager.push_str(&owner.api_version);
        }
        Self {
            field: path.iter().map(ToString::to_string).collect(),
            manager,
            path: path.iter().map(|element| (*element).clone()).collect(),
        }
    }

    pub(super) fn path(&self) -> &[Element] {
        &self.path
    }

    /// The message of a Status' cause, whose type is `FieldManagerConflict`.
    pub fn message(&self) -> String {
        format!("conflict with {}", self.manager)
    }
}

/// All fields that are in the way; displayed as the message of the Status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflicts(Vec<Conflict>);

impl Conflicts {
    pub(super) fn new(mut conflicts: Vec<Conflict>) -> Self {
        conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
        Self(conflicts)
    }

    /// Each of them, by manager.
    pub fn iter(&self) -> impl Iterator<Item = &Conflict> {
        self.0.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Conflict) -> bool) {
        self.0.retain(keep);
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [one] = &self.0[..] {
            return write!(f, "Apply failed with 1 conflict: {}: {}", one.message(), one.field);
        }
        write!(f, "Apply failed with {} conflicts:", self.0.len())?;
        for (at, group) in self.0.chunk_by(|a, b| a.manager == b.manager).enumerate() {
            let separator = if at == 0 { ' ' } else { '\n' };
            write!(f, "{separator}conflicts with {}:", group[0].manager)?;
            for conflict in group {
                write!(f, "\n- {}", conflict.field)?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Conflicts {}
