//! Builds the pause program with the toolchain's own compiler, for the machine the product is built for.
//!
//! It can't be a binary target of this package: it is neither linked nor tested the way cargo does that (no standard
//! library, no C start files), and the `bosun` binary carries its bytes.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "program/pause.rs";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-changed=build.rs");

    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    if !["x86_64", "aarch64"].contains(&architecture.as_str()) || env::var("CARGO_CFG_TARGET_OS")? != "linux" {
        return Err(
            format!("the pause program is written for Linux on x86_64 and aarch64, not for {architecture}").into(),
        );
    }

    let program = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?).join("pause");
    #[expect(
        clippy::disallowed_methods,
        reason = "compiling the program is what this script is for"
    )]
    let mut rustc = Command::new(env::var_os("RUSTC").ok_or("cargo sets RUSTC")?);
    rustc
        .arg(SOURCE)
        .arg("-o")
        .arg(&program)
        .arg("--target")
        .arg(env::var("TARGET")?);
    rustc.args(["--edition=2024", "--crate-name=pause", "--crate-type=bin"]);
    // Static at fixed addresses: no interpreter, no relocations, nothing to set up before the first instruction.
    for option in [
        "panic=abort",
        "opt-level=z",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=+crt-static",
    ] {
        rustc.args(["-C", option]);
    }
    // No start files and no libraries, and as few pages as the format allows. No note naming the build either:
    // the same source gives the same bytes, and so the sandbox image the same digest.
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
    ] {
        rustc.args(["-C", &format!("link-arg={argument}")]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg({
            let mut option = std::ffi::OsString::from("linker=");
            option.push(linker);
            option
        });
    }
    let status = rustc.status()?;
    if !status.success() {
        return Err(format!("compiling {SOURCE} failed ({status}); the compiler's own words are above").into());
    }
    println!("cargo::rustc-env=BOSUN_PAUSE_PROGRAM={}", program.display());
    Ok(())
}
