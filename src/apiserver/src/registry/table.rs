//! The table of kinds: what is served now. It is replaced as a whole when a row comes or goes.

use std::{collections::HashMap, sync::Arc};

use crate::Resource;

/// Group, version and plural name.
type Key = (Arc<str>, Arc<str>, Arc<str>);

/// All rows.
#[derive(Clone, Default)]
pub struct Table {
    rows: Vec<Arc<Resource>>,
    by_key: HashMap<Key, usize>,
}

impl Table {
    /// From rows in the order of discovery. A later row replaces an earlier one of the same name.
    pub fn new(rows: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let mut table = Self::default();
        for row in rows {
            let next = table.rows.len();
            match *table.by_key.entry(key(&row)).or_insert(next) {
                at if at == next => table.rows.push(row),
                at => table.rows[at] = row,
            }
        }
        table
    }

    /// The row of a path.
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        let at = self.by_key.get(&(group.into(), version.into(), plural.into()))?;
        Some(&self.rows[*at])
    }

    /// The version of a resource that is stored, or else the first that is served.
    pub fn stored(&self, group: &str, plural: &str) -> Option<&Arc<Resource>> {
        let mut versions = self
            .rows
            .iter()
            .filter(|row| &*row.group == group && &*row.plural == plural);
        let first = versions.clone().next();
        versions.find(|row| row.storage).or(first)
    }

    /// The row of a kind.
    pub fn of_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<Resource>> {
        self.rows
            .iter()
            .find(|row| (&*row.group, &*row.version, &*row.kind) == (group, version, kind))
    }

    /// All versions of what is stored at a prefix.
    pub fn versions<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Resource>> {
        self.rows.iter().filter(move |row| &*row.prefix == prefix)
    }

    /// All rows, in the order of discovery.
    pub fn rows(&self) -> &[Arc<Resource>] {
        &self.rows
    }
}

fn key(row: &Resource) -> Key {
    (row.group.clone(), row.version.clone(), row.plural.clone())
}
