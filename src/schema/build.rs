//! Gathers what types and fields are for, out of the sources of the `k8s-openapi` crate, which the program is built with
//! anyway: it holds every type's JSON schema as a literal.
//!
//! Building that crate a second time with the schemas in it, to ask it, would take longer than all of ours.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The API level whose types are described.
const LEVEL: &str = "v1_36";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/facts");
    println!("cargo::rerun-if-changed=../../Cargo.lock");

    let mut files = Vec::new();
    rust_files(&crate_root()?.join("src").join(LEVEL), &mut files)?;
    files.sort();
    let mut text = String::new();
    for file in files {
        describe(&fs::read_to_string(&file)?, &mut text).map_err(|error| format!("{}: {error}", file.display()))?;
    }

    let mut digest = Fnv::default();
    digest.add(text.as_bytes());
    for facts in ["types.txt", "resources.txt", "upstream.txt"] {
        digest.add(&fs::read(Path::new("src/facts").join(facts))?);
    }
    println!("cargo::rustc-env=BOSUN_OPENAPI_DIGEST={:016x}", digest.0);
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("descriptions.txt"), text)?;
    Ok(())
}

/// Where the sources of `k8s-openapi` are.
fn crate_root() -> Result<PathBuf, Box<dyn Error>> {
    #[expect(clippy::disallowed_methods, reason = "only cargo knows where it put the sources")]
    let mut cargo = Command::new(env::var_os("CARGO").ok_or("cargo sets CARGO")?);
    cargo.args(["metadata", "--format-version=1", "--offline", "--locked"]);
    let output = cargo.output()?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists packages")?;
    let manifest = packages
        .iter()
        .find(|package| package["name"] == "k8s-openapi")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("k8s-openapi is among the dependencies")?;
    Ok(Path::new(manifest)
        .parent()
        .ok_or("a manifest has a folder")?
        .to_owned())
}

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Adds the descriptions in one source file: the schema's own stands at its first level, fields' names at the third,
/// their descriptions on the line below or, beside a reference, in a call.
fn describe(source: &str, text: &mut String) -> Result<(), Box<dyn Error>> {
    const TYPE: usize = 12;
    const FIELD: usize = 16;
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("fn schema_name()") {
            continue;
        }
        let Some(name) = lines.next().and_then(literal) else {
            continue;
        };
        let name = name?;
        let mut own = "\"\"".to_owned();
        let mut fields: Vec<(String, String)> = Vec::new();
        let mut field = None;
        for line in lines.by_ref() {
            let indent = line.len() - line.trim_start().len();
            let line = line.trim_start();
            if indent == 0 && line == "}" {
                break;
            }
            if indent == FIELD && line.starts_with('"') {
                field = Some(literal(line).ok_or("a field's name")??);
            } else if let Some(rest) = line.strip_prefix("\"description\":") {
                let description = serde_json::to_string(&literal(rest).ok_or("a description")??)?;
                if indent == TYPE {
                    own = description;
                } else if let Some(field) = field.take().filter(|_| indent == FIELD + 4) {
                    fields.push((field, description));
                }
            } else if let Some((_, rest)) = line.split_once(".insert(\"description\".into(), ")
                && let Some(field) = field.take()
            {
                fields.push((field, serde_json::to_string(&literal(rest).ok_or("a description")??)?));
            }
        }
        writeln!(text, "{name}\t{own}")?;
        for (field, description) in fields {
            writeln!(text, "\t{field}\t{description}")?;
        }
    }
    Ok(())
}

/// The first string literal in a line of Rust.
fn literal(line: &str) -> Option<Result<String, Box<dyn Error>>> {
    let start = line.find('"')? + 1;
    let mut text = String::new();
    let mut letters = line[start..].chars();
    loop {
        let letter = match letters.next()? {
            '"' => return Some(Ok(text)),
            '\\' => match letters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '0' => '\0',
                escaped @ ('"' | '\'' | '\\') => escaped,
                'u' => {
                    let code: String = letters.by_ref().skip(1).take_while(|letter| *letter != '}').collect();
                    match u32::from_str_radix(&code, 16).ok().and_then(char::from_u32) {
                        Some(letter) => letter,
                        None => return Some(Err(format!("no character \\u{{{code}}}").into())),
                    }
                }
                other => return Some(Err(format!("unknown escape \\{other}").into())),
            },
            letter => letter,
        };
        text.push(letter);
    }
}

/// FNV-1a of 64 bits.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
