//! A copy of the store as it is at one moment, in one file.

use std::path::Path;

use super::{failure::Context as _, files, reader};
use crate::{Error, Result, Revision, new_file::NewFile};

/// Copies the store at `from` to the new file `to`. Put it as `store.db` into a directory of its own to open it.
pub(super) fn write(from: &Path, to: &Path) -> Result<Revision> {
    let doing = format!("writing a snapshot to {}", to.display());
    let new = NewFile::create(to, &doing)?;
    let Some(name) = new.partial().to_str() else {
        return Err(Error::Refused(format!("{doing}: the name is not UTF-8")));
    };
    let source = files::reader(from)?;
    // It is about the source, and nothing else is written through it.
    source.pragma_update(None, "query_only", false).doing(&doing)?;
    source.execute("VACUUM INTO ?1", [name]).doing(&doing)?;
    let revision = reader::latest(&files::reader(new.partial())?)?;
    new.finish()?;
    Ok(revision)
}
