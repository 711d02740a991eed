//! `bosun kubeconfig`: what another client needs to reach the server, with a certificate of its own.

use std::path::Path;

use anyhow::{Context, bail};
use bosun_pki::{Template, files, kubeconfig::Kubeconfig};
use jiff::Timestamp;

use crate::cli::KubeconfigArgs;

/// Issues a certificate and prints the file that holds it.
pub(crate) fn run(args: &KubeconfigArgs) -> anyhow::Result<()> {
    let dir = args.data_dir.join("server/pki");
    let authority = files::read_authority(&dir.join("ca.pem"))
        .with_context(|| readable(&dir))?
        .with_context(|| {
            format!(
                "there is no authority in {}: start 'bosun server' once, or name its --data-dir",
                dir.display()
            )
        })?;
    if args.user.starts_with("system:") && !args.allow_system_user {
        bail!(
            "{:?} is a name of the system's own components: if that is meant, add --allow-system-user",
            args.user
        );
    }
    let (certificate, key) = authority.issue(&Template::client(&args.user, &args.group), Timestamp::now());
    let config = Kubeconfig {
        cluster: "bosun",
        server: &args.server,
        authority: &authority.certificate,
        user: &args.user,
        certificate: &certificate,
        key: &key,
    };
    print!("{}", config.to_yaml());
    Ok(())
}

fn readable(dir: &Path) -> String {
    format!(
        "the authority's key in {} may be read by its owner only: run this as who runs the server",
        dir.display()
    )
}
