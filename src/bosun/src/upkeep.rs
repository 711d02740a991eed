//! `bosun salvage` and `bosun rotate-encryption-key`: what is done to a server's data while nobody uses it.

use anyhow::Context;
use bosun_pki::Sealer;
use bosun_store::Embedded;

use crate::{cli::DataDirArgs, logs, output::print_line};

/// Makes a whole store of a damaged one, and says what is lost.
pub(crate) fn salvage(args: &DataDirArgs) -> anyhow::Result<()> {
    logs::start();
    let dir = args.data_dir.join("server/store");
    let salvaged = Embedded::salvage(&dir).with_context(|| format!("salvaging the store in {}", dir.display()))?;
    let Some(salvaged) = salvaged else {
        return Ok(print_line("nothing is damaged, and nothing was changed")?);
    };
    for lost in &salvaged.lost {
        print_line(&format!("lost: {lost}"))?;
    }
    for aside in &salvaged.aside {
        print_line(&format!("the damaged file is kept as {}", aside.display()))?;
    }
    Ok(print_line(&format!(
        "{} objects are there as they were, {} are lost; the server can be started",
        salvaged.kept,
        salvaged.lost.len()
    ))?)
}

/// Makes a new key for what is encrypted at rest.
pub(crate) fn rotate_encryption_key(args: &DataDirArgs) -> anyhow::Result<()> {
    let path = args.data_dir.join("server/pki/encryption.json");
    let id = Sealer::rotate(&path)?;
    Ok(print_line(&format!(
        "key {id} encrypts from the server's next start on, and what is stored is then encrypted with it anew; once the \
         server's log says so, older keys may be taken out of {}. Servers that share a store need the same file before \
         any of them starts",
        path.display()
    ))?)
}
