//! Custom resources: definitions (`apiextensions.k8s.io`) become rows of the table of kinds, and go from it again.
//!
//! One task, [`keeper`], follows the definitions: it accepts their names, adds and removes rows, and when a definition is
//! deleted has a task of its own for it, which removes the objects and then lets the definition go.
//!
//! Pure: [`rows`] (a definition as rows), [`names`] (which names are taken, what the status says), and [`strategy`] (what is
//! particular to definitions, and to objects of a defined kind).

mod keeper;
mod names;
mod rows;
mod strategy;

use std::sync::Arc;

use bosun_schema::custom::{CustomVersion, Definition};

pub use keeper::CustomResources;
pub(crate) use strategy::Definitions;

/// Where a custom row comes from.
#[derive(Clone, Debug)]
pub struct Custom {
    definition: Arc<Definition>,
    /// Its place among the versions.
    version: usize,
}

impl Custom {
    /// The version that the row is of.
    pub fn version(&self) -> &CustomVersion {
        &self.definition.versions[self.version]
    }
}

/// The group of definitions.
const GROUP: &str = "apiextensions.k8s.io";
/// Their name in paths.
const PLURAL: &str = "customresourcedefinitions";
/// Holds a definition that is being deleted while there are objects of it.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
