//! A copy of the store as it is at one moment, in one file.

use std::{fs, io::ErrorKind, path::Path};

use super::{
    failure::{Context as _, io},
    files::{self, private, sync_dir},
    reader,
};
use crate::{Error, Result, Revision};

/// Copies the store at `from` to the new file `to`, which is whole or not there. Put it as `store.db` into a directory of
/// its own to open it.
pub(super) fn write(from: &Path, to: &Path) -> Result<Revision> {
    let doing = format!("writing a snapshot to {}", to.display());
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::NotFound => Error::Refused(format!("{doing}: {error}")),
        _ => io(&doing, &error),
    };
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let Some(name) = partial.to_str() else {
        return Err(Error::Refused(format!("{doing}: the name is not UTF-8")));
    };
    drop(private(partial).map_err(failed)?);
    let write = || -> Result<Revision> {
        let source = files::reader(from)?;
        source.pragma_update(None, "query_only", false).doing(&doing)?;
        source.execute("VACUUM INTO ?1", [name]).doing(&doing)?;
        let revision = reader::latest(&files::reader(partial)?)?;
        fs::File::open(partial)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        // Unlike a rename this takes nothing else's place.
        fs::hard_link(partial, to).map_err(failed)?;
        Ok(revision)
    };
    let written = write();
    let removed = fs::remove_file(partial).map_err(failed);
    let revision = written?;
    removed?;
    to.parent().map_or(Ok(()), sync_dir).map_err(failed)?;
    Ok(revision)
}
