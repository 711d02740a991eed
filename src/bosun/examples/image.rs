//! Writes the image archives that need no registry; `hack/images` runs it.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use bosun_cri::archive::{self, Archive};
use bosun_cri::sandbox_image::sandbox_image;

const USAGE: &str = "usage: image pause FILE | image busybox NAME PROGRAM FILE";

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["pause", file] => write(&sandbox_image(), Path::new(file)),
        ["busybox", name, program, file] => write(&archive::busybox(name, Path::new(program))?, Path::new(file)),
        _ => anyhow::bail!(USAGE),
    }
}

/// Writes beside the place and moves into it: nobody ever reads half an archive.
fn write(image: &Archive, file: &Path) -> Result<()> {
    let unfinished = PathBuf::from(format!("{}.{}", file.display(), std::process::id()));
    let written = File::create(&unfinished)
        .with_context(|| format!("creating {}", unfinished.display()))
        .and_then(|out| Ok(image.write(BufWriter::new(out))?))
        .and_then(|digests| {
            std::fs::rename(&unfinished, file).with_context(|| format!("moving the archive to {}", file.display()))?;
            Ok(digests)
        });
    if written.is_err() {
        // The error that matters is the first one.
        let _ = std::fs::remove_file(&unfinished);
    }
    println!("{} {} {}", file.display(), image.name, written?.image_id);
    Ok(())
}
