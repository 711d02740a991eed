//! An image of one static busybox: a shell, an HTTP server and client, and all else demos and tests need.

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use super::{Archive, Entry, Error, host_architecture};

/// The image `name` made of the static busybox at `program` (Debian: package `busybox-static`): the program as
/// `/bin/busybox`, a link for each of its applets, users, a `/tmp` for all and an empty `/www`.
pub fn busybox(name: &str, program: &Path) -> Result<Archive, Error> {
    let failed = |doing, source| Error::Program {
        doing,
        program: program.display().to_string(),
        source,
    };
    let bytes = fs::read(program).map_err(|source| failed("reading", source))?;
    let applets = applets(program).map_err(|source| failed("asking for the applets of", source))?;

    let mut files = vec![
        Entry::file("bin/busybox", 0o755, bytes),
        Entry::file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        Entry::file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n"),
        Entry::directory("root", 0o700),
        Entry::directory("tmp", 0o1777),
        Entry::directory("www", 0o755),
    ];
    files.extend(
        applets
            .iter()
            .map(|applet| Entry::symlink(format!("bin/{applet}"), "busybox")),
    );
    Ok(Archive {
        name: name.into(),
        architecture: host_architecture().into(),
        cmd: vec!["/bin/sh".into()],
        env: vec!["PATH=/bin".into()],
        working_dir: "/".into(),
        files,
        ..Archive::default()
    })
}

fn applets(program: &Path) -> io::Result<Vec<String>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "only the program itself knows what it was built with"
    )]
    let output = Command::new(program).arg("--list").output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("`--list` ended with {}", output.status)));
    }
    let list = String::from_utf8(output.stdout).map_err(io::Error::other)?;
    Ok(list
        .lines()
        .filter(|&applet| applet != "busybox")
        .map(str::to_owned)
        .collect())
}
